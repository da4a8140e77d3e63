//! Quantities as people write them: `800ms`, `20%`, `64KiB`. A number without a unit is refused, because nobody
//! remembers whether a 30 was seconds.

use std::time::Duration;

/// Why a quantity was refused, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadQuantity {
    pub(super) what: String,
    pub(super) remedy: String,
}

/// No setting makes sense beyond this; it keeps every sum of durations far from overflow.
const LONGEST_YEARS: u64 = 100;

/// Units of time in milliseconds, the longest first. A year is 365 days.
const TIME_UNITS: [(&str, u64); 6] =
    [("y", 365 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size in bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// `800ms`, `1s`, `5m`, `2h`, `7d`, `2y`: a whole number and one unit.
pub(super) fn duration(text: &str) -> Result<Duration, BadQuantity> {
    let bad = |what: &str, remedy: String| Err(BadQuantity { what: what.to_owned(), remedy });
    let (number, unit) = split(text);
    let examples = if number.is_empty() || number == "1" || number.len() > 9 {
        "write \"1s\", \"800ms\", \"5m\" or \"2h\"".to_owned()
    } else {
        format!("write \"{number}s\", \"{number}ms\" or \"{number}m\"")
    };
    if !number.is_empty() && unit.is_empty() {
        return bad("a duration needs a unit", examples);
    }
    let Some(&(_, ms)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
        return bad(
            "not a duration",
            "write a whole number and one unit: \"800ms\", \"1s\", \"5m\", \"2h\", \"7d\" or \"2y\""
                .to_owned(),
        );
    };
    let Ok(number) = number.parse::<u64>() else {
        return bad("not a duration", examples);
    };
    match number.checked_mul(ms) {
        Some(ms) if ms <= LONGEST_YEARS * TIME_UNITS[0].1 => Ok(Duration::from_millis(ms)),
        _ => bad("too long for a duration", format!("write at most \"{LONGEST_YEARS}y\"")),
    }
}

/// A duration of the command line, as in the config.
///
/// # Errors
/// What is wrong and what to write instead, in one line.
pub fn duration_from_text(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|bad| format!("{}; {}", bad.what, bad.remedy))
}

/// `20%`: a percentage with or without a fraction, as a share from 0 to 1. The range is the caller's to check.
pub(super) fn percentage(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?.trim_end();
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = plain.then(|| number.parse().ok()).flatten()?;
    Some(number / 100.0)
}

/// `64KiB`, `1MB`, `512B`: a whole number and one unit, in bytes.
pub(super) fn size(text: &str) -> Result<u64, BadQuantity> {
    let bad = |what: &str, remedy: String| Err(BadQuantity { what: what.to_owned(), remedy });
    let (number, unit) = split(text);
    if !number.is_empty() && unit.is_empty() {
        return bad(
            "a size needs a unit",
            format!("write \"{number}KiB\", \"{number}MiB\" or \"{number}B\""),
        );
    }
    let factor =
        SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|&(_, factor)| factor);
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => match number.checked_mul(factor) {
            Some(bytes) => Ok(bytes),
            None => bad("too large for a size", "write at most some \"GiB\"".to_owned()),
        },
        _ => {
            bad("not a size", "write a whole number and one unit: \"64KiB\", \"1MiB\" or \"512B\"".to_owned())
        }
    }
}

/// Times that a rate may be of.
const RATE_TIMES: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3_600)];

/// `50/s`, `600/m`, `20/h`: so many in so long.
pub(super) fn rate(text: &str) -> Result<(u32, Duration), BadQuantity> {
    let bad = |what: &str, remedy: String| Err(BadQuantity { what: what.to_owned(), remedy });
    let (number, unit) = split(text);
    if !number.is_empty() && unit.is_empty() {
        return bad("a rate needs a time", format!("write \"{number}/s\", \"{number}/m\" or \"{number}/h\""));
    }
    let unit = unit.strip_prefix('/').map(str::trim_start);
    let time = RATE_TIMES.iter().find(|(name, _)| Some(*name) == unit);
    match (number.parse::<u32>(), time) {
        (Ok(0), Some(_)) => bad("must be more than 0", "leave it out for no limit".to_owned()),
        (Ok(number), Some((_, seconds))) if number <= RATE_MAX => Ok((number, Duration::from_secs(*seconds))),
        (_, Some(_)) if !number.is_empty() => bad(
            "too much for a rate",
            format!("write at most \"{RATE_MAX}/s\", or leave it out for no limit"),
        ),
        _ => bad("not a rate", "write \"50/s\", \"600/m\" or \"20/h\"".to_owned()),
    }
}

