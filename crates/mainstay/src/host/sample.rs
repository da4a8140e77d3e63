//! One look at the machine: reads each file once and turns counters into rates.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mainstay_model::host::{Cpu, HostReport, Io, IoErrors, Network, Pressure, Tcp};

use super::errors;
use super::group::Groups;
use super::parse::{self, CardCounters, DiskCounters, Ticks};

/// Control groups are looked for anew after so many samples: Mainstay may be moved to another.
const FIND_GROUPS_EVERY: u32 = 30;
/// Errors of disks are looked for after so many: they lie in many small files.
const FIND_ERRORS_EVERY: u32 = 5;
/// No file of ours is longer.
const LONGEST: u64 = 1 << 20;

/// Reads, and remembers the counters of the last time.
#[derive(Debug)]
pub(super) struct Sampler {
    proc: PathBuf,
    sys: PathBuf,
    groups: Groups,
    samples: u32,
    ticks: Option<Ticks>,
    disks: Option<(Instant, DiskCounters)>,
    network: Option<(Instant, CardCounters)>,
    tcp: Option<(Instant, (u64, u64))>,
    errors: Vec<IoErrors>,
}

impl Sampler {
    pub(super) fn new(proc: PathBuf, sys: PathBuf) -> Self {
        Self {
            groups: Groups::default(),
            proc,
            sys,
            samples: 0,
            ticks: None,
            disks: None,
            network: None,
            tcp: None,
            errors: Vec::new(),
        }
    }

    /// All figures but those of file systems and of servers.
    pub(super) fn read(&mut self, now: Instant) -> HostReport {
        if self.samples.is_multiple_of(FIND_GROUPS_EVERY) {
            let earlier = std::mem::take(&mut self.groups);
            self.groups = Groups::find(&self.proc, &self.sys.join("fs/cgroup")).with_periods_of(earlier);
        }
        if self.samples.is_multiple_of(FIND_ERRORS_EVERY) {
            self.errors = errors::read(&self.sys);
        }
        self.samples = self.samples.wrapping_add(1);
        let ticks = self.text("stat").and_then(|text| parse::stat(&text));
        let pressure = |name: &str| {
            let text = self.text(&format!("pressure/{name}"))?;
            parse::pressure(&text)
        };
        let pressure = Pressure { cpu: pressure("cpu"), memory: pressure("memory"), io: pressure("io") };
        let counters = self.text("diskstats").and_then(|text| parse::diskstats(&text));
        let cards = self.text("net/dev").and_then(|text| parse::net_dev(&text));
        let segments = self.text("net/snmp").and_then(|text| parse::tcp_segments(&text));
        // The group's own count also knows of servers that were killed by a limit of their own.
        let own_kills = self.groups.oom_kills();
        let kills = own_kills.or_else(|| self.text("vmstat").and_then(|text| parse::oom_kills(&text)));
        HostReport {
            processors: ticks.map(|ticks| ticks.processors).filter(|n| *n > 0),
            cpu: cpu(std::mem::replace(&mut self.ticks, ticks), ticks),
            load: self.text("loadavg").and_then(|text| parse::loadavg(&text)),
            memory: self.text("meminfo").and_then(|text| parse::meminfo(&text)),
            pressure,
            io: io(&mut self.disks, counters, now),
            network: network(&mut self.network, cards, now),
            tcp: tcp(&mut self.tcp, segments, now),
            io_errors: self.errors.clone(),
            group: self.groups.read(),
            oom_kills: kills,
            ..HostReport::default()
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        read_short(&self.proc.join(name))
    }
}

fn read_short(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

fn cpu(before: Option<Ticks>, now: Option<Ticks>) -> Option<Cpu> {
    let (before, now) = (before?, now?);
    let all = now.total()?.checked_sub(before.total()?).filter(|all| *all > 0)? as f64;
    // iowait may go back a little; every other counter that does is not understood.
    let share = |figure: fn(&Ticks) -> u64| Some(figure(&now).checked_sub(figure(&before))? as f64 / all);
    Some(Cpu {
        user: share(|t| t.user)?,
        system: share(|t| t.system)?,
        iowait: share(|t| t.iowait).unwrap_or(0.0),
        steal: share(|t| t.steal)?,
    })
}

fn io(
    last: &mut Option<(Instant, DiskCounters)>,
    counters: Option<DiskCounters>,
    now: Instant,
) -> Option<Io> {
    let before = std::mem::replace(last, counters.map(|counters| (now, counters)));
    let ((then, before), (_, after)) = (before?, last.as_ref()?);
    let seconds = (now - then).as_secs_f64();
    let rate = |before: u64, after: u64| Some(after.checked_sub(before)? as f64 / seconds);
    let busy = after.busy_ms.iter().filter_map(|(name, ms)| {
        let (_, earlier) = before.busy_ms.iter().find(|(other, _)| other == name)?;
        Some(ms.checked_sub(*earlier)? as f64 / 1000.0 / seconds)
    });
    let io = Io {
        read: rate(before.read, after.read)?,
        written: rate(before.written, after.written)?,
        busy: busy.fold(0.0, f64::max).min(1.0),
    };
    (seconds > 0.0).then_some(io)
}

fn network(
    last: &mut Option<(Instant, CardCounters)>,
    counters: Option<CardCounters>,
    now: Instant,
) -> Option<Network> {
    let before = std::mem::replace(last, counters.map(|counters| (now, counters)));
    let ((then, before), (_, after)) = (before?, (*last)?);
    let seconds = (now - then).as_secs_f64();
    // A card that went away takes its counters with it.
    let rate = |before: u64, after: u64| Some(after.checked_sub(before)? as f64 / seconds);
    let network = Network {
        received: rate(before.received, after.received)?,
        sent: rate(before.sent, after.sent)?,
        errors: rate(before.errors, after.errors)?,
        dropped: rate(before.dropped, after.dropped)?,
        errors_total: after.errors,
        dropped_total: after.dropped,
    };
    (seconds > 0.0).then_some(network)
}

fn tcp(last: &mut Option<(Instant, (u64, u64))>, counters: Option<(u64, u64)>, now: Instant) -> Option<Tcp> {
    let before = std::mem::replace(last, counters.map(|counters| (now, counters)));
    let ((then, before), (_, after)) = (before?, (*last)?);
    let seconds = (now - then).as_secs_f64();
    let rate = |before: u64, after: u64| Some(after.checked_sub(before)? as f64 / seconds);
    let tcp = Tcp {
        sent: rate(before.0, after.0)?,
        retransmitted: rate(before.1, after.1)?,
        sent_total: after.0,
        retransmitted_total: after.1,
    };
    (seconds > 0.0).then_some(tcp)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sampler(home: &Path) -> Sampler {
        Sampler::new(home.to_owned(), home.join("sys"))
    }

    #[test]
    fn the_first_look_has_no_rates_and_the_second_has() {
        let home = tempfile::tempdir().unwrap();
        let stat = |busy: u64, idle: u64| format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1\ncpu1 1\n");
        fs::write(home.path().join("stat"), stat(100, 100)).unwrap();
        fs::write(home.path().join("diskstats"), "8 0 sda 1 0 100 5 2 0 200 7 0 500 60\n").unwrap();
        let mut sampler = sampler(home.path());
        let begun = Instant::now();
        let first = sampler.read(begun);
        assert_eq!((first.cpu, first.io, first.processors), (None, None, Some(2)));
        fs::write(home.path().join("stat"), stat(175, 125)).unwrap();
        fs::write(home.path().join("diskstats"), "8 0 sda 1 0 104 5 2 0 200 7 0 1500 60\n").unwrap();
        let second = sampler.read(begun + Duration::from_secs(2));
        assert!((second.cpu.unwrap().busy() - 0.75).abs() < 1e-9);
        assert_eq!(second.io, Some(Io { read: 1024.0, written: 0.0, busy: 0.5 }));
    }

    #[test]
    fn what_is_sent_again_and_what_is_lost_are_rates_and_totals() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("net")).unwrap();
        fs::create_dir_all(home.path().join("sys/fs/ext4/sda1")).unwrap();
        let write = |errors: u64, again: u64| {
            let dev = format!("Inter-| x\n face | x\n eth0: 0 0 {errors} 4 0 0 0 0 9 0 0 0 0 0 0 0\n");
            fs::write(home.path().join("net/dev"), dev).unwrap();
            let snmp = format!("Tcp: OutSegs RetransSegs\nTcp: {} {again}\n", again * 3);
            fs::write(home.path().join("net/snmp"), snmp).unwrap();
        };
        fs::write(home.path().join("sys/fs/ext4/sda1/errors_count"), "2\n").unwrap();
        let mut sampler = sampler(home.path());
        let begun = Instant::now();
        write(10, 100);
        assert_eq!(sampler.read(begun).tcp, None);
        write(16, 120);
        let report = sampler.read(begun + Duration::from_secs(2));
        let (network, tcp) = (report.network.unwrap(), report.tcp.unwrap());
        assert_eq!(
            (network.errors, network.errors_total, network.dropped, network.dropped_total),
            (3.0, 16, 0.0, 4)
        );
        assert_eq!((tcp.sent, tcp.retransmitted, tcp.retransmitted_total), (30.0, 10.0, 120));
        assert!((tcp.retransmitted_share() - 0.25).abs() < 1e-9);
        assert_eq!((report.io_errors[0].name().as_str(), report.io_errors[0].count), ("sda1 (ext4)", 2));
    }

