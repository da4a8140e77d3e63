//! The config: raw (as written), resolved (as meant, all mistakes at once), and the generated reference.

mod address;
mod mistake;
mod planned;
mod raw;
mod read;
mod resolve;
mod schema;
mod secrets;
mod template;
#[cfg(test)]
mod tests;
mod units;

use std::borrow::Cow;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mainstay_model::Endpoint;
use toml::de::DeTable;

pub use mistake::{Mistake, Mistakes};
pub use planned::Planned;
pub use resolve::*;
pub use schema::{json_schema, reference};
pub use template::{SmsValues, url_encoded};
pub use units::{duration_from_text, people_duration};

use mistake::{COMMAND_LINE, Collector};
use raw::RawConfig;

/// A longer file is not a config but a slip; ten thousand monitors are two megabytes.
const LONGEST_FILE: u64 = 1 << 23;

/// After so many the file is hardly a config; each costs another look at the whole text.
const SYNTAX_ERRORS_MOST: usize = 20;

/// Reads and resolves a config file. Folders and files in it are relative to its own folder.
///
/// # Errors
/// Every mistake in it, or that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    load_with(path, &Overrides::default())
}

/// As [`load`], with what the command line says in place of the config.
///
/// # Errors
/// Every mistake in it, or that it cannot be read.
pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Config, Mistakes> {
    let name = path.display().to_string();
    let text = read_file(path, &name)?;
    let base_dir = match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::path::absolute(parent).unwrap_or_else(|_| parent.to_owned()),
        None => std::env::current_dir().unwrap_or_default(),
    };
    parse_with(&text, &name, &base_dir, &|name| std::env::var(name).ok(), overrides)
}

/// Resolves the text of a config.
///
/// # Errors
/// Every mistake in it.
pub fn parse(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Mistakes> {
    parse_with(text, file_name, base_dir, env, &Overrides::default())
}

/// As [`parse`], with what the command line says in place of the config.
///
/// # Errors
/// Every mistake in it.
pub fn parse_with(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<Config, Mistakes> {
    let mistakes = Collector::new(file_name, text);
    let mut whole = Cow::Borrowed(text);
    for _ in 0..SYNTAX_ERRORS_MOST {
        let error = match DeTable::parse(&whole) {
            Ok(document) => {
                let raw = RawConfig::read_keys(read::children("", document.get_ref()), &mistakes);
                let config = Resolver::new(&mistakes, base_dir, env, overrides).config(&raw);
                return mistakes.finish(config);
            }
            Err(error) => error,
        };
        note_syntax(&error, &mistakes);
        match without_broken_line(&whole, &error) {
            Some(rest) => whole = Cow::Owned(rest),
            None => break,
        }
    }
    Err(mistakes.into_mistakes())
}

/// The config of `run --server …`, which needs no file: one service, `default`, for every host, with TCP probes of
/// `server-1`, `server-2` and so on, and defaults for whatever the command line does not say.
///
/// # Errors
/// Every mistake in the addresses.
pub fn from_servers(overrides: &Overrides, servers: &[String]) -> Result<Config, Mistakes> {
    let mistakes = Collector::new(COMMAND_LINE, "");
    let env = |name: &str| std::env::var(name).ok();
    let resolver = Resolver::new(&mistakes, Path::new(""), &env, overrides);
    let config = resolver.config_of_servers(servers);
    mistakes.finish(config)
}

/// The admin address that a config names, for those who only want to ask; mistakes elsewhere in it do not matter.
pub fn admin_address(path: &Path) -> Option<SocketAddr> {
    let text = read_file(path, "").ok()?;
    let (document, _) = DeTable::parse_recoverable(&text);
    let admin = document.get_ref().get("listen")?.get_ref().get("admin")?.get_ref().as_str()?.to_owned();
    admin.parse().ok()
}

/// The data directory that a config names, or the usual one, for those who only want to read; mistakes elsewhere in it do not
/// matter.
pub fn data_directory(path: &Path) -> Option<PathBuf> {
    let named = read_file(path, "").ok().and_then(|text| {
        let (document, _) = DeTable::parse_recoverable(&text);
        Some(document.get_ref().get("data")?.get_ref().as_str()?.to_owned())
    });
    match named {
        Some(data) => Some(path.parent().unwrap_or(Path::new("")).join(data)),
        None => user_data_dir(&|name| std::env::var(name).ok()),
    }
}

/// A server as people give it on a command line, `http://127.0.0.1:3000`, and whether it speaks TLS.
///
/// # Errors
/// What is wrong and what to write, for a person.
pub fn server_address(text: &str) -> Result<(ServerAddress, bool), String> {
    address::server_url(text).map_err(|(what, remedy)| format!("{what}; {remedy}"))
}

/// Where to listen for visitors, as people give it on a command line: `0.0.0.0:80` or `unix:/run/mainstay.sock`.
///
/// # Errors
/// What is wrong and what to write, for a person.
pub fn listen_address(text: &str) -> Result<Endpoint, String> {
    address::listen_for_visitors(text).map_err(|(what, remedy)| format!("{what}; {remedy}"))
}

/// Where the record is kept unless the config says otherwise; `None` when there is no home folder either.
pub(crate) fn user_data_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = |name: &str| env(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    // systemd separates several state directories by colons; the first is the service's own.
    if let Some(state) = env("STATE_DIRECTORY").filter(|value| value.starts_with('/')) {
        return state.split(':').next().map(PathBuf::from);
    }
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/mainstay"));
    }
    let home = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    home.map(|state| state.join("mainstay"))
}

fn read_file(path: &Path, name: &str) -> Result<String, Mistakes> {
    let mistake = |line, column, what: String, remedy: &str| {
        Mistakes::one(Mistake {
            file: name.to_owned(),
            line,
            column,
            key: String::new(),
            value: None,
            what,
            remedy: remedy.to_owned(),
        })
    };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(mistake(
                0,
                0,
                "there is no such file".to_owned(),
                "name one with -c, or write one with `mainstay init`",
            ));
        }
        Err(error) => {
            return Err(mistake(
                0,
                0,
                format!("cannot be read: {error}"),
                "make it a file that Mainstay may read",
            ));
        }
        Ok(length) if length as u64 > LONGEST_FILE => {
            return Err(mistake(
                0,
                0,
                "too long for a config".to_owned(),
                "name a config file of at most 8 MiB",
            ));
        }
        Ok(_) => {}
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let good = String::from_utf8_lossy(good);
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        mistake(line, column, "not text in UTF-8".to_owned(), "save the file as UTF-8")
    })
}

