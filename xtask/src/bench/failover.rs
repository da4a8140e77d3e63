//! `cargo xtask bench failover`: the same faults behind Mainstay, HAProxy and nginx, and what visitors felt of each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::faults::{BROKEN, Fault, Network, Orders, Server};
use super::load::{Rates, Shot, steady};
use super::machine;
use super::programs::{Program, Started, provide_mainstay};
use super::site::{Folder, Values, local};
use super::wire::Wire;

/// Who is compared, in the order of the table.
const PROGRAMS: [Program; 4] =
    [Program::Mainstay, Program::HaProxy, Program::HaProxyRetrying, Program::Nginx];
/// Before the fault and after it.
const AROUND: Duration = Duration::from_secs(8);
const RATES: Rates = Rates { get: 300, post: 46 };
/// An answer that takes longer is slow.
const SLOW: Duration = Duration::from_millis(500);
/// What a proxy gets to find its servers.
const READY_MAX: Duration = Duration::from_secs(10);

/// What to run; empty: all.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub faults: Vec<String>,
    pub proxies: Vec<String>,
    /// A Mainstay that is already built.
    pub binary: Option<String>,
}

/// What visitors felt.
#[derive(Debug, Clone, Default, PartialEq)]
struct Felt {
    requests: usize,
    failed: usize,
    slow: usize,
    /// From the first failed or slow request to the last.
    lasted: Duration,
    /// The last failure after all was whole again.
    failing_after: Duration,
}

/// One proxy and one fault.
#[derive(Debug, Clone, Default)]
struct Outcome {
    get: Felt,
    post: Felt,
    /// Orders carried out more than once.
    twice: usize,
}

type Outcomes = BTreeMap<(Fault, Program), Outcome>;

