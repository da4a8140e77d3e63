//! `cargo xtask bench`: Mainstay beside others. `proxy` measures what a request costs, `failover` what visitors feel when a
//! server breaks, `probes` what it takes to look at ten thousand monitors, `history` how long a year of one of
//! them takes to be shown, `pings` whether ten thousand jobs that ping at once are all heard.

mod arithmetic;
mod cases;
mod failover;
mod faults;
mod history;
mod load;
mod machine;
mod pings;
mod probes;
mod process;
mod programs;
mod proxy;
mod report;
mod server;
mod site;
mod wire;

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::packages::{Need, provide};

/// What the tools of the bench come from.
const NEEDS: &[Need] = &[
    Need::Package("/usr/sbin/haproxy", "haproxy"),
    Need::Package("/usr/sbin/nginx", "nginx"),
    Need::Package("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"),
    Need::Package("/usr/bin/wrk", "wrk"),
    Need::Package("/usr/bin/hey", "hey"),
    Need::Package("/usr/bin/h2load", "nghttp2-client"),
    Need::Package("/usr/bin/openssl", "openssl"),
    Need::Package("/usr/sbin/iptables", "iptables"),
    Need::Package("/sbin/ip", "iproute2"),
];

/// How to call it.
pub const HELP: &str = "\
  bench proxy [--rounds N] [--seconds N] [--case NAME]… [--binary PATH]
                      what a request costs, beside HAProxy and nginx; all cases write bench/RESULTS.md
  bench failover [--fault NAME]… [--proxy NAME]… [--binary PATH]
                      what visitors feel when a server breaks; all faults write bench/FAILOVER.md
  bench probes [--targets N] [--minutes N] [--binary PATH]
                      what looking at ten thousand monitors costs, beside Prometheus; the whole writes bench/PROBES.md
  bench history [--binary PATH]
                      how long a chart over a year of one probe takes; writes bench/HISTORY.md
  bench pings [--binary PATH]
                      ten thousand pings of jobs at once; writes bench/PINGS.md
";

/// Runs a bench.
///
/// # Errors
/// When an argument is not understood, or something does not run.
pub fn main(arguments: &[&str]) -> Result<bool> {
    match arguments {
        ["proxy", rest @ ..] => {
            let mut plan = proxy::Plan { rounds: 7, seconds: 2, only: Vec::new(), write: true, binary: None };
            for (flag, value) in flags(rest)? {
                match flag {
                    "--rounds" => plan.rounds = at_least_one(value)? as usize,
                    "--seconds" => plan.seconds = at_least_one(value)?,
                    "--binary" => plan.binary = Some(value.to_owned()),
                    "--case" => plan.only.push(value.to_owned()),
                    _ => bail!("`{flag}` is not a flag of `bench proxy`"),
                }
            }
            // A part must not take the place of the whole.
            plan.write = plan.only.is_empty();
            provide_tools()?;
            proxy::run(&plan)?;
        }
        ["failover", rest @ ..] => {
            let mut plan = failover::Plan::default();
            for (flag, value) in flags(rest)? {
                match flag {
                    "--binary" => plan.binary = Some(value.to_owned()),
                    "--fault" => plan.faults.push(value.to_owned()),
                    "--proxy" => plan.proxies.push(value.to_owned()),
                    _ => bail!("`{flag}` is not a flag of `bench failover`"),
                }
            }
            provide_tools()?;
            failover::run(&plan)?;
        }
        ["probes", rest @ ..] => {
            let mut plan = probes::Plan::default();
            for (flag, value) in flags(rest)? {
                match flag {
                    "--binary" => plan.binary = Some(value.to_owned()),
                    "--targets" => plan.targets = at_least_one(value)? as usize,
                    "--minutes" => plan.minutes = at_least_one(value)?,
                    _ => bail!("`{flag}` is not a flag of `bench probes`"),
                }
            }
            probes::run(&plan)?;
        }
        ["history", rest @ ..] => history::run(only_binary("history", rest)?)?,
        ["pings", rest @ ..] => pings::run(only_binary("pings", rest)?)?,
        ["child", rest @ ..] => child(rest)?,
        _ => bail!("there are:\n{HELP}"),
    }
    Ok(true)
}

/// Installs what is missing of the tools.
///
/// # Errors
/// When that cannot be done without a person.
pub fn provide_tools() -> Result<()> {
    provide(NEEDS)
}

/// Puts every load of `bench proxy` on this Mainstay for a moment.
///
/// # Errors
/// When it does not start, or a load fails.
pub fn train(program: &Path) -> Result<()> {
    proxy::train(program)
}

fn flags<'a>(arguments: &[&'a str]) -> Result<Vec<(&'a str, &'a str)>> {
    let pair = |pair: &[&'a str]| match pair {
        [flag, value] => Ok((*flag, *value)),
        _ => bail!("`{}` needs a value", pair.join(" ")),
    };
    arguments.chunks(2).map(pair).collect()
}

/// The path of a Mainstay that is already built, where that is all that can be said.
fn only_binary<'a>(bench: &str, arguments: &[&'a str]) -> Result<Option<&'a str>> {
    let mut binary = None;
    for (flag, value) in flags(arguments)? {
        match flag {
            "--binary" => binary = Some(value),
            _ => bail!("`{flag}` is not a flag of `bench {bench}`"),
        }
    }
    Ok(binary)
}

fn at_least_one(text: &str) -> Result<u64> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => bail!("`{text}` is not a whole number above 0"),
    }
}

/// What a bench runs in processes of their own: servers and loads.
fn child(arguments: &[&str]) -> Result<()> {
    match *arguments {
        ["serve", address] => server::serve(address)?,
        ["at-rate", address, host, path, rate, seconds] => {
            let waits = load::at_rate(address.parse()?, host, path, rate.parse()?, seconds.parse()?)?;
            println!("{}", proxy::percentiles(&waits));
        }
        ["web-sockets", address, host, connections, seconds] => {
            println!(
                "{}",
                load::web_sockets(address.parse()?, host, connections.parse()?, seconds.parse()?)?
            );
        }
        ["pings", address, list] => pings::burst(address.parse()?, list)?,
        ["syslog", socket, file] => write_messages(socket, file)?,
        _ => bail!("{arguments:?} is not a part of a bench"),
    }
    Ok(())
}

/// A syslog daemon as far as HAProxy can tell: each message becomes a line of a file.
fn write_messages(socket: &str, file: &str) -> Result<()> {
    let socket = UnixDatagram::bind(socket).with_context(|| format!("cannot bind {socket}"))?;
    let mut file = std::io::BufWriter::with_capacity(64 * 1024, std::fs::File::create(file)?);
    let mut message = [0; 2048];
    loop {
        let n = socket.recv(&mut message)?;
        file.write_all(&message[..n])?;
        file.write_all(b"\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_with_their_values() {
        assert_eq!(
            flags(&["--rounds", "3", "--case", "post"]).unwrap(),
            [("--rounds", "3"), ("--case", "post")]
        );
        assert!(flags(&["--rounds"]).is_err());
        assert!(at_least_one("0").is_err());
    }

    #[test]
    fn an_unknown_bench_or_flag_is_refused_before_anything_runs() {
        assert!(main(&["juggle"]).is_err());
        assert!(main(&["proxy", "--speed", "9"]).is_err());
        assert!(main(&["failover", "--speed", "9"]).is_err());
        assert!(main(&["probes", "--targets", "0"]).is_err());
        assert!(main(&["history", "--speed", "9"]).is_err());
        assert!(main(&["pings", "--speed", "9"]).is_err());
    }
}
