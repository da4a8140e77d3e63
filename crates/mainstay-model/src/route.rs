//! Routes: which requests a service takes, by host, path, method and header, and what is done to them on the way.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::ServiceId;
use crate::limits::Level;
use crate::policy::Timeouts;
use crate::stencil::Stencil;

/// A part of a service's requests that is treated in its own way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Which requests.
    pub when: Condition,
    /// The service that answers them; `None`: the one that the route belongs to.
    pub service: Option<ServiceId>,
    /// What is done to them.
    pub handling: Arc<Handling>,
}

/// Which requests a route takes: those that fit all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Condition {
    /// Host names in lower case, without port; `*.example.com` is every name below example.com, `*` every host. Empty:
    /// every host.
    pub hosts: Vec<String>,
    /// Paths; empty: every path.
    pub paths: Vec<PathRule>,
    /// Methods; empty: every method.
    pub methods: Vec<String>,
    /// Headers that a request must have, all of them.
    pub headers: Vec<HeaderRule>,
}

/// A path, and whether what lies below it belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathRule {
    /// Begins with `/`; plain, as [`PathRule::is_plain`] has it.
    pub path: String,
    /// This path alone; otherwise also all below it.
    pub exact: bool,
}

impl PathRule {
    /// That path and all below it.
    pub fn below(path: &str) -> Self {
        Self { path: path.to_owned(), exact: false }
    }

    /// That path alone.
    pub fn exactly(path: &str) -> Self {
        Self { path: path.to_owned(), exact: true }
    }

    /// What a request's path must begin with: the path without the slash at its end.
    pub fn prefix(&self) -> &str {
        if self.exact { &self.path } else { self.path.strip_suffix('/').unwrap_or(&self.path) }
    }

    /// Whether a path reads the same to everybody: no encoded or odd characters, no empty and no dot segments. Only
    /// then is a request's path that equals it as written also equal to it for every server.
    pub fn is_plain(path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let inner = rest.strip_suffix('/').unwrap_or(rest);
        let fine = |b: u8| b.is_ascii_graphic() && !b"%\\;?#\"<>{}|^`".contains(&b);
        path.bytes().all(fine)
            && (rest.is_empty() || inner.split('/').all(|part| !matches!(part, "" | "." | "..")))
    }
}

/// A header that a request must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeaderRule {
    /// Its name in lower case.
    pub name: String,
    /// Its whole value; `None`: whatever it is.
    pub value: Option<String>,
}

/// What is done to the requests of a route, beside sending them to a server. By default nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Handling {
    /// In place of the service's deadlines.
    pub timeouts: Option<Timeouts>,
    /// In place of the service's limit of a body, in bytes.
    pub body_max: Option<u64>,
    /// In place of the service's priorities.
    pub level: Option<Level>,
    /// What takes the place of the route's path in the request's; without a slash at its end, so that nothing is `/`.
    pub rewrite: Option<String>,
    /// Mainstay answers itself, with a redirect.
    pub redirect: Option<Redirect>,
    /// Requests in the clear are sent to the same address by https.
    pub redirect_https: bool,
    /// What is changed of requests' headers.
    pub request_headers: HeaderChanges,
    /// What is changed of answers' headers.
    pub response_headers: HeaderChanges,
}

impl Handling {
    /// Nothing is done.
    pub fn is_nothing(&self) -> bool {
        *self == Handling::default()
    }
}

/// An answer that sends the visitor elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Where to.
    pub to: Stencil,
}

/// Header lines that are taken away, and others that are put in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeaderChanges {
    /// Names in lower case: all lines of these names are taken away first.
    pub remove: Vec<String>,
    /// Lines that are put in then.
    pub add: Vec<HeaderLine>,
}

/// A header line that Mainstay writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderLine {
    /// Its name as it is written.
    pub name: String,
    /// Its value.
    pub value: Stencil,
    /// Only where the visitor came by https (Strict-Transport-Security: RFC 6797, 7.2).
    pub secure_only: bool,
}

impl HeaderChanges {
    /// Nothing is changed.
    pub fn is_nothing(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// These changes, and then others.
    #[must_use]
    pub fn then(&self, other: &HeaderChanges) -> HeaderChanges {
        let stays =
            |line: &&HeaderLine| !other.remove.iter().any(|name| name.eq_ignore_ascii_case(&line.name));
        let added: Vec<HeaderLine> = self.add.iter().filter(stays).chain(&other.add).cloned().collect();
        let mut remove = self.remove.clone();
        remove.extend(other.remove.iter().filter(|name| !self.remove.contains(name)).cloned());
        HeaderChanges { remove, add: added }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_plain_when_everybody_reads_it_alike() {
        for path in
            ["/", "/api", "/api/", "/a/b-c_d.e~f", "/.well-known/acme-challenge", "/a..b/@x+y:z", "/..."]
        {
            assert!(PathRule::is_plain(path), "{path}");
        }
        for path in [
            "", "api", "//", "/a//b", "/a/./b", "/a/..", "/%61", "/a;b", "/a\\b", "/a?b", "/a#b", "/a b",
            "/ä",
        ] {
            assert!(!PathRule::is_plain(path), "{path}");
        }
    }

    #[test]
    fn a_routes_own_changes_come_after_its_services() {
        let line = |name: &str, value: &str| HeaderLine {
            name: name.to_owned(),
            value: Stencil::parse(value).expect("a stencil"),
            secure_only: false,
        };
        let of_service =
            HeaderChanges { remove: vec!["a".into()], add: vec![line("A", "1"), line("B", "2")] };
        let of_route = HeaderChanges { remove: vec!["b".into(), "a".into()], add: vec![line("b", "3")] };
        let both = of_service.then(&of_route);
        assert_eq!(both.remove, ["a", "b"]);
        assert_eq!(both.add, [line("b", "3")]);
        assert_eq!(of_service.then(&HeaderChanges::default()), of_service);
    }
}
