//! Real programs that stand beside Mainstay in a test: servers behind it, balancers in front of it, clients. Each is ended by its
//! process id when the test is done with it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::home::Home;
use super::{free_address, process, until};

/// A program that runs until it is killed or the test is over.
pub struct Program {
    pub address: SocketAddr,
    child: Child,
}

impl Program {
    /// Starts it and waits until something listens at its address.
    pub async fn start(home: &Home, address: SocketAddr, mut command: Command) -> Self {
        let (name, value) = home.mark();
        command.env(name, value).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut program = Self { address, child };
        until(&format!("{:?} listens at {address}", command.get_program()), async || {
            if let Some(status) = program.child.try_wait().expect("it is our child") {
                panic!("{command:?} ended with {status}");
            }
            tokio::net::TcpStream::connect(address).await.ok().map(drop)
        })
        .await;
        program
    }

    pub fn signal(&self, signal: i32) {
        process::signal(self.child.id(), signal);
    }

    /// Kills it, as the kernel does when memory is short.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Debian's Redis, empty, with nothing written to disk.
pub async fn redis(home: &Home) -> Program {
    let address = free_address();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
    command.arg("--dir").arg(home.path());
    Program::start(home, address, command).await
}

/// Debian's nginx with these `server` blocks of `http`; `address` is one that they listen at.
pub async fn nginx(home: &Home, address: SocketAddr, servers: &str) -> Program {
    let folder = home.path().join(format!("nginx-{}", address.port()));
    std::fs::create_dir(&folder).expect("a folder");
    let at = folder.display();
    let file = folder.join("nginx.conf");
    // One process: a master's worker would outlive it by a moment.
    let text = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\nclient_body_temp_path {at}/body;\nproxy_temp_path {at}/proxy;\n\
         fastcgi_temp_path {at}/fastcgi;\nuwsgi_temp_path {at}/uwsgi;\nscgi_temp_path {at}/scgi;\n{servers}\n}}\n"
    );
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&file).arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log"));
    Program::start(home, address, command).await
}

/// Debian's HAProxy with these sections after `defaults`; `address` is one that they bind.
pub async fn haproxy(home: &Home, address: SocketAddr, sections: &str) -> Program {
    let file = home.path().join(format!("haproxy-{}.cfg", address.port()));
    let text = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         {sections}\n"
    );
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(&file);
    Program::start(home, address, command).await
}

/// What a program that ends by itself has printed, as its status, standard output and standard error.
pub async fn ran<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Ran {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(Duration::from_secs(60), run).await;
    let output =
        output.unwrap_or_else(|_| panic!("{program} does not end")).expect("the thread does not panic");
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    Ran {
        status: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What became of a program that has ended.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Its output; panics when it failed.
    pub fn good(&self) -> &str {
        assert_eq!(self.status, Some(0), "{self:?}");
        &self.out
    }
}

/// A script of Debian's Python with which a test talks line by line.
pub struct Script {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Script {
    /// Starts `tests/e2e/peers/NAME`.
    pub fn start(home: &Home, name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        let (mark, value) = home.mark();
        command.arg(peer(name)).args(arguments).env(mark, value).env("PYTHONUNBUFFERED", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Debian's python3 is installed");
        let (output, input) = (child.stdout.take().expect("it is piped"), child.stdin.take());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, input: input.expect("it is piped"), lines, said: Vec::new() }
    }

    /// Its next line, without waiting for another one.
    pub async fn line(&mut self) -> String {
        let name = format!("a line of the script after {:?}", self.said);
        let line = until(&name, async || match self.lines.try_recv() {
            Ok(line) => Some(line),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => panic!("the script ended after {:?}", self.said),
        })
        .await;
        self.said.push(line.clone());
        line
    }

    /// Its next line must be this.
    pub async fn says(&mut self, expected: &str) {
        assert_eq!(self.line().await, expected, "after {:?}", self.said);
    }

    /// Tells it to go on.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the script reads");
    }

    /// Waits until it has ended well.
    pub async fn ended(mut self) {
        let status = until("the script has ended", async || self.child.try_wait().expect("it is our child"));
        let status = status.await;
        let rest: Vec<String> = self.lines.try_iter().collect();
        assert!(status.success(), "{status} after {:?}, {rest:?}", self.said);
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A script that lies beside the tests.
pub fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/peers").join(name)
}
