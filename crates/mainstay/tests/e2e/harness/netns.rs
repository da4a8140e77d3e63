//! A small Internet of a test's own, made of network namespaces: a visitor, the router of its network, and the world behind it. Real
//! resolvers run in it, packets are really dropped, cables really pulled. Everything is removed with the value, also when the
//! test fails; what a killed run has left is removed by the next one.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::home::Home;
use super::{process, until};

/// Every namespace of these tests begins with it, then comes the id of the process that made it.
const MARK: &str = "mst";
/// Where `ip netns exec` takes a namespace's own /etc/resolv.conf and /etc/hosts from.
const SETTINGS: &str = "/etc/netns";

/// The address of the router in the visitor's network, where its resolver is.
pub const ROUTER: &str = "10.61.0.1";
/// Where sites are.
pub const SITE: &str = "198.51.100.10";
pub const SITE_V6: &str = "2001:db8:2::10";
/// More addresses of the world, on which nothing listens unless a test makes it.
pub const OTHER_SITE: &str = "198.51.100.11";
/// A resolver of the world.
pub const WORLD_RESOLVER: &str = "198.51.100.53";
/// An address of the world that answers and has no other use.
pub const REFERENCE: &str = "198.51.100.99:80";

/// One of the namespaces.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    Visitor,
    Router,
    World,
}

/// The three of them.
pub struct Net {
    mark: String,
    home: Home,
}

