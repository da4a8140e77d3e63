//! Keeping to a server: the key of a request that is hashed, and the cookie by which a visitor comes back to its server.
//!
//! The cookie's value is a MAC of the service's and the server's name: nobody can make one for a server that did not answer
//! them, it says nothing of the server, and it is the same for all visitors of a server, so that it tells none of them
//! from another.

use std::fmt;
use std::net::IpAddr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use mainstay_model::ServerId;
use mainstay_model::affinity::{HashBy, Sticky};
use sha2::Sha256;

use super::visitor::{HashKey, Network};

/// 128 bits: beyond all guessing.
const ID_BYTES: usize = 16;

/// The key of the cookies' ids. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SessionKey([u8; 32]);

impl SessionKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What stands for a server in a cookie.
    pub(crate) fn id(&self, server: &ServerId) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(b"session\0");
        mac.update(server.service.as_str().as_bytes());
        mac.update(b"\0");
        mac.update(server.name.as_bytes());
        let bytes = mac.finalize().into_bytes();
        bytes[..ID_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

/// The pairs of Cookie lines, each as it was sent.
fn pairs<'v>(lines: impl Iterator<Item = &'v [u8]>) -> impl Iterator<Item = &'v [u8]> {
    lines.flat_map(|line| line.split(|&b| b == b';')).map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

fn named<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// The first value of a cookie in Cookie lines.
pub(crate) fn cookie<'v>(lines: impl Iterator<Item = &'v [u8]>, name: &str) -> Option<&'v [u8]> {
    pairs(lines).find_map(|pair| named(pair, name))
}

/// Adds a Cookie line of all cookies but one; nothing if none is left.
pub(crate) fn cookies_without<'v>(lines: impl Iterator<Item = &'v [u8]>, name: &str, out: &mut Vec<u8>) {
    let mut first = true;
    for pair in pairs(lines).filter(|pair| named(pair, name).is_none()) {
        out.extend_from_slice(if std::mem::take(&mut first) { b"Cookie: " } else { b"; " });
        out.extend_from_slice(pair);
    }
    if !first {
        out.extend_from_slice(b"\r\n");
    }
}

/// Adds the line that gives a visitor its server's id.
pub(crate) fn set_cookie(sticky: &Sticky, id: &str, secure: bool, out: &mut Vec<u8>) {
    let max_age = sticky.max_age.map_or_else(String::new, |age| format!("; Max-Age={}", age.as_secs()));
    let secure = if secure { "; Secure" } else { "" };
    let line = format!(
        "Set-Cookie: {}={id}; Path={}{max_age}; HttpOnly; SameSite=Lax{secure}\r\n",
        sticky.cookie, sticky.path
    );
    out.extend_from_slice(line.as_bytes());
}

/// The key of a request, as a hash that is the same on every worker and in every run. `values`: those of the header lines
/// of a name in lower case. `None`: the request has no such key, and nothing is known of its visitor.
pub(crate) fn key<'v>(
    by: &HashBy,
    target: &'v str,
    visitor: Option<IpAddr>,
    values: impl Fn(&str) -> Vec<&'v [u8]>,
) -> Option<u64> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let value = match by {
        HashBy::Visitor => None,
        HashBy::Path => Some(path.as_bytes()),
        HashBy::Query(name) => {
            let mut parameters = query.split('&').filter_map(|pair| pair.split_once('='));
            parameters.find(|(key, _)| key == name).map(|(_, value)| value.as_bytes())
        }
        HashBy::Cookie(name) => cookie(values("cookie").into_iter(), name),
        HashBy::Header(name) => values(name).first().copied(),
    };
    match value {
        Some(value) => Some(hash(value)),
        None => visitor.map(|visitor| Network::of(visitor).hash(&HashKey::new([0; 16]))),
    }
}

/// FNV-1a (Fowler, Noll, Vo) of some bytes, stirred: alike names lie far apart.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    stir(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) fn stir(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mainstay_model::ServiceId;

    use super::*;

    fn lines(all: &'static [&'static str]) -> impl Iterator<Item = &'static [u8]> {
        all.iter().map(|line| line.as_bytes())
    }

    #[test]
    fn a_cookie_is_found_among_others_and_taken_out() {
        const LINES: &[&str] = &["a=1; keep=x;  b = 2", "keeper=3; keep=second;", ""];
        assert_eq!(cookie(lines(LINES), "keep"), Some(&b"x"[..]));
        assert_eq!(cookie(lines(LINES), "kee"), None);
        assert_eq!(cookie(lines(&["KEEP=1; =keep; keep"]), "keep"), None);
        let mut out = Vec::new();
        cookies_without(lines(LINES), "keep", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "Cookie: a=1; b = 2; keeper=3\r\n");
        let mut out = Vec::new();
        cookies_without(lines(&["keep=1"]), "keep", &mut out);
        assert_eq!(out, b"");
    }

    #[test]
    fn an_id_tells_nothing_and_nobody_makes_one_without_the_key() {
        let (key, other) = (SessionKey::new([1; 32]), SessionKey::new([2; 32]));
        let (shop, blog) = (ServiceId::new("shop"), ServiceId::new("blog"));
        let ids = [
            key.id(&shop.server("app-1")),
            key.id(&shop.server("app-2")),
            key.id(&blog.server("app-1")),
            other.id(&shop.server("app-1")),
        ];
        for (i, id) in ids.iter().enumerate() {
            assert!(id.len() == 32 && !ids[..i].contains(id), "{ids:?}");
        }
        assert_eq!(key.id(&shop.server("app-1")), ids[0]);
        assert_eq!(format!("{key:?}"), "SessionKey(…)");
    }

    #[test]
    fn a_cookie_is_written_with_what_protects_it() {
        let sticky = Sticky {
            cookie: "srv".into(),
            path: "/shop".into(),
            max_age: Some(Duration::from_secs(60)),
            drain: Sticky::DRAIN,
        };
        let mut out = Vec::new();
        set_cookie(&sticky, "id", true, &mut out);
        let expected = "Set-Cookie: srv=id; Path=/shop; Max-Age=60; HttpOnly; SameSite=Lax; Secure\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
        let mut out = Vec::new();
        set_cookie(&Sticky { max_age: None, ..sticky }, "id", false, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "Set-Cookie: srv=id; Path=/shop; HttpOnly; SameSite=Lax\r\n"
        );
    }

    #[test]
    fn a_request_without_the_key_goes_by_its_visitor() {
        let visitor: Option<IpAddr> = Some([192, 0, 2, 1].into());
        let of = |by: &HashBy, target: &'static str, header: Option<&'static str>| {
            key(by, target, visitor, |_| header.map(str::as_bytes).into_iter().collect())
        };
        let by_visitor = of(&HashBy::Visitor, "/", None);
        for by in [HashBy::Header("x".into()), HashBy::Cookie("c".into()), HashBy::Query("q".into())] {
            assert_eq!(of(&by, "/a?b=1", None), by_visitor, "{by:?}");
        }
        assert_eq!(of(&HashBy::Header("x".into()), "/", Some("v")), Some(hash(b"v")));
        assert_eq!(of(&HashBy::Cookie("c".into()), "/", Some("a=b; c=v")), Some(hash(b"v")));
        assert_eq!(of(&HashBy::Query("q".into()), "/a?b=1&q=v&q=w", None), Some(hash(b"v")));
        assert_eq!(of(&HashBy::Path, "/v?x", None), Some(hash(b"/v")));
    }
}
