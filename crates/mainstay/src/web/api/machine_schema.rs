//! The shapes of what is read of the machine, for the API's description, as `schema` has those of the rest.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// The machine at one moment. A figure that is not known is null.
#[derive(Serialize, ToSchema)]
pub(super) struct Host {
    at: i64,
    figures: HostFigures,
    policy: HostPolicy,
}

/// Another machine.
#[derive(Serialize, ToSchema)]
pub(super) struct OtherMachine {
    id: String,
    /// Servers at these addresses run on it.
    addresses: Vec<String>,
    /// Null: nothing was heard of it lately.
    now: Option<Host>,
    /// Why its figures could not be read the last time.
    trouble: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct HostFigures {
    /// How much later than planned they were read, milliseconds.
    late_ms: u64,
    processors: Option<u32>,
    cpu: Option<Cpu>,
    /// Over 1, 5 and 15 minutes.
    #[schema(value_type = Option<Vec<f64>>)]
    load: Option<[f64; 3]>,
    memory: Option<Memory>,
    pressure: Pressure,
    disks: Vec<Disk>,
    io: Option<Io>,
    network: Option<Network>,
    tcp: Option<Tcp>,
    io_errors: Vec<IoErrors>,
    group: Option<Group>,
    /// Processes that the kernel has killed for want of memory.
    oom_kills: Option<u64>,
    /// By `service/server`.
    servers: BTreeMap<String, ProcessUse>,
}

/// Shares (0 to 1) of all processors' time.
#[derive(Serialize, ToSchema)]
struct Cpu {
    user: f64,
    system: f64,
    iowait: f64,
    steal: f64,
}

/// Bytes.
#[derive(Serialize, ToSchema)]
struct Memory {
    total: u64,
    available: u64,
    swap_total: u64,
    swap_used: u64,
}

/// Shares (0 to 1) of the last ten seconds in which a process waited.
#[derive(Serialize, ToSchema)]
struct Pressure {
    cpu: Option<f64>,
    memory: Option<f64>,
    io: Option<f64>,
}

/// Bytes.
#[derive(Serialize, ToSchema)]
struct Disk {
    mount: String,
    used: u64,
    available: u64,
    /// Used and free.
    #[schema(value_type = Option<Vec<u64>>)]
    inodes: Option<(u64, u64)>,
    /// Mainstay's data directory is on it.
    own_data: bool,
}

/// Bytes a second.
#[derive(Serialize, ToSchema)]
struct Io {
    read: f64,
    written: f64,
    /// 0 to 1, of the busiest device.
    busy: f64,
}

/// Network cards, all together.
#[derive(Serialize, ToSchema)]
struct Network {
    /// Bytes a second.
    received: f64,
    /// Bytes a second.
    sent: f64,
    /// Packets a second.
    errors: f64,
    /// Packets a second.
    dropped: f64,
    /// Packets since the machine was started.
    errors_total: u64,
    /// Packets since the machine was started.
    dropped_total: u64,
}

/// Segments of TCP.
#[derive(Serialize, ToSchema)]
struct Tcp {
    /// A second, those that are sent again not among them.
    sent: f64,
    /// A second.
    retransmitted: f64,
    /// Since the machine was started.
    sent_total: u64,
    /// Since the machine was started.
    retransmitted_total: u64,
}

/// Errors that the kernel has counted.
#[derive(Serialize, ToSchema)]
struct IoErrors {
    device: String,
    /// Null: the disk itself counts them.
    filesystem: Option<String>,
    count: u64,
}

/// The limits of Mainstay's control group.
#[derive(Serialize, ToSchema)]
struct Group {
    /// Bytes that it may use, and does.
    #[schema(value_type = Option<Vec<u64>>)]
    memory: Option<(u64, u64)>,
    processors: Option<f64>,
    /// 0 to 1.
    throttled: Option<f64>,
}

#[derive(Serialize, ToSchema)]
struct ProcessUse {
    processors: f64,
    /// Bytes.
    memory: u64,
    processes: u32,
}

/// When the figures are trouble.
#[derive(Serialize, ToSchema)]
struct HostPolicy {
    cpu_high: f64,
    memory_low: f64,
    sustained: Duration,
    disk_full: f64,
    disk_full_within: Duration,
}

#[derive(Serialize, ToSchema)]
struct Duration {
    secs: u64,
    nanos: u32,
}

/// The machine in one bucket.
#[derive(Serialize, ToSchema)]
pub(super) struct MachineBucket {
    start: i64,
    /// Milliseconds in which Mainstay was looking; the rest is unknown.
    observed_ms: u64,
    /// By name: `cpu`, `memory`, `disk:/` and so on; shares are 0 to 1, rates bytes a second.
    figures: BTreeMap<String, Summary>,
}

/// The machine second by second, from a minute before an incident was opened to a minute after it was over; of a long one the
/// first ten minutes and the last two. Lists of one length; null: not known. Shares are 0 to 1, rates bytes a second.
#[derive(Serialize, ToSchema)]
pub(super) struct MachineSeconds {
    /// Milliseconds since the Unix epoch.
    at: Vec<i64>,
    /// Busy: not there for anybody else.
    cpu: Vec<Option<f64>>,
    cpu_steal: Vec<Option<f64>>,
    cpu_iowait: Vec<Option<f64>>,
    /// In use.
    memory: Vec<Option<f64>>,
    /// In use.
    swap: Vec<Option<f64>>,
    io_read: Vec<Option<f64>>,
    io_written: Vec<Option<f64>>,
    io_busy: Vec<Option<f64>>,
    network_received: Vec<Option<f64>>,
    network_sent: Vec<Option<f64>>,
    /// Of the last ten seconds, those in which somebody waited for a processor.
    pressure_cpu: Vec<Option<f64>>,
    pressure_memory: Vec<Option<f64>>,
    pressure_io: Vec<Option<f64>>,
    /// The share of TCP segments that were sent again.
    retransmitted: Vec<Option<f64>>,
}

#[derive(Serialize, ToSchema)]
struct Summary {
    samples: u64,
    mean: f64,
    max: f64,
}
