//! The public status page: where it is reached, what it shows, and in which words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use mainstay_model::ServiceId;
use mainstay_model::route::Condition;

use super::Config;
use super::whole::Resolver;
use crate::config::address::{self, Refusal};
use crate::config::mistake::Place;
use crate::config::planned;
use crate::config::raw::{RawComponent, RawConfig, RawStatus, RawSupport};
use crate::config::read::{At, Field, List, Named, Text};

/// More parts of a site than these are no overview for a visitor.
const COMPONENTS_MAX: usize = 100;

/// The public status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusConfig {
    /// `status.host`: the host name under which the visitors' own ports serve it.
    pub host: Option<String>,
    /// `status.path`: the path under which the visitors' own ports serve it, without a slash at its end.
    pub path: Option<String>,
    /// The hosts on which it goes before what services have there: every host that they name, and `*`.
    pub path_hosts: Vec<String>,
    /// `status.listen`: an address of its own.
    pub listen: Option<SocketAddr>,
    /// `status.url`: its address as visitors write it, for links in the feed; ends with a slash.
    pub url: Option<String>,
    /// `status.title`
    pub title: String,
    /// `status.zone`: in which its days and times are told.
    pub zone: TimeZone,
    /// `status.support`
    pub support: Option<Support>,
    /// `status.folder`: where the static copy is written.
    pub folder: Option<PathBuf>,
    /// In the order in which they are shown; not empty.
    pub components: Vec<Component>,
}

impl StatusConfig {
    /// The visitors' own ports serve it.
    pub fn is_routed(&self) -> bool {
        self.host.is_some() || self.path.is_some()
    }
}

/// Where a visitor finds help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// What is said.
    pub text: String,
    /// Where it leads; `https://`, `http://` or `mailto:`.
    pub link: Option<String>,
}

/// A part of the site as visitors know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name in addresses.
    pub id: String,
    /// What visitors call it.
    pub name: String,
    /// What it is for.
    pub about: Option<String>,
    /// The services that it stands on; not empty.
    pub services: Vec<ServiceId>,
}

