//! Servers that break: by signal, by command, by the network, and whole again after a while.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cases::own;
use super::process::{Running, signal};
use super::server::address_of;
use crate::run::answer;

/// How long a server is broken.
pub const BROKEN: Duration = Duration::from_secs(10);
/// How long it is up, and down, when it goes up and down.
const UP_OR_DOWN: Duration = Duration::from_secs(2);
/// How long each answer takes while nothing is wrong.
const USUAL_MS: u64 = 5;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Kill,
    Stop,
    Errors,
    Slow,
    Drop,
    Flap,
    AllDown,
}

impl Fault {
    pub const ALL: [Fault; 7] =
        [Fault::Kill, Fault::Stop, Fault::Errors, Fault::Slow, Fault::Drop, Fault::Flap, Fault::AllDown];

    /// For flags.
    pub fn key(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Stop => "stop",
            Fault::Errors => "errors",
            Fault::Slow => "slow",
            Fault::Drop => "drop",
            Fault::Flap => "flap",
            Fault::AllDown => "all-down",
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Fault::Kill => "SIGKILL",
            Fault::Stop => "SIGSTOP",
            Fault::Errors => "30 % of its answers are 500",
            Fault::Slow => "answers after 2 s",
            Fault::Drop => "packets to and from it are dropped",
            Fault::Flap => "up and down each 2 s",
            Fault::AllDown => "all three down, then back",
        }
    }

    /// Breaks the first of the servers for [`BROKEN`], or all of them. Returns when it was whole again.
    ///
    /// # Errors
    /// When a server does not do as it is told.
    pub fn happen(self, servers: &mut [Server]) -> Result<Instant> {
        let one = servers.first_mut().context("there is no server to break")?;
        match self {
            Fault::Kill => {
                one.process.kill();
                sleep(BROKEN);
                one.start_again()?;
            }
            Fault::Stop => {
                signal(one.process.pid(), "STOP");
                sleep(BROKEN);
                signal(one.process.pid(), "CONT");
            }
            Fault::Errors => {
                one.command("errors 30")?;
                sleep(BROKEN);
                one.command("errors 0")?;
            }
            Fault::Slow => {
                one.command("delay 2000")?;
                sleep(BROKEN);
                one.command(&format!("delay {USUAL_MS}"))?;
            }
            Fault::Drop => {
                one.iptables("-A")?;
                sleep(BROKEN);
                one.iptables("-D")?;
            }
            Fault::Flap => {
                for _ in 0..(BROKEN.as_secs() / UP_OR_DOWN.as_secs()).div_ceil(2) {
                    one.process.kill();
                    sleep(UP_OR_DOWN);
                    one.start_again()?;
                    sleep(UP_OR_DOWN);
                }
            }
            Fault::AllDown => {
                servers.iter_mut().for_each(|server| server.process.kill());
                sleep(BROKEN);
                servers.iter_mut().try_for_each(Server::start_again)?;
            }
        }
        Ok(Instant::now())
    }
}

/// One server, in a process of its own, perhaps in a network of its own.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    process: Running,
    commands: ChildStdin,
    network: Option<Network>,
    orders: Orders,
}

/// How often each order was carried out, whatever became of the server that did.
#[derive(Debug, Clone, Default)]
pub struct Orders(Arc<Mutex<BTreeMap<String, u32>>>);

impl Orders {
    fn done(&self, id: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default() += 1;
    }

    /// Orders that were carried out more than once.
    pub fn twice(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().filter(|times| **times > 1).count()
    }
}

impl Server {
    /// Starts a server that reports to `orders`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(network: Option<Network>, orders: &Orders) -> Result<Self> {
        let address = network.as_ref().map_or("127.0.0.1", |network| &network.address);
        let (process, commands, address) = spawn(&format!("{address}:0"), network.as_ref(), orders)?;
        Ok(Self { address, process, commands, network, orders: orders.clone() })
    }

    fn start_again(&mut self) -> Result<()> {
        (self.process, self.commands, self.address) =
            spawn(&self.address.to_string(), self.network.as_ref(), &self.orders)?;
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<()> {
        writeln!(self.commands, "{line}").context("a server takes no commands any more")
    }

    fn iptables(&self, what: &str) -> Result<()> {
        let network = self.network.as_ref().context("packets are dropped in a server's own network only")?;
        for chain in ["INPUT", "OUTPUT"] {
            let iptables = ["netns", "exec", &network.name, "iptables", what, chain, "-j", "DROP"];
            answer(Command::new("ip").args(iptables))?;
        }
        Ok(())
    }
}

fn spawn(
    address: &str,
    network: Option<&Network>,
    orders: &Orders,
) -> Result<(Running, ChildStdin, SocketAddr)> {
    let serve = own(&["serve", address])?;
    let mut command = match network {
        None => serve,
        Some(network) => {
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", &network.name]).arg(serve.get_program()).args(serve.get_args());
            inside
        }
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut commands = child.stdin.take().context("a server without input")?;
    let mut output = BufReader::new(child.stdout.take().context("a server without output")?);
    let process = Running::of("a server", child);
    let mut said = String::new();
    output.read_line(&mut said)?;
    let address = address_of(&said)?;
    writeln!(commands, "delay {USUAL_MS}")?;
    let orders = orders.clone();
    // It ends with the server, and has read all that the server said by then.
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if let Some(id) = line.strip_prefix("did ") {
                orders.done(id);
            }
        }
    });
    Ok((process, commands, address))
}

/// A network namespace with one address that this machine reaches, removed when this is dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    /// The address inside, of the block for benchmarks (RFC 2544).
    address: String,
}

impl Network {
    /// Makes one. `number` tells it from the others of this process.
    ///
    /// # Errors
    /// When this is not run as root.
    pub fn new(number: u8) -> Result<Self> {
        let name = format!("msb{}x{number}", std::process::id());
        let network = Self { name, address: format!("198.18.{number}.2") };
        let name = &network.name;
        let script = format!(
            "ip netns add {name}
             ip link add {name} type veth peer name eth0 netns {name}
             ip addr add 198.18.{number}.1/30 dev {name}
             ip link set {name} up
             ip -n {name} addr add {}/30 dev eth0
             ip -n {name} link set eth0 up
             ip -n {name} link set lo up",
            network.address
        );
        answer(Command::new("sh").args(["-ec", &script]))
            .context("dropping packets needs a network namespace, and that needs root")?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The pair of interfaces goes with it.
        let _ = answer(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_two_servers_carried_out_is_counted_once_as_run_twice() {
        let orders = Orders::default();
        ["1", "2", "1", "3", "1"].iter().for_each(|id| orders.done(id));
        assert_eq!(orders.twice(), 1);
    }
}
