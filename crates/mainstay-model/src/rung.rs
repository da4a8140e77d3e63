//! The rungs of the ladder: what Mainstay does on its own beside routing, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One kind of thing that is done about a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// A server is started anew.
    Restart,
    /// The release before takes the place of the current one.
    RollBack,
    /// The user's own `switch` command is run.
    Switch,
}

impl Rung {
    /// The word used in the config, the record, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Rung::Restart => "restart",
            Rung::RollBack => "roll-back",
            Rung::Switch => "switch",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
