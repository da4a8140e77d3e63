//! Visitors who keep to a server, by a hash or by a cookie, and what becomes of them when it goes.

use std::time::Duration;

use mainstay_model::affinity::{HashBy, Sticky};
use mainstay_model::policy::Balance;
use mainstay_model::routing::{RoutingMode, RoutingTable};

use crate::support::{Answer, Origin, Refusing, Rig, carriage, get, table};

fn three() -> [Origin; 3] {
    [Origin::of("a"), Origin::of("b"), Origin::of("c")]
}

fn sticky(origins: &[Origin]) -> RoutingTable {
    let mut table = table(&origins.iter().map(|o| o.address).collect::<Vec<_>>());
    carriage(&mut table).sticky =
        Some(Sticky { cookie: "keep".into(), path: "/".into(), max_age: None, drain: Sticky::DRAIN });
    table
}

fn rig(table: RoutingTable) -> Rig {
    let rig = Rig::new(table);
    rig.set_session_key([7; 32]);
    rig
}

/// The value of the cookie that an answer gives.
fn given(answer: &Answer) -> Option<String> {
    let cookie = answer.header("set-cookie")?;
    Some(cookie.strip_prefix("keep=").expect("our cookie").split(';').next().unwrap_or_default().to_owned())
}

fn with_cookie(rig: &Rig, cookies: &str) -> Answer {
    rig.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookies}\r\n\r\n"))
}

#[test]
fn the_same_key_goes_to_the_same_server_and_a_lost_server_moves_only_its_own() {
    let origins = three();
    let mut all = table(&origins.each_ref().map(|o| o.address));
    carriage(&mut all).balance = Balance::Hash;
    carriage(&mut all).hash_by = HashBy::Query("id".into());
    let rig = Rig::new(all.clone());
    let mut wire = rig.connect();
    let mut ask = || -> Vec<String> {
        let one = |id: usize| {
            wire.send(get(&format!("/?x=1&id={id}")));
            wire.answer().unwrap().text()
        };
        (0..60).map(one).collect()
    };
    let before = ask();
    assert_eq!(ask(), before);
    for name in ["a", "b", "c"] {
        assert!(before.iter().filter(|server| *server == name).count() >= 5, "{before:?}");
    }
    let gone = all.services[0].targets.remove(1);
    rig.publish(all.clone());
    let without = ask();
    for (was, is) in before.iter().zip(&without) {
        assert!(is == was || was == "b", "{was} to {is}");
    }
    all.services[0].targets.insert(1, gone);
    rig.publish(all);
    assert_eq!(ask(), before, "and they come back with it");
}

