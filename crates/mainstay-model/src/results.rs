//! All that was seen of a probe within an hour, packed: each result by itself, in little more than a byte.
//!
//! A probe comes at regular times, takes about as long as the last time, and says the same as the last time. So what is written is how
//! far each is from that: times in steps of 10 ms against the usual period, and how long it took in steps of about 3 %, both as
//! Rice codes, whose parameter is the best for the hour; and a bit that says that the words are the same.

use std::sync::Arc;
use std::time::Duration;

use crate::time::Wall;

/// The resolution of times.
const TICK_MS: i64 = 10;
/// An hour in ticks.
const HOUR_TICKS: u64 = 360_000;
/// The first byte.
const VERSION: u8 = 1;
/// Different words within an hour; what is said beyond them is left out.
const WORDS_MAX: usize = 200;
/// Of one of them, so many bytes.
const WORD_MAX: usize = 120;
/// A number that would take more bits than this in unary is written plainly.
const UNARY_MAX: u32 = 20;

/// One result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// When it came in.
    pub at: Wall,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub verdict: LookVerdict,
    /// What was seen, for a person: `200`, `connection refused`; may be empty.
    pub words: Arc<str>,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LookVerdict {
    /// It was good.
    Good,
    /// It was not.
    Failed,
    /// Mainstay itself could not look: nothing is known.
    Unknown,
}

/// A minute as far as it was known how it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinuteKnown {
    /// Of the hour, 0 to 59.
    pub minute: u8,
    /// Milliseconds in which it was known.
    pub observed_ms: u32,
    /// Of them, in which it was down.
    pub down_ms: u32,
    /// Milliseconds in a maintenance window.
    pub excused_ms: u32,
}

impl MinuteKnown {
    fn spans(&self) -> [u32; 3] {
        [self.observed_ms, self.down_ms, self.excused_ms]
    }
}

/// An hour of one probe. A minute that is absent is one of which nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HourOfLooks {
    /// In their order.
    pub minutes: Vec<MinuteKnown>,
    /// In the order of their times.
    pub looks: Vec<Look>,
}

/// What was stored is no such hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packed results of a probe are damaged")]
pub struct DamagedLooks;

/// A time as it can be told again.
pub fn rounded(took: Duration) -> Duration {
    Duration::from_micros(from_scale(to_scale(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))))
}

impl HourOfLooks {
    /// Packs it. What lies outside of the hour that begins at `start` is put to its end or beginning.
    pub fn encode(&self, start: Wall) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_minutes(&self.minutes, &mut out);
        let mut looks: Vec<(u64, &Look)> =
            self.looks.iter().map(|look| (ticks(look.at, start), look)).collect();
        looks.sort_by_key(|(at, _)| *at);
        let words = Words::of(&looks);
        words.put(&mut out);
        put(looks.len() as u64, &mut out);
        let mut gaps: Vec<u64> = Vec::with_capacity(looks.len());
        let mut before = 0;
        for (at, _) in &looks {
            gaps.push(at - before);
            before = *at;
        }
        let period = usual(&gaps);
        put(period, &mut out);
        let times: Vec<u64> = gaps.iter().map(|gap| zigzag(difference(*gap, period))).collect();
        let mut last = 0;
        let took = looks.iter().map(|(_, look)| {
            let step = to_scale(u64::try_from(look.took.as_micros()).unwrap_or(u64::MAX));
            zigzag(difference(step, std::mem::replace(&mut last, step)))
        });
        let took: Vec<u64> = took.collect();
        let (of_times, of_took) = (best_rice(&times), best_rice(&took));
        out.extend([of_times as u8, of_took as u8]);
        let mut bits = Bits::default();
        let mut said = 0;
        for ((at, took), (_, look)) in times.iter().zip(&took).zip(&looks) {
            bits.rice(*at, of_times);
            bits.rice(*took, of_took);
            let word = words.place(look);
            bits.bit(word != said);
            if word != said {
                bits.put(word, 8);
                said = word;
            }
        }
        out.extend(bits.finish());
        out
    }

    /// Unpacks what was packed with the same `start`.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn decode(bytes: &[u8], start: Wall) -> Result<Self, DamagedLooks> {
        let mut rest = bytes;
        if take_byte(&mut rest)? != VERSION {
            return Err(DamagedLooks);
        }
        let minutes = take_minutes(&mut rest)?;
        let words = Words::take(&mut rest)?;
        let count = take(&mut rest)?;
        let period = take(&mut rest)?;
        let (of_times, of_took) = (u32::from(take_byte(&mut rest)?), u32::from(take_byte(&mut rest)?));
        if of_times > RICE_MAX || of_took > RICE_MAX {
            return Err(DamagedLooks);
        }
        let mut bits = BitsOf { bytes: rest, at: 0 };
        let mut looks = Vec::new();
        let (mut at, mut step, mut said) = (0u64, 0u64, 0u64);
        for _ in 0..count {
            let gap = added(period, unzigzag(bits.rice(of_times)?))?;
            at = at.checked_add(gap).filter(|at| *at <= HOUR_TICKS).ok_or(DamagedLooks)?;
            step = added(step, unzigzag(bits.rice(of_took)?))?;
            if bits.bit()? {
                said = bits.take(8)?;
            }
            let (verdict, words) = words.of_place(said)?;
            looks.push(Look {
                at: Wall(start.0.saturating_add(at as i64 * TICK_MS)),
                took: Duration::from_micros(from_scale(step)),
                verdict,
                words,
            });
        }
        Ok(Self { minutes, looks })
    }
}

