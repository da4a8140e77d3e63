//! Zones are read and answered as the RFCs want it, and bytes that nobody meant do no harm.

use std::collections::HashMap;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{LowerName, Name, RData, RecordType};
use proptest::prelude::*;

use super::authority::{Authority, Live, Served, Way};
use super::zone::{Slip, Spot, Zone};
use super::zone_file;

/// A zone `example.com` of this text, with these live names; what is wrong with it otherwise.
fn try_zone(text: &str, live: &[&str]) -> Result<Zone, Vec<Slip>> {
    let origin: Name = "example.com.".parse().unwrap();
    let (records, slips) = zone_file::read(text, &origin);
    if !slips.is_empty() {
        return Err(slips);
    }
    let live: Vec<LowerName> = live.iter().map(|name| owner(name)).collect();
    Zone::new(&origin, records, &live)
}

/// As [`try_zone`], of a text without mistakes.
pub(super) fn zone(text: &str, live: &[&str]) -> Zone {
    try_zone(text, live).unwrap()
}

fn owner(name: &str) -> LowerName {
    let name = if name == "@" { "example.com.".to_owned() } else { format!("{name}.example.com.") };
    name.parse().unwrap()
}

const ZONE: &str = "\
$TTL 1h
@       SOA   ns1 hostmaster 7 (   ; serial
              3600 900 1209600     ; refresh, retry, expire
              120 )
        NS    ns1
        NS    ns.elsewhere.net.
        MX    10 mail
        TXT   \"a ; b\" \"c\"
ns1     A     192.0.2.53
mail    300 IN A 192.0.2.25
        AAAA  2001:db8::25
www     CNAME web
web     A     192.0.2.80
out     CNAME www.elsewhere.net.
loop    CNAME pool
pool    CNAME loop
lost    CNAME gone
a.b.c   A     192.0.2.1
*.wild  A     192.0.2.2
there.wild TXT \"here\"
sub     NS    ns.sub
ns.sub  A     192.0.2.54
";

/// The zone above with `shop` (two addresses of IPv4), `six` (one of each) and `unknown` (none) live.
fn authority() -> Authority {
    let live = HashMap::from([
        (
            owner("shop"),
            Live { v4: vec![[192, 0, 2, 10].into(), [192, 0, 2, 11].into()], v6: vec![], ttl: 60 },
        ),
        (
            owner("six"),
            Live { v4: vec![[192, 0, 2, 12].into()], v6: vec!["2001:db8::12".parse().unwrap()], ttl: 5 },
        ),
        (owner("unknown"), Live::default()),
    ]);
    let zone = Arc::new(zone(ZONE, &["shop", "six", "unknown"]));
    Authority::new(vec![Served { zone, live, serial: 7 }])
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.parse().unwrap(), kind));
    query
}

fn send(authority: &Authority, query: &Message, way: Way) -> Message {
    let answer = authority.answer(&query.to_vec().unwrap(), way, 0).unwrap();
    Message::from_vec(&answer.bytes).unwrap()
}

fn ask(name: &str, kind: RecordType) -> Message {
    send(&authority(), &query(name, kind), Way::Tcp)
}

/// An answer's records as `TYPE DATA TTL`, in their order.
fn said(message: &Message) -> Vec<String> {
    message.answers.iter().map(|r| format!("{} {} {}", r.record_type(), r.data, r.ttl)).collect()
}

#[test]
fn records_are_answered_with_authority_and_without_recursion() {
    let answer = ask("mail.example.com.", RecordType::A);
    assert_eq!(said(&answer), ["A 192.0.2.25 300"]);
    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
    assert!(answer.metadata.recursion_desired, "it is copied from the question");
    assert!(answer.authorities.is_empty());
    assert_eq!(said(&ask("MAIL.Example.COM.", RecordType::AAAA)), ["AAAA 2001:db8::25 3600"]);
    assert_eq!(said(&ask("example.com.", RecordType::TXT)), ["TXT a ; bc 3600"]);
}

#[test]
fn the_apex_has_its_soa_and_its_servers_with_their_addresses() {
    let soa = ask("example.com.", RecordType::SOA);
    let RData::SOA(data) = &soa.answers[0].data else { panic!("{soa:?}") };
    assert_eq!((data.serial, data.minimum, soa.answers[0].ttl), (7, 120, 3600));
    let servers = ask("example.com.", RecordType::NS);
    assert_eq!(servers.answers.len(), 2);
    assert_eq!(servers.additionals.len(), 1, "the address of the one that is in the zone");
}

