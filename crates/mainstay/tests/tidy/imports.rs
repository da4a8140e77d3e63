//! Which module of the program may import what: one direction, adapters never one another.

use super::Complaint;
use super::source::Source;

/// What a module may import of another one.
#[derive(Clone, Copy)]
enum May {
    /// Everything.
    All,
    /// These items.
    Only(&'static [&'static str]),
}

/// A module of the program and the other ones that it may import. What is not in the table is forbidden.
const TABLE: &[(&str, &[(&str, May)])] = &[
    // Written by one and read by another: neither need know the other.
    ("ack", &[("key_file", May::All)]),
    // When something recurs: neutral, because whoever reads a schedule and whoever goes by it are not the same.
    ("calendar", &[]),
    ("alert", &[("ack", May::All), ("config", May::All), ("tls", May::All)]),
    (
        "cli",
        &[
            ("alert", May::All),
            ("calendar", May::All),
            ("config", May::All),
            ("control", May::All),
            ("engine", May::All),
            ("exit_code", May::All),
            ("gateway", May::All),
            ("handover", May::All),
            ("heartbeat", May::All),
            ("journal", May::All),
            ("probe", May::All),
            ("recovery", May::All),
            ("report", May::All),
            ("shutdown", May::All),
            ("store", May::All),
            ("telemetry", May::All),
            ("tls", May::All),
            ("web", May::All),
        ],
    ),
    // A zone file is part of the config, and a wrong one a mistake like any other.
    // So are certificates.
    (
        "config",
        &[
            ("calendar", May::All),
            ("dns", May::Only(&["zone", "zone_file"])),
            ("tls", May::Only(&["certificate", "front", "servers"])),
        ],
    ),
    ("control", &[]),
    ("dns", &[("config", May::All), ("dns_client", May::All)]),
    // One question to one DNS server: the adapter of DNS asks some, and probes do.
    ("dns_client", &[]),
    // Questions to a Docker Engine: probes ask it, and restarts do.
    ("docker_client", &[]),
    (
        "engine",
        &[
            ("ack", May::All),
            ("alert", May::All),
            ("calendar", May::All),
            ("config", May::All),
            ("dns", May::All),
            ("freeze", May::All),
            ("handover", May::All),
            ("heartbeat", May::All),
            ("host", May::All),
            ("journal", May::All),
            ("key_file", May::All),
            ("probe", May::All),
            ("recovery", May::All),
            ("shutdown", May::All),
            ("store", May::All),
            ("telemetry", May::All),
            ("tls", May::All),
            ("web", May::All),
        ],
    ),
    ("exit_code", &[]),
    // A file that people and the dashboard write, and the engine reads.
    ("freeze", &[]),
    // Who looks at the own network knocks there: probes before they call others down, and `check`.
    ("gateway", &[]),
    // What goes from one Mainstay to the next.
    ("handover", &[]),
    ("host", &[("config", May::All)]),
    // Written by the engine and read by the command line; what a judge goes on from it is handed.
    ("journal", &[]),
    ("key_file", &[]),
    // Where jobs ping: pages open the door, the engine takes what comes in, the command line shows the way.
    ("heartbeat", &[("key_file", May::All)]),
    // Hands over to the command line, and declares all modules.
    ("main", &[("cli", May::All)]),
    // What is wrong with a certificate is read from one that nobody trusts.
    (
        "probe",
        &[
            ("config", May::All),
            ("dns_client", May::All),
            ("docker_client", May::All),
            ("gateway", May::All),
            ("systemd_unit", May::All),
            ("tls", May::Only(&["servers"])),
        ],
    ),
    (
        "recovery",
        &[
            ("config", May::All),
            ("docker_client", May::All),
            ("handover", May::Only(&["HeldProcess"])),
            ("systemd_unit", May::All),
        ],
    ),
    // What the record knows of an incident, in one piece.
    ("report", &[("store", May::Only(&["Evidence", "StoredAction", "StoredMessage"]))]),
    ("shutdown", &[]),
    // A row of the outbox is a message.
    (
        "store",
        &[("config", May::All), ("alert", May::Only(&["Awaited", "Channel", "Delivery", "Remembered"]))],
    ),
    // What systemctl says of a unit: probes ask it, and restarts do.
    ("systemd_unit", &[]),
    ("telemetry", &[]),
    ("tls", &[]),
    // Pages read the record and never write it.
    (
        "web",
        &[
            ("ack", May::All),
            ("config", May::All),
            ("heartbeat", May::All),
            ("report", May::All),
            (
                "store",
                May::Only(&[
                    "Evidence",
                    "Machine",
                    "MachineBucket",
                    "Message",
                    "MessageState",
                    "MonitorBucket",
                    "Reader",
                    "ServerBucket",
                    "ServiceBucket",
                    "ServiceDay",
                    "Step",
                    "StoreError",
                    "StoredAction",
                    "StoredMessage",
                    "Summary",
                ]),
            ),
        ],
    ),
];

