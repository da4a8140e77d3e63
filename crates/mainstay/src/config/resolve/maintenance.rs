//! Maintenance windows: what they are about, which has to be there, and when they come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::window::{Covers, Occurrence, WindowPolicy};
use mainstay_model::{MonitorId, ServerId, ServiceId, Wall};

use super::Config;
use super::whole::Resolver;
use crate::calendar::Schedule;
use crate::config::mistake::nearest;
use crate::config::planned::{self, Planned};
use crate::config::raw::{RawConfig, RawMaintenance};
use crate::config::read::{At, Field, OneOrMany, Text};

/// What comes again and again and lasts longer is no maintenance.
const LASTS_MOST: Duration = Duration::from_secs(7 * 86_400);
/// As many windows are taken.
const MOST: usize = 200;
/// The longest title or reason, in characters.
const TEXT_MAX: usize = 200;
/// What visitors read unless somebody says otherwise.
pub const TITLE: &str = "Planned maintenance";
/// How many times are looked at to find out whether it ever ends.
const LOOKED_AT: usize = 3;

impl Resolver<'_> {
    /// All windows, once it is known what there is to be in them.
    pub(super) fn maintenance(&self, raw: &RawConfig, config: &mut Config) {
        let Some(named) = raw.maintenance.get() else { return };
        if named.value.0.len() > MOST {
            let what = format!("{} windows, and at most {MOST} are taken", named.value.0.len());
            self.mistakes.key(&named.place, what, "put together those that come at the same time");
        }
        for (name, window) in &named.value.0 {
            self.accept_name(name);
            if name.value.bytes().all(|byte| byte.is_ascii_digit()) {
                let what = "numbers are the names of windows that people open";
                self.mistakes.key(&name.place, what, format!("call it `window-{}`", name.value));
            }
            let Field::Here(at) = window else { continue };
            let covers = self.covers(at, config);
            let title = self.text_of_window(&at.value.title).unwrap_or_else(|| TITLE.to_owned());
            let reason = self.text_of_window(&at.value.reason).unwrap_or_default();
            let public = at.value.public.get().is_none_or(|at| at.value);
            let Some(schedule) = self.schedule(at) else { continue };
            let id: Arc<str> = name.value.as_str().into();
            let zone = at.value.zone.get().map_or_else(String::new, |at| at.value.0.trim().to_owned());
            let policy = WindowPolicy { covers, title, reason, public, zone };
            config.policy.windows.insert(Arc::clone(&id), policy);
            config.maintenance.insert(id, schedule);
        }
    }

    fn covers(&self, at: &At<RawMaintenance>, config: &Config) -> Covers {
        let raw = &at.value;
        let policy = &config.policy;
        let everything = raw.everything.get().is_some_and(|at| at.value);
        let services: Vec<&str> = policy.services.keys().map(ServiceId::as_str).collect();
        let of_service = |(id, service): (&ServiceId, &mainstay_model::policy::ServicePolicy)| {
            let names: Vec<String> = service.servers.keys().map(|name| format!("{id}/{name}")).collect();
            names
        };
        let servers: Vec<String> = policy.services.iter().flat_map(of_service).collect();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        let monitors: Vec<&str> = policy.monitors.keys().map(MonitorId::as_str).collect();
        let groups: BTreeSet<&str> = policy.monitors.values().filter_map(|m| m.group.as_deref()).collect();
        let tags: BTreeSet<&str> =
            policy.monitors.values().flat_map(|m| m.tags.iter().map(|tag| &**tag)).collect();
        let (groups, tags): (Vec<&str>, Vec<&str>) =
            (groups.into_iter().collect(), tags.into_iter().collect());
        let covers = Covers {
            everything,
            services: self.among(&raw.services, "service", &services, |name| Some(ServiceId::new(name))),
            servers: self.among(&raw.servers, "server", &servers, |name| name.parse::<ServerId>().ok()),
            monitors: self.among(&raw.monitors, "monitor", &monitors, |name| Some(MonitorId::new(name))),
            groups: self.among(&raw.groups, "monitor with this group", &groups, |name| Some(name.into())),
            tags: self.among(&raw.tags, "monitor with this tag", &tags, |name| Some(name.into())),
        };
        let written = [&raw.services, &raw.servers, &raw.monitors, &raw.groups, &raw.tags]
            .into_iter()
            .find_map(|field| match field {
                Field::Here(at) => Some(Some(&at.place)),
                Field::Bad => Some(None),
                Field::Absent => None,
            });
        match written {
            Some(Some(place)) if everything => {
                self.mistakes.value(
                    place,
                    "everything is in the window already",
                    "remove this, or everything = true",
                );
            }
            None if !everything => {
                let remedy =
                    "write services = [\"shop\"], servers, monitors, groups, tags, or everything = true";
                self.mistakes.absent(&at.place, "nothing says what is in the window", remedy);
            }
            _ => {}
        }
        covers
    }

    /// Names that there are.
    fn among<T: Ord>(
        &self,
        field: &Field<OneOrMany<Text>>,
        what: &str,
        known: &[&str],
        make: impl Fn(&str) -> Option<T>,
    ) -> BTreeSet<T> {
        let Some(list) = field.get() else { return BTreeSet::new() };
        if list.value.0.is_empty() {
            self.mistakes.value(&list.place, "it names nothing", "name something, or remove it");
        }
        let one = |item: &At<Text>| {
            let name = item.value.0.trim();
            if known.contains(&name) {
                return make(name);
            }
            let remedy = match (nearest(name, known.iter().copied()), known) {
                (Some(meant), _) => format!("did you mean {meant:?}?"),
                (None, []) => "remove it: there are none in this config".to_owned(),
                (None, known) => format!("write one of {}", known[..known.len().min(5)].join(", ")),
            };
            self.mistakes.value(&item.place, format!("there is no {what}"), remedy);
            None
        };
        list.value.0.items.iter().filter_map(one).collect()
    }

    fn text_of_window(&self, field: &Field<Text>) -> Option<String> {
        let at = field.get()?;
        let text = at.value.0.trim();
        if text.is_empty() || text.chars().count() > TEXT_MAX || text.chars().any(char::is_control) {
            let what = format!("it is one line of 1 to {TEXT_MAX} characters");
            self.mistakes.value(&at.place, what, "write \"New disks for the database\"");
        }
        Some(text.to_owned())
    }

    fn schedule(&self, at: &At<RawMaintenance>) -> Option<Planned> {
        let raw = &at.value;
        let zone = match &raw.zone {
            Field::Absent => "UTC",
            Field::Bad => return None,
            Field::Here(at) => {
                self.accept(&at.place, planned::zone(&at.value.0))?;
                at.value.0.trim()
            }
        };
        let ways = [
            ("weekly", raw.weekly.get().map(|at| &at.place), raw.weekly.is_absent()),
            ("cron", raw.cron.get().map(|at| &at.place), raw.cron.is_absent()),
            ("from", raw.from.get().map(|at| &at.place), raw.from.is_absent()),
        ];
        let mut written = ways.iter().filter(|(_, _, absent)| !absent);
        let Some((first, ..)) = written.next() else {
            let remedy = "write weekly = \"sun 02:00\", cron = \"0 2 1 * *\", or from = \"2026-12-01 02:00\"";
            self.mistakes.absent(&at.place, "nothing says when the window comes", remedy);
            return None;
        };
        for (way, place, _) in written {
            if let Some(place) = place {
                let remedy = format!("keep {first}, and write a window of its own for {way}");
                self.mistakes.value(place, format!("{first} says when it comes already"), remedy);
            }
        }
        if *first == "from" {
            return self.once(at, zone);
        }
        if let Some(to) = raw.to.get() {
            let remedy = "write for = \"2h\" in its place";
            self.mistakes.value(&to.place, "what comes again and again ends after a time", remedy);
        }
        let lasts = self.lasts(at, first)?;
        let by_cron = |at: &At<Text>, expression: &str| {
            let schedule = Schedule::parse(expression, zone).map_err(|bad| (bad.what, bad.remedy));
            self.accept(&at.place, schedule)
        };
        let schedules: Vec<Schedule> = match (raw.weekly.get(), raw.cron.get()) {
            (Some(list), _) => {
                let expression = |item: &At<Text>| self.accept(&item.place, planned::weekly(&item.value.0));
                let items = list.value.0.items.iter();
                items.filter_map(|item| by_cron(item, &expression(item)?)).collect()
            }
            (None, Some(at)) => by_cron(at, &at.value.0).into_iter().collect(),
            (None, None) => return None,
        };
        if schedules.is_empty() {
            return None;
        }
        let schedule = Planned::again(schedules, lasts);
        self.comes_and_goes(at, &schedule);
        Some(schedule)
    }

    /// It is over some day.
    fn comes_and_goes(&self, at: &At<RawMaintenance>, schedule: &Planned) {
        let place = at.value.weekly.get().map(|at| &at.place).or(at.value.cron.get().map(|at| &at.place));
        // Any moment will do.
        let times = schedule.occurrences(Wall(1_800_000_000_000), LOOKED_AT);
        if let Some(place) = place.filter(|_| times.len() < LOOKED_AT) {
            let remedy = "write a shorter for, or admin states for what is not to be watched at all";
            self.mistakes.value(place, "each begins before the one before is over, so it never ends", remedy);
        }
    }

    fn lasts(&self, at: &At<RawMaintenance>, way: &str) -> Option<Duration> {
        let raw = &at.value;
        match &raw.r#for {
            Field::Bad => None,
            Field::Absent => {
                let what = format!("nothing says how long it lasts ({way} says when it begins)");
                self.mistakes.absent(&at.place, what, "write for = \"2h\"");
                None
            }
            Field::Here(lasts) => {
                let value = lasts.value.0;
                if value < Duration::from_secs(1) || value > LASTS_MOST {
                    let what = "it lasts from 1s to 7d";
                    self.mistakes.value(&lasts.place, what, "write for = \"2h\"");
                    return None;
                }
                Some(value)
            }
        }
    }

    fn once(&self, at: &At<RawMaintenance>, zone: &str) -> Option<Planned> {
        let raw = &at.value;
        let zone = planned::zone(zone).ok()?;
        let written = raw.from.get()?;
        let from = self.accept(&written.place, planned::moment(&written.value.0, &zone, false))?;
        let (to, place) = match (&raw.to, &raw.r#for) {
            (Field::Here(to), Field::Here(lasts)) => {
                self.mistakes.value(&lasts.place, "to says when it ends already", "keep one of them");
                (self.accept(&to.place, planned::moment(&to.value.0, &zone, true))?, &to.place)
            }
            (Field::Here(to), _) => {
                (self.accept(&to.place, planned::moment(&to.value.0, &zone, true))?, &to.place)
            }
            (_, Field::Here(lasts)) => {
                let ms = i64::try_from(lasts.value.0.as_millis()).unwrap_or(i64::MAX);
                (Wall(from.0.saturating_add(ms)), &lasts.place)
            }
            (Field::Absent, Field::Absent) => {
                let remedy = "write to = \"2026-12-01 04:00\", or for = \"2h\"";
                self.mistakes.absent(&at.place, "nothing says when it ends", remedy);
                return None;
            }
            _ => return None,
        };
        if to <= from {
            self.mistakes.value(place, "it ends before it begins", "write a later end");
            return None;
        }
        Some(Planned::once(Occurrence { from, to }))
    }
}
