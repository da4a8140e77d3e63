//! What a `node_exporter` says of its machine, as figures: the text format of Prometheus, and its counters as rates.

use std::collections::BTreeMap;
use std::time::Instant;

use mainstay_model::host::{Cpu, Disk, HostReport, Io, IoErrors, Memory, Network, Pressure, Tcp};

use super::parse::{is_virtual, is_whole_device};

/// Lines beyond these are left out: a machine has a few thousand.
const LINES_MAX: usize = 200_000;

/// One value with its name and labels.
#[derive(Debug, Clone, PartialEq)]
struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, String>,
    value: f64,
}

impl Sample<'_> {
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The values of a text; lines that are none are left out.
fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().take(LINES_MAX).filter(|line| line.starts_with("node_")).filter_map(sample)
}

/// `name{label="value",…} 12.5`, perhaps with a time behind it.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok().filter(|value: &f64| value.is_finite())?;
    Some(Sample { name, labels, value })
}

/// What stands between braces, and what comes after them.
fn labels(mut rest: &str) -> Option<(BTreeMap<&str, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = quoted.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => match letters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, letter) => value.push(letter),
            }
        };
        labels.insert(name, value);
        rest = &quoted[end + 1..];
    }
}

/// What was read once: what is told as it is, and what counts up.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    report: HostReport,
    /// Seconds of all processors by mode.
    cpu: BTreeMap<String, f64>,
    /// Seconds in which somebody waited: for a processor, memory, a disk.
    waited: [Option<f64>; 3],
    /// Bytes read and written.
    disk: Option<(f64, f64)>,
    /// Seconds in which each disk was busy.
    busy: BTreeMap<String, f64>,
    /// Bytes received and sent, packets with errors and dropped.
    network: Option<[f64; 4]>,
    /// Segments sent, and sent again.
    tcp: (Option<f64>, Option<f64>),
}

/// A file system as it is gathered.
#[derive(Debug, Default)]
struct Mounted {
    size: Option<f64>,
    free: Option<f64>,
    available: Option<f64>,
    files: f64,
    files_free: f64,
    read_only: bool,
}

/// Reads a text. `None`: that is no `node_exporter`.
pub(super) fn read(text: &str) -> Option<Reading> {
    let mut reading = Reading::default();
    let mut memory: BTreeMap<&str, f64> = BTreeMap::new();
    let mut mounts: BTreeMap<(String, String), Mounted> = BTreeMap::new();
    let mut errors: BTreeMap<String, f64> = BTreeMap::new();
    let mut load = [None; 3];
    let mut processors: u32 = 0;
    let mut is_one = false;
    for sample in samples(text) {
        is_one = true;
        let (value, device) = (sample.value, sample.label("device"));
        let name = &sample.name["node_".len()..];
        match name {
            "cpu_seconds_total" => {
                *reading.cpu.entry(sample.label("mode").to_owned()).or_default() += value;
                processors += u32::from(sample.label("mode") == "idle");
            }
            "load1" => load[0] = Some(value),
            "load5" => load[1] = Some(value),
            "load15" => load[2] = Some(value),
            "memory_MemTotal_bytes"
            | "memory_MemAvailable_bytes"
            | "memory_SwapTotal_bytes"
            | "memory_SwapFree_bytes" => _ = memory.insert(sample.name, value),
            "pressure_cpu_waiting_seconds_total" => reading.waited[0] = Some(value),
            "pressure_memory_waiting_seconds_total" => reading.waited[1] = Some(value),
            "pressure_io_waiting_seconds_total" => reading.waited[2] = Some(value),
            "disk_read_bytes_total" if is_whole_device(device) => {
                reading.disk.get_or_insert_default().0 += value;
            }
            "disk_written_bytes_total" if is_whole_device(device) => {
                reading.disk.get_or_insert_default().1 += value;
            }
            "disk_io_time_seconds_total" if is_whole_device(device) => {
                reading.busy.insert(device.to_owned(), value);
            }
            "netstat_Tcp_OutSegs" => reading.tcp.0 = Some(value),
            "netstat_Tcp_RetransSegs" => reading.tcp.1 = Some(value),
            "vmstat_oom_kill" => reading.report.oom_kills = Some(value as u64),
            "btrfs_device_errors_total" => *errors.entry(device.to_owned()).or_default() += value,
            _ => {
                if let Some(place) = of_network(name).filter(|_| !is_virtual(device)) {
                    reading.network.get_or_insert_default()[place] += value;
                } else if let Some(figure) = name.strip_prefix("filesystem_")
                    && holds_data(device, sample.label("fstype"))
                {
                    let key = (device.to_owned(), sample.label("mountpoint").to_owned());
                    mounts.entry(key).or_default().add(figure, value);
                }
            }
        }
    }
    let of = |name: &str| memory.get(format!("node_memory_{name}_bytes").as_str()).map(|bytes| *bytes as u64);
    let (swap_total, swap_free) = (of("SwapTotal").unwrap_or(0), of("SwapFree").unwrap_or(0));
    let memory = of("MemTotal").zip(of("MemAvailable"));
    reading.report.memory = memory.map(|(total, available)| Memory {
        total,
        available,
        swap_total,
        swap_used: swap_total.saturating_sub(swap_free),
    });
    reading.report.processors = (processors > 0).then_some(processors);
    reading.report.load =
        load[0].zip(load[1]).zip(load[2]).map(|((one, five), fifteen)| [one, five, fifteen]);
    reading.report.disks = disks(mounts);
    let errors = errors.into_iter().take(HostReport::DEVICES_MAX);
    let errors = errors.map(|(device, count)| {
        let device = device.strip_prefix("/dev/").unwrap_or(&device).to_owned();
        IoErrors { device, filesystem: Some("btrfs".to_owned()), count: count as u64 }
    });
    reading.report.io_errors = errors.collect();
    is_one.then_some(reading)
}

