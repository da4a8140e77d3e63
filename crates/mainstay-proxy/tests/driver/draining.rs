//! Servers that are to go: what is under way there has its time, and is then ended in a way that its client understands.

use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use mainstay_model::carriage::Tcp;
use mainstay_model::routing::{Leaving, RoutingTable};
use mainstay_proxy::codec::{Frames, GOING_AWAY};
use mainstay_proxy::{Serves, Settings};

use crate::access_log::{Log, texts};
use crate::http2::with_plain_client;
use crate::support::{
    Gate, Origin, PATIENCE, Rig, Then, Wire, carriage, eventually, get, ok, own_address, server_id,
    service_id, table,
};

/// So short that a test waits for it, and so long that nothing before it is cut.
const SOON: Duration = Duration::from_millis(300);
/// Nobody waits for that.
const NEVER: Duration = Duration::from_secs(3600);

/// A close as a client answers one: masked with zeros.
const ANSWER: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// The table without its first server.
fn without_first(mut table: RoutingTable, within: Duration) -> RoutingTable {
    table.services[0].targets.remove(0);
    carriage(&mut table).drain_timeout = within;
    table
}

fn of_tcp(addresses: &[std::net::SocketAddr]) -> RoutingTable {
    let mut table = table(addresses);
    let carriage = carriage(&mut table);
    carriage.tcp = Some(Tcp { close_when_down: true });
    carriage.timeouts.idle = NEVER;
    carriage.drain_timeout = NEVER;
    table
}

fn at_tcp(settings: &mut Settings) {
    settings.listen[0].serves = Serves::Tcp(vec![service_id()]);
}

fn drained(rig: &Rig, what: &'static str) -> u64 {
    rig.unusual().drained.get(&(service_id(), what)).copied().unwrap_or(0)
}

/// A server of TCP whose connections are the test's.
struct Peer {
    address: std::net::SocketAddr,
    accepted: mpsc::Receiver<Wire>,
}

impl Peer {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind(own_address()).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if sender.send(Wire::new(stream)).is_err() {
                    return;
                }
            }
        });
        Self { address, accepted }
    }

    fn next(&self) -> Wire {
        self.accepted.recv_timeout(PATIENCE).expect("a connection")
    }

    /// The same, once a request for a WebSocket was agreed to.
    fn websocket(&self) -> Wire {
        let mut wire = self.next();
        wire.head().unwrap().expect("a request");
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        wire
    }
}

fn upgrade(wire: &mut Wire) {
    wire.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
}

#[test]
fn a_session_with_a_server_that_is_to_go_is_ended_without_a_reset_when_its_time_is_over() {
    let (peer, other) = (Peer::new(), Peer::new());
    let log = Log::new("drained", "json");
    let both = of_tcp(&[peer.address, other.address]);
    let rig = Rig::with(both.clone(), |settings| {
        at_tcp(settings);
        settings.access_log = Some(log.log());
    });
    let mut client = rig.connect();
    client.send("hello");
    let mut server = peer.next();
    assert_eq!(server.exactly(5).unwrap(), b"hello");
    rig.publish(without_first(both, SOON));
    server.send("still");
    assert_eq!(client.exactly(5).unwrap(), b"still", "it has its time");
    client.send("here");
    assert_eq!(server.rest().unwrap(), b"here", "an end and no reset");
    drop(server);
    assert_eq!(client.rest().unwrap(), b"");
    eventually("it is counted", || drained(&rig, "connection") == 1);
    let line = &log.lines(1)[0];
    assert_eq!(texts(line, &["outcome", "reason", "server"]), ["drained", "drain-timeout", "a"]);
    let mut again = rig.connect();
    again.send("x");
    assert_eq!(other.next().exactly(1).unwrap(), b"x");
    drop(again);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().failed, told.server("a").failures.len()), (0, 0), "it is nobody's failure");
}

#[test]
fn a_side_that_goes_on_talking_when_its_time_is_over_is_not_waited_for() {
    let peer = Peer::new();
    let table = of_tcp(&[peer.address]);
    let rig = Rig::with(table.clone(), at_tcp);
    let mut client = rig.connect();
    client.send("x");
    let server = peer.next();
    rig.publish(without_first(table, Duration::ZERO));
    assert_eq!(client.rest().unwrap(), b"", "it is told at once");
    // Neither side closes, and both are let go.
    eventually("it is over", || rig.proxy().sessions()[&service_id()].open == 0);
    eventually("it is counted", || drained(&rig, "connection") == 1);
    drop((client, server));
}

