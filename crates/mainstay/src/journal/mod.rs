//! The journal of inputs: what the judge was told, so that it can be judged again by another config (`mainstay replay`).
//!
//! Files of some minutes each in the data directory, every one of which begins with what a judge must know to go on from there: lines of
//! JSON under zstd. When they are more than `record.inputs` allows, the oldest are removed, those of incidents last. Nothing waits
//! for them: what the disk does not take in time is left out, and the next file begins anew.

mod read;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::time::Duration;

use mainstay_model::carried::Carried;
use mainstay_model::input::{ProbeReport, Restored};
use mainstay_model::replay::Beginning;
use mainstay_model::{Input, Now, Policy, ProbeTarget, Wall};
use serde::{Deserialize, Serialize};
use tracing::warn;

pub use read::{Segment, segments};
use writer::{Order, Writer};

/// The folder in the data directory.
pub const FOLDER: &str = "inputs";

/// A file is begun anew after so long, when nothing is wrong just then.
const FILE_LASTS: Duration = Duration::from_secs(600);
/// And after so long whatever is wrong.
const FILE_LASTS_AT_MOST: Duration = Duration::from_secs(3600);
/// After something was left out, the next one begins no sooner.
const AFTER_A_GAP: Duration = Duration::from_secs(10);
/// What is gathered between two ticks, before it is handed on at once.
const GATHERED_MAX: usize = 256 << 10;
/// Pieces that may wait for the disk.
const WAITING_MAX: usize = 32;
/// What may still be written when Mainstay ends.
const CLOSE: Duration = Duration::from_secs(1);

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    /// Of the lines; another number is another format.
    format: u32,
    /// It goes on where the file ended that begins then: nothing is missing between.
    after: Option<Wall>,
    /// From what a judge goes on.
    beginning: Beginning,
}

impl Header {
    const FORMAT: u32 = 1;
}

/// Reads from the record what a judge would go on from; `None`: it cannot be read.
pub type Left = Box<dyn Fn() -> Option<Restored> + Send>;

/// Takes what the judge is told; the loop's end of it.
#[derive(Debug)]
pub struct Journal {
    to_writer: Option<SyncSender<Order>>,
    ended: mpsc::Receiver<()>,
    gathered: Vec<u8>,
    most: Arc<AtomicU64>,
    /// The file has become large.
    large: Arc<AtomicBool>,
    /// When the newest file was begun; `None`: nothing is written.
    since: Option<Now>,
    /// Something was left out since.
    gap: bool,
    /// The file is of an incident already.
    kept: bool,
    policy: Option<Policy>,
}

impl Journal {
    /// Writes below the data directory, at most so many bytes; 0: nothing.
    pub fn start(data: &Path, most: u64, left: Left) -> Self {
        let (to_writer, orders) = mpsc::sync_channel(WAITING_MAX);
        let (end, ended) = mpsc::sync_channel(1);
        let (most, large) = (Arc::new(AtomicU64::new(most)), Arc::new(AtomicBool::new(false)));
        let mut writer = Writer::new(data.join(FOLDER), most.clone(), large.clone(), left);
        let thread = std::thread::Builder::new().name("inputs".to_owned()).spawn(move || {
            writer.run(&orders);
            drop(end);
        });
        if let Err(error) = &thread {
            warn!(%error, "inputs are not kept: their writer cannot be started; mainstay replay will not know of this time");
        }
        let to_writer = thread.is_ok().then_some(to_writer);
        let (gathered, policy) = (Vec::new(), None);
        Self { to_writer, ended, gathered, most, large, since: None, gap: false, kept: false, policy }
    }

    /// A changed config; what is too much by it goes with the next file.
    pub fn apply(&mut self, most: u64) {
        if self.most.swap(most, Ordering::Relaxed) == 0 {
            // There is nothing that could be gone on from.
            self.gap = true;
        }
    }

