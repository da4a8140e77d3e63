//! The address of the page as its visitor writes it, and as it is asked for: with or without a scheme, an IPv6 literal, a port, a
//! name in any script, and with a user and password that are sent where they belong and never shown.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use base64::Engine as _;
use reqwest::Url;
use thiserror::Error;

use crate::cli::paint::clean;

/// A page to be looked at.
#[derive(Clone)]
pub(super) struct Target {
    url: Url,
    /// The value of an `Authorization` header.
    login: Option<String>,
}

/// Why a text is no address of a page.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum BadUrl {
    /// There is nothing.
    #[error("there is no address; write one like shop.example.com or https://shop.example.com/basket")]
    Empty,
    /// `ftp://…`
    #[error("`{0}` cannot be checked, only http and https can; write https://shop.example.com/")]
    Scheme(String),
    /// Anything else.
    #[error(
        "`{text}` is no address of a page ({reason}); write one like https://shop.example.com/basket or http://[2001:db8::1]:8080/"
    )]
    Malformed {
        /// As written, without user and password.
        text: String,
        /// What the reader stumbled over.
        reason: String,
    },
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// In the letters of DNS (punycode).
    Name(String),
    Address(IpAddr),
}

impl Target {
    /// Reads what a person wrote.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, BadUrl> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadUrl::Empty);
        }
        let whole = match text.parse::<Ipv6Addr>() {
            Ok(address) => format!("https://[{address}]/"),
            Err(_) if text.contains("://") => text.to_owned(),
            Err(_) => format!("https://{text}"),
        };
        let malformed = |reason: String| BadUrl::Malformed { text: without_login(text), reason };
        let url = Url::parse(&whole).map_err(|error| malformed(error.to_string()))?;
        Self::from_url(url).ok_or_else(|| {
            let (scheme, _) = whole.split_once("://").unwrap_or_default();
            match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" => malformed("there is no host in it".to_owned()),
                other => BadUrl::Scheme(clean(other)),
            }
        })
    }

    /// The page that a redirect leads to, relative to this one; `None` when that is no web address. A user and password of this page's
    /// own go along only as long as the origin stays the same; those that a redirect itself names are never sent.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let mut url = self.url.join(location).ok()?;
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        let next = Self::from_url(url)?;
        let login = self.login.clone().filter(|_| next.url.origin() == self.url.origin());
        Some(Self { login, ..next })
    }

    fn from_url(mut url: Url) -> Option<Self> {
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return None;
        }
        let login = login_of(&url);
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        url.set_fragment(None);
        Some(Self { url, login })
    }

    /// For a person's eyes and for comparing: without user and password.
    pub(super) fn shown(&self) -> &str {
        self.url.as_str()
    }

    pub(super) fn https(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }

    pub(super) fn host(&self) -> Host {
        let text = self.url.host_str().unwrap_or_default();
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Address)
    }

    /// Path and query, as they stand in a request.
    pub(super) fn path(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }

    /// The value of a `Host` header.
    pub(super) fn authority(&self) -> String {
        let mut authority = self.url.host_str().unwrap_or_default().to_owned();
        if let Some(port) = self.url.port() {
            let _ = write!(authority, ":{port}");
        }
        authority
    }

    /// The value of an `Authorization` header, if a user or password was given.
    pub(super) fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.shown()).finish()
    }
}

fn login_of(url: &Url) -> Option<String> {
    let password = url.password();
    if url.username().is_empty() && password.is_none() {
        return None;
    }
    let mut pair = unescaped(url.username());
    pair.push(b':');
    pair.extend(unescaped(password.unwrap_or_default()));
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// The bytes that `%41` and its like stand for.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

/// What was written, as far as it may be shown: all before an `@` could be a password.
fn without_login(text: &str) -> String {
    let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    clean(shown).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Target::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).shown().to_owned()
    }

    #[test]
    fn an_address_without_a_scheme_means_https() {
        assert_eq!(shown("shop.example.com"), "https://shop.example.com/");
        assert_eq!(shown(" localhost:8080/a?b=c#d "), "https://localhost:8080/a?b=c");
        assert_eq!(shown("http://Shop.Example.com:80"), "http://shop.example.com/");
        assert_eq!(shown("2001:db8::1"), "https://[2001:db8::1]/");
    }

    #[test]
    fn literals_ports_and_names_in_any_script_are_understood() {
        let target = Target::parse("http://[2001:db8::1]:8080/x").unwrap();
        assert_eq!(target.host(), Host::Address("2001:db8::1".parse().unwrap()));
        assert_eq!((target.port(), target.authority().as_str()), (8080, "[2001:db8::1]:8080"));
        let target = Target::parse("bücher.example").unwrap();
        assert_eq!(target.host(), Host::Name("xn--bcher-kva.example".to_owned()));
        assert_eq!((target.port(), target.path().as_str()), (443, "/"));
        let target = Target::parse("192.0.2.1").unwrap();
        assert_eq!(target.host(), Host::Address("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_user_and_password_are_sent_and_never_shown() {
        let target = Target::parse("https://ada:s%3Acret@shop.example.com/a").unwrap();
        assert_eq!(target.shown(), "https://shop.example.com/a");
        assert_eq!(target.login(), Some("Basic YWRhOnM6Y3JldA=="));
        assert!(!format!("{target:?}").contains("cret"));
        let error = Target::parse("https://ada:secret@shop.example.com:99999/").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(!Target::parse("https://ada:se@cret@[x]/").unwrap_err().to_string().contains("cret@"));
    }

    #[test]
    fn a_redirect_takes_the_login_along_only_to_the_same_origin() {
        let target = Target::parse("https://ada:secret@shop.example.com/a/b").unwrap();
        let same = target.join("../c").unwrap();
        assert_eq!((same.shown(), same.login().is_some()), ("https://shop.example.com/c", true));
        for elsewhere in ["//other.example.com/", "http://shop.example.com/", "https://shop.example.com:444/"]
        {
            assert_eq!(target.join(elsewhere).unwrap().login(), None, "{elsewhere}");
        }
        let named = target.join("https://eve:x@shop.example.com/").unwrap();
        assert_eq!(named.shown(), "https://shop.example.com/");
        assert_eq!(target.join("mailto:ada@example.com").map(|t| t.shown().to_owned()), None);
        assert!(target.join("http://[").is_none());
    }

    #[test]
    fn what_is_no_web_address_is_refused_with_what_to_write() {
        assert_eq!(Target::parse("  ").unwrap_err(), BadUrl::Empty);
        for text in
            ["ftp://example.com/", "https://", "http://[::1", "a b", "https://example.com:x", "http:///"]
        {
            match Target::parse(text) {
                Err(error) => assert!(error.to_string().contains("write"), "{text}: {error}"),
                // The reader of URLs is as lenient as a browser.
                Ok(target) => assert!(!target.authority().is_empty(), "{text}"),
            }
        }
        assert_eq!(Target::parse("ftp://example.com").unwrap_err(), BadUrl::Scheme("ftp".to_owned()));
    }
}
