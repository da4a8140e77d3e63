//! The PROXY header: nothing panics, and addresses that are read are written so that they read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_model::carriage::SendProxy;
use mainstay_proxy::codec::{PROXY_HEADER_MAX, parse_proxy_header, write_proxy_header};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(header)) = parse_proxy_header(bytes) else { return };
    assert!(header.length <= bytes.len() && header.length <= PROXY_HEADER_MAX);
    for version in [SendProxy::V1, SendProxy::V2] {
        let mut out = Vec::new();
        write_proxy_header(version, header.addresses, &mut out);
        let again = parse_proxy_header(&out).expect("a header").expect("it is whole");
        assert_eq!((again.length, again.addresses.is_some()), (out.len(), header.addresses.is_some()));
    }
});
