//! Signed links by which somebody who was told takes an incident on, or decides on a proposal, without logging in: what alerts
//! write into messages and the dashboard reads back.
//!
//! A link holds the number of the incident or of the proposal, a short tag of the person, the time at which it expires, and a MAC over them by a key of this
//! data directory. It says nothing else, opens nothing else, and is as short as a text message needs it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mainstay_model::escalation::Recipient;
use mainstay_model::{IncidentId, Wall};
use sha2::Sha256;

use crate::key_file::{self, KEY_BYTES};

/// A link can be used for so long after its message.
pub const VALID: Duration = Duration::from_secs(24 * 3600);

const FILE: &str = "ack.key";
/// 96 bits of the MAC: beyond all guessing, and 16 characters.
const MAC_BYTES: usize = 12;
const TAG_BYTES: usize = 4;
const MINUTE_MS: i64 = 60_000;
/// Incident or proposal (4 bytes), the minute of expiry (4), the person (4).
const CLAIM_BYTES: usize = 8 + TAG_BYTES;

/// Makes and reads links; without a key it does neither.
#[derive(Debug)]
pub struct Links {
    file: PathBuf,
    key: OnceLock<Key>,
}

/// Never printed.
struct Key([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a link is good for; one that is for the one is of no use for the other.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    TakeOn,
    Decide,
}

impl Purpose {
    fn salt(self) -> &'static [u8] {
        match self {
            Purpose::TakeOn => b"link",
            Purpose::Decide => b"decide",
        }
    }
}

/// What a link says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The number of the one incident, or of the one proposal, that it is for.
    pub number: u64,
    person: [u8; TAG_BYTES],
}

/// Why a link is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was not made here.
    #[error("it is not a link of this Mainstay")]
    Forged,
    /// It is too old.
    #[error("it has expired")]
    Expired,
}

impl Links {
    /// Links by the key of a data directory, which is read or made by [`Links::prepare`].
    pub fn new(data: &Path) -> Self {
        Self { file: data.join(FILE), key: OnceLock::new() }
    }

    /// Reads the key, or makes one; nothing when that was done. Blocks for a moment.
    ///
    /// # Errors
    /// When the file can neither be read nor written; there are no links then.
    pub fn prepare(&self) -> io::Result<()> {
        if self.key.get().is_none() {
            let key = Key(key_file::read_or_make(&self.file, "links in older messages are void")?);
            // Another call may have been quicker; it read the same file.
            let _ = self.key.set(key);
        }
        Ok(())
    }

    /// The link for somebody who is told of an incident at `at`: the same at every attempt.
    pub fn link(&self, dashboard: &str, incident: IncidentId, to: &Recipient, at: Wall) -> Option<String> {
        let token = self.token(Purpose::TakeOn, incident.0, to, at)?;
        Some(format!("{}/ack/{token}", dashboard.trim_end_matches('/')))
    }

    /// The link for somebody who is asked at `at` to decide on a proposal.
    pub fn decision(&self, dashboard: &str, proposal: u64, to: &Recipient, at: Wall) -> Option<String> {
        let token = self.token(Purpose::Decide, proposal, to, at)?;
        Some(format!("{}/decide/{token}", dashboard.trim_end_matches('/')))
    }

    /// What the last part of a link to take an incident on says.
    ///
    /// # Errors
    /// When it was not made here, or is too old.
    pub fn read(&self, token: &str, now: Wall) -> Result<Claim, Refused> {
        self.claim(Purpose::TakeOn, token, now)
    }

    /// What the last part of a link to decide on a proposal says. Whether that is still open is not its matter.
    ///
    /// # Errors
    /// When it was not made here, or is too old.
    pub fn read_decision(&self, token: &str, now: Wall) -> Result<Claim, Refused> {
        self.claim(Purpose::Decide, token, now)
    }

    fn token(&self, purpose: Purpose, number: u64, to: &Recipient, at: Wall) -> Option<String> {
        let key = self.key.get()?;
        let valid = i64::try_from(VALID.as_millis()).unwrap_or(i64::MAX);
        let expires = at.0.saturating_add(valid).div_euclid(MINUTE_MS).saturating_add(1);
        let mut bytes = Vec::with_capacity(CLAIM_BYTES + MAC_BYTES);
        bytes.extend(u32::try_from(number).ok()?.to_be_bytes());
        bytes.extend(u32::try_from(expires).ok()?.to_be_bytes());
        bytes.extend(key.tag(to));
        let mac = key.mac(purpose.salt(), &bytes).finalize().into_bytes();
        bytes.extend(&mac[..MAC_BYTES]);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn claim(&self, purpose: Purpose, token: &str, now: Wall) -> Result<Claim, Refused> {
        let key = self.key.get().ok_or(Refused::Forged)?;
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Refused::Forged)?;
        let (claim, mac) = bytes.split_at_checked(CLAIM_BYTES).ok_or(Refused::Forged)?;
        if mac.len() != MAC_BYTES {
            return Err(Refused::Forged);
        }
        // In a time that depends on none of the bytes.
        key.mac(purpose.salt(), claim).verify_truncated_left(mac).map_err(|_| Refused::Forged)?;
        let number = |at: usize| claim[at..at + 4].iter().fold(0u32, |n, byte| (n << 8) | u32::from(*byte));
        if now.0 >= i64::from(number(4)).saturating_mul(MINUTE_MS) {
            return Err(Refused::Expired);
        }
        let mut person = [0; TAG_BYTES];
        person.copy_from_slice(&claim[8..]);
        Ok(Claim { number: u64::from(number(0)), person })
    }