/// Crates that only some modules may use, with the reason.
const CRATES: &[(&str, &[&str], &str)] = &[
    (
        "anyhow",
        &["cli"],
        "modules have errors of their own, so that a caller can tell them apart; anyhow is for a person's eyes",
    ),
    (
        "mainstay_proxy",
        &["engine", "cli", "config", "probe", "tls"],
        "the engine alone hands tables to the data plane and takes its reports; how its access log looks is checked with the config; probes speak TLS with servers as requests do",
    ),
    ("rusqlite", &["store", "recovery"], "SQL lives in the record; backups copy databases of the user's"),
    ("rustic_core", &["recovery"], "backups are a part of recovery"),
    ("rustic_backend", &["recovery"], "backups are a part of recovery"),
    (
        "lettre",
        &["alert", "config", "cli"],
        "mail is one channel of alerts, its addresses are checked with the config",
    ),
    ("axum", &["web", "cli"], "HTTP for people and programs is the dashboard's, and the sample shop's"),
    ("minijinja", &["config"], "templates are checked with the config, and rendered by what was checked"),
    ("askama", &["web"], "pages are the dashboard's"),
    ("utoipa", &["web"], "the API's description is the dashboard's"),
    ("prometheus_client", &["web"], "metrics are written by the dashboard"),
    ("toml", &["config", "cli"], "what is written is read in one place"),
    ("serde_spanned", &["config"], "what is written is read in one place"),
];

/// Where the program's modules lie.
const FOLDER: &str = "crates/mainstay/src/";

/// Checks one file of the program; other files have nothing to complain of.
pub fn check(source: &Source, complaints: &mut Vec<Complaint>) {
    let Some(path) = source.path.strip_prefix(FOLDER) else { return };
    let own = path.split(['/', '.']).next().unwrap_or_default();
    let Some((_, allowed)) = TABLE.iter().find(|(module, _)| *module == own) else {
        let reason =
            format!("the module `{own}` is not in the table of allowed imports (tests/tidy/imports.rs)");
        complaints.push(Complaint::new(source, 1, reason));
        return;
    };
    for (line, path) in imports(source, path) {
        let other = path[0].as_str();
        let known = TABLE.iter().any(|(module, _)| *module == other);
        if !known || other == own {
            continue;
        }
        let may = allowed.iter().find(|(module, _)| *module == other).map(|(_, may)| *may);
        let item = path.get(1).map_or("", String::as_str);
        let fine = match may {
            Some(May::All) => true,
            Some(May::Only(items)) => items.contains(&item),
            None => false,
        };
        if !fine {
            let what = if may.is_some() { format!("`{other}::{item}`") } else { format!("`{other}`") };
            complaints.push(Complaint::new(
                source,
                line,
                format!(
                    "`{own}` must not import {what}: adapters never call one another; \
                 what one knows reaches another as an input or an effect, through the engine"
                ),
            ));
        }
    }
    if source.is_for_tests() {
        return;
    }
    for (name, modules, reason) in CRATES.iter().filter(|(_, modules, _)| !modules.contains(&own)) {
        let used = source.tokens.iter().enumerate().filter(|(at, token)| {
            token.text == *name
                && source.stands(at + 1, &[":", ":"])
                && !(*at > 1 && source.stands(at - 2, &[":", ":"]))
        });
        for (_, token) in used {
            let places = modules.join("/ and ");
            complaints.push(Complaint::new(
                source,
                token.line,
                format!("`{name}` is used only in {places}/: {reason}"),
            ));
        }
    }
}

