//! The public status page: its listeners, and the route that leads from the visitors' own ports to it.
//!
//! The data plane knows it as a service like any other, with one server: a listener of Mainstay's own on loopback. The judge
//! does not know it, and its requests are nobody's history.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mainstay_model::ServiceId;
use mainstay_model::carriage::Carriage;
use mainstay_model::limits::Limits;
use mainstay_model::policy::Balance;
use mainstay_model::routing::{RoutedService, RoutingMode, RoutingTable, Target};
use mainstay_proxy::Report;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::upgrade::{Inheritance, copy};
use crate::config::StatusConfig;
use crate::handover::Role;
use crate::web::public::{self, Editions, Sources};

/// The names of its routes. No name in a config has a colon.
const BY_HOST: &str = "mainstay:status-host";
const BY_PATH: &str = "mainstay:status-path";

/// The page, and where it is served.
#[derive(Debug)]
pub struct StatusPage {
    config: watch::Sender<Option<Arc<StatusConfig>>>,
    sources: Sources,
    stop: watch::Receiver<bool>,
    editions: Option<Editions>,
    /// `status.listen`, with the port that the kernel chose.
    address: Option<SocketAddr>,
    loopback: Option<SocketAddr>,
    /// Copies of the listening sockets.
    sockets: Vec<(Role, OwnedFd)>,
}

/// Listeners that are bound and not yet served.
#[derive(Debug, Default)]
pub struct Listeners {
    own: Option<TcpListener>,
    loopback: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the config asks for.
    ///
    /// # Errors
    /// When `status.listen` cannot be listened on; with its address.
    pub async fn bind(
        config: Option<&StatusConfig>,
        inheritance: &mut Inheritance,
    ) -> Result<Self, (SocketAddr, std::io::Error)> {
        let Some(config) = config else { return Ok(Self::default()) };
        let mut bind =
            async |role, address| inheritance.listener(role, address).await.map_err(|error| (address, error));
        Ok(Self {
            own: match config.listen {
                Some(address) => Some(bind(Role::Page(address), address).await?),
                None => None,
            },
            loopback: match config.is_routed() {
                true => Some(bind(Role::PageInside, (Ipv4Addr::LOCALHOST, 0).into()).await?),
                false => None,
            },
        })
    }

    /// The routes that lead to the page.
    pub fn routes(&self, config: Option<&StatusConfig>) -> Vec<RoutedService> {
        routes(config, self.loopback.as_ref().and_then(|listener| listener.local_addr().ok()))
    }
}

impl StatusPage {
    /// Nothing runs until there is something to show.
    pub fn new(config: Option<&StatusConfig>, sources: Sources, stop: watch::Receiver<bool>) -> Self {
        let (config, _) = watch::channel(config.cloned().map(Arc::new));
        Self { config, sources, stop, editions: None, address: None, loopback: None, sockets: Vec::new() }
    }

    /// The config of the page, as it changes.
    pub fn settings(&self) -> public::Settings {
        self.config.subscribe()
    }

    /// Copies of its listening sockets, with what they are.
    pub fn sockets(&self) -> impl Iterator<Item = (Role, &OwnedFd)> {
        self.sockets.iter().map(|(role, fd)| (role.clone(), fd))
    }

    /// Where it is served on an address of its own.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Prints and serves from now on, if there is a page.
    pub fn start(&mut self, listeners: Listeners) {
        if self.config.borrow().is_none() {
            return;
        }
        let editions = match self.editions.take() {
            Some(editions) => editions,
            None => public::print(self.sources.clone(), self.settings(), self.stop.clone()),
        };
        self.editions = Some(editions.clone());
        let own = self.config.borrow().as_ref().and_then(|config| config.listen).map(Role::Page);
        for (listener, role, address) in [
            (listeners.own, own, &mut self.address),
            (listeners.loopback, Some(Role::PageInside), &mut self.loopback),
        ] {
            let Some(listener) = listener else { continue };
            self.sockets.extend(role.zip(copy(&listener).ok()));
            *address = listener.local_addr().ok();
            let (editions, settings, stop) = (editions.clone(), self.config.subscribe(), self.stop.clone());
            tokio::spawn(async move {
                if let Err(error) = public::serve(listener, editions, settings, stop).await {
                    tracing::error!(%error, "the status page is no longer served; traffic and recovery go on");
                }
            });
        }
    }

