//! An answer's head: nothing panics, and what is passed on reads back with the framing that was meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_proxy::codec::rewrite::{Edits, Persistence, write_response};
use mainstay_proxy::codec::{BodyLength, HeaderSlots, parse_response};

fuzz_target!(|bytes: &[u8]| {
    let Some((&flags, bytes)) = bytes.split_first() else { return };
    let to_head = flags & 1 == 1;
    let mut slots = HeaderSlots::default();
    let Ok(Some(head)) = parse_response(bytes, to_head, &mut slots) else { return };
    let framing = if head.body == BodyLength::UntilClose { BodyLength::Chunked } else { head.body };
    let mut out = Vec::new();
    write_response(&head, framing, Persistence::Close, &Edits::default(), &mut out);
    let mut again = HeaderSlots::default();
    if let Ok(Some(read)) = parse_response(&out, to_head, &mut again) {
        assert_eq!((read.length, read.status, read.body), (out.len(), head.status, framing));
    } else {
        // A framing line more can exceed a limit that was just met.
        assert!(head.length > 32_000 || out.windows(2).filter(|w| w == b"\r\n").count() > 100);
    }
});
