//! The static copy: the same files in a folder, for another web server or another machine to show. Each file is whole at every
//! moment, and a folder that cannot be written is trouble of Mainstay's own.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::Input;
use mainstay_model::input::OwnPart;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Settings;
use super::edition::Edition;
use crate::web::Submit;

/// Between two writings.
const PACE: Duration = Duration::from_secs(2);
/// After one that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// A folder that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// Writes each edition to the config's folder.
pub(super) async fn follow(
    mut editions: watch::Receiver<Arc<Edition>>,
    mut settings: Settings,
    submit: Submit,
) {
    let mut copy: Option<Copy> = None;
    let mut told: Option<String> = None;
    loop {
        let edition = editions.borrow_and_update().clone();
        let folder = settings.borrow_and_update().as_ref().and_then(|settings| settings.folder.clone());
        if copy.as_ref().map(|copy| &copy.folder) != folder.as_ref() {
            copy = folder.map(Copy::new);
        }
        let mut trouble = None;
        if let Some(mut writing) = copy.take()
            && !edition.files.is_empty()
        {
            let folder = writing.folder.clone();
            let mut work = tokio::task::spawn_blocking(move || {
                let result = writing.write(&edition);
                (writing, result)
            });
            let done = match timeout(DEADLINE, &mut work).await {
                Ok(done) => done,
                Err(_) => {
                    let what = format!("its folder {} takes longer than ten seconds", folder.display());
                    tell(&submit, &mut told, Some(format!("{what}; look at the disk or the mount"))).await;
                    work.await
                }
            };
            match done {
                Ok((writing, Ok(()))) => copy = Some(writing),
                // What lies there now is not known: all of it is written anew.
                Ok((_, Err(error))) => trouble = Some(explain(&folder, &error)),
                Err(error) => trouble = Some(explain(&folder, &io::Error::other(error))),
            }
        }
        let pause = if trouble.is_some() { AGAIN } else { PACE };
        tell(&submit, &mut told, trouble.clone()).await;
        sleep(pause).await;
        if trouble.is_none() {
            tokio::select! {
                changed = editions.changed() => if changed.is_err() { return },
                changed = settings.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Says what is wrong when that has changed.
async fn tell(submit: &Submit, told: &mut Option<String>, trouble: Option<String>) {
    if *told == trouble {
        return;
    }
    if let Some(text) = &trouble {
        tracing::error!("{text}");
    }
    told.clone_from(&trouble);
    // The engine is stopping if it does not take it in.
    let said = submit(Input::Own { part: OwnPart::StatusPage, trouble });
    let _ = timeout(DEADLINE, said).await;
}

fn explain(folder: &Path, error: &io::Error) -> String {
    format!(
        "the copy in {} cannot be written: {error}; see that status.folder names a folder that belongs to Mainstay's user, \
         with room on its disk",
        folder.display()
    )
}

/// A folder, and what was written to it.
#[derive(Debug)]
struct Copy {
    folder: PathBuf,
    /// By path, with the content's tag.
    written: BTreeMap<String, String>,
}

impl Copy {
    fn new(folder: PathBuf) -> Self {
        Self { folder, written: BTreeMap::new() }
    }

    /// Writes what has changed; the first page last, so that all it leads to is there.
    fn write(&mut self, edition: &Edition) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let is_first = |path: &str| path == "index.html";
        let (first, others): (Vec<_>, Vec<_>) = edition.files.iter().partition(|(path, _)| is_first(path));
        for (path, file) in others.into_iter().chain(first) {
            let to = self.folder.join(path);
            if self.written.get(path) == Some(&file.etag) && to.exists() {
                continue;
            }
            write_whole(&to, &file.body)?;
            self.written.insert(path.clone(), file.etag.clone());
        }
        let gone: Vec<String> =
            self.written.keys().filter(|path| !edition.files.contains_key(*path)).cloned().collect();
        for path in gone {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(self.folder.join(&path));
            self.written.remove(&path);
        }
        Ok(())
    }
}

/// Puts a file in its place in one piece.
fn write_whole(to: &Path, body: &[u8]) -> io::Result<()> {
    let name = to.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Always the same name, so that what a crash left is written over.
    let temporary = folder.join(format!(".{name}.tmp"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
    options.open(&temporary)?.write_all(body)?;
    std::fs::rename(&temporary, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::public::edition::File;

    fn edition(files: &[(&str, &'static str)]) -> Edition {
        let file = |body: &'static str| File {
            content_type: "text/plain",
            body: axum::body::Bytes::from_static(body.as_bytes()),
            etag: format!("\"{body}\""),
            lasting: false,
        };
        let files = files.iter().map(|(path, body)| ((*path).to_owned(), file(body))).collect();
        Edition { files }
    }

    #[test]
    fn a_changed_file_is_replaced_whole_and_one_that_is_gone_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("deep/status");
        let mut copy = Copy::new(folder.clone());
        copy.write(&edition(&[("index.html", "1"), ("badge/shop.svg", "2")])).unwrap();
        let text = |path: &str| std::fs::read_to_string(folder.join(path)).ok();
        assert_eq!((text("index.html"), text("badge/shop.svg")), (Some("1".into()), Some("2".into())));
        std::fs::write(folder.join("somebody's.txt"), "own").unwrap();
        copy.write(&edition(&[("index.html", "3")])).unwrap();
        assert_eq!((text("index.html"), text("badge/shop.svg")), (Some("3".into()), None));
        assert_eq!(
            text("somebody's.txt").as_deref(),
            Some("own"),
            "what Mainstay did not write it leaves alone"
        );
        assert!(!folder.join(".index.html.tmp").exists());
    }

    #[test]
    fn what_was_removed_behind_its_back_is_written_again() {
        let home = tempfile::tempdir().unwrap();
        let mut copy = Copy::new(home.path().to_owned());
        let edition = edition(&[("index.html", "1"), ("style.css", "2")]);
        copy.write(&edition).unwrap();
        std::fs::remove_file(home.path().join("style.css")).unwrap();
        copy.write(&edition).unwrap();
        assert!(home.path().join("style.css").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("file"), "").unwrap();
        let folder = home.path().join("file/status");
        let error = Copy::new(folder.clone()).write(&edition(&[("index.html", "1")])).unwrap_err();
        let told = explain(&folder, &error);
        assert!(told.contains("file/status") && told.contains("status.folder"), "{told}");
    }
}
