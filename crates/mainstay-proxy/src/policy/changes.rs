//! What a route changes of a request and its answer: stencils filled in, header lines, rewritten targets, redirects.
//!
//! Nothing that is filled in can end a line or a header: hosts, targets, methods and request ids were checked by the codec.

use std::io::Write as _;
use std::net::IpAddr;

use mainstay_model::route::{Handling, HeaderChanges, Redirect};
use mainstay_model::stencil::{Part, Piece, Stencil};

/// Status of a redirect to https: for good, and with the same method.
const TO_HTTPS: u16 = 308;

/// The parts of a request that can be filled in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// Perhaps with a port.
    pub(crate) host: &'a str,
    /// The visitor came by https.
    pub(crate) secure: bool,
    pub(crate) method: &'a str,
    /// Path and query; empty is `/`.
    pub(crate) target: &'a str,
    /// How long the route's path is.
    pub(crate) prefix: usize,
    /// `None`: nothing is known of it.
    pub(crate) visitor: Option<IpAddr>,
    pub(crate) request_id: &'a [u8],
    pub(crate) service: &'a str,
}

impl Parts<'_> {
    fn path_and_query(&self) -> (&str, &str) {
        let at = self.target.find('?').unwrap_or(self.target.len());
        match self.target.split_at(at) {
            ("", query) => ("/", query),
            both => both,
        }
    }

    fn put(&self, part: Part, out: &mut Vec<u8>) {
        let (path, query) = self.path_and_query();
        let text = match part {
            Part::Host => {
                let host = self.host.as_bytes();
                return out.extend_from_slice(crate::codec::header::split_port(host).0);
            }
            Part::Scheme if self.secure => "https",
            Part::Scheme => "http",
            Part::Method => self.method,
            Part::Path => path,
            Part::Query => query,
            Part::Uri => {
                out.extend_from_slice(path.as_bytes());
                query
            }
            Part::Rest => {
                out.extend_from_slice(path.get(self.prefix..).unwrap_or_default().as_bytes());
                query
            }
            Part::Visitor => {
                let Some(visitor) = self.visitor else { return out.extend_from_slice(b"unknown") };
                // Writing to memory cannot fail.
                let _ = write!(out, "{visitor}");
                return;
            }
            Part::RequestId => return out.extend_from_slice(self.request_id),
            Part::Service => self.service,
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn fill(&self, stencil: &Stencil, out: &mut Vec<u8>) {
        for piece in stencil.pieces() {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Part(part) => self.put(*part, out),
            }
        }
    }

    /// Adds the header lines that are put in.
    pub(crate) fn lines(&self, changes: &HeaderChanges, out: &mut Vec<u8>) {
        for line in changes.add.iter().filter(|line| self.secure || !line.secure_only) {
            out.extend_from_slice(line.name.as_bytes());
            out.extend_from_slice(b": ");
            self.fill(&line.value, out);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The target for the server when `to` takes the place of the route's path.
    pub(crate) fn rewritten(&self, to: &str) -> Vec<u8> {
        let (path, query) = self.path_and_query();
        if !path.starts_with('/') {
            return self.target.as_bytes().to_vec();
        }
        let mut new = [to.as_bytes(), path.get(self.prefix..).unwrap_or_default().as_bytes()].concat();
        one_slash(&mut new);
        new.extend_from_slice(query.as_bytes());
        new
    }

    /// Where the visitor is sent in place of an answer, and with which status; `None`: nowhere.
    pub(crate) fn redirect(&self, handling: &Handling) -> Option<(u16, Vec<u8>)> {
        if handling.redirect_https && !self.secure {
            return Some(self.moved_to_https());
        }
        handling.redirect.as_ref().map(|redirect| self.redirected(redirect))
    }

    fn redirected(&self, redirect: &Redirect) -> (u16, Vec<u8>) {
        let mut to = Vec::new();
        self.fill(&redirect.to, &mut to);
        if matches!(to.first(), None | Some(b'/' | b'?')) {
            one_slash(&mut to);
        }
        (redirect.status, to)
    }

    /// To the same address by https.
    fn moved_to_https(&self) -> (u16, Vec<u8>) {
        let mut to = b"https://".to_vec();
        self.put(Part::Host, &mut to);
        self.put(Part::Uri, &mut to);
        (TO_HTTPS, to)
    }
}

/// Begins with one slash and no more: a browser takes what follows two for a host.
fn one_slash(path: &mut Vec<u8>) {
    let slashes = path.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    path.splice(..slashes, [b'/']);
}

#[cfg(test)]
mod tests {
    use mainstay_model::route::HeaderLine;

    use super::*;

    fn parts(target: &str, prefix: usize) -> Parts<'_> {
        Parts {
            host: "Shop.example.com:8080",
            secure: false,
            method: "GET",
            target,
            prefix,
            visitor: Some(IpAddr::from([192, 0, 2, 7])),
            request_id: b"id-1",
            service: "shop",
        }
    }

    fn filled(text: &str, target: &str, prefix: usize) -> String {
        let mut out = Vec::new();
        parts(target, prefix).fill(&Stencil::parse(text).expect("a stencil"), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_part_is_filled_in() {
        for (text, expected) in [
            ("{scheme}://{host}{uri}", "http://Shop.example.com/api/x?y=1"),
            ("{method} {path} {query} {rest}", "GET /api/x ?y=1 /x?y=1"),
            ("{visitor} {request-id} {service} {{}}", "192.0.2.7 id-1 shop {}"),
        ] {
            assert_eq!(filled(text, "/api/x?y=1", 4), expected);
        }
        assert_eq!(filled("{path}|{uri}|{rest}|{query}", "?a", 0), "/|/?a|/?a|?a");
    }

    #[test]
    fn a_path_is_replaced_and_what_follows_it_stays() {
        for (target, prefix, to, expected) in [
            ("/api/x?y=/api", 4, "", "/x?y=/api"),
            ("/api", 4, "", "/"),
            ("/api?y", 4, "", "/?y"),
            ("/api/x", 4, "/v2", "/v2/x"),
            ("/api", 4, "/v2", "/v2"),
            ("/x", 0, "/v2", "/v2/x"),
            ("/api//evil.example", 4, "", "/evil.example"),
            ("*", 0, "/v2", "*"),
            ("?a", 0, "/v2", "/v2/?a"),
        ] {
            let new = parts(target, prefix).rewritten(to);
            assert_eq!(String::from_utf8_lossy(&new), expected, "{target}");
        }
    }

    #[test]
    fn no_redirect_of_a_path_leads_to_another_host() {
        let redirect = |to: &str, target: &str| {
            let redirect = Redirect { status: 302, to: Stencil::parse(to).expect("a stencil") };
            let (status, location) = parts(target, 0).redirected(&redirect);
            assert_eq!(status, 302);
            String::from_utf8(location).expect("text")
        };
        assert_eq!(redirect("{uri}", "//evil.example/x"), "/evil.example/x");
        assert_eq!(redirect("/{rest}", "/\\evil.example/x"), "/evil.example/x");
        assert_eq!(redirect("https://other.example{uri}", "//a?b"), "https://other.example//a?b");
        assert_eq!(redirect("{query}", "/?a"), "/?a");
        assert_eq!(parts("/a?b", 0).moved_to_https(), (308, b"https://Shop.example.com/a?b".to_vec()));
    }

    #[test]
    fn strict_transport_security_is_said_by_https_alone() {
        let line = HeaderLine {
            name: "Strict-Transport-Security".into(),
            value: Stencil::parse("max-age=60").expect("a stencil"),
            secure_only: true,
        };
        let changes = HeaderChanges { remove: Vec::new(), add: vec![line] };
        for (secure, expected) in [(false, ""), (true, "Strict-Transport-Security: max-age=60\r\n")] {
            let mut out = Vec::new();
            Parts { secure, ..parts("/", 0) }.lines(&changes, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
