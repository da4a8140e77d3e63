//! Where backups are kept, behind a trait: what the rest of the module needs of a repository, and rustic's library, which
//! writes restic's format, as the one that gives it.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_model::Wall;
use rustic_backend::BackendOptions;
use rustic_core::repofile::{MasterKey, SnapshotFile};
use rustic_core::{
    BackupOptions, ConfigOptions, Credentials, IndexedFullStatus, KeepOptions, KeyOptions, LocalDestination,
    LsOptions, OpenStatus, PruneOptions, Repository as Rustic, RepositoryOptions, RestoreOptions,
    RusticError, SnapshotOptions,
};

use super::job::Job;
use super::source::{Problems, Source, Staged};
use crate::config::Keep;

/// So much of what the library says when it panics is told, in characters.
const PANIC_MAX: usize = 200;

/// What is to go into a snapshot.
pub(super) struct Contents<'a> {
    pub(super) folders: &'a [PathBuf],
    pub(super) exclude: &'a [String],
    pub(super) staged: Vec<Staged>,
}

/// One state of the data that can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id, 64 hexadecimal digits; the first eight are enough.
    pub id: String,
    /// Of when it is.
    pub at: Wall,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was backed up.
    pub paths: Vec<String>,
}

/// A file in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Its path, absolute.
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// When it was last written, in milliseconds.
    pub(super) written_at: Option<Wall>,
}

/// A place where encrypted snapshots of one backup are kept. Errors are for a person.
pub(super) trait Repository {
    /// Saves a new snapshot, with what could not be read.
    fn save(&self, contents: Contents<'_>) -> Result<(Snapshot, Option<String>), String>;
    /// The backup's snapshots, oldest first.
    fn snapshots(&self) -> Result<Vec<Snapshot>, String>;
    /// Removes the snapshots that no rule wants, and what only they held. Returns how many.
    fn forget(&self, keep: Keep) -> Result<usize, String>;
    /// Every file of a snapshot.
    fn files(&self, snapshot: &Snapshot) -> Result<Vec<Held>, String>;
    /// Brings a snapshot, or what lies at `path` in it, back below a folder. Returns how many files there are.
    fn restore(&self, snapshot: &Snapshot, path: &Path, to: &Path) -> Result<u64, String>;
}

/// A repository in restic's format in a folder of this machine.
pub(super) struct ResticFolder {
    folder: PathBuf,
    password: String,
    /// The backup's name: snapshots of others in the same repository are left alone.
    tag: String,
    /// Written once there is a backup: a repository that is gone later is not made anew in silence.
    marker: PathBuf,
    /// Once it was opened: making a key of the password is slow on purpose.
    key: OnceCell<MasterKey>,
}

impl ResticFolder {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            folder: job.repository.clone(),
            password: job.password.clone(),
            tag: job.name.clone(),
            marker: job.marker.clone(),
            key: OnceCell::new(),
        }
    }

    /// There is a repository.
    pub(super) fn exists(&self) -> bool {
        self.folder.join("config").is_file()
    }

    fn closed(&self) -> Result<Rustic<()>, String> {
        let backends = BackendOptions::default()
            .repository(self.folder.to_string_lossy().into_owned())
            .to_backends()
            .map_err(|error| self.failed(&error))?;
        // The cache is for repositories that are far away.
        let options = RepositoryOptions::default().no_cache(true);
        Rustic::new(&options, &backends).map_err(|error| self.failed(&error))
    }

    fn open(&self) -> Result<Rustic<OpenStatus>, String> {
        if !self.exists() {
            return Err(format!(
                "there is no repository in {} yet; the first `mainstay backup run` makes it",
                self.folder.display()
            ));
        }
        let opened = self.closed()?.open(&self.credentials()).map_err(|error| self.failed(&error))?;
        self.key.get_or_init(|| opened.key());
        Ok(opened)
    }

    fn open_or_make(&self) -> Result<Rustic<OpenStatus>, String> {
        if self.exists() {
            return self.open();
        }
        let known = std::fs::read(&self.marker).unwrap_or_default();
        if known == self.folder.as_os_str().as_encoded_bytes() {
            return Err(format!(
                "the repository in {} is gone, with all backups in it; mount what should be there, or remove {} to begin \
                 a new one",
                self.folder.display(),
                self.marker.display()
            ));
        }
        // Somebody's other files are not to be mixed with it; an empty mount point is fine.
        let used = std::fs::read_dir(&self.folder)
            .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| file.file_name() != "lost+found")));
        if used {
            return Err(format!(
                "{} is neither a repository nor empty; name another folder, or empty it",
                self.folder.display()
            ));
        }
        let made = self
            .closed()?
            .init(&self.credentials(), &KeyOptions::default(), &ConfigOptions::default())
            .map_err(|error| self.failed(&error))?;
        self.key.get_or_init(|| made.key());
        Ok(made)
    }

    fn indexed(&self) -> Result<Rustic<IndexedFullStatus>, String> {
        self.open()?.to_indexed().map_err(|error| self.failed(&error))
    }

    fn credentials(&self) -> Credentials {
        match self.key.get() {
            Some(key) => Credentials::Masterkey(key.clone()),
            None => Credentials::password(&self.password),
        }
    }

    fn failed(&self, error: &RusticError) -> String {
        let repository = self.folder.display();
        if error.is_incorrect_password() {
            return format!("repository {repository}: the password is wrong");
        }
        format!("repository {repository}: {}", in_words(error))
    }

    fn mine(&self, repository: &Rustic<OpenStatus>) -> Result<Vec<SnapshotFile>, String> {
        let mut all = repository
            .get_matching_snapshots(|snapshot| snapshot.tags.contains(&self.tag))
            .map_err(|error| self.failed(&error))?;
        all.sort_by(|a, b| a.time.cmp(&b.time));
        Ok(all)
    }
}

