//! Numbers and times in words, the same on every page.

use std::fmt;

use askama::filters::HtmlSafe;
use mainstay_model::Wall;

/// Between a number and its unit, and between thousands: narrow, and never broken into two lines.
const THIN: char = '\u{202f}';

/// A moment, relative to now in the text and absolute on hover.
pub(super) struct Ago {
    at: Wall,
    now: Wall,
    /// It still holds.
    holds: bool,
}

/// How long ago `at` was, as an element.
pub(super) fn ago(at: Wall, now: Wall) -> Ago {
    Ago { at, now, holds: false }
}

/// How long something has held that began `at` and holds still, as an element: `for 12 s`. *Healthy 12 s ago* would leave
/// open whether it is so now.
pub(super) fn held(since: Wall, now: Wall) -> Ago {
    Ago { at: since, now, holds: true }
}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let past_ms = self.now.ms_since(self.at);
        let text = if self.holds { format!("for {}", coarse(past_ms.max(0))) } else { relative(past_ms) };
        write!(f, "<time datetime=\"{}\" title=\"{}\">{text}</time>", rfc3339(self.at), absolute(self.at))
    }
}

impl HtmlSafe for Ago {}

/// `now`, `12 s ago`, `in 4 s`.
fn relative(past_ms: i64) -> String {
    match past_ms {
        -999..=999 => "now".to_owned(),
        1000.. => format!("{} ago", coarse(past_ms)),
        _ => format!("in {}", coarse(past_ms.saturating_neg())),
    }
}

/// A length of time in its largest unit: `12 s`, `3 min`, `2 h`, `5 d`.
pub(super) fn coarse(ms: i64) -> String {
    let seconds = ms / 1000;
    let (value, unit) = match seconds {
        ..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "min"),
        3600..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{value}{THIN}{unit}")
}

/// A measured length of time: `340 ms`, `1.8 s`, `42 s`, `3 min 4 s`, `2 h 5 min`.
pub(super) fn lasted(ms: i64) -> String {
    match ms {
        ..1000 => format!("{ms}{THIN}ms"),
        1000..10_000 => format!("{:.1}{THIN}s", ms as f64 / 1000.0),
        10_000..60_000 => format!("{}{THIN}s", ms / 1000),
        60_000..3_600_000 => format!("{}{THIN}min {}{THIN}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}{THIN}h {}{THIN}min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A latency: `0.4 ms`, `12 ms`, `1.24 s`; a dash without any.
pub(super) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:.1}{THIN}ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0}{THIN}ms"),
        Some(ms) => format!("{:.2}{THIN}s", ms / 1000.0),
    }
}

/// A round latency at a scale: `500 ms`, `2 s`.
pub(super) fn latency_mark(ms: f64) -> String {
    let (value, unit) = if ms < 1000.0 { (ms, "ms") } else { (ms / 1000.0, "s") };
    format!("{}{THIN}{unit}", (value * 1000.0).round() / 1000.0)
}

/// A round rate at a scale: `0.5/s`, `200/s`.
pub(super) fn rate_mark(rate: f64) -> String {
    if rate < 1000.0 { format!("{}/s", (rate * 1000.0).round() / 1000.0) } else { per_second(rate) }
}

/// Requests a second: `0.3/s`, `412/s`.
pub(super) fn per_second(rate: f64) -> String {
    if rate == 0.0 {
        "0/s".to_owned()
    } else if rate < 9.95 {
        format!("{rate:.1}/s")
    } else {
        format!("{}/s", count(rate.round() as u64))
    }
}

/// A share of a whole: `0 %`, `0.2 %`, `14 %`; a dash without any.
pub(super) fn share(part: Option<f64>) -> String {
    match part {
        None => "–".to_owned(),
        Some(part) => {
            let percent = part * 100.0;
            if percent == 0.0 {
                format!("0{THIN}%")
            } else if percent < 0.1 {
                format!("<{THIN}0.1{THIN}%")
            } else if percent < 9.95 {
                format!("{percent:.1}{THIN}%")
            } else {
                format!("{percent:.0}{THIN}%")
            }
        }
    }
}

/// A count with its thousands set apart: `12 345`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(THIN);
        }
        text.push(digit);
    }
    text
}

