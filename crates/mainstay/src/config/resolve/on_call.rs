//! Who is on call: from groups of people, each with their ways and times, to whom the judge tells when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use mainstay_model::escalation::{Call, Recipient, Way};
use mainstay_model::incident::Severity;

use super::whole::Resolver;
use crate::config::address::Refusal;
use crate::config::mistake::{Place, nearest};
use crate::config::raw::{RawOnCall, RawTell};
use crate::config::read::{At, Field, Named, OneOrMany, Text};
use crate::config::units::write_duration;

/// An incident that nobody took on for longer than this is not saved by telling one more person.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// The longest name; it stands in every timeline.
const NAME_MAX: usize = 64;

/// Everybody, and where they were written.
pub(super) struct People {
    pub(super) groups: BTreeMap<Arc<str>, Vec<Call>>,
    places: Vec<(Way, Place)>,
    /// Nobody is missing only because somebody was written wrongly.
    complete: bool,
}

impl People {
    /// Where the first who is told in this way stands.
    pub(super) fn first(&self, way: Way) -> Option<&Place> {
        self.places.iter().find(|(w, _)| *w == way).map(|(_, place)| place)
    }

    /// Surely nobody is told in this way.
    pub(super) fn nobody(&self, way: Way) -> bool {
        self.complete && self.first(way).is_none()
    }
}

impl Resolver<'_> {
    /// Every group of `on-call`.
    pub(super) fn people(&self, field: &Field<Named<RawOnCall>>) -> People {
        let mut people = People { groups: BTreeMap::new(), places: Vec::new(), complete: true };
        people.complete &= !matches!(field, Field::Bad);
        for (name, group) in field.get().map_or(&[][..], |at| &at.value.0) {
            self.accept_name(name);
            let calls = match group {
                Field::Here(group) => self.group(group, &mut people),
                Field::Absent | Field::Bad => None,
            };
            people.complete &= calls.is_some();
            people.groups.insert(name.value.as_str().into(), calls.unwrap_or_default());
        }
        people
    }

    fn group(&self, group: &At<RawOnCall>, people: &mut People) -> Option<Vec<Call>> {
        let remedy =
            "write tell = [{ email = \"ops@example.com\" }, { sms = \"+491701234567\", after = \"5m\" }]";
        let tell = match &group.value.tell {
            Field::Here(tell) => tell,
            Field::Bad => return None,
            Field::Absent => {
                self.mistakes.absent(&group.place, "a group of nobody", remedy);
                return None;
            }
        };
        if tell.value.is_empty() {
            self.mistakes.value(&tell.place, "a group of nobody", remedy);
        }
        people.complete &= tell.value.complete;
        let mut calls: Vec<Call> = Vec::new();
        for person in &tell.value.items {
            for (call, place) in self.calls(person, people) {
                if let Some(earlier) = calls.iter().find(|earlier| earlier.to.is_same(&call.to)) {
                    let what = format!(
                        "{} is told after {} already; everybody is told once that it began",
                        call.to.address,
                        write_duration(earlier.after)
                    );
                    self.mistakes.value(&place, what, "keep one of the two");
                }
                people.places.push((call.to.way, place));
                calls.push(call);
            }
        }
        Some(calls)
    }

    /// One person, by each of their ways.
    fn calls(&self, person: &At<RawTell>, people: &mut People) -> Vec<(Call, Place)> {
        let raw = &person.value;
        if raw.email.is_absent() && raw.sms.is_absent() {
            let remedy = "write { email = \"ops@example.com\" } or { sms = \"+491701234567\" }";
            self.mistakes.absent(&person.place, "no way to tell this person", remedy);
        }
        let after = self.duration(&raw.after, Duration::ZERO, Duration::ZERO);
        if after > LONGEST
            && let Some(at) = raw.after.get()
        {
            self.mistakes.value(&at.place, "longer than a week", "write \"5m\", \"15m\" or \"1h\"");
        }
        let name = raw.name.get().and_then(|name| self.accept(&name.place, person_name(&name.value.0)));
        let mut calls = Vec::new();
        let mut add = |way, address: Option<(String, Option<String>)>, place: &Place| match address {
            Some((address, called)) => {
                let name = name.clone().or(called).unwrap_or_else(|| address.clone());
                calls.push((Call { to: Recipient { way, address, name }, after }, place.clone()));
            }
            None => people.complete = false,
        };
        if let Field::Here(email) = &raw.email {
            add(
                Way::Email,
                self.mailbox(email, "ops@example.com").map(|text| (text.clone(), mailbox_name(&text))),
                &email.place,
            );
        }
        if let Field::Here(sms) = &raw.sms {
            let number = self.accept(&sms.place, e164(&sms.value.0));
            add(Way::Sms, number.map(|number| (number, None)), &sms.place);
        }
        people.complete &= !matches!(raw.email, Field::Bad) && !matches!(raw.sms, Field::Bad);
        calls
    }

    /// `alert.escalate-from`.
    pub(super) fn escalate_from(&self, field: &Field<Text>) -> Severity {
        let default = Severity::Partial;
        let Some(at) = field.get() else { return default };
        let all = [Severity::Degraded, Severity::Partial, Severity::Down];
        all.into_iter().find(|severity| severity.as_str() == at.value.0).unwrap_or_else(|| {
            let remedy = "write \"degraded\", \"partial\" or \"down\"";
            self.mistakes.value(&at.place, "not a severity", remedy);
            default
        })
    }

    /// The groups that a service names; `None`: all.
    pub(super) fn groups(
        &self,
        field: &Field<OneOrMany<Text>>,
        on_call: &Field<Named<RawOnCall>>,
    ) -> Option<Vec<Arc<str>>> {
        let list = &field.get()?.value.0;
        let known: Vec<&str> = on_call
            .get()
            .map_or_else(Vec::new, |at| at.value.0.iter().map(|(name, _)| name.value.as_str()).collect());
        let mut groups: Vec<Arc<str>> = Vec::new();
        for item in &list.items {
            let name = item.value.0.as_str();
            if !known.contains(&name) && !matches!(on_call, Field::Bad) {
                let remedy = match nearest(name, known.iter().copied()) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => format!("write [on-call.{name}] with tell = [{{ email = \"ops@example.com\" }}]"),
                };
                self.mistakes.value(&item.place, "no group of [on-call] has this name", remedy);
            }
            if !groups.iter().any(|group| **group == *name) {
                groups.push(name.into());
            }
        }
        Some(groups)
    }

    pub(super) fn mailbox(&self, at: &At<Text>, example: &str) -> Option<String> {
        match at.value.0.parse::<Mailbox>() {
            Ok(_) => Some(at.value.0.clone()),
            Err(_) => {
                self.mistakes.value(&at.place, "not a mail address", format!("write {example:?}"));
                None
            }
        }
    }
}

