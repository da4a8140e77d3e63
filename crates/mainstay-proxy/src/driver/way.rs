//! The way of a request: which service it leads to, what its route changes of it, and what a route says in place of its
//! service.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mainstay_model::limits::{Level, Subnet};
use mainstay_model::policy::{Balance, Timeouts};
use mainstay_model::route::Handling;

use super::client::Client;
use super::connection::Request;
use super::view::{Server, Service, Sessions};
use crate::codec::RequestHead;
use crate::codec::rewrite::Edits;
use crate::policy::affinity;
use crate::policy::balance::is_avoided;
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
    handling: Option<Arc<Handling>>,
    target: Option<Vec<u8>>,
    without_cookies: bool,
    request_lines: Vec<u8>,
    answer_lines: Vec<u8>,
    /// Mainstay answers itself: status and Location.
    pub(crate) redirect: Option<(u16, Vec<u8>)>,
    /// The visitor came by https.
    secure: bool,
    /// The server that the visitor keeps to.
    own_server: Option<Rc<Server>>,
}

impl Way {
    /// How a request stands against others when there is no room for all.
    pub(crate) fn level(&self, target: &str) -> Level {
        let own = self.handling.as_ref().and_then(|handling| handling.level);
        own.unwrap_or_else(|| self.service.carriage.limits.level(target))
    }

    /// The key by which a request finds its server, where that goes by a hash; `None`: there is nothing to go by.
    pub(crate) fn key(&self, head: &RequestHead<'_, '_>, visitor: Option<IpAddr>) -> Option<u64> {
        match self.service.carriage.balance {
            Balance::Hash => {
                let values = |name: &str| head.values(name).collect();
                affinity::key(&self.service.carriage.hash_by, head.target, visitor, values)
            }
            _ => Some(0),
        }
    }

    /// What the way makes of a request; `None`: nothing.
    pub(crate) fn changes(
        &self,
        client: &Client,
        head: &RequestHead<'_, '_>,
        visitor: Option<IpAddr>,
        request_id: &[u8],
    ) -> Option<Box<Changed>> {
        if self.handling.is_none() && self.service.sessions.is_none() {
            return None;
        }
        let secure = is_secure(client, head, &self.service.carriage.limits.trusted_proxies);
        let mut changed = Changed {
            handling: self.handling.clone(),
            target: None,
            without_cookies: false,
            request_lines: Vec::new(),
            answer_lines: Vec::new(),
            redirect: None,
            secure,
            own_server: None,
        };
        if let Some(handling) = &self.handling {
            let own_host = if head.host.is_none() { client.stream.local_address() } else { String::new() };
            let parts = Parts {
                host: head.host.unwrap_or(&own_host),
                secure,
                method: head.method,
                target: head.target,
                prefix: self.prefix,
                visitor,
                request_id,
                service: self.service.lasting.id.as_str(),
            };
            changed.target = handling.rewrite.as_ref().map(|to| parts.rewritten(to));
            changed.redirect = parts.redirect(handling);
            parts.lines(&handling.request_headers, &mut changed.request_lines);
            parts.lines(&handling.response_headers, &mut changed.answer_lines);
        }
        if let Some(sessions) = &self.service.sessions {
            changed.take_session(sessions, head);
        }
        Some(Box::new(changed))
    }
}

/// The visitor came by https: to Mainstay, or to a proxy in front that is trusted and says so.
fn is_secure(client: &Client, head: &RequestHead<'_, '_>, trusted: &[Subnet]) -> bool {
    let says_so =
        || head.values("x-forwarded-proto").last().is_some_and(|v| v.eq_ignore_ascii_case(b"https"));
    client.stream.is_secure() || (trusted.iter().any(|subnet| subnet.contains(client.peer)) && says_so())
}

impl Changed {
    /// Reads the cookie that says to which server the visitor keeps, and takes it out of what servers get: it is
    /// Mainstay's own.
    fn take_session(&mut self, sessions: &Sessions, head: &RequestHead<'_, '_>) {
        let name = &sessions.sticky.cookie;
        let Some(id) = affinity::cookie(head.values("cookie"), name) else { return };
        self.own_server = sessions.server(id, Instant::now()).cloned();
        let removed =
            |handling: &Arc<Handling>| handling.request_headers.remove.iter().any(|n| n == "cookie");
        if !self.handling.as_ref().is_some_and(removed) {
            affinity::cookies_without(head.values("cookie"), name, &mut self.request_lines);
        }
        self.without_cookies = true;
    }

    /// What is changed of the head for the server.
    pub(crate) fn of_request(&self) -> Edits<'_> {
        Edits {
            target: self.target.as_deref(),
            remove: self.handling.as_ref().map_or(&[], |handling| &handling.request_headers.remove),
            without_cookies: self.without_cookies,
            lines: &self.request_lines,
            request_id: None,
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
    fn handling(&self) -> Option<&Handling> {
        self.changed.as_ref()?.handling.as_deref()
    }

    /// Its deadlines: its route's, or else its service's.
    pub(crate) fn timeouts<'a>(&'a self, service: &'a Service) -> &'a Timeouts {
        let own = self.handling().and_then(|handling| handling.timeouts.as_ref());
        own.unwrap_or(&service.carriage.timeouts)
    }

    /// The largest body that it may have.
    pub(crate) fn body_max(&self, service: &Service) -> Option<u64> {
        self.handling().and_then(|handling| handling.body_max).or(service.carriage.limits.body_max)
    }

    /// The server that its visitor keeps to, if it may go there.
    pub(crate) fn own_server(&self, now: Instant) -> Option<&Rc<Server>> {
        let server = self.changed.as_ref()?.own_server.as_ref()?;
        (server.keeps_visitors() && !is_avoided(&server.state, self.safety, now)).then_some(server)
    }

    /// Hands over what is changed of the head of its answer, which `server` gave.
    pub(crate) fn with_answer_edits<T>(
        &self,
        service: &Service,
        server: &Rc<Server>,
        write: impl FnOnce(&Edits<'_>) -> T,
    ) -> T {
        let mut digits = [0; 32];
        let request_id = Some(self.id.text(&mut digits));
        let Some(changed) = &self.changed else { return write(&Edits { request_id, ..Edits::default() }) };
        let mut lines = Cow::Borrowed(&changed.answer_lines[..]);
        // Who was answered by another server than the one it kept to keeps to this one from now on.
        if let Some(sessions) = &service.sessions
            && !changed.own_server.as_ref().is_some_and(|own| Rc::ptr_eq(own, server))
            && let Some(id) = sessions.id(server)
        {
            affinity::set_cookie(&sessions.sticky, id, changed.secure, lines.to_mut());
        }
        let remove = self.handling().map_or(&[][..], |handling| &handling.response_headers.remove);
        write(&Edits { remove, lines: &lines, request_id, ..Edits::default() })
    }
}
