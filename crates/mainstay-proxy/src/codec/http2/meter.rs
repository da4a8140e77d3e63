//! Frames that cost their sender nothing and the reader something: counted as they pass, refused when there are too many.
//!
//! A flood needs no meter of bytes: an honest client sends pings, settings and resets too, but never thousands without pause.
//! The allowances are nghttp2's for resets (1,000 at once, 33 a second), and as much again for the rest.
//!
//! WINDOW_UPDATE is not counted: an honest client sends one for every piece that it reads, so there is no number that only an attack
//! reaches. Windows that stay shut, or open by a byte, cost the sender its answer instead (`idle` and `body-min-rate`).

use std::time::Instant;

/// How many of one kind may come at once.
const BURST: u32 = 1000;
/// And how many a second after that.
const RATE: u32 = 33;
/// A header block that goes on for more frames than these is longer than any head may be. The h2 crate ends a connection
/// one frame later; the meter must be first, or the flood would be counted under another name.
const CONTINUATIONS_MAX: u32 = 5;
/// The head of a frame.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
/// An answer to a PING or SETTINGS of our own.
const ACK: u8 = 1;
/// The last frame of a header block.
const END_HEADERS: u8 = 4;

/// What a connection is closed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flood {
    /// Streams that are opened and reset again (CVE-2023-44487).
    Resets,
    /// PING after PING.
    Pings,
    /// SETTINGS after SETTINGS.
    Settings,
    /// One header block in ever more frames (CVE-2024-27316).
    Continuations,
    /// Frames of no use: empty DATA, PRIORITY, kinds that nobody knows.
    Useless,
    /// No flood, but nobody who speaks HTTP/2: the first frame is not SETTINGS (RFC 9113, 3.4), which the h2 crate lets pass.
    NoSettings,
}

impl Flood {
    /// The word used in logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Flood::Resets => "http2-rapid-reset",
            Flood::Pings => "http2-ping-flood",
            Flood::Settings => "http2-settings-flood",
            Flood::Continuations => "http2-continuation-flood",
            Flood::Useless => "http2-useless-frames",
            Flood::NoSettings => "http2-preface",
        }
    }
}

/// How many there may still be, now and as time passes.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    /// Takes one; false when there is none left.
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.since).as_millis() * u128::from(RATE) / 1000;
        if earned > 0 {
            self.left = u32::try_from(earned).unwrap_or(BURST).saturating_add(self.left).min(BURST);
            self.since = now;
        }
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }
}

/// Looks at the frames of one connection as their bytes pass by.
#[derive(Debug)]
pub struct Meter {
    /// Bytes of the preface still to come.
    preface: usize,
    /// SETTINGS have come, as they must before anything else.
    greeted: bool,
    head: [u8; HEAD],
    /// Bytes of the present head that are here.
    known: usize,
    /// Bytes of the present frame's payload still to come.
    payload: usize,
    continuations: u32,
    allowances: [Allowance; 4],
}

impl Meter {
    /// A meter at the start of a connection, of a client (which begins with a preface) or a server.
    pub fn new(of_client: bool, now: Instant) -> Self {
        let preface = if of_client { super::PREFACE.len() } else { 0 };
        let allowances = [Allowance { left: BURST, since: now }; 4];
        Self { preface, greeted: false, head: [0; HEAD], known: 0, payload: 0, continuations: 0, allowances }
    }

