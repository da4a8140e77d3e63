//! Packed seconds of the machine: nothing panics on what a damaged record holds, and what can be read is packed so that it
//! reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_model::host::seconds::Seconds;

fuzz_target!(|bytes: &[u8]| {
    let Ok(seconds) = Seconds::decode(bytes) else { return };
    let once = Seconds::decode(&seconds.encode()).expect("it was just packed");
    assert_eq!(once.0.len(), seconds.0.len());
    assert_eq!(Seconds::decode(&once.encode()).as_ref(), Ok(&once));
});
