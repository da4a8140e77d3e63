//! DNS: answers zones itself, tells other zones' servers, and looks at what DNS really says.
//!
//! `zone` and `zone_file` read what is written, `authority` answers, `server` listens; `update` tells the server of a zone
//! that Mainstay does not answer, and `look` asks what visitors are told. What names are to say is the judge's business: it
//! comes in as a [`LiveTable`], and goes by the config's live names to both.

mod authority;
mod look;
mod serial;
mod server;
#[cfg(test)]
mod tests;
mod update;
pub mod zone;
pub mod zone_file;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::LowerName;
use mainstay_model::Input;
use mainstay_model::effect::LookUpOrder;
use mainstay_model::input::LookUpFailure;
use mainstay_model::routing::LiveTable;
use tokio::sync::{mpsc, watch};

use crate::config::{DnsConfig, LiveNames, ZoneConfig};
use authority::{Authority, Live, Served};
use server::Counters;
pub use server::Sockets;
use update::Updates;

/// The DNS adapter.
#[derive(Debug)]
pub struct Dns {
    inputs: mpsc::Sender<Input>,
    authority: watch::Sender<Arc<Authority>>,
    counters: Arc<Counters>,
    state: Mutex<State>,
    look: look::Looker,
}

/// The targets of a service's name in DNS (SRV): priority, weight, host and port of each, and for how long they hold in seconds.
/// `resolver`: `None` asks the system's first one.
///
/// # Errors
/// Why there is no answer.
pub async fn targets_of(
    name: &str,
    resolver: Option<SocketAddr>,
    patience: Duration,
) -> Result<(Vec<(u16, u16, String, u16)>, u32), LookUpFailure> {
    look::targets(name, resolver, patience).await
}

/// The addresses of a name, each with its TTL in seconds, as a resolver says; `None`: the first one of /etc/resolv.conf.
///
/// # Errors
/// When it says none within `patience`.
pub async fn addresses_of(
    host: &str,
    resolver: Option<SocketAddr>,
    patience: Duration,
) -> Result<Vec<(IpAddr, u32)>, LookUpFailure> {
    look::addresses(host, resolver, patience).await
}

/// What was last heard of the config and of the judge.
#[derive(Debug, Default)]
struct State {
    config: DnsConfig,
    table: Arc<LiveTable>,
    serials: BTreeMap<LowerName, serial::Known>,
    updates: Updates,
}

impl Dns {
    /// An adapter that has nothing to do yet. It reports to `inputs`.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self {
            look: look::Looker::new(inputs.clone()),
            inputs,
            authority: watch::channel(Arc::default()).0,
            counters: Arc::default(),
            state: Mutex::default(),
        }
    }

    /// Answers on these sockets from now on. Must be called inside a runtime.
    pub fn serve(&self, sockets: Sockets) {
        server::serve(sockets, self.authority.subscribe(), self.counters.clone());
    }

    /// Queries by what they were answered; nothing while no DNS is answered.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.config.listen.is_empty() { Vec::new() } else { self.counters.counts() }
    }

    /// `dns.resolver`; `None`: the system's first one.
    pub fn resolver(&self) -> Option<SocketAddr> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).config.resolver
    }

    /// Goes by another config. Must be called inside a runtime.
    pub fn apply(&self, config: &DnsConfig) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.config == *config {
            return;
        }
        state.config = config.clone();
        self.look.apply(config);
        let table = state.table.clone();
        state.updates.apply(&config.updates, &table, &self.inputs);
        self.publish(&mut state);
    }

    /// Names say this from now on.
    pub fn live(&self, table: Arc<LiveTable>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.updates.live(&table);
        state.table = table;
        self.publish(&mut state);
    }

    /// Asks DNS about a name, in a task of its own; one [`Input::LookedUp`] follows within the order's timeout.
    pub fn look_up(&self, order: LookUpOrder) {
        self.look.order(order);
    }

    fn publish(&self, state: &mut State) {
        let State { config, table, serials, .. } = state;
        serials.retain(|origin, _| config.zones.iter().any(|zone| zone.zone.origin() == origin));
        let zones = config.zones.iter().map(|zone| serve_zone(zone, table, serials)).collect();
        self.authority.send_replace(Arc::new(Authority::new(zones)));
    }
}

fn serve_zone(
    config: &ZoneConfig,
    table: &LiveTable,
    serials: &mut BTreeMap<LowerName, serial::Known>,
) -> Served {
    let live: HashMap<LowerName, Live> = addresses(&config.live, table).collect();
    let serial = match serials.get_mut(config.zone.origin()) {
        Some(known) => known.of(&config.zone, &live),
        None => {
            let known = serial::Known::new(&config.zone, &live);
            let serial = known.serial();
            serials.insert(config.zone.origin().clone(), known);
            serial
        }
    };
    Served { zone: config.zone.clone(), live, serial }
}

/// What each live name is to say.
fn addresses<'a>(live: &'a LiveNames, table: &'a LiveTable) -> impl Iterator<Item = (LowerName, Live)> + 'a {
    live.names.iter().map(|(name, service)| {
        let Some(known) = table.services.iter().find(|known| known.id == *service) else {
            return (name.clone(), Live::default());
        };
        let ttl = if known.trouble { live.trouble_ttl } else { live.ttl };
        let mut says = Live { ttl: seconds(ttl), ..Live::default() };
        for ip in &known.addresses {
            match ip {
                IpAddr::V4(ip) => says.v4.push(*ip),
                IpAddr::V6(ip) => says.v6.push(*ip),
            }
        }
        (name.clone(), says)
    })
}

/// A TTL as DNS counts it; the highest bit is not used (RFC 2181, 8).
fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).min(0x7fff_ffff)
}