impl Repository for ResticFolder {
    fn save(&self, contents: Contents<'_>) -> Result<(Snapshot, Option<String>), String> {
        let failed = |error: Box<RusticError>| self.failed(&error);
        let repository = self.open_or_make()?.to_indexed_ids().map_err(failed)?;
        let mut paths: Vec<PathBuf> = contents.folders.to_vec();
        let inside = |path: &Path| contents.folders.iter().any(|folder| path.starts_with(folder));
        paths.extend(contents.staged.iter().map(|s| s.path.clone()).filter(|path| !inside(path)));
        paths.sort();
        let problems = Problems::default();
        let source = Source::new(contents.folders, contents.exclude, contents.staged, problems.clone())
            .map_err(failed)?;
        let snapshot = SnapshotOptions::default()
            .add_tags(&self.tag)
            .and_then(|options| options.to_snapshot())
            .map_err(failed)?;
        let options = BackupOptions::default().no_scan(true);
        let saved = repository.archive(&options, &source, snapshot, &paths).map_err(failed)?;
        // Whoever may not write there only misses to be told that the repository is gone.
        let _ = std::fs::write(&self.marker, self.folder.as_os_str().as_encoded_bytes());
        Ok((present(&saved), problems.in_words()))
    }

    fn snapshots(&self) -> Result<Vec<Snapshot>, String> {
        Ok(self.mine(&self.open()?)?.iter().map(present).collect())
    }

    fn forget(&self, keep: Keep) -> Result<usize, String> {
        let failed = |error: Box<RusticError>| self.failed(&error);
        let repository = self.open()?;
        let count = |n: u32| (n > 0).then(|| i32::try_from(n).unwrap_or(i32::MAX));
        let mut options = KeepOptions::default();
        // Whatever the rules say, the newest stays.
        options.keep_last = count(keep.last.max(1));
        options.keep_daily = count(keep.daily);
        options.keep_weekly = count(keep.weekly);
        options.keep_monthly = count(keep.monthly);
        let now = rustic_core::jiff::Zoned::now();
        let judged = options.apply(self.mine(&repository)?, &now).map_err(failed)?;
        let gone: Vec<_> = judged.into_iter().filter(|s| !s.keep).map(|s| s.snapshot.id).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        repository.delete_snapshots(&gone).map_err(failed)?;
        let options = PruneOptions::default();
        let plan = repository.prune_plan(&options).map_err(failed)?;
        repository.prune(&options, plan).map_err(failed)?;
        Ok(gone.len())
    }

