//! Where jobs ping: the secret address of each, and the door through which pings come in. The dashboard opens the door, the engine
//! takes what comes through it, and the command line knows the addresses.
//!
//! A ping is answered when it is in the record. What waits is bounded, in number and in bytes; one more is refused by name and
//! counted, so that whoever pings tries again.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mainstay_model::MonitorId;
use mainstay_model::heartbeat::Ping;
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot};

use crate::key_file::{self, KEY_BYTES};

const FILE: &str = "heartbeat.key";
/// 128 bits: beyond all guessing, and 22 characters.
const TOKEN_BYTES: usize = 16;
/// Pings that may wait to be judged.
const WAITING_MAX: usize = 20_000;
/// Bytes of logs that may wait with them.
const BYTES_MAX: usize = 16 << 20;

type Token = [u8; TOKEN_BYTES];

/// Makes the secret part of each job's address, by a key of the data directory: the same after every restart.
pub struct Tokens([u8; KEY_BYTES]);

impl Tokens {
    /// Reads the key, or makes one. Blocks for a moment.
    ///
    /// # Errors
    /// When the file can neither be read nor written.
    pub fn open(data: &Path) -> io::Result<Self> {
        key_file::read_or_make(&data.join(FILE), "jobs that ping have other addresses now").map(Self)
    }

    fn token(&self, job: &MonitorId) -> Token {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(b"heartbeat\0");
        mac.update(job.as_str().as_bytes());
        let bytes = mac.finalize().into_bytes();
        let mut token = [0; TOKEN_BYTES];
        token.copy_from_slice(&bytes[..TOKEN_BYTES]);
        token
    }

    /// The path at which a job pings.
    pub fn path(&self, job: &MonitorId) -> String {
        format!("/ping/{}", URL_SAFE_NO_PAD.encode(self.token(job)))
    }
}

/// Never printed.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

/// A ping that was let in.
#[derive(Debug)]
pub struct Taken {
    /// What it says.
    pub ping: Ping,
    /// Told when it is in the record.
    pub done: oneshot::Sender<()>,
    /// Its bytes, given back when it was judged.
    _room: Room,
}

/// Why a ping is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No job has this address.
    Unknown,
    /// What it says is nothing that a job says.
    Malformed,
    /// Its body did not come in time.
    Slow,
    /// Too many wait already, or it could not be written down in time.
    Busy,
}

impl Refused {
    /// All of them.
    pub const ALL: [Refused; 4] = [Refused::Unknown, Refused::Malformed, Refused::Slow, Refused::Busy];

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Unknown => "unknown-address",
            Refused::Malformed => "malformed",
            Refused::Slow => "slow-body",
            Refused::Busy => "busy",
        }
    }
}

/// Through which pings come in.
#[derive(Debug)]
pub struct Door {
    jobs: RwLock<HashMap<Token, MonitorId>>,
    sender: mpsc::Sender<Taken>,
    bytes: Arc<AtomicUsize>,
    refused: [AtomicU64; Refused::ALL.len()],
}

impl Door {
    /// A door for no job yet, and where its pings come out.
    pub fn new() -> (Self, mpsc::Receiver<Taken>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (
            Self { jobs: RwLock::default(), sender, bytes: Arc::default(), refused: Default::default() },
            receiver,
        )
    }

