//! The freeze switch as a file in the data directory, `freeze`: whoever can log in can turn it, also while nothing else answers.
//!
//! The program writes it as JSON (`until`, `by`, `why`). Whatever else is in it is taken for the reason, and an empty one made by
//! `touch` counts too. Without `until` it holds for a day from when it was last changed, and never for longer than that.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use mainstay_model::freeze::{FREEZE_MAX, Freeze, TEXT_MAX};
use mainstay_model::{Input, Wall};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

const NAME: &str = "freeze";
/// A person who made the file waits no longer for it to be heeded.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Nobody writes more on purpose.
const READ_MAX: u64 = 4096;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    by: String,
    why: String,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeFile(PathBuf);

impl FreezeFile {
    /// That of a data directory.
    pub fn of(data: &Path) -> Self {
        Self(data.join(NAME))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it says now; `None`: there is none, or its time is over. One that cannot be read freezes too: somebody made it.
    pub fn read(&self, now: Wall) -> Option<Freeze> {
        let about = match std::fs::metadata(&self.0) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let why = format!("{} cannot be looked at: {error}", self.0.display());
                return Some(Freeze { until: after(now), by: String::new(), why });
            }
        };
        let changed = about.modified().map_or(now, wall);
        let written = self.text().map_or_else(
            |error| Written {
                why: format!("{} cannot be read: {error}", self.0.display()),
                ..Written::default()
            },
            |text| of_text(&text),
        );
        let latest = after(changed.min(now));
        let until = written.until.map_or(latest, |until| Wall(until.as_millisecond()).min(latest));
        (now < until).then(|| Freeze { until, by: line(&written.by), why: line(&written.why) })
    }

    /// Tells the judge what it says, at first and whenever that changes. It is looked at beside the judge, who does not wait for a
    /// disk that hangs.
    pub async fn follow(self, inputs: mpsc::Sender<Input>) {
        let mut told = None;
        loop {
            let file = self.clone();
            let read = tokio::task::spawn_blocking(move || file.read(wall(SystemTime::now()))).await;
            if let Ok(freeze) = read
                && told.as_ref() != Some(&freeze)
            {
                told = Some(freeze.clone());
                if inputs.send(Input::Freeze(freeze)).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn text(&self) -> io::Result<String> {
        let mut bytes = Vec::new();
        std::fs::File::open(&self.0)?.take(READ_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Turns the switch on, or off.
    ///
    /// # Errors
    /// The file cannot be written or removed; the switch is as it was.
    pub fn write(&self, freeze: Option<&Freeze>) -> io::Result<()> {
        let Some(freeze) = freeze else {
            return match std::fs::remove_file(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        let until = Timestamp::from_millisecond(freeze.until.0).ok();
        let written = Written { until, by: freeze.by.clone(), why: freeze.why.clone() };
        let text = serde_json::to_string(&written)? + "\n";
        // Whoever reads it meanwhile finds the old one or the new one.
        let beside = self.0.with_extension("new");
        let put = || {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.0)
        };
        put().inspect_err(|_| _ = std::fs::remove_file(&beside))
    }
}

fn of_text(text: &str) -> Written {
    serde_json::from_str(text).unwrap_or_else(|_| Written {
        why: text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned(),
        ..Written::default()
    })
}

fn line(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(TEXT_MAX).collect()
}

fn after(at: Wall) -> Wall {
    Wall(at.0.saturating_add(i64::try_from(FREEZE_MAX.as_millis()).unwrap_or(i64::MAX)))
}

fn wall(time: SystemTime) -> Wall {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn now() -> Wall {
        Wall(Timestamp::now().as_millisecond())
    }

    #[test]
    fn what_is_written_is_read_again_until_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = FreezeFile::of(folder.path());
        let now = now();
        assert_eq!(file.read(now), None);
        let until = Wall(now.0 + 3_600_000);
        let freeze = Freeze { until, by: "anna".to_owned(), why: "racks \"are\" moved".to_owned() };
        file.write(Some(&freeze)).unwrap();
        assert_eq!(file.read(now), Some(freeze));
        assert_eq!(file.read(until), None);
        file.write(None).unwrap();
        assert_eq!(file.read(now), None);
        file.write(None).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left beside it");
    }

    #[test]
    fn whatever_a_person_puts_there_freezes_for_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let file = FreezeFile::of(folder.path());
        for (text, why) in [
            ("", ""),
            ("\n  racks are moved\nask anna\n", "racks are moved"),
            ("{\"why\": \"a\\u0007 b\"}", "a b"),
            ("{\"until\": 2999}", "{\"until\": 2999}"),
            ("{\"until\": \"2999-01-01T00:00:00Z\"}", ""),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let now = now();
            let read = file.read(now).unwrap();
            assert_eq!((read.why.as_str(), read.by.as_str()), (why, ""), "{text:?}");
            assert!((now.0 + DAY_MS - 60_000..=now.0 + DAY_MS).contains(&read.until.0), "{read:?}");
        }
        std::fs::write(file.path(), "x".repeat(100_000)).unwrap();
        assert_eq!(file.read(now()).unwrap().why.len(), TEXT_MAX);
        std::fs::remove_file(file.path()).unwrap();
        std::fs::create_dir(file.path()).unwrap();
        assert!(file.read(now()).unwrap().why.contains("cannot be read"), "a folder of that name");
    }

    #[test]
    fn one_that_was_made_more_than_a_day_ago_says_nothing_until_it_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let file = FreezeFile::of(folder.path());
        std::fs::write(file.path(), "").unwrap();
        let now = now();
        assert_eq!(file.read(Wall(now.0 + DAY_MS + 1000)), None);
        // A clock that was set back does not make it last longer.
        assert_eq!(file.read(Wall(now.0 - 10 * DAY_MS)).unwrap().until.0, now.0 - 9 * DAY_MS);
        let opened = std::fs::File::options().write(true).open(file.path()).unwrap();
        opened.set_modified(SystemTime::now() - FREEZE_MAX * 2).unwrap();
        assert_eq!(file.read(now), None);
        opened.set_modified(SystemTime::now()).unwrap();
        assert!(file.read(now).is_some());
    }
}
