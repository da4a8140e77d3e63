//! What goes into a snapshot: folders as they lie on the disk, and in their midst the copies of databases in the place of
//! the files that are in use. A restore then gives back the tree as it was, with databases that are whole.
//!
//! The library leaves out what it cannot read without a word; here each such file is remembered.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::iter::Peekable;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::repofile::{Metadata, Node, NodeType};
use rustic_core::{
    ErrorKind, Excludes, LocalSource, LocalSourceFilterOptions, LocalSourceSaveOptions, ReadSource,
    ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult,
};

use super::repository::in_words;

/// Problems that are named; more are counted.
const NAMED_MAX: usize = 5;

/// A copy that stands in the snapshot where the original lies.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    /// Its place in the snapshot.
    pub(super) path: PathBuf,
    /// The copy.
    pub(super) copy: PathBuf,
}

/// Folders and copies, in the order of their paths.
pub(super) struct Source {
    folders: Option<LocalSource>,
    staged: Vec<Staged>,
    problems: Problems,
}

/// What could not be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Problems(Arc<Mutex<(Vec<String>, usize)>>);

impl Problems {
    fn note(&self, text: impl FnOnce() -> String) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.1 += 1;
        if noted.0.len() < NAMED_MAX {
            noted.0.push(text());
        }
    }

    /// In words; `None` when everything was read.
    pub(super) fn in_words(&self) -> Option<String> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (named, count) = (&noted.0, noted.1);
        let more = match count - named.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        (count > 0).then(|| format!("{}{more}", named.join("; ")))
    }
}

impl Source {
    /// # Errors
    /// When a pattern of what is left out is none.
    pub(super) fn new(
        folders: &[PathBuf],
        exclude: &[String],
        mut staged: Vec<Staged>,
        problems: Problems,
    ) -> RusticResult<Self> {
        staged.sort_by(|a, b| a.path.cmp(&b.path));
        let mut excludes = Excludes::default();
        excludes.globs = exclude.iter().map(|pattern| format!("!{pattern}")).collect();
        let (save, filter) = (LocalSourceSaveOptions::default(), LocalSourceFilterOptions::default());
        let folders = match folders {
            [] => None,
            folders => Some(LocalSource::new(save, &excludes, &filter, folders)?),
        };
        Ok(Self { folders, staged, problems })
    }
}

impl ReadSource for Source {
    type Open = Open;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Entries {
        let in_use = self.staged.iter().flat_map(|staged| {
            ["", "-wal", "-shm", "-journal"].map(|end| {
                let mut path = staged.path.clone().into_os_string();
                path.push(end);
                PathBuf::from(path)
            })
        });
        Entries {
            walk: self.folders.as_ref().map(LocalSource::entries),
            ahead: None,
            staged: self.staged.clone().into_iter().peekable(),
            in_use: in_use.collect(),
            problems: self.problems.clone(),
        }
    }
}

/// The walk through the folders with the copies in between.
pub(super) struct Entries {
    walk: Option<<LocalSource as ReadSource>::Iter>,
    /// What the walk found after the next copy.
    ahead: Option<ReadSourceEntry<Open>>,
    staged: Peekable<std::vec::IntoIter<Staged>>,
    /// A file of a database that is in use would be torn; its copy stands for it.
    in_use: BTreeSet<PathBuf>,
    problems: Problems,
}

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Open>>;

    fn next(&mut self) -> Option<Self::Item> {
        let ahead = self.ahead.take().or_else(|| self.walk_on());
        let copy_first = match (&ahead, self.staged.peek()) {
            (Some(found), Some(copy)) => copy.path < found.path,
            (found, _) => found.is_none(),
        };
        if !copy_first {
            return ahead.map(Ok);
        }
        self.ahead = ahead;
        let copy = self.staged.next()?;
        Some(entry_of(&copy, &self.problems))
    }
}

impl Entries {
    /// The next thing in the folders that can be read and is in no use.
    fn walk_on(&mut self) -> Option<ReadSourceEntry<Open>> {
        loop {
            match self.walk.as_mut()?.next()? {
                Err(error) => self.problems.note(|| in_words(&error)),
                Ok(found) if self.in_use.contains(&found.path) => {}
                Ok(ReadSourceEntry { path, node, open }) => {
                    let open = open.map(|_| Open { file: path.clone(), problems: self.problems.clone() });
                    return Some(ReadSourceEntry { path, node, open });
                }
            }
        }
    }
}

/// The copy under the name, owner and mode of its original.
fn entry_of(staged: &Staged, problems: &Problems) -> RusticResult<ReadSourceEntry<Open>> {
    let failed =
        |error: io::Error| RusticError::with_source(ErrorKind::InputOutput, "a copy cannot be read", error);
    let copy = std::fs::metadata(&staged.copy).map_err(failed)?;
    let owner = std::fs::metadata(&staged.path).ok();
    let mtime = copy.modified().ok().and_then(|at| rustic_core::jiff::Timestamp::try_from(at).ok());
    let meta = Metadata {
        mode: Some(owner.as_ref().map_or(0o600, |owner| owner.mode() & 0o777)),
        mtime,
        ctime: mtime,
        uid: owner.as_ref().map(MetadataExt::uid),
        gid: owner.as_ref().map(MetadataExt::gid),
        size: copy.len(),
        links: 1,
        ..Metadata::default()
    };
    let name = staged.path.file_name().unwrap_or_default();
    Ok(ReadSourceEntry {
        path: staged.path.clone(),
        node: Node::new_node(name, NodeType::File, meta),
        open: Some(Open { file: staged.copy.clone(), problems: problems.clone() }),
    })
}

/// A file that is to be read.
#[derive(Debug)]
pub(super) struct Open {
    file: PathBuf,
    problems: Problems,
}

impl ReadSourceOpen for Open {
    type Reader = Reader;

    fn open(self) -> RusticResult<Reader> {
        match File::open(&self.file) {
            Ok(file) => Ok(Reader { file, path: self.file, problems: self.problems }),
            Err(error) => {
                // A file that was removed since the walk met it is no file of this moment.
                if error.kind() != io::ErrorKind::NotFound {
                    self.problems.note(|| format!("{}: {error}", self.file.display()));
                }
                Err(RusticError::with_source(ErrorKind::InputOutput, "a file cannot be read", error))
            }
        }
    }
}

/// A file that is read; what goes wrong is remembered.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    problems: Problems,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).inspect_err(|error| {
            self.problems.note(|| format!("{}: {error}", self.path.display()));
        })
    }
}
