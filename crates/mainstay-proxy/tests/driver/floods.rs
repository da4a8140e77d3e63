//! HTTP/2 against who means harm: each flood is ended by its name, memory stays where it was, and others are served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::http2::{get, with_plain_client};
use crate::support::{Origin, PATIENCE, Rig, eventually, table};

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

#[test]
fn headers_that_grow_when_they_are_unpacked_are_refused() {
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    // One long line goes into the table, and then stands in the head a thousand times.
    let long = [&b"\x40\x01x\x7f\x81\x1e"[..], &[b'y'; 4000]].concat();
    let bomb = [GET, &long, &[0xbe; 1000]].concat();
    let mut stream = TcpStream::connect(rig.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = frame(1, END_HEADERS | END_STREAM, 1, &bomb);
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &request].concat()).unwrap();
    stream.write_all(&frame(6, 0, 0, &[7; 8])).unwrap();
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    // The answer to the ping, or the end, comes behind whatever the bomb did.
    while !all.windows(8).any(|w| w == [7; 8]) {
        match stream.read(&mut some) {
            Ok(n) if n > 0 => all.extend_from_slice(&some[..n]),
            _ => break,
        }
    }
    assert_eq!(origin.count(), 0, "no server sees it");
    assert_eq!(rig.get("/").text(), "hello");
}
