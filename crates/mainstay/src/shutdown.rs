//! What is asked of the running program from outside: SIGTERM and SIGINT drain within a deadline, a second one ends at once,
//! SIGHUP or a saved config reloads.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Let requests under way finish, then end.
    Stop,
    /// End at once.
    StopNow,
    /// Read the config again.
    Reload,
}

/// Yields wishes, one after the other.
#[derive(Debug)]
pub struct Wishes {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// It was asked to stop before.
    stopping: bool,
    watch: Option<ConfigWatch>,
    /// Files that the config names, with their watches.
    also: Vec<(PathBuf, ConfigWatch)>,
}

impl Wishes {
    /// Listens for signals, and for changes of the config file if there is one. Must be called inside a runtime. A file that
    /// cannot be watched is logged and no more: SIGHUP still works.
    ///
    /// # Errors
    /// When a signal cannot be listened for.
    pub fn listen(config: Option<&Path>) -> std::io::Result<Self> {
        let watch = config.and_then(|path| {
            ConfigWatch::start(path)
                .map_err(|error| {
                    tracing::warn!(path = %path.display(), %error, "cannot watch the config; send SIGHUP after a change");
                })
                .ok()
        });
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            stopping: false,
            watch,
            also: Vec::new(),
        })
    }

    /// Listens for changes of these files too, which the config names. Must be called inside a runtime.
    pub fn follow(&mut self, files: &[PathBuf]) {
        self.also.retain(|(known, _)| files.contains(known));
        for file in files {
            if self.also.iter().any(|(known, _)| known == file) {
                continue;
            }
            match ConfigWatch::start(file) {
                Ok(watch) => self.also.push((file.clone(), watch)),
                Err(error) => {
                    tracing::warn!(path = %file.display(), %error, "cannot watch this file; send SIGHUP after a change");
                }
            }
        }
    }

    /// The next wish. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => self.stop(),
            _ = self.interrupt.recv() => self.stop(),
            _ = self.hangup.recv() => Wish::Reload,
            () = changed(&mut self.watch) => Wish::Reload,
            () = one_changed(&mut self.also) => Wish::Reload,
        }
    }

    fn stop(&mut self) -> Wish {
        match std::mem::replace(&mut self.stopping, true) {
            false => Wish::Stop,
            true => Wish::StopNow,
        }
    }
}

