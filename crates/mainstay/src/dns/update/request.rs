//! One zone's own server: reads a set of records, and swaps it for another one, signed, if it is still what was read.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType, TSigner};
use tokio::time::Instant;

use super::super::look::written;
use super::{Says, Set};
use crate::config::UpdateConfig;
use crate::dns_client::{self as client, AskError};

/// Reading or changing one set of records may take so long.
const DEADLINE: Duration = Duration::from_secs(5);
/// Clocks may differ by so many seconds (RFC 8945, 10).
const FUDGE: u16 = 300;

/// A change could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The server cannot be reached or does not answer.
    #[error("{server}: {error}")]
    Ask {
        /// Whom.
        server: String,
        /// Why.
        error: AskError,
    },
    /// The key is unknown there, or its secret is another one.
    #[error("{server} refuses the key {key}: {why}")]
    Key {
        /// Whom.
        server: String,
        /// The key's name.
        key: String,
        /// What is wrong with it and what to do.
        why: &'static str,
    },
    /// The server does not do it.
    #[error("{server} refuses: {why}")]
    Refused {
        /// Whom.
        server: String,
        /// Why.
        why: String,
    },
    /// What is there is not what was read a moment ago.
    #[error("{0}: somebody else changed it in between")]
    Changed(String),
    /// It was accepted, and yet the server says something else.
    #[error(
        "{server} took the change and still says {says}; is there a CNAME, or does another program write it?"
    )]
    NotSo {
        /// Whom.
        server: String,
        /// What.
        says: String,
    },
}

impl UpdateError {
    /// It may be over in a moment without anybody's help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Ask { .. } | Self::Changed(_))
    }
}

/// The server of one zone.
pub struct Server {
    address: SocketAddr,
    zone: LowerName,
    key: LowerName,
    signer: Option<TSigner>,
}

impl Server {
    pub fn new(config: &UpdateConfig) -> Self {
        let secret = base64::engine::general_purpose::STANDARD.decode(config.secret.reveal().trim());
        let key = secret.ok();
        let signer = key.and_then(|key| {
            TSigner::new(key, TsigAlgorithm::HmacSha256, Name::from(&config.key), FUDGE).ok()
        });
        Self { address: config.server, zone: config.zone.clone(), key: config.key.clone(), signer }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a set of records says now.
    pub async fn read(&self, set: &Set) -> Result<Says, UpdateError> {
        let deadline = Instant::now() + DEADLINE;
        let answer = client::ask(self.address, &set.name, set.kind, false, deadline).await;
        let answer = answer.map_err(|error| self.failed(error))?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain if answer.metadata.authoritative => {}
            ResponseCode::NoError | ResponseCode::NXDomain => {
                return Err(self.refused(
                    "it does not answer this zone itself; name the zone's primary server".to_owned(),
                ));
            }
            other => return Err(self.refused(format!("it answers a question with {other}"))),
        }
        let mut says = Says::default();
        for record in answer.answers.iter().filter(|r| LowerName::new(&r.name) == set.name) {
            let ip: IpAddr = match &record.data {
                RData::A(ip) if set.kind == RecordType::A => ip.0.into(),
                RData::AAAA(ip) if set.kind == RecordType::AAAA => ip.0.into(),
                _ => continue,
            };
            says.addresses.insert(ip);
            says.ttl = record.ttl;
        }
        Ok(says)
    }

