//! Which requests each service and route takes, and what is done to them; no two take the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_model::ServiceId;
use mainstay_model::carriage::Carriage;
use mainstay_model::limits::Level;
use mainstay_model::route::{Condition, Handling, HeaderRule, PathRule, Redirect, Route};
use mainstay_model::stencil::{Part, Piece, Stencil};

use super::Config;
use super::headers::header_name;
use super::whole::Resolver;
use crate::config::address::{self, Refusal};
use crate::config::mistake::Place;
use crate::config::raw::{RawRoute, RawService};
use crate::config::read::{At, Field, OneOrMany, Text};

/// A redirect that nobody keeps, with the same method.
const REDIRECT_STATUS: u64 = 307;

/// One host and path that a service or route takes.
struct Claim<'r> {
    service: &'r str,
    place: Place,
    /// `*`: every host.
    host: String,
    path: PathRule,
    methods: Vec<String>,
    headers: Vec<HeaderRule>,
}

impl Claim<'_> {
    /// Equally specific claims are in one class.
    fn class(&self) -> (&str, &str, bool, usize, bool) {
        (&self.host, self.path.prefix(), self.path.exact, self.headers.len(), self.methods.is_empty())
    }

    /// A host and nothing else.
    fn is_plain(&self) -> bool {
        self.path == PathRule::below("/") && self.methods.is_empty() && self.headers.is_empty()
    }

    /// A request could fit both.
    fn meets(&self, other: &Self) -> bool {
        let apart = |one: &HeaderRule| {
            let same = other.headers.iter().find(|two| two.name == one.name);
            same.is_some_and(|two| one.value.is_some() && two.value.is_some() && one.value != two.value)
        };
        let methods = self.methods.is_empty() || self.methods.iter().any(|m| other.methods.contains(m));
        methods && !self.headers.iter().any(apart)
    }

    /// Every request that fits one fits the other.
    fn is_same(&self, other: &Self) -> bool {
        let within = |a: &Self, b: &Self| {
            a.methods.iter().all(|m| b.methods.contains(m)) && a.headers.iter().all(|h| b.headers.contains(h))
        };
        within(self, other) && within(other, self)
    }

    fn words(&self) -> String {
        let host = if self.host == "*" { "every host" } else { &self.host };
        let path = match self.path == PathRule::below("/") {
            true => "",
            false => self.path.path.as_str(),
        };
        format!("{host}{}{path}", if path.is_empty() || self.host != "*" { "" } else { " with " })
    }
}

