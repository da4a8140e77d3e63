//! HTTP/2 frame by frame: what RFC 9113 asks of a server, from the preface to the end, each case with the section that it is of.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::floods::{END_HEADERS, END_STREAM, GET, PREFACE, frame};
use crate::support::{Gate, Origin, PATIENCE, Rig, Then, eventually, ok, table};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const REFUSED_STREAM: u32 = 7;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a GOAWAY or a RST_STREAM.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A client that says whatever it likes.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// It has said its preface and its SETTINGS, and read those of the other side.
    pub fn greeted(rig: &Rig) -> Self {
        let mut client = Self::silent(rig);
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        assert_eq!(client.next().map(|f| (f.kind, f.flags)), Some((SETTINGS, 0)), "3.4: SETTINGS come first");
        client
    }

    fn silent(rig: &Rig) -> Self {
        let stream = TcpStream::connect(rig.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // Whoever is sent away in the middle reads why.
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; `None` at the end.
    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let mut payload =
            vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of one of these kinds, passing others over.
    pub fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        std::iter::from_fn(|| self.next()).find(|frame| kinds.contains(&frame.kind))
    }

    /// The connection is ended, with this code or the general one, which the RFC leaves to whoever does not tell them apart.
    fn must_have_ended(mut self, code: u32, what: &str) {
        let goaway = self.next_of(&[GOAWAY]).unwrap_or_else(|| panic!("{what}: no GOAWAY"));
        assert!([code, PROTOCOL_ERROR].contains(&goaway.code()), "{what}: {goaway:?}");
    }

    /// The stream is ended with this code; `false`: the whole connection was, as the RFC allows (5.4.2).
    fn is_reset(&mut self, stream: u32, code: u32, what: &str) -> bool {
        let found = self.next_of(&[HEADERS, RST_STREAM, GOAWAY]).unwrap_or_else(|| panic!("{what}: closed"));
        assert_ne!(found.kind, HEADERS, "{what}: answered");
        assert!([code, PROTOCOL_ERROR].contains(&found.code()), "{what}: {found:?}");
        assert!(found.kind == GOAWAY || found.stream == stream, "{what}: {found:?}");
        found.kind == RST_STREAM
    }

    /// A request is answered as ever.
    fn is_served(&mut self, stream: u32, what: &str) {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, GET));
        let found = self.next_of(&[HEADERS, RST_STREAM, GOAWAY]).unwrap_or_else(|| panic!("{what}: closed"));
        assert_eq!((found.kind, found.stream), (HEADERS, stream), "{what}: {found:?}");
    }
}

fn rig() -> (Origin, Rig) {
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    (origin, rig)
}

/// A header in the clear, without an index (RFC 7541, 6.2.2).
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// `POST http://a/`, by the static table.
const POST: &[u8] = b"\x83\x86\x84\x41\x01a";

#[test]
fn settings_and_pings_are_acknowledged_and_what_is_unknown_is_passed_over() {
    let (_origin, rig) = rig();
    let mut client = Client::greeted(&rig);
    let ack = client.next_of(&[SETTINGS]).expect("an acknowledgement");
    assert_eq!((ack.flags, ack.payload.len()), (ACK, 0), "6.5");
    client.send(&frame(PING, 0, 0, b"12345678"));
    let pong = client.next_of(&[PING]).expect("an answer");
    assert_eq!((pong.flags, &pong.payload[..]), (ACK, &b"12345678"[..]), "6.7");
    client.send(&frame(0xbe, 0xff, 0, b"who knows"));
    client.send(&frame(SETTINGS, 0, 0, &[0xff, 0xee, 0, 0, 0, 1]));
    let ack = client.next_of(&[SETTINGS, GOAWAY]).expect("an acknowledgement");
    assert_eq!((ack.kind, ack.flags), (SETTINGS, ACK), "4.1, 6.5.2: an unknown setting");
    client.is_served(1, "4.1: an unknown frame");
}

#[test]
fn a_client_that_does_not_begin_with_settings_is_ended_before_anything_is_done_for_it() {
    let (origin, mut rig) = rig();
    let first: [&[u8]; 4] = [
        &frame(PING, 0, 0, b"12345678"),
        &frame(HEADERS, END_HEADERS | END_STREAM, 1, GET),
        &frame(SETTINGS, ACK, 0, &[]),
        &frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()),
    ];
    for frame in first {
        for at_once in [true, false] {
            let mut client = Client::silent(&rig);
            client.send(PREFACE);
            if !at_once {
                assert_eq!(client.next().map(|f| f.kind), Some(SETTINGS), "3.4: SETTINGS come first");
            }
            client.send(frame);
            let ended = client.next_of(&[HEADERS, PING, GOAWAY]).expect("3.4: no GOAWAY");
            assert_eq!((ended.kind, ended.code()), (GOAWAY, PROTOCOL_ERROR), "3.4: {frame:?}");
        }
    }
    eventually("all are counted", || rig.told().traffic.refusals.get("http2-preface") == Some(&8));
    assert_eq!(origin.count(), 0);
}