    /// The first file of a run, before the judge is told anything, who rolls its dice from `seed`.
    pub fn begin(&mut self, at: Now, restored: &Restored, seed: u64) {
        let restored = without_publications(restored.clone());
        let beginning = Beginning { at, restored, policy: None, seed };
        self.begin_file(beginning, None, false);
    }

    /// Whether a new file is due. `calm`: no incident is open.
    pub fn is_due(&self, now: Now, calm: bool) -> bool {
        let age = self.since.map_or(Duration::MAX, |since| now.mono.since(since.mono));
        let due =
            calm && age >= FILE_LASTS || age >= FILE_LASTS_AT_MOST || self.large.load(Ordering::Relaxed);
        self.is_on() && (due || self.gap) && age >= AFTER_A_GAP && self.policy.is_some()
    }

    /// Begins the next file, from which a judge can go on who knows what is in the record and this.
    pub fn begin_next(&mut self, at: Now, carried: Carried) {
        self.tick();
        let after = self.since.filter(|_| !self.gap).map(|since| since.wall);
        let restored = Restored { carried, ..Restored::default() };
        let beginning = Beginning { at, restored, policy: self.policy.clone(), seed: 0 };
        self.begin_file(beginning, after, true);
    }

    fn begin_file(&mut self, beginning: Beginning, after: Option<Wall>, from_record: bool) {
        (self.since, self.gap, self.kept) = (Some(beginning.at), false, false);
        self.large.store(false, Ordering::Relaxed);
        if self.is_on() {
            let header = Header { format: Header::FORMAT, after, beginning };
            self.hand_on(Order::Begin { header: Box::new(header), from_record });
        }
    }

    /// The judge is told something.
    pub fn input(&mut self, now: Now, input: &Input) {
        let stripped;
        let input = match input {
            Input::Policy(policy) => {
                self.policy = Some(policy.clone());
                input
            }
            // Every look at a monitor is in the record; what was answered is evidence and decides nothing.
            Input::Restored(_)
            | Input::Answered(_)
            | Input::Publish { .. }
            | Input::Probe(ProbeReport { target: ProbeTarget::Monitor(_), .. }) => return,
            Input::Probe(report @ ProbeReport { sample: Some(_), .. }) => {
                stripped = Input::Probe(ProbeReport { sample: None, ..report.clone() });
                &stripped
            }
            other => other,
        };
        if !self.is_on() || self.gap {
            return;
        }
        // Nothing that the judge is told fails to become JSON.
        if serde_json::to_writer(&mut self.gathered, &(now, input)).is_err() {
            self.gap = true;
        }
        self.gathered.push(b'\n');
        if self.gathered.len() >= GATHERED_MAX {
            self.tick();
        }
    }

    /// An incident was opened: what led to it is kept longer.
    pub fn keep(&mut self) {
        if !std::mem::replace(&mut self.kept, true) {
            self.hand_on(Order::Keep);
        }
    }

    /// Hands on what was gathered; each second.
    pub fn tick(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        if !gathered.is_empty() && !self.gap {
            self.hand_on(Order::Lines(gathered));
        }
    }

    /// Writes what was gathered and waits for it, but not for a disk that hangs.
    pub fn close(mut self) {
        self.tick();
        self.to_writer = None;
        let _ = self.ended.recv_timeout(CLOSE);
    }

    fn is_on(&self) -> bool {
        self.to_writer.is_some() && self.most.load(Ordering::Relaxed) > 0
    }

    fn hand_on(&mut self, order: Order) {
        let Some(to_writer) = &self.to_writer else { return };
        match to_writer.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.gap = true,
            Err(TrySendError::Disconnected(_)) => self.to_writer = None,
        }
    }
}

/// What the public is told decides nothing, and may be long.
fn without_publications(restored: Restored) -> Restored {
    Restored { publications: Default::default(), ..restored }
}

#[cfg(test)]
mod tests;
