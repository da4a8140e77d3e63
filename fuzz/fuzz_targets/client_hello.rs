//! The first message of TLS: nothing panics, and a name that is found is one that a rule can name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_proxy::codec::server_name;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(Some(name))) = server_name(bytes) {
        assert!(!name.is_empty() && name.len() <= 253 && !name.bytes().any(|b| b.is_ascii_uppercase()));
    }
});
