//! Heads and bodies between HTTP/1 and HTTP/2: nothing panics, a request that goes over reads back as the same one, and so does a body
//! with its trailers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_proxy::codec::http2::meter::Meter;
use mainstay_proxy::codec::http2::{request, response};
use mainstay_proxy::codec::{BodyLength, ChunkedDecoder, HeaderSlots, chunked, parse_request};

fuzz_target!(|bytes: &[u8]| {
    let Some((&flags, bytes)) = bytes.split_first() else { return };
    if let Ok(Some(answer)) = response::read_http1(bytes, flags & 1 == 1)
        && answer.body == BodyLength::Chunked
    {
        body(&bytes[answer.length..]);
    }
    body(bytes);
    let _ = response::trailers(bytes);
    let _ = Meter::new(flags & 2 == 2, std::time::Instant::now()).pass(bytes, std::time::Instant::now());
    let Ok(Some(read)) = request::read_http1(bytes, flags & 4 == 4) else { return };
    let ended = read.body == BodyLength::None;
    let (parts, ()) = read.head.into_parts();
    let mut out = Vec::new();
    request::write_http1(&parts, None, ended, [7; 16], &mut out);
    let mut slots = HeaderSlots::default();
    // It may have become longer than a head may be, or be refused by a rule of HTTP/1 that its first form had escaped.
    if let Ok(Some(again)) = parse_request(&out, &mut slots) {
        assert_eq!(again.method, parts.method.as_str());
        assert_eq!(again.length, out.len());
    }
});

/// A body in chunks, as it goes into frames and comes out of them again.
fn body(bytes: &[u8]) {
    let Some((data, lines)) = decoded(bytes) else { return };
    let trailers = response::trailers(&lines);
    let (mut again, mut lines) = (Vec::new(), Vec::new());
    for piece in data.chunks(1000) {
        chunked::encode_chunk(piece, &mut again);
    }
    response::write_trailers(&trailers, &mut lines);
    chunked::encode_end(&lines, &mut again);
    // Only trailers that are too long in all may be refused now.
    if let Some((read, lines)) = decoded(&again) {
        assert_eq!((read, response::trailers(&lines)), (data, trailers));
    }
}

/// The data and the lines of trailers of a body that is whole, skipping to data first as the bridge does.
fn decoded(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut decoder = ChunkedDecoder::keeping_trailers();
    let (mut data, mut at) = (Vec::new(), 0);
    while !decoder.is_done() {
        at += decoder.skip_to_data(&bytes[at..]).ok()?;
        if decoder.is_done() {
            break;
        }
        let piece = decoder.decode(&bytes[at..]).ok()?;
        if piece.consumed == 0 {
            return None;
        }
        data.extend_from_slice(piece.data);
        at += piece.consumed;
    }
    Some((data, decoder.trailers().to_vec()))
}