#[test]
fn the_client_of_a_websocket_is_told_between_two_messages_and_its_answer_reaches_the_server() {
    let peer = Peer::new();
    let log = Log::new("drained-websocket", "json");
    let mut table = table(&[peer.address]);
    carriage(&mut table).drain_timeout = NEVER;
    let rig = Rig::with(table.clone(), |settings| settings.access_log = Some(log.log()));
    let mut client = rig.connect();
    upgrade(&mut client);
    let mut server = peer.websocket();
    assert_eq!(client.answer().unwrap().status, 101);
    server.send([0x81, 2, b'h', b'i']);
    assert_eq!(client.exactly(4).unwrap(), [0x81, 2, b'h', b'i']);
    // Half a message is on its way.
    server.send([0x82, 126, 1, 0]);
    server.send([7; 100]);
    assert_eq!(client.exactly(104).unwrap()[..4], [0x82, 126, 1, 0]);
    rig.publish(without_first(table, SOON));
    std::thread::sleep(SOON);
    server.send([7; 156]);
    assert_eq!(client.exactly(156).unwrap(), [7; 156], "it goes through whole");
    assert_eq!(client.exactly(4).unwrap(), GOING_AWAY);
    server.send([0x81, 1, b'x']);
    client.send([0x81, 0x81, 0, 0, 0, 0, b'y']);
    client.send(ANSWER);
    let mut expected = vec![0x81, 0x81, 0, 0, 0, 0, b'y'];
    expected.extend(ANSWER);
    assert_eq!(server.rest().unwrap(), expected, "what was said before the answer is heard, and the answer");
    drop(server);
    assert_eq!(client.rest().unwrap(), b"", "nothing follows a close");
    eventually("it is counted", || drained(&rig, "websocket") == 1);
    drop(client);
    let line = &log.lines(1)[0];
    assert_eq!(texts(line, &["outcome", "reason"]), ["drained", "drain-timeout"]);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (1, 0));
}

#[test]
fn a_websocket_over_http2_is_told_in_the_same_way() {
    let peer = Peer::new();
    let table = table(&[peer.address]);
    let rig = Rig::new(table.clone());
    let gate = Gate::default();
    let (agreed, opened) = (gate.clone(), gate);
    let address = peer.address;
    let serving = std::thread::spawn(move || {
        let mut server = peer.websocket();
        agreed.open();
        server.rest().unwrap()
    });
    with_plain_client(rig.address(), async |client| {
        let request = Request::builder().method(Method::CONNECT).uri("http://shop.example/chat");
        let mut request = request.body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, mut stream) = client.clone().send_request(request, false).unwrap();
        let mut answer = answer.await.unwrap().into_body();
        opened.wait();
        rig.publish(without_first(table, Duration::ZERO));
        let said = tokio::time::timeout(PATIENCE, answer.data()).await.expect("a close");
        assert_eq!(said.unwrap().unwrap(), GOING_AWAY[..]);
        stream.send_data(Bytes::from_static(&ANSWER), true).unwrap();
        while let Some(rest) = answer.data().await {
            assert!(rest.expect("the stream ends, and is not reset").is_empty());
        }
    });
    assert_eq!(serving.join().unwrap(), ANSWER, "{address}");
    eventually("it is counted", || drained(&rig, "websocket") == 1);
}

#[test]
fn an_answer_that_does_not_end_by_itself_is_ended_too_and_is_held_against_nobody() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n");
        let _ = wire.rest();
        Then::Close
    });
    let log = Log::new("drained-answer", "json");
    let table = table(&[origin.address]);
    let rig = Rig::with(table.clone(), |settings| settings.access_log = Some(log.log()));
    let mut client = rig.connect();
    client.send(get("/events"));
    client.head().unwrap().unwrap();
    assert_eq!(client.exactly(10).unwrap(), b"5\r\nevent\r\n");
    rig.publish(without_first(table, SOON));
    assert_eq!(client.rest().unwrap(), b"", "without its last chunk, so nobody takes it for whole");
    eventually("it is counted", || drained(&rig, "answer") == 1);
    let line = &log.lines(1)[0];
    assert_eq!(texts(line, &["outcome", "reason"]), ["drained", "drain-timeout"]);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().failed, told.service().abandoned), (0, 1));
    assert_eq!(told.server("a").failures, <_>::default());
}

