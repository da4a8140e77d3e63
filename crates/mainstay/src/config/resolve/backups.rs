//! Backups: from what was written to what is done when.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_model::BackupId;
use mainstay_model::policy::BackupPolicy;

use super::whole::Resolver;
use super::{BackupSpec, Keep, PostgresDatabase, Secret};
use crate::config::mistake::Place;
use crate::config::raw::{RawBackup, RawKeep};
use crate::config::read::{At, Field, Named, OneOrMany, Private, Text};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// More than this of one kind is a mistyped number.
const KEEP_MAX: u32 = 10_000;

impl Resolver<'_> {
    /// All backups: when each is due, and what it is.
    pub(super) fn backups(
        &self,
        field: &Field<Named<RawBackup>>,
        data: &std::path::Path,
    ) -> (BTreeMap<BackupId, BackupPolicy>, BTreeMap<BackupId, BackupSpec>) {
        let (mut policies, mut specs) = (BTreeMap::new(), BTreeMap::new());
        for (name, backup) in field.get().map_or(&[][..], |at| &at.value.0) {
            self.accept_name(name);
            let Field::Here(at) = backup else { continue };
            let id = BackupId::new(name.value.as_str());
            policies.insert(id.clone(), self.backup_policy(&at.value));
            if let Some(spec) = self.backup_spec(&name.value, at, data) {
                specs.insert(id, spec);
            }
        }
        (policies, specs)
    }

    fn backup_policy(&self, raw: &RawBackup) -> BackupPolicy {
        let default = BackupPolicy::default();
        let every = self.duration(&raw.every, default.every, MINUTE);
        let at = raw.at.get().and_then(|at| self.time_of_day(at));
        if let (Some(at), Some(_)) = (raw.at.get(), at)
            && (every < DAY || !every.as_secs().is_multiple_of(DAY.as_secs()))
        {
            self.mistakes.value(
                &at.place,
                "a time of the day goes with whole days only",
                "write every = \"1d\", or remove at",
            );
        }
        let late_after = self.duration(&raw.late_after, every + every / 2, MINUTE);
        if let Some(written) = raw.late_after.get().filter(|_| late_after <= every) {
            self.mistakes.value(
                &written.place,
                "it would be late before it is due",
                "write more than every; the default is one and a half times every",
            );
        }
        let verify = self.duration(&raw.verify_every, default.verify_every.unwrap_or(DAY), Duration::ZERO);
        BackupPolicy {
            every,
            at,
            late_after,
            verify_every: (!verify.is_zero()).then_some(verify),
            deadline: self.duration(&raw.deadline, default.deadline, Duration::from_secs(1)),
        }
    }

    /// `03:15` as the time since midnight.
    fn time_of_day(&self, at: &At<Text>) -> Option<Duration> {
        let number = |text: &str, max: u64| {
            text.parse::<u64>().ok().filter(|n| text.len() == 2 && *n <= max && !text.starts_with('+'))
        };
        let parsed = at.value.0.split_once(':').and_then(|(hour, minute)| {
            Some(Duration::from_secs(number(hour, 23)? * 3600 + number(minute, 59)? * 60))
        });
        if parsed.is_none() {
            self.mistakes.value(
                &at.place,
                "not a time of the day",
                "write hours and minutes in UTC: \"03:15\"",
            );
        }
        parsed
    }

    fn backup_spec(&self, name: &str, at: &At<RawBackup>, data: &std::path::Path) -> Option<BackupSpec> {
        let raw = &at.value;
        let repository = self.needed(
            &raw.repository,
            &at.place,
            "there is no repository to keep it in",
            "write repository = \"/srv/backups\"",
        );
        let password = self.secret(&raw.password);
        if raw.password.is_absent() {
            self.mistakes.absent(
                &at.place,
                "backups are encrypted, and there is no password",
                "write password = { file = \"/etc/mainstay/backup-password\" }, and keep a copy of it elsewhere",
            );
        }
        let folders = self.paths(&raw.folders);
        let sqlite = self.paths(&raw.sqlite);
        let postgres = self.databases(&raw.postgres);
        let nothing = raw.folders.is_absent() && raw.sqlite.is_absent() && raw.postgres.is_absent();
        if nothing {
            self.mistakes.absent(
                &at.place,
                "there is nothing to back up",
                "write folders = [\"/srv/shop/uploads\"], sqlite = […] or postgres = […]",
            );
        }
        let repository = repository?;
        if let Some(inside) = folders.iter().find(|folder| repository.starts_with(folder)) {
            self.mistakes.value(
                raw.repository.get().map_or(&at.place, |at| &at.place),
                format!(
                    "it lies in {}, which is backed up: each backup would hold all that came before",
                    inside.display()
                ),
                "keep it elsewhere, best on another disk",
            );
        }
        let scratch = raw.scratch.get().map_or_else(|| data.to_owned(), |at| self.base_dir.join(&at.value.0));
        Some(BackupSpec {
            repository,
            password: password?,
            folders,
            exclude: raw.exclude.get().map_or_else(Vec::new, texts),
            sqlite,
            postgres,
            keep: self.keep(&raw.keep),
            // A folder of its own, because it is emptied before and after.
            scratch: scratch.join(format!("backup-{name}.scratch")),
        })
    }

    fn needed(&self, field: &Field<Text>, table: &Place, what: &str, remedy: &str) -> Option<PathBuf> {
        match field {
            Field::Here(at) if at.value.0.is_empty() || at.value.0.contains('\0') => {
                self.mistakes.value(&at.place, "not a folder", remedy);
                None
            }
            Field::Here(at) => Some(self.base_dir.join(&at.value.0)),
            Field::Bad => None,
            Field::Absent => {
                self.mistakes.absent(table, what, remedy);
                None
            }
        }
    }

    fn paths(&self, field: &Field<OneOrMany<Text>>) -> Vec<PathBuf> {
        let items = field.get().map_or(&[][..], |at| &at.value.0.items);
        let mut paths: Vec<PathBuf> = Vec::new();
        for item in items {
            let path = self.base_dir.join(&item.value.0);
            if item.value.0.is_empty() || item.value.0.contains('\0') {
                self.mistakes.value(&item.place, "not a path", "write an absolute path");
            } else if let Some(other) = paths.iter().find(|other| path.starts_with(other)) {
                let what = format!("{} holds it already", other.display());
                self.mistakes.value(&item.place, what, "remove it");
            } else {
                paths.push(path);
            }
        }
        paths.sort();
        paths
    }

    fn databases(&self, field: &Field<OneOrMany<Private>>) -> Vec<PostgresDatabase> {
        let items = field.get().map_or(&[][..], |at| &at.value.0.items);
        items.iter().filter_map(|item| self.database(item)).collect()
    }

    /// The password leaves the URL here, so that it is in no list of processes.
    fn database(&self, item: &At<Private>) -> Option<PostgresDatabase> {
        let refused = || {
            self.mistakes.value(
                &item.place,
                "not a PostgreSQL database",
                "write \"postgresql://user@127.0.0.1:5432/shop\"",
            );
            None
        };
        let Ok(mut url) = reqwest::Url::parse(&item.value.0) else { return refused() };
        let database = url.path().trim_matches('/').to_owned();
        if !matches!(url.scheme(), "postgresql" | "postgres") || database.is_empty() || database.contains('/')
        {
            return refused();
        }
        let password = url.password().map(|text| Secret::new(decoded(text)));
        if url.set_password(None).is_err() && password.is_some() {
            return refused();
        }
        let host = url.host_str().unwrap_or("local").replace(['[', ']'], "");
        let path = PathBuf::from(format!("/postgresql/{host}/{database}.dump"));
        Some(PostgresDatabase { url: url.into(), password, path })
    }

    fn keep(&self, field: &Field<RawKeep>) -> Keep {
        let absent = RawKeep::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let default = Keep::default();
        Keep {
            last: self.count(&raw.last, default.last, 1..=KEEP_MAX),
            daily: self.count(&raw.daily, default.daily, 0..=KEEP_MAX),
            weekly: self.count(&raw.weekly, default.weekly, 0..=KEEP_MAX),
            monthly: self.count(&raw.monthly, default.monthly, 0..=KEEP_MAX),
        }
    }
}

