//! Other machines: where each tells its figures, and which servers run on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mainstay_model::MachineId;
use mainstay_model::host::{HostPolicy, MachinePolicy};

use super::{MachineConfig, Resolver};
use crate::config::address::{self, host_and_port};
use crate::config::raw::{RawConfig, RawMachine};
use crate::config::read::{At, Field, OneOrMany, Text};

/// More of them are a matter for Prometheus.
const MOST: usize = 256;
/// As Prometheus usually asks.
const INTERVAL: Duration = Duration::from_secs(15);
const INTERVAL_LEAST: Duration = Duration::from_secs(1);
/// Figures that come less often say nothing of an incident.
const INTERVAL_MOST: Duration = Duration::from_secs(60);
/// Addresses of one machine.
const ADDRESSES_MOST: usize = 32;

impl Resolver<'_> {
    /// What the judge is told of them, and where they are asked.
    pub(super) fn machines(
        &self,
        raw: &RawConfig,
        limits: &HostPolicy,
    ) -> (BTreeMap<MachineId, MachinePolicy>, BTreeMap<MachineId, MachineConfig>) {
        let (mut policies, mut configs) = (BTreeMap::new(), BTreeMap::new());
        let Some(named) = raw.machine.get() else { return (policies, configs) };
        if named.value.0.len() > MOST {
            self.mistakes.value(&named.place, format!("at most {MOST} machines are asked"), "name fewer");
        }
        for (name, machine) in &named.value.0 {
            self.accept_name(name);
            let Field::Here(at) = machine else { continue };
            let Some(url) = self.exporter(at) else { continue };
            let interval = self.interval(&at.value);
            let addresses = self.addresses(at, &url);
            let id = MachineId::new(name.value.as_str());
            policies.insert(id.clone(), MachinePolicy { addresses, interval, limits: limits.clone() });
            configs.insert(id, MachineConfig { url, interval });
        }
        (policies, configs)
    }

    fn exporter(&self, at: &At<RawMachine>) -> Option<String> {
        let Some(url) = at.value.node_exporter.get() else {
            let remedy = "write node-exporter = \"http://10.0.0.5:9100/metrics\"";
            self.mistakes.value(&at.place, "node-exporter is missing", remedy);
            return None;
        };
        match address::web_url(&url.value.0) {
            Ok(url) => Some(url),
            Err((what, remedy)) => {
                self.mistakes.value(&url.place, what, remedy);
                None
            }
        }
    }

    fn interval(&self, raw: &RawMachine) -> Duration {
        let interval = self.duration(&raw.interval, INTERVAL, INTERVAL_LEAST);
        if let Some(at) = raw.interval.get()
            && interval > INTERVAL_MOST
        {
            self.mistakes.value(&at.place, "must be at most 60s", "the default is \"15s\"");
        }
        interval
    }

    fn addresses(&self, at: &At<RawMachine>, url: &str) -> Vec<IpAddr> {
        let Some(list) = at.value.addresses.get() else {
            let own = ip_of(url);
            if own.is_none() {
                let remedy = "write addresses = \"10.0.0.5\", the address of the servers that run on it";
                self.mistakes.value(&at.place, "addresses are missing", remedy);
            }
            return own.into_iter().collect();
        };
        self.ips(list)
    }

    fn ips(&self, list: &At<OneOrMany<Text>>) -> Vec<IpAddr> {
        let items = &list.value.0.items;
        if items.len() > ADDRESSES_MOST {
            self.mistakes.value(&list.place, format!("at most {ADDRESSES_MOST} addresses"), "name fewer");
        }
        let ip = |item: &At<Text>| {
            let ip = item.value.0.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
            if ip.is_none() {
                self.mistakes.value(&item.place, "not an IP address", "write \"10.0.0.5\", without a port");
            }
            ip
        };
        items.iter().filter_map(ip).collect()
    }
}

/// The address of a URL that is written as a number.
fn ip_of(url: &str) -> Option<IpAddr> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let (host, _) = host_and_port(authority.rsplit('@').next()?)?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
