//! Who may come in, and from which pages a change may be asked for.
//!
//! On a loopback address without token and password everybody on this machine may come in; then the Host header must name
//! this machine, so that a foreign page cannot reach us by rebinding its own name to 127.0.0.1. Otherwise a bearer token or a
//! session is needed for everything but [`is_public`]. A change is only taken from our own pages or from programs.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::App;
use super::listener::ClientAddress;
use super::problem::Problem;
use super::session::{Attempts, SessionKey, Sessions, same_secret};
use crate::config::AdminAccess;

/// The cookie that holds a session.
pub(super) const COOKIE: &str = "mainstay_session";

/// As whom a request was let in; in the extensions of every request that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visitor {
    /// Anybody on this machine: no credentials are configured.
    Anybody,
    /// A program with the token.
    Program,
    /// A person who has logged in.
    Person(SessionKey),
}

/// What the guard remembers.
#[derive(Debug)]
pub(super) struct Guard {
    /// The listener's address is loopback.
    loopback: bool,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    /// The credentials that the sessions were begun with.
    access: AdminAccess,
    sessions: Sessions,
    attempts: Attempts,
    /// Links in messages that were not made here.
    links: Attempts,
}

impl Guard {
    pub(super) fn new(loopback: bool, access: AdminAccess) -> Self {
        let [attempts, links] = [(); 2].map(|()| Attempts::new(Instant::now()));
        Self {
            loopback,
            memory: Mutex::new(Memory { access, sessions: Sessions::default(), attempts, links }),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // A panic while it was held leaves only plain tables, each usable as it is.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit(
        &self,
        access: &AdminAccess,
        from: Option<IpAddr>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Visitor, Problem> {
        if access.token.is_none() && access.password.is_none() {
            return self.admit_anybody(uri, headers);
        }
        let now = Instant::now();
        let mut memory = self.memory();
        memory.follow(access);
        if let Some(given) = bearer(headers) {
            memory.attempts.check(from, now).map_err(Problem::too_many_attempts)?;
            if access.token.as_ref().is_some_and(|token| same_secret(given, token.reveal())) {
                return Ok(Visitor::Program);
            }
            memory.attempts.wrong(from, now);
            return Err(unauthorized("The bearer token is not the one of admin.token in the config."));
        }
        match session_key(headers) {
            Some(key) if memory.sessions.touch(key, now) => Ok(Visitor::Person(key)),
            _ => Err(unauthorized(
                "Log in at /login, or send the token of admin.token as `Authorization: Bearer …`.",
            )),
        }
    }

    fn admit_anybody(&self, uri: &Uri, headers: &HeaderMap) -> Result<Visitor, Problem> {
        if !self.loopback {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "no-credentials",
                "Nobody may come in",
                "listen.admin is not a loopback address and the config has neither admin.token nor admin.password.",
            ));
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let names = [host, uri.authority().map(|authority| authority.as_str())];
        if names.iter().all(Option::is_none) || !names.into_iter().flatten().all(is_this_machine) {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign-host",
                "This name is not answered here",
                "Without admin.token and admin.password in the config, the dashboard answers only as localhost or \
                 by a loopback address, so that foreign pages cannot reach it. Open it under such a name, or set a password.",
            ));
        }
        Ok(Visitor::Anybody)
    }

    /// Whether somebody who was let in still may be: asked by streams that stay open.
    pub(super) fn still_admits(&self, access: &AdminAccess, visitor: Visitor) -> bool {
        let open = access.token.is_none() && access.password.is_none();
        match visitor {
            Visitor::Anybody => open && self.loopback,
            Visitor::Program => access.token.is_some() && self.memory().access == *access,
            Visitor::Person(key) => {
                let mut memory = self.memory();
                memory.follow(access);
                memory.sessions.is_valid(key, Instant::now())
            }
        }
    }

    /// Begins a session for who knows the password; the token opens the pages as well.
    pub(super) fn log_in(
        &self,
        access: &AdminAccess,
        from: Option<IpAddr>,
        given: &str,
    ) -> Result<String, Problem> {
        let now = Instant::now();
        let mut memory = self.memory();
        memory.follow(access);
        memory.attempts.check(from, now).map_err(Problem::too_many_attempts)?;
        let secrets = [&access.password, &access.token];
        // Both are compared, whichever is right, so that the time tells nothing.
        let right = secrets
            .into_iter()
            .flatten()
            .fold(false, |right, secret| same_secret(given, secret.reveal()) | right);
        if !right {
            memory.attempts.wrong(from, now);
            return Err(unauthorized("That is not the password."));
        }
        memory.sessions.begin(now).map_err(|error| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no-randomness",
                "No session could be begun",
                format!("The system gave no random bytes: {error}."),
            )
        })
    }

    /// Somebody came with a link that was not made here; who does so too often has to wait. Links are counted apart from
    /// passwords, so that nobody is locked out by the one for the other.
    pub(super) fn wrong_link(&self, from: Option<IpAddr>) -> Result<(), Problem> {
        let now = Instant::now();
        let links = &mut self.memory().links;
        links.check(from, now).map_err(Problem::too_many_attempts)?;
        links.wrong(from, now);
        Ok(())
    }

    pub(super) fn log_out(&self, visitor: Visitor) {
        if let Visitor::Person(key) = visitor {
            self.memory().sessions.end(key);
        }
    }
}

