//! The program under test: started as a user starts it, watched through what it prints, ended by its process id.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::api::Api;
use super::config::Config;
use super::home::Home;
use super::{PATIENCE, process, until};

/// Lines of the log that are kept; a failing test shows the last of them.
const LOG_LINES_MAX: usize = 20_000;
const LOG_LINES_SHOWN: usize = 80;

/// A running `mainstay run`.
pub struct Mainstay {
    child: Child,
    /// Where visitors are served, in the order of the config.
    pub serving: Vec<SocketAddr>,
    /// Dashboard and API.
    pub admin: SocketAddr,
    output: Lines,
    log: Lines,
    /// Nobody reads what it prints.
    unread: Arc<AtomicBool>,
}

type Lines = Arc<Mutex<VecDeque<String>>>;

/// A command line of the program that ends by itself, with the home's mark.
pub fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    let (name, value) = home.mark();
    command.args(arguments).env(name, value).current_dir(home.path()).stdin(Stdio::null());
    command
}

/// Runs a command line of the program that ends by itself.
pub async fn once(home: &Home, arguments: &[&str]) -> Output {
    once_within(Duration::from_secs(120), home, arguments).await
}

/// The same, for what takes its time.
pub async fn once_within(patience: Duration, home: &Home, arguments: &[&str]) -> Output {
    let mut command = command(home, arguments);
    let run = tokio::task::spawn_blocking(move || command.output().expect("the program runs"));
    match tokio::time::timeout(patience, run).await {
        Ok(output) => output.expect("the thread does not panic"),
        Err(_) => panic!("`mainstay {}` did not end", arguments.join(" ")),
    }
}

impl Mainstay {
    /// Writes the config into the home and runs it.
    pub async fn start(home: &Home, config: &Config) -> Self {
        home.write_config(&config.text(home));
        Self::again(home).await
    }

    /// Runs what the home's config says.
    pub async fn again(home: &Home) -> Self {
        let config = home.config();
        Self::spawn(command(home, &["run", "-c", config.to_str().expect("UTF-8")])).await
    }

    /// Runs a command line that serves, and waits until it says that it is ready.
    pub async fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let unread = Arc::<AtomicBool>::default();
        let output = collect(child.stdout.take().expect("it is piped"), unread.clone());
        let log = collect(child.stderr.take().expect("it is piped"), Arc::default());
        let admin = ([0, 0, 0, 0], 0).into();
        let mut new = Self { child, serving: Vec::new(), admin, output, log, unread };
        until("mainstay says `ready`", async || {
            if let Some(status) = new.child.try_wait().expect("it is our child") {
                panic!("mainstay ended with {status} instead of serving");
            }
            new.printed().iter().any(|line| line == "ready").then_some(())
        })
        .await;
        let printed = new.printed();
        new.serving = addresses(&printed, "serving");
        new.admin = *addresses(&printed, "dashboard").first().expect("a line `dashboard  http://…/`");
        assert!(!new.serving.is_empty(), "no line `serving    http://…` in {printed:?}");
        new
    }

    /// Its first (in most tests, only) address for visitors.
    pub fn front(&self) -> SocketAddr {
        self.serving[0]
    }

    /// Where it serves HTTPS, in the order of the config.
    pub fn secure(&self) -> SocketAddr {
        *of_scheme(&self.printed(), "serving", "https://").first().expect("a line `serving    https://…`")
    }

    /// Where it serves TCP services, in the order of the config.
    pub fn tcp(&self) -> Vec<SocketAddr> {
        of_scheme(&self.printed(), "serving", "tcp://")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its API, without a token.
    pub fn api(&self) -> Api {
        Api::new(self.admin)
    }

    /// What it printed for its user.
    pub fn printed(&self) -> Vec<String> {
        copy(&self.output)
    }

    /// Its log, oldest first.
    pub fn log(&self) -> Vec<String> {
        copy(&self.log)
    }

    /// From now on nobody reads what it prints for its user.
    pub fn leave_unread(&self) {
        self.unread.store(true, Ordering::SeqCst);
    }

    pub fn signal(&self, signal: i32) {
        process::signal(self.pid(), signal);
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        until("mainstay has ended", async || self.child.try_wait().expect("it is our child")).await
    }

    /// Ends it as a power cut does.
    pub async fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.ended().await;
    }

    /// Asks it to end and waits for it.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.ended().await
    }
}

impl Drop for Mainstay {
    /// Ends it. A test that fails shows the log; a test that passes must not have left a panic in it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.unread.store(false, Ordering::SeqCst);
        let log = self.log();
        if std::thread::panicking() {
            let shown = log.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!("--- the end of mainstay's log:\n{}\n---", log[shown..].join("\n"));
        } else {
            let panic = log.iter().find(|line| line.contains("panicked at"));
            assert_eq!(panic, None, "mainstay panicked");
        }
    }
}

/// Asserts that no process which Mainstay started is left, within [`PATIENCE`].
pub async fn no_orphan_is_left(home: &Home) {
    let what = format!("no supervised process is left ({:?})", home.supervised());
    super::until_within(PATIENCE, &what, async || home.supervised().is_empty().then_some(())).await;
}

fn collect(from: impl Read + Send + 'static, unread: Arc<AtomicBool>) -> Lines {
    let lines = Lines::default();
    let kept = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let mut kept = kept.lock().expect("nothing panics while it holds this");
            kept.push_back(String::from_utf8_lossy(&line).into_owned());
            if kept.len() > LOG_LINES_MAX {
                kept.pop_front();
            }
            drop(kept);
            while unread.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    lines
}

fn copy(lines: &Lines) -> Vec<String> {
    lines.lock().expect("nothing panics while it holds this").iter().cloned().collect()
}

/// The addresses in the lines `WORD    http://ADDRESS/`.
fn addresses(printed: &[String], word: &str) -> Vec<SocketAddr> {
    of_scheme(printed, word, "http://")
}

fn of_scheme(printed: &[String], word: &str, scheme: &str) -> Vec<SocketAddr> {
    let values = printed.iter().filter_map(|line| line.strip_prefix(word)?.trim().strip_prefix(scheme));
    values.filter_map(|value| value.trim_end_matches('/').parse().ok()).collect()
}

#[test]
fn addresses_are_read_from_what_is_printed() {
    let printed =
        ["mainstay 0.1.0", "serving    http://127.0.0.1:81", "dashboard  http://127.0.0.1:99/", "ready"];
    let printed: Vec<String> = printed.map(str::to_owned).to_vec();
    assert_eq!(addresses(&printed, "serving"), ["127.0.0.1:81".parse().expect("an address")]);
    assert_eq!(addresses(&printed, "dashboard"), ["127.0.0.1:99".parse().expect("an address")]);
    assert!(addresses(&printed, "ready").is_empty());
}
