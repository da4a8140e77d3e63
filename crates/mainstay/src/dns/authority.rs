//! Answers: bytes of a query in, bytes of the answer out, from the zones that Mainstay is asked to answer and nothing else. It
//! opens no socket and knows nothing of the rest of the program, so that it can be fuzzed alone.
//!
//! RFC 1034 and 1035 with what came since: 2181, 2308 (negative answers), 4592 (wildcards), 6604 (aliases that lead nowhere),
//! 6891 (EDNS), 8482 (ANY), 9619 (one question).

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, HINFO};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};

use super::zone::{RrSet, Zone};

/// The longest answer over UDP, whatever the asker takes: what crosses every network in one piece (DNS flag day 2020).
const UDP_MAX: u16 = 1232;
/// The longest answer over UDP to who says nothing of EDNS (RFC 1035, 2.3.4).
const UDP_PLAIN: usize = 512;
/// The longest message over TCP.
const TCP_MAX: usize = u16::MAX as usize;
/// So many aliases are followed for one question; a zone whose aliases lead in a circle has more.
const ALIASES_MAX: usize = 8;
/// The TTL of the answer to ANY, in seconds: what it says does not change.
const ANY_TTL: u32 = 3600;
/// The size of a message's header.
const HEADER: usize = 12;

/// Everything that is answered at one moment. Immutable; a change is another one.
#[derive(Debug, Default)]
pub struct Authority {
    /// The longest names first, so that the first one that fits is the right one.
    zones: Vec<Served>,
}

/// A zone with what is live in it.
#[derive(Debug, Clone)]
pub struct Served {
    /// What is written.
    pub zone: Arc<Zone>,
    /// Names whose addresses follow the health of a service.
    pub live: HashMap<LowerName, Live>,
    /// The serial number that its SOA shows.
    pub serial: u32,
}

/// The addresses of a live name at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// For A.
    pub v4: Vec<Ipv4Addr>,
    /// For AAAA.
    pub v6: Vec<Ipv6Addr>,
    /// Their TTL, in seconds.
    pub ttl: u32,
}

/// How a question came in, which says how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// An answer as it is sent.
#[derive(Debug)]
pub struct Answer {
    /// The message.
    pub bytes: Vec<u8>,
    /// What it says, for the counters.
    pub code: ResponseCode,
}

impl Authority {
    /// What is answered from now on.
    pub fn new(mut zones: Vec<Served>) -> Self {
        zones.sort_by_key(|served| std::cmp::Reverse(served.zone.origin().num_labels()));
        Self { zones }
    }

    /// The answer to a message; `None` for what deserves none: no query at all, or an answer itself (two programs that answer
    /// each other's answers would never end). `turn` is any number that differs from question to question: addresses are
    /// answered in another order each time.
    pub fn answer(&self, request: &[u8], way: Way, turn: usize) -> Option<Answer> {
        let head: &[u8; HEADER] = request.get(..HEADER)?.try_into().ok()?;
        let is_answer = head[2] & 0x80 != 0;
        if is_answer {
            return None;
        }
        let op_code = OpCode::from_u8((head[2] >> 3) & 0x0f);
        let mut bare = Message::response(u16::from_be_bytes([head[0], head[1]]), op_code);
        bare.metadata.recursion_desired = head[2] & 1 != 0;
        let refused = |code| {
            let mut message = bare.clone();
            message.metadata.response_code = code;
            finish(&message, way.plain_limit())
        };
        if op_code != OpCode::Query {
            return refused(ResponseCode::NotImp);
        }
        // Counted before anything is read, so that a header cannot ask for memory.
        let questions = u16::from_be_bytes([head[4], head[5]]);
        if questions != 1 {
            return refused(ResponseCode::FormErr);
        }
        let Ok(asked) = Message::from_vec(request) else { return refused(ResponseCode::FormErr) };
        let Some(query) = asked.queries.first() else { return refused(ResponseCode::FormErr) };

        let mut message = bare.clone();
        message.metadata = Metadata::response_from_request(&asked.metadata);
        message.add_query(query.clone());
        if let Some(edns) = &asked.edns {
            let mut own = Edns::new();
            own.set_max_payload(UDP_MAX).set_dnssec_ok(edns.flags().dnssec_ok);
            message.set_edns(own);
        }
        if asked.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            message.metadata.response_code = ResponseCode::BADVERS;
        } else {
            self.fill(query, turn, &mut message);
        }
        finish(&message, way.limit(&asked))
    }

    /// The zone that a name is in.
    fn zone_of(&self, name: &LowerName) -> Option<&Served> {
        self.zones.iter().find(|served| served.zone.origin().zone_of(name))
    }

    fn fill(&self, query: &Query, turn: usize, message: &mut Message) {
        let name = LowerName::new(query.name());
        let kind = query.query_type();
        let transfer = matches!(kind, RecordType::AXFR | RecordType::IXFR);
        let served = self.zone_of(&name);
        let (Some(served), DNSClass::IN, false) = (served, query.query_class(), transfer) else {
            message.metadata.response_code = ResponseCode::Refused;
            return;
        };
        message.metadata.authoritative = true;
        if kind == RecordType::ANY {
            return served.answer_any(query.name(), &name, message);
        }
        served.answer(query.name().clone(), kind, turn, message);
    }
}

