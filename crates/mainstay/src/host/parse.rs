//! Parsers of what the kernel says in /proc. Each gives `None` for a text that it does not understand: unknown, never zero,
//! never a panic.

/// A number in a text, as the kernel writes them.
fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// Ticks of all processors together since the machine was started: the line `cpu` of /proc/stat, and how many
/// processors there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ticks {
    /// `user` and `nice`; guests are among them already.
    pub(super) user: u64,
    /// `system`, `irq` and `softirq`.
    pub(super) system: u64,
    pub(super) idle: u64,
    pub(super) iowait: u64,
    pub(super) steal: u64,
    pub(super) processors: u32,
}

impl Ticks {
    pub(super) fn total(&self) -> Option<u64> {
        let parts = [self.user, self.system, self.idle, self.iowait, self.steal];
        parts.into_iter().try_fold(0u64, |sum, part| sum.checked_add(part))
    }
}

/// /proc/stat.
pub(super) fn stat(text: &str) -> Option<Ticks> {
    let mut lines = text.lines();
    let all: Vec<u64> =
        lines.next()?.strip_prefix("cpu ")?.split_whitespace().map(number).collect::<Option<_>>()?;
    let at = |place: usize| all.get(place).copied();
    let is_processor = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let processors = u32::try_from(lines.take_while(is_processor).count()).ok()?;
    Some(Ticks {
        user: at(0)?.checked_add(at(1)?)?,
        // Old kernels have fewer columns.
        system: at(2)?.checked_add(at(5).unwrap_or(0))?.checked_add(at(6).unwrap_or(0))?,
        idle: at(3)?,
        iowait: at(4).unwrap_or(0),
        steal: at(7).unwrap_or(0),
        processors,
    })
}

/// /proc/loadavg: over 1, 5 and 15 minutes.
pub(super) fn loadavg(text: &str) -> Option<[f64; 3]> {
    let mut parts = text.split_whitespace();
    let mut next = || parts.next()?.parse().ok().filter(|load: &f64| load.is_finite() && *load >= 0.0);
    Some([next()?, next()?, next()?])
}

/// /proc/meminfo: a line's value in bytes.
fn meminfo_line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    number(rest.trim().strip_suffix(" kB")?.trim_end())?.checked_mul(1024)
}

/// /proc/meminfo.
pub(super) fn meminfo(text: &str) -> Option<mainstay_model::host::Memory> {
    let line = |name| meminfo_line(text, name);
    let (swap_total, swap_free) = (line("SwapTotal").unwrap_or(0), line("SwapFree").unwrap_or(0));
    Some(mainstay_model::host::Memory {
        total: line("MemTotal")?,
        available: line("MemAvailable")?,
        swap_total,
        swap_used: swap_total.saturating_sub(swap_free),
    })
}

/// A file of /proc/pressure: the share of the last ten seconds in which somebody waited.
pub(super) fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = some.split_whitespace().find_map(|part| part.strip_prefix("avg10="))?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

/// /proc/vmstat: processes that the kernel has killed for want of memory.
pub(super) fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| number(line.strip_prefix("oom_kill ")?.trim()))
}

/// Counters of block devices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct DiskCounters {
    pub(super) read: u64,
    pub(super) written: u64,
    /// By device: milliseconds in which it had something to do.
    pub(super) busy_ms: Vec<(String, u64)>,
}

/// Devices beyond these are left out.
const DEVICES_MAX: usize = 256;

/// /proc/diskstats: whole devices only; partitions and what is made of other devices would be counted twice.
pub(super) fn diskstats(text: &str) -> Option<DiskCounters> {
    const SECTOR: u64 = 512;
    let mut sum = DiskCounters::default();
    for line in text.lines() {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let name = *parts.get(2)?;
        if !is_whole_device(name) || sum.busy_ms.len() >= DEVICES_MAX {
            continue;
        }
        let at = |place: usize| number(parts.get(place)?);
        sum.read = sum.read.checked_add(at(5)?.checked_mul(SECTOR)?)?;
        sum.written = sum.written.checked_add(at(9)?.checked_mul(SECTOR)?)?;
        sum.busy_ms.push((name.to_owned(), at(12)?));
    }
    Some(sum)
}