/// Nobody asks more often; it keeps every sum far from overflow.
const RATE_MAX: u32 = 1_000_000;

/// `500B/s`, `1KiB/s`: bytes in a second.
pub(super) fn flow(text: &str) -> Result<u64, BadQuantity> {
    let bad = || BadQuantity {
        what: "not bytes a second".to_owned(),
        remedy: "write \"500B/s\", \"1KiB/s\", or \"0B/s\" for none".to_owned(),
    };
    let bytes = text.trim().strip_suffix("/s").ok_or_else(bad)?;
    size(bytes).map_err(|_| bad())
}

/// A duration as it would be written in a config, in its largest whole unit.
pub fn write_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let (unit, factor) =
        TIME_UNITS.into_iter().find(|&(_, factor)| ms.is_multiple_of(factor)).unwrap_or(("ms", 1));
    format!("{}{unit}", ms / factor)
}

/// A length of time for a person to read, in at most two units: `3m 20s`, `2d 4h`, `850ms`.
pub fn people_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let Some(largest) = TIME_UNITS.iter().position(|&(_, factor)| ms >= factor) else {
        return "0s".to_owned();
    };
    let (unit, factor) = TIME_UNITS[largest];
    let mut text = format!("{}{unit}", ms / factor);
    // Milliseconds matter below a second only.
    if let Some(&(unit, smaller)) = TIME_UNITS.get(largest + 1)
        && unit != "ms"
        && ms % factor >= smaller
    {
        text.push_str(&format!(" {}{unit}", ms % factor / smaller));
    }
    text
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_has_a_number_and_a_time_and_nothing_else() {
        for (text, requests, seconds) in [("50/s", 50, 1), ("600 / m", 600, 60), ("20/h", 20, 3600)] {
            assert_eq!(rate(text), Ok((requests, Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "50", "0/s", "/s", "-1/s", "50/d", "50s", "1.5/s", "9999999/s", "99999999999/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!((flow("500B/s"), flow("2 KiB/s"), flow("0B/s")), (Ok(500), Ok(2048), Ok(0)));
        for text in ["", "500", "500B", "B/s", "500/s", "500B/m"] {
            assert!(flow(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_unit_of_time_is_understood() {
        let seconds = |text: &str| duration(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("800ms"), Ok(0.8));
        assert_eq!(seconds("1s"), Ok(1.0));
        assert_eq!(seconds("5m"), Ok(300.0));
        assert_eq!(seconds("2h"), Ok(7200.0));
        assert_eq!(seconds("7d"), Ok(604_800.0));
        assert_eq!(seconds("2y"), Ok(63_072_000.0));
        assert_eq!(seconds("0s"), Ok(0.0));
    }

    #[test]
    fn a_duration_without_a_unit_is_refused_with_examples() {
        let bad = duration("1").unwrap_err();
        assert_eq!(bad.what, "a duration needs a unit");
        assert_eq!(bad.remedy, "write \"1s\", \"800ms\", \"5m\" or \"2h\"");
        assert_eq!(duration("30").unwrap_err().remedy, "write \"30s\", \"30ms\" or \"30m\"");
    }

    #[test]
    fn fractions_words_and_endless_times_are_refused() {
        for text in ["1.5s", "soon", "", "-1s", "1s 2m", "5 minutes", "101y", "99999999999999999999y", "1µs"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1 MB"), Ok(1_000_000));
        assert_eq!(size("64").unwrap_err().what, "a size needs a unit");
        assert!(size("99999999999GiB").is_err());
    }

    #[test]
    fn a_percentage_is_a_share() {
        assert_eq!(percentage("20%"), Some(0.2));
        assert_eq!(percentage("12.5 %"), Some(0.125));
        for text in ["20", "%", "-1%", "nan%", "1e3%", "1.2.3%"] {
            assert_eq!(percentage(text), None, "{text}");
        }
    }

    #[test]
    fn people_read_two_units() {
        let read = |ms| people_duration(Duration::from_millis(ms));
        assert_eq!(read(0), "0s");
        assert_eq!(read(850), "850ms");
        assert_eq!(read(12_345), "12s");
        assert_eq!(read(200_000), "3m 20s");
        assert_eq!(read(3_600_000), "1h");
        assert_eq!(read(3_605_000), "1h");
        assert_eq!(read(90_061_000), "1d 1h");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0u64..=100 * 365 * 86_400_000) {
            let whole = Duration::from_millis(ms);
            prop_assert_eq!(duration(&write_duration(whole)), Ok(whole));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = (duration(&text), size(&text), percentage(&text));
        }
    }
}