async fn changed(watch: &mut Option<ConfigWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn one_changed(watches: &mut [(PathBuf, ConfigWatch)]) {
    std::future::poll_fn(|cx| {
        let mut polled = watches.iter_mut().map(|(_, watch)| watch.changes.poll_recv(cx));
        // A watch that has ended has nothing to say.
        match polled.any(|polled| matches!(polled, Poll::Ready(Some(())))) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// No event for so long: whoever saves the file has finished.
const QUIET: Duration = Duration::from_millis(200);
/// A folder in which something happens all the time is looked at this often.
const PATIENCE: Duration = Duration::from_secs(2);
/// A longer file is neither a config nor a zone, and not read to the end.
const LONGEST: u64 = 64 << 20;

/// What can change which content a name leads to. Not each write: a busy file in the same folder (an access log) would wake the
/// watch all the time, and who saves a config closes it.
const STIRS: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE);

/// Notices that a file's content has changed, however an editor or a deployment saves it: written in place, replaced by
/// rename, or behind a symbolic link. For that it watches the folder, not the file.
#[derive(Debug)]
struct ConfigWatch {
    changes: mpsc::Receiver<()>,
    tasks: [JoinHandle<()>; 2],
}

impl ConfigWatch {
    #[expect(unsafe_code, reason = "tokio asks its caller to see that a descriptor is open")]
    fn start(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        for folder in folders(&path) {
            inotify.add_watch(&folder, STIRS)?;
        }
        // SAFETY: an `OwnedFd` is an open descriptor that closes nowhere else, and it is not replaced inside.
        let events = unsafe { AsyncFd::register(OwnedFd::from(inotify)) };
        let events = events.map_err(|error| io::Error::other(error.to_string()))?;
        // One waiting event says all: look again.
        let (stir, stirred) = mpsc::channel(1);
        let (change, changes) = mpsc::channel(1);
        let looking = look_when_stirred(path.clone(), content(&path), stirred, change);
        Ok(Self { changes, tasks: [tokio::spawn(hear(events, stir)), tokio::spawn(looking)] })
    }

    async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for ConfigWatch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Says that something happened, whatever it was.
async fn hear(events: AsyncFd<OwnedFd>, stir: mpsc::Sender<()>) {
    let mut some = [0; 4096];
    loop {
        let heard = events.async_io(Interest::READABLE, |fd| Ok(nix::unistd::read(fd, &mut some)?)).await;
        if let Err(error) = heard {
            return tracing::warn!(%error, "cannot watch the config any longer; send SIGHUP after a change");
        }
        // Full means that a look is due already.
        let _ = stir.try_send(());
    }
}

/// The folder of the file, and the one of what it points to.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path.parent().map(Path::to_owned).into_iter().collect();
    let target = path.canonicalize().ok().and_then(|target| target.parent().map(Path::to_owned));
    folders.extend(target.filter(|target| Some(target) != folders.first()));
    folders
}

async fn look_when_stirred(
    path: PathBuf,
    mut known: Option<u64>,
    mut stirred: mpsc::Receiver<()>,
    change: mpsc::Sender<()>,
) {
    while stirred.recv().await.is_some() {
        let until_quiet =
            async { while let Ok(Some(())) = tokio::time::timeout(QUIET, stirred.recv()).await {} };
        let _ = tokio::time::timeout(PATIENCE, until_quiet).await;
        // Between a removal and its replacement there is nothing to read, and nothing to say; but whatever comes back
        // is news, because a reload may have found nothing in between.
        let Some(now) = content(&path) else {
            known = None;
            continue;
        };
        if known == Some(now) {
            continue;
        }
        known = Some(now);
        if change.send(()).await.is_err() {
            return;
        }
    }
}

/// A number that stands for what the file says; `None` when there is no file to read.
fn content(path: &Path) -> Option<u64> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than a loaded machine needs.
    const DEADLINE: Duration = Duration::from_secs(20);

    async fn notices(watch: &mut ConfigWatch) {
        tokio::time::timeout(DEADLINE, watch.changed()).await.expect("the change is noticed");
    }

    #[tokio::test]
    async fn a_file_that_is_written_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mainstay.toml");
        std::fs::write(&path, "one").unwrap();
        let mut watch = ConfigWatch::start(&path).unwrap();

        std::fs::write(&path, "two").unwrap();
        notices(&mut watch).await;

        let draft = folder.path().join(".mainstay.toml.swp");
        std::fs::write(&draft, "three").unwrap();
        std::fs::rename(&draft, &path).unwrap();
        notices(&mut watch).await;

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "four").unwrap();
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn a_file_that_the_config_names_is_followed_until_it_no_longer_does() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one.zone", "two.zone"].map(|name| folder.path().join(name));
        [&one, &two].iter().for_each(|path| std::fs::write(path, "one").unwrap());
        let mut wishes = Wishes::listen(None).unwrap();
        wishes.follow(&[one.clone(), two.clone()]);
        std::fs::write(&two, "two").unwrap();
        let wish = tokio::time::timeout(DEADLINE, wishes.next()).await.expect("the change is noticed");
        assert_eq!(wish, Wish::Reload);
        wishes.follow(std::slice::from_ref(&one));
        assert_eq!(wishes.also.len(), 1);
    }

    #[tokio::test]
    async fn a_link_that_points_elsewhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (dir, text) in [("old", "one"), ("new", "two")] {
            std::fs::create_dir(at(dir)).unwrap();
            std::fs::write(at(dir).join("mainstay.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("old", at("current")).unwrap();
        std::os::unix::fs::symlink("current/mainstay.toml", at("mainstay.toml")).unwrap();
        let mut watch = ConfigWatch::start(&at("mainstay.toml")).unwrap();

        std::os::unix::fs::symlink("new", at("next")).unwrap();
        std::fs::rename(at("next"), at("current")).unwrap();
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn only_a_changed_content_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mainstay.toml");
        std::fs::write(&path, "one").unwrap();
        let (stir, stirred) = mpsc::channel(1);
        let (change, mut changes) = mpsc::channel(1);
        let task = tokio::spawn(look_when_stirred(path.clone(), content(&path), stirred, change));

        // The task ends by itself when nobody can stir any longer, so every look is over then.
        stir.send(()).await.unwrap();
        std::fs::write(&path, "one").unwrap();
        stir.send(()).await.unwrap();
        drop(stir);
        task.await.unwrap();
        assert!(changes.try_recv().is_err());
    }

    #[tokio::test]
    async fn neither_reading_nor_an_open_file_beside_it_stirs_the_watch() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mainstay.toml");
        std::fs::write(&path, "one").unwrap();
        let mut log = std::fs::File::create(folder.path().join("access.log")).unwrap();
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        inotify.add_watch(folder.path(), STIRS).unwrap();
        log.write_all(b"a line").unwrap();
        assert!(content(&path).is_some());
        assert_eq!(inotify.read_events().unwrap_err(), nix::errno::Errno::EAGAIN);
        drop(log);
        assert_eq!(inotify.read_events().unwrap().len(), 1, "what is saved is closed");
    }

    #[tokio::test]
    async fn a_second_request_to_stop_is_meant_now() {
        use nix::sys::signal::{Signal as Number, raise};
        let mut wishes = Wishes::listen(None).unwrap();
        let mut next = async |number| {
            raise(number).unwrap();
            tokio::time::timeout(DEADLINE, wishes.next()).await.expect("the signal arrives")
        };
        assert_eq!(next(Number::SIGHUP).await, Wish::Reload);
        assert_eq!(next(Number::SIGTERM).await, Wish::Stop);
        assert_eq!(next(Number::SIGINT).await, Wish::StopNow);
    }
}
