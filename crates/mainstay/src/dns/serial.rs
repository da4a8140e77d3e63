//! Serial numbers: a zone with live names shows another one whenever they change, and never a lower one after a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::rr::LowerName;

use super::authority::Live;
use super::zone::Zone;

/// Seconds from 1970 to 2025: changes are counted from there, so that a written serial in the form of a date has room above it.
const SINCE_2025: u64 = 1_735_689_600;

/// What a zone last said, and under which serial number.
#[derive(Debug)]
pub struct Known {
    zone: Arc<Zone>,
    live: HashMap<LowerName, Live>,
    serial: u32,
}

impl Known {
    /// A zone that has said nothing yet.
    pub fn new(zone: &Arc<Zone>, live: &HashMap<LowerName, Live>) -> Self {
        Self { zone: zone.clone(), live: live.clone(), serial: fresh(zone, live) }
    }

    /// The serial number that it shows.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// The serial number of what it says now.
    pub fn of(&mut self, zone: &Arc<Zone>, live: &HashMap<LowerName, Live>) -> u32 {
        if *self.zone == **zone && self.live == *live {
            return self.serial;
        }
        let fresh = fresh(zone, live);
        let is_moving = is_moving(zone, live);
        // Two changes within one second still have two numbers; what is written alone is shown as it is written.
        self.serial = match is_moving && !is_later(fresh, self.serial) {
            true => self.serial.wrapping_add(1),
            false => fresh,
        };
        (self.zone, self.live) = (zone.clone(), live.clone());
        self.serial
    }
}

/// Nobody wrote a number, or what is written is not all that is answered.
fn is_moving(zone: &Zone, live: &HashMap<LowerName, Live>) -> bool {
    zone.soa().0.serial == 0 || !live.is_empty()
}

fn fresh(zone: &Zone, live: &HashMap<LowerName, Live>) -> u32 {
    let written = zone.soa().0.serial;
    if !is_moving(zone, live) {
        return written;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = now.saturating_sub(SINCE_2025) & u64::from(u32::MAX);
    written.wrapping_add(u32::try_from(seconds).unwrap_or(0))
}

/// Whether a serial number comes after another one (RFC 1982).
fn is_later(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::tests::zone;

    #[test]
    fn a_serial_moves_with_every_change_of_what_is_live_and_only_then() {
        let zone =
            Arc::new(zone("@ SOA ns1 host 2026112201 1 1 1 60\n@ NS ns1\nns1 A 192.0.2.53\n", &["shop"]));
        let name: LowerName = "shop.example.com.".parse().unwrap();
        let says = |n: u8| {
            HashMap::from([(name.clone(), Live { v4: vec![[192, 0, 2, n].into()], ..Live::default() })])
        };
        let mut known = Known::new(&zone, &says(1));
        let first = known.serial();
        assert!(is_later(first, 2_026_112_201));
        assert_eq!(known.of(&zone, &says(1)), first);
        let second = known.of(&zone, &says(2));
        let third = known.of(&zone, &says(1));
        assert!(is_later(second, first) && is_later(third, second));
    }

    #[test]
    fn the_serial_of_a_zone_without_live_names_is_the_written_one() {
        let zone = Arc::new(zone("@ SOA ns1 host 7 1 1 1 60\n@ NS ns1\nns1 A 192.0.2.53\n", &[]));
        assert_eq!(Known::new(&zone, &HashMap::new()).serial(), 7);
    }
}