/// Results of many probes as they come in, by numbers of the caller's own: what is kept of an hour until it is over.
pub fn encode_journal(looks: &[(u64, Look)], start: Wall) -> Vec<u8> {
    let timed: Vec<(u64, &Look)> = looks.iter().map(|(_, look)| (ticks(look.at, start), look)).collect();
    let words = Words::of(&timed);
    let mut out = vec![VERSION];
    words.put(&mut out);
    for ((number, look), (at, _)) in looks.iter().zip(&timed) {
        let us = u64::try_from(look.took.as_micros()).unwrap_or(u64::MAX);
        for value in [*number, *at, to_scale(us), words.place(look)] {
            put(value, &mut out);
        }
    }
    out
}

/// Those of the wanted probes, in the order in which they came.
///
/// # Errors
/// When it is damaged.
pub fn decode_journal(
    bytes: &[u8],
    start: Wall,
    wanted: impl Fn(u64) -> bool,
) -> Result<Vec<(u64, Look)>, DamagedLooks> {
    let mut rest = bytes;
    if take_byte(&mut rest)? != VERSION {
        return Err(DamagedLooks);
    }
    let words = Words::take(&mut rest)?;
    let mut looks = Vec::new();
    while !rest.is_empty() {
        let (number, at) = (take(&mut rest)?, take(&mut rest)?);
        let (step, place) = (take(&mut rest)?, take(&mut rest)?);
        if at > HOUR_TICKS {
            return Err(DamagedLooks);
        }
        if wanted(number) {
            let (verdict, words) = words.of_place(place)?;
            let at = Wall(start.0.saturating_add(at as i64 * TICK_MS));
            looks.push((number, Look { at, took: Duration::from_micros(from_scale(step)), verdict, words }));
        }
    }
    Ok(looks)
}

fn ticks(at: Wall, start: Wall) -> u64 {
    u64::try_from(at.ms_since(start).div_euclid(TICK_MS)).unwrap_or(0).min(HOUR_TICKS)
}