    /// Goes by a changed config; returns the routes that lead to the page.
    ///
    /// # Errors
    /// When no listener can be had on loopback.
    pub async fn apply(&mut self, config: Option<&StatusConfig>) -> std::io::Result<Vec<RoutedService>> {
        let mut listeners = Listeners::default();
        if self.loopback.is_none() && config.is_some_and(StatusConfig::is_routed) {
            listeners.loopback = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        }
        // A page that stays as it is is not printed anew.
        self.config.send_if_modified(|now| {
            let changed = now.as_deref() != config;
            if changed {
                *now = config.cloned().map(Arc::new);
            }
            changed
        });
        self.start(listeners);
        Ok(routes(config, self.loopback))
    }
}

fn routes(config: Option<&StatusConfig>, to: Option<SocketAddr>) -> Vec<RoutedService> {
    let (Some(config), Some(address)) = (config, to) else { return Vec::new() };
    let route = |name: &str, hosts: Vec<String>, paths: Vec<String>| {
        let id = ServiceId::new(name);
        RoutedService {
            carriage: Arc::new(Carriage {
                hosts,
                paths,
                balance: Balance::RoundRobin,
                // The page bounds its own connections, and everybody may ask.
                limits: Arc::new(Limits::NONE),
                ..Carriage::default()
            }),
            mode: RoutingMode::Normal,
            trial: None,
            targets: vec![Target {
                id: id.server("page"),
                address: address.into(),
                share: 1.0,
                concurrent: None,
                tls: false,
                injection: None,
            }],
            last_resort: Vec::new(),
            draining: Vec::new(),
            leaving: Vec::new(),
            id,
        }
    };
    let by_host = config.host.clone().map(|host| route(BY_HOST, vec![host], Vec::new()));
    let by_path = config.path.clone().map(|path| route(BY_PATH, config.path_hosts.clone(), vec![path]));
    by_host.into_iter().chain(by_path).collect()
}

/// The judge's table with the page's routes.
pub fn with_routes(table: &Arc<RoutingTable>, routes: &[RoutedService]) -> Arc<RoutingTable> {
    if routes.is_empty() {
        return table.clone();
    }
    let mut all = RoutingTable::clone(table);
    all.services.extend_from_slice(routes);
    Arc::new(all)
}

/// What the judge and the record are told of the data plane's counts: all but the page's.
pub fn without_page(report: Report) -> Option<Report> {
    let is_page = |id: &ServiceId| matches!(id.as_str(), BY_HOST | BY_PATH);
    match report {
        Report::Failure(failure) if is_page(&failure.server.service) => None,
        Report::Failure(failure) => Some(Report::Failure(failure)),
        Report::Answered(seen) if is_page(&seen.server.service) => None,
        Report::Answered(seen) => Some(Report::Answered(seen)),
        Report::Traffic(mut traffic) => {
            traffic.services.retain(|id, _| !is_page(id));
            traffic.servers.retain(|id, _| !is_page(&id.service));
            traffic.sources.retain(|source| !is_page(&source.service));
            Some(Report::Traffic(traffic))
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::input::{FailureKind, ServiceTraffic, TrafficFailure, TrafficReport};

    use super::*;

    #[test]
    fn nobody_is_told_of_requests_for_the_page() {
        let page = ServiceId::new(BY_PATH);
        let shop = ServiceId::new("shop");
        let traffic = TrafficReport {
            services: [(page.clone(), ServiceTraffic::default()), (shop.clone(), ServiceTraffic::default())]
                .into(),
            servers: [(page.server("page"), Default::default())].into(),
            ..TrafficReport::default()
        };
        let Some(Report::Traffic(left)) = without_page(Report::Traffic(traffic)) else {
            panic!("it is told")
        };
        assert!(left.services.keys().eq([&shop]));
        assert!(left.servers.is_empty());
        let failure = |service: &ServiceId| {
            let server = service.server("x");
            Report::Failure(TrafficFailure { server, kind: FailureKind::Reset, retried_on: None })
        };
        assert!(without_page(failure(&page)).is_none());
        assert!(without_page(failure(&shop)).is_some());
    }
}
