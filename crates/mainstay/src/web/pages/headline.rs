//! The sentence on top: how things are, as one would tell a colleague.

use mainstay_model::Snapshot;
use mainstay_model::incident::{Incident, IncidentState, Scope};
use mainstay_model::monitor::MonitorCounts;
use mainstay_model::routing::RoutingMode;
use mainstay_model::snapshot::{ServiceSnapshot, ServiceState};

use super::look::Look;
use crate::web::words;

/// The sentence, and one more where it helps.
pub(super) struct Headline {
    pub(super) look: Look,
    pub(super) sentence: String,
    pub(super) note: Option<String>,
}

/// How everything is.
pub(super) fn headline(snapshot: &Snapshot) -> Headline {
    let services = &snapshot.services;
    let of = |state| services.iter().filter(move |service| service.state == state);
    let unwell: Vec<_> = of(ServiceState::Down).chain(of(ServiceState::Degraded)).collect();
    let unknown = of(ServiceState::Unknown).count();
    let inside = of(ServiceState::Maintenance).count();
    let (look, sentence) = match (services.as_slice(), unwell.as_slice()) {
        ([], _) if snapshot.monitor_counts.total() > 0 => of_monitors(&snapshot.monitor_counts),
        ([], _) => (Look::Unknown, "There are no services yet".to_owned()),
        ([one], []) if inside == 1 => (Look::Maintenance, format!("{} is in maintenance", one.id)),
        (all, []) if unknown == 0 && inside > 0 => {
            let sentence = match all.len() - inside {
                0 => format!("All {inside} services are in maintenance"),
                _ => format!("{inside} of {} services in maintenance, the others are healthy", all.len()),
            };
            (Look::Maintenance, sentence)
        }
        ([one], []) if unknown == 0 => (Look::Healthy, all_serve(one)),
        ([one], []) => (Look::Unknown, format!("Nothing is known of {} yet", one.id)),
        (all, []) if unknown == 0 => {
            let servers = all.iter().map(|service| service.servers.len() as u64).sum();
            let servers = words::counted(servers, "server", "servers");
            (Look::Healthy, format!("All {} services are healthy, on {servers}", all.len()))
        }
        (all, []) => (Look::Unknown, format!("Nothing is known of {unknown} of {} services yet", all.len())),
        (_, [worst]) => (Look::of_service(worst.state), how_it_is(worst)),
        (all, [worst, ..]) => {
            let sentence = format!("{} of {} services are not well", unwell.len(), all.len());
            (Look::of_service(worst.state), sentence)
        }
    };
    let note = match (services.as_slice(), unwell.as_slice()) {
        ([], _) if snapshot.monitor_counts.total() > 0 => None,
        ([], _) => Some("Write one into the config and reload; `mainstay init` shows how.".to_owned()),
        (_, []) => None,
        (_, [only]) => incident_of(snapshot, only).map(what_visitors_noticed),
        (_, several) => Some(several.iter().map(|service| how_it_is(service)).collect::<Vec<_>>().join("; ")),
    };
    Headline { look, sentence, note }
}

/// Where nothing is served, what is watched is all there is.
fn of_monitors(counts: &MonitorCounts) -> (Look, String) {
    let all = words::counted(counts.total(), "monitor", "monitors");
    match (counts.down, counts.degraded, counts.unknown) {
        (0, 0, 0) if counts.maintenance > 0 => {
            (Look::Maintenance, format!("{} of {all} in maintenance", words::count(counts.maintenance)))
        }
        (0, 0, 0) if counts.total() == 1 => (Look::Healthy, "The monitor is up".to_owned()),
        (0, 0, 0) => (Look::Healthy, format!("All {all} are up")),
        (0, 0, unknown) => {
            (Look::Unknown, format!("Nothing is known of {} of {all} yet", words::count(unknown)))
        }
        (0, degraded, _) => (Look::Degraded, format!("{} of {all} not well", words::count(degraded))),
        (down, ..) => (Look::Down, format!("{} of {all} down", words::count(down))),
    }
}

