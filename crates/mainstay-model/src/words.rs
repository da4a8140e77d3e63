//! Durations, shares and times in words, the way they are written in the config.

use std::time::Duration;

use crate::time::Wall;

/// `800ms`, `10s`, `1.5s`, `10m`, `2h`: the longest unit that divides it, as a person would write it in the config.
pub(crate) fn span(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms if ms < 1000 => format!("{ms}ms"),
        ms if ms < 60_000 => format!("{:.1}s", ms as f64 / 1000.0),
        ms => format!("{}m {}s", ms / 60_000, ms / 1000 % 60),
    }
}

/// `20%`, `0.5%`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if (percent - percent.round()).abs() < 0.05 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}

/// `2 probes`, `1 probe`.
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// `12 B`, `3.4 MiB`, `120 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (n as f64, "B");
    for larger in UNITS {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" || value >= 9.95 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// `0.4ms`, `35ms`, `1.2s`.
pub(crate) fn ms(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1}ms"),
        ms if ms < 999.5 => format!("{ms:.0}ms"),
        ms => format!("{:.1}s", ms / 1000.0),
    }
}

/// `2.1 times`, `40 times`.
pub(crate) fn times(factor: f64) -> String {
    if factor < 9.95 { format!("{factor:.1} times") } else { format!("{factor:.0} times") }
}

/// A count with its thousands set apart: `4,020`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An amount of money: `3.30`, `1,200`. Hundredths of thousands would pretend to know more than an estimate does.
pub(crate) fn amount(amount: f64) -> String {
    let hundredths = (amount.abs() * 100.0).round() as u64;
    match (hundredths / 100, hundredths % 100) {
        (whole @ ..1000, part @ 1..) => format!("{whole}.{part:02}"),
        (whole, part) => grouped(whole + u64::from(part >= 50)),
    }
}

/// A measured length of time: `9.9 s`, `2.1 min`, `3.5 h`.
pub(crate) fn measured(ms: u64) -> String {
    match ms {
        0 => "0 s".to_owned(),
        1..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{:.1} min", ms as f64 / 60_000.0),
        _ => format!("{:.1} h", ms as f64 / 3_600_000.0),
    }
}

/// `2026-11-22 08:25:13 UTC`.
pub(crate) fn utc(at: Wall) -> String {
    let seconds = at.0.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC")
}

/// Days since 1970-01-01 as year, month and day: Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_in_the_config() {
        let written = |ms| span(Duration::from_millis(ms));
        assert_eq!(written(800), "800ms");
        assert_eq!(written(10_000), "10s");
        assert_eq!(written(1500), "1.5s");
        assert_eq!(written(600_000), "10m");
        assert_eq!(written(7_200_000), "2h");
        assert_eq!(written(61_500), "1m 1s");
    }

    #[test]
    fn a_share_is_written_in_percent() {
        assert_eq!(percent(0.2), "20%");
        assert_eq!(percent(0.005), "0.5%");
    }

    #[test]
    fn a_size_is_written_in_two_or_three_digits() {
        let written = [0, 999, 1000, 10 << 20, 1_288_490_188, u64::MAX].map(bytes);
        assert_eq!(written, ["0 B", "999 B", "1.0 KiB", "10 MiB", "1.2 GiB", "16384 PiB"]);
    }

    #[test]
    fn a_latency_and_a_factor_are_written_in_two_or_three_digits() {
        assert_eq!([0.42, 34.6, 1240.0].map(ms), ["0.4ms", "35ms", "1.2s"]);
        assert_eq!([2.14, 40.2].map(times), ["2.1 times", "40 times"]);
    }

    #[test]
    fn figures_are_grouped_and_not_more_exact_than_an_estimate() {
        assert_eq!([0, 999, 4_020, 1_234_567].map(grouped), ["0", "999", "4,020", "1,234,567"]);
        let amounts = [0.0, 0.004, 3.3, 12.0, 999.99, 1200.0, 12_345.67];
        assert_eq!(amounts.map(amount), ["0", "0", "3.30", "12", "999.99", "1,200", "12,346"]);
        assert_eq!([0, 9_880, 126_000, 7_200_000].map(measured), ["0 s", "9.9 s", "2.1 min", "2.0 h"]);
    }

    #[test]
    fn a_wall_time_is_written_in_utc() {
        assert_eq!(utc(Wall(0)), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(Wall(1_709_164_800_000)), "2024-02-29 00:00:00 UTC");
        assert_eq!(utc(Wall(-1)), "1969-12-31 23:59:59 UTC");
    }
}
