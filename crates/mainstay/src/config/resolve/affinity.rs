//! How a service's server is chosen, and who keeps to one.

use std::time::Duration;

use mainstay_model::affinity::{HashBy, Sticky};
use mainstay_model::policy::Balance;

use super::headers::{header_name, is_token};
use super::whole::Resolver;
use crate::config::address::Refusal;
use crate::config::raw::{RawService, RawSticky};
use crate::config::read::{At, Field, Text};

impl Resolver<'_> {
    pub(super) fn balance(&self, field: &Field<Text>) -> Balance {
        let words = ["least-latency", "least-requests", "round-robin", "random", "hash"];
        match self.word(field, &words) {
            Some("least-requests") => Balance::LeastRequests,
            Some("round-robin") => Balance::RoundRobin,
            Some("random") => Balance::Random,
            Some("hash") => Balance::Hash,
            _ => Balance::LeastLatency,
        }
    }

    /// What is hashed.
    pub(super) fn hash_by(&self, service: &RawService) -> HashBy {
        let Some(at) = service.hash_by.get() else { return HashBy::default() };
        let by = self.accept(&at.place, hash_key(&at.value.0)).unwrap_or_default();
        let is_hash = service.balance.get().is_some_and(|at| at.value.0 == "hash");
        if !is_hash && by != HashBy::default() {
            let remedy = "write balance = \"hash\", or remove it";
            self.mistakes.absent(&at.place, "says nothing without balance = \"hash\"", remedy);
        }
        by
    }

    pub(super) fn sticky(&self, at: &At<RawSticky>) -> Option<Sticky> {
        let raw = &at.value;
        if raw.cookie.is_absent() {
            self.mistakes.absent(
                &at.place,
                "cookie is missing",
                "write sticky = { cookie = \"shop-server\" }",
            );
        }
        if let Some(path) = raw.path.get() {
            let text = &path.value.0;
            if !text.starts_with('/')
                || !text.bytes().all(|b| b.is_ascii_graphic() && !b"\";,\\".contains(&b))
            {
                self.mistakes.value(&path.place, "not a path of a cookie", "write \"/\" or \"/shop\"");
            }
        }
        let sticky = Sticky {
            path: raw.path.get().map_or_else(|| "/".to_owned(), |path| path.value.0.clone()),
            max_age: raw.max_age.get().map(|at| at.value.0),
            drain: self.duration(&raw.drain, Sticky::DRAIN, Duration::ZERO),
            cookie: self.accept(&raw.cookie.get()?.place, cookie_name(&raw.cookie.get()?.value.0))?,
        };
        if let (Some(age), Some(at)) = (sticky.max_age, raw.max_age.get())
            && age < Duration::from_secs(1)
        {
            self.mistakes.value(&at.place, "browsers count whole seconds", "write \"1h\", or leave it out");
        }
        Some(sticky)
    }
}

fn hash_key(text: &str) -> Result<HashBy, Refusal> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    match (kind, name) {
        ("visitor", "") => Ok(HashBy::Visitor),
        ("path", "") => Ok(HashBy::Path),
        ("header", name) => Ok(HashBy::Header(header_name(name)?)),
        ("cookie", name) => Ok(HashBy::Cookie(cookie_name(name)?)),
        ("query", name)
            if name.bytes().all(|b| b.is_ascii_graphic() && !b"&=#?".contains(&b)) && !name.is_empty() =>
        {
            Ok(HashBy::Query(name.to_owned()))
        }
        _ => Err((
            "not a key of a request".to_owned(),
            "write \"visitor\", \"path\", \"header:X-Tenant\", \"cookie:session\" or \"query:id\"".to_owned(),
        )),
    }
}

fn cookie_name(text: &str) -> Result<String, Refusal> {
    match is_token(text) {
        true => Ok(text.to_owned()),
        false => Err((
            "not the name of a cookie".to_owned(),
            "write letters, digits, hyphens and underscores: \"shop-server\"".to_owned(),
        )),
    }
}