    /// Swaps what a set says, if it still says what it did.
    pub async fn swap(&self, set: &Set, from: &Says, to: &Says) -> Result<(), UpdateError> {
        let Some(signer) = &self.signer else {
            return Err(self.key_refused("it cannot be used for hmac-sha256"));
        };
        let mut message = swap(&self.zone, set, &from.addresses, to);
        let garbled = |error: &dyn std::fmt::Display| self.failed(AskError::Garbled(error.to_string()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let verifier = message.finalize(signer, now).map_err(|error| garbled(&error))?;
        let bytes = message.to_vec().map_err(|error| garbled(&error))?;
        let deadline = Instant::now() + DEADLINE;
        // Over TCP, so that a lost datagram does not leave open whether the change was made.
        let answer =
            client::exchange(self.address, &bytes, deadline).await.map_err(|error| self.failed(error))?;
        let parsed = Message::from_vec(&answer).map_err(|error| garbled(&error))?;
        if parsed.metadata.id != message.metadata.id {
            return Err(garbled(&"not what was asked for"));
        }
        self.judge(set, &parsed)?;
        // Only now: a refusal of the key is not signed with it.
        if let Some(mut verifier) = verifier {
            verifier.verify(&answer).map_err(|error| garbled(&error))?;
        }
        Ok(())
    }

    fn judge(&self, set: &Set, answer: &Message) -> Result<(), UpdateError> {
        match answer.signature().and_then(|record| record.data.error) {
            Some(TsigError::BadKey) => {
                return Err(self.key_refused("it has no key of this name; check dns.update.key"));
            }
            Some(TsigError::BadSig) => {
                return Err(self.key_refused("its secret is another one; check dns.update.secret"));
            }
            Some(TsigError::BadTime) => {
                return Err(self.key_refused("the clocks of the two machines differ by more than 5 minutes"));
            }
            Some(_) => return Err(self.key_refused("it does not take the signature")),
            None => {}
        }
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::NXDomain | ResponseCode::YXDomain => {
                Err(UpdateError::Changed(written(self.address)))
            }
            // Some servers refuse a key without saying what is wrong with it.
            ResponseCode::NotAuth => Err(self.key_refused(
                "it knows neither the key nor, perhaps, the zone; check dns.update.key, secret and the zone's name",
            )),
            ResponseCode::Refused => Err(self.refused(format!(
                "the key {} may not change {set}; allow it there (update-policy in BIND, acl in Knot)",
                self.key
            ))),
            ResponseCode::NotZone => Err(self.refused(format!("{set} is not in its zone {}", self.zone))),
            other => Err(self.refused(other.to_string())),
        }
    }

    fn failed(&self, error: AskError) -> UpdateError {
        UpdateError::Ask { server: written(self.address), error }
    }

    fn refused(&self, why: String) -> UpdateError {
        UpdateError::Refused { server: written(self.address), why }
    }

    fn key_refused(&self, why: &'static str) -> UpdateError {
        UpdateError::Key { server: written(self.address), key: self.key.to_string(), why }
    }
}

/// The message that swaps a set of records for another one (RFC 2136, 2.4 and 2.5). It always adds as it removes.
fn swap(zone: &LowerName, set: &Set, from: &BTreeSet<IpAddr>, to: &Says) -> Message {
    let name = Name::from(&set.name);
    let mut message = Message::query();
    message.metadata.message_type = MessageType::Query;
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(Name::from(zone), RecordType::SOA));
    let record = |ip: &IpAddr, ttl| {
        let data = match ip {
            IpAddr::V4(ip) => RData::A(A(*ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
        };
        Record::from_rdata(name.clone(), ttl, data)
    };
    let bare = |class| {
        let mut bare = Record::update0(name.clone(), 0, set.kind);
        bare.dns_class = class;
        bare
    };
    // In an update the sections are called prerequisites and updates.
    match from.is_empty() {
        true => message.answers.push(bare(DNSClass::NONE)),
        false => message.answers.extend(from.iter().map(|ip| record(ip, 0))),
    }
    message.authorities.push(bare(DNSClass::ANY));
    message.authorities.extend(to.addresses.iter().map(|ip| record(ip, to.ttl)));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Set {
        Set { name: "shop.example.com.".parse().unwrap(), kind: RecordType::A }
    }

    fn says(last: &[u8]) -> Says {
        Says { addresses: last.iter().map(|n| IpAddr::from([192, 0, 2, *n])).collect(), ttl: 60 }
    }

    #[test]
    fn a_swap_names_what_must_be_there_and_never_leaves_nothing() {
        let zone: LowerName = "example.com.".parse().unwrap();
        let message = swap(&zone, &set(), &says(&[1, 2]).addresses, &says(&[3]));
        assert!(message.answers.iter().all(|r| r.ttl == 0 && r.dns_class == DNSClass::IN));
        assert_eq!(message.answers.len(), 2);
        assert_eq!(message.authorities[0].dns_class, DNSClass::ANY);
        assert_eq!(message.authorities[1].ttl, 60);
        let first = swap(&zone, &set(), &BTreeSet::new(), &says(&[3]));
        assert_eq!(first.answers[0].dns_class, DNSClass::NONE);
        assert_eq!(Message::from_vec(&first.to_vec().unwrap()).unwrap().metadata.op_code, OpCode::Update);
    }
}
