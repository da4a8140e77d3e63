//! A zone: its records by name, as they are answered, and what must be true of them before anybody is answered by them.
//!
//! It knows nothing of the rest of the program, so that it can be fuzzed alone.

use std::collections::{BTreeMap, HashMap};

use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};

/// Refresh, retry and expiry of a zone that names none, in seconds: the usual ones of RIPE-203. Nobody transfers it.
const TIMERS: (i32, i32, i32) = (86_400, 7_200, 3_600_000);
/// How long "there is no such name" is kept by others when the zone names no SOA, in seconds. RFC 2308 wants hours at most;
/// a name that was just added is wanted soon.
const NEGATIVE_TTL: u32 = 300;
/// TTL of the SOA record that is made for such a zone, in seconds.
const SOA_TTL: u32 = 3600;

/// Records by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    origin: LowerName,
    soa: SOA,
    soa_ttl: u32,
    /// Every name that exists, also those that exist only because something is below them.
    owners: HashMap<LowerName, Vec<RrSet>>,
    records: usize,
}

/// All records of one name and type; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct RrSet {
    /// Their type.
    pub kind: RecordType,
    /// Their TTL in seconds: one set has one TTL (RFC 2181, 5.2).
    pub ttl: u32,
    /// What they say.
    pub data: Vec<RData>,
}

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// In this line of a zone file, from 1.
    Line(usize),
    /// In this item of a list, from 0.
    Item(usize),
    /// Nowhere: something is missing.
    Whole,
}

/// Something that is wrong with a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slip {
    /// Where.
    pub spot: Spot,
    /// What.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Slip {
    pub(super) fn new(spot: Spot, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { spot, what: what.into(), remedy: remedy.into() }
    }
}

impl Zone {
    /// A zone of these records, and of names that are answered live.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(origin: &Name, written: Vec<(Spot, Record)>, live: &[LowerName]) -> Result<Self, Vec<Slip>> {
        let origin = LowerName::new(origin);
        let mut slips = Vec::new();
        let mut sets: BTreeMap<LowerName, Vec<(Spot, RrSet)>> = BTreeMap::new();
        let mut soa: Option<(SOA, u32)> = None;
        let mut records = 0;
        for (spot, record) in written {
            let owner = LowerName::new(&record.name);
            if let Some(slip) = misplaced(spot, &record, &owner, &origin) {
                slips.push(slip);
                continue;
            }
            records += 1;
            match record.data {
                RData::SOA(data) if soa.is_none() => soa = Some((data, record.ttl)),
                RData::SOA(_) => {
                    slips.push(Slip::new(spot, "a second SOA record", "a zone has one; remove the others"));
                }
                data => add(sets.entry(owner).or_default(), spot, record.ttl, data),
            }
        }
        check_apex(&origin, &sets, live, &mut slips);
        check_aliases(&sets, &mut slips);
        check_live(&origin, &sets, live, &mut slips);
        if !slips.is_empty() {
            slips.sort_by_key(|slip| slip.spot);
            return Err(slips);
        }
        let (soa, soa_ttl) = soa.unwrap_or_else(|| (made_soa(&origin, &sets), SOA_TTL));
        let owners = existing(&origin, sets, live);
        Ok(Self { origin, soa, soa_ttl, owners, records })
    }

    /// The name of the zone itself.
    pub fn origin(&self) -> &LowerName {
        &self.origin
    }

    /// Its SOA as written, with its TTL.
    pub fn soa(&self) -> (&SOA, u32) {
        (&self.soa, self.soa_ttl)
    }

    /// How long others may keep "there is no such name", in seconds (RFC 2308, 5).
    pub fn negative_ttl(&self) -> u32 {
        self.soa_ttl.min(self.soa.minimum)
    }

    /// Records that were written.
    pub fn records(&self) -> usize {
        self.records
    }

    /// What is written under a name; `None` when the name does not exist, empty when only something below it does.
    pub fn owner(&self, name: &LowerName) -> Option<&[RrSet]> {
        self.owners.get(name).map(Vec::as_slice)
    }

    /// The records of one name and type.
    pub fn set(&self, name: &LowerName, kind: RecordType) -> Option<&RrSet> {
        self.owner(name)?.iter().find(|set| set.kind == kind)
    }
}

/// A record that belongs to another zone or class.
fn misplaced(spot: Spot, record: &Record, owner: &LowerName, origin: &LowerName) -> Option<Slip> {
    if !origin.zone_of(owner) {
        let what = format!("{owner} is not in the zone {origin}");
        return Some(Slip::new(spot, what, "write names without a dot at their end, or remove the record"));
    }
    if record.dns_class != DNSClass::IN {
        return Some(Slip::new(spot, "a class other than IN", "leave the class out"));
    }
    if record.record_type() == RecordType::SOA && owner != origin {
        let what = format!("the SOA record belongs to the zone's own name, not to {owner}");
        return Some(Slip::new(spot, what, "write it for @"));
    }
    None
}

