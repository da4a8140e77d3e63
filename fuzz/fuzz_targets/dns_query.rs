//! DNS queries: nothing panics, an answer belongs to its question, and a datagram is never longer than was asked for. The files
//! are those of the program, which is no library; they know nothing of the rest of it.
#![no_main]

#[path = "../../crates/mainstay/src/dns/authority.rs"]
mod authority;
#[path = "../../crates/mainstay/src/dns/zone.rs"]
mod zone;
#[path = "../../crates/mainstay/src/dns/zone_file.rs"]
mod zone_file;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use authority::{Authority, Live, Served, Way};
use hickory_proto::rr::{LowerName, Name};
use libfuzzer_sys::fuzz_target;

const ZONE: &str = "@ NS ns1\nns1 A 192.0.2.53\nwww CNAME shop\n*.w TXT \"x\"\na.b A 192.0.2.1\nsub NS ns.sub\nns.sub A 192.0.2.2\n";

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let origin = Name::from_ascii("example.com.").expect("a name");
    let shop: LowerName = "shop.example.com.".parse().expect("a name");
    let (mut records, slips) = zone_file::read(ZONE, &origin);
    assert!(slips.is_empty(), "{slips:?}");
    let (items, slips) = zone_file::read_items(["b.w A 192.0.2.9"], &origin);
    assert!(slips.is_empty(), "{slips:?}");
    records.extend(items);
    let written = records.len();
    let zone = zone::Zone::new(&origin, records, std::slice::from_ref(&shop)).expect("a zone");
    assert_eq!(zone.records(), written);
    let live = Live { v4: (0..100).map(|n| [192, 0, 2, n].into()).collect(), v6: Vec::new(), ttl: 60 };
    Authority::new(vec![Served { zone: Arc::new(zone), live: HashMap::from([(shop, live)]), serial: 1 }])
});

fuzz_target!(|bytes: &[u8]| {
    for (way, longest) in [(Way::Udp, 1232), (Way::Tcp, 65_535)] {
        if let Some(answer) = AUTHORITY.answer(bytes, way, 1) {
            assert!(answer.bytes.len() <= longest);
            assert_eq!(answer.bytes[..2], bytes[..2]);
            assert!(answer.bytes[2] & 0x80 != 0);
            assert_eq!(answer.bytes[3] & 0x0f, answer.code.low());
        }
    }
});
