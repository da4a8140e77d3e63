//! The check itself: layer after layer from this machine to the page, and on along its redirects. It looks and writes down; what it means
//! is for `verdict`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::budget::{Budget, Share};
use super::connect::{self, Wanted};
use super::http::{self, Question, keep_cookies};
use super::machine;
use super::names::{self, OtherResolver, Settings};
use super::network::{self, References};
use super::observed::{Hop, Machine, Names, Observations, Outcome, Stopped, Walk};
use super::target::{Host, Target};
use super::tls;
use super::trust::Trust;

/// As many redirects are followed.
pub(super) const REDIRECTS_MAX: usize = 10;
/// With less time than this nothing can be learned from another connection.
const TIME_MIN: Duration = Duration::from_millis(100);

/// What is to be checked, and how.
pub(super) struct Wishes {
    pub target: Target,
    pub timeout: Duration,
    pub slow: Duration,
    pub expect: Option<String>,
    pub references: References,
    pub other_resolver: OtherResolver,
    pub trust: Arc<Trust>,
}

/// Looks at everything, within the time that is allowed.
pub(super) async fn look(wishes: &Wishes) -> Observations {
    let budget = Budget::new(wishes.timeout);
    let machine = machine::look();
    let near = match wishes.target.host() {
        Host::Address(address) => is_near(address),
        Host::Name(name) => names::is_private(&name),
    };
    let network = network::look(&machine, &wishes.references, near, budget.deadline(Share::Network)).await;
    let now = Timestamp::now().as_second();
    let mut guide = Guide {
        wishes,
        budget,
        settings: Settings::read(),
        machine: &machine,
        now,
        names: BTreeMap::new(),
        reached: BTreeMap::new(),
        cookies: BTreeMap::new(),
    };
    let (hops, stopped) = guide.follow().await;
    Observations {
        url: wishes.target.shown().to_owned(),
        slow: wishes.slow,
        expect: wishes.expect.clone(),
        now,
        took: budget.took(),
        machine,
        network,
        hops,
        stopped,
    }
}

/// Whether an address is one of this machine or of a private network, so that the state of the Internet tells nothing about it.
pub(super) fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified()
        }
    }
}

/// One check on its way, with what earlier steps have taught.
struct Guide<'a> {
    wishes: &'a Wishes,
    budget: Budget,
    settings: Settings,
    machine: &'a Machine,
    now: i64,
    names: BTreeMap<String, Names>,
    /// The address of a host and port that answered before: a browser goes on using it.
    reached: BTreeMap<(String, u16), SocketAddr>,
    cookies: BTreeMap<String, Vec<String>>,
}

