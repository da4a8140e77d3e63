//! A folder of a test's own, and the mark by which every process that belongs to the test is found.

use std::path::{Path, PathBuf};

use super::process;

/// The environment variable that every process of a test inherits.
const MARK: &str = "MAINSTAY_TEST_HOME";

/// A temporary folder. Dropping it ends every process that was started with its mark and removes the folder.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Mainstay's data directory.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Where the config lies.
    pub fn config(&self) -> PathBuf {
        self.path().join("mainstay.toml")
    }

    /// Replaces the config, as an editor does: a new file under the old name.
    pub fn write_config(&self, text: &str) {
        let new = self.path().join("mainstay.toml.new");
        std::fs::write(&new, text).expect("the config can be written");
        std::fs::rename(&new, self.config()).expect("the config can be replaced");
    }

    /// The mark, as a name and a value for the environment.
    pub fn mark(&self) -> (&'static str, String) {
        (MARK, self.path().display().to_string())
    }

    /// Processes with this home's mark that Mainstay supervises (or left behind).
    pub fn supervised(&self) -> Vec<u32> {
        let marked = self.marked();
        marked.into_iter().filter(|pid| process::has_variable(*pid, "MAINSTAY_SUPERVISED=")).collect()
    }

    fn marked(&self) -> Vec<u32> {
        let (name, value) = self.mark();
        let mark = format!("{name}={value}");
        process::all().into_iter().filter(|pid| process::has_variable(*pid, &mark)).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Twice, because a process may have started another one while we looked.
        for _ in 0..2 {
            for pid in self.marked().into_iter().filter(|pid| *pid != std::process::id()) {
                process::signal(pid, libc::SIGKILL);
            }
        }
    }
}
