//! The exit statuses of every subcommand, in one place, because scripts depend on them.

use std::process::ExitCode;

/// Why the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok,
    /// It could not be done; the message says why.
    Failed,
    /// The command line or the config has mistakes.
    Usage,
    /// `check`: this machine is at fault.
    Machine,
    /// `check`: the network that this machine is in is at fault.
    Network,
    /// `check`: DNS is at fault.
    Dns,
    /// `check`: packets are lost on the way.
    Path,
    /// `check`: the server is at fault: nothing listens, it speaks no TLS, its certificate does not hold.
    Server,
    /// `check`: the application is at fault: errors, redirects in a circle, wrong content, too slow.
    Application,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Machine => 10,
            Exit::Network => 11,
            Exit::Dns => 12,
            Exit::Path => 13,
            Exit::Server => 14,
            Exit::Application => 15,
        })
    }
}