impl Resolver<'_> {
    /// What the services take and what their routes do. Called when the services are known, because a route may lead to
    /// another one.
    pub(super) fn routes(&self, services: &[(At<String>, Field<RawService>)], config: &mut Config) {
        let written = || services.iter().filter_map(|(name, service)| Some((name, service.get()?)));
        let led_to: Vec<&str> = written()
            .flat_map(|(_, service)| service.value.route.get().map_or(&[][..], |at| &at.value.items))
            .filter_map(|route| route.value.service.get().map(|at| at.value.0.as_str()))
            .collect();
        let mut claims = Vec::new();
        for (name, service) in written() {
            let id = ServiceId::new(name.value.as_str());
            let Some(policy) = config.policy.services.get_mut(&id) else { continue };
            let carriage = Arc::make_mut(&mut policy.carriage);
            if carriage.tcp.is_some() {
                let hosts = service.value.hosts.get().map_or_else(Vec::new, |at| self.hosts(at));
                carriage.hosts = hosts.into_iter().map(|(host, _)| host).filter(|host| host != "*").collect();
                continue;
            }
            self.own_rule(&name.value, service, led_to.contains(&name.value.as_str()), carriage, &mut claims);
        }
        for (name, service) in written() {
            let id = ServiceId::new(name.value.as_str());
            let items = service.value.route.get().map_or(&[][..], |at| &at.value.items);
            let routes: Vec<Route> = items
                .iter()
                .filter_map(|route| self.route(&id, &name.value, route, config, &mut claims))
                .collect();
            if let Some(policy) = config.policy.services.get_mut(&id) {
                Arc::make_mut(&mut policy.carriage).routes = routes;
            }
        }
        self.claims_apart(claims);
    }

    /// What a service takes by its own hosts and paths.
    fn own_rule<'r>(
        &self,
        name: &'r str,
        service: &At<RawService>,
        led_to: bool,
        carriage: &mut Carriage,
        claims: &mut Vec<Claim<'r>>,
    ) {
        let raw = &service.value;
        let hosts = match &raw.hosts {
            Field::Absent => vec![("*".to_owned(), service.place.clone())],
            Field::Bad => Vec::new(),
            Field::Here(at) if at.value.0.is_empty() => {
                carriage.unlisted = true;
                if !led_to {
                    let remedy = "write \"*\" for every host, or leave it out";
                    self.mistakes.value(
                        &at.place,
                        "no host leads here, and no route of another service",
                        remedy,
                    );
                }
                Vec::new()
            }
            Field::Here(at) => self.hosts(at),
        };
        let paths = self.path_rules(&raw.paths, false);
        let named: Vec<&(String, Place)> = hosts.iter().filter(|(host, _)| host != "*").collect();
        carriage.hosts = named.iter().map(|(host, _)| host.clone()).collect();
        // One that is every path makes the others say nothing.
        if !paths.iter().any(|(path, _)| path.prefix().is_empty()) {
            carriage.paths = paths.iter().map(|(path, _)| path.path.clone()).collect();
        }
        carriage.handling = Arc::new(Handling {
            redirect_https: raw.redirect_https.get().is_some_and(|at| at.value),
            request_headers: self.headers(&raw.request_headers),
            response_headers: self.headers(&raw.response_headers),
            ..Handling::default()
        });
        let every_path = [(PathRule::below("/"), Place::default())];
        for (host, host_place) in &hosts {
            for (path, path_place) in if paths.is_empty() { &every_path[..] } else { &paths } {
                let place = if paths.is_empty() { host_place } else { path_place };
                claims.push(Claim {
                    service: name,
                    place: place.clone(),
                    host: host.clone(),
                    path: path.clone(),
                    methods: Vec::new(),
                    headers: Vec::new(),
                });
            }
        }
    }

    fn route<'r>(
        &self,
        id: &ServiceId,
        name: &'r str,
        at: &At<RawRoute>,
        config: &Config,
        claims: &mut Vec<Claim<'r>>,
    ) -> Option<Route> {
        let raw = &at.value;
        let own = Arc::clone(&config.policy.services.get(id)?.carriage);
        let hosts = match raw.hosts.get() {
            Some(hosts) => self.hosts(hosts).into_iter().map(|(host, _)| host).collect(),
            None if own.unlisted => {
                let remedy = "write hosts = [\"shop.example.com\"] in the route";
                self.mistakes.absent(&at.place, "a route on no host, as its service has none", remedy);
                Vec::new()
            }
            None => own.hosts.clone(),
        };
        let mut paths = self.path_rules(&raw.path, false);
        paths.extend(self.path_rules(&raw.exact, true));
        if raw.path.is_absent() && raw.exact.is_absent() {
            paths.extend(own.paths.iter().map(|path| (PathRule::below(path), at.place.clone())));
        }
        let when = Condition {
            hosts,
            paths: paths.iter().map(|(path, _)| path.clone()).collect(),
            methods: self.methods(&raw.methods),
            headers: self.header_rules(raw),
        };
        // What is wrong in them takes nothing.
        let wrong = (paths.is_empty() && !(raw.path.is_absent() && raw.exact.is_absent()))
            || (when.hosts.is_empty() && raw.hosts.get().is_none() && !raw.hosts.is_absent());
        let every = (["*".to_owned()], [(PathRule::below("/"), at.place.clone())]);
        for host in if when.hosts.is_empty() { &every.0[..] } else { &when.hosts } {
            for (path, place) in if paths.is_empty() { &every.1[..] } else { &paths } {
                if wrong {
                    continue;
                }
                claims.push(Claim {
                    service: name,
                    place: place.clone(),
                    host: host.clone(),
                    path: path.clone(),
                    methods: when.methods.clone(),
                    headers: when.headers.clone(),
                });
            }
        }
        let service = self.answering(raw, config);
        let carried_by = config.policy.services.get(service.as_ref().unwrap_or(id)).map(|s| &s.carriage);
        let handling = self.handling(at, &own, carried_by.unwrap_or(&own));
        Some(Route { when, service, handling: Arc::new(handling) })
    }

    /// The other service that answers.
    fn answering(&self, raw: &RawRoute, config: &Config) -> Option<ServiceId> {
        let at = raw.service.get()?;
        let id = ServiceId::new(at.value.0.as_str());
        if !config.policy.services.contains_key(&id) {
            let known: Vec<&str> = config.policy.services.keys().map(ServiceId::as_str).collect();
            let what = format!("there is no service {id}");
            self.mistakes.value(&at.place, what, format!("the services are: {}", known.join(", ")));
        }
        if config.policy.services.get(&id).is_some_and(|service| service.carriage.tcp.is_some()) {
            let what = format!("{id} is a TCP service, which knows nothing of requests");
            self.mistakes.value(&at.place, what, "name a service without listen, or remove it");
        }
        Some(id)
    }

    /// What a route does. `own` is the service that it stands in, `by` the one that answers.
    fn handling(&self, at: &At<RawRoute>, own: &Carriage, by: &Carriage) -> Handling {
        let raw = &at.value;
        let redirect = self.redirect(at);
        if redirect.is_some() {
            let useless = [
                (raw.service.get().map(|at| &at.place), "service"),
                (raw.rewrite.get().map(|at| &at.place), "rewrite"),
                (raw.timeouts.get().map(|at| &at.place), "timeouts"),
            ];
            for (place, key) in useless {
                if let Some(place) = place {
                    let what = format!("{key} says nothing where Mainstay redirects");
                    self.mistakes.absent(place, what, format!("remove {key} or redirect"));
                }
            }
        }
        let level = self.word(&raw.priority, &["high", "normal", "low"]).map(|word| match word {
            "high" => Level::High,
            "low" => Level::Low,
            _ => Level::Normal,
        });
        if let Some(at) = raw.priority.get().filter(|_| by.limits.room.is_none()) {
            let remedy = "write limits.concurrent = 200 for the service, or remove it";
            self.mistakes.absent(&at.place, "priority says nothing without limits.concurrent", remedy);
        }
        let of_service = &own.handling;
        Handling {
            timeouts: raw.timeouts.get().map(|_| self.timeouts(&raw.timeouts, by.timeouts)),
            body_max: raw.limits.get().and_then(|limits| Some(limits.value.body_max.get()?.value.0)),
            level,
            rewrite: raw.rewrite.get().and_then(|at| {
                let path = self.accept(&at.place, plain_path(&at.value.0))?;
                Some(path.strip_suffix('/').unwrap_or(&path).to_owned())
            }),
            redirect,
            redirect_https: raw.redirect_https.get().map_or(of_service.redirect_https, |at| at.value),
            request_headers: of_service.request_headers.then(&self.headers(&raw.request_headers)),
            response_headers: of_service.response_headers.then(&self.headers(&raw.response_headers)),
        }
    }

    fn redirect(&self, at: &At<RawRoute>) -> Option<Redirect> {
        let raw = &at.value;
        let status = self.whole(&raw.redirect_status, REDIRECT_STATUS, 300..=399);
        if let Some(at) = raw.redirect_status.get() {
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                self.mistakes.value(&at.place, "not a redirect", "write 301, 302, 303, 307 or 308");
            }
            if raw.redirect.is_absent() {
                self.mistakes.absent(
                    &at.place,
                    "says nothing without redirect",
                    "write redirect = \"https://www.example.com{uri}\", or remove it",
                );
            }
        }
        let at = raw.redirect.get()?;
        let to = self.stencil(&at.place, &at.value.0)?;
        self.accept(&at.place, leads_where_it_says(&to))?;
        Some(Redirect { status: u16::try_from(status).unwrap_or_default(), to })
    }

    /// The host names as they are compared; `*` stands for every host.
    fn hosts(&self, at: &At<OneOrMany<Text>>) -> Vec<(String, Place)> {
        let items = &at.value.0.items;
        if items.len() > 1
            && let Some(every) = items.iter().find(|item| item.value.0 == "*")
        {
            let remedy = "keep either \"*\" or the names";
            self.mistakes.value(&every.place, "\"*\" is every host already", remedy);
            return Vec::new();
        }
        let one = |item: &At<Text>| {
            Some((self.accept(&item.place, host_pattern(&item.value.0))?, item.place.clone()))
        };
        items.iter().filter_map(one).collect()
    }

    fn path_rules(&self, field: &Field<OneOrMany<Text>>, exact: bool) -> Vec<(PathRule, Place)> {
        let one = |item: &At<Text>| {
            let path = self.accept(&item.place, plain_path(&item.value.0))?;
            Some((PathRule { path, exact }, item.place.clone()))
        };
        field.get().map_or_else(Vec::new, |at| at.value.0.items.iter().filter_map(one).collect())
    }

    fn methods(&self, field: &Field<OneOrMany<Text>>) -> Vec<String> {
        let mut methods = Vec::new();
        for item in field.get().map_or(&[][..], |at| &at.value.0.items) {
            let method = item.value.0.as_str();
            if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                let better = method.to_ascii_uppercase();
                self.mistakes.value(
                    &item.place,
                    "not a method",
                    format!(
                        "write \"GET\" or the like{}",
                        match method {
                            "" => String::new(),
                            _ => format!(", {better:?}"),
                        }
                    ),
                );
            }
            methods.push(method.to_owned());
        }
        methods
    }

    fn header_rules(&self, raw: &RawRoute) -> Vec<HeaderRule> {
        let mut rules = Vec::new();
        for (name, value) in raw.header.get().map_or(&[][..], |at| &at.value.0) {
            let Field::Here(value) = value else { continue };
            match header_name(&name.value) {
                Err((what, remedy)) => self.mistakes.key(&name.place, what, remedy),
                Ok(name) => {
                    let value = Some(value.value.0.clone()).filter(|value| value != "*");
                    rules.push(HeaderRule { name, value });
                }
            }
        }
        rules
    }

    /// No two take the same requests.
    fn claims_apart(&self, mut claims: Vec<Claim<'_>>) {
        claims.sort_by_key(|claim| claim.place.span.start);
        let mut classes: BTreeMap<_, Vec<&Claim<'_>>> = BTreeMap::new();
        for claim in &claims {
            let class = classes.entry(claim.class()).or_default();
            match class
                .iter()
                .find(|other| other.meets(claim) && (other.service != claim.service || other.is_same(claim)))
            {
                Some(other) => self.claimed_twice(claim, other),
                None => class.push(claim),
            }
        }
    }

    fn claimed_twice(&self, claim: &Claim<'_>, first: &Claim<'_>) {
        let taken = first.service;
        if !claim.is_plain() {
            let line = self.mistakes.line(&first.place);
            let (what, remedy) = match claim.is_same(first) {
                true => (
                    format!("{} leads to service {taken} already, by line {line}", claim.words()),
                    "give one of them another host, path, method or header, or remove one",
                ),
                false => (
                    format!("nothing says whether this or line {line} goes first for {}", claim.words()),
                    "add what tells them apart, or write both as routes of one service, the first one first",
                ),
            };
            return self.mistakes.key(&claim.place, what, remedy);
        }
        if claim.host == "*" {
            self.mistakes.absent(
                &claim.place,
                format!("every host leads to service {taken} already"),
                "write hosts = [\"shop.example.com\"] for one of the two",
            );
        } else if taken == claim.service {
            self.mistakes.value(&claim.place, "this host stands here twice", "remove one");
        } else {
            self.mistakes.value(
                &claim.place,
                format!("{} leads to service {taken} already", claim.host),
                "a host leads to one service; remove it from the other, or tell them apart by paths",
            );
        }
    }
}

