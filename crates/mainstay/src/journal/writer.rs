//! The thread that writes the files, and removes what is too much.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use mainstay_model::Wall;
use mainstay_model::input::Restored;
use tracing::warn;
use zstd::stream::write::Encoder;

use super::read::{OF_AN_INCIDENT, USUAL, segments};
use super::{Header, Left, without_publications};

/// zstd's: little work, and figures by the quarter of a second are alike.
const LEVEL: i32 = 1;
/// One file is no more than this part of all of them, so that some can be removed beside it.
const PART: u64 = 4;

/// What the writer is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Begin a file. `from_record`: what a judge goes on from is still to be read there.
    Begin { header: Box<Header>, from_record: bool },
    /// Add lines to it.
    Lines(Vec<u8>),
    /// The file and the one before it are of an incident.
    Keep,
}

/// Owns the file that is being written.
pub(super) struct Writer {
    folder: PathBuf,
    most: Arc<AtomicU64>,
    large: Arc<AtomicBool>,
    left: Left,
    open: Option<Open>,
    /// The file before it, as long as it is not kept.
    before: Option<PathBuf>,
    /// It was said that files cannot be written.
    told: bool,
}

struct Open {
    file: Encoder<'static, File>,
    path: PathBuf,
    kept: bool,
}

impl Writer {
    pub(super) fn new(folder: PathBuf, most: Arc<AtomicU64>, large: Arc<AtomicBool>, left: Left) -> Self {
        Self { folder, most, large, left, open: None, before: None, told: false }
    }

    /// Works until nobody orders any more.
    pub(super) fn run(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            let result = match order {
                Order::Begin { header, from_record } => self.begin(*header, from_record),
                Order::Lines(lines) => self.add(&lines),
                Order::Keep => self.keep(),
            };
            match result {
                Ok(()) => {}
                Err(error) => self.failed(&error),
            }
        }
        if let Err(error) = self.finish() {
            self.failed(&error);
        }
    }

    /// What was begun stays as far as it came; the next file is another try.
    fn failed(&mut self, error: &io::Error) {
        self.open = None;
        if !std::mem::replace(&mut self.told, true) {
            warn!(folder = %self.folder.display(), %error, "inputs cannot be kept; mainstay replay will not know of this time");
        }
    }

    fn begin(&mut self, mut header: Header, from_record: bool) -> io::Result<()> {
        if self.open.is_none() {
            // The one before was not written to its end, if there was one.
            header.after = None;
        }
        self.finish()?;
        let most = self.most.load(Ordering::Relaxed);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.make_room(most - most / PART)?;
        if from_record {
            let Some(restored) = (self.left)() else {
                return Err(io::Error::other("the record cannot be read"));
            };
            let carried = std::mem::take(&mut header.beginning.restored.carried);
            header.beginning.restored = Restored { carried, ..without_publications(restored) };
        }
        let Wall(at) = header.beginning.at.wall;
        let path = self.folder.join(format!("{at:013}{USUAL}"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut file = Encoder::new(file, LEVEL)?;
        serde_json::to_writer(&mut file, &header)?;
        file.write_all(b"\n")?;
        file.flush()?;
        self.told = false;
        self.open = Some(Open { file, path, kept: false });
        Ok(())
    }

    fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.file.write_all(lines)?;
        // A crash takes no more than what was not handed over yet.
        open.file.flush()?;
        let bytes = open.file.get_ref().metadata()?.len();
        if bytes >= self.most.load(Ordering::Relaxed) / PART {
            self.large.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn keep(&mut self) -> io::Result<()> {
        if let Some(before) = self.before.take()
            && before.exists()
        {
            std::fs::rename(&before, of_an_incident(&before))?;
        }
        if let Some(open) = self.open.as_mut().filter(|open| !open.kept) {
            let kept = of_an_incident(&open.path);
            std::fs::rename(&open.path, &kept)?;
            (open.path, open.kept) = (kept, true);
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.before = (!open.kept).then_some(open.path);
        open.file.finish()?.sync_data()
    }

    /// Removes the oldest until the rest is no more than `most` bytes, those of incidents last.
    fn make_room(&self, most: u64) -> io::Result<()> {
        let mut all = segments(&self.folder)?;
        let mut bytes: u64 = all.iter().map(|segment| segment.bytes).sum();
        all.sort_by_key(|segment| (segment.of_an_incident, segment.from));
        for segment in all {
            if bytes <= most {
                break;
            }
            std::fs::remove_file(&segment.path)?;
            bytes -= segment.bytes;
        }
        Ok(())
    }
}

fn of_an_incident(path: &std::path::Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().replace(USUAL, OF_AN_INCIDENT));
    path.with_file_name(name.unwrap_or_default())
}
