//! Mainstay's own log: to standard error, for a person or as JSON. Standard output is for what a subcommand has to say.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
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

/// Sends the log to standard error from now on. What MAINSTAY_LOG asks for is logged; without it, `info` and above.
/// A second call does nothing.
pub fn start(format: LogFormat) {
    let wanted = std::env::var(LEVEL).ok();
    let (filter, mistake) = filter(wanted.as_deref());
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if subscriber(format, filter, colour, std::io::stderr).try_init().is_err() {
        return;
    }
    if let Some(mistake) = mistake {
        tracing::warn!("{LEVEL}: {mistake}; logging at info. Write for example {LEVEL}=debug");
    }
}

/// The filter that was asked for, or the usual one and what is wrong with what was asked for.
fn filter(wanted: Option<&str>) -> (EnvFilter, Option<String>) {
    let usual = || EnvFilter::new("info");
    match wanted.filter(|wanted| !wanted.trim().is_empty()).map(EnvFilter::try_new) {
        None => (usual(), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (usual(), Some(error.to_string())),
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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Plain => Box::new(builder.with_ansi(colour).with_target(false).compact().finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_current_span(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
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

    #[test]
    fn a_wrong_level_is_named_and_info_is_used() {
        let (filter, mistake) = filter(Some("mainstay=loud"));
        assert_eq!(filter.to_string(), "info");
        assert!(mistake.is_some());
    }
}