/// `sda`, `vdb`, `xvda`, `hda`, `nvme0n1`, `mmcblk0`.
pub(super) fn is_whole_device(name: &str) -> bool {
    let letters = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase()))
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let nvme = name.strip_prefix("nvme").and_then(|rest| rest.split_once('n'));
    ["sd", "vd", "xvd", "hd"].into_iter().any(letters)
        || nvme.is_some_and(|(controller, space)| digits(controller) && digits(space))
        || name.strip_prefix("mmcblk").is_some_and(digits)
}

/// Counters of network cards, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CardCounters {
    /// Bytes.
    pub(super) received: u64,
    /// Bytes.
    pub(super) sent: u64,
    /// Packets, both ways.
    pub(super) errors: u64,
    /// Packets, both ways.
    pub(super) dropped: u64,
}

/// /proc/net/dev.
pub(super) fn net_dev(text: &str) -> Option<CardCounters> {
    let mut lines = text.lines();
    // Two lines of headings.
    if !lines.next()?.starts_with("Inter-") {
        return None;
    }
    lines.next()?;
    let mut sum = CardCounters::default();
    for line in lines {
        let (name, rest) = line.split_once(':')?;
        if is_virtual(name.trim()) {
            continue;
        }
        let parts: Vec<&str> = rest.split_whitespace().collect();
        let at = |place: usize| number(parts.get(place)?);
        let both = |received: usize, sent: usize| at(received)?.checked_add(at(sent)?);
        sum = CardCounters {
            received: sum.received.checked_add(at(0)?)?,
            sent: sum.sent.checked_add(at(8)?)?,
            errors: sum.errors.checked_add(both(2, 10)?)?,
            dropped: sum.dropped.checked_add(both(3, 11)?)?,
        };
    }
    Some(sum)
}

/// /proc/net/snmp: TCP's segments that were sent for the first time, and again.
pub(super) fn tcp_segments(text: &str) -> Option<(u64, u64)> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next()?.split(' '), lines.next()?.split(' '));
    let of = |wanted: &str| {
        let (_, value) = names.clone().zip(values.clone()).find(|(name, _)| *name == wanted)?;
        number(value)
    };
    Some((of("OutSegs")?, of("RetransSegs")?))
}

/// `0x1f`.
pub(super) fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.trim().strip_prefix("0x")?;
    // A sign would be taken, too.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// A device's `error_stats` of btrfs: all kinds together.
pub(super) fn btrfs_errors(text: &str) -> Option<u64> {
    let count = |line: &str| number(line.split_once("_errs ")?.1.trim());
    text.lines().map(count).reduce(|sum, count| sum?.checked_add(count?))?
}

/// What goes through these goes through another card too, or through none.
pub(super) fn is_virtual(name: &str) -> bool {
    const PREFIXES: [&str; 16] = [
        "veth", "docker", "br-", "virbr", "vnet", "cni", "flannel", "cali", "dummy", "ifb", "bond", "team",
        "tun", "tap", "wg", "tunl",
    ];
    name == "lo" || name.contains('.') || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What of /proc/PID/stat is of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProcessStat {
    /// At most 15 characters, whatever the process called itself; control characters are left out.
    pub(super) name: String,
    pub(super) parent: u32,
    /// Ticks in programs and in the kernel.
    pub(super) ticks: u64,
    /// Ticks from the machine's start to the process': with the number it tells a process from a later one.
    pub(super) started: u64,
    /// Resident pages.
    pub(super) pages: u64,
}

/// /proc/PID/stat. A process may have any name, parentheses and spaces among it.
pub(super) fn process_stat(text: &str) -> Option<ProcessStat> {
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let name = text.get(open + 1..close)?;
    let parts: Vec<&str> = text.get(close + 1..)?.split_whitespace().collect();
    // The first of them is the third field of the manual: state.
    let at = |field: usize| parts.get(field - 3).copied();
    Some(ProcessStat {
        name: name.chars().filter(|c| !c.is_control()).take(15).collect(),
        parent: at(4)?.parse().ok()?,
        ticks: number(at(14)?)?.checked_add(number(at(15)?)?)?,
        started: number(at(22)?)?,
        pages: number(at(24)?)?,
    })
}

/// Numbers of processes in a file of children, `/proc/PID/task/TID/children`.
pub(super) fn children(text: &str) -> Vec<u32> {
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A mount that a path may lie on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: String,
    pub(super) kind: String,
    pub(super) read_only: bool,
}

/// /proc/self/mountinfo, in its order: of two mounts at one place the later covers the earlier.
pub(super) fn mountinfo(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let parts: Vec<&str> = left.split(' ').collect();
        let options = *parts.get(5)?;
        Some(Mount {
            point: unescape(parts.get(4)?),
            kind: right.split(' ').next()?.to_owned(),
            read_only: options.split(',').any(|option| option == "ro"),
        })
    };
    text.lines().filter_map(mount).collect()
}

