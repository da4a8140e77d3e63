//! Logging in by SCRAM-SHA-256 (RFC 5802, RFC 7677) and by PostgreSQL's md5: what is computed, without the connection.
//!
//! What a library would do is the same arithmetic, but as often as the server says; here a server that asks for a thousand million
//! rounds is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// PostgreSQL's default is 4,096; so many take a tenth of a second.
const ROUNDS_MAX: u32 = 200_000;

/// Where a login by SCRAM stands after the first message.
#[derive(Debug)]
pub(super) struct Scram {
    nonce: String,
}

/// What is sent as the proof, and what the server has to answer to it.
#[derive(Debug)]
pub(super) struct Proof {
    /// The client's last message.
    pub(super) message: String,
    /// The server's last message: only who knows the password can say so.
    pub(super) answer: String,
}

impl Scram {
    /// Begins a login; the nonce is text that nobody guesses, without a comma.
    pub(super) fn new(nonce: String) -> Self {
        Self { nonce }
    }

    /// The client's first message. PostgreSQL knows the user already.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Answers the server's first message.
    ///
    /// # Errors
    /// What is wrong with it, about the server.
    pub(super) fn prove(&self, password: &str, server_first: &str) -> Result<Proof, String> {
        let part = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(rounds)) = (part("r="), part("s="), part("i=")) else {
            return Err("asked for the password in a way that is not SCRAM".to_owned());
        };
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty());
        let rounds = rounds.parse::<u32>().ok().filter(|rounds| *rounds > 0);
        let (Some(salt), Some(rounds)) = (salt, rounds) else {
            return Err("asked for the password in a way that is not SCRAM".to_owned());
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("repeats what another login was told: somebody stands in between".to_owned());
        }
        if rounds > ROUNDS_MAX {
            return Err(format!("asks for {rounds} rounds of SCRAM, which a probe does not compute"));
        }
        let salted = salted_password(password.as_bytes(), &salt, rounds);
        let client_key = mac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let everything = format!("{},{server_first},{without_proof}", self.bare());
        let signature = mac(&Sha256::digest(client_key), everything.as_bytes());
        let mut proof = client_key;
        proof.iter_mut().zip(signature).for_each(|(byte, other)| *byte ^= other);
        let server_key = mac(&salted, b"Server Key");
        Ok(Proof {
            message: format!("{without_proof},p={}", BASE64.encode(proof)),
            answer: format!("v={}", BASE64.encode(mac(&server_key, everything.as_bytes()))),
        })
    }
}

/// `Hi` of RFC 5802: PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let keyed = keyed(password);
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1u32.to_be_bytes());
    let mut last: [u8; 32] = first.finalize().into_bytes().into();
    let mut sum = last;
    for _ in 1..rounds {
        let mut next = keyed.clone();
        next.update(&last);
        last = next.finalize().into_bytes().into();
        sum.iter_mut().zip(last).for_each(|(byte, other)| *byte ^= other);
    }
    sum
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// What PostgreSQL's `md5` wants to hear.
pub(super) fn md5_answer(user: &str, password: &str, salt: &[u8]) -> String {
    let inner = hex(&Md5::digest(format!("{password}{user}")));
    format!("md5{}", hex(&Md5::digest([inner.as_bytes(), salt].concat())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversation of RFC 7677, 3, with the user name left out as PostgreSQL has it.
    #[test]
    fn the_proof_is_the_one_of_the_standard() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = salted_password(b"pencil", &salt, 4096);
        let everything = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                          s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server = mac(&mac(&salted, b"Server Key"), everything.as_bytes());
        assert_eq!(BASE64.encode(server), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_server_that_repeats_itself_or_wants_too_much_is_refused() {
        let scram = Scram::new("abc".to_owned());
        assert_eq!(scram.first(), "n,,n=,r=abc");
        for (first, what) in [
            ("r=abc,s=AAAA,i=4096", "stands in between"),
            ("r=xyz,s=AAAA,i=4096", "stands in between"),
            ("r=abcd,s=AAAA,i=4000000000", "rounds"),
            ("r=abcd,s=AAAA,i=0", "not SCRAM"),
            ("r=abcd,s=,i=4096", "not SCRAM"),
            ("", "not SCRAM"),
        ] {
            let told = scram.prove("secret", first).unwrap_err();
            assert!(told.contains(what), "{first}: {told}");
        }
        let proof = scram.prove("secret", "r=abcd,s=AAAA,i=4096").unwrap();
        assert!(proof.message.starts_with("c=biws,r=abcd,p=") && proof.answer.starts_with("v="));
    }

    #[test]
    fn md5_is_as_postgresql_has_it() {
        // md5(md5("secret" + "joe") + salt), as `md5sum` says.
        assert_eq!(md5_answer("joe", "secret", &[1, 2, 3, 4]), "md5850be429f1fe77df3f603ac424abb440");
    }
}