    #[test]
    fn a_file_that_is_missing_or_strange_is_an_unknown_figure_and_no_other_suffers() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("stat"), "what\n").unwrap();
        fs::write(home.path().join("loadavg"), "1.00 2.00 3.00 1/1 1\n").unwrap();
        fs::write(home.path().join("meminfo"), [0xff, 0xfe, 0x00]).unwrap();
        let report = sampler(home.path()).read(Instant::now());
        let load = report.load;
        assert_eq!(load, Some([1.0, 2.0, 3.0]));
        assert_eq!(report, HostReport { load, ..HostReport::default() });
    }

    #[test]
    fn counters_that_went_back_are_unknown() {
        let home = tempfile::tempdir().unwrap();
        let net = |received: u64| {
            format!("Inter-| x\n face | x\n eth0: {received} 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n")
        };
        fs::create_dir(home.path().join("net")).unwrap();
        let begun = Instant::now();
        let mut sampler = sampler(home.path());
        let mut at = |second: u64, received: u64| {
            fs::write(home.path().join("net/dev"), net(received)).unwrap();
            sampler.read(begun + Duration::from_secs(second)).network
        };
        assert_eq!(at(0, 1000), None);
        assert_eq!(at(1, 500), None);
        assert_eq!(at(2, 600), Some(Network { received: 100.0, ..Network::default() }));
    }

    #[test]
    fn this_machine_can_be_read() {
        let mut sampler = Sampler::new("/proc".into(), "/sys".into());
        let report = sampler.read(Instant::now());
        assert!(report.memory.is_some_and(|memory| memory.total > 0 && memory.available <= memory.total));
        assert!(report.load.is_some() && report.processors.is_some());
    }
}
