//! The rungs of the ladder, by name: what Mainstay does on its own beside routing; and how far it may go with each.

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
    /// There are more or fewer instances.
    Scale,
    /// A new instance takes the place of a server that cannot be brought back.
    Replace,
}

impl Rung {
    /// The word used in the config, the record, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Rung::Restart => "restart",
            Rung::RollBack => "roll-back",
            Rung::Switch => "switch",
            Rung::Scale => "scale",
            Rung::Replace => "replace",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far Mainstay may go on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// What it would do is written down.
    Observe,
    /// People read in the message what it would do.
    Suggest,
    /// A person is called and decides.
    Ask,
    /// It is done.
    Automatic,
}

impl Level {
    /// All of them, as they are written in the config.
    pub const WORDS: [&'static str; 4] = ["observe", "suggest", "ask", "automatic"];

    /// The word used in the config, the record, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Observe => "observe",
            Level::Suggest => "suggest",
            Level::Ask => "ask",
            Level::Automatic => "automatic",
        }
    }

    /// The level of this word.
    pub fn of(word: &str) -> Option<Self> {
        [Level::Observe, Level::Suggest, Level::Ask, Level::Automatic]
            .into_iter()
            .find(|l| l.as_str() == word)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The level of each rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// Of restarts. The start of a server that never ran needs none.
    pub restart: Level,
    /// Of going back to the release before.
    pub roll_back: Level,
    /// Of the `switch` command.
    pub switch: Level,
    /// Of more and fewer instances.
    pub scale: Level,
    /// Of a new instance in the place of a server that cannot be brought back.
    #[serde(default = "ask")]
    pub replace: Level,
}

/// What is not done without a person unless they said so.
fn ask() -> Level {
    Level::Ask
}

impl Default for Levels {
    fn default() -> Self {
        // A switch may lose what the other side does not have yet, and an instance may cost money.
        Self { switch: Level::Ask, replace: Level::Ask, ..Self::all(Level::Automatic) }
    }
}

impl Levels {
    /// The same for all.
    pub fn all(level: Level) -> Self {
        Self { restart: level, roll_back: level, switch: level, scale: level, replace: level }
    }

    /// That of one of them.
    pub fn of(&self, rung: Rung) -> Level {
        match rung {
            Rung::Restart => self.restart,
            Rung::RollBack => self.roll_back,
            Rung::Switch => self.switch,
            Rung::Scale => self.scale,
            Rung::Replace => self.replace,
        }
    }
}
