//! The machine that Mainstay runs on: its figures as they are reported each second, and what is asked about it. Other
//! machines are told of in the same words, less often.
//!
//! A figure that could not be read is `None`: unknown, never zero. What the judge makes of them is in `judge`, the
//! trend of a disk in `trend`, what is kept of them around an incident in `seconds`.

pub(crate) mod judge;
pub mod seconds;
mod trend;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{MachineId, ServerId};
use crate::time::Wall;

/// What was read of the machine at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HostReport {
    /// How much later than planned it was read, milliseconds. Much means that Mainstay itself got no processor time.
    pub late_ms: u64,
    /// Processors that the machine has.
    pub processors: Option<u32>,
    /// What the processors did since the last report.
    pub cpu: Option<Cpu>,
    /// Runnable and waiting processes, averaged over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Memory and swap.
    pub memory: Option<Memory>,
    /// How much of the last ten seconds somebody waited for something (Linux' PSI).
    pub pressure: Pressure,
    /// The file systems that matter.
    pub disks: Vec<Disk>,
    /// Bytes to and from block devices.
    pub io: Option<Io>,
    /// Bytes to and from network cards, and what went wrong with them.
    pub network: Option<Network>,
    /// What TCP sends, and sends again.
    #[serde(default)]
    pub tcp: Option<Tcp>,
    /// Errors of disks and of file systems, as far as the kernel counts them.
    #[serde(default)]
    pub io_errors: Vec<IoErrors>,
    /// The limits of Mainstay's own control group, which its supervised servers share.
    pub group: Option<Group>,
    /// Processes that the kernel has killed for want of memory, since some moment in the past.
    pub oom_kills: Option<u64>,
    /// Supervised servers, each with all processes that it started.
    pub servers: BTreeMap<ServerId, ProcessUse>,
}

impl HostReport {
    /// More disks than these are left out.
    pub const DISKS_MAX: usize = 32;
    /// Errors of more devices than these are left out.
    pub const DEVICES_MAX: usize = 32;
}

/// Shares (0 to 1) of all processors' time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// In programs.
    pub user: f64,
    /// In the kernel, interrupts included.
    pub system: f64,
    /// Idle, while somebody waited for a disk.
    pub iowait: f64,
    /// Taken by the hypervisor for other machines.
    pub steal: f64,
}

impl Cpu {
    /// The share that is not there for anybody else.
    pub fn busy(&self) -> f64 {
        (self.user + self.system + self.steal).clamp(0.0, 1.0)
    }
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// What the machine has.
    pub total: u64,
    /// What programs could still get without swapping, by the kernel's own estimate.
    pub available: u64,
    /// Swap space.
    pub swap_total: u64,
    /// Swap space in use.
    pub swap_used: u64,
}

/// Shares (0 to 1) of the last ten seconds in which at least one process waited.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Pressure {
    /// For a processor.
    pub cpu: Option<f64>,
    /// For memory.
    pub memory: Option<f64>,
    /// For a disk.
    pub io: Option<f64>,
}

/// One file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that an ordinary user may still write.
    pub available: u64,
    /// Inodes in use and free; `None` where the file system does not count them.
    pub inodes: Option<(u64, u64)>,
    /// Mainstay's own data directory is on it.
    pub own_data: bool,
}

impl Disk {
    /// The share (0 to 1) in use, as df(1) tells it.
    pub fn used_share(&self) -> f64 {
        share_of(self.used, self.available)
    }

    /// The share (0 to 1) of inodes in use.
    pub fn inode_share(&self) -> Option<f64> {
        self.inodes.map(|(used, free)| share_of(used, free))
    }
}

fn share_of(used: u64, free: u64) -> f64 {
    let all = used.saturating_add(free);
    if all == 0 { 0.0 } else { used as f64 / all as f64 }
}

/// Block devices, all together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Io {
    /// Bytes a second.
    pub read: f64,
    /// Bytes a second.
    pub written: f64,
    /// The share (0 to 1) of the time in which the busiest device had something to do.
    pub busy: f64,
}

/// Network cards, all together; loopback and virtual ones are left out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Network {
    /// Bytes a second.
    pub received: f64,
    /// Bytes a second.
    pub sent: f64,
    /// Packets a second that were damaged or could not be sent, both ways.
    #[serde(default)]
    pub errors: f64,
    /// Packets a second that were thrown away, both ways.
    #[serde(default)]
    pub dropped: f64,
    /// Packets with errors since the machine was started.
    #[serde(default)]
    pub errors_total: u64,
    /// Packets thrown away since the machine was started.
    #[serde(default)]
    pub dropped_total: u64,
}

/// What TCP sends, over loopback too.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Tcp {
    /// Segments a second, those that are sent again not among them.
    pub sent: f64,
    /// Segments a second that are sent again because nobody confirmed them.
    pub retransmitted: f64,
    /// Segments since the machine was started.
    pub sent_total: u64,
    /// Segments sent again since the machine was started.
    pub retransmitted_total: u64,
}

