//! The values of one line, and how they are written: numbers without an allocation, text so that nobody can forge a line.

use std::cell::Cell;
use std::time::Duration;

use super::format::Field;

/// A longer value is cut: what a client sends must not fill the disk.
const VALUE_MAX: usize = 8 * 1024;

/// All that is known of a request, or of a connection that was no HTTP. What is empty or 0 is not known.
#[derive(Debug, Clone)]
pub(crate) struct Line<'a> {
    /// Milliseconds since 1970, UTC.
    pub(crate) started_ms: u64,
    pub(crate) clock: Clock<'a>,
    pub(crate) visitor: &'a str,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) status: u16,
    pub(crate) outcome: &'static str,
    pub(crate) reason: &'a str,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) took: Duration,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) service: &'a str,
    pub(crate) server: &'a str,
    pub(crate) attempts: u32,
    /// `app-1:refused app-2:timeout`.
    pub(crate) failures: &'a [u8],
    pub(crate) request_id: &'a [u8],
    pub(crate) traceparent: &'a [u8],
    pub(crate) user_agent: &'a [u8],
    pub(crate) referer: &'a [u8],
}

impl<'a> Line<'a> {
    /// Writes a field that needs no escape, if it is known.
    #[inline]
    pub(super) fn write_plain(&self, field: Field, out: &mut Vec<u8>) {
        match field {
            Field::Time => self.clock.rfc_3339(self.started_ms, out),
            Field::TimeClf => self.clock.clf(self.started_ms, out),
            Field::Status if self.status > 0 => decimal(u64::from(self.status), out),
            Field::BytesIn => decimal(self.bytes_in, out),
            Field::BytesOut => decimal(self.bytes_out, out),
            Field::Duration => milliseconds(self.took, out),
            Field::FirstByte => {
                if let Some(after) = self.first_byte {
                    milliseconds(after, out);
                }
            }
            Field::Attempts if self.attempts > 0 => decimal(u64::from(self.attempts), out),
            _ => {}
        }
    }

    /// The text of a field, to be escaped; empty if it has none.
    #[inline]
    pub(super) fn text(&self, field: Field) -> &'a [u8] {
        let text: &[u8] = match field {
            Field::Visitor => self.visitor.as_bytes(),
            Field::Protocol => self.protocol.as_bytes(),
            Field::Method => self.method,
            Field::Host => self.host,
            Field::Target => self.target,
            Field::Path => self.target.split(|&b| b == b'?').next().unwrap_or_default(),
            Field::Outcome => self.outcome.as_bytes(),
            Field::Reason => self.reason.as_bytes(),
            Field::Service => self.service.as_bytes(),
            Field::Server => self.server.as_bytes(),
            Field::Failures => self.failures,
            Field::RequestId => self.request_id,
            Field::Traceparent => self.traceparent,
            Field::UserAgent => self.user_agent,
            Field::Referer => self.referer,
            _ => &[],
        };
        &text[..text.len().min(VALUE_MAX)]
    }
}

/// The second that was written last, so that most lines only copy it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock<'c>(Option<&'c Cell<Second>>);

/// A second in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Second {
    since_1970: u64,
    /// `2026-11-22T18:41:36`
    rfc_3339: [u8; 19],
    /// `22/Nov/2026:18:41:36`
    clf: [u8; 20],
}

impl Default for Second {
    fn default() -> Self {
        Second::of(0)
    }
}

impl<'c> Clock<'c> {
    /// A clock that remembers.
    pub(crate) fn with(last: &'c Cell<Second>) -> Self {
        Self(Some(last))
    }

    fn second(self, ms: u64) -> Second {
        let since_1970 = ms / 1000;
        match self.0 {
            Some(last) if last.get().since_1970 == since_1970 => last.get(),
            Some(last) => {
                last.set(Second::of(since_1970));
                last.get()
            }
            None => Second::of(since_1970),
        }
    }

    fn rfc_3339(self, ms: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.second(ms).rfc_3339);
        let ms = ms % 1000;
        out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
    }

    fn clf(self, ms: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.second(ms).clf);
        out.extend_from_slice(b" +0000");
    }
}

impl Second {
    /// The Gregorian calendar by eras of 400 years (Howard Hinnant, "chrono-compatible low-level date algorithms").
    fn of(since_1970: u64) -> Self {
        const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        // Years begin in March, so that the leap day is the last.
        let days = since_1970 / 86_400 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (since_1970 / 3600 % 24, since_1970 / 60 % 60, since_1970 % 60);
        let name = usize::try_from(month - 1).unwrap_or_default() * 3;

        let (mut rfc_3339, mut clf) = (*b"0000-00-00T00:00:00", *b"00/Jan/0000:00:00:00");
        for (at, value) in [(5, month), (8, day), (11, hour), (14, minute), (17, second)] {
            (rfc_3339[at], rfc_3339[at + 1]) = (digit(value / 10), digit(value));
        }
        for (at, value) in [(0, day), (12, hour), (15, minute), (18, second)] {
            (clf[at], clf[at + 1]) = (digit(value / 10), digit(value));
        }
        let digits = [digit(year / 1000), digit(year / 100), digit(year / 10), digit(year)];
        rfc_3339[..4].copy_from_slice(&digits);
        clf[7..11].copy_from_slice(&digits);
        clf[3..6].copy_from_slice(&MONTHS[name..name + 3]);
        Self { since_1970, rfc_3339, clf }
    }
}

/// The last digit.
fn digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

fn decimal(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = digit(rest);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// With three decimals.
fn milliseconds(duration: Duration, out: &mut Vec<u8>) {
    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    decimal(us / 1000, out);
    out.extend_from_slice(&[b'.', digit(us / 100), digit(us / 10), digit(us)]);
}

/// Nothing in it needs an escape. All of it is looked at, which is faster than stopping in time.
fn is_plain_text(text: &[u8]) -> bool {
    text.iter().fold(true, |plain, byte| plain & is_plain(byte))
}

fn is_plain(byte: &u8) -> bool {
    (0x20..0x7f).contains(byte) & (*byte != b'"') & (*byte != b'\\')
}

/// Printable ASCII as it is; quotes, backslashes and every other byte as `\x22`, as nginx writes them.
pub(super) fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    if is_plain_text(text) {
        return out.extend_from_slice(text);
    }
    for part in text.chunk_by(|a, b| is_plain(a) == is_plain(b)) {
        if is_plain(&part[0]) {
            out.extend_from_slice(part);
            continue;
        }
        for byte in part {
            out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte & 15)]);
        }
    }
}

/// Text within a string of JSON; what is not UTF-8 is replaced.
pub(super) fn write_json_text(text: &[u8], out: &mut Vec<u8>) {
    if is_plain_text(text) {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..0x20 | 0x7f => {
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn hex(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_right_on_its_edges() {
        for (since_1970, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_767_225_599, "2025-12-31T23:59:59"),
            (1_767_225_600, "2026-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(std::str::from_utf8(&Second::of(since_1970).rfc_3339), Ok(text));
        }
        assert_eq!(&Second::of(951_782_400).clf, b"29/Feb/2000:00:00:00");
    }

    #[test]
    fn a_remembered_second_is_not_taken_for_another() {
        let (last, mut out) = (Cell::default(), Vec::new());
        for ms in [1000, 1999, 2000] {
            Clock::with(&last).rfc_3339(ms, &mut out);
        }
        assert_eq!(out, b"1970-01-01T00:00:01.000Z1970-01-01T00:00:01.999Z1970-01-01T00:00:02.000Z");
    }
}
