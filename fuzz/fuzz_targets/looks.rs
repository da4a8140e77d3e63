//! Packed results of probes: nothing panics on what a damaged record holds, and what can be read is packed so that it reads back
//! the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_model::Wall;
use mainstay_model::results::{HourOfLooks, decode_journal};

const START: Wall = Wall(1_795_334_400_000);

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_journal(bytes, START, |number| number % 2 == 0);
    let Ok(hour) = HourOfLooks::decode(bytes, START) else { return };
    let again = HourOfLooks::decode(&hour.encode(START), START).expect("it was just packed");
    assert_eq!(again.minutes, hour.minutes);
    let kept = |hour: &HourOfLooks| hour.looks.iter().map(|look| (look.at, look.verdict)).collect::<Vec<_>>();
    assert_eq!(kept(&again), kept(&hour));
});