impl Way {
    fn limit(self, asked: &Message) -> usize {
        match self {
            Way::Udp if asked.edns.is_some() => usize::from(asked.max_payload().min(UDP_MAX)),
            way => way.plain_limit(),
        }
    }

    fn plain_limit(self) -> usize {
        match self {
            Way::Udp => UDP_PLAIN,
            Way::Tcp => TCP_MAX,
        }
    }
}

/// The message as bytes; without its records and marked as cut when it does not fit.
fn finish(message: &Message, limit: usize) -> Option<Answer> {
    let code = message.metadata.response_code;
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= limit => Some(Answer { bytes, code }),
        _ => {
            let bytes = message.truncate().to_vec().ok().filter(|bytes| bytes.len() <= limit)?;
            Some(Answer { bytes, code })
        }
    }
}

/// What stands under a name.
enum Found<'z> {
    /// These records, written under this name or under the wildcard that stands for it.
    Sets(&'z [RrSet]),
    /// Live addresses, and what else is written under the name.
    Live(&'z Live, &'z [RrSet]),
    /// Nothing, but something is below it.
    Empty,
    /// The name does not exist.
    Nothing,
    /// It belongs to other servers, from this name on.
    Delegated(LowerName),
}

impl Served {
    /// Follows aliases inside the zone until there is an answer.
    fn answer(&self, mut name: Name, kind: RecordType, turn: usize, message: &mut Message) {
        for _ in 0..=ALIASES_MAX {
            let lower = LowerName::new(&name);
            match self.find(&lower, kind) {
                Found::Delegated(cut) => {
                    // What came before is ours; where it leads on to is not.
                    if message.answers.is_empty() {
                        self.refer(&cut, message);
                    }
                    return;
                }
                Found::Nothing => {
                    message.metadata.response_code = ResponseCode::NXDomain;
                    return self.deny(message);
                }
                Found::Empty => return self.deny(message),
                Found::Live(live, _) if matches!(kind, RecordType::A | RecordType::AAAA) => {
                    return self.answer_live(&name, live, kind, turn, message);
                }
                Found::Sets(sets) | Found::Live(_, sets) => {
                    if let Some(set) = sets.iter().find(|set| set.kind == kind) {
                        message.add_answers(records(&name, set, turn));
                        return self.add_addresses(set, turn, message);
                    }
                    if lower == *self.zone.origin() && kind == RecordType::SOA {
                        message.add_answer(self.soa(self.zone.soa().1));
                        return;
                    }
                    let Some(alias) = sets.iter().find(|set| set.kind == RecordType::CNAME) else {
                        return self.deny(message);
                    };
                    message.add_answers(records(&name, alias, turn));
                    let Some(RData::CNAME(target)) = alias.data.first() else { return };
                    if !self.zone.origin().zone_of(&LowerName::new(target)) {
                        return;
                    }
                    name = target.0.clone();
                }
            }
        }
        message.metadata.response_code = ResponseCode::ServFail;
    }

