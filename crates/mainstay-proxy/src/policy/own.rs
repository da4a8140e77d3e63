//! Requests of Mainstay's own, which come in by the front door as visitors' do and are none of theirs.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;

/// The `X-Request-Id` by which a look at Mainstay's own front door is known. Another one in every process, and nobody's guess;
/// whoever reads it in a server's log could at most go uncounted, and only from this machine.
pub fn own_request_id() -> &'static str {
    static ID: LazyLock<String> = LazyLock::new(|| {
        let random = || RandomState::new().build_hasher().finish();
        format!("{:016x}{:016x}", random(), random())
    });
    &ID
}

/// A request with this id from there, at this listener, is Mainstay's own.
pub(crate) fn is_own(
    id: Option<&[u8]>,
    from: Option<IpAddr>,
    listener: impl FnOnce() -> Option<IpAddr>,
) -> bool {
    id == Some(own_request_id().as_bytes())
        && from.is_some_and(|from| from.is_loopback() || Some(from) == listener())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_say_that_a_request_is_its_own() {
        let id = Some(own_request_id().as_bytes());
        assert_eq!(own_request_id().len(), 32);
        let at = |ip: [u8; 4]| Some(IpAddr::from(ip));
        let every = || at([0, 0, 0, 0]);
        assert!(is_own(id, at([127, 0, 0, 1]), every));
        assert!(is_own(id, at([192, 0, 2, 1]), || at([192, 0, 2, 1])), "who listens there asks from there");
        assert!(!is_own(id, at([192, 0, 2, 1]), every));
        assert!(!is_own(id, None, every));
        assert!(!is_own(Some(b"mine"), at([127, 0, 0, 1]), every));
        assert!(!is_own(None, at([127, 0, 0, 1]), every));
    }
}