/// Every path that begins at the crate's root, without `crate`: `crate::a::{b, c}` gives `a::b` and `a::c`.
fn imports(source: &Source, path: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let file_depth = file_depth(path);
    // What each open brace belongs to: an inline module makes `super` mean something nearer.
    let mut braces: Vec<bool> = Vec::new();
    let mut at = 0;
    while let Some(token) = source.tokens.get(at) {
        match token.text.as_str() {
            "{" => braces.push(at >= 2 && source.tokens[at - 2].text == "mod"),
            "}" => drop(braces.pop()),
            "crate" if source.stands(at + 1, &[":", ":"]) => {
                expand(source, &mut (at + 3), Vec::new(), &mut found);
            }
            "super" if !(at > 1 && source.stands(at - 2, &[":", ":"])) => {
                let depth = file_depth + braces.iter().filter(|is_module| **is_module).count();
                let mut steps = 0;
                let mut next = at;
                while source.stands(next, &["super", ":", ":"]) {
                    (steps, next) = (steps + 1, next + 3);
                }
                if steps == depth && steps > 0 {
                    expand(source, &mut next, Vec::new(), &mut found);
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// How many `super`s lead from a file's module to the root: 0 for main.rs, 1 for alert/mod.rs, 2 for alert/email.rs.
fn file_depth(path: &str) -> usize {
    let parts = path.trim_end_matches(".rs").split('/').filter(|part| !matches!(*part, "mod" | "main"));
    parts.count()
}

/// Reads a path or a group of paths at `at` and adds each whole path that it names.
fn expand(source: &Source, at: &mut usize, prefix: Vec<String>, found: &mut Vec<(usize, Vec<String>)>) {
    let Some(token) = source.tokens.get(*at) else { return };
    let line = token.line;
    if token.text == "{" {
        *at += 1;
        while let Some(token) = source.tokens.get(*at) {
            match token.text.as_str() {
                "}" => {
                    *at += 1;
                    return;
                }
                "," => *at += 1,
                _ => expand(source, at, prefix.clone(), found),
            }
        }
        return;
    }
    let mut path = prefix;
    path.push(token.text.clone());
    *at += 1;
    if source.stands(*at, &[":", ":"]) {
        *at += 2;
        expand(source, at, path, found);
        return;
    }
    if source.stands(*at, &["as"]) {
        *at += 2;
    }
    found.push((line, path));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&Source::new(format!("{FOLDER}{path}"), text), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_adapter_that_imports_another_is_named_with_its_line() {
        let found = complaints("probe/http.rs", "//! x\nuse crate::config::A;\nuse crate::store::Store;\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("crates/mainstay/src/probe/http.rs:3: `probe` must not import `store`"),
            "{found:?}"
        );
    }

    #[test]
    fn only_the_listed_items_of_a_module_may_be_imported() {
        assert!(complaints("store/mod.rs", "use crate::alert::{Channel, Delivery};").is_empty());
        assert_eq!(complaints("store/mod.rs", "use crate::alert::Alerts;").len(), 1);
        assert!(complaints("web/mod.rs", "use crate::store::{Reader, Step as S};").is_empty());
        assert_eq!(complaints("web/mod.rs", "use crate::{store::{Reader, Write}, config};").len(), 1);
        assert_eq!(complaints("web/mod.rs", "fn f() { crate::store::Store::open() }").len(), 1);
        assert_eq!(complaints("web/mod.rs", "use crate::store::*;").len(), 1);
    }

    #[test]
    fn a_way_round_through_super_is_seen() {
        assert_eq!(complaints("probe/mod.rs", "use super::store::Store;").len(), 1);
        assert_eq!(complaints("probe/http.rs", "use super::super::store::Store;").len(), 1);
        assert_eq!(complaints("probe/mod.rs", "mod tests { use super::super::store::Store; }").len(), 1);
        assert!(
            complaints("probe/mod.rs", "mod tests { use super::store::Thing; }").is_empty(),
            "a module of its own"
        );
        assert!(complaints("probe/http.rs", "use super::store::Thing;").is_empty(), "a module of its own");
    }

    #[test]
    fn a_crate_is_used_only_where_it_belongs() {
        assert_eq!(complaints("engine/mod.rs", "use anyhow::Result;").len(), 1);
        assert!(complaints("cli/run.rs", "use anyhow::Result;").is_empty());
        assert_eq!(complaints("web/mod.rs", "fn f() { rusqlite::Connection::open(p) }").len(), 1);
        assert!(complaints("engine/mod.rs", "use mainstay_proxy::Proxy;").is_empty());
        assert_eq!(complaints("alert/mod.rs", "use mainstay_proxy::Proxy;").len(), 1);
        assert!(complaints("alert/testing.rs", "use axum::Router;").is_empty(), "a stranger of a test's");
        assert!(complaints("web/mod.rs", "use self::toml::x;").is_empty(), "a module of its own");
    }

    #[test]
    fn a_module_that_nobody_thought_of_is_named() {
        assert_eq!(complaints("helpers/mod.rs", "//! x").len(), 1);
        assert_eq!(complaints("util.rs", "//! x").len(), 1);
    }

    #[test]
    fn words_in_comments_and_strings_import_nothing() {
        assert!(
            complaints(
                "probe/mod.rs",
                "// use crate::store::Store;\nconst A: &str = \"crate::store::Store\";"
            )
            .is_empty()
        );
    }
}
