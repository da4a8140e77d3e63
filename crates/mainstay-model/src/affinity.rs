//! Which server a visitor's requests keep to: by a key of the request, or by a cookie.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What of a request decides which server it keeps to, with [`crate::policy::Balance::Hash`]. A request without it goes by
/// its visitor's address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashBy {
    /// The visitor's address; of IPv6 its network of 64 bits.
    #[default]
    Visitor,
    /// The header of this name, in lower case.
    Header(String),
    /// The cookie of this name.
    Cookie(String),
    /// The path, without the query.
    Path,
    /// The query's parameter of this name, as it was sent.
    Query(String),
}

/// Visitors keep to the server that answered them first, by a cookie that Mainstay gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: String,
    /// Under which path it is sent back.
    pub path: String,
    /// How long the browser keeps it; `None`: as long as it runs.
    pub max_age: Option<Duration>,
    /// A server that a person drains keeps the visitors that it has for so long.
    pub drain: Duration,
}

impl Sticky {
    /// How long a draining server keeps its visitors unless the config says otherwise.
    pub const DRAIN: Duration = Duration::from_secs(3600);
}
