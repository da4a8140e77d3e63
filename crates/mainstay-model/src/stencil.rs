//! Texts with named parts of a request in them, `https://{host}{uri}`: for redirects and for headers that Mainstay writes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text with named parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stencil(Vec<Piece>);

/// A piece of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// To be filled in.
    Part(Part),
}

/// What can be filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The request's host, without its port.
    Host,
    /// `http` or `https`, as the visitor came.
    Scheme,
    /// The request's method.
    Method,
    /// The request's path, as it was sent.
    Path,
    /// The request's path and query.
    Uri,
    /// The request's query with its question mark; nothing without one.
    Query,
    /// What follows the route's path, and the query.
    Rest,
    /// The visitor's address.
    Visitor,
    /// The request's id.
    RequestId,
    /// The service that answers.
    Service,
}

impl Part {
    /// All, in the order in which they are told of.
    pub const ALL: [Part; 10] = [
        Part::Host,
        Part::Scheme,
        Part::Method,
        Part::Path,
        Part::Uri,
        Part::Query,
        Part::Rest,
        Part::Visitor,
        Part::RequestId,
        Part::Service,
    ];

    /// The word between the braces.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Host => "host",
            Part::Scheme => "scheme",
            Part::Method => "method",
            Part::Path => "path",
            Part::Uri => "uri",
            Part::Query => "query",
            Part::Rest => "rest",
            Part::Visitor => "visitor",
            Part::RequestId => "request-id",
            Part::Service => "service",
        }
    }
}

/// Why a text is no stencil.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStencil {
    /// There is no part of this name.
    #[error("there is no part {{{0}}}")]
    UnknownPart(String),
    /// A brace that opens nothing or closes nothing.
    #[error("a brace that opens or closes nothing")]
    LoneBrace,
}

impl Stencil {
    /// Reads a text; `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// When it names a part that there is not, or has a lone brace.
    pub fn parse(text: &str) -> Result<Self, BadStencil> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let (name, after) = rest.split_once('}').filter(|_| brace == "{").ok_or(BadStencil::LoneBrace)?;
            let part = Part::ALL.into_iter().find(|part| part.as_str() == name);
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Part(part.ok_or_else(|| BadStencil::UnknownPart(name.to_owned()))?));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Its pieces in their order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }
}

impl fmt::Display for Stencil {
    /// As it is written in a config.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Piece::Part(part) => write!(f, "{{{}}}", part.as_str())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stencil_is_read_and_written_alike() {
        for text in ["", "plain", "https://{host}{uri}", "{{{host}}}", "a{request-id}b{visitor}"] {
            assert_eq!(Stencil::parse(text).expect(text).to_string(), text);
        }
        let pieces = Stencil::parse("/new{rest}").expect("a stencil");
        assert_eq!(pieces.pieces(), [Piece::Text("/new".into()), Piece::Part(Part::Rest)]);
    }

    #[test]
    fn what_names_nothing_is_told() {
        assert_eq!(Stencil::parse("{hots}"), Err(BadStencil::UnknownPart("hots".into())));
        assert_eq!(Stencil::parse("{}"), Err(BadStencil::UnknownPart(String::new())));
        for lone in ["{host", "host}", "a } b"] {
            assert_eq!(Stencil::parse(lone), Err(BadStencil::LoneBrace), "{lone}");
        }
    }
}