/// What ends the whole connection: the section, the frames, the code.
#[test]
fn a_broken_rule_of_the_connection_ends_it_with_its_code() {
    let window = |by: u32| by.to_be_bytes();
    let cases: Vec<(&str, Vec<Vec<u8>>, u32)> = vec![
        ("6.5: SETTINGS of a stream", vec![frame(SETTINGS, 0, 1, &[])], PROTOCOL_ERROR),
        ("6.5: SETTINGS of a wrong length", vec![frame(SETTINGS, 0, 0, &[0; 5])], FRAME_SIZE_ERROR),
        (
            "6.5: an acknowledgement that says something",
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
            FRAME_SIZE_ERROR,
        ),
        ("6.5.2: ENABLE_PUSH of 2", vec![frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])], PROTOCOL_ERROR),
        (
            "6.5.2: a window over 2^31-1",
            vec![frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])],
            FLOW_CONTROL_ERROR,
        ),
        ("6.5.2: frames of 1 byte", vec![frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])], PROTOCOL_ERROR),
        ("6.7: PING of a stream", vec![frame(PING, 0, 1, b"12345678")], PROTOCOL_ERROR),
        ("6.7: PING of a wrong length", vec![frame(PING, 0, 0, b"1234567")], FRAME_SIZE_ERROR),
        ("6.8: GOAWAY of a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], PROTOCOL_ERROR),
        ("6.1: DATA of no stream", vec![frame(DATA, 0, 0, b"x")], PROTOCOL_ERROR),
        ("6.2: HEADERS of no stream", vec![frame(HEADERS, END_HEADERS, 0, GET)], PROTOCOL_ERROR),
        ("6.4: RST_STREAM of no stream", vec![frame(RST_STREAM, 0, 0, &[0; 4])], PROTOCOL_ERROR),
        ("5.1: RST_STREAM of an idle stream", vec![frame(RST_STREAM, 0, 1, &[0; 4])], PROTOCOL_ERROR),
        ("5.1: DATA of an idle stream", vec![frame(DATA, 0, 1, b"x")], PROTOCOL_ERROR),
        (
            "5.1: WINDOW_UPDATE of an idle stream",
            vec![frame(WINDOW_UPDATE, 0, 1, &window(1))],
            PROTOCOL_ERROR,
        ),
        (
            "5.1.1: a stream of an even number",
            vec![frame(HEADERS, END_HEADERS | END_STREAM, 2, GET)],
            PROTOCOL_ERROR,
        ),
        ("6.6: PUSH_PROMISE of a client", vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 8])], PROTOCOL_ERROR),
        ("6.9: WINDOW_UPDATE of a wrong length", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])], FRAME_SIZE_ERROR),
        ("6.9: a window that grows by nothing", vec![frame(WINDOW_UPDATE, 0, 0, &window(0))], PROTOCOL_ERROR),
        (
            "6.9.1: a window that overflows",
            vec![frame(WINDOW_UPDATE, 0, 0, &window(0x7fff_ffff)), frame(WINDOW_UPDATE, 0, 0, &window(1))],
            FLOW_CONTROL_ERROR,
        ),
        ("6.10: CONTINUATION of nothing", vec![frame(CONTINUATION, END_HEADERS, 1, GET)], PROTOCOL_ERROR),
        (
            "6.2: another frame inside a header block",
            vec![frame(HEADERS, END_STREAM, 1, GET), frame(PING, 0, 0, b"12345678")],
            PROTOCOL_ERROR,
        ),
        (
            "6.10: CONTINUATION of another stream",
            vec![frame(HEADERS, END_STREAM, 1, GET), frame(CONTINUATION, END_HEADERS, 3, &[])],
            PROTOCOL_ERROR,
        ),
        (
            "4.3: an index that the table has not",
            vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x7f])],
            COMPRESSION_ERROR,
        ),
        (
            "4.3: a table that is larger than allowed",
            vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x3f, 0xe2, 0xff, 0x7f])],
            COMPRESSION_ERROR,
        ),
        ("4.2: a frame of 16,385 bytes", vec![frame(DATA, 0, 1, &[0; 16_385])], FRAME_SIZE_ERROR),
        (
            "6.1: padding as long as its frame",
            vec![frame(HEADERS, END_HEADERS, 1, POST), frame(DATA, 8, 1, &[5, 0, 0, 0, 0])],
            PROTOCOL_ERROR,
        ),
    ];
    let (_origin, rig) = rig();
    for (what, frames, code) in cases {
        let mut client = Client::greeted(&rig);
        client.send(&frames.concat());
        client.must_have_ended(code, what);
    }
}