#[test]
fn a_header_a_cookie_or_the_path_can_be_the_key() {
    let origins = three();
    let mut all = table(&origins.each_ref().map(|o| o.address));
    carriage(&mut all).balance = Balance::Hash;
    for (by, request) in [
        (HashBy::Header("x-tenant".into()), "GET /{n} HTTP/1.1\r\nHost: a\r\nX-Tenant: one\r\n\r\n"),
        (HashBy::Cookie("who".into()), "GET /{n} HTTP/1.1\r\nHost: a\r\nCookie: n={n}; who=one\r\n\r\n"),
        (HashBy::Path, "GET /one?n={n} HTTP/1.1\r\nHost: a\r\n\r\n"),
        (HashBy::Visitor, "GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        carriage(&mut all).hash_by = by.clone();
        let rig = Rig::new(all.clone());
        let answers: Vec<String> =
            (0..12).map(|n| rig.ask(request.replace("{n}", &n.to_string())).text()).collect();
        assert!(answers.iter().all(|server| *server == answers[0]), "{by:?}: {answers:?}");
    }
}

#[test]
fn every_balancer_keeps_to_the_shares_of_weight_and_slow_start() {
    for balance in
        [Balance::RoundRobin, Balance::Random, Balance::LeastRequests, Balance::LeastLatency, Balance::Hash]
    {
        let origins = three();
        let mut all = table(&origins.each_ref().map(|o| o.address));
        carriage(&mut all).balance = balance;
        carriage(&mut all).hash_by = HashBy::Path;
        for (target, share) in all.services[0].targets.iter_mut().zip([3.0, 1.0, 0.1]) {
            target.share = share;
        }
        let rig = Rig::new(all);
        let mut wire = rig.connect();
        for n in 0..1200 {
            wire.send(get(&format!("/{n}")));
            wire.answer().unwrap();
        }
        let [heavy, light, starting] = origins.each_ref().map(Origin::count);
        // By latency, whoever answered faster may get it all, and of servers that are alike anybody may be that.
        let keeps = balance == Balance::LeastLatency || (heavy > light * 2 && light > starting);
        assert!(keeps, "{balance:?}: {heavy} {light} {starting}");
        assert!(starting < 120, "{balance:?}: who has just come back got {starting} of 1200");
    }
}

#[test]
fn a_visitor_keeps_to_the_server_that_answered_first_by_a_cookie_that_the_server_never_sees() {
    let origins = three();
    let rig = rig(sticky(&origins));
    let first = rig.get("/");
    let id = given(&first).expect("a cookie");
    assert_eq!(
        first.header("set-cookie"),
        Some(format!("keep={id}; Path=/; HttpOnly; SameSite=Lax").as_str())
    );
    assert!(id.len() == 32 && !id.contains(&origins[0].address.port().to_string()));
    for _ in 0..6 {
        let again = with_cookie(&rig, &format!("x=1; keep={id}; y=2"));
        assert_eq!((again.text(), given(&again)), (first.text(), None));
    }
    let seen = origins[0].seen();
    assert_eq!(seen.len(), 7);
    assert_eq!(seen[6].all("cookie"), ["x=1; y=2"]);
    with_cookie(&rig, &format!("keep={id}"));
    assert!(origins[0].seen()[7].all("cookie").is_empty());
    let others: Vec<String> = (0..2).map(|_| rig.get("/").text()).collect();
    assert_eq!(others, ["b", "c"], "who has no cookie goes anywhere");
}

#[test]
fn a_forged_cookie_is_no_cookie() {
    let origins = three();
    let rig = rig(sticky(&origins));
    let id = given(&rig.get("/")).expect("a cookie");
    let flipped = if id.starts_with('0') { "1" } else { "0" };
    for forged in ["", "a", &format!("{flipped}{}", &id[1..]), &id[1..], &format!("{id}0"), "\u{e9}"] {
        let answer = with_cookie(&rig, &format!("keep={forged}"));
        assert_eq!(answer.status, 200);
        assert!(given(&answer).is_some(), "{forged:?}");
    }
    rig.set_session_key([8; 32]);
    assert!(given(&with_cookie(&rig, &format!("keep={id}"))).is_some(), "another key, another cookie");
}

#[test]
fn when_its_server_dies_a_visitor_goes_elsewhere_at_once_and_stays_there() {
    let origins = three();
    let mut all = sticky(&origins);
    let rig = rig(all.clone());
    // One after the other: the first one went to `a`, whose address refuses from now on.
    let id = given(&rig.get("/")).expect("a cookie");
    let refusing = Refusing::new();
    all.services[0].targets[0].address = refusing.address.into();
    rig.publish(all.clone());
    let moved = with_cookie(&rig, &format!("keep={id}"));
    assert_eq!(moved.status, 200);
    let new = given(&moved).expect("a new cookie");
    assert_ne!(new, id);
    all.services[0].targets[0].address = origins[0].address.into();
    rig.publish(all);
    for _ in 0..6 {
        let again = with_cookie(&rig, &format!("keep={new}"));
        assert_eq!((again.text(), given(&again)), (moved.text(), None), "it does not come back by itself");
    }
}

#[test]
fn a_draining_server_keeps_its_visitors_until_its_deadline_and_gets_no_new_ones() {
    let origins = three();
    let mut drains = sticky(&origins);
    let rig = rig(drains.clone());
    let id = given(&rig.get("/")).expect("a cookie");
    let drained = drains.services[0].targets.remove(0);
    drains.services[0].draining.push(drained);
    rig.publish(drains.clone());
    for _ in 0..3 {
        assert_eq!(with_cookie(&rig, &format!("keep={id}")).text(), "a");
        assert_ne!(rig.get("/").text(), "a");
    }
    carriage(&mut drains).sticky.as_mut().unwrap().drain = Duration::ZERO;
    rig.publish(drains.clone());
    let moved = with_cookie(&rig, &format!("keep={id}"));
    assert!(moved.text() != "a" && given(&moved).is_some());
    // In maintenance it is not listed at all.
    drains.services[0].draining.clear();
    carriage(&mut drains).sticky.as_mut().unwrap().drain = Sticky::DRAIN;
    rig.publish(drains);
    assert_ne!(with_cookie(&rig, &format!("keep={id}")).text(), "a");
}

#[test]
fn a_visitor_leaves_a_server_that_was_taken_out_for_its_health() {
    let origins = three();
    let mut ejected = sticky(&origins);
    let rig = rig(ejected.clone());
    let id = given(&rig.get("/")).expect("a cookie");
    let bad = ejected.services[0].targets.remove(0);
    ejected.services[0].last_resort.push(bad);
    ejected.services[0].mode = RoutingMode::Normal;
    rig.publish(ejected);
    let moved = with_cookie(&rig, &format!("keep={id}"));
    assert!(moved.text() != "a" && given(&moved).is_some());
}
