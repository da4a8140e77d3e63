//! DNS as it is used: Debian's Knot and BIND as the server of a zone, and dig and kdig to ask.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::home::Home;
use super::until;

/// A program that answers zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Knot,
    Bind,
}

/// The name of the key that both know.
pub const KEY: &str = "mainstay";
/// Its secret.
pub const SECRET: &str = "c2VjcmV0IG9mIDI0IGJ5dGVzIGxvbmch";

/// The server of `example.com`, which can go away and come back on its port with what it knows.
pub struct DnsServer {
    pub kind: Kind,
    pub address: SocketAddr,
    folder: std::path::PathBuf,
    mark: (&'static str, String),
    child: Option<Child>,
}

impl DnsServer {
    /// Starts one with these records beside SOA, NS and its own address, and waits until it answers.
    pub async fn start(home: &Home, kind: Kind, records: &str) -> Self {
        let folder = home.path().join(format!("{kind:?}").to_lowercase());
        // Knot does not make the folder of its journal.
        std::fs::create_dir_all(folder.join("db")).expect("a folder");
        let address = free_dns_address();
        let zone =
            format!("$TTL 300\n@ SOA ns1 host 1 3600 900 1209600 60\n@ NS ns1\nns1 A 127.0.0.1\n{records}\n");
        std::fs::write(folder.join("example.com.zone"), zone).expect("the zone can be written");
        let (dir, port) = (folder.display(), address.port());
        let config = match kind {
            Kind::Knot => format!(
                "server:\n    rundir: {dir}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n\
                 \x20   background-workers: 1\ndatabase:\n    storage: {dir}/db\nkey:\n  - id: {KEY}\n    \
                 algorithm: hmac-sha256\n    secret: {SECRET}\nacl:\n  - id: told\n    key: {KEY}\n    action: update\n\
                 zone:\n  - domain: example.com\n    storage: {dir}\n    file: example.com.zone\n    acl: told\n"
            ),
            Kind::Bind => format!(
                "key \"{KEY}\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
                 options {{ directory \"{dir}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
                 pid-file none; session-keyfile \"{dir}/session.key\"; recursion no; dnssec-validation no; }};\n\
                 controls {{ }};\n\
                 zone \"example.com\" {{ type primary; file \"example.com.zone\";\n\
                 update-policy {{ grant {KEY} zonesub A AAAA; }}; }};\n"
            ),
        };
        std::fs::write(folder.join("server.conf"), config).expect("the config can be written");
        let mut server = Self { kind, address, folder, mark: home.mark(), child: None };
        server.up().await;
        server
    }

    /// Starts it (again) and waits until it answers.
    pub async fn up(&mut self) {
        let config = self.folder.join("server.conf");
        let mut command = match self.kind {
            Kind::Knot => Command::new("/usr/sbin/knotd"),
            Kind::Bind => {
                let mut command = Command::new("/usr/sbin/named");
                command.args(["-g", "-n", "1"]);
                command
            }
        };
        let log = std::fs::File::create(self.folder.join("log")).expect("a log");
        command.arg("-c").arg(config).env(self.mark.0, &self.mark.1).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.child = Some(command.spawn().expect("Debian's knot and bind9 are installed"));
        until("the zone's server answers", async || {
            dig(self.address, &["example.com", "SOA", "+short"]).await.contains("host").then_some(())
        })
        .await;
    }

    /// Kills it.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Changes a name as somebody else would, with the key.
    pub async fn change(&self, lines: &str) {
        let input = format!("server 127.0.0.1 {}\nzone example.com\n{lines}\nsend\n", self.address.port());
        let folder = self.folder.clone();
        let run = move || {
            let path = folder.join("update");
            std::fs::write(&path, input).expect("a file");
            Command::new("nsupdate")
                .args(["-y", &format!("hmac-sha256:{KEY}:{SECRET}")])
                .arg(path)
                .output()
                .expect("nsupdate of Debian's bind9-dnsutils is installed")
        };
        let output = tokio::task::spawn_blocking(run).await.expect("no panic");
        assert!(output.status.success(), "nsupdate: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The addresses of `shop.example.com` with their TTL, in their order: `127.0.0.2 60`.
    pub async fn shop(&self) -> Vec<String> {
        addresses(self.address, "shop.example.com", "A").await
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.down();
    }
}

/// A port of loopback on which nobody listens, neither by TCP nor by UDP.
pub fn free_dns_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = tcp.local_addr().expect("an address");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// What `dig` prints.
pub async fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    ask("dig", server, arguments).await
}

/// What `kdig` prints.
pub async fn kdig(server: SocketAddr, arguments: &[&str]) -> String {
    ask("kdig", server, arguments).await
}

async fn ask(program: &'static str, server: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.arg(format!("@{}", server.ip())).args([
        "-p",
        &server.port().to_string(),
        "+timeout=2",
        "+retry=0",
    ]);
    command.args(arguments).stdin(Stdio::null());
    let run = move || command.output().expect("dig and kdig are installed");
    let output = tokio::task::spawn_blocking(run).await.expect("no panic");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The data of a name's records of one type with their TTL, in their order.
pub async fn addresses(server: SocketAddr, name: &str, kind: &str) -> Vec<String> {
    let answer = dig(server, &[name, kind, "+noall", "+answer"]).await;
    let mut found: Vec<String> = answer
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (ttl, data) = (words.nth(1)?, words.nth(2)?);
            Some(format!("{data} {ttl}"))
        })
        .collect();
    found.sort();
    found
}

/// Somebody at another site: accepts connections on an address of loopback until it is closed, and can be opened again.
pub struct Site {
    pub address: SocketAddr,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Site {
    /// Opens one at `127.0.0.N`.
    pub async fn open(n: u8) -> Self {
        let mut site = Self { address: ([127, 0, 0, n], 0).into(), task: None };
        site.up().await;
        site
    }

    /// Opens it (again), on the port that it has.
    pub async fn up(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.expect("the port is free");
        self.address = listener.local_addr().expect("an address");
        self.task = Some(tokio::spawn(async move {
            loop {
                drop(listener.accept().await);
            }
        }));
    }

    /// Closes it: connections are refused.
    pub async fn down(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
    }
}

#[test]
fn both_servers_take_a_change_that_is_signed() {
    super::run(async {
        for kind in [Kind::Knot, Kind::Bind] {
            let home = Home::new();
            let server = DnsServer::start(&home, kind, "shop 300 A 203.0.113.9").await;
            assert_eq!(server.shop().await, ["203.0.113.9 300"]);
            server.change("update add shop.example.com 60 A 203.0.113.10").await;
            assert_eq!(server.shop().await.len(), 2, "{kind:?}");
        }
    });
}