/// What ends one stream, or the connection with it.
#[test]
fn a_malformed_request_is_reset_and_no_server_sees_it() {
    let with = |extra: Vec<u8>| [GET, &extra].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("8.2.1: a name in capitals", with(header("X-Upper", "1"))),
        ("8.2.2: connection", with(header("connection", "keep-alive"))),
        ("8.2.2: transfer-encoding", with(header("transfer-encoding", "chunked"))),
        ("8.2.2: proxy-connection", with(header("proxy-connection", "keep-alive"))),
        ("8.2.2: te that is not trailers", with(header("te", "gzip"))),
        ("8.3: a pseudo-header behind a header", [&GET[..3], &header("x-a", "1")[..], b"\x41\x01a"].concat()),
        ("8.3: a pseudo-header that is unknown", with(header(":wrong", "1"))),
        ("8.3: a pseudo-header of answers", with(header(":status", "200"))),
        ("8.3.1: two methods", [b"\x82", GET].concat()),
        ("8.3.1: two paths", [b"\x84", GET].concat()),
        ("8.3.1: no method", b"\x86\x84\x41\x01a".to_vec()),
        ("8.3.1: no scheme", b"\x82\x84\x41\x01a".to_vec()),
        ("8.3.1: no path", b"\x82\x86\x41\x01a".to_vec()),
        ("8.3.1: an empty path", [b"\x82\x86\x41\x01a", &header(":path", "")[..]].concat()),
    ];
    let (origin, rig) = rig();
    let mut served = 0;
    for (what, block) in cases {
        let mut client = Client::greeted(&rig);
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        let goes_on = client.is_reset(1, PROTOCOL_ERROR, what);
        assert_eq!(origin.count(), served, "{what}: no server saw it");
        if goes_on {
            client.is_served(3, what);
            served += 1;
        }
    }
    assert!(served > 0, "some are of their stream alone");
}

#[test]
fn a_body_that_differs_from_its_length_is_reset_and_no_server_takes_it_for_whole() {
    let (origin, rig) = rig();
    for (what, length, body) in [("8.1.1: too short", "4", &b"abc"[..]), ("8.1.1: too long", "2", b"abc")] {
        let mut client = Client::greeted(&rig);
        let block = [POST, &header("content-length", length)].concat();
        client.send(&frame(HEADERS, END_HEADERS, 1, &block));
        client.send(&frame(DATA, END_STREAM, 1, body));
        if client.is_reset(1, PROTOCOL_ERROR, what) {
            client.is_served(3, what);
        }
    }
    assert!(origin.seen().iter().all(|seen| seen.line.starts_with("GET ")), "{:?}", origin.seen());
}

#[test]
fn what_comes_for_a_stream_that_is_closed_is_an_error_of_it() {
    let (_origin, rig) = rig();
    let mut client = Client::greeted(&rig);
    client.send(&frame(HEADERS, END_HEADERS, 1, POST));
    client.send(&frame(DATA, END_STREAM, 1, b"x"));
    client.send(&frame(DATA, 0, 1, b"more"));
    let found = client.next_of(&[RST_STREAM, GOAWAY]).expect("5.1: half-closed");
    assert!([STREAM_CLOSED, PROTOCOL_ERROR].contains(&found.code()), "5.1: DATA behind the end: {found:?}");
    let mut client = Client::greeted(&rig);
    client.is_served(3, "a first one");
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
    client.must_have_ended(PROTOCOL_ERROR, "5.1.1: a stream of a smaller number");
}

#[test]
fn an_answer_is_sent_no_faster_than_the_client_s_windows_open() {
    let origin = Origin::of("0123456789");
    let rig = Rig::new(table(&[origin.address]));
    let mut client = Client::silent(&rig);
    // Windows of 3 bytes for each stream.
    client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 3])].concat());
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
    let mut body = Vec::new();
    for (by, more) in [(0u32, "012"), (4, "3456"), (100, "789")] {
        if by > 0 {
            client.send(&frame(WINDOW_UPDATE, 0, 1, &by.to_be_bytes()));
        }
        let before = body.len();
        while body.len() < before + more.len() {
            let data = client.next_of(&[DATA, RST_STREAM, GOAWAY]).expect("data");
            assert_eq!(data.kind, DATA, "6.9: {data:?}");
            body.extend_from_slice(&data.payload);
        }
        assert_eq!(&body[before..], more.as_bytes(), "6.9.2: no more than that");
        // Whatever else had been sent would come before the answer to this.
        client.send(&frame(PING, 0, 0, b"12345678"));
        let next = client.next_of(&[DATA, PING]).expect("6.7");
        assert!(next.kind == PING || next.payload.is_empty(), "{next:?}");
    }
}