/// What to do about the slips that happen most, by a part of the parser's message.
const SYNTAX_REMEDIES: [(&str, &str); 8] = [
    ("duplicate key", "keep one of them"),
    ("must be quoted", "write text in quotes"),
    ("key with no value", "write key = value"),
    ("unclosed array", "close the list with ]"),
    ("unclosed inline table", "close the table with }"),
    ("unclosed table", "close the table's name with ]"),
    ("missing comma", "put a comma between the items"),
    ("basic string", "close the quotes; a backslash is written \\\\"),
];

/// The text with a broken line blanked, every other byte in its place, so that the rest can be checked too; `None` when the
/// rest cannot be told from the broken part.
fn without_broken_line(text: &str, error: &toml::de::Error) -> Option<String> {
    // What was opened and never closed swallows all that follows.
    let hopeless = ["unclosed array", "unclosed inline table", "multi-line", "recursion"];
    if hopeless.iter().any(|part| error.message().contains(part)) {
        return None;
    }
    let at = error.span()?.start.min(text.len());
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let mut end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    if text[start..].trim_start().starts_with('[') {
        // Without its header the keys of a table would pass for the previous table's.
        end = text[end..].find("\n[").map_or(text.len(), |length| end + length);
    }
    let blanked: String =
        text[start..end].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    (blanked != text[start..end]).then(|| format!("{}{blanked}{}", &text[..start], &text[end..]))
}

/// A syntax error, with a remedy where the line gives it away.
fn note_syntax(error: &toml::de::Error, mistakes: &Collector<'_>) {
    let span = error.span().unwrap_or_default();
    let line = mistakes.line_text(span.start);
    let value = line.split_once('=').map_or("", |(_, value)| value);
    let value = value.split(['#', ',', '}']).next().unwrap_or("").trim();
    // Only a quantity is shown again: other words may be a secret that lacks its quotes.
    let quantity =
        units::duration(value).is_ok() || units::size(value).is_ok() || units::percentage(value).is_some();
    let message = error.message();
    let remedy = match SYNTAX_REMEDIES.iter().find(|(part, _)| message.contains(part)) {
        _ if quantity => format!("write text in quotes: {value:?}"),
        Some((_, remedy)) => (*remedy).to_owned(),
        None => "mend this line; text stands in quotes, a table's name in [brackets]".to_owned(),
    };
    let what = error.message().split(", expected").next().unwrap_or("");
    mistakes.syntax(span, format!("not TOML: {what}"), remedy);
}