#[test]
fn a_server_that_is_back_in_time_keeps_what_it_has() {
    let (stays, goes) = (Peer::new(), Peer::new());
    let both = of_tcp(&[stays.address, goes.address]);
    let rig = Rig::with(both.clone(), at_tcp);
    let (mut first, mut second) = (rig.connect(), rig.connect());
    first.send("1");
    second.send("2");
    let (mut on_stays, mut on_goes) = (stays.next(), goes.next());
    assert_eq!((on_stays.exactly(1).unwrap(), on_goes.exactly(1).unwrap()), (b"1".to_vec(), b"2".to_vec()));
    let mut neither = without_first(both.clone(), SOON);
    neither.services[0].targets.clear();
    rig.publish(neither.clone());
    std::thread::sleep(SOON / 3);
    neither.services[0].targets.push(both.services[0].targets[0].clone());
    rig.publish(neither);
    assert_eq!(on_goes.rest().unwrap(), b"", "the time of the other is over");
    drop(on_goes);
    second.rest().unwrap();
    first.send("again");
    assert_eq!(on_stays.exactly(5).unwrap(), b"again");
}

#[test]
fn what_is_left_behind_at_an_earlier_address_has_its_time_too() {
    let (before, after) = (Peer::new(), Peer::new());
    let table = of_tcp(&[before.address]);
    let rig = Rig::with(table.clone(), at_tcp);
    let mut client = rig.connect();
    client.send("1");
    let mut server = before.next();
    assert_eq!(server.exactly(1).unwrap(), b"1");
    let mut moved = table;
    carriage(&mut moved).drain_timeout = SOON;
    moved.services[0].targets[0].address = after.address.into();
    rig.publish(moved);
    let mut later = rig.connect();
    later.send("2");
    let mut on_after = after.next();
    assert_eq!(on_after.exactly(1).unwrap(), b"2");
    assert_eq!(server.rest().unwrap(), b"", "what was there is told at its own time");
    drop(server);
    assert_eq!(client.rest().unwrap(), b"");
    later.send("4");
    assert_eq!(on_after.exactly(1).unwrap(), b"4");
}

#[test]
fn a_server_that_is_about_to_be_ended_has_less_time_than_one_that_a_person_drains() {
    let peer = Peer::new();
    let table = of_tcp(&[peer.address]);
    let rig = Rig::with(table.clone(), at_tcp);
    let mut client = rig.connect();
    client.send("1");
    let server = peer.next();
    let mut leaving = without_first(table, NEVER);
    leaving.services[0].leaving.push(Leaving { server: server_id("a"), within: SOON });
    rig.publish(leaving);
    assert_eq!(client.rest().unwrap(), b"");
    drop(server);
}

#[test]
fn when_mainstay_ends_a_websocket_is_told_too() {
    let peer = Peer::new();
    let rig = Rig::new(table(&[peer.address]));
    let mut client = rig.connect();
    upgrade(&mut client);
    let mut server = peer.websocket();
    assert_eq!(client.answer().unwrap().status, 101);
    let ending = std::thread::spawn(move || rig.finish(SOON));
    assert_eq!(client.exactly(4).unwrap(), GOING_AWAY);
    client.send(ANSWER);
    client.stream.shutdown(Shutdown::Write).unwrap();
    let mut frames = Frames::default();
    frames.pass(&server.rest().unwrap());
    assert!(frames.has_closed());
    drop(server);
    assert_eq!(client.rest().unwrap(), b"");
    let (cut, told) = ending.join().unwrap();
    assert_eq!((cut, told.service().failed), (1, 0), "it was ended, however well");
}

#[test]
fn when_the_time_of_who_has_handed_over_is_up_a_websocket_is_told_too() {
    let peer = Peer::new();
    let rig = Rig::new(table(&[peer.address]));
    let mut client = rig.connect();
    upgrade(&mut client);
    let mut server = peer.websocket();
    assert_eq!(client.answer().unwrap().status, 101);
    let retiring = std::thread::spawn(move || rig.retire(SOON));
    server.send([0x81, 2, b'h', b'i']);
    assert_eq!(client.exactly(4).unwrap(), [0x81, 2, b'h', b'i'], "it goes on until then");
    assert_eq!(client.exactly(4).unwrap(), GOING_AWAY);
    client.send(ANSWER);
    assert_eq!(server.rest().unwrap(), ANSWER);
    drop(server);
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(retiring.join().unwrap().0, 1, "it was ended, however well");
}

#[test]
fn a_drained_server_costs_a_request_under_way_nothing() {
    let gate = Gate::default();
    let inner = gate.clone();
    let origin = Origin::start(move |_, wire| {
        inner.wait();
        wire.send(ok("whole"));
        Then::Continue
    });
    let table = table(&[origin.address]);
    let rig = Rig::new(table.clone());
    let mut client = rig.connect();
    client.send(get("/"));
    eventually("it is there", || origin.count() == 1);
    rig.publish(without_first(table, Duration::ZERO));
    eventually("the table is in use", || rig.get("/").status == 503);
    gate.open();
    assert_eq!(client.answer().unwrap().text(), "whole", "its own deadlines hold for it");
}