impl Tcp {
    /// The share (0 to 1) of segments that are sent again.
    pub fn retransmitted_share(&self) -> f64 {
        let all = self.sent + self.retransmitted;
        if all > 0.0 { (self.retransmitted / all).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Errors that the kernel has counted of a disk, or of a file system on it, since some moment in the past.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IoErrors {
    /// The kernel's name of it: `sda`, `sda1`, `dm-0`.
    pub device: String,
    /// The kind of the file system, where that counts them: `ext4`; `None`: the disk itself does.
    pub filesystem: Option<String>,
    /// How many.
    pub count: u64,
}

impl IoErrors {
    /// `sda`, `sda1 (ext4)`.
    pub fn name(&self) -> String {
        match &self.filesystem {
            Some(filesystem) => format!("{} ({filesystem})", self.device),
            None => self.device.clone(),
        }
    }
}

/// The tightest limits of a control group and those above it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Group {
    /// Bytes that it may use, and does (caches that can be dropped left out); `None` without a limit.
    pub memory: Option<(u64, u64)>,
    /// Processors that it may use; `None` without a limit.
    pub processors: Option<f64>,
    /// The share (0 to 1) of the last second's periods in which it was stopped because it had used its processors up.
    pub throttled: Option<f64>,
}

/// What the processes of a server use.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessUse {
    /// Processors: 1.5 is one and a half of them.
    pub processors: f64,
    /// Resident memory, bytes.
    pub memory: u64,
    /// How many processes they are.
    pub processes: u32,
}

/// What is to be looked into, once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inspection {
    /// Which processes use most.
    Processes,
    /// How much of this file system is Mainstay's own.
    Disk(String),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Findings {
    /// The processes that use most.
    Processes {
        /// The most processor time first.
        by_cpu: Vec<ProcessFound>,
        /// The most memory first.
        by_memory: Vec<ProcessFound>,
    },
    /// What on a file system is Mainstay's own.
    Disk {
        /// Where it is mounted.
        mount: String,
        /// Folders and files with their bytes, the largest first.
        own: Vec<(String, u64)>,
    },
}

impl Findings {
    /// More of each say nothing more.
    pub const MAX: usize = 5;
}

/// One process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessFound {
    /// Its name as the kernel has it, at most 15 characters.
    pub name: String,
    /// Its number.
    pub pid: u32,
    /// The supervised server that it belongs to.
    pub server: Option<ServerId>,
    /// Processors: 1.5 is one and a half of them.
    pub processors: f64,
    /// Resident memory, bytes.
    pub memory: u64,
}

/// When the machine is in trouble. The defaults are those of the config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostPolicy {
    /// Share (0 to 1) of all processors' time.
    pub cpu_high: f64,
    /// Share (0 to 1) of memory that is available.
    pub memory_low: f64,
    /// For so long, on average, before processors or memory are an incident.
    pub sustained: Duration,
    /// Share (0 to 1) of a file system's space or inodes in use.
    pub disk_full: f64,
    /// A file system that will be full this soon if it goes on filling is in trouble already. Zero: never.
    pub disk_full_within: Duration,
}

impl Default for HostPolicy {
    fn default() -> Self {
        Self {
            cpu_high: 0.9,
            memory_low: 0.05,
            sustained: Duration::from_secs(30),
            disk_full: 0.9,
            disk_full_within: Duration::from_secs(6 * 3600),
        }
    }
}

/// What of the machine is in trouble.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPart {
    /// Its processors.
    Cpu,
    /// Its memory.
    Memory,
    /// The file system that is mounted here.
    Disk(String),
    /// The disk, or the file system on it, of this name ([`IoErrors::name`]): it reports errors.
    Device(String),
}

impl HostPart {
    /// `db-1's processors`, `this machine's disk /var`.
    pub fn of(&self, machine: &str) -> String {
        match self {
            HostPart::Cpu => format!("{machine}'s processors"),
            HostPart::Memory => format!("{machine}'s memory"),
            HostPart::Disk(name) | HostPart::Device(name) => format!("{machine}'s disk {name}"),
        }
    }
}

/// Another machine: its figures come from an exporter that it has already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachinePolicy {
    /// Servers at these addresses run on it.
    pub addresses: Vec<IpAddr>,
    /// Between two reports.
    pub interval: Duration,
    /// When it is in trouble.
    pub limits: HostPolicy,
}

/// Another machine, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineSnapshot {
    /// Its name.
    pub id: MachineId,
    /// Servers at these addresses run on it.
    pub addresses: Vec<IpAddr>,
    /// Its figures; `None`: nothing was heard of it lately.
    pub now: Option<HostSnapshot>,
    /// Why its figures could not be read the last time.
    pub trouble: Option<String>,
}

/// The machine, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSnapshot {
    /// When the figures were read.
    pub at: Wall,
    /// The figures.
    pub figures: HostReport,
    /// When they are trouble.
    pub policy: HostPolicy,
}
