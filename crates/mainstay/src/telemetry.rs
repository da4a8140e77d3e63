//! Mainstay's own log: to standard error, for a person or as JSON. Standard output is for what a subcommand has to say.
//!
//! Whoever reads the log may stall or go away, and the disk it goes to may be full. None of that may hold up or end
//! Mainstay, so one thread of its own does the writing and lines that it cannot keep up with are left out and counted.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Plain,
    /// One JSON object a line.
    Json,
}

/// The variable that says how much is logged: `debug`, `mainstay_proxy=trace`, …
const LEVEL: &str = "MAINSTAY_LOG";

/// What is logged when nobody asks for anything else. The h2 crate warns of each client that floods; that is counted by its name, and
/// whoever comes by must not fill the log.
const USUAL: &str = "info,h2=error";

/// Lines that may wait to be written; further ones are left out.
const WAITING: usize = 4096;
/// At the end, what waits has so long to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// Held as long as the program logs; dropped, it waits a moment until what was logged is written.
#[derive(Debug)]
#[must_use = "the last lines of the log are lost without it"]
pub struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(FLUSH);
    }
}

/// Sends the log to standard error from now on. What MAINSTAY_LOG asks for is logged; without it, `info` and above.
/// A second call changes nothing.
///
/// # Errors
/// When no thread can be started.
pub fn start(format: LogFormat) -> io::Result<Log> {
    let wanted = std::env::var(LEVEL).ok();
    let (filter, mistake) = filter(wanted.as_deref());
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let lines = Lines::to(io::stderr())?;
    let writer = lines.clone();
    let begun = subscriber(format, filter, colour, move || writer.clone()).try_init().is_ok();
    if let Some(mistake) = mistake.filter(|_| begun) {
        tracing::warn!("{LEVEL}: {mistake}; logging at info. Write for example {LEVEL}=debug");
    }
    Ok(Log(lines))
}

/// The filter that was asked for, or the usual one and what is wrong with what was asked for.
fn filter(wanted: Option<&str>) -> (EnvFilter, Option<String>) {
    let usual = || EnvFilter::new(USUAL);
    let Some(wanted) = wanted.filter(|wanted| !wanted.trim().is_empty()) else { return (usual(), None) };
    // A word that is no level would be taken for the name of a part, and silence everything else.
    let is_level = |word: &&str| word.contains(['=', '[']) || word.parse::<LevelFilter>().is_ok();
    if let Some(word) = wanted.split(',').map(str::trim).find(|word| !is_level(word)) {
        return (usual(), Some(format!("`{word}` is not one of off, error, warn, info, debug, trace")));
    }
    match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (usual(), Some(error.to_string())),
    }
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A line that cannot be written would be complained of on standard error, with a panic when that fails too.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    match format {
        LogFormat::Plain => Box::new(builder.with_ansi(colour).with_target(false).compact().finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_current_span(true).finish()),
    }
}

/// Takes lines and never waits.
#[derive(Debug, Clone)]
struct Lines {
    waiting: SyncSender<Job>,
    left_out: Arc<AtomicU64>,
}

/// What the writing thread is given.
#[derive(Debug)]
enum Job {
    Line(Vec<u8>),
    /// Answered when everything before it was written.
    Flush(SyncSender<()>),
}

impl Lines {
    fn to(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (waiting, jobs) = sync_channel(WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = left_out.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(sink, &jobs, &counted))?;
        Ok(Self { waiting, left_out })
    }

    /// Waits until what was taken so far is written, at most so long.
    fn flush(&self, longest: Duration) {
        let give_up = Instant::now() + longest;
        let (written, answer) = sync_channel(1);
        let mut job = Job::Flush(written);
        while let Err(TrySendError::Full(again)) = self.waiting.try_send(job) {
            if Instant::now() >= give_up {
                return;
            }
            job = again;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = answer.recv_timeout(give_up.saturating_duration_since(Instant::now()));
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.waiting.try_send(Job::Line(line.to_vec())).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until the program ends. What cannot be written is gone: there is nobody left to tell.
fn write_all(mut sink: impl Write, jobs: &Receiver<Job>, left_out: &AtomicU64) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Line(line) => {
                let _ = sink.write_all(&line);
            }
            Job::Flush(written) => {
                let _ = sink.flush();
                let _ = written.send(());
            }
        }
        let missing = left_out.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let lines = match missing {
                1 => "1 line of this log is".to_owned(),
                n => format!("{n} lines of this log are"),
            };
            let _ = writeln!(sink, "mainstay: {lines} left out: it was not read fast enough");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: Option<&str>, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        tracing::subscriber::with_default(
            subscriber(format, filter(level).0, false, move || writer.clone()),
            log,
        );
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_for_a_person_has_level_text_and_fields() {
        let line = logged(LogFormat::Plain, None, || {
            tracing::info!(server = "shop/app-1", "ejected");
            tracing::debug!("not this");
        });
        assert!(line.contains(" INFO ejected server=\"shop/app-1\""), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[test]
    fn a_line_for_a_program_is_one_json_object() {
        let line = logged(LogFormat::Json, Some("debug"), || tracing::debug!(server = "shop/app-1", "a\nb"));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&json["level"], &json["message"], &json["server"]),
            (&"DEBUG".into(), &"a\nb".into(), &"shop/app-1".into())
        );
    }

    /// A log that nobody reads until the test lets go.
    struct Stalled {
        let_go: Receiver<()>,
        text: Sink,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.let_go.recv();
            self.text.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up_and_says_later_how_much_is_missing() {
        let (go, let_go) = channel();
        let text = Sink::default();
        let mut lines = Lines::to(Stalled { let_go, text: text.clone() }).unwrap();
        // Two may be in the thread's hand or not; all beyond what may wait is left out.
        for _ in 0..WAITING + 102 {
            lines.write_all(b"a line\n").unwrap();
        }
        drop(go);
        lines.flush(Duration::from_secs(60));
        let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        let kept = text.lines().filter(|line| *line == "a line").count();
        let told = text.lines().find(|line| line.starts_with("mainstay: ")).expect("it is told");
        let missing: usize = told.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(kept + missing, WAITING + 102);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_no_reason_to_panic() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let lines = Lines::to(Gone).unwrap();
        let writer = lines.clone();
        let subscriber = subscriber(LogFormat::Plain, filter(None).0, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || tracing::error!("nobody reads this"));
        lines.flush(Duration::from_secs(60));
    }

    #[test]
    fn a_wrong_level_is_named_and_info_is_used() {
        for wrong in ["mainstay=loud", "verbos", "info,verbos"] {
            let (filter, mistake) = filter(Some(wrong));
            assert_eq!(filter.to_string(), EnvFilter::new(USUAL).to_string(), "{wrong}");
            assert!(mistake.is_some(), "{wrong}");
        }
        let (right, mistake) = filter(Some("warn,mainstay_proxy=trace"));
        assert!(mistake.is_none(), "{right}: {mistake:?}");
    }
}
