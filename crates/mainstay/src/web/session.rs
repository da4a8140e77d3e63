//! Who is logged in, and how often somebody may be wrong. Both tables are bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Sessions at a time; one more ends the one that was idle longest.
const SESSIONS_MAX: usize = 256;
/// A session that was not used for so long is over.
const IDLE_MAX: Duration = Duration::from_secs(12 * 3600);
/// A session is over after this, used or not.
pub(super) const AGE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Wrong attempts that one address may make at once.
const BURST: f64 = 5.0;
/// Then one attempt in this time.
const REFILL: Duration = Duration::from_secs(6);
/// Wrong attempts that all addresses together may make at once, refilled ten times as fast as one address's.
const BURST_ALL: f64 = 50.0;
/// Addresses that are told apart; the rest share one allowance.
const ADDRESSES_MAX: usize = 1024;

/// What a session is known by here: the hash of what its browser holds, so that a look-up tells nothing by its timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey([u8; 32]);

impl SessionKey {
    pub(super) fn of(id: &str) -> Self {
        Self(Sha256::digest(id.as_bytes()).into())
    }
}

#[derive(Debug, Clone, Copy)]
struct Session {
    began: Instant,
    used: Instant,
}

/// The browsers that are logged in. They are forgotten when Mainstay stops.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_key: BTreeMap<SessionKey, Session>,
}

impl Sessions {
    /// Begins a session; returns what the browser is to hold.
    pub(super) fn begin(&mut self, now: Instant) -> Result<String, getrandom::Error> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret)?;
        let id = secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.by_key.retain(|_, session| session.is_valid(now));
        while self.by_key.len() >= SESSIONS_MAX {
            let Some(oldest) = self.by_key.iter().min_by_key(|(_, s)| s.used).map(|(key, _)| *key) else {
                break;
            };
            self.by_key.remove(&oldest);
        }
        self.by_key.insert(SessionKey::of(&id), Session { began: now, used: now });
        Ok(id)
    }

    /// The session is valid; it counts as used.
    pub(super) fn touch(&mut self, key: SessionKey, now: Instant) -> bool {
        match self.by_key.get_mut(&key) {
            Some(session) if session.is_valid(now) => {
                session.used = now;
                true
            }
            _ => false,
        }
    }

    /// The session is valid, without counting as used: for streams that stay open by themselves.
    pub(super) fn is_valid(&self, key: SessionKey, now: Instant) -> bool {
        self.by_key.get(&key).is_some_and(|session| session.is_valid(now))
    }

    pub(super) fn end(&mut self, key: SessionKey) {
        self.by_key.remove(&key);
    }

    /// Everybody has to log in again: the password was changed.
    pub(super) fn end_all(&mut self) {
        self.by_key.clear();
    }
}

impl Session {
    fn is_valid(&self, now: Instant) -> bool {
        now.duration_since(self.used) < IDLE_MAX && now.duration_since(self.began) < AGE_MAX
    }
}

/// Compares two secrets in a time that depends on neither, nor on their lengths.
pub(super) fn same_secret(given: &str, expected: &str) -> bool {
    let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
    let expected: [u8; 32] = Sha256::digest(expected.as_bytes()).into();
    given.ct_eq(&expected).into()
}

/// How many wrong attempts are left. Right ones cost nothing.
#[derive(Debug)]
pub(super) struct Attempts {
    all: Allowance,
    others: Allowance,
    by_address: BTreeMap<IpAddr, Allowance>,
}

