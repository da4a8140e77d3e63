//! Tells a zone's own server what live names are to say: signed dynamic updates (RFC 2136, RFC 8945), one set of records at a
//! time, as compare-and-swap.
//!
//! Each change says what Mainstay believes to be there; if somebody else has changed it, the server refuses and Mainstay reads
//! again. Afterwards the server is asked whether it says what it was told. A set of records is replaced, never removed: without
//! an address to write, nothing is done. Nothing is remembered over a restart: what is there is read first, always.

mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{LowerName, RecordType};
use mainstay_model::input::{DnsUpdateReport, OwnPart};
use mainstay_model::routing::LiveTable;
use mainstay_model::{Input, ServiceId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use self::request::{Server, UpdateError};
use super::look::written;
use crate::config::UpdateConfig;

/// What is written is read again so often: somebody else may have changed it.
const AGAIN: Duration = Duration::from_secs(60);
/// After a failure it is tried again after so long, then twice that, and so on.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// So often a change is tried at once when somebody else was quicker.
const TRIES: usize = 3;
/// A server that cannot be reached is trouble after so many failures in a row; others are at once.
const PATIENCE: u32 = 3;

/// The zones that are told, each by a task of its own.
#[derive(Debug, Default)]
pub struct Updates {
    tasks: Vec<(UpdateConfig, Task)>,
    table: Option<watch::Sender<Arc<LiveTable>>>,
    troubles: Arc<Troubles>,
}

/// A task that ends with this.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Updates {
    /// Goes by another config; a zone whose part has not changed is not disturbed.
    pub fn apply(&mut self, config: &[UpdateConfig], table: &Arc<LiveTable>, inputs: &mpsc::Sender<Input>) {
        if config.is_empty() && self.tasks.is_empty() {
            return;
        }
        let table = self.table.get_or_insert_with(|| watch::channel(table.clone()).0);
        self.tasks.retain(|(known, _)| config.contains(known));
        self.troubles.keep(config, inputs);
        for update in config {
            if self.tasks.iter().any(|(known, _)| known == update) {
                continue;
            }
            let keeper = Keeper {
                server: Server::new(update),
                config: update.clone(),
                inputs: inputs.clone(),
                troubles: self.troubles.clone(),
                seen: BTreeMap::new(),
                failures: 0,
                said: BTreeSet::new(),
            };
            self.tasks.push((update.clone(), Task(tokio::spawn(keeper.keep(table.subscribe())))));
        }
    }

    /// Names are to say this from now on.
    pub fn live(&self, table: &Arc<LiveTable>) {
        if let Some(tell) = &self.table {
            tell.send_replace(table.clone());
        }
    }
}

/// What is wrong with each zone; the whole of it is one trouble of Mainstay's own.
#[derive(Debug, Default)]
struct Troubles(Mutex<BTreeMap<LowerName, String>>);

impl Troubles {
    /// A zone that is told no longer has no trouble.
    fn keep(&self, config: &[UpdateConfig], inputs: &mpsc::Sender<Input>) {
        let told = self.change(|troubles| {
            troubles.retain(|zone, _| config.iter().any(|update| update.zone == *zone));
        });
        if let Some(input) = told {
            let inputs = inputs.clone();
            tokio::spawn(async move { inputs.send(input).await });
        }
    }

    async fn set(&self, zone: &LowerName, trouble: Option<String>, inputs: &mpsc::Sender<Input>) {
        let told = self.change(|troubles| {
            match trouble {
                Some(trouble) => troubles.insert(zone.clone(), trouble),
                None => troubles.remove(zone),
            };
        });
        if let Some(input) = told {
            let _ = inputs.send(input).await;
        }
    }

    /// What the judge is to be told, if it has changed.
    fn change(&self, edit: impl FnOnce(&mut BTreeMap<LowerName, String>)) -> Option<Input> {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = troubles.clone();
        edit(&mut troubles);
        if *troubles == before {
            return None;
        }
        let all: Vec<&str> = troubles.values().map(String::as_str).collect();
        let trouble = (!all.is_empty()).then(|| all.join("; "));
        Some(Input::Own { part: OwnPart::Dns, trouble })
    }
}

