//! Looks at what DNS really says: the resolver that visitors' programs would ask, and a zone's own server.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{LowerName, Name};
use mainstay_model::Input;
use mainstay_model::effect::LookUpOrder;
use mainstay_model::input::{DnsAnswer, LookUpFailure, LookUpReport};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::config::DnsConfig;
use crate::dns_client as client;

/// Look-ups under way at once.
const AT_ONCE: usize = 32;
/// What resolvers are named by.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Carries out orders to look a name up.
#[derive(Debug)]
pub struct Looker {
    inputs: mpsc::Sender<Input>,
    slots: Arc<Semaphore>,
    whom: Mutex<Whom>,
}

/// Whom to ask.
#[derive(Debug, Clone, Default)]
struct Whom {
    resolver: Option<SocketAddr>,
    /// Zones whose own server is known.
    zones: Vec<(LowerName, SocketAddr)>,
}

impl Looker {
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self { inputs, slots: Arc::new(Semaphore::new(AT_ONCE)), whom: Mutex::default() }
    }

    pub fn apply(&self, config: &DnsConfig) {
        let zones = config.updates.iter().map(|update| (update.zone.clone(), update.server)).collect();
        let whom = Whom { resolver: config.resolver, zones };
        *self.whom.lock().unwrap_or_else(PoisonError::into_inner) = whom;
    }

    /// Looks now, in a task of its own; one [`Input::LookedUp`] follows within the order's timeout.
    pub fn order(&self, order: LookUpOrder) {
        let inputs = self.inputs.clone();
        let whom = self.whom.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let slot = self.slots.clone().try_acquire_owned();
        tokio::spawn(async move {
            let answers = match &slot {
                Ok(_) => look(&order, &whom).await,
                Err(_) => Vec::new(),
            };
            let report = LookUpReport { service: order.service, name: order.name, answers };
            // An error means that the judge is gone, and nobody wants to know any more.
            let _ = inputs.send(Input::LookedUp(report)).await;
        });
    }
}

async fn look(order: &LookUpOrder, whom: &Whom) -> Vec<DnsAnswer> {
    let deadline = Instant::now() + order.timeout;
    let name = match Name::from_ascii(&order.name) {
        Ok(mut name) => {
            name.set_fqdn(true);
            LowerName::new(&name)
        }
        Err(_) => return Vec::new(),
    };
    let resolver = async {
        let from = whom.resolver.or_else(|| system_resolver(Path::new(RESOLV_CONF)))?;
        let result = client::addresses(from, &name, true, deadline).await;
        Some(DnsAnswer { from: written(from), result })
    };
    let own = async {
        let (_, from) = whom.zones.iter().find(|(zone, _)| zone.zone_of(&name))?;
        let result = client::addresses(*from, &name, false, deadline).await;
        Some(DnsAnswer { from: format!("{}, the zone's own server", written(*from)), result })
    };
    let (resolver, own) = tokio::join!(resolver, own);
    let mut answers: Vec<DnsAnswer> = [resolver, own].into_iter().flatten().collect();
    if answers.is_empty() {
        let result = Err(LookUpFailure::Failed(format!("{RESOLV_CONF} names no resolver")));
        answers.push(DnsAnswer { from: "nobody".to_owned(), result });
    }
    answers
}

/// The addresses of a name as a resolver says.
pub(super) async fn addresses(
    host: &str,
    resolver: Option<SocketAddr>,
    patience: Duration,
) -> Result<Vec<(IpAddr, u32)>, LookUpFailure> {
    let (name, whom) = asked(host, resolver)?;
    client::addresses(whom, &name, true, Instant::now() + patience).await
}

/// The targets of a service's name as a resolver says.
pub(super) async fn targets(
    name: &str,
    resolver: Option<SocketAddr>,
    patience: Duration,
) -> Result<(Vec<(u16, u16, String, u16)>, u32), LookUpFailure> {
    let (name, whom) = asked(name, resolver)?;
    client::targets(whom, &name, Instant::now() + patience).await
}

/// What is asked, and whom: the given resolver, or the system's first.
fn asked(name: &str, resolver: Option<SocketAddr>) -> Result<(LowerName, SocketAddr), LookUpFailure> {
    let failed = |error: String| LookUpFailure::Failed(error);
    let mut name = Name::from_utf8(name).map_err(|error| failed(error.to_string()))?;
    name.set_fqdn(true);
    let whom = resolver.or_else(|| system_resolver(Path::new(RESOLV_CONF)));
    let whom = whom.ok_or_else(|| failed(format!("{RESOLV_CONF} names no resolver")))?;
    Ok((LowerName::new(&name), whom))
}

/// An address without the port that everybody uses.
pub(super) fn written(server: SocketAddr) -> String {
    if server.port() == 53 { server.ip().to_string() } else { server.to_string() }
}

/// The first resolver that a file like /etc/resolv.conf names.
fn system_resolver(path: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.find_map(|rest| Some(SocketAddr::new(rest.trim().parse().ok()?, 53)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_resolver_that_can_be_read_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(
            &path,
            "# x\nsearch a\nnameserver fe80::1%eth0\nnameserver  192.0.2.53\nnameserver ::1\n",
        )
        .unwrap();
        assert_eq!(system_resolver(&path), Some("192.0.2.53:53".parse().unwrap()));
        assert_eq!(system_resolver(&folder.path().join("none")), None);
    }

    #[test]
    fn the_usual_port_is_not_written() {
        assert_eq!(written("192.0.2.53:53".parse().unwrap()), "192.0.2.53");
        assert_eq!(written("192.0.2.53:5353".parse().unwrap()), "192.0.2.53:5353");
    }
}