    /// Counts the frames that begin in these bytes, which follow those of the last call.
    ///
    /// # Errors
    /// The flood that they are part of, or that nothing may begin so. The connection is of no use then.
    pub fn pass(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let payload = self.payload.min(bytes.len());
            self.payload -= payload;
            bytes = &bytes[payload..];
            let head = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + head].copy_from_slice(&bytes[..head]);
            self.known += head;
            bytes = &bytes[head..];
            if self.known == HEAD {
                self.known = 0;
                self.begin(now)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, now: Instant) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if !std::mem::replace(&mut self.greeted, true) {
            let greets = kind == SETTINGS && flags & ACK == 0;
            return if greets { Ok(()) } else { Err(Flood::NoSettings) };
        }
        let [resets, pings, settings, useless] = &mut self.allowances;
        let goes_on = kind == CONTINUATION && flags & END_HEADERS == 0;
        self.continuations = if goes_on { self.continuations + 1 } else { 0 };
        let (allowance, flood) = match kind {
            CONTINUATION if self.continuations > CONTINUATIONS_MAX => return Err(Flood::Continuations),
            RST_STREAM => (resets, Flood::Resets),
            PING if flags & ACK == 0 => (pings, Flood::Pings),
            SETTINGS if flags & ACK == 0 => (settings, Flood::Settings),
            DATA if self.payload == 0 && flags & 1 == 0 => (useless, Flood::Useless),
            PRIORITY | CONTINUATION => (useless, Flood::Useless),
            DATA | HEADERS | SETTINGS | PING | 5 | 7 | 8 => return Ok(()),
            _ => (useless, Flood::Useless),
        };
        if allowance.take(now) { Ok(()) } else { Err(flood) }
    }

    /// Nothing of a frame is missing; for tests of the meter itself.
    #[cfg(test)]
    fn is_between_frames(&self) -> bool {
        self.preface == 0 && self.known == 0 && self.payload == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + payload, 0);
        frame
    }

    /// A meter of a server that has begun well.
    fn greeted(now: Instant) -> Meter {
        let mut meter = Meter::new(false, now);
        meter.pass(&frame(SETTINGS, 0, 6), now).unwrap();
        meter
    }

    #[test]
    fn nothing_comes_before_settings() {
        let t = Instant::now();
        for first in [frame(PING, 0, 8), frame(HEADERS, 5, 30), frame(SETTINGS, ACK, 0), frame(0x77, 0, 0)] {
            assert_eq!(Meter::new(false, t).pass(&first, t), Err(Flood::NoSettings));
            let of_client = [super::super::PREFACE, &first].concat();
            assert_eq!(Meter::new(true, t).pass(&of_client, t), Err(Flood::NoSettings));
            assert_eq!(greeted(t).pass(&first, t), Ok(()));
        }
    }

    #[test]
    fn each_flood_has_its_name_and_its_allowance_comes_back() {
        for (flood, frame) in [
            (Flood::Resets, frame(RST_STREAM, 0, 4)),
            (Flood::Pings, frame(PING, 0, 8)),
            (Flood::Settings, frame(SETTINGS, 0, 0)),
            (Flood::Useless, frame(DATA, 0, 0)),
            (Flood::Useless, frame(PRIORITY, 0, 5)),
            (Flood::Useless, frame(0x77, 0, 5)),
        ] {
            let t = Instant::now();
            let mut meter = greeted(t);
            for _ in 0..BURST {
                assert_eq!(meter.pass(&frame, t), Ok(()));
            }
            assert_eq!(meter.pass(&frame, t), Err(flood));
            assert_eq!(meter.pass(&frame, t + Duration::from_secs(1)), Ok(()));
            let whole_again = Duration::from_secs(u64::from(BURST / RATE) * 2);
            assert_eq!(meter.pass(&frame.repeat(BURST as usize), t + whole_again), Ok(()));
        }
    }

    #[test]
    fn a_header_block_may_go_on_for_a_few_frames() {
        let t = Instant::now();
        let mut meter = greeted(t);
        for _ in 0..20 {
            let more = frame(CONTINUATION, 0, 10).repeat(5);
            let block = [frame(HEADERS, 0, 10), more, frame(CONTINUATION, END_HEADERS, 10)].concat();
            assert_eq!(meter.pass(&block, t), Ok(()));
        }
        assert_eq!(meter.pass(&frame(CONTINUATION, 0, 10).repeat(5), t), Ok(()));
        assert_eq!(meter.pass(&frame(CONTINUATION, 0, 10), t), Err(Flood::Continuations));
    }

    #[test]
    fn what_an_honest_client_sends_is_never_too_much() {
        let t = Instant::now();
        let mut meter = Meter::new(true, t);
        assert_eq!(meter.pass(super::super::PREFACE, t), Ok(()));
        assert_eq!(meter.pass(&frame(SETTINGS, 0, 12), t), Ok(()));
        for _ in 0..100_000 {
            let all =
                [frame(HEADERS, 5, 30), frame(DATA, 0, 100), frame(DATA, 1, 0), frame(8, 0, 4)].concat();
            assert_eq!(meter.pass(&all, t), Ok(()));
            assert_eq!(meter.pass(&frame(SETTINGS, ACK, 0), t), Ok(()));
        }
        assert!(meter.is_between_frames());
    }

    proptest! {
        #[test]
        fn the_split_does_not_matter(frames in prop::collection::vec((0u8..12, 0u8..6, 0usize..40), 0..40), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let t = Instant::now();
            let bytes = frames.iter().flat_map(|&(kind, flags, payload)| frame(kind, flags, payload)).collect::<Vec<_>>();
            let (mut whole, mut split) = (greeted(t), greeted(t));
            let expected = whole.pass(&bytes, t);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let seen = at.windows(2).try_for_each(|w| split.pass(&bytes[w[0]..w[1]], t));
            prop_assert_eq!(seen, expected);
            prop_assert!(expected.is_err() || split.is_between_frames());
        }
    }
}