/// The addresses of one name and family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The name.
    pub name: LowerName,
    /// A or AAAA.
    pub kind: RecordType,
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.to_string();
        write!(f, "{} {}", name.trim_end_matches('.'), self.kind)
    }
}

/// What a set of records says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Says {
    /// Its addresses; empty: there is no such set.
    pub addresses: BTreeSet<IpAddr>,
    /// Its TTL, in seconds.
    pub ttl: u32,
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addresses.is_empty() {
            return f.write_str("nothing");
        }
        let all: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        write!(f, "{} (TTL {})", all.join(", "), self.ttl)
    }
}

/// Keeps the live names of one zone.
struct Keeper {
    config: UpdateConfig,
    server: Server,
    inputs: mpsc::Sender<Input>,
    troubles: Arc<Troubles>,
    /// What Mainstay last wrote or saw, by name and whether it is of IPv4.
    seen: BTreeMap<(LowerName, bool), Says>,
    /// Rounds in a row that failed.
    failures: u32,
    /// Failures that the incident was told since the last good round.
    said: BTreeSet<String>,
}

impl Keeper {
    async fn keep(mut self, mut table: watch::Receiver<Arc<LiveTable>>) {
        loop {
            let now = table.borrow_and_update().clone();
            let pause = match self.round(&now).await {
                true => AGAIN,
                // Jitter: two Mainstays that lost a race must not lose it together again.
                false => BACKOFF
                    .saturating_mul(1 << self.failures.clamp(1, 7).saturating_sub(1))
                    .min(BACKOFF_MAX)
                    .mul_f64(1.0 + 0.2 * fastrand::f64()),
            };
            let due = Instant::now() + pause;
            tokio::select! {
                changed = table.changed() => if changed.is_err() { return },
                () = sleep_until(due) => {}
            }
        }
    }

    /// Brings every live name to what it is to say; `false` when one of them failed.
    async fn round(&mut self, table: &LiveTable) -> bool {
        let mut failed = None;
        for (name, service, want) in wanted(&self.config, table) {
            let set = Set { name, kind: if want.is_v4() { RecordType::A } else { RecordType::AAAA } };
            if let Err(error) = self.bring(&set, &service, &want.says).await {
                warn!(zone = %self.config.zone, %set, %error, "a DNS update failed");
                if self.said.insert(error.to_string()) {
                    let text = format!("DNS: {set} could not be changed to {}: {error}", want.says);
                    self.publish(&service, text, false).await;
                }
                failed = Some(error);
            }
        }
        match failed {
            None => {
                (self.failures, self.said) = (0, BTreeSet::new());
                self.troubles.set(&self.config.zone, None, &self.inputs).await;
                true
            }
            Some(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= PATIENCE || !error.may_pass() {
                    let zone = self.config.zone.to_string();
                    let trouble = format!("{}: {error}", zone.trim_end_matches('.'));
                    self.troubles.set(&self.config.zone, Some(trouble), &self.inputs).await;
                }
                false
            }
        }
    }