/// Runs it all.
///
/// # Errors
/// When something cannot be started.
pub fn run(plan: &Plan) -> Result<()> {
    let faults = chosen(&Fault::ALL, Fault::key, &plan.faults)?;
    let programs = chosen(&PROGRAMS, Program::key, &plan.proxies)?;
    provide_mainstay(plan.binary.as_deref())?;
    let folder = Folder::new("failover")?;
    let mut outcomes = Outcomes::new();
    for fault in faults {
        println!("{}", fault.about());
        // Beside each other: each has servers of its own, and all of them together leave the machine mostly idle.
        let results: Vec<(Program, Result<Outcome>)> = std::thread::scope(|scope| {
            let runs: Vec<_> = programs
                .iter()
                .enumerate()
                .map(|(number, &program)| {
                    let dir = folder.path().join(fault.key());
                    (program, scope.spawn(move || one(program, fault, &dir, number as u8)))
                })
                .collect();
            runs.into_iter()
                .map(|(program, run)| {
                    (program, run.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a run panicked"))))
                })
                .collect()
        });
        for (program, outcome) in results {
            let outcome = outcome.with_context(|| format!("{} behind {}", fault.about(), program.name()))?;
            println!(
                "  {:<24} GET {}; POST {}",
                program.name(),
                get_cell(fault, &outcome),
                post_cell(fault, &outcome)
            );
            outcomes.insert((fault, program), outcome);
        }
    }
    if plan.faults.is_empty() && plan.proxies.is_empty() {
        let path = crate::run::root().join("bench/FAILOVER.md");
        std::fs::write(&path, document(&outcomes)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(())
}

fn chosen<T: Copy>(all: &[T], key: fn(T) -> &'static str, names: &[String]) -> Result<Vec<T>> {
    let known: Vec<&str> = all.iter().map(|&one| key(one)).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("`{unknown}` is unknown; there are {}", known.join(", "));
    }
    Ok(all.iter().copied().filter(|&one| names.is_empty() || names.iter().any(|n| n == key(one))).collect())
}

/// Three servers behind one proxy, steady traffic, one fault.
fn one(program: Program, fault: Fault, dir: &Path, number: u8) -> Result<Outcome> {
    let orders = Orders::default();
    let network = (fault == Fault::Drop).then(|| Network::new(number)).transpose()?;
    let mut servers = vec![Server::start(network, &orders)?];
    servers.push(Server::start(None, &orders)?);
    servers.push(Server::start(None, &orders)?);
    let mut values = Values::new();
    for (name, server) in ["one", "two", "three"].into_iter().zip(&servers) {
        values.insert(name.into(), server.address.to_string());
    }
    let mut proxy = Started::start(program, "failover", dir, &values)?;
    let address = local(proxy.port("http")?);
    wait_until_it_serves(address)?;
    let lasting = AROUND + BROKEN + AROUND;
    let begun = Instant::now();
    let (whole, shots) = std::thread::scope(|scope| {
        let load = scope.spawn(move || steady(address, RATES, lasting));
        std::thread::sleep(AROUND);
        let whole = fault.happen(&mut servers);
        let shots = load.join().unwrap_or_else(|_| bail!("the load panicked"));
        anyhow::Ok((whole?.saturating_duration_since(begun), shots?))
    })?;
    proxy.process.must_run()?;
    Ok(Outcome { get: felt(&shots, false, whole), post: felt(&shots, true, whole), twice: orders.twice() })
}

/// Until a proxy has answered well for a while: its first probes are over by then.
fn wait_until_it_serves(address: std::net::SocketAddr) -> Result<()> {
    let begun = Instant::now();
    let mut good = 0;
    while good < 20 {
        let ask = || -> std::io::Result<bool> {
            let mut wire = Wire::connect(address, READY_MAX)?;
            wire.send(b"GET /page HTTP/1.1\r\nHost: shop.example\r\n\r\n")?;
            Ok(wire.message()?.is_some_and(|answer| answer.status() == Some(200)))
        };
        good = if ask().unwrap_or(false) { good + 1 } else { 0 };
        if begun.elapsed() > READY_MAX {
            bail!("the proxy does not serve");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// `whole`: when the servers were, from the start.
fn felt(shots: &[Shot], post: bool, whole: Duration) -> Felt {
    let mine: Vec<&Shot> = shots.iter().filter(|shot| shot.post == post).collect();
    let is_slow = |shot: &&&Shot| shot.good && shot.took > SLOW;
    let hurt: Vec<Duration> =
        mine.iter().filter(|shot| !shot.good || is_slow(shot)).map(|shot| shot.at).collect();
    let lasted = hurt.last().zip(hurt.first()).map_or(Duration::ZERO, |(last, first)| *last - *first);
    let failed: Vec<Duration> = mine.iter().filter(|shot| !shot.good).map(|shot| shot.at).collect();
    Felt {
        requests: mine.len(),
        failed: failed.len(),
        slow: mine.iter().filter(is_slow).count(),
        lasted,
        failing_after: failed.last().map_or(Duration::ZERO, |last| last.saturating_sub(whole)),
    }
}

fn get_cell(fault: Fault, outcome: &Outcome) -> String {
    felt_cell(fault, &outcome.get)
}

fn post_cell(fault: Fault, outcome: &Outcome) -> String {
    let twice = match outcome.twice {
        0 => String::new(),
        n => format!("; **{n} run twice**"),
    };
    felt_cell(fault, &outcome.post) + &twice
}

fn felt_cell(fault: Fault, felt: &Felt) -> String {
    if fault == Fault::AllDown {
        return match felt.failing_after {
            Duration::ZERO => "errors end when they accept again".into(),
            after => format!("errors for {:.2} s after they accept again", after.as_secs_f64()),
        };
    }
    let mut parts = Vec::new();
    if felt.failed > 0 {
        parts.push(format!("{} failed", felt.failed));
    }
    if felt.slow > 0 {
        parts.push(format!("{} slow", felt.slow));
    }
    if parts.is_empty() {
        return "0".into();
    }
    format!("{}, in {:.1} s", parts.join(" and "), felt.lasted.as_secs_f64())
}

fn document(outcomes: &Outcomes) -> Result<String> {
    let mut out = String::from(
        "# What visitors feel when a server breaks\n\nWritten by `cargo xtask bench failover`; do not edit. How to run and to read it: [README.md](README.md).\n\n",
    );
    machine::describe(&mut out, &[Program::Mainstay, Program::HaProxy, Program::Nginx])?;
    let _ = writeln!(
        out,
        "Three servers that answer after 5 ms, {} GET/s and {} POST/s over kept connections, {} s; one server broken for {} s in the middle. Probes each second (2 down, \
         2 up), 1 s to connect, three tries; HAProxy and nginx wait 2 s for an answer, Mainstay as by default. *Failed*: an answer of 400 or more, or none in 10 s. *Slow*: \
         answered well, after more than {} s from when the request was due. The time is from the first of them to the last. HAProxy balances in turn, as by default; HAProxy \
         with `retry-on` and nginx prefer the server with the fewest requests under way, which helps much with a server that hangs. Configs: [failover/](failover).\n",
        RATES.get,
        RATES.post,
        (AROUND + BROKEN + AROUND).as_secs(),
        BROKEN.as_secs(),
        SLOW.as_secs_f64(),
    );
    let requests = outcomes.values().next().map_or((0, 0), |o| (o.get.requests, o.post.requests));
    table(&mut out, &format!("GET: {} requests each", requests.0), outcomes, get_cell);
    table(&mut out, &format!("POST: {} requests each", requests.1), outcomes, post_cell);
    Ok(out)
}

fn table(out: &mut String, title: &str, outcomes: &Outcomes, cell: fn(Fault, &Outcome) -> String) {
    let names: Vec<&str> = PROGRAMS.iter().map(|program| program.name()).collect();
    let _ = writeln!(
        out,
        "## {title}\n\n| fault | {} |\n|{}",
        names.join(" | "),
        " --- |".repeat(PROGRAMS.len() + 1)
    );
    for fault in Fault::ALL {
        let cells = PROGRAMS.iter().map(|&program| {
            outcomes.get(&(fault, program)).map_or(String::new(), |outcome| cell(fault, outcome))
        });
        let _ = writeln!(out, "| {} | {} |", fault.about(), cells.collect::<Vec<_>>().join(" | "));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shot(at_ms: u64, took_ms: u64, post: bool, good: bool) -> Shot {
        Shot { at: Duration::from_millis(at_ms), took: Duration::from_millis(took_ms), post, good }
    }

    #[test]
    fn what_is_felt_is_counted_by_method_and_from_first_to_last() {
        let shots = [
            shot(0, 5, false, true),
            shot(1000, 600, false, true),
            shot(1500, 5, true, false),
            shot(3000, 5, false, false),
            shot(4000, 5, false, true),
        ];
        let get = felt(&shots, false, Duration::from_millis(2900));
        assert_eq!((get.requests, get.failed, get.slow), (4, 1, 1));
        assert_eq!(get.lasted, Duration::from_secs(2));
        assert_eq!(get.failing_after, Duration::from_millis(100));
        let post = felt(&shots, true, Duration::from_secs(9));
        assert_eq!((post.requests, post.failed, post.failing_after), (1, 1, Duration::ZERO));
    }

    #[test]
    fn a_cell_says_what_was_felt_and_for_how_long() {
        let felt =
            |failed, slow| Felt { failed, slow, lasted: Duration::from_millis(2100), ..Felt::default() };
        assert_eq!(felt_cell(Fault::Kill, &felt(0, 0)), "0");
        assert_eq!(felt_cell(Fault::Stop, &felt(3, 9)), "3 failed and 9 slow, in 2.1 s");
        let outcome = Outcome { post: felt(0, 0), twice: 2, ..Outcome::default() };
        assert_eq!(post_cell(Fault::Kill, &outcome), "0; **2 run twice**");
        let back = Felt { failing_after: Duration::from_millis(150), ..felt(9, 0) };
        assert_eq!(felt_cell(Fault::AllDown, &back), "errors for 0.15 s after they accept again");
    }

    #[test]
    fn only_what_is_known_can_be_chosen() {
        assert_eq!(chosen(&Fault::ALL, Fault::key, &["stop".into()]).unwrap(), [Fault::Stop]);
        assert_eq!(chosen(&PROGRAMS, Program::key, &[]).unwrap(), PROGRAMS);
        assert!(chosen(&PROGRAMS, Program::key, &["caddy".into()]).is_err());
    }
}