    fn find(&self, name: &LowerName, kind: RecordType) -> Found<'_> {
        if let Some(cut) = self.cut(name, kind) {
            return Found::Delegated(cut);
        }
        let written = self.zone.owner(name);
        if let Some(live) = self.live.get(name) {
            return Found::Live(live, written.unwrap_or_default());
        }
        match written {
            Some([]) if name != self.zone.origin() => Found::Empty,
            Some(sets) => Found::Sets(sets),
            None => self.find_wildcard(name),
        }
    }

    /// The name at or above this one where the zone hands over to other servers, the highest if there are several.
    fn cut(&self, name: &LowerName, kind: RecordType) -> Option<LowerName> {
        let origin = self.zone.origin();
        let mut cut = None;
        let mut next = name.clone();
        while next != *origin && origin.zone_of(&next) {
            // The record that vouches for a delegation is kept on this side of it (RFC 4035, 3.1.4.1).
            let is_own = kind == RecordType::DS && next == *name;
            if !is_own && self.zone.set(&next, RecordType::NS).is_some() {
                cut = Some(next.clone());
            }
            next = next.base_name();
        }
        cut
    }

    /// What stands for a name that does not exist: the asterisk below the nearest name above it that does (RFC 4592).
    fn find_wildcard(&self, name: &LowerName) -> Found<'_> {
        let origin = self.zone.origin();
        let mut encloser = name.base_name();
        while encloser != *origin && self.zone.owner(&encloser).is_none() {
            encloser = encloser.base_name();
        }
        let Some(wildcard) = Name::from(&encloser).prepend_label("*").ok().map(LowerName::from) else {
            return Found::Nothing;
        };
        match (self.live.get(&wildcard), self.zone.owner(&wildcard)) {
            (Some(live), sets) => Found::Live(live, sets.unwrap_or_default()),
            (None, Some([])) => Found::Empty,
            (None, Some(sets)) => Found::Sets(sets),
            (None, None) => Found::Nothing,
        }
    }

    /// Addresses that follow the health of a service. They are never emptied because of it; but while Mainstay does not know a
    /// single one (it has just started, and servers are still looked up) it says that it cannot answer, which nobody keeps.
    fn answer_live(&self, name: &Name, live: &Live, kind: RecordType, turn: usize, message: &mut Message) {
        if live.v4.is_empty() && live.v6.is_empty() {
            message.metadata.response_code = ResponseCode::ServFail;
            return;
        }
        let data: Vec<RData> = match kind {
            RecordType::A => live.v4.iter().map(|ip| RData::A(A(*ip))).collect(),
            _ => live.v6.iter().map(|ip| RData::AAAA(AAAA(*ip))).collect(),
        };
        if data.is_empty() {
            return self.deny(message);
        }
        message.add_answers(records(name, &RrSet { kind, ttl: live.ttl, data }, turn));
    }

    /// The addresses of the zone's own names that an answer names.
    fn add_addresses(&self, set: &RrSet, turn: usize, message: &mut Message) {
        for data in &set.data {
            let target = match data {
                RData::NS(name) => &name.0,
                RData::MX(mx) => &mx.exchange,
                RData::SRV(srv) => &srv.target,
                _ => continue,
            };
            let lower = LowerName::new(target);
            if let Some(live) = self.live.get(&lower) {
                let v4 = live.v4.iter().map(|ip| RData::A(A(*ip)));
                let both = v4.chain(live.v6.iter().map(|ip| RData::AAAA(AAAA(*ip))));
                let ttl = live.ttl;
                message.add_additionals(both.map(|data| Record::from_rdata(target.clone(), ttl, data)));
                continue;
            }
            for kind in [RecordType::A, RecordType::AAAA] {
                if let Some(set) = self.zone.set(&lower, kind) {
                    message.add_additionals(records(target, set, turn));
                }
            }
        }
    }

    /// Says which servers to ask instead, with the addresses of those that are inside the zone.
    fn refer(&self, cut: &LowerName, message: &mut Message) {
        message.metadata.authoritative = false;
        if let Some(servers) = self.zone.set(cut, RecordType::NS) {
            message.add_authorities(records(&Name::from(cut), servers, 0));
            self.add_addresses(servers, 0, message);
        }
    }

    /// Says that there is nothing, and how long that may be believed.
    fn deny(&self, message: &mut Message) {
        message.add_authority(self.soa(self.zone.negative_ttl()));
    }

    fn soa(&self, ttl: u32) -> Record {
        let mut soa = self.zone.soa().0.clone();
        soa.serial = self.serial;
        Record::from_rdata(Name::from(self.zone.origin()), ttl, RData::SOA(soa))
    }

    /// Who asks for everything gets very little (RFC 8482), so that nobody can make others suffer our answers.
    fn answer_any(&self, asked: &Name, name: &LowerName, message: &mut Message) {
        match self.find(name, RecordType::ANY) {
            Found::Delegated(cut) => self.refer(&cut, message),
            Found::Nothing => {
                message.metadata.response_code = ResponseCode::NXDomain;
                self.deny(message);
            }
            Found::Empty => self.deny(message),
            Found::Sets(_) | Found::Live(..) => {
                let data = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
                message.add_answer(Record::from_rdata(asked.clone(), ANY_TTL, data));
            }
        }
    }
}

/// The records of a set under the name that was asked for, begun at another place each turn.
fn records(name: &Name, set: &RrSet, turn: usize) -> Vec<Record> {
    let mut records: Vec<Record> =
        set.data.iter().map(|data| Record::from_rdata(name.clone(), set.ttl, data.clone())).collect();
    let count = records.len().max(1);
    records.rotate_left(turn % count);
    records
}