impl Resolver<'_> {
    /// The status page, if there is one. Called when the services are known.
    pub(super) fn status(&self, raw: &RawConfig, config: &mut Config) {
        let Field::Here(at) = &raw.status else { return };
        let raw = &at.value;
        let written =
            [raw.host.is_absent(), raw.path.is_absent(), raw.listen.is_absent(), raw.folder.is_absent()];
        if written.iter().all(|absent| *absent) {
            self.mistakes.absent(
                &at.place,
                "nobody could reach the status page",
                "write host = \"status.example.com\", path = \"/status\", listen = \"0.0.0.0:8081\" or folder = \"/srv/status\"",
            );
        }
        let text = |field: &Field<Text>, most: usize| field.get().and_then(|at| self.line(at, most));
        config.status = Some(StatusConfig {
            host: raw.host.get().and_then(|host| self.status_host(host, config)),
            path: raw.path.get().and_then(|path| self.status_path(path, config)),
            path_hosts: every_host(config),
            listen: self.status_listen(raw, config),
            url: raw.url.get().and_then(|url| self.accept(&url.place, page_url(&url.value.0))),
            title: text(&raw.title, 80).unwrap_or_else(|| "Status".to_owned()),
            zone: raw
                .zone
                .get()
                .and_then(|at| self.accept(&at.place, planned::zone(&at.value.0)))
                .unwrap_or(TimeZone::UTC),
            support: raw.support.get().and_then(|at| self.support(at)),
            folder: raw.folder.get().and_then(|folder| self.folder(folder)),
            components: self.components(at, config),
        });
    }

    fn status_host(&self, at: &At<Text>, config: &Config) -> Option<String> {
        let host = self.accept(&at.place, address::host_name(&at.value.0))?;
        let taken = config.policy.services.iter().find(|(_, service)| service.carriage.hosts.contains(&host));
        if let Some((service, _)) = taken {
            let what = format!("{host} leads to service {service} already");
            self.mistakes.value(&at.place, what, "give the status page a name of its own, or use path");
        }
        Some(host)
    }

    fn status_path(&self, at: &At<Text>, config: &Config) -> Option<String> {
        let path = self.accept(&at.place, path_of_own(&at.value.0))?;
        let takes = |when: &Condition| {
            when.methods.is_empty()
                && when.headers.is_empty()
                && when.paths.iter().any(|taken| !taken.exact && taken.prefix() == path)
        };
        let mut services = config.policy.services.iter();
        if let Some((service, _)) = services.find(|(_, s)| s.carriage.rules().any(|rule| takes(&rule.when))) {
            let what = format!("{path} leads to service {service} already");
            self.mistakes.value(&at.place, what, "give the status page a path of its own, or use host");
        }
        Some(path)
    }

    fn status_listen(&self, raw: &RawStatus, config: &Config) -> Option<SocketAddr> {
        let at = raw.listen.get()?;
        let listen = self.accept(&at.place, address::listen(&at.value.0))?;
        if let Some(own) = config.taken(&listen.into()) {
            let what = format!("{listen} is taken already ({own})");
            self.mistakes.value(&at.place, what, "give each listener a port of its own");
        }
        Some(listen)
    }

    fn folder(&self, at: &At<Text>) -> Option<PathBuf> {
        if at.value.0.is_empty() || at.value.0.contains('\0') {
            self.mistakes.value(&at.place, "not a folder", "write \"/srv/status\"");
            return None;
        }
        Some(self.base_dir.join(&at.value.0))
    }

    fn support(&self, at: &At<RawSupport>) -> Option<Support> {
        let link = at.value.link.get().and_then(|link| self.accept(&link.place, public_link(&link.value.0)));
        let text = at.value.text.get().and_then(|text| self.line(text, 200));
        if at.value.text.is_absent() && at.value.link.is_absent() {
            let remedy = "write support = { text = \"Write to us\", link = \"mailto:help@example.com\" }";
            self.mistakes.absent(&at.place, "support says nothing", remedy);
        }
        Some(Support { text: text.or_else(|| link.clone())?, link })
    }

    /// What is shown, in the order of `services`, then of the names; every service that is shown is part of something.
    fn components(&self, status: &At<RawStatus>, config: &Config) -> Vec<Component> {
        let raw = &status.value;
        let known = config.policy.services.keys().map(ServiceId::as_str);
        let shown: Vec<String> = match raw.services.get() {
            Some(list) => self.services_named(list, config),
            None => known.map(str::to_owned).collect(),
        };
        let mut written = self.written_components(&raw.component, &shown, config);
        let mut components: Vec<Component> = Vec::new();
        for service in shown {
            let id = ServiceId::new(service.as_str());
            let of_it = |component: &Component| component.services.contains(&id);
            if components.iter().any(of_it) {
                continue;
            }
            match written.iter().position(of_it) {
                Some(place) => components.push(written.remove(place)),
                None => components.push(Component {
                    name: spoken(&service),
                    id: service,
                    about: None,
                    services: vec![id],
                }),
            }
        }
        components.append(&mut written);
        self.told_apart(&components, status);
        components
    }

    /// No two parts have one address, and there are not too many.
    fn told_apart(&self, components: &[Component], status: &At<RawStatus>) {
        if components.len() > COMPONENTS_MAX {
            let what = format!("{} parts are more than a visitor can look over", components.len());
            let remedy =
                format!("show at most {COMPONENTS_MAX}: choose them with services, or put some together");
            self.mistakes.value(&status.place, what, remedy);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = components.iter().find(|component| !seen.insert(&component.id)) {
            let what = format!("two parts are called {}", twice.id);
            let remedy = "give the component another name than a service that it does not stand on";
            self.mistakes.value(&status.place, what, remedy);
        }
    }

    fn services_named(&self, list: &At<List<Text>>, config: &Config) -> Vec<String> {
        if list.value.is_empty() {
            self.mistakes.value(&list.place, "a page about nothing", "name a service, or leave it out");
        }
        let mut names: Vec<String> = Vec::new();
        for item in &list.value.items {
            let name = &item.value.0;
            if !config.policy.services.contains_key(&ServiceId::new(name.as_str())) {
                let what = format!("there is no service {name}");
                let known: Vec<&str> = config.policy.services.keys().map(ServiceId::as_str).collect();
                self.mistakes.value(&item.place, what, format!("the services are: {}", known.join(", ")));
            } else if names.contains(name) {
                self.mistakes.value(&item.place, "named twice", "name each service once");
            } else {
                names.push(name.clone());
            }
        }
        names
    }

    fn written_components(
        &self,
        field: &Field<Named<RawComponent>>,
        shown: &[String],
        config: &Config,
    ) -> Vec<Component> {
        let mut components = Vec::new();
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for (id, component) in field.get().map_or(&[][..], |at| &at.value.0) {
            self.accept_name(id);
            let Field::Here(at) = component else { continue };
            let raw = &at.value;
            let services = match raw.services.get() {
                Some(list) => self.services_named(list, config),
                None if shown.contains(&id.value) => vec![id.value.clone()],
                None => {
                    let what = format!("the page shows no service {}", id.value);
                    let remedy = "write services = [\"…\"]: what it stands on";
                    self.mistakes.absent(&id.place, what, remedy);
                    continue;
                }
            };
            for service in &services {
                if let Some(other) = taken.insert(service.clone(), id.value.clone()) {
                    let what = format!("{service} belongs to the component {other} already");
                    self.mistakes.value(&at.place, what, "name each service in one component");
                }
            }
            let name = raw.name.get().and_then(|name| self.line(name, 80));
            let about = raw.about.get().and_then(|about| self.line(about, 300));
            let services = services.into_iter().map(ServiceId::new).collect();
            let (id, name) = (id.value.clone(), name.unwrap_or_else(|| spoken(&id.value)));
            components.push(Component { id, name, about, services });
        }
        components
    }

    /// One line of at most so many characters.
    fn line(&self, at: &At<Text>, most: usize) -> Option<String> {
        let text = at.value.0.trim();
        let what = match text {
            "" => "empty".to_owned(),
            text if text.chars().any(char::is_control) => "more than one line".to_owned(),
            text if text.chars().count() > most => format!("longer than {most} characters"),
            fine => return Some(fine.to_owned()),
        };
        self.refuse_line(&at.place, what);
        None
    }

    fn refuse_line(&self, place: &Place, what: String) {
        self.mistakes.value(place, what, "write a few plain words");
    }
}

