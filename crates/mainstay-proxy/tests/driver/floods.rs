//! HTTP/2 against who means harm: each flood is ended by its name, and the next visitor is served. That others are served meanwhile, in
//! the memory there was, is tested with the whole program.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::http2::{get, with_plain_client};
use crate::support::{Origin, PATIENCE, Rig, Then, carriage, eventually, ok, table};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const END_HEADERS: u8 = 4;
pub const END_STREAM: u8 = 1;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// `GET http://a/`, by the static table alone.
pub const GET: &[u8] = b"\x82\x86\x84\x41\x01a";

fn headers(stream: u32, flags: u8) -> Vec<u8> {
    frame(1, flags, stream, GET)
}

/// What ends a connection: the codes of its GOAWAY frames in their order.
fn goaways(bytes: &[u8]) -> Vec<u32> {
    let (mut rest, mut codes) = (bytes, Vec::new());
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let Some(payload) = rest.get(9..9 + length) else { break };
        if rest[3] == 7 {
            codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = &rest[9 + length..];
    }
    codes
}

/// Sends all that and reads to the end; what GOAWAYs said.
fn flood(rig: &Rig, pieces: impl Iterator<Item = Vec<u8>>) -> Vec<u32> {
    let mut stream = TcpStream::connect(rig.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        // A reset at the end takes nothing back of what was read.
        let _ = reader.read_to_end(&mut all);
        all
    });
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).unwrap();
    for piece in pieces {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    goaways(&reading.join().unwrap())
}

fn ends_as(refusal: &str, code: u32, pieces: impl Iterator<Item = Vec<u8>>) {
    let origin = Origin::of("hello");
    let mut rig = Rig::new(table(&[origin.address]));
    let address = rig.address();
    let codes = flood(&rig, pieces);
    assert!(codes.is_empty() || codes.contains(&code), "{refusal}: {codes:?}");
    eventually(refusal, || rig.told().traffic.refusals.contains_key(refusal));
    with_plain_client(address, async |client| {
        assert_eq!(get(&client, "/").await.unwrap().text(), "hello", "others are served");
    });
    let (cut, told) = rig.finish(PATIENCE);
    assert_eq!((cut, told.server("a").in_flight), (0, 0), "{refusal}");
}

const ENHANCE_YOUR_CALM: u32 = 11;
const PROTOCOL_ERROR: u32 = 1;

#[test]
fn streams_that_are_opened_and_reset_again_end_the_connection() {
    let pieces = (0..5000u32).map(|n| {
        let stream = 2 * n + 1;
        [headers(stream, END_HEADERS | END_STREAM), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    });
    // Sooner than the meter, the h2 crate allows 20 resets of streams that nobody has looked at.
    ends_as("http2-too-much", ENHANCE_YOUR_CALM, pieces);
}

#[test]
fn resets_of_requests_that_a_server_works_on_end_the_connection_too() {
    // Fewer than may be under way at once, each reset only when the server has it.
    const AT_ONCE: u32 = 100;
    let origin = Origin::start(|request, wire| {
        if request.path() == "/" {
            let _ = wire.rest();
            return Then::Close;
        }
        wire.send(ok("hello"));
        Then::Continue
    });
    let mut rig = Rig::new(table(&[origin.address]));
    let mut stream = TcpStream::connect(rig.address()).unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).unwrap();
    let mut batches = (0u32..).map(|batch| (0..AT_ONCE).map(move |n| 2 * (batch * AT_ONCE + n) + 1));
    eventually("http2-rapid-reset", || {
        let streams = batches.next().expect("it has no end");
        let seen = origin.count();
        let opened: Vec<u8> = streams.clone().flat_map(|s| headers(s, END_HEADERS | END_STREAM)).collect();
        let resets: Vec<u8> = streams.flat_map(|stream| frame(3, 0, stream, &[0, 0, 0, 8])).collect();
        let mut refused = || rig.told().traffic.refusals.contains_key("http2-rapid-reset");
        if stream.write_all(&opened).is_ok() {
            eventually("a server has them", || origin.count() == seen + AT_ONCE as usize || refused());
            let _ = stream.write_all(&resets);
        }
        refused()
    });
    with_plain_client(rig.address(), async |client| {
        assert_eq!(get(&client, "/next").await.unwrap().text(), "hello", "others are served");
    });
    let (cut, told) = rig.finish(PATIENCE);
    assert_eq!((cut, told.service().in_flight, told.server("a").failed()), (0, 0, 0));
}

#[test]
fn frames_of_no_use_end_the_connection() {
    let useless = |kind| (0..5000).map(move |_| frame(kind, 0, 1, &[0, 0, 0, 0, 1]));
    ends_as("http2-useless-frames", ENHANCE_YOUR_CALM, useless(2));
    ends_as("http2-useless-frames", ENHANCE_YOUR_CALM, useless(0x77));
}

#[test]
fn pings_and_settings_without_pause_end_the_connection() {
    ends_as("http2-ping-flood", ENHANCE_YOUR_CALM, (0..5000).map(|_| frame(6, 0, 0, &[0; 8])));
    ends_as("http2-settings-flood", ENHANCE_YOUR_CALM, (0..5000).map(|_| frame(4, 0, 0, &[])));
}

#[test]
fn a_header_block_without_end_ends_the_connection() {
    let block = std::iter::once(frame(1, END_STREAM, 1, GET));
    let pieces = block.chain((0..5000).map(|_| frame(9, 0, 1, b"\x00\x01x\x01y")));
    ends_as("http2-continuation-flood", ENHANCE_YOUR_CALM, pieces);
}