#[test]
fn a_window_that_shrinks_below_nothing_is_made_good_before_anything_more_is_sent() {
    let origin = Origin::of("0123456789");
    let rig = Rig::new(table(&[origin.address]));
    let mut client = Client::silent(&rig);
    let window = |size: u8| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, size]);
    client.send(&[PREFACE, &window(6)].concat());
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
    assert_eq!(client.next_of(&[DATA]).expect("data").payload, b"012345");
    // Its window is -4 now, then 0, then 3.
    client.send(&window(2));
    client.send(&frame(WINDOW_UPDATE, 0, 1, &4u32.to_be_bytes()));
    client.send(&frame(PING, 0, 0, b"12345678"));
    let next = client.next_of(&[DATA, PING]).expect("6.7");
    assert!(next.kind == PING || next.payload.is_empty(), "6.9.2: {next:?}");
    client.send(&frame(WINDOW_UPDATE, 0, 1, &3u32.to_be_bytes()));
    let next = std::iter::from_fn(|| client.next_of(&[DATA])).find(|data| !data.payload.is_empty());
    assert_eq!(next.expect("data").payload, b"678", "6.9.2");
}

#[test]
fn a_stream_above_what_may_be_open_at_once_is_refused_and_the_others_are_served() {
    const STREAMS_MAX: u32 = 128;
    let gate = Gate::default();
    let inner = gate.clone();
    let origin = Origin::start(move |_, wire| {
        inner.wait();
        wire.send(ok("hello"));
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut client = Client::greeted(&rig);
    client.send(&frame(SETTINGS, ACK, 0, &[]));
    for stream in 0..=STREAMS_MAX {
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, GET));
    }
    let refused = client.next_of(&[HEADERS, RST_STREAM, GOAWAY]).expect("5.1.2: closed");
    assert_eq!((refused.kind, refused.stream), (RST_STREAM, 2 * STREAMS_MAX + 1), "5.1.2: {refused:?}");
    assert_eq!(refused.code(), REFUSED_STREAM, "5.1.2: it may be sent again");
    gate.open();
    for _ in 0..STREAMS_MAX {
        let answer = client.next_of(&[HEADERS, RST_STREAM, GOAWAY]).expect("an answer");
        assert_eq!(answer.kind, HEADERS, "{answer:?}");
    }
}

#[test]
fn trailers_that_do_not_end_their_request_are_reset_and_no_server_takes_it_for_whole() {
    let (origin, rig) = rig();
    let mut client = Client::greeted(&rig);
    client.send(&frame(HEADERS, END_HEADERS, 1, POST));
    client.send(&frame(DATA, 0, 1, b"abc"));
    client.send(&frame(HEADERS, END_HEADERS, 1, &header("x-sum", "1")));
    if client.is_reset(1, PROTOCOL_ERROR, "8.1") {
        client.is_served(3, "8.1");
    }
    assert!(origin.seen().iter().all(|seen| seen.line.starts_with("GET ")), "{:?}", origin.seen());
}

#[test]
fn a_window_of_a_stream_that_overflows_ends_the_stream_alone() {
    let gate = Gate::default();
    let origin = Origin::start({
        let gate = gate.clone();
        move |_, wire| {
            gate.wait();
            wire.send(ok("hello"));
            Then::Continue
        }
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut client = Client::greeted(&rig);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
    client.send(&frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffffu32.to_be_bytes()));
    let goes_on = client.is_reset(1, FLOW_CONTROL_ERROR, "6.9.1");
    gate.open();
    if goes_on {
        client.is_served(3, "6.9.1");
    }
}

#[test]
fn after_goaway_what_is_under_way_is_answered_and_who_is_idle_is_let_go() {
    let gate = Gate::default();
    let origin = Origin::start({
        let gate = gate.clone();
        move |_, wire| {
            gate.wait();
            wire.send(ok("hello"));
            Then::Continue
        }
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut client = Client::greeted(&rig);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
    eventually("it is under way", || origin.count() == 1);
    // The client ends; what it has asked for is still answered (6.8).
    client.send(&frame(GOAWAY, 0, 0, &[0; 8]));
    gate.open();
    assert_eq!(client.next_of(&[HEADERS, RST_STREAM]).map(|f| f.kind), Some(HEADERS));
    // The proxy ends: it says which was the last one.
    let mut other = Client::greeted(&rig);
    other.is_served(1, "before the end");
    let ended = std::thread::spawn(move || rig.finish(PATIENCE));
    let goaway = other.next_of(&[GOAWAY]).expect("6.8");
    assert_eq!(goaway.code(), NO_ERROR);
    assert_eq!(std::iter::from_fn(|| other.next()).filter(|f| f.kind == RST_STREAM).count(), 0);
    assert_eq!(ended.join().unwrap().0, 0, "nobody was cut");
}