/// Spaces and the like are written as `\040` there.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|d| first == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match digits {
            Some(digits) => {
                let value = digits.iter().fold(0u32, |sum, b| sum * 8 + u32::from(b - b'0'));
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "cpu  100 5 30 800 40 1 2 7 0 0\ncpu0 50 0 15 400 20 0 1 3 0 0\ncpu1 50 5 15 400 20 1 1 4 0 0\n\
                        intr 1 2 3\nctxt 9\n";

    #[test]
    fn what_the_processors_did_is_read() {
        let ticks = stat(STAT).unwrap();
        assert_eq!((ticks.user, ticks.system, ticks.idle), (105, 33, 800));
        assert_eq!((ticks.iowait, ticks.steal, ticks.processors), (40, 7, 2));
        assert_eq!(stat("cpu  1 2\n"), None);
        assert_eq!(stat("cpu  18446744073709551615 5 30 800\n"), None);
    }

    #[test]
    fn memory_is_read_in_bytes_and_without_an_estimate_it_is_unknown() {
        let text = "MemTotal:        8000 kB\nMemFree:  100 kB\nMemAvailable:    4000 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n";
        let memory = meminfo(text).unwrap();
        assert_eq!((memory.total, memory.available), (8000 * 1024, 4000 * 1024));
        assert_eq!((memory.swap_total, memory.swap_used), (10 * 1024, 6 * 1024));
        assert_eq!(meminfo("MemTotal: 8000 kB\n"), None);
    }

    #[test]
    fn loads_pressures_and_kills_are_read() {
        assert_eq!(loadavg("0.50 1.25 2.00 1/234 5678\n"), Some([0.5, 1.25, 2.0]));
        assert_eq!(loadavg("0.5 nan 2.0"), None);
        let text =
            "some avg10=12.50 avg60=1.00 avg300=0.10 total=1\nfull avg10=3.00 avg60=0 avg300=0 total=1\n";
        assert_eq!(pressure(text), Some(0.125));
        assert_eq!(pressure("some avg10=1e9"), None);
        assert_eq!(oom_kills("pgfault 1\noom_kill 3\n"), Some(3));
        assert_eq!(oom_kills("oom_kill_x 3\n"), None);
    }

    #[test]
    fn whole_devices_are_counted_once() {
        let text = "   8 0 sda 10 0 100 5 20 0 200 7 0 50 60\n   8 1 sda1 10 0 100 5 20 0 200 7 0 50 60\n \
                    259 0 nvme0n1 1 0 8 0 1 0 8 0 0 3 3\n 253 0 dm-0 1 0 8 0 1 0 8 0 0 3 3\n 7 0 loop0 1 0 8 0 1 0 8 0 0 3 3\n";
        let counters = diskstats(text).unwrap();
        assert_eq!((counters.read, counters.written), (108 * 512, 208 * 512));
        assert_eq!(counters.busy_ms, [("sda".to_owned(), 50), ("nvme0n1".to_owned(), 3)]);
    }

    #[test]
    fn loopback_and_virtual_cards_are_left_out() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
                    eth0: 100 1 2 3 0 0 0 0 200 1 4 5 0 0 0 0\nveth1: 5 1 9 9 0 0 0 0 5 1 9 9 0 0 0 0\n";
        let expected = CardCounters { received: 100, sent: 200, errors: 6, dropped: 8 };
        assert_eq!(net_dev(text), Some(expected));
        assert_eq!(net_dev("eth0: 1"), None);
    }

    #[test]
    fn segments_are_found_by_their_names_and_errors_by_their_form() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: MaxConn InSegs OutSegs RetransSegs InErrs\nTcp: -1 7 80 20 0\nUdp: x\n";
        assert_eq!(tcp_segments(text), Some((80, 20)));
        assert_eq!(tcp_segments("Tcp: OutSegs RetransSegs\nTcp: 1\n"), None);
        assert_eq!(
            (hexadecimal("0x1f\n"), hexadecimal("0x+1"), hexadecimal("12"), hexadecimal("0x")),
            (Some(31), None, None, None)
        );
        assert_eq!(btrfs_errors("write_errs 1\nread_errs 2\n"), Some(3));
        assert_eq!((btrfs_errors(""), btrfs_errors("write_errs x\n")), (None, None));
    }

    #[test]
    fn a_process_may_be_called_anything() {
        let rest = "S 7 1 1 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 99 1000 25 18446744073709551615";
        let found = process_stat(&format!("123 (a) b (c\n) {rest}")).unwrap();
        assert_eq!((found.name.as_str(), found.parent, found.ticks), ("a) b (c", 7, 42));
        assert_eq!((found.started, found.pages), (99, 25));
        assert_eq!(process_stat("123 (short) S 1"), None);
        assert_eq!(process_stat(")("), None);
    }

    #[test]
    fn mounts_are_read_with_their_escapes() {
        let text = "36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                    37 35 0:5 / /ro ro - squashfs x ro\nnonsense\n";
        let mounts = mountinfo(text);
        assert_eq!(mounts[0], Mount { point: "/a b".to_owned(), kind: "ext3".to_owned(), read_only: false });
        assert!(mounts[1].read_only);
        assert_eq!(mounts.len(), 2);
    }

    proptest! {
        /// Whatever a file says, nothing panics, and what is read is a figure.
        #[test]
        fn no_text_is_too_strange(text in "(?s)[ -~\\n]{0,300}") {
            let _ = (stat(&text), loadavg(&text), meminfo(&text), diskstats(&text), net_dev(&text));
            let _ = (process_stat(&text), mountinfo(&text), children(&text), oom_kills(&text));
            let _ = (tcp_segments(&text), hexadecimal(&text), btrfs_errors(&text));
            prop_assert!(pressure(&text).is_none_or(|share| (0.0..=1.0).contains(&share)));
        }

        /// The kernel's own form with any numbers.
        #[test]
        fn any_counters_are_read_or_unknown(n in prop::collection::vec(any::<u64>(), 4..12), cut in 0usize..200) {
            let numbers: Vec<String> = n.iter().map(u64::to_string).collect();
            let numbers = numbers.join(" ");
            if let Some(ticks) = stat(&format!("cpu  {numbers}\ncpu0 1\n")) {
                prop_assert_eq!(ticks.processors, 1);
                prop_assert_eq!(ticks.idle, n[3]);
            }
            let line = format!("8 0 sda {numbers} {numbers}\n");
            let _ = diskstats(line.get(..cut.min(line.len())).unwrap_or(""));
            let card = format!("Inter-|\n face\n eth0: {numbers} {numbers}\n");
            let _ = net_dev(card.get(..cut.min(card.len())).unwrap_or(""));
            let tcp = format!("Tcp: OutSegs RetransSegs\nTcp: {numbers}\n");
            prop_assert_eq!(tcp_segments(&tcp), Some((n[0], n[1])));
            let process = format!("1 (x) S {numbers} {numbers} {numbers}");
            let _ = process_stat(process.get(..cut.min(process.len())).unwrap_or(""));
        }
    }
}
