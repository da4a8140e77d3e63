//! A request's head: nothing panics, and what is taken is written so that it reads back as the same request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_proxy::codec::rewrite::{Edits, Origin, write_request};
use mainstay_proxy::codec::{BodyLength, HeaderSlots, parse_request};

fuzz_target!(|bytes: &[u8]| {
    let mut slots = HeaderSlots::default();
    let Ok(Some(head)) = parse_request(bytes, &mut slots) else { return };
    let origin = Origin {
        unsaid: false,
        address: "192.0.2.1",
        node: "192.0.2.1",
        scheme: "https",
        own_host: "192.0.2.2",
        request_id: b"id",
    };
    let mut out = Vec::new();
    write_request(&head, &origin, &Edits::default(), &mut out);
    let mut again = HeaderSlots::default();
    match parse_request(&out, &mut again) {
        Ok(Some(read)) => {
            assert_eq!((read.length, read.method), (out.len(), head.method));
            let framed = |body| if body == BodyLength::Length(0) { BodyLength::None } else { body };
            assert_eq!(framed(read.body), framed(head.body));
        }
        // The headers that are added can make a head too large that was just small enough.
        Err(refusal) => assert!(matches!(refusal.status(), 431 | 414), "{refusal:?}"),
        Ok(None) => panic!("a whole head is written"),
    }
});