/// `Ada` of `Ada <ada@example.com>`.
fn mailbox_name(text: &str) -> Option<String> {
    text.parse::<Mailbox>().ok()?.name.filter(|name| person_name(name).is_ok())
}

fn person_name(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > NAME_MAX || text.chars().any(char::is_control) {
        let what = format!("a name is one line of 1 to {NAME_MAX} characters");
        return Err((what, "write \"Ada\"".to_owned()));
    }
    Ok(text.to_owned())
}

/// A telephone number in the one form that every provider takes.
pub(super) fn e164(text: &str) -> Result<String, Refusal> {
    let refuse = |what: &str, remedy: String| Err((what.to_owned(), remedy));
    let example =
        "write \"+491701234567\": a plus, the country, the number, without its leading 0".to_owned();
    if text.strip_prefix('+').is_some_and(is_number) {
        return Ok(text.to_owned());
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let only_number = text.chars().all(|c| c.is_ascii_digit() || "+ -/().\u{a0}".contains(c));
    if !only_number || digits.is_empty() {
        return refuse("not a telephone number", example);
    }
    // +49 (0) 170 …: the 0 is dialled within the country only.
    let meant = match text.strip_prefix("00") {
        Some(_) => digits[2..].to_owned(),
        None if text.trim_start().starts_with('+') => {
            let without = text.replace("(0)", "");
            without.chars().filter(char::is_ascii_digit).collect()
        }
        None if digits.starts_with('0') => {
            return refuse(
                "the country is missing",
                format!("{example}; 49 is Germany, 44 the United Kingdom, 1 North America"),
            );
        }
        None => digits,
    };
    match is_number(&meant) {
        true => refuse("a telephone number is a plus and digits only", format!("write \"+{meant}\"")),
        false => refuse("a telephone number with its country has 7 to 15 digits", example),
    }
}

/// Countries begin with 1 to 9.
fn is_number(digits: &str) -> bool {
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_in_one_form_and_the_others_say_which() {
        assert_eq!(e164("+491701234567"), Ok("+491701234567".to_owned()));
        for (written, remedy) in [
            ("+49 170 1234567", "write \"+491701234567\""),
            ("+49 (0) 170/123-4567", "write \"+491701234567\""),
            ("0049 170 1234567", "write \"+491701234567\""),
            ("491701234567", "write \"+491701234567\""),
        ] {
            assert_eq!(e164(written).unwrap_err().1, remedy, "{written}");
        }
        assert_eq!(e164("0170 1234567").unwrap_err().0, "the country is missing");
        for bad in
            ["", "+", "+49", "+0123456789", "+1234567890123456", "ops@example.com", "+49170x234567", "٣٣٣"]
        {
            assert!(e164(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn somebody_is_called_by_their_name() {
        assert_eq!(mailbox_name("Ada <ada@example.com>").as_deref(), Some("Ada"));
        assert_eq!(mailbox_name("ada@example.com"), None);
        assert_eq!(person_name(" Ada "), Ok("Ada".to_owned()));
        assert!(
            person_name("a\nb").is_err() && person_name("").is_err() && person_name(&"x".repeat(65)).is_err()
        );
    }
}