fn all_serve(service: &ServiceSnapshot) -> String {
    match service.servers.len() {
        0 => format!("{} has no servers", service.id),
        1 => format!("The server of {} is serving", service.id),
        n if service.servers.iter().all(|server| server.in_rotation) => {
            format!("All {n} servers of {} are serving", service.id)
        }
        _ => format!("{} is serving, on {}", service.id, part_in_rotation(service)),
    }
}

fn how_it_is(service: &ServiceSnapshot) -> String {
    let name = &service.id;
    match (service.state, service.mode) {
        (ServiceState::Down, _) => format!("{name} answers nobody"),
        (_, RoutingMode::Panic) => format!("{name} has too few healthy servers: traffic goes to all of them"),
        (_, RoutingMode::Backup) => format!("{name} runs on its backup, on {}", part_in_rotation(service)),
        _ if turned_away(service) > 0.0 => {
            let (away, all) = (turned_away(service), service.rates.per_second);
            let (away, all) = (words::count(away.ceil() as u64), words::count(all.ceil() as u64));
            format!("{name} has no room for all: {away} of {all} requests a second are turned away")
        }
        _ if service.servers.iter().all(|server| server.in_rotation) => {
            format!("{name} runs on all of its servers, but not all is well")
        }
        _ => format!("{name} runs on {}", part_in_rotation(service)),
    }
}

/// Requests a second for which there is no room.
fn turned_away(service: &ServiceSnapshot) -> f64 {
    service.limits.as_ref().map_or(0.0, |limits| limits.shed_per_second)
}

fn part_in_rotation(service: &ServiceSnapshot) -> String {
    let serving = service.servers.iter().filter(|server| server.in_rotation).count();
    format!("{serving} of {}", words::counted(service.servers.len() as u64, "server", "servers"))
}

/// The newest incident of a service that is not over.
fn incident_of<'a>(snapshot: &'a Snapshot, service: &ServiceSnapshot) -> Option<&'a Incident> {
    let scope = Scope::Service(service.id.clone());
    let mut open = snapshot.incidents.iter().filter(|incident| incident.state != IncidentState::Resolved);
    open.find(|incident| incident.scope == scope).map(|incident| &**incident)
}