/// The place of a network counter: bytes received and sent, errors, dropped.
fn of_network(name: &str) -> Option<usize> {
    match name {
        "network_receive_bytes_total" => Some(0),
        "network_transmit_bytes_total" => Some(1),
        "network_receive_errs_total" | "network_transmit_errs_total" => Some(2),
        "network_receive_drop_total" | "network_transmit_drop_total" => Some(3),
        _ => None,
    }
}

/// Something that fills up: on a disk, and not an image that is read only.
fn holds_data(device: &str, kind: &str) -> bool {
    (device.starts_with("/dev/") || kind == "zfs") && !matches!(kind, "squashfs" | "iso9660" | "erofs")
}

impl Mounted {
    fn add(&mut self, figure: &str, value: f64) {
        match figure {
            "size_bytes" => self.size = Some(value),
            "free_bytes" => self.free = Some(value),
            "avail_bytes" => self.available = Some(value),
            "files" => self.files = value,
            "files_free" => self.files_free = value,
            "readonly" => self.read_only = value > 0.0,
            _ => {}
        }
    }
}

/// Each device once, by the shortest place where it is mounted.
fn disks(mounts: BTreeMap<(String, String), Mounted>) -> Vec<Disk> {
    let mut by_device: BTreeMap<String, Disk> = BTreeMap::new();
    for ((device, mount), found) in mounts {
        let Mounted { size: Some(size), free: Some(free), available: Some(available), .. } = found else {
            continue;
        };
        let shorter = by_device.get(&device).is_none_or(|known| mount.len() < known.mount.len());
        if found.read_only || size <= 0.0 || !shorter {
            continue;
        }
        let inodes = (found.files > 0.0)
            .then(|| ((found.files - found.files_free).max(0.0) as u64, found.files_free as u64));
        let used = (size - free).max(0.0) as u64;
        let disk = Disk { mount, used, available: available as u64, inodes, own_data: false };
        by_device.insert(device, disk);
    }
    by_device.into_values().take(HostReport::DISKS_MAX).collect()
}

