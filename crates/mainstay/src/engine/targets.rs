//! Servers that are written by the name of a service (SRV, RFC 2782): which servers the name stands for now.
//!
//! Each target is a server of its own to the judge, with its own health, history and buttons; it is looked up by its host like any
//! server that is written by name. The last good answer is kept in the data directory, so that Mainstay starts with it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_model::policy::{Policy, Role};
use mainstay_model::{ServerId, ServiceId};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::config::ServerAddress;

/// More targets of one name are not followed; the first by priority and weight are.
const TARGETS_MAX: usize = 100;
/// Of a server's weight (the config allows no more).
const WEIGHT_MAX: u32 = 100;
/// A server's name is no longer.
const NAME_MAX: usize = 64;
/// In the data directory.
const FILE: &str = "srv-targets.json";

/// One target of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Lower goes first.
    pub priority: u16,
    /// Its part of the traffic among those of its priority.
    pub weight: u16,
    /// Its host, without the dot at the end.
    pub host: String,
    pub port: u16,
}

/// What a name stood for when it was looked up last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    name: String,
    targets: Vec<Target>,
}

/// What all names stand for, by the server that is written so.
#[derive(Debug, Default)]
pub struct Targets {
    known: BTreeMap<String, Known>,
    file: Option<PathBuf>,
    /// What the file is to say; the newest one is written, whoever comes to it.
    newest: Arc<Mutex<String>>,
}

impl Targets {
    /// What an earlier run has found.
    pub async fn remembered(data: &std::path::Path) -> Self {
        let file = data.join(FILE);
        let known = match tokio::fs::read(&file).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(file = %file.display(), %error, "what SRV names stood for cannot be read; they are looked up anew");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        Self { known, file: Some(file), newest: Arc::default() }
    }

    /// Takes an answer in. Returns whether it says something new.
    pub fn found(&mut self, server: &ServerId, name: &str, mut targets: Vec<Target>) -> bool {
        // Heavier ones first, so that those beyond the limit are the least.
        targets.sort_by(|a, b| {
            (a.priority, b.weight, &a.host, a.port).cmp(&(b.priority, a.weight, &b.host, b.port))
        });
        targets.dedup_by(|a, b| (&a.host, a.port) == (&b.host, b.port));
        targets.truncate(TARGETS_MAX);
        let known = Known { name: name.to_owned(), targets };
        let new = self.known.get(&server.to_string()) != Some(&known);
        if new {
            self.known.insert(server.to_string(), known);
            self.remember();
        }
        new
    }

    /// The servers of a config, with those that are written by an SRV name replaced by what it stands for. One whose name was never
    /// answered stays, without an address.
    pub fn expand(
        &self,
        policy: &Policy,
        addresses: &BTreeMap<ServerId, ServerAddress>,
    ) -> (Policy, BTreeMap<ServerId, ServerAddress>) {
        let (mut policy, mut all) = (policy.clone(), addresses.clone());
        for (server, address) in addresses {
            let ServerAddress::Srv(name) = address else { continue };
            let Some(known) = self.known.get(&server.to_string()).filter(|known| known.name == *name) else {
                continue;
            };
            let Some(service) = policy.services.get_mut(&server.service) else { continue };
            let Some(written) = service.servers.remove(&server.name) else { continue };
            all.remove(server);
            let first = known.targets.iter().map(|target| target.priority).min();
            let heaviest = known.targets.iter().map(|target| u32::from(target.weight)).max().unwrap_or(0);
            for target in &known.targets {
                let id = id_of(&server.service, &server.name, name, target);
                let mut one = written.clone();
                if Some(target.priority) != first {
                    one.role = Role::Backup;
                }
                if heaviest > 0 {
                    let weight = u32::from(target.weight);
                    let scaled = if heaviest > WEIGHT_MAX { weight * WEIGHT_MAX / heaviest } else { weight };
                    one.weight = scaled.max(1);
                }
                service.servers.insert(Arc::clone(&id.name), one);
                all.insert(id, ServerAddress::of(&target.host, target.port));
            }
        }
        (policy, all)
    }

    /// Writes down what is known, outside the loop that asks for it.
    fn remember(&self) {
        let Some(file) = self.file.clone() else { return };
        let Ok(text) = serde_json::to_string(&self.known) else { return };
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = text;
        let newest = Arc::clone(&self.newest);
        tokio::task::spawn_blocking(move || {
            let text = newest.lock().unwrap_or_else(PoisonError::into_inner);
            let beside = file.with_extension("new");
            if let Err(error) = std::fs::write(&beside, &*text).and_then(|()| std::fs::rename(&beside, &file))
            {
                warn!(file = %file.display(), %error, "what SRV names stand for is not remembered");
            }
        });
    }
}