/// The gap in the middle of all.
fn usual(gaps: &[u64]) -> u64 {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// Different words, and what they were said of.
#[derive(Debug, Default)]
struct Words {
    all: Vec<(LookVerdict, Arc<str>)>,
}

impl Words {
    fn of(looks: &[(u64, &Look)]) -> Self {
        let mut words = Self::default();
        for (_, look) in looks {
            let is_new =
                !words.all.iter().any(|(verdict, text)| *verdict == look.verdict && *text == look.words);
            if is_new && words.all.len() < WORDS_MAX {
                words.all.push((look.verdict, Arc::clone(&look.words)));
            }
        }
        // Of those that have no room any more at least the verdict is told.
        for verdict in [LookVerdict::Good, LookVerdict::Failed, LookVerdict::Unknown] {
            if words.all.len() >= WORDS_MAX {
                words.all.push((verdict, "".into()));
            }
        }
        words
    }

    fn place(&self, look: &Look) -> u64 {
        let same =
            |(verdict, text): &(LookVerdict, Arc<str>)| *verdict == look.verdict && *text == look.words;
        let like = |(verdict, _): &(LookVerdict, Arc<str>)| *verdict == look.verdict;
        let place = self.all.iter().position(same).or_else(|| self.all.iter().rposition(like));
        place.unwrap_or(0) as u64
    }

    fn of_place(&self, place: u64) -> Result<(LookVerdict, Arc<str>), DamagedLooks> {
        usize::try_from(place).ok().and_then(|place| self.all.get(place).cloned()).ok_or(DamagedLooks)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put(self.all.len() as u64, out);
        for (verdict, text) in &self.all {
            let mut end = text.len().min(WORD_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            out.push(match verdict {
                LookVerdict::Good => 0,
                LookVerdict::Failed => 1,
                LookVerdict::Unknown => 2,
            });
            put(end as u64, out);
            out.extend_from_slice(&text.as_bytes()[..end]);
        }
    }

    fn take(rest: &mut &[u8]) -> Result<Self, DamagedLooks> {
        let count = take(rest)?;
        let mut all = Vec::new();
        for _ in 0..count {
            let verdict = match take_byte(rest)? {
                0 => LookVerdict::Good,
                1 => LookVerdict::Failed,
                2 => LookVerdict::Unknown,
                _ => return Err(DamagedLooks),
            };
            let length = usize::try_from(take(rest)?).map_err(|_| DamagedLooks)?;
            let (text, after) = rest.split_at_checked(length).ok_or(DamagedLooks)?;
            *rest = after;
            all.push((verdict, std::str::from_utf8(text).map_err(|_| DamagedLooks)?.into()));
        }
        Ok(Self { all })
    }
}

/// Minutes that are alike follow one another.
fn put_minutes(minutes: &[MinuteKnown], out: &mut Vec<u8>) {
    let follows = |a: &MinuteKnown, b: &MinuteKnown| {
        a.minute.checked_add(1) == Some(b.minute) && a.spans() == b.spans()
    };
    let runs: Vec<&[MinuteKnown]> = minutes.chunk_by(follows).collect();
    put(runs.len() as u64, out);
    for run in runs {
        put(run[0].minute.into(), out);
        put(run.len() as u64, out);
        run[0].spans().into_iter().for_each(|ms| put(ms.into(), out));
    }
}

fn take_minutes(rest: &mut &[u8]) -> Result<Vec<MinuteKnown>, DamagedLooks> {
    let mut minutes = Vec::new();
    for _ in 0..take(rest)? {
        let (first, count) = (take(rest)?, take(rest)?);
        let small = |value: u64| u32::try_from(value).map_err(|_| DamagedLooks);
        let (observed_ms, down_ms, excused_ms) =
            (small(take(rest)?)?, small(take(rest)?)?, small(take(rest)?)?);
        let end = first.checked_add(count).filter(|end| *end <= 60).ok_or(DamagedLooks)?;
        let known = |minute| MinuteKnown { minute: minute as u8, observed_ms, down_ms, excused_ms };
        minutes.extend((first..end).map(known));
    }
    Ok(minutes)
}

/// Microseconds in steps: each of them up to 63, then 32 steps to a doubling.
fn to_scale(us: u64) -> u64 {
    if us < 64 {
        return us;
    }
    let octave = u64::from(63 - us.leading_zeros());
    64 + (octave - 6) * 32 + ((us >> (octave - 5)) & 31)
}

/// The middle of a step.
fn from_scale(step: u64) -> u64 {
    if step < 64 {
        return step;
    }
    let (octave, part) = (6 + (step - 64) / 32, (step - 64) % 32);
    if octave > 63 {
        return u64::MAX;
    }
    let width = 1u64 << (octave - 5);
    (32 + part).saturating_mul(width).saturating_add(width / 2)
}

fn difference(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b) as i64
}

fn added(to: u64, by: i64) -> Result<u64, DamagedLooks> {
    to.checked_add_signed(by).ok_or(DamagedLooks)
}

pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Seven bits a byte, the lowest first.
pub(crate) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn take(rest: &mut &[u8]) -> Result<u64, DamagedLooks> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DamagedLooks)
}

