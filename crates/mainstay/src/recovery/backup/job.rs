//! What is to be backed up, as it is handed to the process that does it, and what that process answers.
//!
//! A backup reads and compresses for minutes; in a process of its own it can be ended at its deadline, gets what the
//! servers leave over of processor and disk, and takes nothing of Mainstay down with it. The job goes over a pipe, so that its
//! secrets show in no list of processes.

use std::path::PathBuf;

use mainstay_model::input::{BackupDone, BackupTask};
use serde::{Deserialize, Serialize};

use crate::config::{BackupSpec, Keep};

/// One backup to be made or tried out.
#[derive(Clone, Serialize, Deserialize)]
pub struct Job {
    /// The backup's name; its snapshots carry it as their tag.
    pub name: String,
    /// What is to be done.
    pub task: BackupTask,
    /// Folder of the repository.
    pub repository: PathBuf,
    /// What the repository is encrypted with.
    pub password: String,
    /// Folders, absolute.
    pub folders: Vec<PathBuf>,
    /// Patterns of what is left out, as in a `.gitignore`.
    pub exclude: Vec<String>,
    /// SQLite databases, absolute.
    pub sqlite: Vec<PathBuf>,
    /// PostgreSQL databases.
    pub postgres: Vec<Dump>,
    /// Which snapshots are kept.
    pub keep: Keep,
    /// A folder that only this job uses: copies of databases, and what is restored for a trial.
    pub scratch: PathBuf,
    /// A file that says where the repository was that has backups of this name.
    pub marker: PathBuf,
}

/// A PostgreSQL database.
#[derive(Clone, Serialize, Deserialize)]
pub struct Dump {
    /// As `pg_dump --dbname` takes it, without a password.
    pub url: String,
    /// The password.
    pub password: Option<String>,
    /// Where its dump stands in the snapshot.
    pub path: PathBuf,
}

/// What the process answers.
pub type Answer = Result<BackupDone, String>;

impl Job {
    /// The job that a config means.
    pub fn new(name: &str, task: BackupTask, spec: &BackupSpec) -> Self {
        let dumps = spec.postgres.iter().map(|database| Dump {
            url: database.url.clone(),
            password: database.password.as_ref().map(|password| password.reveal().to_owned()),
            path: database.path.clone(),
        });
        Self {
            name: name.to_owned(),
            task,
            repository: spec.repository.clone(),
            password: spec.password.reveal().to_owned(),
            folders: spec.folders.clone(),
            exclude: spec.exclude.clone(),
            sqlite: spec.sqlite.clone(),
            postgres: dumps.collect(),
            keep: spec.keep,
            scratch: spec.scratch.clone(),
            marker: spec.scratch.with_extension("repository"),
        }
    }
}