/// A target as a server: the same as long as its host and port are, whatever else the name says.
fn id_of(service: &ServiceId, server: &str, name: &str, target: &Target) -> ServerId {
    // `_http._tcp.shop.internal` is about `shop.internal`, so `web-1.shop.internal` is `web-1` there.
    let domain = name.split('.').skip_while(|label| label.starts_with('_')).collect::<Vec<_>>().join(".");
    let host =
        target.host.strip_suffix(&domain).and_then(|host| host.strip_suffix('.')).unwrap_or(&target.host);
    let safe: String = host
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' })
        .collect();
    let full = format!("{server}.{}-{}", safe.to_ascii_lowercase(), target.port);
    if full.len() <= NAME_MAX {
        return service.server(full);
    }
    // FNV-1a: it has to be the same in every run, and nobody gains by a collision.
    let hash = full
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    service.server(format!("{}-{:08x}", &full[..NAME_MAX - 9], hash as u32))
}

#[cfg(test)]
mod tests {
    use mainstay_model::policy::{ServerPolicy, ServicePolicy};

    use super::*;

    const NAME: &str = "_http._tcp.shop.internal";

    fn server() -> ServerId {
        "shop/app".parse().unwrap()
    }

    fn target(priority: u16, weight: u16, host: &str, port: u16) -> Target {
        Target { priority, weight, host: host.to_owned(), port }
    }

    fn expanded(targets: &[Target]) -> BTreeMap<String, (Role, u32, String)> {
        let mut known = Targets::default();
        assert!(known.found(&server(), NAME, targets.to_vec()));
        assert!(!known.found(&server(), NAME, targets.iter().rev().cloned().collect()), "in another order");
        let mut service = ServicePolicy::default();
        service.servers.insert("app".into(), ServerPolicy { weight: 7, ..ServerPolicy::default() });
        let policy = Policy { services: [(ServiceId::new("shop"), service)].into(), ..Policy::default() };
        let addresses = [(server(), ServerAddress::Srv(NAME.to_owned()))].into();
        let (policy, addresses) = known.expand(&policy, &addresses);
        let servers = &policy.services[&ServiceId::new("shop")].servers;
        assert_eq!(servers.len(), addresses.len());
        servers
            .iter()
            .map(|(name, one)| {
                let id = ServiceId::new("shop").server(&**name);
                (name.to_string(), (one.role, one.weight, addresses[&id].to_string()))
            })
            .collect()
    }

    #[test]
    fn each_target_is_a_server_with_the_part_and_the_role_that_the_name_gives_it() {
        let servers = expanded(&[
            target(10, 60, "web-1.shop.internal", 8080),
            target(10, 40, "web-2.shop.internal", 8081),
            target(20, 0, "far.example.net", 80),
        ]);
        let of = |role, weight, address: &str| (role, weight, address.to_owned());
        assert_eq!(
            servers,
            BTreeMap::from([
                ("app.web-1-8080".to_owned(), of(Role::Primary, 60, "web-1.shop.internal:8080")),
                ("app.web-2-8081".to_owned(), of(Role::Primary, 40, "web-2.shop.internal:8081")),
                ("app.far.example.net-80".to_owned(), of(Role::Backup, 1, "far.example.net:80")),
            ])
        );
    }

    #[test]
    fn weights_fit_the_scale_and_without_any_the_config_has_its_way() {
        let weights = |targets: &[Target]| expanded(targets).values().map(|one| one.1).collect::<Vec<_>>();
        assert_eq!(weights(&[target(0, 0, "a", 1), target(0, 0, "b", 1)]), [7, 7]);
        assert_eq!(
            weights(&[target(0, 60_000, "a", 1), target(0, 30_000, "b", 1), target(0, 1, "c", 1)]),
            [100, 50, 1]
        );
    }

    #[test]
    fn a_name_that_was_never_answered_or_was_changed_leaves_its_server_without_an_address() {
        let mut service = ServicePolicy::default();
        service.servers.insert("app".into(), ServerPolicy::default());
        let policy = Policy { services: [(ServiceId::new("shop"), service)].into(), ..Policy::default() };
        let addresses: BTreeMap<_, _> = [(server(), ServerAddress::Srv("_other._tcp.a".to_owned()))].into();
        let mut known = Targets::default();
        known.found(&server(), NAME, vec![target(0, 0, "a", 1)]);
        let (after, same) = known.expand(&policy, &addresses);
        assert_eq!((after, same), (policy, addresses));
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let long = "x".repeat(100);
        let servers =
            expanded(&[target(0, 0, &format!("{long}.a"), 1), target(0, 0, &format!("{long}.b"), 1)]);
        assert_eq!(servers.len(), 2);
        assert!(servers.keys().all(|name| name.len() <= NAME_MAX));
    }

    #[tokio::test]
    async fn what_was_found_is_there_after_a_restart_and_a_broken_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = Targets::remembered(folder.path()).await;
        known.found(&server(), NAME, vec![target(0, 0, "a", 1)]);
        let file = folder.path().join(FILE);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while !file.exists() {
            assert!(tokio::time::Instant::now() < deadline, "it was not written");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert_eq!(Targets::remembered(folder.path()).await.known, known.known);
        std::fs::write(&file, "{").unwrap();
        assert!(Targets::remembered(folder.path()).await.known.is_empty());
    }
}
