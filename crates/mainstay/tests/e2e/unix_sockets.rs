//! Unix sockets with real programs on both sides: nginx behind one, curl and a balancer in front of one, through kills, reloads and
//! an upgrade.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::program::{Program, haproxy, nginx, ran};
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::{free_address, process, run, until};

/// nginx that says who asked for what, by a Unix socket.
async fn nginx_at(home: &Home, path: &Path) -> Program {
    let address = free_address();
    let at = path.display();
    let server = format!(
        "server {{ listen {address}; listen unix:{at}; location / {{ return 200 \"$host from $http_x_forwarded_for\"; }} }}"
    );
    nginx(home, address, &server).await
}

#[test]
fn a_server_behind_a_unix_socket_is_served_from_noticed_when_it_dies_and_taken_back() {
    run(async {
        let home = Home::new();
        let path = home.path().join("app.sock");
        let spare = Scripted::start(|_| Reply::Answer(200, b"the spare".to_vec())).await;
        let mut server = nginx_at(&home, &path).await;
        let config = Config::new()
            .external("app-1", format!("unix:{}", path.display()))
            .external("spare", spare.address)
            .server_lines("role = \"backup\"");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.server_until("shop/app-1", "serves", |server| server["in_rotation"] == true).await;
        api.server_until("shop/spare", "is well", |server| server["health"] == "healthy").await;
        let asked = ["-s", "-H", "Host: shop.example.com", &format!("http://{}/", mainstay.front())]
            .map(String::from);
        assert_eq!(ran("curl", &asked).await.good(), "shop.example.com from 127.0.0.1");
        let named = format!("unix:{}", path.display());
        assert_eq!(api.server("shop/app-1").await["address"], named.as_str());

        server.kill();
        assert!(path.exists(), "as SIGKILL leaves it");
        assert_eq!(ran("curl", &asked).await.good(), "the spare");
        api.server_until("shop/app-1", "is down", |server| server["health"] == "unhealthy").await;
        std::fs::remove_file(&path).expect("nginx would not take it over");
        api.server_until("shop/app-1", "is missed", |server| {
            server["why"]["rule"]
                .as_str()
                .is_some_and(|rule| rule.contains("does not exist; start the server"))
        })
        .await;
        let admin = mainstay.admin.to_string();
        let why = once(&home, &["why", "shop/app-1", "--admin", &format!("http://{admin}")]).await;
        let why = String::from_utf8_lossy(&why.stdout).into_owned();
        assert!(why.contains(&named) && why.contains("does not exist"), "{why}");
        let checked = once(&home, &["check-config"]).await;
        let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(
            checked.contains("warning    shop/app-1: ") && checked.contains("does not exist"),
            "{checked}"
        );

        let _server = nginx_at(&home, &path).await;
        api.server_until("shop/app-1", "is back", |server| server["in_rotation"] == true).await;
        until("it is asked again", async || {
            (ran("curl", &asked).await.good() == "shop.example.com from 127.0.0.1").then_some(())
        })
        .await;
    });
}

/// Requests by a Unix socket, each by a connection of its own; none may fail.
struct Visitors {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Visitors {
    fn start(path: &Path) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let visitor = |_| {
            let (stop, served, path) = (stop.clone(), served.clone(), path.to_owned());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let mut stream = UnixStream::connect(&path).await.expect("it is listened at");
                    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                    stream.write_all(request).await.expect("it is taken");
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer).await.expect("it is answered");
                    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let tasks = (0..4).map(visitor).collect();
        Self { stop, served, tasks }
    }

    async fn more(&self) {
        let goal = self.served.load(Ordering::SeqCst) + 100;
        until("visitors are served", async || (self.served.load(Ordering::SeqCst) >= goal).then_some(()))
            .await;
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("every visitor was served");
        }
    }
}

fn front(home: &Home, config: &Config, path: &Path, listen: &str) -> String {
    let both = format!("http = [\"127.0.0.1:0\", \"unix:{}\"]\n{listen}", path.display());
    config.text(home).replace("http = \"127.0.0.1:0\"", &both)
}

#[test]
fn visitors_come_by_a_unix_socket_through_reloads_and_an_upgrade_and_its_file_goes_with_the_last() {
    run(async {
        let home = Home::new();
        let path = home.path().join("front.sock");
        let server = Scripted::start(|request| {
            let from = request.header("x-forwarded-for").unwrap_or_default().to_owned();
            Reply::Answer(200, from.into_bytes())
        })
        .await;
        let config = Config::new().external("app-1", server.address);
        // One that died without removing its file.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        home.write_config(&front(&home, &config, &path, ""));
        let mut mainstay = Mainstay::again(&home).await;
        mainstay.api().all_serve().await;
        assert!(mainstay.printed().contains(&format!("serving    unix:{}", path.display())));
        let socket = path.display().to_string();
        let curl = ["-s", "--unix-socket", &socket, "-H", "X-Forwarded-For: 203.0.113.9", "http://shop/"];
        assert_eq!(ran("curl", curl).await.good(), "203.0.113.9, unknown");

        let other = Home::new();
        other.write_config(&front(&other, &config, &path, ""));
        let refused = once(&other, &["run", "-c", other.config().to_str().expect("UTF-8")]).await;
        let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.contains("front.sock: another program listens there"), "{refused}");

        let visitors = Visitors::start(&path);
        visitors.more().await;
        let changed = "unix = { mode = \"600\" }\ntrusted-proxies = \"unix:\"";
        home.write_config(&front(&home, &config, &path, changed));
        mainstay.signal(libc::SIGHUP);
        until("the changed config is in force", async || {
            (ran("curl", curl).await.good() == "203.0.113.9").then_some(())
        })
        .await;
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        visitors.more().await;

        let output = once(&home, &["upgrade", "-c", home.config().to_str().expect("UTF-8")]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let new: u32 = said.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("process N serves");
        visitors.more().await;
        mainstay.ended().await;
        assert!(path.exists(), "the one that went has left the file to the other");
        visitors.more().await;
        visitors.finish().await;
        assert_eq!(ran("curl", curl).await.good(), "203.0.113.9");
        process::signal(new, libc::SIGTERM);
        until("the file is gone", async || (!path.exists()).then_some(())).await;
    });
}

#[test]
fn a_balancer_in_front_says_by_a_unix_socket_who_its_visitors_are() {
    run(async {
        let home = Home::new();
        let path = home.path().join("front.sock");
        let server = Scripted::start(|request| {
            let from = request.header("x-forwarded-for").unwrap_or_default().to_owned();
            Reply::Answer(200, from.into_bytes())
        })
        .await;
        let config = Config::new().external("app-1", server.address);
        home.write_config(&front(&home, &config, &path, "proxy-protocol = \"unix:\""));
        let mainstay = Mainstay::again(&home).await;
        mainstay.api().all_serve().await;
        let address = free_address();
        let sections = format!(
            "listen front\n  mode tcp\n  bind {address}\n  server mainstay unix@{} send-proxy-v2",
            path.display()
        );
        let _balancer = haproxy(&home, address, &sections).await;
        let source = std::net::Ipv4Addr::new(127, 0, 0, 77);
        let mut visitor = http::Connection::open_from(source, address).await.expect("it listens");
        let answer = visitor.send("GET", "/", &[], b"").await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "127.0.0.77"));
    });
}