#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Attempts {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all: Allowance { left: BURST_ALL, at: now },
            others: Allowance { left: BURST, at: now },
            by_address: BTreeMap::new(),
        }
    }

    /// Whether this address may try now; otherwise the seconds until it may.
    pub(super) fn check(&mut self, address: Option<IpAddr>, now: Instant) -> Result<(), u32> {
        self.all.refill(BURST_ALL, REFILL / 10, now);
        let own = self.of(address, now);
        own.refill(BURST, REFILL, now);
        if own.left < 1.0 || self.all.left < 1.0 {
            return Err(u32::try_from(REFILL.as_secs()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Counts one that was wrong.
    pub(super) fn wrong(&mut self, address: Option<IpAddr>, now: Instant) {
        self.all.left -= 1.0;
        self.of(address, now).left -= 1.0;
    }

    fn of(&mut self, address: Option<IpAddr>, now: Instant) -> &mut Allowance {
        let Some(address) = address.map(network_of) else { return &mut self.others };
        if !self.by_address.contains_key(&address) {
            if self.by_address.len() >= ADDRESSES_MAX {
                self.by_address.retain(|_, allowance| {
                    allowance.refill(BURST, REFILL, now);
                    allowance.left < BURST
                });
            }
            if self.by_address.len() >= ADDRESSES_MAX {
                return &mut self.others;
            }
        }
        self.by_address.entry(address).or_insert(Allowance { left: BURST, at: now })
    }
}

impl Allowance {
    fn refill(&mut self, most: f64, each: Duration, now: Instant) {
        let gained = now.duration_since(self.at).as_secs_f64() / each.as_secs_f64();
        self.left = (self.left + gained).min(most);
        self.at = now;
    }
}

/// One customer of a network has a whole /64 of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let s = v6.segments();
            IpAddr::from([s[0], s[1], s[2], s[3], 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_idle_when_old_and_when_ended() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        let key = SessionKey::of(&sessions.begin(now).unwrap());
        assert!(sessions.touch(key, now + IDLE_MAX - Duration::from_secs(1)));
        assert!(!sessions.touch(key, now + IDLE_MAX * 2));

        let mut at = now;
        let key = SessionKey::of(&sessions.begin(now).unwrap());
        while at + IDLE_MAX / 2 < now + AGE_MAX {
            at += IDLE_MAX / 2;
            assert!(sessions.touch(key, at));
        }
        assert!(!sessions.touch(key, now + AGE_MAX));

        let key = SessionKey::of(&sessions.begin(now).unwrap());
        sessions.end(key);
        assert!(!sessions.is_valid(key, now));
    }

    #[test]
    fn sessions_are_bounded_and_the_longest_idle_one_goes_first() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        let first = SessionKey::of(&sessions.begin(now).unwrap());
        let second = SessionKey::of(&sessions.begin(now + Duration::from_secs(1)).unwrap());
        for _ in 2..=SESSIONS_MAX {
            sessions.begin(now + Duration::from_secs(2)).unwrap();
        }
        assert_eq!(sessions.by_key.len(), SESSIONS_MAX);
        assert!(!sessions.is_valid(first, now));
        assert!(sessions.is_valid(second, now + Duration::from_secs(2)));
    }

    #[test]
    fn wrong_attempts_run_out_and_come_back_and_right_ones_are_free() {
        let now = Instant::now();
        let mut attempts = Attempts::new(now);
        let somebody = Some("10.0.0.1".parse().unwrap());
        for _ in 0..100 {
            assert_eq!(attempts.check(somebody, now), Ok(()));
        }
        for _ in 0..5 {
            assert_eq!(attempts.check(somebody, now), Ok(()));
            attempts.wrong(somebody, now);
        }
        assert!(attempts.check(somebody, now).is_err());
        assert_eq!(attempts.check(Some("10.0.0.2".parse().unwrap()), now), Ok(()));
        assert_eq!(attempts.check(somebody, now + REFILL), Ok(()));
    }

    #[test]
    fn a_whole_ipv6_network_shares_one_allowance_and_the_table_is_bounded() {
        let now = Instant::now();
        let mut attempts = Attempts::new(now);
        for host in 0..5u16 {
            attempts.wrong(Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host])), now);
        }
        assert!(attempts.check(Some("2001:db8:0:1::ffff".parse().unwrap()), now).is_err());
        for n in 0..5000u32 {
            let _ = attempts.check(Some(IpAddr::from(n.to_be_bytes())), now);
            attempts.wrong(Some(IpAddr::from(n.to_be_bytes())), now);
        }
        assert!(attempts.by_address.len() <= ADDRESSES_MAX);
        assert!(
            attempts.check(Some("10.9.9.9".parse().unwrap()), now).is_err(),
            "all together are bounded too"
        );
    }

    #[test]
    fn secrets_are_the_same_only_when_equal() {
        assert!(same_secret("correct horse", "correct horse"));
        assert!(!same_secret("correct horse ", "correct horse"));
        assert!(!same_secret("", "correct horse"));
    }
}