    fn files(&self, snapshot: &Snapshot) -> Result<Vec<Held>, String> {
        let failed = |error: Box<RusticError>| self.failed(&error);
        let repository = self.indexed()?;
        let root = repository.node_from_snapshot_path(&snapshot.id, |_| true).map_err(failed)?;
        let mut files = Vec::new();
        for entry in repository.ls(&root, &LsOptions::default()).map_err(failed)? {
            let (path, node) = entry.map_err(failed)?;
            if node.is_file() {
                let written_at = node.meta.mtime.map(|at| Wall(at.as_millisecond()));
                files.push(Held { path: Path::new("/").join(path), size: node.meta.size, written_at });
            }
        }
        Ok(files)
    }

    fn restore(&self, snapshot: &Snapshot, path: &Path, to: &Path) -> Result<u64, String> {
        let failed = |error: Box<RusticError>| self.failed(&error);
        let repository = self.indexed()?;
        let from = format!("{}:{}", snapshot.id, path.display());
        let node = repository.node_from_snapshot_path(&from, |_| true).map_err(|error| {
            format!(
                "there is no {} in snapshot {}: {}",
                path.display(),
                short(&snapshot.id),
                self.failed(&error)
            )
        })?;
        let target = to.to_str().ok_or_else(|| format!("{} is not UTF-8", to.display()))?;
        let file = node.name();
        let target = match node.is_dir() {
            true => target.to_owned(),
            false => format!("{target}/{}", file.to_string_lossy()),
        };
        let destination = LocalDestination::new(&target, true, !node.is_dir()).map_err(failed)?;
        let entries = repository.ls(&node, &LsOptions::default()).map_err(failed)?;
        let options = RestoreOptions::default();
        let plan =
            repository.prepare_restore(&options, entries.clone(), &destination, false).map_err(failed)?;
        let files = plan.stats.files.restore + plan.stats.files.unchanged + plan.stats.files.verified;
        let restored =
            catch(|| repository.restore(plan, &options, entries, &destination).map_err(|e| self.failed(&e)));
        match restored {
            Ok(restored) => restored.map(|()| files),
            // The library gives up where a pack is damaged.
            Err(panicked) => Err(format!(
                "repository {} is damaged, so not all of the {files} files could be restored; those that could are in \
                 {target}; `restic check --read-data` says what is hit ({panicked})",
                self.folder.display(),
            )),
        }
    }
}

/// Does it; where it panics, says what was said first, and keeps it from standard error.
fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let said = Arc::new(Mutex::new(String::new()));
    let before = std::panic::take_hook();
    let first = Arc::clone(&said);
    std::panic::set_hook(Box::new(move |panic| {
        let mut said = first.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() {
            *said = one_line(panic.payload_as_str().unwrap_or("no reason was given"));
        }
    }));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    std::panic::set_hook(before);
    done.map_err(|_| {
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.chars().take(PANIC_MAX).collect()
    })
}

/// The first eight digits of an id, as restic shows it.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn present(snapshot: &SnapshotFile) -> Snapshot {
    let summary = snapshot.summary.as_ref();
    Snapshot {
        id: snapshot.id.to_string(),
        at: Wall(snapshot.time.timestamp().as_millisecond()),
        files: summary.map_or(0, |s| s.total_files_processed),
        bytes: summary.map_or(0, |s| s.total_bytes_processed),
        paths: snapshot.paths.iter().cloned().collect(),
    }
}

/// One of the library's errors, in a line. With `RUST_BACKTRACE` set its cause is printed with a backtrace.
pub(super) fn in_words(error: &RusticError) -> String {
    let text = error.display_log();
    one_line(text.split("Backtrace:").next().unwrap_or(&text))
}

/// What the library says are small essays.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