fn texts(at: &At<OneOrMany<Text>>) -> Vec<String> {
    at.value.0.items.iter().map(|item| item.value.0.clone()).collect()
}

/// Percent signs and what follows them as the bytes that they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let hex = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Mistakes, parse};

    fn read(text: &str) -> Result<Config, Mistakes> {
        let env = |name: &str| (name == "PASSWORD").then(|| "open sesame".to_owned());
        let text = format!(
            "data = \"/d\"\nservice.shop.server.a.address = \"10.0.0.1:1\"\n[backup.nightly]\n{text}"
        );
        parse(&text, "m.toml", Path::new("/etc/mainstay"), &env)
    }

    fn told(text: &str) -> Vec<String> {
        let Err(mistakes) = read(text) else { return Vec::new() };
        mistakes.iter().map(|m| format!("{}: {}", m.key, m.what)).collect()
    }

    const SMALLEST: &str = "repository = \"/b\"\npassword = { env = \"PASSWORD\" }\nfolders = \"/srv\"\n";

    #[test]
    fn the_smallest_backup_has_every_default() {
        let config = read(SMALLEST).unwrap();
        let id = BackupId::new("nightly");
        assert_eq!(config.policy.backups[&id], BackupPolicy::default());
        let spec = &config.backups[&id];
        assert_eq!(spec.keep, Keep::default());
        assert_eq!(spec.scratch, Path::new("/d/backup-nightly.scratch"));
        assert!(config.secret_variables.contains("PASSWORD"));
    }

    #[test]
    fn every_key_of_a_backup_arrives_where_it_is_meant() {
        let more = "exclude = [\"*.tmp\"]\nsqlite = \"shop.db\"\npostgres = \"postgres://u:p%40ss@[::1]:5433/shop\"\n\
                    every = \"2d\"\nat = \"03:15\"\nlate-after = \"3d\"\nverify-every = \"0s\"\nscratch = \"/tmp\"\n\
                    deadline = \"1h\"\nkeep = { last = 1, daily = 2, weekly = 0, monthly = 4 }\n";
        let config = read(&format!("{SMALLEST}{more}")).unwrap();
        let id = BackupId::new("nightly");
        let policy = &config.policy.backups[&id];
        assert_eq!((policy.every, policy.at), (2 * DAY, Some(Duration::from_secs(3 * 3600 + 15 * 60))));
        assert_eq!((policy.late_after, policy.verify_every), (3 * DAY, None));
        assert_eq!(policy.deadline, 60 * MINUTE);
        let spec = &config.backups[&id];
        assert_eq!(spec.sqlite, [Path::new("/etc/mainstay/shop.db")]);
        assert_eq!(spec.exclude, ["*.tmp"]);
        assert_eq!(spec.postgres[0].url, "postgres://u@[::1]:5433/shop");
        assert_eq!(spec.postgres[0].password, Some(Secret::new("p@ss".to_owned())));
        assert_eq!(spec.postgres[0].path, Path::new("/postgresql/::1/shop.dump"));
        assert_eq!(spec.keep, Keep { last: 1, daily: 2, weekly: 0, monthly: 4 });
        assert_eq!(spec.scratch, Path::new("/tmp/backup-nightly.scratch"));
    }

    #[test]
    fn each_mistake_in_a_backup_is_told() {
        let wrong = [
            ("password = { env = \"PASSWORD\" }\nfolders = \"/srv\"", "there is no repository to keep it in"),
            ("repository = \"/b\"\nfolders = \"/srv\"", "backups are encrypted, and there is no password"),
            ("repository = \"/b\"\npassword = { env = \"PASSWORD\" }", "there is nothing to back up"),
        ];
        for (text, what) in wrong {
            assert_eq!(told(text).len(), 1, "{text}");
            assert!(told(text)[0].ends_with(what), "{:?}", told(text));
        }
        let wrong = [
            ("at = \"3:15\"", "not a time of the day"),
            ("at = \"24:00\"", "not a time of the day"),
            ("at = \"03:15\"\nevery = \"6h\"", "a time of the day goes with whole days only"),
            ("late-after = \"1d\"", "it would be late before it is due"),
            ("every = \"1s\"", "must be at least 1m"),
            ("postgres = \"mysql://u@h/d\"", "not a PostgreSQL database"),
            ("postgres = \"postgresql://u:secret@h/\"", "not a PostgreSQL database"),
            ("keep = { last = 0 }", "must be from 1 to 10000"),
            ("sqlite = [\"/a.db\", \"/a.db\"]", "/a.db holds it already"),
        ];
        for (text, what) in wrong {
            let told = told(&format!("{SMALLEST}{text}\n"));
            assert!(told.iter().any(|t| t.ends_with(what)), "{text}: {told:?}");
            assert!(!told.iter().any(|t| t.contains("secret")), "{told:?}");
        }
        let inside = told(&SMALLEST.replace("\"/b\"", "\"/srv/b\""));
        assert!(inside[0].contains("it lies in /srv, which is backed up"), "{inside:?}");
    }
}
