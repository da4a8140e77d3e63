//! Which server gets which request, as seen by the servers.

use mainstay_model::ServiceId;
use mainstay_model::policy::Balance;
use mainstay_model::routing::RoutingTable;

use crate::support::{Origin, PATIENCE, Rig, carriage, get, table};

#[test]
fn shares_are_kept_in_turn() {
    let origins = [Origin::of("a"), Origin::of("b")];
    let mut table = table(&origins.each_ref().map(|o| o.address));
    table.services[0].targets[1].share = 0.25;
    let rig = Rig::new(table);
    let mut wire = rig.connect();
    for _ in 0..100 {
        wire.send(get("/"));
        wire.answer().unwrap();
    }
    assert_eq!((origins[0].count(), origins[1].count()), (80, 20));
}

#[test]
fn least_latency_uses_every_server() {
    let origins = [Origin::of("a"), Origin::of("b"), Origin::of("c")];
    let mut table = table(&origins.each_ref().map(|o| o.address));
    carriage(&mut table).balance = Balance::LeastLatency;
    let rig = Rig::new(table);
    let mut wire = rig.connect();
    for _ in 0..300 {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    assert_eq!(origins.iter().map(Origin::count).sum::<usize>(), 300);
    assert!(origins.iter().all(|o| o.count() > 0));
}

#[test]
fn a_host_leads_to_its_service_and_an_unknown_one_nowhere() {
    let (shop, blog) = (Origin::of("shop"), Origin::of("blog"));
    let mut both: RoutingTable = table(&[shop.address]);
    carriage(&mut both).hosts = vec!["shop.example.com".into()];
    let mut other = table(&[blog.address]).services.remove(0);
    other.id = ServiceId::new("blog");
    other.targets[0].id = other.id.server("a");
    std::sync::Arc::make_mut(&mut other.carriage).hosts = vec!["*.blog.example".into()];
    both.services.push(other);
    let rig = Rig::new(both);
    let ask = |host: &str| rig.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(ask("SHOP.example.com:8080").text(), "shop");
    assert_eq!(ask("my.blog.example").text(), "blog");
    assert_eq!(ask("unknown").status, 404);
    assert_eq!(rig.ask("GET / HTTP/1.0\r\n\r\n").status, 404);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.traffic.services.values().map(|s| s.requests).sum::<u64>(), 2);
}