    /// Whether a link was made for this person.
    pub fn is_for(&self, claim: &Claim, to: &Recipient) -> bool {
        self.key.get().is_some_and(|key| key.tag(to) == claim.person)
    }
}

impl Key {
    fn mac(&self, purpose: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(purpose);
        mac.update(b"\0");
        mac.update(bytes);
        mac
    }

    /// Tells the people of an incident apart, and nothing else.
    fn tag(&self, to: &Recipient) -> [u8; TAG_BYTES] {
        let who = format!("{} {}", to.way.as_str(), to.address);
        let mac = self.mac(b"person", who.as_bytes()).finalize().into_bytes();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&mac[..TAG_BYTES]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use mainstay_model::escalation::Way;

    use super::*;

    const NOW: Wall = Wall(1_795_335_968_123);

    fn ada() -> Recipient {
        Recipient { way: Way::Sms, address: "+491701234567".to_owned(), name: "Ada".to_owned() }
    }

    fn bob() -> Recipient {
        Recipient { way: Way::Email, address: "bob@example.com".to_owned(), name: "Bob".to_owned() }
    }

    fn links(folder: &Path) -> Links {
        let links = Links::new(folder);
        links.prepare().unwrap();
        links
    }

    fn token(links: &Links, incident: u64, to: &Recipient) -> String {
        let link = links.link("https://ops.example.com/", IncidentId(incident), to, NOW).unwrap();
        link.strip_prefix("https://ops.example.com/ack/").unwrap().to_owned()
    }

    #[test]
    fn a_link_is_for_one_incident_and_one_person_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let links = links(folder.path());
        let token = token(&links, 7, &ada());
        assert!(token.len() <= 32, "{token}");
        let claim = links.read(&token, NOW).unwrap();
        assert_eq!(claim.number, 7);
        assert!(links.is_for(&claim, &ada()) && !links.is_for(&claim, &bob()));
        let later = |hours: i64| Wall(NOW.0 + hours * 3_600_000);
        assert_eq!(links.read(&token, later(24)), Ok(claim));
        assert_eq!(links.read(&token, later(25)), Err(Refused::Expired));
    }

    #[test]
    fn a_link_to_take_on_decides_nothing_and_the_other_way_round() {
        let folder = tempfile::tempdir().unwrap();
        let links = links(folder.path());
        let take_on = token(&links, 7, &ada());
        let decide = links.decision("", 7, &ada(), NOW).unwrap();
        let decide = decide.strip_prefix("/decide/").unwrap();
        assert_eq!(links.read_decision(decide, NOW).map(|claim| claim.number), Ok(7));
        assert_eq!(links.read_decision(&take_on, NOW), Err(Refused::Forged));
        assert_eq!(links.read(decide, NOW), Err(Refused::Forged));
    }

    #[test]
    fn no_other_bytes_make_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let links = links(folder.path());
        let token = token(&links, 7, &ada());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(links.read(&URL_SAFE_NO_PAD.encode(forged), NOW), Err(Refused::Forged), "bit {bit}");
        }
        for length in 0..bytes.len() {
            let cut = URL_SAFE_NO_PAD.encode(&bytes[..length]);
            assert_eq!(links.read(&cut, NOW), Err(Refused::Forged), "{length} bytes");
        }
        for nonsense in ["", "?", "ä", &format!("{token}A"), &"A".repeat(10_000)] {
            assert_eq!(links.read(nonsense, NOW), Err(Refused::Forged));
        }
    }

    #[test]
    fn the_key_outlives_a_restart_is_for_its_owner_alone_and_another_directory_has_another() {
        let folder = tempfile::tempdir().unwrap();
        let token = token(&links(folder.path()), 7, &ada());
        let file = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(links(folder.path()).read(&token, NOW).is_ok());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_eq!(links(other.path()).read(&token, NOW), Err(Refused::Forged));
        std::fs::write(&file, "too short").unwrap();
        assert_eq!(links(folder.path()).read(&token, NOW), Err(Refused::Forged), "a new key was made");
        assert_eq!(std::fs::read(&file).unwrap().len(), KEY_BYTES);
    }

    #[test]
    fn without_a_key_there_are_no_links() {
        let folder = tempfile::tempdir().unwrap();
        let links = Links::new(&folder.path().join("nowhere"));
        assert!(links.prepare().is_err());
        assert_eq!(links.link("https://ops.example.com", IncidentId(7), &ada(), NOW), None);
        assert_eq!(links.read("AAAA", NOW), Err(Refused::Forged));
    }
}
