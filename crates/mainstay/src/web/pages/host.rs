//! The page of the machine: its figures now, its file systems, what supervised servers use of it, and its charts.

use askama::Template;
use mainstay_model::Snapshot;
use mainstay_model::host::{HostPolicy, HostReport, MachineSnapshot};

use super::overview::Figure;
use super::{Loaded, Part, Rendered, render as html, server_address};
use crate::web::history::Range;
use crate::web::words::{self, Ago};

/// The machine as it is now.
pub(super) fn render(snapshot: &Snapshot, range: Range, loaded: &Loaded) -> Rendered {
    let parts = vec![
        Part { id: "head", html: html(&HeadPart::of(snapshot)) },
        Part { id: "charts", html: html(&ChartsPart::of(range, loaded)) },
        Part { id: "machines", html: html(&MachinesPart::of(snapshot)) },
    ];
    Rendered { title: "This machine · Mainstay".to_owned(), parts }
}

/// The machine in one line, for the overview; nothing while nothing is known.
pub(super) fn line(snapshot: &Snapshot) -> Part {
    let text = snapshot.host.as_ref().map(|host| {
        let figures = figures(&host.figures, &host.policy);
        let fullest =
            disks(&host.figures, &host.policy).into_iter().max_by(|a, b| a.share.total_cmp(&b.share));
        let disk =
            fullest.map(|disk| (format!("disk {}", disk.mount), Figure { text: disk.used, bad: disk.bad }));
        figures.into_iter().take(3).map(|(name, figure, _)| (name.to_owned(), figure)).chain(disk).collect()
    });
    Part { id: "machine", html: html(&LinePart { figures: text.unwrap_or_default() }) }
}

#[derive(Template)]
#[template(path = "host-line.html")]
struct LinePart {
    figures: Vec<(String, Figure)>,
}

