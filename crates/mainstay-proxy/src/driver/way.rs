//! The way of a request: which service it leads to, what its route changes of it, and what a route says in place of its
//! service.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use mainstay_model::limits::{Level, Subnet};
use mainstay_model::policy::Timeouts;
use mainstay_model::route::Handling;

use super::client::Client;
use super::connection::Request;
use super::view::Service;
use crate::codec::RequestHead;
use crate::codec::rewrite::Edits;
use crate::policy::changes::Parts;

/// What a rule leads to.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) service: Rc<Service>,
    /// `None`: nothing is done but sending it to a server.
    pub(crate) handling: Option<Arc<Handling>>,
    /// How long the rule's path is.
    pub(crate) prefix: usize,
}

/// What a route makes of one request.
#[derive(Debug)]
pub(crate) struct Changed {
    handling: Arc<Handling>,
    target: Option<Vec<u8>>,
    request_lines: Vec<u8>,
    answer_lines: Vec<u8>,
    /// Mainstay answers itself: status and Location.
    pub(crate) redirect: Option<(u16, Vec<u8>)>,
}

impl Way {
    /// How a request stands against others when there is no room for all.
    pub(crate) fn level(&self, target: &str) -> Level {
        let own = self.handling.as_ref().and_then(|handling| handling.level);
        own.unwrap_or_else(|| self.service.carriage.limits.level(target))
    }

    /// What the way makes of a request; `None`: nothing.
    pub(crate) fn changes(
        &self,
        client: &Client,
        head: &RequestHead<'_, '_>,
        visitor: IpAddr,
        request_id: &[u8],
    ) -> Option<Box<Changed>> {
        let handling = self.handling.as_ref()?;
        let own_host = if head.host.is_none() { client.stream.local_address() } else { String::new() };
        let parts = Parts {
            host: head.host.unwrap_or(&own_host),
            secure: is_secure(client, head, &self.service.carriage.limits.trusted_proxies),
            method: head.method,
            target: head.target,
            prefix: self.prefix,
            visitor,
            request_id,
            service: self.service.lasting.id.as_str(),
        };
        let mut changed = Changed {
            handling: Arc::clone(handling),
            target: handling.rewrite.as_ref().map(|to| parts.rewritten(to)),
            request_lines: Vec::new(),
            answer_lines: Vec::new(),
            redirect: parts.redirect(handling),
        };
        parts.lines(&handling.request_headers, &mut changed.request_lines);
        parts.lines(&handling.response_headers, &mut changed.answer_lines);
        Some(Box::new(changed))
    }
}

/// The visitor came by https: to Mainstay, or to a proxy in front that is trusted and says so.
fn is_secure(client: &Client, head: &RequestHead<'_, '_>, trusted: &[Subnet]) -> bool {
    client.stream.is_secure()
        || (trusted.iter().any(|subnet| subnet.contains(client.peer))
            && head
                .values("x-forwarded-proto")
                .last()
                .is_some_and(|proto| proto.eq_ignore_ascii_case(b"https")))
}

impl Changed {
    /// What is changed of the head for the server.
    pub(crate) fn of_request(&self) -> Edits<'_> {
        Edits {
            target: self.target.as_deref(),
            remove: &self.handling.request_headers.remove,
            without_cookies: false,
            lines: &self.request_lines,
        }
    }

    /// Puts the route's own lines into an answer of Mainstay's own, which begins at `start`. Its own lines stay: nobody may
    /// keep a page that says that nothing answers.
    pub(crate) fn complete_own_answer(&self, out: &mut Vec<u8>, start: usize) {
        const OWN: [&str; 5] = ["content-type", "cache-control", "retry-after", "location", "x-request-id"];
        let is_own = |line: &&[u8]| {
            let name = line.split(|&b| b == b':').next().unwrap_or_default();
            OWN.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
        };
        let lines = self.answer_lines.split_inclusive(|&b| b == b'\n').filter(|line| !is_own(line));
        let lines: Vec<u8> = lines.flatten().copied().collect();
        let status_line =
            out[start..].iter().position(|&b| b == b'\n').map_or(out.len(), |at| start + at + 1);
        out.splice(status_line..status_line, lines);
    }
}

impl Request {
    /// Its deadlines: its route's, or else its service's.
    pub(crate) fn timeouts<'a>(&'a self, service: &'a Service) -> &'a Timeouts {
        let own = self.changed.as_ref().and_then(|changed| changed.handling.timeouts.as_ref());
        own.unwrap_or(&service.carriage.timeouts)
    }

    /// The largest body that it may have.
    pub(crate) fn body_max(&self, service: &Service) -> Option<u64> {
        let own = self.changed.as_ref().and_then(|changed| changed.handling.body_max);
        own.or(service.carriage.limits.body_max)
    }

    /// What is changed of the head of its answer.
    pub(crate) fn answer_edits(&self) -> Edits<'_> {
        match &self.changed {
            Some(changed) => Edits {
                remove: &changed.handling.response_headers.remove,
                lines: &changed.answer_lines,
                ..Edits::default()
            },
            None => Edits::default(),
        }
    }
}
