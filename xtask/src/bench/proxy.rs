//! `cargo xtask bench proxy`: Mainstay, HAProxy and nginx on the same work in the same run, by turns, and what each cost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::arithmetic::percentile;
use super::cases::{CASES, Case, WWW, own, write_files};
use super::process::{Core, Cpu, Running, resident_kb};
use super::programs::{Program, Started, nginx, provide_mainstay, wait_until_it_listens};
use super::report;
use super::server::address_of;
use super::site::{self, Folder, Values, fill, free_port, local, template};
use crate::run::answer;

/// Who is compared, in the order of the tables.
pub const PROGRAMS: [Program; 3] = [Program::Mainstay, Program::HaProxy, Program::Nginx];
/// Idle connections whose memory is measured.
pub const IDLE: usize = 5000;
/// Requests a second at which waiting is measured.
pub const RATE: u32 = 5000;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rounds: usize,
    pub seconds: u64,
    /// The cases' names; empty: all, and latency and memory too.
    pub only: Vec<String>,
    /// Into `bench/RESULTS.md`; otherwise it is printed.
    pub write: bool,
    /// A Mainstay that is already built.
    pub binary: Option<String>,
}

impl Plan {
    fn wants(&self, key: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == key)
    }
}

/// What one program did in one round of a case.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Microseconds of processor time for a request.
    pub user: f64,
    pub system: f64,
    pub per_second: f64,
}

impl Sample {
    pub fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

/// Waiting at a fixed rate in one round, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waits {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// Resident memory in kB, without connections and with [`IDLE`] idle ones.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub empty: u64,
    pub idle: u64,
}

/// All that was measured; samples by round.
#[derive(Debug, Default)]
pub struct Results {
    pub cases: Vec<(&'static Case, BTreeMap<Program, Vec<Sample>>)>,
    /// Cases that this build of Mainstay cannot run.
    pub missing: Vec<&'static Case>,
    /// Optional parts of Mainstay's config: those that this build knows, and the others.
    pub parts: Vec<String>,
    pub missing_parts: Vec<String>,
    pub waits: BTreeMap<Program, Vec<Waits>>,
    /// Without a proxy: what of the waiting is the load's own.
    pub direct: Vec<Waits>,
    pub memory: BTreeMap<Program, Memory>,
}

/// Runs it all.
///
/// # Errors
/// When a program cannot be started or a tool fails.
pub fn run(plan: &Plan) -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("this needs two processors: one for the proxy, one for the load");
    }
    for name in &plan.only {
        if !matches!(name.as_str(), "rate" | "memory") && CASES.iter().all(|case| case.key != *name) {
            let names: Vec<&str> = CASES.iter().map(|case| case.key).collect();
            bail!("`{name}` is not a case; there are {}, rate and memory", names.join(", "));
        }
    }
    provide_mainstay(plan.binary.as_deref())?;
    let folder = Folder::new("proxy")?;
    let behind = Behind::start(folder.path())?;
    let mut results = Results::default();
    if plan.wants("memory") {
        for program in PROGRAMS {
            println!("memory of {}", program.name());
            let memory = memory_of(program, folder.path(), &behind.values)?;
            results.memory.insert(program, memory);
        }
    }
    let mut started = Vec::new();
    for program in PROGRAMS {
        started.push(Started::start(program, "proxy", folder.path(), &behind.values)?);
    }
    results.parts = started[0].parts.clone();
    results.missing_parts = started[0].missing.clone();
    measure(plan, &mut started, &behind, &mut results)?;
    let text = report::results(plan, &results, &started)?;
    if plan.write {
        let path = crate::run::root().join("bench/RESULTS.md");
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
    } else {
        println!("\n{text}");
    }
    Ok(())
}

/// Puts every load on this Mainstay, and ends it as a user would, so that it can write down what it counted.
///
/// # Errors
/// When it does not start, or a load fails.
pub fn train(program: &Path) -> Result<()> {
    const SECONDS: u64 = 3;
    provide_mainstay(Some(&program.to_string_lossy()))?;
    let folder = Folder::new("train")?;
    let behind = Behind::start(folder.path())?;
    let mainstay = Started::start(Program::Mainstay, "proxy", folder.path(), &behind.values)?;
    if let [missing, ..] = &mainstay.missing[..] {
        bail!("this build of Mainstay does not know `{missing}` of bench/proxy/mainstay.toml");
    }
    for case in CASES {
        println!("{}: {}", case.key, case.about);
        case.load.put_on(&mainstay, SECONDS)?;
    }
    Ok(())
}

