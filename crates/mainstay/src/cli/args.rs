//! The options of `run` and `demo`, and the config that those of `run` mean.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use mainstay_model::Endpoint;

use crate::config::{self, Config, Mistakes, Overrides};
use crate::telemetry::LogFormat;

/// Options of `mainstay run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Once it serves it prints where, then `ready`. The log goes to standard error;
MAINSTAY_LOG=debug shows more.

SIGTERM and Ctrl-C let requests under way finish; a second one does not wait. SIGHUP or a saved
config is checked whole and applied without closing a connection, or refused while the old one
goes on.

Examples:
  mainstay run
  mainstay run -c /etc/mainstay/mainstay.toml --log-format json
  mainstay run --server http://127.0.0.1:3000 --server http://127.0.0.1:3001
  mainstay run --listen 0.0.0.0:80 --server http://127.0.0.1:3000
  mainstay run --server unix:/run/app.sock")]
pub struct RunArgs {
    /// The config [default: ./mainstay.toml, else /etc/mainstay/mainstay.toml]
    #[arg(short, long, value_name = "PATH", conflicts_with = "server")]
    pub config: Option<PathBuf>,
    /// Where to serve visitors, instead of what the config says; may be given several times
    #[arg(long, value_name = "ADDR", value_parser = config::listen_address)]
    pub listen: Vec<Endpoint>,
    /// A server, without any config; may be given several times
    #[arg(long, value_name = "URL")]
    pub server: Vec<String>,
    /// Where dashboard, API and metrics are, instead of what the config says
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Where the record is kept, instead of what the config says
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How the log on standard error is written
    #[arg(long, value_name = "FORMAT", default_value = "plain")]
    pub log_format: LogFormat,
    /// Take the place of the Mainstay that started this one
    #[arg(long, hide = true)]
    pub take_over: bool,
}

impl RunArgs {
    /// The config file in use; `None` when the servers were given without one.
    pub fn config_path(&self) -> Option<PathBuf> {
        self.server.is_empty().then(|| config_path(self.config.as_deref()))
    }

    /// The config that these options mean. Reads the file anew each time, so it serves for a reload too.
    ///
    /// # Errors
    /// Every mistake in the file or in the options.
    pub fn load(&self) -> Result<Config, Mistakes> {
        let overrides = Overrides { listen: self.listen.clone(), admin: self.admin, data: self.data.clone() };
        match self.config_path() {
            Some(path) => config::load_with(&path, &overrides),
            None => config::from_servers(&overrides, &self.server),
        }
    }
}

/// Options of `mainstay demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
It goes on serving afterwards, so that you can look about and kill servers yourself, until
Ctrl-C.

Examples:
  mainstay demo
  mainstay demo --once --json | jq .recover_ms
  mainstay demo --all                                  all that can go wrong, one after the other
  mainstay demo --all --once --json | jq '.faults[] | [.fault, .failed, .recover_ms]'

Exit status with --once: 0 if the killed server came back and no visitor's request failed, and
(with --all) everything else was noticed and came to its end in time, else 1.")]
pub struct DemoArgs {
    /// Go on with all that can go wrong: a hang, a slow server, a bad release, a crowd, an attack, all servers down
    #[arg(long)]
    pub all: bool,
    /// End by itself after the story
    #[arg(long)]
    pub once: bool,
    /// Print the summary as JSON: requests, failed, saved, notice_ms, divert_ms, recover_ms, incident …
    #[arg(long)]
    pub json: bool,
    /// Where the demo serves its visitors
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where its dashboard is
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
}

/// Where visitors are served: a URL, or a Unix socket and what is spoken there.
pub(super) fn front_words(scheme: &str, address: &Endpoint) -> String {
    match (scheme, address) {
        (_, Endpoint::Tcp(address)) => format!("{scheme}://{address}"),
        ("http", Endpoint::Unix(_)) => address.to_string(),
        (scheme, Endpoint::Unix(_)) => format!("{address} ({scheme})"),
    }
}

/// The config file in use: the one that was named, else the first that is there, else the one that should be.
pub(super) fn config_path(named: Option<&Path>) -> PathBuf {
    const USUAL: [&str; 2] = ["mainstay.toml", "/etc/mainstay/mainstay.toml"];
    let usual = || USUAL.into_iter().map(Path::new).find(|path| path.exists()).unwrap_or(Path::new(USUAL[0]));
    named.unwrap_or_else(usual).to_owned()
}