#[test]
fn a_header_block_without_end_is_counted_by_its_name_however_its_frames_arrive() {
    let origin = Origin::of("hello");
    let mut rig = Rig::new(table(&[origin.address]));
    let begin = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, END_STREAM, 1, GET)].concat();
    // Frames before a pause, in which what came so far is taken for itself.
    for first in [1, 4, 5, 6, 7] {
        let mut stream = TcpStream::connect(rig.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[&begin[..], &frame(9, 0, 1, b"").repeat(first)].concat()).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        // Fails where the first frames were too many.
        let _ = stream.write_all(&frame(9, 0, 1, b"").repeat(20));
        let _ = stream.read_to_end(&mut Vec::new());
    }
    eventually("5 floods", || rig.told().traffic.refusals.get("http2-continuation-flood") == Some(&5));
}

#[test]
fn empty_frames_without_end_end_the_connection() {
    let begin = std::iter::once(frame(1, END_HEADERS, 1, b"\x83\x86\x84\x41\x01a"));
    ends_as("http2-too-much", ENHANCE_YOUR_CALM, begin.chain((0..5000).map(|_| frame(0, 0, 1, &[]))));
}

#[test]
fn broken_rules_end_the_connection_by_their_name() {
    for (refusal, code, bytes) in [
        ("http2-protocol-error", PROTOCOL_ERROR, frame(0, 0, 0, b"data on stream 0")),
        ("http2-protocol-error", PROTOCOL_ERROR, headers(2, END_HEADERS | END_STREAM)),
        ("http2-protocol-error", PROTOCOL_ERROR, frame(8, 0, 0, &[0; 4])),
        // RFC 9113 (6.7, 4.3) has codes of their own for these two; the h2 crate does not tell them apart.
        ("http2-protocol-error", PROTOCOL_ERROR, frame(6, 0, 0, &[0; 7])),
        ("http2-protocol-error", PROTOCOL_ERROR, frame(1, END_HEADERS | END_STREAM, 1, &[0xff; 20])),
    ] {
        ends_as(refusal, code, std::iter::once(bytes));
    }
}

/// A head in which one line of 4 KB, which goes into the table, stands so many times more.
fn bomb(times: usize) -> Vec<u8> {
    let line = [&b"\x40\x01x\x7f\x81\x1e"[..], &[b'y'; 3968]].concat();
    frame(1, END_HEADERS | END_STREAM, 1, &[GET, &line, &vec![0xbe; times]].concat())
}

#[test]
fn headers_that_grow_a_thousandfold_when_they_are_unpacked_end_the_connection() {
    ends_as("http2-too-much", ENHANCE_YOUR_CALM, std::iter::once(bomb(1000)));
}

#[test]
fn headers_that_are_too_large_only_when_they_are_unpacked_are_refused_by_their_status() {
    // `:status: 431`, as it goes into a table, in Huffman's code.
    const TOO_LARGE: &[u8] = b"\x48\x83\x69\x90\xff";
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    let mut stream = TcpStream::connect(rig.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The connection goes on, and so the ping is answered.
    let all = [PREFACE, &frame(4, 0, 0, &[]), &bomb(9), &frame(6, 0, 0, &[7; 8])].concat();
    stream.write_all(&all).unwrap();
    let (mut read, mut some) = (Vec::new(), [0; 4096]);
    for expected in [&[7; 8], TOO_LARGE] {
        while !read.windows(expected.len()).any(|w| w == expected) {
            let n = stream.read(&mut some).expect("the connection goes on");
            assert_ne!(n, 0, "the connection goes on: {read:x?}");
            read.extend_from_slice(&some[..n]);
        }
    }
    assert_eq!(origin.count(), 0, "no server sees it");
    assert_eq!(rig.get("/").text(), "hello");
}

#[test]
fn who_opens_no_window_for_many_answers_is_let_go() {
    const STREAMS: u32 = 128;
    let origin = Origin::start(|request, wire| {
        let length = if request.path() == "/" { 1 << 20 } else { 5 };
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        // Broken off with the answer that nobody reads.
        let _ = wire.stream.write_all(&vec![b'x'; length]);
        Then::Continue
    });
    let mut table = table(&[origin.address]);
    carriage(&mut table).timeouts.idle = Duration::from_millis(300);
    // No window opens, or each by a byte now and then.
    for trickles in [false, true] {
        carriage(&mut table).timeouts.body_min_rate = if trickles { 1000 } else { 0 };
        let mut rig = Rig::new(table.clone());
        let before = origin.count();
        let mut stream = TcpStream::connect(rig.address()).unwrap();
        let mut reader = stream.try_clone().unwrap();
        // It takes all that it lets come.
        let reading = std::thread::spawn(move || while let Ok(1..) = reader.read(&mut [0; 4096]) {});
        let windows = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
        let ids = (0..STREAMS).map(|n| 2 * n + 1);
        let asked: Vec<u8> = ids.clone().flat_map(|s| headers(s, END_HEADERS | END_STREAM)).collect();
        stream.write_all(&[PREFACE, &windows, &asked].concat()).unwrap();
        eventually("the server answers all", || origin.count() == before + STREAMS as usize);
        // Their common window is wide enough.
        let common = frame(8, 0, 0, &STREAMS.to_be_bytes());
        let bytes: Vec<u8> =
            ids.flat_map(|stream| frame(8, 0, stream, &[0, 0, 0, 1])).chain(common).collect();
        eventually("all are let go", || {
            if trickles {
                let _ = stream.write_all(&bytes);
            }
            rig.told().service().abandoned == u64::from(STREAMS)
        });
        with_plain_client(rig.address(), async |client| {
            assert_eq!(get(&client, "/next").await.unwrap().text(), "xxxxx", "others are served");
        });
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        reading.join().unwrap();
        let (_, told) = rig.finish(PATIENCE);
        assert_eq!((told.service().failed, told.server("a").failed(), told.service().in_flight), (0, 0, 0));
    }
}