pub(crate) fn take_byte(rest: &mut &[u8]) -> Result<u8, DamagedLooks> {
    let (byte, after) = rest.split_first().ok_or(DamagedLooks)?;
    *rest = after;
    Ok(*byte)
}

/// The largest parameter of a Rice code that is used.
const RICE_MAX: u32 = 24;

/// The parameter with which these numbers take the fewest bits.
fn best_rice(values: &[u64]) -> u32 {
    let bits = |k: u32| -> u64 {
        let of_one = |value: &u64| match *value >> k {
            unary if unary < u64::from(UNARY_MAX) => unary + 1 + u64::from(k),
            _ => u64::from(UNARY_MAX) + 64,
        };
        values.iter().map(of_one).sum()
    };
    (0..=RICE_MAX).min_by_key(|k| bits(*k)).unwrap_or(0)
}

/// Bits that are written, the lowest of each byte first.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u8,
    count: u32,
}

impl Bits {
    fn bit(&mut self, bit: bool) {
        self.held |= u8::from(bit) << self.count;
        self.count += 1;
        if self.count == 8 {
            self.bytes.push(std::mem::take(&mut self.held));
            self.count = 0;
        }
    }

    fn put(&mut self, value: u64, bits: u32) {
        (0..bits).for_each(|bit| self.bit(value >> bit & 1 == 1));
    }

    fn rice(&mut self, value: u64, k: u32) {
        let unary = value >> k;
        if unary >= u64::from(UNARY_MAX) {
            (0..UNARY_MAX).for_each(|_| self.bit(true));
            return self.put(value, 64);
        }
        (0..unary).for_each(|_| self.bit(true));
        self.bit(false);
        self.put(value, k);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.held);
        }
        self.bytes
    }
}