    /// Brings one set of records to what it is to say.
    async fn bring(&mut self, set: &Set, service: &ServiceId, want: &Says) -> Result<(), UpdateError> {
        let place = (set.name.clone(), set.kind == RecordType::A);
        for _ in 0..TRIES {
            let is = self.server.read(set).await?;
            let before = self.seen.insert(place.clone(), is.clone());
            if is == *want {
                return Ok(());
            }
            if let Some(before) = before.filter(|before| *before != is) {
                let text = format!(
                    "DNS: somebody else changed {set} from {before} to {is} at {}; Mainstay changes it to {want}",
                    self.server
                );
                self.publish(service, text, false).await;
            }
            match self.server.swap(set, &is, want).await {
                // Somebody was quicker: what is there now is read, and said, in the next turn.
                Err(UpdateError::Changed(_)) => continue,
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            let now = self.server.read(set).await?;
            if now != *want {
                return Err(UpdateError::NotSo { server: self.server.to_string(), says: now.to_string() });
            }
            self.seen.insert(place, now);
            let text = format!("DNS: {set} is now {want}, was {is}, at {}; it says so", self.server);
            self.publish(service, text, true).await;
            return Ok(());
        }
        Err(UpdateError::Changed(self.server.to_string()))
    }

    async fn publish(&self, service: &ServiceId, text: String, done: bool) {
        info!(%service, done, "{text}");
        let report = DnsUpdateReport { service: service.clone(), text, done };
        let _ = self.inputs.send(Input::DnsUpdated(report)).await;
    }
}

/// What one family of a name is to say.
struct Wanted {
    says: Says,
}

impl Wanted {
    fn is_v4(&self) -> bool {
        self.says.addresses.iter().all(IpAddr::is_ipv4)
    }
}

/// Every set of records that is to say something. A family without an address is left alone.
fn wanted(config: &UpdateConfig, table: &LiveTable) -> Vec<(LowerName, ServiceId, Wanted)> {
    let mut all = Vec::new();
    for (name, live) in super::addresses(&config.live, table) {
        let Some(service) = config.live.names.get(&name) else { continue };
        // What the zone says already is better than a guess of the first second.
        if !table.services.iter().any(|known| known.id == *service && known.settled) {
            continue;
        }
        let v4: BTreeSet<IpAddr> = live.v4.iter().map(|ip| IpAddr::V4(*ip)).collect();
        let v6: BTreeSet<IpAddr> = live.v6.iter().map(|ip| IpAddr::V6(*ip)).collect();
        for addresses in [v4, v6] {
            if !addresses.is_empty() {
                let says = Says { addresses, ttl: live.ttl };
                all.push((name.clone(), service.clone(), Wanted { says }));
            }
        }
    }
    all
}

/// For a person: the server as it is named in messages.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self.address()))
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, OpCode, ResponseCode};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{RData, Record};
    use mainstay_model::routing::LiveService;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::config::{LiveNames, Secret};

    /// A zone's server that says `first`, lets somebody else be quicker at the first change, and refuses every change.
    async fn quicker(first: u8, second: u8) -> std::net::SocketAddr {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let now = Arc::new(std::sync::atomic::AtomicU8::new(first));
        let says = now.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                answer.metadata.authoritative = true;
                answer.add_query(question.queries[0].clone());
                let ip = A([192, 0, 2, says.load(std::sync::atomic::Ordering::SeqCst)].into());
                let name = question.queries[0].name().clone();
                answer.add_answer(Record::from_rdata(name, 60, RData::A(ip)));
                udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut update = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut update).await.unwrap();
                let id = u16::from_be_bytes([update[0], update[1]]);
                now.store(second, std::sync::atomic::Ordering::SeqCst);
                let refusal = Message::error_msg(id, OpCode::Update, ResponseCode::NXRRSet).to_vec().unwrap();
                stream.write_u16(u16::try_from(refusal.len()).unwrap()).await.unwrap();
                stream.write_all(&refusal).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn who_was_quicker_is_said_and_nothing_is_forced() {
        let name: LowerName = "shop.example.com.".parse().unwrap();
        let shop = ServiceId::new("shop");
        let second = Duration::from_secs(60);
        let live =
            LiveNames { names: BTreeMap::from([(name, shop.clone())]), ttl: second, trouble_ttl: second };
        let config = UpdateConfig {
            zone: "example.com.".parse().unwrap(),
            server: quicker(1, 2).await,
            key: "mainstay.".parse().unwrap(),
            secret: Secret::new("c2VjcmV0IG9mIDI0IGJ5dGVzIGxvbmch".to_owned()),
            live,
        };
        let addresses = vec![IpAddr::from([192, 0, 2, 3])];
        let says = LiveService { id: shop, addresses, trouble: false, settled: true };
        let table = Arc::new(LiveTable { services: vec![says] });
        let (inputs, mut told) = mpsc::channel(16);
        let mut updates = Updates::default();
        updates.apply(&[config], &table, &inputs);
        let mut next = async || match tokio::time::timeout(Duration::from_secs(20), told.recv()).await {
            Ok(Some(Input::DnsUpdated(report))) => report,
            other => panic!("{other:?}"),
        };
        let first = next().await;
        assert!(
            !first.done && first.text.contains("somebody else changed shop.example.com A from 192.0.2.1")
        );
        let second = next().await;
        assert!(second.text.ends_with("somebody else changed it in between"), "{}", second.text);
    }
}