/// `1.2 MB`.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if n < 1000 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count and its noun: `1 request`, `12 requests`.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{}\u{a0}{}", count(n), if n == 1 { one } else { many })
}

/// A size, or a rate of one: `640 B`, `8.1 MB`, `93 GB`; powers of 1000, as disks and networks are sold.
pub(super) fn size(n: f64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (n.max(0.0), 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    let digits = if unit > 0 && value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$}{THIN}{}", UNITS[unit])
}

/// Text that is not ours, for where it is not escaped by a template.
pub(super) fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `2026-11-12 03:14:07.250 UTC`
pub(super) fn absolute(at: Wall) -> String {
    written(at, "%Y-%m-%d %H:%M:%S.%3f UTC")
}

/// `03:14:07.250`
pub(super) fn clock_ms(at: Wall) -> String {
    written(at, "%H:%M:%S.%3f")
}

/// `03:14`
pub(super) fn clock(at: Wall) -> String {
    written(at, "%H:%M")
}

/// `12 Nov`
pub(super) fn day(at: Wall) -> String {
    written(at, "%-d %b")
}

/// `12 Nov 2026`
pub(super) fn date(at: Wall) -> String {
    written(at, "%-d %b %Y")
}

/// `2026-11-12T03:14:07.250Z`
pub(super) fn rfc3339(at: Wall) -> String {
    written(at, "%Y-%m-%dT%H:%M:%S.%3fZ")
}

fn written(at: Wall, form: &str) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(at) => at.strftime(form).to_string(),
        // A clock set to the year 10000: shown, not hidden.
        Err(_) => format!("{} ms", at.0),
    }
}

/// A name as one segment or value of an address: everything but letters, digits and `-._~` is percent-encoded.
pub(super) fn encode(text: &str) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: String) -> String {
        text.replace([THIN, '\u{a0}'], " ")
    }

    #[test]
    fn times_are_relative_with_the_absolute_on_hover() {
        let now = Wall(1_794_453_247_250);
        let text = plain(ago(Wall(now.0 - 12_300), now).to_string());
        assert_eq!(
            text,
            "<time datetime=\"2026-11-12T03:13:54.950Z\" title=\"2026-11-12 03:13:54.950 UTC\">12 s ago</time>"
        );
        assert_eq!(plain(relative(-4_000)), "in 4 s");
        assert_eq!(plain(relative(999)), "now");
        assert!(plain(held(Wall(now.0 - 12_300), now).to_string()).contains(">for 12 s<"));
        assert_eq!(plain(relative(3 * 86_400_000)), "3 d ago");
        assert!(ago(Wall(i64::MIN), now).to_string().contains("ago"));
        assert!(ago(Wall(i64::MAX), now).to_string().contains("in "));
    }

    #[test]
    fn lengths_latencies_and_shares_carry_their_units() {
        assert_eq!(plain(lasted(340)), "340 ms");
        assert_eq!(plain(lasted(1_840)), "1.8 s");
        assert_eq!(plain(lasted(184_000)), "3 min 4 s");
        assert_eq!(plain(lasted(7_500_000)), "2 h 5 min");
        assert_eq!(plain(latency(Some(0.42))), "0.4 ms");
        assert_eq!(plain(latency(Some(12.4))), "12 ms");
        assert_eq!(plain(latency(Some(1_240.0))), "1.24 s");
        assert_eq!(latency(None), "–");
        assert_eq!(plain(latency_mark(0.25)), "0.25 ms");
        assert_eq!(plain(latency_mark(2_000.0)), "2 s");
        assert_eq!(plain(rate_mark(2.5)), "2.5/s");
        assert_eq!(plain(rate_mark(20_000.0)), "20 000/s");
        assert_eq!(plain(share(Some(0.0004))), "< 0.1 %");
        assert_eq!(plain(share(Some(0.144))), "14 %");
        assert_eq!(plain(per_second(1234.4)), "1 234/s");
        assert_eq!(plain(count(1_234_567)), "1 234 567");
        assert_eq!(plain(counted(1, "request", "requests")), "1 request");
    }

    #[test]
    fn names_are_encoded_for_addresses() {
        assert_eq!(encode("app-1"), "app-1");
        assert_eq!(encode("a b/ü?&\"<"), "a%20b%2F%C3%BC%3F%26%22%3C");
    }
}
