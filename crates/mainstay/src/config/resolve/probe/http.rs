//! Probes in HTTP with more than a path: what is sent, and what the answer must be.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::Secret;
use super::super::service::LEAST;
use super::super::whole::Resolver;
use super::Expect;
use crate::config::mistake::Place;
use crate::config::raw::{RawHttpProbe, RawJsonTest};
use crate::config::read::{Amount, At, Field};

/// A request in HTTP, and what its answer must be.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// Path and query.
    pub path: String,
    /// The Host header; `None`: the server's address.
    pub host: Option<String>,
    /// The method.
    pub method: String,
    /// Headers that are sent beside those that every probe sends. One may be secret, so all of them are.
    pub headers: Vec<(String, Secret)>,
    /// The body that is sent.
    pub body: Option<String>,
    /// Good status codes.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the answer must be besides.
    pub demands: Vec<Demand>,
    /// The longest good body, in bytes.
    pub size_max: Option<u64>,
    /// Redirects are followed: those within the server, of a monitor all.
    pub follow: bool,
    /// The body is a health document.
    pub document: bool,
    /// So long its certificate must be good.
    pub certificate_min: Option<Duration>,
    /// A later answer makes it degraded.
    pub slow_after: Option<Duration>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            host: None,
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: None,
            status: vec![200..=399],
            demands: Vec::new(),
            size_max: None,
            follow: false,
            document: false,
            certificate_min: None,
            slow_after: None,
        }
    }
}

impl HttpProbe {
    /// The code is one of the good ones.
    pub fn is_good_status(&self, status: u16) -> bool {
        self.status.iter().any(|good| good.contains(&status))
    }

    /// Something of the body is asked for.
    pub fn looks_into_the_body(&self) -> bool {
        self.document || self.demands.iter().any(|demand| !matches!(demand, Demand::Header { .. }))
    }
}

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Demand {
    /// Something is in the body, or is not.
    Body {
        /// What.
        expect: Expect,
        /// It must be there.
        present: bool,
    },
    /// A header has this in it.
    Header {
        /// Its name.
        name: String,
        /// What.
        contains: String,
    },
    /// A value of a JSON body.
    Json {
        /// Where it stands.
        at: String,
        /// What it must be.
        test: JsonTest,
    },
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonTest {
    /// There.
    Present,
    /// Not there.
    Absent,
    /// This.
    Is(String),
    /// Something else.
    Not(String),
    /// A number, no less than the first and no more than the second.
    Between(Option<f64>, Option<f64>),
}

impl Demand {
    /// What it is about, for a person.
    fn what(&self) -> &str {
        match self {
            Demand::Body { expect, .. } => expect.as_str(),
            Demand::Header { name, .. } => name,
            Demand::Json { at, .. } => at,
        }
    }
}

/// `200`, `2xx`, `200-204`.
fn status_range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|code| (100..600).contains(code));
    if let Some(class) = text.strip_suffix("xx") {
        let first = number(&format!("{class}00"))?;
        return Some(first..=first + 99);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (first <= last).then_some(first..=last)
}

