//! Probes by a question to DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr as _;

use hickory_proto::rr::{Name, RecordType};

use super::super::dns::name_server;
use super::super::whole::Resolver;
use crate::config::mistake::Place;
use crate::config::raw::RawDnsProbe;
use crate::config::read::{At, Field, OneOrMany, Text};

/// Types of records that are asked for.
const TYPES: [&str; 13] =
    ["A", "AAAA", "CAA", "CNAME", "DS", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "TLSA", "TXT"];

/// A question to DNS, and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsProbe {
    /// What it is about.
    pub name: Name,
    /// What is asked for.
    pub kind: RecordType,
    /// Who is asked; `None`: the server that is probed.
    pub resolver: Option<SocketAddr>,
    /// Records that must all be there, in their usual form.
    pub all: Vec<String>,
    /// Records of which one must be there, in their usual form.
    pub any: Vec<String>,
    /// No others may be there.
    pub only: bool,
    /// The answer must be authoritative.
    pub authoritative: bool,
}

impl DnsProbe {
    /// One way of the many in which the same record is written: lower case, without dots at the end of names.
    pub fn usual(kind: RecordType, text: &str) -> String {
        if kind == RecordType::TXT {
            return text.to_owned();
        }
        if let Ok(address) = text.trim().parse::<IpAddr>() {
            return address.to_string();
        }
        let word = |word: &str| match word.trim_end_matches('.') {
            "" => ".".to_owned(),
            rest => rest.to_ascii_lowercase(),
        };
        text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
    }
}

impl Resolver<'_> {
    /// A question, and what its answer must be.
    pub(super) fn dns_probe(&self, raw: &RawDnsProbe, place: &Place) -> DnsProbe {
        let kind = self.word(&raw.record, &TYPES).unwrap_or("A");
        let kind = RecordType::from_str(kind).unwrap_or(RecordType::A);
        let name = match raw.name.get() {
            Some(at) => self.accept(&at.place, asked(&at.value.0, kind)),
            None if raw.name.is_absent() => {
                self.mistakes.absent(place, "name is missing", "write name = \"www.example.com\"");
                None
            }
            None => None,
        };
        let (all, any) = (self.records(&raw.expect, kind), self.records(&raw.expect_any, kind));
        let only = raw.only.get().is_some_and(|at| at.value);
        if let (true, Some(at), true) = (only, raw.only.get(), all.is_empty() && any.is_empty()) {
            self.mistakes.value(&at.place, "no record would be good", "write expect, or remove only");
        }
        DnsProbe {
            name: name.unwrap_or_default(),
            kind,
            resolver: raw.resolver.get().and_then(|at| self.accept(&at.place, name_server(&at.value.0))),
            all,
            any,
            only,
            authoritative: raw.authoritative.get().is_some_and(|at| at.value),
        }
    }

    fn records(&self, field: &Field<OneOrMany<Text>>, kind: RecordType) -> Vec<String> {
        let Some(list) = field.get() else { return Vec::new() };
        if list.value.0.is_empty() {
            self.mistakes.value(&list.place, "empty", "write \"192.0.2.1\", or remove it");
        }
        let usual = |at: &At<Text>| {
            let text = DnsProbe::usual(kind, &at.value.0);
            let good = match kind {
                RecordType::A => text.parse::<Ipv4Addr>().is_ok(),
                RecordType::AAAA => text.parse::<Ipv6Addr>().is_ok(),
                _ => !text.is_empty(),
            };
            let refusal = || (format!("no answer of type {kind} looks like this"), remedy(kind).to_owned());
            self.accept(&at.place, good.then_some(text).ok_or_else(refusal))
        };
        list.value.0.items.iter().filter_map(usual).collect()
    }
}

fn remedy(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "write \"192.0.2.1\"",
        RecordType::AAAA => "write \"2001:db8::1\"",
        _ => "write it as it stands in a zone file",
    }
}

/// The name that a question is about.
fn asked(text: &str, kind: RecordType) -> Result<Name, (String, String)> {
    if let (RecordType::PTR, Ok(address)) = (kind, text.parse::<IpAddr>()) {
        return Ok(address.into());
    }
    let refusal = || ("not a name in DNS".to_owned(), "write \"www.example.com\"".to_owned());
    let mut name = Name::from_ascii(text.trim()).map_err(|_| refusal())?;
    name.set_fqdn(true);
    let good = !text.trim().is_empty() && text.parse::<IpAddr>().is_err();
    good.then_some(name).ok_or_else(refusal)
}
