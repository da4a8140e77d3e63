//! `cargo xtask bench probes`: thousands of monitors over HTTP against real servers, and what looking at them costs, beside
//! Prometheus with the blackbox exporter and Vigil. Then all of them fail at once.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::machine;
use super::process::{Core, Cpu, Running, pinned, resident_kb};
use super::programs::{self, Program, nginx, provide_mainstay, wait_until_it_listens};
use super::site::{Folder, free_port, local};
use super::wire::Wire;
use crate::packages::{Need, provide};
use crate::run::{answer, succeeds};

/// Whichever folder of the architecture it is in, its licence is here.
const FAKETIME_IS: &str = "/usr/share/doc/libfaketime";
const NEEDS: &[Need] = &[
    Need::Package("/usr/sbin/nginx", "nginx"),
    Need::Package("/usr/bin/prometheus", "prometheus"),
    Need::Package("/usr/bin/prometheus-blackbox-exporter", "prometheus-blackbox-exporter"),
    Need::Package("/usr/bin/sqlite3", "sqlite3"),
    Need::Package(FAKETIME_IS, "libfaketime"),
];
/// Vigil comes from crates.io, with the lock file it was released with: without it, it does not build.
const VIGIL: &str = "vigil-server@1.29.0";
/// Its checks at a time. With its default of 4 it needs minutes for ten thousand targets that do not answer.
const VIGIL_THREADS: usize = 64;
/// Between two looks at one target.
const INTERVAL: u64 = 10;
/// The first round is not measured: everything is looked at for the first time in it.
const WARM: Duration = Duration::from_secs(25);
/// After the servers are gone: until every target has been looked at three times in vain.
const GONE: Duration = Duration::from_secs(45);
const PATIENCE: Duration = Duration::from_secs(20);
/// How far ahead the clock is set to see an hour packed, and the longest that may take.
const LATER: &str = "+2h";
const PACKED_MAX: Duration = Duration::from_secs(180);

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub targets: usize,
    pub minutes: u64,
    /// A Mainstay that is already built.
    pub binary: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { targets: 10_000, minutes: 10, binary: None }
    }
}

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Mainstay,
    Prometheus,
    Vigil,
}

/// What looking costs.
#[derive(Debug)]
struct Cost {
    watcher: Watcher,
    /// Looks that the targets have seen, a second.
    looks: f64,
    /// Processor time: seconds in a second.
    user: f64,
    system: f64,
    memory_kb: u64,
    /// In words: bytes on disk for each look.
    disk: String,
    /// In words: how well the times are kept.
    times: String,
    /// In words: what became of it when all targets were gone.
    gone: String,
}