impl Memory {
    /// Changed credentials end all sessions.
    fn follow(&mut self, access: &AdminAccess) {
        if self.access != *access {
            self.sessions.end_all();
            self.access = access.clone();
        }
    }
}

/// The layer that every request passes.
pub(super) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<ClientAddress>().map(|from| from.0.ip());
    let access = app.context.access.borrow().clone();
    let visitor = if is_public(request.uri().path()) {
        None
    } else {
        match app.guard.admit(&access, from, request.uri(), request.headers()) {
            Ok(visitor) => Some(visitor),
            Err(problem) if problem.status == StatusCode::UNAUTHORIZED && is_page(&request) => {
                return ask_to_log_in(&request);
            }
            Err(problem) => return problem.into_response(),
        }
    };
    if !request.method().is_safe()
        && let Err(problem) = check_origin(request.headers(), visitor)
    {
        return problem.into_response();
    }
    if let Some(visitor) = visitor {
        request.extensions_mut().insert(visitor);
    }
    next.run(request).await
}

/// What tells nothing that is not meant for everybody.
fn is_public(path: &str) -> bool {
    // A link of a message carries its own proof.
    matches!(path, "/livez" | "/readyz" | "/login")
        || path.starts_with("/assets/")
        || path.starts_with("/ack/")
        || path.starts_with("/decide/")
}

/// A person opens a page, as opposed to a program that asks.
fn is_page(request: &Request) -> bool {
    request.method() == Method::GET && super::router::wants_page(request.uri().path(), request.headers())
}

/// Leads a person to the login and back.
fn ask_to_log_in(request: &Request) -> Response {
    if request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        // A link in a mail: a strict cookie is withheld from this very request, but not from the next one, which is ours.
        return super::pages::open_again(request.uri());
    }
    let wanted = request.uri().path_and_query().map_or("/", |wanted| wanted.as_str());
    Redirect::to(&format!("/login?next={}", super::words::encode(wanted))).into_response()
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "You are not logged in", detail)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn session_key(headers: &HeaderMap) -> Option<SessionKey> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, id)| SessionKey::of(id))
}

/// `localhost`, or a loopback address, with or without a port.
fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if port.is_empty() || is_port(port.strip_prefix(':')) => host,
            _ => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) if is_port(Some(port)) => host,
            Some(_) => return false,
            None => authority,
        },
    };
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_port(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.parse::<u16>().is_ok() && !text.starts_with('+'))
}

/// A change is taken from our own pages, and from programs, which send neither of these headers.
fn check_origin(headers: &HeaderMap, visitor: Option<Visitor>) -> Result<(), Problem> {
    let header = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let ours = match (header("sec-fetch-site"), header("origin")) {
        (Some(b"same-origin" | b"none"), _) => true,
        (Some(_), _) => false,
        (None, Some(origin)) => is_own_origin(origin, headers.get(header::HOST).map(HeaderValue::as_bytes)),
        // Every browser of this decade sends one of them with a change; a session is a browser's.
        (None, None) => !matches!(visitor, Some(Visitor::Person(_))),
    };
    if ours {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "cross-site",
        "A change must be asked for from the dashboard itself",
        "The request came from a page of another site, or from a browser that does not say from where. Nothing was changed.",
    ))
}

fn is_own_origin(origin: &[u8], host: Option<&[u8]>) -> bool {
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_names() {
        for good in [
            "localhost",
            "LOCALHOST:9900",
            "127.0.0.1:9900",
            "127.8.9.10",
            "[::1]:9900",
            "[::1]",
            "app.localhost:1",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_this_machine(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "127.0.0.1.example.com",
            "localhost.example.com",
            "10.0.0.1:9900",
            "127.0.0.1:x",
            "[::1",
            "[::1]x",
            "localhost:",
            "::1:80",
            "0.0.0.0",
            "localhost:+1",
            "user@localhost",
        ] {
            assert!(!is_this_machine(bad), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_ours_only_with_the_same_host_and_port() {
        assert!(is_own_origin(b"http://localhost:9900", Some(b"localhost:9900")));
        assert!(is_own_origin(b"https://ops.example.com", Some(b"ops.example.com")));
        assert!(!is_own_origin(b"http://localhost:9901", Some(b"localhost:9900")));
        assert!(!is_own_origin(b"null", Some(b"null")));
        assert!(!is_own_origin(b"http://localhost", None));
    }
}