#[derive(Template)]
#[template(path = "host-head.html")]
struct HeadPart {
    /// Why there are no figures.
    nothing: Option<&'static str>,
    at: Option<Ago>,
    /// Name, figure, and what it is measured against.
    figures: Vec<(&'static str, Figure, String)>,
    disks: Vec<DiskRow>,
    /// Disks and file systems that have counted errors, with how many.
    errors: Vec<(String, String)>,
    servers: Vec<ServerRow>,
}

/// Other machines.
#[derive(Template)]
#[template(path = "host-machines.html")]
struct MachinesPart {
    machines: Vec<MachineCard>,
}

struct MachineCard {
    name: String,
    addresses: String,
    /// Why there are no figures.
    unknown: Option<String>,
    at: Option<Ago>,
    figures: Vec<(&'static str, Figure, String)>,
    disks: Vec<DiskRow>,
}

impl MachinesPart {
    fn of(snapshot: &Snapshot) -> Self {
        let card = |machine: &MachineSnapshot| {
            let addresses: Vec<String> = machine.addresses.iter().map(ToString::to_string).collect();
            let trouble = machine.trouble.clone();
            let known = machine.now.as_ref();
            MachineCard {
                name: machine.id.to_string(),
                addresses: addresses.join(", "),
                unknown: trouble
                    .or_else(|| known.is_none().then(|| "nothing was heard of it yet".to_owned())),
                at: known.map(|now| words::ago(now.at, snapshot.at)),
                figures: known.map_or(Vec::new(), |now| figures(&now.figures, &now.policy)),
                disks: known.map_or(Vec::new(), |now| disks(&now.figures, &now.policy)),
            }
        };
        Self { machines: snapshot.machines.iter().map(card).collect() }
    }
}

struct DiskRow {
    mount: String,
    share: f64,
    used: String,
    /// In hundredths of the bar.
    bar: u32,
    left: String,
    inodes: String,
    own: bool,
    bad: bool,
}

struct ServerRow {
    name: String,
    address: String,
    processors: String,
    memory: String,
    processes: String,
}

impl HeadPart {
    fn of(snapshot: &Snapshot) -> Self {
        let Some(host) = &snapshot.host else {
            let nothing = match snapshot.host_watched {
                true => {
                    "Nothing was read of it in the last seconds. Figures come within a second or two of the start."
                }
                false => "The machine is not watched: the config says watch = false in [host].",
            };
            return Self {
                nothing: Some(nothing),
                at: None,
                figures: Vec::new(),
                disks: Vec::new(),
                errors: Vec::new(),
                servers: Vec::new(),
            };
        };
        let servers = host.figures.servers.iter().map(|(id, used)| ServerRow {
            name: id.to_string(),
            address: server_address(id),
            processors: format!("{:.2}", used.processors),
            memory: words::size(used.memory as f64),
            processes: words::count(u64::from(used.processes)),
        });
        let errors = host.figures.io_errors.iter().filter(|errors| errors.count > 0);
        let errors = errors.map(|e| (e.name(), words::counted(e.count, "error", "errors")));
        Self {
            nothing: None,
            at: Some(words::ago(host.at, snapshot.at)),
            figures: figures(&host.figures, &host.policy),
            disks: disks(&host.figures, &host.policy),
            errors: errors.collect(),
            servers: servers.collect(),
        }
    }
}

fn figures(report: &HostReport, policy: &HostPolicy) -> Vec<(&'static str, Figure, String)> {
    let mut figures = Vec::new();
    let share = |share: f64| words::share(Some(share));
    let busy = report.cpu.map(|cpu| cpu.busy());
    let of = report
        .processors
        .map_or(String::new(), |n| format!("of {}", words::counted(u64::from(n), "processor", "processors")));
    figures.push((
        "processors",
        Figure { text: words::share(busy), bad: busy.is_some_and(|busy| busy >= policy.cpu_high) },
        of,
    ));
    let load = report.load.map_or("–".to_owned(), |load| format!("{:.2}", load[0]));
    let before = report
        .load
        .map_or(String::new(), |load| format!("{:.2} over 5 min, {:.2} over 15 min", load[1], load[2]));
    figures.push(("load", Figure { text: load, bad: false }, before));
    let memory = report.memory.filter(|memory| memory.total > 0);
    let left = memory.map(|m| m.available as f64 / m.total as f64);
    figures.push((
        "memory",
        Figure {
            text: words::share(left.map(|left| 1.0 - left)),
            bad: left.is_some_and(|left| left <= policy.memory_low),
        },
        memory.map_or(String::new(), |m| {
            format!("{} of {} available", words::size(m.available as f64), words::size(m.total as f64))
        }),
    ));
    if let Some(memory) = memory.filter(|memory| memory.swap_total > 0) {
        let used = memory.swap_used as f64 / memory.swap_total as f64;
        let of = format!("of {}", words::size(memory.swap_total as f64));
        figures.push(("swap", Figure { text: share(used), bad: false }, of));
    }
    let rate = |value: f64| format!("{}/s", words::size(value));
    if let Some(network) = report.network {
        let of = format!("{} received", rate(network.received));
        figures.push(("network, sent", Figure { text: rate(network.sent), bad: false }, of));
    }
    if let Some(tcp) = report.tcp {
        let lost = report.network.map_or(String::new(), |network| {
            let (errors, dropped) = (words::per_second(network.errors), words::per_second(network.dropped));
            format!("of TCP; cards: {errors} errors, {dropped} dropped")
        });
        let again = Figure { text: share(tcp.retransmitted_share()), bad: false };
        figures.push(("network, sent again", again, lost));
    }
    if let Some(io) = report.io {
        let of = format!("{} read, busy for {}", rate(io.read), share(io.busy));
        figures.push(("disk, written", Figure { text: rate(io.written), bad: false }, of));
    }
    if let Some(waited) = report.pressure.cpu {
        let other = [("memory", report.pressure.memory), ("a disk", report.pressure.io)];
        let other: Vec<String> = other
            .iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", words::share(Some((*value)?)))))
            .collect();
        figures.push((
            "waited for a processor",
            Figure { text: share(waited), bad: false },
            other.join(", "),
        ));
    }
    if let Some(group) = report.group {
        if let Some((max, used)) = group.memory {
            let of = format!("{} of {}", words::size(used as f64), words::size(max as f64));
            figures.push((
                "control group's memory",
                Figure { text: share(used as f64 / max.max(1) as f64), bad: false },
                of,
            ));
        }
        if let Some(processors) = group.processors {
            let stopped = group.throttled.map_or(String::new(), |t| format!("stopped for {}", share(t)));
            let bad = group.throttled.is_some_and(|throttled| throttled >= 0.25);
            let processors = (processors * 100.0).round() / 100.0;
            let text =
                if processors == 1.0 { "1 processor".to_owned() } else { format!("{processors} processors") };
            figures.push(("control group's limit", Figure { text, bad }, stopped));
        }
    }
    figures
}

fn disks(report: &HostReport, policy: &HostPolicy) -> Vec<DiskRow> {
    let row = |disk: &mainstay_model::host::Disk| {
        let share = disk.used_share();
        let inodes = disk.inode_share();
        DiskRow {
            mount: disk.mount.clone(),
            share,
            used: words::share(Some(share)),
            bar: (share.clamp(0.0, 1.0) * 100.0).round() as u32,
            left: words::size(disk.available as f64),
            inodes: words::share(inodes),
            own: disk.own_data,
            bad: share >= policy.disk_full || inodes.is_some_and(|share| share >= policy.disk_full),
        }
    };
    report.disks.iter().map(row).collect()
}

#[derive(Template)]
#[template(path = "host-charts.html")]
struct ChartsPart {
    ranges: [(String, &'static str, bool); 3],
    column: &'static str,
    charts: Vec<String>,
    trouble: Option<String>,
    heads: Vec<String>,
    rows: Vec<(String, Option<Vec<String>>)>,
}

impl ChartsPart {
    fn of(range: Range, loaded: &Loaded) -> Self {
        let ranges = Range::ALL
            .map(|other| (format!("/host?range={}", other.as_str()), other.words(), other == range));
        let (charts, (heads, rows), trouble) = match loaded {
            Loaded::Machine(machine) => (machine.charts(range), machine.rows(range), None),
            Loaded::Failed(error) => (Vec::new(), Default::default(), Some(error.to_string())),
            _ => Default::default(),
        };
        Self { ranges, column: range.column_words(), charts, trouble, heads, rows }
    }
}