    /// Which jobs there are.
    pub fn open_for<'a>(&self, tokens: &Tokens, jobs: impl Iterator<Item = &'a MonitorId>) {
        let jobs = jobs.map(|job| (tokens.token(job), job.clone())).collect();
        *self.jobs.write().unwrap_or_else(PoisonError::into_inner) = jobs;
    }

    /// There is none.
    pub fn close(&self) {
        self.jobs.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whose address this is. Takes as long for one that is nobody's: the table is searched by a keyed hash.
    ///
    /// # Errors
    /// When it is nobody's.
    pub fn job(&self, token: &str) -> Result<MonitorId, Refused> {
        let mut bytes = Token::default();
        let decoded = URL_SAFE_NO_PAD.decode_slice_unchecked(token.get(..22).unwrap_or_default(), &mut bytes);
        let whole = token.len() == 22 && decoded == Ok(TOKEN_BYTES);
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let found = jobs.get(&bytes).filter(|_| whole).cloned();
        found.ok_or_else(|| self.refuse(Refused::Unknown))
    }

    /// Takes a ping in; the answer comes when it is in the record.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn take(&self, ping: Ping) -> Result<oneshot::Receiver<()>, Refused> {
        let room = Room::of(&self.bytes, ping.tail.as_ref().map_or(0, |tail| tail.len()));
        let (done, answer) = oneshot::channel();
        let taken = room.map(|room| Taken { ping, done, _room: room });
        match taken.map(|taken| self.sender.try_send(taken)) {
            Some(Ok(())) => Ok(answer),
            _ => Err(self.refuse(Refused::Busy)),
        }
    }

    /// Counts a refusal.
    pub fn refuse(&self, why: Refused) -> Refused {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        why
    }

    /// What was refused since Mainstay started, by name.
    pub fn refused(&self) -> [(&'static str, u64); Refused::ALL.len()] {
        Refused::ALL.map(|why| (why.as_str(), self.refused[why as usize].load(Ordering::Relaxed)))
    }
}

/// A share of the bytes that may wait.
#[derive(Debug)]
struct Room {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    fn of(all: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let room = Self { all: Arc::clone(all), bytes };
        // What does not fit is given back when it is dropped.
        (all.fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES_MAX).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::heartbeat::PingKind;

    use super::*;

    fn job(name: &str) -> MonitorId {
        MonitorId::new(name)
    }

    fn token(tokens: &Tokens, name: &str) -> String {
        tokens.path(&job(name)).strip_prefix("/ping/").unwrap().to_owned()
    }

    #[test]
    fn an_address_is_one_jobs_and_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let (door, _pings) = Door::new();
        door.open_for(&tokens, [job("a"), job("b")].iter());
        assert_eq!(door.job(&token(&tokens, "b")), Ok(job("b")));
        assert_eq!(door.job(&token(&Tokens::open(folder.path()).unwrap(), "a")), Ok(job("a")));
        for wrong in [
            "",
            "a",
            "AAAAAAAAAAAAAAAAAAAAAA",
            &token(&tokens, "c"),
            &format!("{}A", token(&tokens, "a")),
            "ääääääääääääääääääääää",
        ] {
            assert_eq!(door.job(wrong), Err(Refused::Unknown), "{wrong}");
        }
        assert_eq!(door.refused()[0], ("unknown-address", 6));
        let other = Tokens::open(tempfile::tempdir().unwrap().path()).unwrap();
        assert!(door.job(&token(&other, "a")).is_err(), "another data directory has other addresses");
        door.close();
        assert!(door.job(&token(&tokens, "a")).is_err());
    }

    #[test]
    fn what_waits_is_bounded_and_one_more_is_refused_and_counted() {
        let (door, mut pings) = Door::new();
        let ping = |bytes: usize| Ping {
            monitor: job("a"),
            kind: PingKind::Success,
            tail: (bytes > 0).then(|| "x".repeat(bytes).into()),
        };
        let fits = BYTES_MAX / Ping::TAIL_MAX;
        for _ in 0..fits {
            assert!(door.take(ping(Ping::TAIL_MAX)).is_ok());
        }
        assert!(door.take(ping(Ping::TAIL_MAX)).is_err());
        drop(pings.try_recv());
        assert!(door.take(ping(Ping::TAIL_MAX)).is_ok(), "what was judged makes room");
        for _ in fits..WAITING_MAX {
            assert!(door.take(ping(0)).is_ok());
        }
        assert!(door.take(ping(0)).is_err());
        assert_eq!(door.refused()[3], ("busy", 2));
    }
}