fn measure(plan: &Plan, started: &mut [Started], behind: &Behind, results: &mut Results) -> Result<()> {
    for case in CASES.iter().filter(|case| plan.wants(case.key)) {
        if case.needs.is_some_and(|part| !results.parts.iter().any(|known| known == part)) {
            results.missing.push(case);
            continue;
        }
        println!("{}: {}", case.key, case.about);
        let mut samples: BTreeMap<Program, Vec<Sample>> = BTreeMap::new();
        for round in 0..plan.rounds {
            // Each begins a round in its turn, so that nobody always follows the same one.
            started.rotate_left(usize::from(round > 0));
            for proxy in started.iter_mut() {
                samples.entry(proxy.program).or_default().push(sample(case, proxy, plan.seconds)?);
            }
            println!("  round {}: {}", round + 1, report::round(&samples));
        }
        results.cases.push((case, samples));
    }
    if plan.wants("rate") {
        println!("waiting at {RATE} requests/s");
        for round in 0..plan.rounds {
            started.rotate_left(usize::from(round > 0));
            results.direct.push(waits(behind.port("one")?, plan.seconds)?);
            for proxy in started.iter() {
                let waits = waits(proxy.port("http")?, plan.seconds)?;
                println!("  {}: p50 {}, p99.9 {} µs", proxy.program.name(), waits.p50, waits.p999);
                results.waits.entry(proxy.program).or_default().push(waits);
            }
        }
    }
    started.sort_by_key(|proxy| proxy.program);
    Ok(())
}

fn sample(case: &Case, proxy: &mut Started, seconds: u64) -> Result<Sample> {
    proxy.process.must_run()?;
    let (before, begun) = (Cpu::of_tree(proxy.process.pid())?, Instant::now());
    let counted = case.load.put_on(proxy, seconds)?;
    let elapsed = begun.elapsed().as_secs_f64();
    let spent = Cpu::of_tree(proxy.process.pid())?.since(before);
    let per_request = |seconds: f64| seconds * 1e6 / counted.good as f64;
    Ok(Sample {
        user: per_request(spent.user),
        system: per_request(spent.system),
        per_second: counted.good as f64 / elapsed,
    })
}

fn waits(port: u16, seconds: u64) -> Result<Waits> {
    let address = local(port).to_string();
    let mut load = own(&["at-rate", &address, WWW, "/200", &RATE.to_string(), &seconds.to_string()])?;
    let said = answer(&mut load)?;
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [p50, p99, p999] => Ok(Waits { p50, p99, p999 }),
        _ => bail!("the load said `{said}`"),
    }
}

/// What the child that makes the load prints.
pub fn percentiles(sorted: &[u64]) -> String {
    format!("{} {} {}", percentile(sorted, 0.5), percentile(sorted, 0.99), percentile(sorted, 0.999))
}

fn memory_of(program: Program, dir: &Path, values: &Values) -> Result<Memory> {
    let mut proxy = Started::start(program, "proxy", dir, values)?;
    // What every program allocates once with its first requests is no connection's.
    CASES[0].load.put_on(&proxy, 1)?;
    let address = local(proxy.port("http")?);
    settle();
    let empty = resident_kb(proxy.process.pid())?;
    let connections = super::load::idle(address, WWW, "/200", IDLE)?;
    settle();
    proxy.process.must_run()?;
    let idle = resident_kb(proxy.process.pid())?;
    drop(connections);
    Ok(Memory { empty, idle })
}

/// Connections that were closed are noticed, and idle ones to servers closed.
fn settle() {
    std::thread::sleep(Duration::from_secs(2));
}

/// What stands behind the proxies.
#[derive(Debug)]
struct Behind {
    values: Values,
    _nginx: Running,
    _app: Running,
    _syslog: Running,
}

impl Behind {
    fn start(dir: &Path) -> Result<Self> {
        let mut values = site::certificate(dir)?;
        values.insert("dir".into(), dir.display().to_string());
        values.insert("small".into(), "x".repeat(200));
        for name in ["one", "two", "app"] {
            values.insert(name.into(), free_port()?.to_string());
        }
        write_files(dir)?;
        let config = dir.join("servers.conf");
        std::fs::write(&config, fill(&template("proxy/servers.conf")?, &values)?)?;
        let mut servers =
            Running::start("the servers", &mut nginx(Core::Load, &config, dir), &dir.join("servers.log"))?;
        wait_until_it_listens(&mut servers, values["one"].parse()?)?;
        let app = own_server(&format!("127.0.0.1:{}", values["app"]))?;
        // HAProxy logs to a socket, as on Debian with a syslog daemon.
        let haproxy = dir.join(Program::HaProxy.key());
        std::fs::create_dir_all(&haproxy)?;
        let (socket, file) = (haproxy.join("log.socket"), haproxy.join("access.log"));
        let (socket, file) = (socket.display().to_string(), file.display().to_string());
        let mut sink = own(&["syslog", &socket, &file])?;
        let syslog = Running::start("the syslog socket", &mut sink, &dir.join("syslog.log"))?;
        Ok(Self { values, _nginx: servers, _app: app, _syslog: syslog })
    }

    fn port(&self, name: &str) -> Result<u16> {
        Ok(self.values[name].parse()?)
    }
}

/// One of our own servers, on the processor of the load.
fn own_server(address: &str) -> Result<Running> {
    use std::io::BufRead as _;
    use std::process::Stdio;

    let mut command = own(&["serve", address])?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("a server without output")?;
    let server = Running::of("the server of bodies and WebSockets", child);
    let mut said = String::new();
    std::io::BufReader::new(output).read_line(&mut said)?;
    address_of(&said)?;
    Ok(server)
}
