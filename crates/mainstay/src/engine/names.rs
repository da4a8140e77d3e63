//! Looks up the servers that are written by name, at start and again and again; a failed look-up keeps the last good answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mainstay_model::ServerId;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::ServerAddress;

/// Between two look-ups of one name. The system's resolver does not tell the TTL; half a minute follows a moved server soon enough.
const AGAIN: Duration = Duration::from_secs(30);
/// Between two look-ups of a name that has no answer yet.
const SOON: Duration = Duration::from_secs(1);
/// A look-up that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(5);

/// Servers that are written by name, with host and port.
pub type Names = BTreeMap<ServerId, (String, u16)>;

/// The answer to one look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedUp {
    /// Whose.
    pub server: ServerId,
    /// What was looked up.
    pub name: (String, u16),
    /// What it is.
    pub address: SocketAddr,
}

impl LookedUp {
    /// It is still the answer to what the config asks.
    pub fn is_wanted(&self, addresses: &BTreeMap<ServerId, ServerAddress>) -> bool {
        let (host, port) = &self.name;
        matches!(addresses.get(&self.server), Some(ServerAddress::Name(h, p)) if (h, p) == (host, port))
    }
}

/// Keeps looking up whatever is in `wanted` and tells each answer, also one that has not changed: the judge may have
/// forgotten it with a server that left the config and came back. Ends when the engine does.
pub async fn follow(mut wanted: watch::Receiver<Names>, answers: mpsc::Sender<LookedUp>) {
    let mut known: BTreeMap<ServerId, SocketAddr> = BTreeMap::new();
    loop {
        let names = wanted.borrow_and_update().clone();
        known.retain(|server, _| names.contains_key(server));
        for (server, (host, port)) in &names {
            match look_up(host, *port, known.get(server).copied()).await {
                Ok(address) => {
                    if known.insert(server.clone(), address) != Some(address) {
                        info!(%server, %host, %address, "looked up");
                    }
                    let name = (host.clone(), *port);
                    if answers.send(LookedUp { server: server.clone(), name, address }).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let stays = match known.contains_key(server) {
                        true => "the last good address stays in use",
                        false => "the server has no address yet and gets no requests",
                    };
                    warn!(%server, %host, %error, "look-up failed; {stays}")
                }
            }
        }
        let pause = match names.keys().all(|server| known.contains_key(server)) {
            true => AGAIN,
            false => SOON,
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause), if !names.is_empty() => {}
        }
    }
}

/// One address of a name; the one in use as long as it is among the answers.
async fn look_up(host: &str, port: u16, in_use: Option<SocketAddr>) -> std::io::Result<SocketAddr> {
    let answers = timeout(DEADLINE, tokio::net::lookup_host((host, port))).await.map_err(|_| {
        std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {} s", DEADLINE.as_secs()),
        )
    })??;
    let answers: Vec<SocketAddr> = answers.collect();
    in_use
        .filter(|address| answers.contains(address))
        .or_else(|| answers.first().copied())
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"))
}

/// The servers among `addresses` that are written by name.
pub fn named(addresses: &BTreeMap<ServerId, ServerAddress>) -> Names {
    let names = addresses.iter().filter_map(|(server, address)| match address {
        ServerAddress::Name(host, port) => Some((server.clone(), (host.clone(), *port))),
        ServerAddress::Fixed(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_looked_up_and_told_again_when_the_config_was_applied_again() {
        let server: ServerId = "shop/app-1".parse().unwrap();
        let names = BTreeMap::from([(server.clone(), ("localhost".to_owned(), 3000))]);
        let (tell, wanted) = watch::channel(names.clone());
        let (answers, mut told) = mpsc::channel(8);
        let task = tokio::spawn(follow(wanted, answers));
        let first = timeout(Duration::from_secs(10), told.recv()).await.unwrap().unwrap();
        assert_eq!((&first.server, &first.name), (&server, &("localhost".to_owned(), 3000)));
        assert_eq!(first.address.port(), 3000);
        assert!(first.address.ip().is_loopback());
        // The server may have left and come back meanwhile, and be without an address.
        tell.send_replace(names);
        let again = timeout(Duration::from_secs(10), told.recv()).await.unwrap().unwrap();
        assert_eq!(again, first);
        drop(tell);
        timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_address_in_use_stays_while_it_is_among_the_answers() {
        let in_use: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(look_up("127.0.0.1", 80, Some(in_use)).await.unwrap(), in_use);
        let gone: SocketAddr = "127.0.0.9:80".parse().unwrap();
        assert_eq!(look_up("127.0.0.1", 80, Some(gone)).await.unwrap(), in_use);
    }
}
