//! The chain from the visitor inwards: each link of a service with its state, up to the one that is broken and what was changed
//! before it.
//!
//! `DNS ok → TLS ok (61 d) → listener ok → shop 2/3 → app-2 connection refused since 14:02:11 → was killed by SIGKILL (out of
//! memory) → deployed v42 8 min before`

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ServiceId;
use crate::incident::{Incident, IncidentState, Scope};
use crate::input::AdminState;
use crate::monitor::MonitorState;
use crate::needs::Needed;
use crate::snapshot::{
    DoorSnapshot, Health, LastProbe, ServerSnapshot, ServiceSnapshot, ServiceState, Snapshot,
};
use crate::time::Wall;
use crate::words::{measured, utc};

/// A certificate that ends within so many days is worth a look.
const DAYS_FEW: i64 = 14;
const DAY_MS: i64 = 86_400_000;
/// A change counts as near for so long.
const HOUR_MS: i64 = 3_600_000;
/// Letters of what others said, at most.
const WORDS_MAX: usize = 120;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// How it is.
    pub state: LinkState,
    /// What it is and how, with its age: `shop 2/3`, `app-2 connection refused since 14:02:11`.
    pub text: String,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// It holds.
    Ok,
    /// It holds, and somebody should look.
    Weak,
    /// It does not hold.
    Broken,
    /// It tells why, and is no link itself.
    Why,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A certificate that visitors are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSnapshot {
    /// The host names that it is made out to; `*.` before those that stand for many.
    pub names: Vec<String>,
    /// Until when it is good.
    pub until: Wall,
}

/// The links in one line.
pub fn line(links: &[Link]) -> String {
    links.iter().map(|link| link.text.as_str()).collect::<Vec<_>>().join(" → ")
}

impl Snapshot {
    /// The chain of a service, from outside in; empty: there is no such service.
    pub fn chain(&self, id: &ServiceId) -> Vec<Link> {
        let Some(service) = self.service(id) else { return Vec::new() };
        let incident = self.incidents.iter().find(|incident| {
            incident.state != IncidentState::Resolved && incident.scope == Scope::Service(id.clone())
        });
        let mut links: Vec<Link> = Vec::new();
        links.extend(dns(service));
        links.extend(self.tls(service));
        links.push(match (&service.door, listener(service)) {
            (Some(check), known) if known.state == LinkState::Ok => door(check, self.at),
            (_, known) => known,
        });
        links.push(servers(service));
        if let Some(server) = worst(service) {
            links.push(of_server(server));
            links.extend(end_of_process(server, incident.map(|incident| &**incident)));
        }
        links.extend(self.needs(service, incident.map(|incident| &**incident)));
        if service.state != ServiceState::Healthy {
            links.extend(self.change(service, incident.map(|incident| &**incident)));
        }
        links
    }

    fn tls(&self, service: &ServiceSnapshot) -> Option<Link> {
        let fits = |name: &String| {
            service.hosts.iter().any(|host| {
                let below = |pattern: &str, name: &str| {
                    let rest = pattern.strip_prefix('*').and_then(|suffix| name.strip_suffix(suffix));
                    rest.is_some_and(|label| !label.is_empty() && !label.contains('.'))
                };
                host == name || below(name, host) || below(host, name)
            })
        };
        let mine = self
            .certificates
            .iter()
            .filter(|certificate| service.hosts.is_empty() || certificate.names.iter().any(fits));
        let until = mine.map(|certificate| certificate.until).min().filter(|_| !service.tcp)?;
        let days = until.ms_since(self.at).div_euclid(DAY_MS);
        Some(match days {
            ..0 => broken(format!("TLS certificate expired {} d ago", -days)),
            0..DAYS_FEW => weak(format!("TLS ok ({days} d left)")),
            _ => ok(format!("TLS ok ({days} d)")),
        })
    }

    /// What it needs and is down.
    fn needs(&self, service: &ServiceSnapshot, incident: Option<&Incident>) -> Option<Link> {
        let root = incident.and_then(|incident| incident.part_of);
        let down = |need: &&Needed| match need {
            Needed::Service(id) => self.service(id).is_some_and(|s| s.state == ServiceState::Down),
            Needed::Server(id) => self.server(id).is_some_and(|s| s.health == Health::Unhealthy),
            Needed::Monitor(id) => self.monitor(id).is_some_and(|m| m.state == MonitorState::Down),
            // Nobody states that; it is found out.
            Needed::Address(_) => false,
        };
        let named = service.needs.iter().find(down);
        match (named, root) {
            (Some(need), Some(root)) => {
                Some(broken(format!("needs {need}, which is down (incident {root})")))
            }
            (Some(need), None) => Some(broken(format!("needs {need}, which is down"))),
            (None, Some(root)) => {
                let mut all = self.incidents.iter();
                let machine = all.find(|i| i.id == root && matches!(i.scope, Scope::Address(_)));
                Some(machine.map_or_else(
                    || why(format!("with incident {root}")),
                    |machine| broken(format!("{} is gone (incident {root})", machine.scope)),
                ))
            }
            (None, None) => None,
        }
    }