/// A service's name as one would say it: `web-shop` is `Web shop`.
fn spoken(name: &str) -> String {
    let mut letters = name.replace(['-', '_'], " ");
    if let Some(first) = letters.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    letters
}

/// Every host that a service names, and `*`.
fn every_host(config: &Config) -> Vec<String> {
    let carriages = config.policy.services.values().map(|service| &service.carriage);
    let hosts = carriages
        .flat_map(|carriage| carriage.hosts.iter().chain(carriage.routes.iter().flat_map(|r| &r.when.hosts)));
    let hosts: BTreeSet<&str> = hosts.map(String::as_str).chain(["*"]).collect();
    hosts.into_iter().map(str::to_owned).collect()
}

/// A path of Mainstay's own in front of the services.
fn path_of_own(text: &str) -> Result<String, Refusal> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let segment = |segment: &str| {
        !segment.is_empty()
            && !segment.chars().all(|c| c == '.')
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~'))
    };
    match path.strip_prefix('/') {
        Some(rest) if path.len() <= 100 && rest.split('/').all(segment) => Ok(path.to_owned()),
        _ => Err(("not a path for the status page".to_owned(), "write \"/status\"".to_owned())),
    }
}

fn page_url(text: &str) -> Result<String, Refusal> {
    let url = address::web_url(text)?;
    if url.contains(['?', '#', '@']) {
        return Err((
            "a page's address ends with its path".to_owned(),
            "write \"https://status.example.com/\"".to_owned(),
        ));
    }
    Ok(if url.ends_with('/') { url } else { format!("{url}/") })
}

/// What may stand behind a link on a public page.
fn public_link(text: &str) -> Result<String, Refusal> {
    match text.strip_prefix("mailto:") {
        Some(rest) if rest.contains('@') && !rest.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Ok(text.to_owned())
        }
        Some(_) => Err(("not a mail address".to_owned(), "write \"mailto:help@example.com\"".to_owned())),
        None => address::web_url(text),
    }
}