/// Runs it all.
///
/// # Errors
/// When something cannot be started.
pub fn run(plan: &Plan) -> Result<()> {
    provide(NEEDS)?;
    provide_mainstay(plan.binary.as_deref())?;
    provide_vigil()?;
    let folder = Folder::new("probes")?;
    let mut costs = Vec::new();
    for watcher in [Watcher::Mainstay, Watcher::Prometheus, Watcher::Vigil] {
        // No name with spaces: nginx would take it for two words.
        let cost = one(plan, watcher, &folder.path().join(format!("{watcher:?}")))
            .with_context(|| format!("with {}", watcher.name()))?;
        println!("{}", line(&cost));
        costs.push(cost);
    }
    let (whole, path) = (Plan::default(), crate::run::root().join("bench/PROBES.md"));
    if plan.targets == whole.targets && plan.minutes == whole.minutes {
        fs::write(&path, document(plan, &costs)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(())
}

impl Watcher {
    fn name(self) -> &'static str {
        match self {
            Watcher::Mainstay => "Mainstay",
            Watcher::Prometheus => "Prometheus with blackbox_exporter",
            Watcher::Vigil => "Vigil",
        }
    }
}

fn one(plan: &Plan, watcher: Watcher, dir: &Path) -> Result<Cost> {
    fs::create_dir_all(dir)?;
    let mut servers = Servers::start(dir)?;
    let urls: Vec<String> = (0..plan.targets).map(|n| servers.url(n)).collect();
    let mut looking = Looking::start(watcher, dir, &urls)?;
    std::thread::sleep(WARM);
    let measured = Duration::from_secs(plan.minutes * 60);
    let (begun, cpu, seen, disk) = (Instant::now(), looking.cpu()?, servers.answered()?, looking.disk()?);
    let mut memory_kb = 0;
    while begun.elapsed() < measured {
        std::thread::sleep(Duration::from_secs(5).min(measured.saturating_sub(begun.elapsed())));
        memory_kb = memory_kb.max(looking.memory_kb()?);
        servers.process.must_run()?;
        looking.must_run()?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, seen) = (looking.cpu()?.since(cpu), servers.answered()? - seen);
    let disk = looking.disk()?.saturating_sub(disk) as f64 / seen.max(1) as f64;
    let times = looking.times(seen as f64 / seconds / plan.targets as f64)?;
    let gone = looking.when_all_are_gone(servers, plan.targets)?;
    let disk = match watcher {
        Watcher::Mainstay => format!("{disk:.1}, packed {:.2}", looking.packed()?),
        Watcher::Prometheus => format!("{disk:.1}"),
        Watcher::Vigil => "keeps none".to_owned(),
    };
    Ok(Cost {
        watcher,
        looks: seen as f64 / seconds,
        user: cpu.user / seconds,
        system: cpu.system / seconds,
        memory_kb,
        disk,
        times,
        gone,
    })
}

/// nginx at every address of the loopback.
struct Servers {
    process: Running,
    port: u16,
}

impl Servers {
    fn start(dir: &Path) -> Result<Self> {
        let (port, config) = (free_port()?, dir.join("nginx.conf"));
        let text = format!(
            "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nevents {{ worker_connections 20000; }}\n\
             http {{\n  access_log off;\n  keepalive_timeout 5;\n  server {{\n    listen 0.0.0.0:{port} backlog=4096;\n    \
             location = /seen {{ stub_status; }}\n    location / {{ return 200 \"well\\n\"; }}\n  }}\n}}\n",
            dir = dir.display()
        );
        fs::write(&config, text)?;
        let mut process =
            Running::start("nginx", &mut nginx(Core::Load, &config, dir), &dir.join("nginx.log"))?;
        wait_until_it_listens(&mut process, port)?;
        Ok(Self { process, port })
    }

    /// A thousand addresses of ten pages each.
    fn url(&self, n: usize) -> String {
        let (host, page) = (n / 10, n % 10);
        format!("http://127.1.{}.{}:{}/{page}", host / 250, host % 250 + 1, self.port)
    }

    /// Requests so far.
    fn answered(&self) -> Result<u64> {
        let text = fetch(self.port, "/seen")?;
        // `server accepts handled requests`, and below it the three figures.
        let figures = text.lines().nth(2).unwrap_or_default();
        figures.split_whitespace().nth(2).and_then(|n| n.parse().ok()).context("nginx does not tell")
    }
}

/// Whoever looks, with what it writes.
struct Looking {
    watcher: Watcher,
    dir: PathBuf,
    processes: Vec<Running>,
    /// Where it can be asked.
    port: u16,
    disk: PathBuf,
}

impl Looking {
    fn start(watcher: Watcher, dir: &Path, urls: &[String]) -> Result<Self> {
        let (port, disk) = (free_port()?, dir.join("data"));
        fs::create_dir_all(&disk)?;
        let mut processes = Vec::new();
        let mut begin = |name: &str, command: &mut Command, port: u16| -> Result<()> {
            let log = dir.join(format!("{name}.log"));
            let mut process = Running::start(name, command, &log)?;
            if let Err(error) = wait_until_it_listens(&mut process, port) {
                bail!("{error}; it said:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            processes.push(process);
            Ok(())
        };
        match watcher {
            Watcher::Mainstay => {
                let config = dir.join("mainstay.toml");
                fs::write(&config, monitors(urls, port, &disk))?;
                let mut command = pinned(Core::Proxy, programs::mainstay());
                begin("mainstay", command.arg("run").arg("-c").arg(&config), port)?;
            }
            Watcher::Prometheus => {
                let exporter = free_port()?;
                let mut command = pinned(Core::Proxy, "prometheus-blackbox-exporter");
                command.arg("--config.file=/etc/prometheus/blackbox.yml");
                begin(
                    "blackbox",
                    command.arg(format!("--web.listen-address=127.0.0.1:{exporter}")),
                    exporter,
                )?;
                let config = dir.join("prometheus.yml");
                fs::write(&config, scrapes(urls, exporter))?;
                let mut command = pinned(Core::Proxy, "prometheus");
                command.arg(format!("--config.file={}", config.display()));
                command.arg(format!("--storage.tsdb.path={}", disk.display()));
                begin("prometheus", command.arg(format!("--web.listen-address=127.0.0.1:{port}")), port)?;
            }
            Watcher::Vigil => {
                let config = dir.join("vigil.cfg");
                fs::write(&config, services(urls, port, &vigil_assets()?))?;
                begin("vigil", pinned(Core::Proxy, vigil()).arg("-c").arg(&config), port)?;
            }
        }
        Ok(Self { watcher, dir: dir.to_owned(), processes, port, disk })
    }

    fn must_run(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Running::must_run)
    }

    fn cpu(&self) -> Result<Cpu> {
        self.processes.iter().try_fold(Cpu::default(), |sum, process| {
            let one = Cpu::of_tree(process.pid())?;
            Ok(Cpu { user: sum.user + one.user, system: sum.system + one.system })
        })
    }

    fn memory_kb(&self) -> Result<u64> {
        self.processes.iter().map(|process| resident_kb(process.pid())).sum()
    }

    fn disk(&self) -> Result<u64> {
        let said = answer(Command::new("du").args(["-sb"]).arg(&self.disk))?;
        said.split_whitespace().next().and_then(|n| n.parse().ok()).context("du does not tell")
    }

    /// How well it keeps its times, given how many times a second each target was looked at.
    fn times(&self, often: f64) -> Result<String> {
        match self.watcher {
            Watcher::Vigil => Ok(format!("each target once in {:.0} s", 1.0 / often)),
            Watcher::Mainstay => {
                let metrics = fetch(self.port, "/metrics")?;
                let counts = buckets(&metrics, "mainstay_probe_lateness_seconds_bucket");
                let all = counts.last().map_or(0, |(_, n)| *n);
                let within = |share: f64| {
                    let bound = counts.iter().find(|(_, n)| *n as f64 >= share * all as f64);
                    bound.map_or_else(|| "?".to_owned(), |(bound, _)| bound.clone())
                };
                Ok(format!(
                    "late by ≤ {} s (p50), ≤ {} s (p99), ≤ {} s (p99.9)",
                    within(0.5),
                    within(0.99),
                    within(0.999)
                ))
            }
            Watcher::Prometheus => {
                let metrics = fetch(self.port, "/metrics")?;
                let of = |quantile: &str| {
                    let start = format!(
                        "prometheus_target_interval_length_seconds{{interval=\"{INTERVAL}s\",quantile=\"{quantile}\"}} "
                    );
                    metrics.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("?").to_owned()
                };
                Ok(format!("interval of {} s (p01) to {} s (p99)", of("0.01"), of("0.99")))
            }
        }
    }

    /// The servers are killed: what is made of it?
    fn when_all_are_gone(&mut self, mut servers: Servers, targets: usize) -> Result<String> {
        match self.watcher {
            Watcher::Prometheus => {
                return Ok(format!("{targets} series are 0; who is told is Alertmanager's"));
            }
            Watcher::Vigil => return self.when_vigil_knows(servers),
            Watcher::Mainstay => {}
        }
        // A machine that others keep busy is an incident of its own.
        let before = gauge(&fetch(self.port, "/metrics")?, "mainstay_incidents_open")
            .context("the metrics do not tell of incidents")?;
        servers.process.kill();
        let (begun, mut opened) = (Instant::now(), None);
        while opened.is_none() && begun.elapsed() < GONE {
            std::thread::sleep(Duration::from_millis(250));
            let open = gauge(&fetch(self.port, "/metrics")?, "mainstay_incidents_open");
            opened = (open > Some(before)).then(|| begun.elapsed());
        }
        std::thread::sleep(GONE.saturating_sub(begun.elapsed()));
        let metrics = fetch(self.port, "/metrics")?;
        let down =
            metrics.lines().filter(|l| l.starts_with("mainstay_monitor_up{") && l.ends_with(" 0.0")).count();
        let open = gauge(&metrics, "mainstay_incidents_open").unwrap_or_default() - before;
        let opened = opened.map_or("no incident".to_owned(), |after| {
            format!("an incident after {:.1} s", after.as_secs_f64())
        });
        Ok(format!(
            "{opened}; after {} s {down} of {targets} are down in {open} open incident(s)",
            GONE.as_secs()
        ))
    }

    /// Vigil tells one state of everything.
    fn when_vigil_knows(&self, mut servers: Servers) -> Result<String> {
        servers.process.kill();
        let (begun, mut said) = (Instant::now(), String::new());
        while begun.elapsed() < GONE {
            said = fetch(self.port, "/status/text")?;
            if said.ends_with("dead") {
                return Ok(format!("all is \"dead\" after {:.1} s", begun.elapsed().as_secs_f64()));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let said = said.lines().last().unwrap_or_default();
        Ok(format!("all is still {said:?} after {} s", GONE.as_secs()))
    }

    /// Bytes on disk a look once its hour is packed. That is done when the hour is long over, so the program is started again
    /// with its clock ahead.
    fn packed(&mut self) -> Result<f64> {
        let looks = buckets(&fetch(self.port, "/metrics")?, "mainstay_probe_lateness_seconds_bucket");
        let looks = looks.last().map_or(0, |(_, n)| *n).max(1);
        self.processes.clear();
        let record = self.disk.join("record.db");
        let ask = |sql: &str| -> Result<f64> {
            let said = answer(Command::new("sqlite3").arg("-readonly").arg(&record).arg(sql))?;
            said.trim().parse().with_context(|| format!("the record says {said:?} to {sql}"))
        };
        let last = ask("SELECT coalesce(max(id), 0) FROM monitor_journal")?;
        // Not by the program `faketime`, which stays in between and would be ended in its place.
        let mut command = pinned(Core::Proxy, programs::mainstay());
        command
            .env("LD_PRELOAD", faketime()?)
            .env("FAKETIME", LATER)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.arg("run").arg("-c").arg(self.dir.join("mainstay.toml"));
        let mut process = Running::start("Mainstay, later", &mut command, &self.dir.join("later.log"))?;
        wait_until_it_listens(&mut process, self.port)?;
        let begun = Instant::now();
        while ask(&format!("SELECT count(*) FROM monitor_journal WHERE id <= {last}"))? > 0.0 {
            process.must_run()?;
            if begun.elapsed() > PACKED_MAX {
                bail!("the hour was not packed within {} s", PACKED_MAX.as_secs());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        let bytes = ask("SELECT sum(pgsize) FROM dbstat WHERE name IN ('monitor_looks', 'monitor_hour')")?;
        Ok(bytes / looks as f64)
    }
}

/// The library that moves a program's clock.
fn faketime() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(|folder| Some(folder.ok()?.path()));
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketime.so.1"));
    libraries.find(|library| library.exists()).context("Debian's libfaketime has no libfaketime.so.1")
}

/// Where `cargo install` puts Vigil.
fn vigil_root() -> PathBuf {
    crate::run::root().join("target/xtask/vigil")
}

fn vigil() -> PathBuf {
    vigil_root().join("bin/vigil")
}

fn provide_vigil() -> Result<()> {
    if vigil().exists() {
        return Ok(());
    }
    let root = vigil_root().display().to_string();
    let arguments = ["install", "--locked", VIGIL, "--root", &root];
    println!("Vigil is missing; running `cargo {}`", arguments.join(" "));
    if !succeeds(crate::run::cargo().args(arguments)) {
        bail!("Vigil cannot be built; by hand: cargo {}", arguments.join(" "));
    }
    Ok(())
}

/// The pages that Vigil wants beside its program are in its source, which cargo has unpacked.
fn vigil_assets() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("there is no home folder")?;
    let name = VIGIL.replace('@', "-");
    for registry in fs::read_dir(home.join("registry/src"))? {
        let assets = registry?.path().join(&name).join("res/assets");
        if assets.is_dir() {
            return Ok(assets);
        }
    }
    bail!("the source of {name} is not in {}", home.display())
}

fn services(urls: &[String], port: u16, assets: &Path) -> String {
    let mut text = format!(
        "[server]\nlog_level = \"error\"\ninet = \"127.0.0.1:{port}\"\nworkers = 1\n\
         manager_token = \"a-token-of-the-bench\"\nreporter_token = \"a-token-of-the-bench\"\n\
         [assets]\npath = {assets:?}\n\
         [branding]\npage_title = \"bench\"\npage_url = \"http://127.0.0.1/\"\ncompany_name = \"bench\"\n\
         icon_color = \"#000000\"\nicon_url = \"http://127.0.0.1/i.png\"\nlogo_color = \"#000000\"\n\
         logo_url = \"http://127.0.0.1/i.svg\"\nwebsite_url = \"http://127.0.0.1/\"\n\
         support_url = \"mailto:bench@example.com\"\ncustom_html = \"\"\n\
         [metrics]\npoll_interval = {INTERVAL}\npoll_parallelism = {VIGIL_THREADS}\n[notify]\n\
         [probe]\n[[probe.service]]\nid = \"bench\"\nlabel = \"bench\"\n\
         [[probe.service.node]]\nid = \"targets\"\nlabel = \"targets\"\nmode = \"poll\"\nreplicas = [\n"
    );
    urls.iter().for_each(|url| _ = writeln!(text, "  {url:?},"));
    text.push_str("]\n");
    text
}

fn monitors(urls: &[String], port: u16, data: &Path) -> String {
    let mut text =
        format!("data = {:?}\n\n[listen]\nadmin = \"127.0.0.1:{port}\"\n", data.display().to_string());
    for (n, url) in urls.iter().enumerate() {
        let _ = write!(text, "\n[monitor.target-{n:05}]\nurl = \"{url}\"\ninterval = \"{INTERVAL}s\"\n");
    }
    text
}

fn scrapes(urls: &[String], exporter: u16) -> String {
    let mut text = format!(
        "global:\n  scrape_interval: {INTERVAL}s\n  scrape_timeout: 5s\nscrape_configs:\n  - job_name: probes\n    \
         metrics_path: /probe\n    params:\n      module: [http_2xx]\n    relabel_configs:\n      \
         - source_labels: [__address__]\n        target_label: __param_target\n      \
         - source_labels: [__param_target]\n        target_label: instance\n      \
         - target_label: __address__\n        replacement: 127.0.0.1:{exporter}\n    \
         static_configs:\n      - targets:\n"
    );
    urls.iter().for_each(|url| _ = writeln!(text, "          - {url}"));
    text
}

/// The body of a page on the loopback.
fn fetch(port: u16, path: &str) -> Result<String> {
    let mut wire = Wire::connect(local(port), PATIENCE)?;
    wire.send(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    Ok(String::from_utf8_lossy(&wire.rest()?).into_owned())
}

/// A metric without labels.
fn gauge(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The buckets of a histogram: upper end, and how many are not above it.
fn buckets(metrics: &str, name: &str) -> Vec<(String, u64)> {
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(name)?.strip_prefix("{le=\"")?.split_once("\"} ")?;
        Some((bound.to_owned(), count.parse().ok()?))
    };
    metrics.lines().filter_map(bucket).collect()
}

fn line(cost: &Cost) -> String {
    let Cost { watcher, looks, user, system, memory_kb, disk, times, gone } = cost;
    format!(
        "| {} | {looks:.0} | {:.2} ({user:.2} + {system:.2}) | {:.0} MB | {disk} | {times} | {gone} |",
        watcher.name(),
        user + system,
        *memory_kb as f64 / 1000.0,
    )
}

fn document(plan: &Plan, costs: &[Cost]) -> Result<String> {
    let mut out = String::from("# Ten thousand monitors\n\n");
    machine::describe(&mut out, &[Program::Mainstay])?;
    let version = |program: &str| -> Result<String> {
        let said = Command::new(program).arg("--version").output()?;
        let said = [said.stdout, said.stderr].concat();
        Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned())
    };
    for program in ["prometheus", "prometheus-blackbox-exporter"] {
        let _ = writeln!(out, "- {}", version(program)?);
    }
    let _ = writeln!(out, "- {VIGIL}, {VIGIL_THREADS} checks at a time");
    let _ = write!(
        out,
        "\n{} targets by HTTP each {INTERVAL} s for {} minutes, each look over a connection of its own; nginx answers at a thousand \
         addresses of the loopback, on the other processor. Made by `cargo xtask bench probes`.\n\n\
         | who looks | looks a second | processors (user + system) | memory | bytes on disk a look | its times | all servers killed |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
        plan.targets, plan.minutes
    );
    costs.iter().for_each(|cost| _ = writeln!(out, "{}", line(cost)));
    out.push_str(
        "\nOn disk is what the folder grew by while it was measured. Of Mainstay's looks that is a journal and the figures of each \
         minute; *packed* is what they take when their hour is long over ([monitors](../docs/monitors.md#every-look)), with the figures \
         of that hour. It was made by starting the program again with its clock ahead, and the hour was watched for some minutes only: a \
         whole one takes less a look, and a year of them 3.8 bytes with all its figures ([HISTORY.md](HISTORY.md)). Of Prometheus it is the write-ahead log, which is packed after two hours, with about fifteen \
         series a target.\n",
    );
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_the_metrics() {
        let metrics =
            "# TYPE x histogram\nx_bucket{le=\"0.1\"} 7\nx_bucket{le=\"+Inf\"} 9\nopen 2.0\nopen_not 3\n";
        assert_eq!(buckets(metrics, "x_bucket"), [("0.1".to_owned(), 7), ("+Inf".to_owned(), 9)]);
        assert_eq!((gauge(metrics, "open"), gauge(metrics, "op")), (Some(2.0), None));
    }

    #[test]
    fn every_target_is_named_once_in_every_config() {
        let urls = ["http://127.1.0.1:80/0".to_owned(), "http://127.1.0.1:80/1".to_owned()];
        let vigil = services(&urls, 3, Path::new("/x"));
        for text in [monitors(&urls, 1, Path::new("/x")), scrapes(&urls, 2), vigil] {
            assert!(urls.iter().all(|url| text.matches(url.as_str()).count() == 1), "{text}");
        }
    }
}