/// Adds a record to the set of its type. What was written twice counts once.
fn add(sets: &mut Vec<(Spot, RrSet)>, spot: Spot, ttl: u32, data: RData) {
    let kind = data.record_type();
    match sets.iter_mut().find(|(_, set)| set.kind == kind) {
        Some((_, set)) => {
            set.ttl = set.ttl.min(ttl);
            if !set.data.contains(&data) {
                set.data.push(data);
            }
        }
        None => sets.push((spot, RrSet { kind, ttl, data: vec![data] })),
    }
}

type Sets = BTreeMap<LowerName, Vec<(Spot, RrSet)>>;

fn find<'s>(sets: &'s Sets, name: &LowerName, kind: RecordType) -> Option<&'s (Spot, RrSet)> {
    sets.get(name)?.iter().find(|(_, set)| set.kind == kind)
}

/// A zone has servers, and those that it names itself have addresses.
fn check_apex(origin: &LowerName, sets: &Sets, live: &[LowerName], slips: &mut Vec<Slip>) {
    let Some((spot, servers)) = find(sets, origin, RecordType::NS) else {
        let remedy =
            "write \"@ NS ns1\" and \"ns1 A 192.0.2.53\", with the addresses that this zone is delegated to";
        slips.push(Slip::new(Spot::Whole, "a zone without an NS record", remedy));
        return;
    };
    for data in &servers.data {
        let RData::NS(name) = data else { continue };
        let name = LowerName::new(name);
        let below_cut = ancestors(&name, origin).any(|cut| find(sets, &cut, RecordType::NS).is_some());
        let has_address = live.contains(&name)
            || [RecordType::A, RecordType::AAAA].iter().any(|kind| find(sets, &name, *kind).is_some());
        if origin.zone_of(&name) && !below_cut && !has_address {
            let what = format!("the zone's server {name} has no address");
            slips.push(Slip::new(*spot, what, format!("write \"{name} A 192.0.2.53\", with its address")));
        }
    }
}

/// The names between a name and the zone's own, both left out, the nearest first.
fn ancestors(name: &LowerName, origin: &LowerName) -> impl Iterator<Item = LowerName> {
    let (origin, mut next) = (origin.clone(), name.base_name());
    std::iter::from_fn(move || {
        if !origin.zone_of(&next) || next == origin {
            return None;
        }
        let here = next.clone();
        next = next.base_name();
        Some(here)
    })
}

/// A name with a CNAME has nothing else (RFC 1034, 3.6.2).
fn check_aliases(sets: &Sets, slips: &mut Vec<Slip>) {
    for (owner, sets) in sets {
        let Some((spot, alias)) = sets.iter().find(|(_, set)| set.kind == RecordType::CNAME) else {
            continue;
        };
        if alias.data.len() > 1 {
            slips.push(Slip::new(*spot, format!("{owner} is an alias of several names"), "keep one CNAME"));
        }
        if let Some((_, other)) = sets.iter().find(|(_, set)| set.kind != RecordType::CNAME) {
            let what = format!("{owner} is an alias (CNAME) and has a record of type {} too", other.kind);
            slips.push(Slip::new(*spot, what, "keep either the CNAME or the others"));
        }
    }
}

/// A live name is in the zone, and nothing that is written contradicts it.
fn check_live(origin: &LowerName, sets: &Sets, live: &[LowerName], slips: &mut Vec<Slip>) {
    for name in live {
        for kind in [RecordType::A, RecordType::AAAA, RecordType::CNAME] {
            if let Some((spot, _)) = find(sets, name, kind) {
                let what = format!("{name} is live, so its addresses come from its service");
                slips.push(Slip::new(*spot, what, format!("remove this {kind} record, or the live name")));
            }
        }
        let mut above = ancestors(name, origin).chain((name != origin).then(|| name.clone()));
        if let Some((spot, _)) = above.find_map(|cut| find(sets, &cut, RecordType::NS)) {
            let what = format!("{name} is live, but here it is delegated to other servers");
            slips.push(Slip::new(*spot, what, "remove these NS records, or the live name"));
        }
    }
}

fn made_soa(origin: &LowerName, sets: &Sets) -> SOA {
    let primary = find(sets, origin, RecordType::NS).and_then(|(_, set)| set.data.first());
    let mname = match primary {
        Some(RData::NS(name)) => name.0.clone(),
        _ => Name::from(origin),
    };
    let rname = Name::from(origin).prepend_label("hostmaster").unwrap_or_else(|_| Name::from(origin));
    let (refresh, retry, expire) = TIMERS;
    SOA::new(mname, rname, 0, refresh, retry, expire, NEGATIVE_TTL)
}

/// Every name that exists. A name with something below it exists, also when nothing is written under it (RFC 8020).
fn existing(origin: &LowerName, sets: Sets, live: &[LowerName]) -> HashMap<LowerName, Vec<RrSet>> {
    let mut owners: HashMap<LowerName, Vec<RrSet>> = HashMap::new();
    owners.entry(origin.clone()).or_default();
    for name in sets.keys().chain(live) {
        for above in ancestors(name, origin) {
            owners.entry(above).or_default();
        }
        owners.entry(name.clone()).or_default();
    }
    for (name, sets) in sets {
        owners.insert(name, sets.into_iter().map(|(_, set)| set).collect());
    }
    owners
}