#[test]
fn a_name_that_does_not_exist_and_a_type_that_does_not_are_told_apart() {
    for (name, kind, code) in [
        ("nobody.example.com.", RecordType::A, ResponseCode::NXDomain),
        ("mail.example.com.", RecordType::TXT, ResponseCode::NoError),
        ("c.example.com.", RecordType::A, ResponseCode::NoError),
        ("x.c.example.com.", RecordType::A, ResponseCode::NXDomain),
        ("lost.example.com.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = ask(name, kind);
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert!(answer.metadata.authoritative);
        let RData::SOA(_) = &answer.authorities[0].data else { panic!("no SOA for {name}") };
        assert_eq!(answer.authorities[0].ttl, 120, "the smaller of the SOA's TTL and its minimum");
    }
}

#[test]
fn aliases_are_followed_inside_the_zone_and_not_in_circles() {
    assert_eq!(
        said(&ask("www.example.com.", RecordType::A)),
        ["CNAME web.example.com. 3600", "A 192.0.2.80 3600"]
    );
    assert_eq!(said(&ask("www.example.com.", RecordType::CNAME)), ["CNAME web.example.com. 3600"]);
    assert_eq!(said(&ask("out.example.com.", RecordType::A)), ["CNAME www.elsewhere.net. 3600"]);
    assert_eq!(ask("loop.example.com.", RecordType::A).metadata.response_code, ResponseCode::ServFail);
    assert_eq!(said(&ask("lost.example.com.", RecordType::A)).len(), 1);
}

#[test]
fn a_wildcard_stands_for_names_that_do_not_exist_and_for_no_others() {
    let answer = ask("any.thing.wild.example.com.", RecordType::A);
    assert_eq!(said(&answer), ["A 192.0.2.2 3600"]);
    assert_eq!(answer.answers[0].name.to_string(), "any.thing.wild.example.com.");
    let there = ask("there.wild.example.com.", RecordType::A);
    assert!(there.answers.is_empty() && there.metadata.response_code == ResponseCode::NoError);
    let below = ask("x.there.wild.example.com.", RecordType::A);
    assert_eq!(below.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn what_is_delegated_is_referred_to_without_authority_and_with_glue() {
    for name in ["sub.example.com.", "x.sub.example.com.", "ns.sub.example.com."] {
        let answer = ask(name, RecordType::A);
        assert!(!answer.metadata.authoritative, "{name}");
        assert!(answer.answers.is_empty());
        assert_eq!(answer.authorities[0].record_type(), RecordType::NS);
        assert_eq!(answer.additionals[0].data.to_string(), "192.0.2.54");
    }
    let vouched = ask("sub.example.com.", RecordType::DS);
    assert!(vouched.metadata.authoritative, "the record that vouches for a delegation is ours");
}

#[test]
fn live_names_say_what_is_live_and_are_never_emptied() {
    assert_eq!(said(&ask("shop.example.com.", RecordType::A)), ["A 192.0.2.10 60", "A 192.0.2.11 60"]);
    assert_eq!(said(&ask("six.example.com.", RecordType::AAAA)), ["AAAA 2001:db8::12 5"]);
    let none = ask("shop.example.com.", RecordType::AAAA);
    assert!(none.metadata.response_code == ResponseCode::NoError && none.authorities.len() == 1);
    let unknown = ask("unknown.example.com.", RecordType::A);
    assert_eq!(unknown.metadata.response_code, ResponseCode::ServFail, "nobody keeps that");
    assert!(unknown.authorities.is_empty());
}

#[test]
fn addresses_are_answered_in_turn() {
    let question = query("shop.example.com.", RecordType::A).to_vec().unwrap();
    let firsts: Vec<String> = (0..3)
        .map(|turn| {
            let answer = authority().answer(&question, Way::Udp, turn).unwrap();
            Message::from_vec(&answer.bytes).unwrap().answers[0].data.to_string()
        })
        .collect();
    assert_eq!(firsts, ["192.0.2.10", "192.0.2.11", "192.0.2.10"]);
}

#[test]
fn transfers_other_zones_and_other_classes_are_refused() {
    for (name, kind) in [
        ("example.com.", RecordType::AXFR),
        ("example.com.", RecordType::IXFR),
        ("example.net.", RecordType::A),
        ("com.", RecordType::NS),
        (".", RecordType::NS),
    ] {
        let answer = ask(name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name} {kind}");
        assert!(answer.answers.is_empty() && !answer.metadata.authoritative);
    }
    let mut chaos = query("example.com.", RecordType::TXT);
    chaos.queries[0].query_class = hickory_proto::rr::DNSClass::CH;
    assert_eq!(send(&authority(), &chaos, Way::Udp).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn any_gets_very_little() {
    let answer = ask("example.com.", RecordType::ANY);
    assert_eq!(answer.answers.len(), 1);
    assert_eq!(answer.answers[0].record_type(), RecordType::HINFO);
    assert_eq!(ask("nobody.example.com.", RecordType::ANY).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn other_operations_are_not_implemented_and_answers_not_answered() {
    for op_code in [OpCode::Update, OpCode::Notify, OpCode::Status, OpCode::Unknown(9)] {
        let mut message = query("example.com.", RecordType::SOA);
        message.metadata.op_code = op_code;
        let answer = send(&authority(), &message, Way::Udp);
        assert_eq!(
            (answer.metadata.response_code, answer.metadata.id),
            (ResponseCode::NotImp, message.metadata.id)
        );
    }
    let mut answer = query("example.com.", RecordType::SOA);
    answer.metadata.message_type = MessageType::Response;
    assert!(authority().answer(&answer.to_vec().unwrap(), Way::Udp, 0).is_none());
    assert!(authority().answer(b"short", Way::Udp, 0).is_none());
}

#[test]
fn a_message_that_is_broken_is_told_so() {
    let good = query("example.com.", RecordType::SOA).to_vec().unwrap();
    let code = |bytes: &[u8]| authority().answer(bytes, Way::Udp, 0).unwrap().code;
    assert_eq!(code(&good[..good.len() - 3]), ResponseCode::FormErr);
    let mut many = good.clone();
    (many[4], many[5]) = (0xff, 0xff);
    assert_eq!(code(&many), ResponseCode::FormErr);
    let mut none = good.clone();
    none[5] = 0;
    assert_eq!(code(&none), ResponseCode::FormErr);
    let mut newer = query("example.com.", RecordType::SOA);
    newer.set_edns(Edns::new().set_version(1).clone());
    assert_eq!(code(&newer.to_vec().unwrap()), ResponseCode::BADVERS);
}

#[test]
fn a_datagram_is_never_longer_than_was_asked_for() {
    let mut text = "@ NS ns1\nns1 A 192.0.2.53\n".to_owned();
    (0..60).for_each(|n| text.push_str(&format!("many A 192.0.2.{n}\nmany AAAA 2001:db8::{n}\n")));
    let zone = Arc::new(zone(&text, &[]));
    let authority = Authority::new(vec![Served { zone, live: HashMap::new(), serial: 1 }]);
    for (size, kind) in [(None, RecordType::A), (Some(600), RecordType::A), (Some(4096), RecordType::AAAA)] {
        let mut question = query("many.example.com.", kind);
        if let Some(size) = size {
            question.set_edns(Edns::new().set_max_payload(size).clone());
        }
        let bytes = authority.answer(&question.to_vec().unwrap(), Way::Udp, 0).unwrap().bytes;
        assert!(bytes.len() <= usize::from(size.unwrap_or(512).min(1232)), "{}", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(answer.metadata.truncation && answer.answers.is_empty());
        let whole = send(&authority, &question, Way::Tcp);
        assert!(!whole.metadata.truncation && whole.answers.len() == 60);
    }
}

#[test]
fn the_nearest_zone_answers() {
    let origin: Name = "sub.example.com.".parse().unwrap();
    let (records, _) = zone_file::read("@ NS ns1\nns1 A 192.0.2.99\n", &origin);
    let inner = Arc::new(Zone::new(&origin, records, &[]).unwrap());
    let outer = Arc::new(zone(ZONE, &[]));
    let served = |zone| Served { zone, live: HashMap::new(), serial: 1 };
    let authority = Authority::new(vec![served(outer), served(inner)]);
    let answer = send(&authority, &query("ns1.sub.example.com.", RecordType::A), Way::Udp);
    assert_eq!(said(&answer), ["A 192.0.2.99 3600"]);
}

#[test]
fn a_zone_without_a_soa_gets_one() {
    let zone = zone("@ NS ns1\nns1 A 192.0.2.53\n", &[]);
    let (soa, _) = zone.soa();
    assert_eq!((soa.mname.to_string(), soa.minimum), ("ns1.example.com.".to_owned(), 300));
    assert_eq!(soa.rname.to_string(), "hostmaster.example.com.");
}

#[test]
fn each_mistake_in_a_zone_is_named_with_its_line() {
    let slips = |text: &str, live: &[&str]| -> Vec<(usize, String)> {
        let slips = try_zone(text, live).unwrap_err();
        let line = |slip: &Slip| if let Spot::Line(line) = slip.spot { line } else { 0 };
        slips.iter().map(|slip| (line(slip), slip.what.clone())).collect()
    };
    let base = "@ NS ns1\nns1 A 192.0.2.53\n";
    for (text, live, line, what) in [
        ("@ NS ns1\n".to_owned(), &[][..], 1, "the zone's server ns1.example.com. has no address"),
        ("www A 192.0.2.1\n".to_owned(), &[], 0, "a zone without an NS record"),
        (format!("{base}\nwww A 192.0.2.300\n"), &[], 4, "not a record"),
        (format!("{base}www 300\n"), &[], 3, "a name without a record"),
        (format!("{base}www FOO bar\n"), &[], 3, "not a record"),
        (format!("{base}www.example.net. A 192.0.2.1\n"), &[], 3, "www.example.net. is not in the zone"),
        (format!("{base}w CNAME ns1\nw A 192.0.2.1\n"), &[], 3, "w.example.com. is an alias"),
        (format!("{base}w CNAME a\nw CNAME b\n"), &[], 3, "w.example.com. is an alias of several"),
        (format!("{base}shop A 192.0.2.1\n"), &["shop"], 3, "shop.example.com. is live"),
        (
            format!("{base}x NS ns1\n"),
            &["shop.x"],
            3,
            "shop.x.example.com. is live, but here it is delegated",
        ),
        (format!("{base}@ TXT ( \"a\"\n\"b\"\n"), &[], 3, "a parenthesis is opened and never closed"),
        (format!("{base}@ TXT a )\n"), &[], 3, "a parenthesis is closed"),
        (format!("{base}@ TXT \"a\nb\n"), &[], 3, "quotes are opened"),
        (format!("$INCLUDE other\n{base}"), &[], 1, "$INCLUDE is not in this version"),
        (format!("$TTL soon\n{base}"), &[], 1, "not a TTL"),
        (format!("  A 192.0.2.1\n{base}"), &[], 1, "a record without a name"),
        (format!("{base}@ SOA a b 1 1 1 1 1\n@ SOA a b 2 1 1 1 1\n"), &[], 4, "a second SOA record"),
        (format!("{base}x SOA a b 1 1 1 1 1\n"), &[], 3, "the SOA record belongs to the zone's own name"),
    ] {
        let found = slips(&text, live);
        assert!(
            found.iter().any(|(l, w)| *l == line && w.starts_with(what)),
            "{what:?} in line {line} is not among {found:?}"
        );
    }
}

#[test]
fn origins_and_ttls_are_heeded() {
    let zone = zone(
        "$ORIGIN example.com.\n$TTL 1h30m\n@ NS ns1.x\n$ORIGIN x\nns1 60 A 192.0.2.1\n\tAAAA ::1\n",
        &[],
    );
    assert_eq!(zone.set(&owner("ns1.x"), RecordType::A).unwrap().ttl, 60);
    assert_eq!(zone.set(&owner("ns1.x"), RecordType::AAAA).unwrap().ttl, 5400);
    assert_eq!(zone.records(), 3);
}

proptest! {
    #[test]
    fn bytes_that_nobody_meant_get_a_short_answer_or_none(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some(answer) = authority().answer(&bytes, Way::Udp, 1) {
            prop_assert!(answer.bytes.len() <= 1232);
            prop_assert_eq!(&answer.bytes[..2], &bytes[..2]);
        }
    }

    #[test]
    fn a_question_with_a_slip_in_it_does_no_harm(
        at in 0usize..64, byte in any::<u8>(), name in "((\\*|[a-z]{1,9})\\.){0,5}example\\.com\\.", kind in any::<u16>(),
    ) {
        let mut bytes = query(&name, RecordType::from(kind)).to_vec().unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Some(answer) = authority().answer(&bytes, Way::Udp, 1) {
            prop_assert!(answer.bytes.len() <= 1232);
        }
    }

    #[test]
    fn text_that_nobody_meant_is_a_mistake_or_a_zone(text in "[ -~\n\t]{0,200}") {
        let _ = try_zone(&text, &[]);
    }

    #[test]
    fn a_broken_line_of_a_zone_is_a_mistake_or_a_zone(at in 0usize..600, c in "[ -~\n]") {
        let at = at % ZONE.len();
        let text = format!("{}{c}{}", &ZONE[..at], &ZONE[at + 1..]);
        let _ = try_zone(&text, &["shop"]);
    }
}