impl Resolver<'_> {
    /// A request, and what its answer must be. `url`: the path of a URL, which then says where.
    pub(in crate::config::resolve) fn http_probe(
        &self,
        raw: &RawHttpProbe,
        place: &Place,
        host: Option<&String>,
        url: Option<&str>,
    ) -> HttpProbe {
        const LARGEST: u64 = 16 << 20;
        let default = HttpProbe::default();
        match raw.path.get() {
            Some(path) if url.is_some_and(|url| url != "/") => {
                self.mistakes.value(&path.place, "url has a path already", "remove one of them");
            }
            Some(path) => self.path(&path.value.0, &path.place),
            None if raw.path.is_absent() && url.is_none() => {
                self.mistakes.absent(place, "path is missing", "write path = \"/healthz\"");
            }
            None => {}
        }
        let method = self.word(&raw.method, &["GET", "HEAD", "POST", "PUT", "OPTIONS"]).unwrap_or("GET");
        if let (Some(at), false) = (raw.body.get(), matches!(method, "POST" | "PUT")) {
            let what = format!("{method} has no body");
            self.mistakes.value(&at.place, what, "write method = \"POST\", or remove body");
        }
        let follow = raw.follow.get().is_some_and(|at| at.value);
        if let (true, false, Some(at)) = (follow, matches!(method, "GET" | "HEAD"), raw.follow.get()) {
            let what = format!("a {method} would be sent again to where it leads");
            self.mistakes.value(&at.place, what, "remove follow, or write method = \"GET\"");
        }
        let size_max = raw.size_max.get().map(|at| {
            if at.value.0 > LARGEST {
                self.mistakes.value(&at.place, "too much for a probe to read", "write at most \"16MiB\"");
            }
            at.value.0.min(LARGEST)
        });
        let demands = self.demands(raw);
        if let (Some(demand), "HEAD") = (demands.iter().find(|d| !matches!(d, Demand::Header { .. })), method)
        {
            let what = format!("an answer to HEAD has no body in which {} could be", demand.what());
            self.mistakes.absent(place, what, "write method = \"GET\"");
        }
        HttpProbe {
            path: match (raw.path.get(), url) {
                (Some(at), _) => at.value.0.clone(),
                (None, Some(url)) => url.to_owned(),
                (None, None) => default.path,
            },
            host: host.cloned(),
            method: method.to_owned(),
            headers: self.sent_headers(raw),
            body: raw.body.get().map(|at| at.value.0.clone()),
            status: self.good_status(raw).unwrap_or(default.status),
            demands,
            size_max,
            follow,
            document: raw.document.get().is_some_and(|at| at.value),
            certificate_min: raw.certificate_min.get().map(|at| at.value.0),
            slow_after: raw.slow_after.get().map(|_| self.duration(&raw.slow_after, LEAST, LEAST)),
        }
    }

    fn sent_headers(&self, raw: &RawHttpProbe) -> Vec<(String, Secret)> {
        let mut headers = Vec::new();
        for (name, value) in raw.headers.get().map_or(&[][..], |at| &at.value.0) {
            let own = ["host", "connection", "content-length", "transfer-encoding", "authorization"];
            let lower = name.value.to_ascii_lowercase();
            if own.contains(&lower.as_str()) {
                let remedy = match lower.as_str() {
                    "host" => "write health.host",
                    "authorization" => "write authorization = { env = \"…\" }, so that it stays secret",
                    _ => "remove it",
                };
                self.mistakes.key(&name.place, "this header is written by other means", remedy);
            } else if hyper::header::HeaderName::try_from(name.value.as_str()).is_err() {
                self.mistakes.key(&name.place, "not the name of a header", "write X-Probe and the like");
            }
            let Field::Here(value) = value else { continue };
            if hyper::header::HeaderValue::from_str(&value.value.0).is_err() {
                let remedy = "write it without control characters";
                self.mistakes.value(&value.place, "cannot be sent in a header", remedy);
            }
            headers.push((name.value.clone(), Secret::new(value.value.0.clone())));
        }
        headers.extend(self.secret(&raw.authorization).map(|value| ("authorization".to_owned(), value)));
        headers
    }

    /// Good status codes as written; `None`: the usual ones.
    fn good_status(&self, raw: &RawHttpProbe) -> Option<Vec<RangeInclusive<u16>>> {
        let list = raw.status.get()?;
        if list.value.0.is_empty() {
            self.mistakes.value(&list.place, "no status would be good", "write \"200\" or remove it");
        }
        let refusal = || ("not a status code".to_owned(), "write \"200\", \"2xx\" or \"200-204\"".to_owned());
        let items = list.value.0.items.iter();
        Some(
            items
                .filter_map(|at| self.accept(&at.place, status_range(&at.value.0).ok_or_else(refusal)))
                .collect(),
        )
    }

    fn demands(&self, raw: &RawHttpProbe) -> Vec<Demand> {
        let mut demands = Vec::new();
        for (text, pattern, present) in
            [(&raw.expect, &raw.expect_regex, true), (&raw.refuse, &raw.refuse_regex, false)]
        {
            if let Some(at) = text.get() {
                if at.value.0.is_empty() {
                    self.mistakes.value(&at.place, "empty", "write some text, or remove it");
                }
                demands.push(Demand::Body { expect: Expect::Text(at.value.0.clone()), present });
            }
            let pattern = pattern.get().and_then(|at| self.pattern(at)).map(Expect::Pattern);
            demands.extend(pattern.map(|expect| Demand::Body { expect, present }));
        }
        for (name, value) in raw.expect_header.get().map_or(&[][..], |at| &at.value.0) {
            if hyper::header::HeaderName::try_from(name.value.as_str()).is_err() {
                self.mistakes.key(&name.place, "not the name of a header", "write Content-Type and the like");
            }
            let Field::Here(value) = value else { continue };
            let contains = value.value.0.clone();
            demands.push(Demand::Header { name: name.value.to_ascii_lowercase(), contains });
        }
        let tests = raw.json.get().map_or(&[][..], |at| &at.value.items);
        demands.extend(tests.iter().filter_map(|test| self.json_test(test)));
        demands
    }

    fn json_test(&self, at: &At<RawJsonTest>) -> Option<Demand> {
        let raw = &at.value;
        if raw.at.is_absent() {
            self.mistakes.absent(&at.place, "at is missing", "write at = \"status\", where the value stands");
        }
        let range = !raw.min.is_absent() || !raw.max.is_absent();
        let written = [!raw.is.is_absent(), !raw.not.is_absent(), range, !raw.present.is_absent()];
        if written.iter().filter(|written| **written).count() > 1 {
            let what = "a value is tested by one of is, not, min and max together, and present";
            self.mistakes.absent(&at.place, what, "write one { at = … } for each");
        }
        let number = |field: &Field<Amount>| field.get().map(|at| at.value.0);
        let test = match (raw.is.get(), raw.not.get(), raw.present.get()) {
            (Some(is), ..) => JsonTest::Is(is.value.0.clone()),
            (_, Some(not), _) => JsonTest::Not(not.value.0.clone()),
            (.., Some(present)) if !present.value => JsonTest::Absent,
            _ if range => JsonTest::Between(number(&raw.min), number(&raw.max)),
            _ => JsonTest::Present,
        };
        Some(Demand::Json { at: raw.at.get()?.value.0.clone(), test })
    }
}