    /// The change right before it, or of the last hour.
    fn change(&self, service: &ServiceSnapshot, incident: Option<&Incident>) -> Option<Link> {
        let told = |what: &str, at: Wall, than: Wall, word: &str| {
            let ms = u64::try_from(than.ms_since(at)).ok()?;
            Some(why(format!("{} {} {word}", short(what), measured(ms))))
        };
        if let Some(incident) = incident {
            let change = incident.changes.iter().find(|change| change.at <= incident.began_at)?;
            return told(&change.what, change.at, incident.began_at, "before");
        }
        let near = self.changes.iter().find(|change| {
            let mine = change.service.as_ref().is_none_or(|id| *id == service.id);
            mine && self.at.ms_since(change.at) <= HOUR_MS
        })?;
        told(&near.what, near.at, self.at, "ago")
    }
}

fn dns(service: &ServiceSnapshot) -> Option<Link> {
    let front = service.front.as_ref().filter(|front| !front.names.is_empty())?;
    let stale = front.dns.iter().find(|says| says.stale);
    Some(match stale {
        Some(says) => broken(format!("DNS {} leads to a dead address: {}", says.name, short(&says.text))),
        None if front.dns.is_empty() => why("DNS not looked at yet".to_owned()),
        None => ok("DNS ok".to_owned()),
    })
}

/// Mainstay's own door, if it is looked at as visitors see it.
fn door(check: &DoorSnapshot, at: Wall) -> Link {
    let last = check.last.as_ref();
    let checked = |last: &LastProbe| {
        let ms = u64::try_from(at.ms_since(last.at)).unwrap_or(0);
        format!("listener ok (checked {} ago)", measured(ms))
    };
    match (check.state, last) {
        (MonitorState::Down, last) => {
            let failed = last.filter(|last| !last.good);
            let what = failed.map_or("does not answer well", |last| &last.text);
            broken(format!("front door {} since {}", short(what), clock(check.since)))
        }
        (MonitorState::Up, Some(last)) if last.good => ok(checked(last)),
        (MonitorState::Up, Some(last)) => weak(format!("front door {}", short(&last.text))),
        _ => ok("listener ok".to_owned()),
    }
}

fn listener(service: &ServiceSnapshot) -> Link {
    let addresses = service.front.as_ref().map_or(&[][..], |front| &front.addresses);
    let lost = addresses.iter().filter(|address| !address.good);
    let first = lost.clone().min_by_key(|address| address.since);
    match (first, lost.count()) {
        (None, _) => ok("listener ok".to_owned()),
        (Some(first), n) if n < addresses.len() => {
            weak(format!("{} does not answer since {}", first.address, clock(first.since)))
        }
        (Some(first), _) => broken(format!("no front address answers since {}", clock(first.since))),
    }
}

fn servers(service: &ServiceSnapshot) -> Link {
    let (all, serve) = (service.servers.len(), service.servers.iter().filter(|s| s.in_rotation).count());
    let text = format!("{} {serve}/{all}", service.id);
    match service.state {
        ServiceState::Healthy => ok(text),
        ServiceState::Down => broken(format!("{text} answers nobody")),
        ServiceState::Degraded => weak(text),
        ServiceState::Unknown => why(format!("{text} not known yet")),
        ServiceState::Maintenance => why(format!("{text} in maintenance")),
    }
}

/// The one that has been unwell for longest; one that a person took out is not unwell.
fn worst(service: &ServiceSnapshot) -> Option<&ServerSnapshot> {
    let unwell = service.servers.iter().filter(|s| s.admin == AdminState::Ready);
    let unwell = unwell.filter(|s| matches!(s.health, Health::Unhealthy | Health::Degraded));
    unwell.min_by_key(|s| (s.health != Health::Unhealthy, s.health_since))
}

fn of_server(server: &ServerSnapshot) -> Link {
    let probe = server.last_probe.as_ref().filter(|probe| !probe.good);
    let what = probe.map_or(server.health.as_str(), |probe| probe.text.as_str());
    let text = format!("{} {} since {}", server.id.name, short(what), clock(server.health_since));
    if server.health == Health::Unhealthy { broken(text) } else { weak(text) }
}

fn end_of_process(server: &ServerSnapshot, incident: Option<&Incident>) -> Option<Link> {
    let exit = server.process.as_ref()?.last_exit?;
    let evidence = incident.and_then(|incident| incident.diagnosis.as_ref()).map(|d| &d.evidence);
    let memory = evidence.is_some_and(|all| {
        all.iter().any(|text| text.contains(&*server.id.name) && text.contains("memory had run out"))
    });
    Some(why(format!("{exit}{}", if memory { " (out of memory)" } else { "" })))
}

