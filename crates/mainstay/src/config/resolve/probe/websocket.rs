//! Probes by a WebSocket.

use super::super::whole::Resolver;
use super::Expect;
use crate::config::mistake::Place;
use crate::config::raw::RawWebSocketProbe;
use crate::config::read::{Field, Text, TextOr};

/// A WebSocket that is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct WebSocketProbe {
    /// Path and query.
    pub path: String,
    /// The Host header; `None`: the server's address.
    pub host: Option<String>,
    /// The protocol within it that is asked for.
    pub protocol: Option<String>,
    /// The page that it would be opened from.
    pub origin: Option<String>,
    /// What is said first.
    pub send: Option<String>,
    /// What must be heard then.
    pub expect: Option<Expect>,
    /// Over TLS, whatever the address says.
    pub tls: bool,
}

impl Resolver<'_> {
    /// A path, or more than that.
    pub(super) fn websocket_probe(
        &self,
        raw: &TextOr<RawWebSocketProbe>,
        place: &Place,
        host: Option<&String>,
    ) -> WebSocketProbe {
        let absent = RawWebSocketProbe::default();
        let (path, table) = match raw {
            TextOr::Text(path) => (Some((path, place)), &absent),
            TextOr::Table(table) => (table.path.get().map(|at| (&at.value.0, &at.place)), table),
        };
        match path {
            Some((path, place)) => self.path(path, place),
            None if table.path.is_absent() => {
                self.mistakes.absent(place, "path is missing", "write path = \"/socket\"");
            }
            None => {}
        }
        let step = self.step(&table.send, &table.expect, &table.expect_regex);
        if let (Some(at), true) = (table.send.get(), step.expect.is_none()) {
            let what = "nothing is expected, so nobody would hear whether it was understood";
            self.mistakes.absent(&at.place, what, "write expect = \"…\", or remove send");
        }
        let header = |field: &Field<Text>| {
            let at = field.get()?;
            if at.value.0.is_empty() || hyper::header::HeaderValue::from_str(&at.value.0).is_err() {
                self.mistakes.value(
                    &at.place,
                    "cannot be sent in a header",
                    "write it without control characters",
                );
            }
            Some(at.value.0.clone())
        };
        WebSocketProbe {
            path: path.map_or_else(String::new, |(path, _)| path.clone()),
            host: host.cloned(),
            protocol: header(&table.protocol),
            origin: header(&table.origin),
            send: table.send.get().map(|at| at.value.0.clone()),
            expect: step.expect,
            tls: table.tls.get().is_some_and(|at| at.value),
        }
    }
}
