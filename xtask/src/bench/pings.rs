//! `cargo xtask bench pings`: ten thousand pings of jobs at once, each of them answered when it is recorded; then Mainstay is killed,
//! and what it still knows is counted.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::arithmetic::Spread;
use super::machine;
use super::process::{Core, Cpu, Running, pinned};
use super::programs::{self, Program, provide_mainstay, wait_until_it_listens};
use super::site::{Folder, free_port, local};
use super::wire::Wire;
use crate::run::answer;

const JOBS: usize = 1000;
const CONNECTIONS: usize = 200;
/// Pings over one connection, one after the other.
const EACH: usize = 50;
const ROUNDS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs it.
///
/// # Errors
/// When something cannot be started, or a ping was lost.
pub fn run(binary: Option<&str>) -> Result<()> {
    provide_mainstay(binary)?;
    let folder = Folder::new("pings")?;
    let (port, config) = (free_port()?, folder.path().join("mainstay.toml"));
    fs::write(&config, jobs(port, &folder.path().join("data")))?;
    let mut process = start(&folder, &config, port)?;
    let paths = paths(&config, port)?;
    ensure!(paths.len() == JOBS, "{} addresses for {JOBS} jobs", paths.len());
    let list = folder.path().join("paths");
    fs::write(&list, paths.join("\n"))?;
    let (mut times, mut busy) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let cpu = Cpu::of_tree(process.pid())?;
        let mut load = pinned(Core::Load, std::env::current_exe()?);
        load.args(["bench", "child", "pings", &local(port).to_string()]).arg(&list);
        let said = answer(&mut load)?;
        let (ms, good) = said.trim().split_once(' ').context("the load does not tell")?;
        ensure!(good.parse() == Ok(CONNECTIONS * EACH), "{good} of {} were answered", CONNECTIONS * EACH);
        let cpu = Cpu::of_tree(process.pid())?.since(cpu);
        busy.push((cpu.user + cpu.system) * 1000.0);
        println!("round {round}: {ms} ms, of which Mainstay worked {:.0} ms", busy[round - 1]);
        times.push(ms.parse()?);
    }
    process.must_run()?;
    process.kill();
    let mut process = start(&folder, &config, port)?;
    let (known, sent) = (known(port)?, ROUNDS * CONNECTIONS * EACH);
    process.must_run()?;
    ensure!(known == sent as f64, "{known} of {sent} pings are known after it was killed");
    let path = crate::run::root().join("bench/PINGS.md");
    fs::write(&path, document(&times, &busy)?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

/// All pings at once, from a process of their own: says how long it took, and how many were answered well.
///
/// # Errors
/// When one cannot be sent.
pub fn burst(address: SocketAddr, list: &str) -> Result<()> {
    let text = fs::read_to_string(list)?;
    let paths: Vec<&str> = text.lines().collect();
    let begun = Instant::now();
    let good = std::thread::scope(|scope| {
        let one = |n: usize| {
            let paths = &paths;
            scope.spawn(move || -> Result<usize> {
                let mut wire = Wire::connect(address, PATIENCE)?;
                let mut good = 0;
                for k in 0..EACH {
                    let path = paths[(n * EACH + k) % paths.len()];
                    wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
                    let answer = wire.message()?.context("the connection was closed")?;
                    good += usize::from(answer.status() == Some(200));
                }
                Ok(good)
            })
        };
        let all: Vec<_> = (0..CONNECTIONS).map(one).collect();
        let each = all.into_iter().map(|one| match one.join() {
            Ok(good) => good,
            Err(_) => bail!("a load has panicked"),
        });
        each.sum::<Result<usize>>()
    })?;
    println!("{} {good}", begun.elapsed().as_millis());
    Ok(())
}

fn start(folder: &Folder, config: &Path, port: u16) -> Result<Running> {
    let mut command = pinned(Core::Proxy, programs::mainstay());
    let log = folder.path().join("mainstay.log");
    let mut process = Running::start("mainstay", command.arg("run").arg("-c").arg(config), &log)?;
    wait_until_it_listens(&mut process, port)?;
    Ok(process)
}

fn jobs(port: u16, data: &Path) -> String {
    let mut text =
        format!("data = {:?}\n\n[listen]\nadmin = \"127.0.0.1:{port}\"\n", data.display().to_string());
    for n in 0..JOBS {
        let _ = write!(text, "\n[monitor.job-{n:04}]\nheartbeat = {{ every = \"1h\" }}\n");
    }
    text
}

/// Where the jobs ping.
fn paths(config: &Path, port: u16) -> Result<Vec<String>> {
    let base = format!("http://{}", local(port));
    let mut command = Command::new(programs::mainstay());
    let said = answer(command.arg("heartbeat").arg("-c").arg(config).args(["--base", &base, "--json"]))?;
    Ok(said.split('"').filter_map(|text| text.strip_prefix(&base)).map(str::to_owned).collect())
}

/// How many pings it knows of all jobs together.
fn known(port: u16) -> Result<f64> {
    let mut wire = Wire::connect(local(port), PATIENCE)?;
    wire.send(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let metrics = String::from_utf8_lossy(&wire.rest()?).into_owned();
    Ok(total(&metrics, "mainstay_heartbeat_pings_total{"))
}

fn total(metrics: &str, name: &str) -> f64 {
    let value = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<f64>().ok();
    metrics.lines().filter_map(value).sum()
}

fn document(times: &[f64], busy: &[f64]) -> Result<String> {
    let mut out = String::from("# Ten thousand pings at once\n\n");
    machine::describe(&mut out, &[Program::Mainstay])?;
    let all = CONNECTIONS * EACH;
    let Spread { median, min, max } = Spread::of(times).context("nothing was measured")?;
    let busy = Spread::of(busy).context("nothing was measured")?;
    let rate = |ms: f64| all as f64 * 1000.0 / ms;
    let _ = write!(
        out,
        "{all} pings of {JOBS} jobs over {CONNECTIONS} connections, as fast as they are answered; each is answered when it is in the \
         record. Mainstay runs on one processor, the jobs on the other. After {ROUNDS} rounds Mainstay is killed (SIGKILL) and \
         started again, and knows every one of the {} pings. Made by `cargo xtask bench pings`.\n\n\
         | | median | least | most |\n| --- | --- | --- | --- |\n\
         | all are answered after | {median:.0} ms | {min:.0} ms | {max:.0} ms |\n\
         | pings a second | {:.0} | {:.0} | {:.0} |\n\
         | processor time of Mainstay | {:.0} ms | {:.0} ms | {:.0} ms |\n",
        all * ROUNDS,
        rate(median),
        rate(max),
        rate(min),
        busy.median,
        busy.min,
        busy.max
    );
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let metrics = "# TYPE x counter\nx_total{a=\"1\"} 3\nx_total{a=\"2\",b=\"c d\"} 4.0\nx_totals{} 9\n";
        assert_eq!(total(metrics, "x_total{"), 7.0);
    }

    #[test]
    fn every_job_is_named_once() {
        let text = jobs(1, Path::new("/x"));
        assert_eq!(text.matches("[monitor.job-").count(), JOBS);
    }
}
