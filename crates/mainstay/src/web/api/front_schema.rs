//! The shapes of front addresses, certificates and what an incident takes along, for the API's description, as `schema` has those of
//! the rest.

use serde::Serialize;
use utoipa::ToSchema;

/// Where visitors reach a service, and what DNS says.
#[derive(Serialize, ToSchema)]
pub(super) struct Front {
    /// Empty: names lead straight to the servers.
    addresses: Vec<FrontAddress>,
    /// Names in a zone that Mainstay answers or updates follow the service.
    live: bool,
    /// What those names say now.
    answers: Vec<String>,
    /// Something is wrong, so answers are not to be kept for long.
    trouble: bool,
    /// Names that lead visitors here.
    names: Vec<String>,
    /// What DNS said of them when it was last asked.
    dns: Vec<DnsSays>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct FrontAddress {
    /// IP address and port.
    address: String,
    /// Mainstay itself listens there.
    own: bool,
    good: bool,
    since: i64,
    /// What was last seen of it; empty: nothing yet.
    last: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct DnsSays {
    name: String,
    /// Who was asked.
    from: String,
    at: i64,
    /// `192.0.2.10, TTL 60`.
    text: String,
    /// It leads to a dead address.
    stale: bool,
}

/// A certificate that visitors are shown.
#[derive(Serialize, ToSchema)]
pub(super) struct Certificate {
    /// The host names that it is made out to.
    names: Vec<String>,
    until: i64,
}

/// Something that fails because what it needs does.
#[derive(Serialize, ToSchema)]
pub(super) struct Affected {
    /// `{"service": "shop"}`, `{"monitor": "pay"}` or `{"server": "shop/app-1"}`.
    #[schema(value_type = Object)]
    what: String,
    /// Which of the things that it needs is down.
    #[schema(value_type = Object)]
    needs: String,
    /// In which what it does is written down.
    incident: u64,
    since: i64,
    /// When it was well again, or went on by itself.
    until: Option<i64>,
}
