//! What needs what: names become services, servers and monitors, and nothing may need itself.

use std::collections::BTreeMap;

use mainstay_model::needs::Needed;
use mainstay_model::{MonitorId, ServerId, ServiceId};

use super::Config;
use super::whole::Resolver;
use crate::config::mistake::Place;
use crate::config::raw::RawConfig;
use crate::config::read::{At, Field, OneOrMany, Text};

impl Resolver<'_> {
    /// `needs` of services and monitors; after all of these are known.
    pub(super) fn needs(&self, raw: &RawConfig, config: &mut Config) {
        let mut places: BTreeMap<Needed, Place> = BTreeMap::new();
        for (name, service) in raw.service.get().map_or(&[][..], |named| &named.value.0) {
            let id = ServiceId::new(name.value.as_str());
            let Field::Here(service) = service else { continue };
            let Some((place, needs)) = self.what_is_needed(&service.value.needs, config) else { continue };
            places.insert(Needed::Service(id.clone()), place);
            if let Some(policy) = config.policy.services.get_mut(&id) {
                policy.needs = needs;
            }
        }
        for (name, monitor) in raw.monitor.get().map_or(&[][..], |named| &named.value.0) {
            let id = MonitorId::new(name.value.as_str());
            let Field::Here(monitor) = monitor else { continue };
            let Some((place, needs)) = self.what_is_needed(&monitor.value.needs, config) else { continue };
            places.insert(Needed::Monitor(id.clone()), place);
            if let Some(policy) = config.policy.monitors.get_mut(&id) {
                policy.needs = needs;
            }
        }
        self.no_circle(&places, config);
    }

    fn what_is_needed(
        &self,
        field: &Field<OneOrMany<Text>>,
        config: &Config,
    ) -> Option<(Place, Vec<Needed>)> {
        let list = field.get()?;
        let mut needs: Vec<Needed> = Vec::new();
        for item in &list.value.0.items {
            if let Some(need) = self.need(item, config)
                && !needs.contains(&need)
            {
                needs.push(need);
            }
        }
        Some((list.place.clone(), needs))
    }

    /// `shop`, `shop/app-1`, `payments`; `service:db` or `monitor:db` where both have the name.
    fn need(&self, item: &At<Text>, config: &Config) -> Option<Needed> {
        let policy = &config.policy;
        let text = item.value.0.trim();
        let service = |name: &str| {
            let id = ServiceId::new(name);
            policy.services.contains_key(&id).then_some(Needed::Service(id))
        };
        let monitor = |name: &str| {
            let id = MonitorId::new(name);
            policy.monitors.contains_key(&id).then_some(Needed::Monitor(id))
        };
        let found = match (text.split_once(':'), text.parse::<ServerId>()) {
            (Some(("service", name)), _) => service(name),
            (Some(("monitor", name)), _) => monitor(name),
            (_, Ok(id)) => policy.server(&id).is_some().then_some(Needed::Server(id)),
            _ => match (service(text), monitor(text)) {
                (Some(_), Some(_)) => {
                    let what = format!("both a service and a monitor are called {text}");
                    let remedy = format!("write \"service:{text}\" or \"monitor:{text}\"");
                    self.mistakes.value(&item.place, what, remedy);
                    return None;
                }
                (one, other) => one.or(other),
            },
        };
        if found.is_none() {
            let services = policy.services.keys().map(ToString::to_string);
            let all: Vec<String> = services.chain(policy.monitors.keys().map(ToString::to_string)).collect();
            let near = crate::config::mistake::nearest(text, all.iter().map(String::as_str));
            let remedy = match near {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "write the name of a service, a monitor, or a server as SERVICE/SERVER".to_owned(),
            };
            self.mistakes.value(&item.place, "there is no such service, server or monitor", remedy);
        }
        found
    }

    /// Whoever needs itself would be its own fault.
    fn no_circle(&self, places: &BTreeMap<Needed, Place>, config: &Config) {
        for (start, place) in places {
            let mut way = vec![start.clone()];
            // Told once for each circle, where its first member stands.
            if circle(&mut way, config) && way.iter().all(|member| member >= start) {
                let names: Vec<String> = way.iter().map(ToString::to_string).collect();
                let what = format!("it needs itself: {} → {}", names.join(" → "), start);
                self.mistakes.value(
                    place,
                    what,
                    "take one of them out, the one that also works without the other",
                );
            }
        }
    }
}

/// Whether what the way begins with is reached from its end again; the way is then the circle.
fn circle(way: &mut Vec<Needed>, config: &Config) -> bool {
    let needs = way.last().map(|last| needs_of(last, config)).unwrap_or_default();
    for need in needs {
        // Whoever needs a server needs what its service needs.
        let need = match need {
            Needed::Server(server) => Needed::Service(server.service),
            other => other,
        };
        if need == way[0] {
            return true;
        }
        if !way.contains(&need) {
            way.push(need);
            if circle(way, config) {
                return true;
            }
            way.pop();
        }
    }
    false
}

fn needs_of(what: &Needed, config: &Config) -> Vec<Needed> {
    match what {
        Needed::Service(id) => config.policy.services.get(id).map(|policy| policy.needs.clone()),
        Needed::Monitor(id) => config.policy.monitors.get(id).map(|policy| policy.needs.clone()),
        Needed::Server(_) | Needed::Address(_) => None,
    }
    .unwrap_or_default()
}
