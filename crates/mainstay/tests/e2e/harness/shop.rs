//! Sample shops that the test runs itself, so that it can kill, freeze and restart them behind Mainstay's back.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use super::home::Home;
use super::mainstay::command;
use super::{free_address, http, process, until};

/// One sample shop on a port that it keeps.
pub struct Shop<'a> {
    pub name: String,
    pub address: SocketAddr,
    home: &'a Home,
    child: Option<Child>,
}

impl<'a> Shop<'a> {
    /// Starts one and waits until it answers.
    pub async fn start(home: &'a Home, name: &str) -> Self {
        let mut shop = Self { name: name.to_owned(), address: free_address(), home, child: None };
        shop.up().await;
        shop
    }

    /// Starts three of them.
    pub async fn three(home: &'a Home) -> [Self; 3] {
        [Self::start(home, "app-1").await, Self::start(home, "app-2").await, Self::start(home, "app-3").await]
    }

    /// Starts it (again), without waiting.
    pub fn spawn(&mut self) {
        let port = self.address.port().to_string();
        let mut command = command(self.home, &["sample-shop", "--port", &port, "--name", &self.name]);
        let child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the sample shop starts");
        self.child = Some(child);
    }

    /// Starts it (again) and waits until it answers, and not another program on its port.
    pub async fn up(&mut self) {
        self.spawn();
        let pid = u64::from(self.pid());
        until("the sample shop answers", async || {
            let stats = http::get(self.address, "/stats").await.ok()?;
            (stats.status == 200 && stats.json()["pid"] == pid).then_some(())
        })
        .await;
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    pub fn signal(&self, signal: i32) {
        process::signal(self.pid(), signal);
    }

    /// Kills it, as the kernel does when memory is short.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Orders that it carried out, by its own count.
    pub async fn orders(&self) -> u64 {
        self.stat("orders").await
    }

    /// Requests that it answered, by its own count.
    pub async fn requests(&self) -> u64 {
        self.stat("requests").await
    }

    async fn stat(&self, name: &str) -> u64 {
        let stats = http::get(self.address, "/stats").await.expect("the sample shop answers").json();
        stats[name].as_u64().unwrap_or_else(|| panic!("no `{name}` in {stats}"))
    }
}

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}