/// Bits that are read.
struct BitsOf<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl BitsOf<'_> {
    fn bit(&mut self) -> Result<bool, DamagedLooks> {
        let byte = self.bytes.get(self.at / 8).ok_or(DamagedLooks)?;
        let bit = byte >> (self.at % 8) & 1 == 1;
        self.at += 1;
        Ok(bit)
    }

    fn take(&mut self, bits: u32) -> Result<u64, DamagedLooks> {
        (0..bits).try_fold(0, |value, bit| Ok(value | u64::from(self.bit()?) << bit))
    }

    fn rice(&mut self, k: u32) -> Result<u64, DamagedLooks> {
        let mut unary = 0;
        while self.bit()? {
            unary += 1;
            if unary == u64::from(UNARY_MAX) {
                return self.take(64);
            }
        }
        Ok(unary << k | self.take(k)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Wall = Wall(1_795_334_400_000);

    fn look(at_ms: i64, took_us: u64, verdict: u8, words: &str) -> Look {
        let verdict =
            [LookVerdict::Good, LookVerdict::Failed, LookVerdict::Unknown][usize::from(verdict % 3)];
        Look { at: Wall(START.0 + at_ms), took: Duration::from_micros(took_us), verdict, words: words.into() }
    }

    /// What is left of it when it was packed.
    fn kept(look: &Look) -> Look {
        let at = Wall(START.0 + look.at.ms_since(START).clamp(0, 3_600_000) / TICK_MS * TICK_MS);
        Look { at, took: rounded(look.took), ..look.clone() }
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(
            looks in proptest::collection::vec(
                (-5_000i64..3_605_000, prop_oneof![0u64..5_000, any::<u64>()], 0u8..3, "[a-zü ]{0,8}"), 0..150),
            known in proptest::collection::btree_map(0u8..60, (0u32..60_001, 0u32..60_001, 0u32..60_001), 0..60),
        ) {
            let mut looks: Vec<Look> = looks.iter().map(|(at, us, v, w)| look(*at, *us, *v, w)).collect();
            looks.sort_by_key(|look| ticks(look.at, START));
            let minutes = known.into_iter()
                .map(|(minute, (observed_ms, down_ms, excused_ms))| MinuteKnown { minute, observed_ms, down_ms, excused_ms })
                .collect();
            let hour = HourOfLooks { minutes, looks };
            let packed = hour.encode(START);
            let unpacked = HourOfLooks::decode(&packed, START).unwrap();
            prop_assert_eq!(&unpacked.minutes, &hour.minutes);
            prop_assert_eq!(&unpacked.looks, &hour.looks.iter().map(kept).collect::<Vec<_>>());
            prop_assert_eq!(unpacked.encode(START), packed, "packed again it is the same");
        }

        #[test]
        fn damage_is_told_or_read_and_never_more_than_was_there(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(hour) = HourOfLooks::decode(&bytes, START) {
                prop_assert!(hour.looks.len() <= bytes.len() * 8);
            }
        }

        #[test]
        fn a_cut_is_damage(cut in 1usize..40) {
            let looks = (0..300).map(|n| look(n * 10_000, 900 + n as u64 * 7 % 90, 0, "200")).collect();
            let packed = HourOfLooks { minutes: Vec::new(), looks }.encode(START);
            prop_assert_eq!(HourOfLooks::decode(&packed[..packed.len() - cut], START), Err(DamagedLooks));
        }

        #[test]
        fn a_time_is_kept_within_two_in_a_hundred(us in 1u64..10_000_000_000) {
            let back = rounded(Duration::from_micros(us)).as_micros() as f64;
            prop_assert!((back - us as f64).abs() <= us as f64 * 0.016, "{us} became {back}");
        }
    }

    #[test]
    fn a_journal_gives_back_what_is_asked_for() {
        let all: Vec<(u64, Look)> =
            (0..90).map(|n| (n % 3, look(n as i64 * 37, n * 1_000, (n % 2) as u8, "refused"))).collect();
        let bytes = encode_journal(&all, START);
        let of_one = decode_journal(&bytes, START, |number| number == 1).unwrap();
        let expected: Vec<_> =
            all.iter().filter(|(n, _)| *n == 1).map(|(n, look)| (*n, kept(look))).collect();
        assert_eq!(of_one, expected);
        for cut in 1..bytes.len() {
            // A cut between two results is not seen, and takes nothing from those before it.
            if let Ok(some) = decode_journal(&bytes[..cut], START, |number| number == 1) {
                assert_eq!(some, expected[..some.len()]);
            }
        }
    }

    #[test]
    fn an_hour_of_an_ordinary_probe_takes_less_than_two_bytes_a_result() {
        let mut rng = crate::rng::Rng::new(7);
        let looks = (0..360).map(|n| {
            let (late, took) = ((rng.unit() * 12.0) as i64, 1_100 + (rng.unit() * 600.0) as u64);
            look(n * 10_000 + late, took, 0, "200")
        });
        let minutes = (0..60)
            .map(|minute| MinuteKnown { minute, observed_ms: 60_000, down_ms: 0, excused_ms: 0 })
            .collect();
        let hour = HourOfLooks { minutes, looks: looks.collect() };
        let size = hour.encode(START).len();
        assert!(size < 2 * 360, "{size} bytes");
    }

    #[test]
    fn more_words_than_there_is_room_for_keep_their_verdict() {
        let looks: Vec<Look> =
            (0..500).map(|n| look(n * 100, 1, (n % 2) as u8, &format!("word {n}"))).collect();
        let hour = HourOfLooks { minutes: Vec::new(), looks };
        let unpacked = HourOfLooks::decode(&hour.encode(START), START).unwrap();
        let same = hour.looks.iter().zip(&unpacked.looks).all(|(a, b)| a.verdict == b.verdict);
        assert!(same && unpacked.looks.len() == 500);
        assert_eq!((&*unpacked.looks[3].words, &*unpacked.looks[400].words), ("word 3", ""));
    }
}