/// `14:02:11`
fn clock(at: Wall) -> String {
    utc(at).get(11..19).unwrap_or_default().to_owned()
}

fn short(text: &str) -> String {
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn ok(text: String) -> Link {
    Link { state: LinkState::Ok, text }
}

fn weak(text: String) -> Link {
    Link { state: LinkState::Weak, text }
}

fn broken(text: String) -> Link {
    Link { state: LinkState::Broken, text }
}

fn why(text: String) -> Link {
    Link { state: LinkState::Why, text }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::MonitorId;
    use crate::input::ProbeFailure;
    use crate::monitor::MonitorPolicy;
    use crate::testing::{Bench, Look, app, policy, shop};

    fn chain(bench: &Bench) -> Vec<Link> {
        let mut snapshot = bench.model.snapshot(bench.now);
        let until = Wall(snapshot.at.0 + 61 * DAY_MS + 1);
        snapshot.certificates =
            vec![CertificateSnapshot { names: vec!["shop.example.com".to_owned()], until }];
        snapshot.chain(&shop())
    }

    #[test]
    fn a_service_that_is_well_is_a_short_chain() {
        let bench = Bench::settled(policy(3, false));
        assert_eq!(line(&chain(&bench)), "TLS ok (61 d) → listener ok → shop 3/3");
        assert!(chain(&bench).iter().all(|link| link.state == LinkState::Ok));
    }

    #[test]
    fn the_broken_link_is_told_with_its_age() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(5));
        let links = chain(&bench);
        let text = line(&links);
        assert!(
            text.starts_with("TLS ok (61 d) → listener ok → shop 2/3 → app-2 connection refused since "),
            "{text}"
        );
        let states: Vec<LinkState> = links.iter().map(|link| link.state).collect();
        assert_eq!(states, [LinkState::Ok, LinkState::Ok, LinkState::Weak, LinkState::Broken]);
        assert!(bench.model.snapshot(bench.now).chain(&ServiceId::new("nobody")).is_empty());
    }

    #[test]
    fn a_process_that_ended_and_what_was_changed_before_end_the_chain() {
        let mut bench = Bench::settled(policy(1, true));
        let at = bench.now.wall;
        bench.tell(crate::Input::Changed(crate::change::Change {
            at,
            kind: crate::change::ChangeKind::Told,
            service: Some(shop()),
            what: "deployed v42".to_owned(),
            by: "ci".to_owned(),
        }));
        bench.supervisor = crate::testing::Supervisor::Silent;
        bench.advance(Duration::from_secs(480));
        bench.crash(&app(1));
        let text = line(&chain(&bench));
        assert!(text.contains("was killed by SIGKILL → deployed v42 8.0 min before"), "{text}");
    }

    #[test]
    fn a_door_that_is_looked_at_is_a_link_with_its_age_and_an_incident_that_names_the_service() {
        let mut policy = policy(1, false);
        let front = MonitorId::new("shop-front");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80)).into();
        let monitor = MonitorPolicy {
            address,
            interval: Duration::from_secs(10),
            front_of: Some(shop()),
            needs: vec![Needed::Service(shop())],
            ..MonitorPolicy::default()
        };
        policy.monitors.insert(front.clone(), monitor);
        let mut bench = Bench::settled(policy);
        bench.advance(Duration::from_secs(60));
        let text = line(&chain(&bench));
        assert!(text.contains(" → listener ok (checked ") && text.contains(" s ago) → shop 1/1"), "{text}");

        bench.monitor_looks.insert(front, Look::Bad(ProbeFailure::Status(503)));
        bench.advance(Duration::from_secs(30));
        let text = line(&chain(&bench));
        assert!(text.contains(" → front door answered status 503 since "), "{text}");
        let incidents = bench.incidents();
        let title = "visitors at the front door of shop are not served: it answered status 503";
        assert_eq!((incidents.len(), &*incidents[0].title), (1, title));

        // When the service itself is down, that is the one incident that is told of.
        let mut again = Bench::settled(bench.policy.clone());
        again.advance(Duration::from_secs(30));
        again.is_bad(&app(1), ProbeFailure::Refused);
        again.monitor_looks.insert(MonitorId::new("shop-front"), Look::Bad(ProbeFailure::Status(503)));
        again.effects.clear();
        again.advance(Duration::from_secs(60));
        let told: Vec<_> = again.notices().iter().map(|notice| notice.incident).collect();
        let of_shop = again.incidents().iter().find(|i| i.scope == Scope::Service(shop())).unwrap().id;
        assert!(!told.is_empty() && told.iter().all(|id| *id == of_shop), "{told:?}");
    }
}