impl Guide<'_> {
    async fn follow(&mut self) -> (Vec<Hop>, Option<Stopped>) {
        let (mut hops, mut visited) = (Vec::new(), Vec::new());
        let mut target = self.wishes.target.clone();
        loop {
            let cookies = self.cookies.get(&target.authority()).cloned().unwrap_or_default();
            visited.push((target.shown().to_owned(), cookies));
            let (mut hop, location) = self.hop(&target).await;
            let Some(location) = location else {
                hops.push(hop);
                return (hops, None);
            };
            let next = target.join(&location);
            let shown = next.as_ref().map_or_else(|| redacted(&location), |next| next.shown().to_owned());
            for walk in [&mut hop.walk, &mut hop.other].into_iter().flatten() {
                if let Some(Ok(page)) = walk.http.as_mut().map(|http| http.result.as_mut()) {
                    page.location = page.location.take().map(|_| shown.clone());
                }
            }
            hops.push(hop);
            let Some(next) = next else { return (hops, Some(Stopped::Nowhere(shown))) };
            let cookies = self.cookies.get(&next.authority()).cloned().unwrap_or_default();
            let stopped = if visited.contains(&(shown.clone(), cookies)) {
                Some(Stopped::Loop(shown))
            } else if hops.len() > REDIRECTS_MAX {
                Some(Stopped::TooMany(REDIRECTS_MAX))
            } else if self.budget.left() < TIME_MIN {
                Some(Stopped::OutOfTime(shown))
            } else {
                None
            };
            if stopped.is_some() {
                return (hops, stopped);
            }
            target = next;
        }
    }

    /// One URL, and where it redirects to, as the server wrote it.
    async fn hop(&mut self, target: &Target) -> (Hop, Option<String>) {
        let host = target.host();
        let host_text = target.authority();
        let (names, own, other) = self.addresses(&host).await;
        let name = match &host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        };
        let key = (name.clone(), target.port());
        let (own, other) = match self.reached.get(&key) {
            Some(address) => (vec![address.ip()], Vec::new()),
            None => (own, other),
        };
        let wanted = Wanted { own, other, port: target.port(), end: self.budget.deadline(Share::Rest) };
        let (mut tcp, standing) = connect::to_all(wanted, self.budget.deadline(Share::Tcp)).await;
        for attempt in tcp.tries.iter_mut().filter(|attempt| attempt.outcome == Outcome::TimedOut) {
            // The kernel asks for an absent neighbour longer than a check waits.
            let ip = attempt.address.ip();
            if self.machine.is_neighbour(ip) && network::is_there(ip) == Some(false) {
                attempt.outcome = Outcome::Unreachable;
            }
        }
        let mut hop = Hop {
            url: target.shown().to_owned(),
            https: target.https(),
            host: name,
            names,
            tcp,
            walk: None,
            other: None,
        };
        let mut set = Vec::new();
        if let Some((stream, address)) = standing.own {
            let (walk, cookies) = self.walk(stream, address, target).await;
            (hop.walk, set) = (Some(walk), cookies);
        }
        if let Some((stream, address)) = standing.other
            && !hop.walk.as_ref().is_some_and(Walk::is_good)
            && self.budget.left() > TIME_MIN
        {
            let (walk, cookies) = self.walk(stream, address, target).await;
            if hop.walk.is_none() {
                set = cookies;
            }
            hop.other = Some(walk);
        }
        if let Some(way) = hop.way() {
            self.reached.insert(key, way.address);
        }
        keep_cookies(self.cookies.entry(host_text).or_default(), set);
        let location = hop.page().and_then(|page| page.location.clone());
        (hop, location)
    }

    /// Where a host leads: what was learned now, the addresses that this machine would use, and those that only the other resolver gave.
    async fn addresses(&mut self, host: &Host) -> (Option<Names>, Vec<IpAddr>, Vec<IpAddr>) {
        let name = match host {
            Host::Address(address) => return (None, vec![*address], Vec::new()),
            Host::Name(name) => name,
        };
        let mut new = None;
        if !self.names.contains_key(name) {
            let deadline = self.budget.deadline(Share::Names);
            let v4 = self.machine.v4.exists || !self.machine.v6.exists;
            let found = names::look_up(name, &self.settings, self.wishes.other_resolver, v4, deadline).await;
            self.names.insert(name.clone(), found.clone());
            new = Some(found);
        }
        let known = &self.names[name];
        (new, known.system_addresses(), known.other_addresses())
    }

    /// What answers on one connection, and the cookies that it sets.
    async fn walk(&self, stream: TcpStream, address: SocketAddr, target: &Target) -> (Walk, Vec<String>) {
        let cookies = self.cookies.get(&target.authority()).cloned().unwrap_or_default();
        let question = Question {
            target,
            cookies: &cookies,
            expect: self.wishes.expect.as_deref(),
            patience: self.wishes.slow.max(Duration::from_secs(1)),
        };
        let mut walk = Walk { address, tls: None, http: None };
        if !target.https() {
            let (http, set) = http::ask(stream, &question, self.end()).await;
            walk.http = Some(http);
            return (walk, set);
        }
        let deadline = self.budget.deadline(Share::Tls);
        let (tls, stream) =
            tls::shake_hands(stream, &target.host(), &self.wishes.trust, self.now, deadline).await;
        let tls = walk.tls.insert(tls);
        let certificate = tls.certificate.as_ref();
        let (holds, only_dates) =
            certificate.map_or((false, false), |own| (own.problems.is_empty(), own.only_dates_are_wrong()));
        let mut set = Vec::new();
        match stream {
            Some(stream) if holds => {
                let (http, cookies) = http::ask(stream, &question, self.end()).await;
                (walk.http, set) = (Some(http), cookies);
            }
            Some(stream) if only_dates => {
                let soon = self.end().min(Instant::now() + Duration::from_secs(2));
                tls.server_time = http::ask_time(stream, target, soon).await;
            }
            _ => {}
        }
        (walk, set)
    }

    fn end(&self) -> Instant {
        self.budget.deadline(Share::Rest)
    }
}

/// A redirect that is no web address, as far as it may be shown.
fn redacted(location: &str) -> String {
    let location = location.rsplit_once('@').map_or(location, |(_, rest)| rest);
    crate::cli::paint::clean(location).chars().take(200).collect()
}