/// What an incident was for visitors, in one sentence; empty when it is not about a service, and none could notice.
pub(super) fn what_visitors_noticed(incident: &Incident) -> String {
    if !matches!(incident.scope, Scope::Service(_)) {
        return String::new();
    }
    let seen = &incident.seen;
    let (one, many) = seen.nouns();
    let requests = |n| words::counted(n, one, many);
    let saved = match seen.saved {
        0 => String::new(),
        1 => format!("1 {one} was saved by a retry"),
        n => format!("{} were saved by a retry", requests(n)),
    };
    let hurt = match (seen.failed, seen.server_errors) {
        (0, 0) => None,
        (failed, 0) => Some(format!("{} failed", requests(failed))),
        (0, errors) => Some(format!("{} got a server's error", requests(errors))),
        (failed, errors) => {
            Some(format!("{} failed, {} got a server's error", requests(failed), words::count(errors)))
        }
    };
    let shed = (seen.shed > 0).then(|| format!("{} were refused for want of room", requests(seen.shed)));
    let hurt = match (hurt, shed) {
        (Some(hurt), Some(shed)) => Some(format!("{hurt}, {shed}")),
        (hurt, shed) => hurt.or(shed),
    };
    match (hurt, saved.is_empty()) {
        (None, true) if seen.requests == 0 => format!("No {one} came meanwhile"),
        (None, true) => "Nobody noticed".to_owned(),
        (None, false) => format!("Nobody noticed: {saved}"),
        (Some(hurt), true) => hurt,
        (Some(hurt), false) => format!("{hurt}; {saved}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mainstay_model::snapshot::Health;

    use super::*;
    use crate::web::tests::fake;

    fn plain(text: &str) -> String {
        text.replace(['\u{202f}', '\u{a0}'], " ")
    }

    #[test]
    fn nothing_configured_says_what_to_do() {
        let headline = headline(&Snapshot::default());
        assert_eq!(headline.sentence, "There are no services yet");
        assert!(headline.note.unwrap().contains("mainstay init"));
    }

    #[test]
    fn one_service_with_all_its_servers_is_named() {
        let headline = headline(&fake::healthy());
        assert_eq!(
            (headline.look, headline.sentence.as_str()),
            (Look::Healthy, "All 3 servers of shop are serving")
        );
        assert_eq!(headline.note, None);
    }

    #[test]
    fn a_lost_server_says_how_many_are_left_and_what_visitors_noticed() {
        let mut snapshot = fake::snapshot();
        snapshot.services.retain(|service| service.id.as_str() == "shop");
        let told = headline(&snapshot);
        assert_eq!(plain(&told.sentence), "shop runs on 2 of 4 servers");
        assert_eq!(plain(&told.note.unwrap()), "Nobody noticed: 12 requests were saved by a retry");
        let incident = Arc::make_mut(&mut snapshot.incidents[0]);
        (incident.seen.failed, incident.seen.server_errors, incident.seen.saved) = (1, 2, 1);
        assert_eq!(
            plain(&headline(&snapshot).note.unwrap()),
            "1 request failed, 2 got a server's error; 1 request was saved by a retry"
        );
    }

    #[test]
    fn down_panic_backup_and_unknown_each_have_their_sentence() {
        let mut snapshot = fake::healthy();
        let service = &mut snapshot.services[0];
        service.state = ServiceState::Degraded;
        service.mode = RoutingMode::Panic;
        assert!(headline(&snapshot).sentence.contains("traffic goes to all"));
        snapshot.services[0].mode = RoutingMode::Backup;
        assert!(headline(&snapshot).sentence.contains("on its backup"));
        snapshot.services[0].state = ServiceState::Down;
        let down = headline(&snapshot);
        assert_eq!((down.look, down.sentence.as_str()), (Look::Down, "shop answers nobody"));
        snapshot.services[0].state = ServiceState::Unknown;
        snapshot.services[0].servers[0].health = Health::Unknown;
        assert_eq!(headline(&snapshot).look, Look::Unknown);
    }

    #[test]
    fn a_service_that_turns_visitors_away_is_not_said_to_serve() {
        let mut snapshot = fake::healthy();
        let service = &mut snapshot.services[0];
        service.state = ServiceState::Degraded;
        service.rates.per_second = 743.0;
        service.limits = Some(mainstay_model::snapshot::LimitsSnapshot {
            per_address: None,
            places: None,
            concurrent: Some(60),
            queue: 60,
            limited_per_second: 0.0,
            shed_per_second: 290.0,
        });
        assert_eq!(
            headline(&snapshot).sentence,
            "shop has no room for all: 290 of 743 requests a second are turned away"
        );
    }

    #[test]
    fn where_nobody_asked_nobody_is_said_not_to_have_noticed() {
        let snapshot = fake::snapshot();
        let mut incident = (*snapshot.incidents[0]).clone();
        incident.seen = mainstay_model::incident::VisitorsSaw::default();
        assert_eq!(what_visitors_noticed(&incident), "No request came meanwhile");
        incident.scope = Scope::Own(mainstay_model::input::OwnPart::Alerts);
        assert_eq!(what_visitors_noticed(&incident), "");
    }

    #[test]
    fn several_unwell_services_are_counted_and_told_one_by_one() {
        let mut snapshot = fake::snapshot();
        for service in &mut snapshot.services {
            service.state = ServiceState::Down;
        }
        let told = headline(&snapshot);
        assert_eq!(told.sentence, "2 of 2 services are not well");
        assert_eq!(told.note.unwrap(), "api answers nobody; shop answers nobody");
    }
}