/// A host name, `*.` in front of one, or `*`.
fn host_pattern(text: &str) -> Result<String, Refusal> {
    match text.strip_prefix("*.") {
        _ if text == "*" => Ok(text.to_owned()),
        Some(rest) => Ok(format!("*.{}", address::host_name(rest)?)),
        None => address::host_name(text),
    }
}

/// A path that everybody reads alike.
fn plain_path(text: &str) -> Result<String, Refusal> {
    let remedy = || match text.strip_suffix("/*").or(text.strip_suffix('*')) {
        Some(prefix) if PathRule::is_plain(prefix) => format!("write {prefix:?}, which is also all below it"),
        _ if !text.starts_with('/') => format!("write {:?}", format!("/{text}")),
        _ => "write \"/api\": no query, nothing encoded, no empty segment".to_owned(),
    };
    match PathRule::is_plain(text) && !text.contains('*') {
        true => Ok(text.to_owned()),
        false => Err(("not a plain path".to_owned(), remedy())),
    }
}

/// A redirect leads to a host that the config names or to the one that was asked for, whatever the request's path is.
fn leads_where_it_says(to: &Stencil) -> Result<(), Refusal> {
    let wrong = |what: &str| {
        Err((what.to_owned(), "write \"https://www.example.com{uri}\", or \"/new{rest}\"".to_owned()))
    };
    // A part that begins with a slash ends the host; the host asked for is a letter like any other.
    let outline: String = to
        .pieces()
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Part(Part::Path | Part::Uri | Part::Rest) => "/",
            Piece::Part(Part::Query) => "?",
            Piece::Part(Part::Scheme) => "https",
            Piece::Part(Part::Host) => "h",
            Piece::Part(_) => "\0",
        })
        .collect();
    if !outline.bytes().all(|b| b.is_ascii_graphic() || b == 0) {
        return wrong("an address has no spaces and no letters outside of ASCII");
    }
    if outline.starts_with('/') || outline.starts_with('?') {
        return if outline.starts_with("//") && !matches!(to.pieces().first(), Some(Piece::Part(_))) {
            wrong("two slashes in front make the rest a host")
        } else {
            Ok(())
        };
    }
    let Some(rest) = outline.strip_prefix("https://").or_else(|| outline.strip_prefix("http://")) else {
        return wrong("a redirect leads to a path or to an address with http:// or https://");
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match address::host_and_port(host) {
        Some((name, _)) if address::host_name(name).is_ok() => Ok(()),
        _ => wrong("there is no host in it that can be told beforehand"),
    }
}