impl Net {
    /// Makes the namespaces, wires them, and gives each its addresses and routes.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_left_over();
        let mark = format!("{MARK}{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let net = Self { mark, home: Home::new() };
        let (visitor, router, world) =
            (net.name(Place::Visitor), net.name(Place::Router), net.name(Place::World));
        let script = format!(
            "ip netns add {visitor}; ip netns add {router}; ip netns add {world}
             ip link add eth0 netns {visitor} type veth peer name lan netns {router}
             ip link add wan netns {router} type veth peer name eth0 netns {world}
             ip -n {visitor} -b - <<END
addr add 10.61.0.2/24 dev eth0
addr add 2001:db8:1::2/64 dev eth0 nodad
link set lo up
link set eth0 up
route add default via {ROUTER}
route add default via 2001:db8:1::1
END
             ip -n {router} -b - <<END
addr add {ROUTER}/24 dev lan
addr add 2001:db8:1::1/64 dev lan nodad
addr add 198.51.100.1/24 dev wan
addr add 2001:db8:2::1/64 dev wan nodad
link set lo up
link set lan up
link set wan up
END
             ip -n {world} -b - <<END
addr add {SITE}/24 dev eth0
addr add {OTHER_SITE}/24 dev eth0
addr add {WORLD_RESOLVER}/24 dev eth0
addr add 198.51.100.99/24 dev eth0
addr add {SITE_V6}/64 dev eth0 nodad
link set lo up
link set eth0 up
route add default via 198.51.100.1
route add default via 2001:db8:2::1
END
             ip netns exec {router} sh -ec 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
             mkdir -p {SETTINGS}/{visitor}"
        );
        let output = Command::new("sh").args(["-ec", &script]).output().expect("sh");
        assert!(
            output.status.success(),
            "this test makes network namespaces with `ip netns` and veth pairs: it needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN, as in \
             `docker run --privileged`) and Debian's iproute2 and iptables. What was said: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        net.set("hosts", "127.0.0.1 localhost\n");
        net.set("resolv.conf", &format!("nameserver {ROUTER}\n"));
        net
    }

    fn name(&self, place: Place) -> String {
        let letter = match place {
            Place::Visitor => 'v',
            Place::Router => 'r',
            Place::World => 'w',
        };
        format!("{}{letter}", self.mark)
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The visitor's /etc/resolv.conf or /etc/hosts.
    pub fn set(&self, file: &str, text: &str) {
        let path = Path::new(SETTINGS).join(self.name(Place::Visitor)).join(file);
        std::fs::write(path, text).expect("the settings of a namespace can be written");
    }

    /// Runs a script of the shell in a namespace; it must succeed.
    pub fn sh(&self, place: Place, script: &str) {
        let output = self.command(place, "sh").args(["-ec", script]).output().expect("ip netns exec");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A program that is to run in a namespace, with the mark of the test's home.
    pub fn command(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new("ip");
        let (name, value) = self.home.mark();
        command.args(["netns", "exec", &self.name(place), program]).env(name, value);
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Runs `mainstay check` as the visitor, with the world's resolver and reference to compare with.
    pub async fn check(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(Place::Visitor, env!("CARGO_BIN_EXE_mainstay"));
        command.arg("check").args(arguments);
        if !arguments.contains(&"--resolver") {
            command.args(["--resolver", WORLD_RESOLVER]);
        }
        if !arguments.contains(&"--reference") {
            command.args(["--reference", REFERENCE]);
        }
        let run = tokio::task::spawn_blocking(move || command.output().expect("the program runs"));
        run.await.expect("the thread does not panic")
    }

    /// The same with `--json`, as what it ends with and what it prints.
    pub async fn report(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.check(&[arguments, &["--json"]].concat()).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out:?}; {err}"));
        (output.status.code().expect("it ends by itself"), report)
    }

    /// A listener in a namespace.
    pub async fn listen(&self, place: Place, address: &str) -> TcpListener {
        let socket = self.within(place, address, std::net::TcpListener::bind).await;
        socket.set_nonblocking(true).expect("a socket");
        TcpListener::from_std(socket).expect("a listener")
    }

    /// A socket for datagrams in a namespace.
    pub async fn datagrams(&self, place: Place, address: &str) -> UdpSocket {
        let socket = self.within(place, address, std::net::UdpSocket::bind).await;
        socket.set_nonblocking(true).expect("a socket");
        UdpSocket::from_std(socket).expect("a socket")
    }

    /// A connection made in a namespace.
    pub async fn connect(&self, place: Place, address: SocketAddr) -> TcpStream {
        let socket = self.within(place, &address.to_string(), std::net::TcpStream::connect).await;
        socket.set_nonblocking(true).expect("a socket");
        TcpStream::from_std(socket).expect("a connection")
    }

    /// Makes a socket in a namespace. It stays there, whoever uses it.
    async fn within<T: Send + 'static>(
        &self,
        place: Place,
        address: &str,
        make: impl Fn(SocketAddr) -> std::io::Result<T> + Send + 'static,
    ) -> T {
        let file =
            File::open(PathBuf::from("/run/netns").join(self.name(place))).expect("the namespace is there");
        let address: SocketAddr = address.parse().expect("an address and a port");
        // A thread of its own, which ends afterwards: a namespace is a thread's.
        let thread = std::thread::spawn(move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("a namespace can be entered");
            make(address)
        });
        thread.join().expect("the thread does not panic").unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Starts a real resolver (unbound) that knows these lines of `local-data` and nothing else, and waits until it answers.
    pub async fn resolver(&self, place: Place, address: &str, data: &[&str]) {
        let folder = self.home.path().join(format!("unbound-{address}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let lines: Vec<String> = data.iter().map(|line| format!("  local-data: \"{line}\"\n")).collect();
        let config = format!(
            "server:\n  interface: {address}\n  access-control: 0.0.0.0/0 allow\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  \
             directory: \"{0}\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"{0}/log\"\n  num-threads: 1\n  module-config: \"iterator\"\n  \
             local-zone: \"test.\" static\n  local-data: \"ready.test. TXT ready\"\n{1}remote-control:\n  control-enable: no\n",
            folder.display(),
            lines.concat()
        );
        let file = folder.join("unbound.conf");
        std::fs::write(&file, config).expect("a config");
        let mut command = self.command(place, "unbound");
        command.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("unbound (Debian's package unbound) is installed");
        until("the resolver answers", async || {
            if let Some(status) = child.try_wait().expect("it is our child") {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("unbound ended with {status}: {log}");
            }
            let mut dig = self.command(place, "dig");
            dig.args(["+time=1", "+tries=1", "+short", &format!("@{address}"), "ready.test", "TXT"]);
            let output = dig.output().expect("dig (Debian's package bind9-dnsutils) is installed");
            String::from_utf8_lossy(&output.stdout).contains("ready").then_some(())
        })
        .await;
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in [Place::Visitor, Place::Router, Place::World] {
            remove(&self.name(place));
        }
    }
}

fn remove(name: &str) {
    // What is not there any more needs no removing.
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
    let _ = std::fs::remove_dir_all(Path::new(SETTINGS).join(name));
}

/// Removes the namespaces of runs that were killed.
fn remove_left_over() {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    for name in names("/run/netns").into_iter().chain(names(SETTINGS)) {
        let pid = name.strip_prefix(MARK).and_then(|rest| rest.split('x').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !process::runs(pid)) {
            remove(&name);
        }
    }
}
