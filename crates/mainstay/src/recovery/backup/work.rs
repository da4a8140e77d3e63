//! The work itself, as the process that was started for it does it, or the command line.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mainstay_model::Wall;
use mainstay_model::input::{BackupDone, BackupTask};
use sha2::{Digest as _, Sha256};

use super::databases::{check_postgres, check_sqlite, copy_of, copy_sqlite, dump_postgres};
use super::job::{Answer, Job};
use super::repository::{Contents, Held, Repository, ResticFolder, Snapshot, short};
use super::source::Staged;

/// Does what the job says.
///
/// # Errors
/// For a person: what could not be done and why.
pub fn work(job: &Job) -> Answer {
    let repository = ResticFolder::of(job);
    let scratch = Scratch::new(&job.scratch)?;
    match job.task {
        BackupTask::Run => run(job, &repository, &scratch.0),
        BackupTask::Verify => verify(job, &repository, &scratch.0),
    }
}

/// The backup's snapshots, oldest first.
///
/// # Errors
/// For a person.
pub fn list(job: &Job) -> Result<Vec<Snapshot>, String> {
    ResticFolder::of(job).snapshots()
}

/// Brings a snapshot back below a folder: all of it, or what lies at `path` in it. Returns how many files there are.
///
/// # Errors
/// For a person: there is no such snapshot or path, or the folder is used already.
pub fn restore(
    job: &Job,
    id: Option<&str>,
    path: Option<&Path>,
    to: &Path,
) -> Result<(Snapshot, u64), String> {
    let repository = ResticFolder::of(job);
    let snapshot = match id {
        None => newest(&repository)?,
        Some(id) => {
            let all = repository.snapshots()?;
            let mut meant = all.into_iter().filter(|snapshot| snapshot.id.starts_with(id));
            match (meant.next(), meant.next()) {
                (Some(snapshot), None) => snapshot,
                (None, _) => {
                    return Err(format!("there is no snapshot {id}; `mainstay backup list` shows them"));
                }
                (Some(_), Some(_)) => {
                    return Err(format!("{id} could be several snapshots; write more of it"));
                }
            }
        }
    };
    if fs::read_dir(to).is_ok_and(|mut files| files.next().is_some()) || to.is_file() {
        return Err(format!(
            "{} is not empty; restore into a new folder and move things from there",
            to.display()
        ));
    }
    let files = repository.restore(&snapshot, path.unwrap_or(Path::new("/")), to)?;
    Ok((snapshot, files))
}

fn run(job: &Job, repository: &dyn Repository, scratch: &Path) -> Answer {
    for folder in &job.folders {
        if !folder.is_dir() {
            return Err(format!("{} is not a folder", folder.display()));
        }
    }
    let mut staged = Vec::new();
    for path in &job.sqlite {
        let copy = copy_of(path, scratch, staged.len());
        copy_sqlite(path, &copy)?;
        staged.push(Staged { path: path.clone(), copy });
    }
    for dump in &job.postgres {
        let copy = copy_of(&dump.path, scratch, staged.len());
        dump_postgres(dump, &copy)?;
        staged.push(Staged { path: dump.path.clone(), copy });
    }
    let data_at = now();
    let databases: Vec<PathBuf> = staged.iter().map(|staged| staged.path.clone()).collect();
    let contents = Contents { folders: &job.folders, exclude: &job.exclude, staged };
    let (snapshot, unread) = repository.save(contents)?;
    let held: BTreeMap<PathBuf, Held> =
        repository.files(&snapshot)?.into_iter().map(|held| (held.path.clone(), held)).collect();
    if let Some(missing) = databases.iter().find(|path| !held.contains_key(*path)) {
        return Err(format!("{} is not in snapshot {}", missing.display(), short(&snapshot.id)));
    }
    if held.is_empty() {
        return Err(format!("snapshot {} is empty: there was no file to back up", short(&snapshot.id)));
    }
    if let Some(unread) = unread {
        let rest = short(&snapshot.id);
        return Err(format!("could not be read, the rest is in snapshot {rest}: {unread}"));
    }
    let removed = repository.forget(job.keep)?;
    let note = match removed {
        0 => String::new(),
        1 => "1 old snapshot was removed".to_owned(),
        n => format!("{n} old snapshots were removed"),
    };
    Ok(done(&snapshot, data_at, &held, note))
}

/// Restores the newest snapshot and looks at every file of it: it is there, as long as it was, the same as the one that is
/// in use where that has not changed since, and a database that opens.
fn verify(job: &Job, repository: &dyn Repository, scratch: &Path) -> Answer {
    let snapshot = newest(repository)?;
    let files = repository.files(&snapshot)?;
    let began = Instant::now();
    repository.restore(&snapshot, Path::new("/"), scratch)?;
    let took = began.elapsed();
    let held: BTreeMap<PathBuf, Held> = files.into_iter().map(|held| (held.path.clone(), held)).collect();
    if held.is_empty() {
        return Err(format!("snapshot {} is empty", short(&snapshot.id)));
    }
    let mut same = 0_u64;
    for held in held.values() {
        let restored = below(scratch, &held.path);
        let length = fs::metadata(&restored)
            .map_err(|error| format!("{} was not restored: {error}", held.path.display()))?
            .len();
        if length != held.size {
            return Err(format!("{} has {length} bytes where there were {}", held.path.display(), held.size));
        }
        if is_as_it_was(held) {
            if digest(&restored)? != digest(&held.path)? {
                return Err(format!("{} differs from the one that was backed up", held.path.display()));
            }
            same += 1;
        }
    }
    for path in &job.sqlite {
        check_sqlite(&below(scratch, path)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for dump in &job.postgres {
        check_postgres(&below(scratch, &dump.path))
            .map_err(|error| format!("{}: {error}", dump.path.display()))?;
    }
    let databases = match job.sqlite.len() + job.postgres.len() {
        0 => String::new(),
        1 => ", 1 database opens".to_owned(),
        n => format!(", {n} databases open"),
    };
    let files = match held.len() {
        1 => "1 file compared with the one in use".to_owned(),
        n => format!("{n} files compared with those in use"),
    };
    let note = format!("restored in {:.1} s; {same} of {files}{databases}", took.as_secs_f64());
    Ok(done(&snapshot, snapshot.at, &held, note))
}

fn newest(repository: &dyn Repository) -> Result<Snapshot, String> {
    repository.snapshots()?.pop().ok_or_else(|| "there is no snapshot of this backup yet".to_owned())
}

fn done(snapshot: &Snapshot, data_at: Wall, held: &BTreeMap<PathBuf, Held>, note: String) -> BackupDone {
    BackupDone {
        snapshot: short(&snapshot.id).to_owned(),
        data_at,
        files: held.len() as u64,
        bytes: held.values().map(|held| held.size).sum(),
        note,
    }
}

/// The file in use has not been written to since it was backed up. Only then can it be compared.
fn is_as_it_was(held: &Held) -> bool {
    let Ok(now) = fs::symlink_metadata(&held.path) else { return false };
    let written = now.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let written = written.and_then(|at| i64::try_from(at.as_millis()).ok()).map(Wall);
    now.is_file() && now.len() == held.size && written.is_some() && written == held.written_at
}

fn digest(path: &Path) -> Result<[u8; 32], String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// `/srv/shop` below `/scratch` is `/scratch/srv/shop`.
fn below(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix("/").unwrap_or(path))
}

fn now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A folder of the job's own, for its owner only; emptied before, and removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("the scratch folder {}: {error}", folder.display());
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the scratch folder could not be removed");
        }
    }
}