impl Reading {
    /// The figures, with rates since an earlier reading.
    pub(super) fn since(&self, before: Option<&(Instant, Reading)>, now: Instant) -> HostReport {
        let mut report = self.report.clone();
        let Some((then, before)) = before else { return report };
        let seconds = (now - *then).as_secs_f64();
        if seconds <= 0.0 {
            return report;
        }
        // A counter that went back is of a machine that was started anew.
        let more = |before: f64, after: f64| Some(after - before).filter(|more| *more >= 0.0);
        let rate = |before: f64, after: f64| more(before, after).map(|more| more / seconds);
        report.cpu = cpu(&before.cpu, &self.cpu);
        let waited = |place: usize| {
            let share = rate(before.waited[place]?, self.waited[place]?)?;
            Some(share.min(1.0))
        };
        report.pressure = Pressure { cpu: waited(0), memory: waited(1), io: waited(2) };
        let busy = self.busy.iter().filter_map(|(name, after)| rate(*before.busy.get(name)?, *after));
        let busy = busy.fold(0.0, f64::max).min(1.0);
        report.io = before.disk.zip(self.disk).and_then(|(before, after)| {
            Some(Io { read: rate(before.0, after.0)?, written: rate(before.1, after.1)?, busy })
        });
        report.network = before.network.zip(self.network).and_then(|(before, after)| {
            let of = |place: usize| rate(before[place], after[place]);
            Some(Network {
                received: of(0)?,
                sent: of(1)?,
                errors: of(2)?,
                dropped: of(3)?,
                errors_total: after[2] as u64,
                dropped_total: after[3] as u64,
            })
        });
        report.tcp = (|| {
            let (sent, again) = (self.tcp.0?, self.tcp.1?);
            Some(Tcp {
                sent: rate(before.tcp.0?, sent)?,
                retransmitted: rate(before.tcp.1?, again)?,
                sent_total: sent as u64,
                retransmitted_total: again as u64,
            })
        })();
        report
    }
}

