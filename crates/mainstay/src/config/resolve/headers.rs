//! Changes of headers: names that may be changed, and values that cannot break out of their line.

use mainstay_model::route::{HeaderChanges, HeaderLine};
use mainstay_model::stencil::{BadStencil, Part, Piece, Stencil};

use super::whole::Resolver;
use crate::config::address::Refusal;
use crate::config::mistake::Place;
use crate::config::raw::RawHeaders;
use crate::config::read::{At, Field, Text};

/// Headers of the connection and of framing: who changes them makes two programs disagree on where a message ends.
const NEVER: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Said by https alone (RFC 6797, 7.2).
const SECURE_ONLY: &str = "strict-transport-security";

impl Resolver<'_> {
    /// What is changed of the headers of requests or answers.
    pub(super) fn headers(&self, field: &Field<RawHeaders>) -> HeaderChanges {
        let mut changes = HeaderChanges::default();
        let Some(at) = field.get() else { return changes };
        let (set, add) = (at.value.set.get(), at.value.add.get());
        for (name, value) in set.map_or(&[][..], |at| &at.value.0) {
            let line = self.header_line(name, value.get());
            if let Some(line) = line {
                changes.remove.push(line.name.to_ascii_lowercase());
                changes.add.push(line);
            }
        }
        for (name, values) in add.map_or(&[][..], |at| &at.value.0) {
            for value in values.get().map_or(&[][..], |at| &at.value.0.items) {
                changes.add.extend(self.header_line(name, Some(value)));
            }
        }
        for item in at.value.remove.get().map_or(&[][..], |at| &at.value.0.items) {
            let Some(name) = self.accept(&item.place, header_name(&item.value.0)) else { continue };
            if changes.remove.contains(&name) {
                self.mistakes.value(&item.place, "set or removed here twice", "keep one of the two");
            }
            changes.remove.push(name);
        }
        changes
    }

    fn header_line(&self, name: &At<String>, value: Option<&At<Text>>) -> Option<HeaderLine> {
        if let Err((what, remedy)) = header_name(&name.value) {
            self.mistakes.key(&name.place, what, remedy);
            return None;
        }
        let value = value?;
        let stencil = self.stencil(&value.place, &value.value.0)?;
        let text = stencil.pieces().iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::Part(_) => None,
        });
        if text.flat_map(|text| text.chars()).any(|c| !matches!(c, ' '..='~' | '\t')) {
            let remedy = "write printable ASCII in one line";
            self.mistakes.value(&value.place, "not the value of a header", remedy);
        }
        let secure_only = name.value.eq_ignore_ascii_case(SECURE_ONLY);
        Some(HeaderLine { name: name.value.clone(), value: stencil, secure_only })
    }

    /// A text with named parts.
    pub(super) fn stencil(&self, place: &Place, text: &str) -> Option<Stencil> {
        self.accept(
            place,
            Stencil::parse(text).map_err(|bad| match bad {
                BadStencil::LoneBrace => (bad.to_string(), "write {{ and }} for braces".to_owned()),
                BadStencil::UnknownPart(_) => {
                    let parts = Part::ALL.map(|part| format!("{{{}}}", part.as_str()));
                    (bad.to_string(), format!("the parts are {}", parts.join(", ")))
                }
            }),
        )
    }
}

/// A token of HTTP.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The name of a header that may be changed, in lower case.
pub(super) fn header_name(text: &str) -> Result<String, Refusal> {
    let name = text.to_ascii_lowercase();
    // Servers that turn `-` into `_` could not tell it from another one.
    if !is_token(&name) || name.contains('_') {
        return Err((
            "not the name of a header".to_owned(),
            "write letters, digits and hyphens: \"X-Tenant\"".to_owned(),
        ));
    }
    if NEVER.contains(&name.as_str()) {
        return Err((
            "this header is Mainstay's own, because it says where a message ends or where it goes".to_owned(),
            "remove it".to_owned(),
        ));
    }
    Ok(name)
}
