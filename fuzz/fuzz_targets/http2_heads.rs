//! Heads between HTTP/1 and HTTP/2: nothing panics, and a request that goes over reads back as the same one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_proxy::codec::http2::meter::Meter;
use mainstay_proxy::codec::http2::{request, response};
use mainstay_proxy::codec::{BodyLength, HeaderSlots, parse_request};

fuzz_target!(|bytes: &[u8]| {
    let Some((&flags, bytes)) = bytes.split_first() else { return };
    let _ = response::read_http1(bytes, flags & 1 == 1);
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