fn cpu(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Option<Cpu> {
    let spent = |mode: &str| {
        let (before, after) = (before.get(mode)?, after.get(mode)?);
        // What processors waited may go back a little.
        Some((after - before).max(0.0))
    };
    let of = |modes: &[&str]| modes.iter().filter_map(|mode| spent(mode)).sum::<f64>();
    let (user, system) = (of(&["user", "nice"]), of(&["system", "irq", "softirq"]));
    let (idle, iowait, steal) = (spent("idle")?, of(&["iowait"]), of(&["steal"]));
    let all = user + system + idle + iowait + steal;
    (all > 0.0).then(|| Cpu {
        user: user / all,
        system: system / all,
        iowait: iowait / all,
        steal: steal / all,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// As Debian's 1.5 says it.
    fn text(at: f64) -> String {
        format!(
            "# HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 0.5\nnode_load5 0.25\nnode_load15 1\n\
             node_cpu_seconds_total{{cpu=\"0\",mode=\"idle\"}} {idle}\nnode_cpu_seconds_total{{cpu=\"1\",mode=\"idle\"}} 100\n\
             node_cpu_seconds_total{{cpu=\"0\",mode=\"user\"}} {user}\nnode_cpu_seconds_total{{cpu=\"0\",mode=\"iowait\"}} 5\n\
             node_memory_MemTotal_bytes 8.0e+09\nnode_memory_MemAvailable_bytes 2.0e+09\nnode_memory_SwapTotal_bytes 100\n\
             node_memory_SwapFree_bytes 25\nnode_pressure_io_waiting_seconds_total {waited}\n\
             node_filesystem_size_bytes{{device=\"/dev/sda1\",fstype=\"ext4\",mountpoint=\"/\"}} 1000\n\
             node_filesystem_free_bytes{{device=\"/dev/sda1\",fstype=\"ext4\",mountpoint=\"/\"}} 300\n\
             node_filesystem_avail_bytes{{device=\"/dev/sda1\",fstype=\"ext4\",mountpoint=\"/\"}} 250\n\
             node_filesystem_size_bytes{{device=\"/dev/sda1\",fstype=\"ext4\",mountpoint=\"/bind/mount\"}} 1000\n\
             node_filesystem_size_bytes{{device=\"tmpfs\",fstype=\"tmpfs\",mountpoint=\"/run\"}} 9\n\
             node_disk_read_bytes_total{{device=\"sda\"}} {bytes}\nnode_disk_written_bytes_total{{device=\"sda\"}} 0\n\
             node_disk_io_time_seconds_total{{device=\"sda\"}} {waited}\nnode_disk_read_bytes_total{{device=\"dm-0\"}} 5\n\
             node_network_receive_bytes_total{{device=\"eth0\"}} {bytes}\nnode_network_receive_bytes_total{{device=\"lo\"}} 7\n\
             node_network_receive_errs_total{{device=\"eth0\"}} {user}\nnode_netstat_Tcp_OutSegs {bytes}\n\
             node_netstat_Tcp_RetransSegs {user}\nnode_vmstat_oom_kill 3\n",
            idle = 100.0 + at * 0.5,
            user = at * 0.5,
            waited = at * 0.1,
            bytes = at * 1000.0,
        )
    }

    #[test]
    fn two_readings_are_the_figures_of_a_machine() {
        let begun = Instant::now();
        let first = read(&text(0.0)).unwrap();
        let report = first.since(None, begun);
        assert_eq!((report.processors, report.load, report.cpu), (Some(2), Some([0.5, 0.25, 1.0]), None));
        let report = read(&text(10.0)).unwrap().since(Some(&(begun, first)), begun + Duration::from_secs(10));
        assert!((report.cpu.unwrap().busy() - 0.5).abs() < 1e-9, "{:?}", report.cpu);
        let memory = report.memory.unwrap();
        assert_eq!((memory.total, memory.available, memory.swap_used), (8_000_000_000, 2_000_000_000, 75));
        assert_eq!(report.pressure.cpu, None);
        assert!(report.pressure.io.is_some_and(|share| (share - 0.1).abs() < 1e-9));
        let disk = Disk { mount: "/".into(), used: 700, available: 250, ..Disk::default() };
        assert_eq!(report.disks, [disk]);
        assert!(report.io.is_some_and(|io| io.read == 1000.0 && (io.busy - 0.1).abs() < 1e-9));
        assert!(
            report.network.is_some_and(|n| n.received == 1000.0 && n.errors == 0.5 && n.errors_total == 5)
        );
        assert!(report.tcp.is_some_and(|tcp| tcp.sent == 1000.0 && tcp.retransmitted_total == 5));
        assert_eq!(report.oom_kills, Some(3));
    }

    #[test]
    fn a_machine_that_was_started_anew_has_no_rates_for_once() {
        let begun = Instant::now();
        let report = read(&text(1.0))
            .unwrap()
            .since(Some(&(begun, read(&text(9.0)).unwrap())), begun + Duration::from_secs(1));
        assert_eq!((report.network, report.tcp, report.io), (None, None, None));
        assert!(report.memory.is_some());
    }

    #[test]
    fn labels_may_hold_anything() {
        let found = sample(r#"node_x{a="q\"}\\ \n",b="é,{"} -1.5e3 1700"#).unwrap();
        assert_eq!((found.name, found.value), ("node_x", -1500.0));
        assert_eq!((found.label("a"), found.label("b")), ("q\"}\\ \n", "é,{"));
        for broken in ["node_x", "node_x{", "node_x{a=\"", "node_x{a=\"b\"}", "node_x NaN", "node_x{a} 1"] {
            assert_eq!(sample(broken), None, "{broken}");
        }
        assert_eq!(read("<html>It works</html>"), None);
        assert_eq!(read(""), None);
    }

    proptest! {
        /// Whatever answers, nothing panics.
        #[test]
        fn no_text_is_too_strange(text in "(?s)(node_[a-z_]{0,12}[{} =\",\\\\a-zé0-9.\n-]{0,40}\n?){0,20}", cut in 0usize..4000) {
            let _ = read(&text).map(|reading| reading.since(Some(&(Instant::now(), Reading::default())), Instant::now()));
            let whole = super::tests::text(3.0);
            if let Some(part) = whole.get(..cut.min(whole.len())) {
                let _ = read(part);
            }
        }
    }
}
