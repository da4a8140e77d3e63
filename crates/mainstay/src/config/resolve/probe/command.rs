//! Probes by a program of the user's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::Secret;
use super::super::whole::Resolver;
use crate::config::mistake::Place;
use crate::config::raw::RawCommandProbe;
use crate::config::read::{At, List, ListOr, Text};

/// A program that looks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandProbe {
    /// The program and its arguments. Not empty.
    pub argv: Vec<String>,
    /// Its working directory: the config file's folder.
    pub dir: PathBuf,
    /// Variables that it gets.
    pub env: BTreeMap<String, String>,
    /// Those of them that are secret.
    pub secrets: BTreeMap<String, Secret>,
}

impl Resolver<'_> {
    /// A program and what it is given.
    pub(super) fn command_probe(&self, raw: &ListOr<RawCommandProbe>, place: &Place) -> CommandProbe {
        let absent = RawCommandProbe::default();
        let (run, table) = match raw {
            ListOr::List(run) => (Some((run, place)), &absent),
            ListOr::Table(table) => (table.run.get().map(|at| (&at.value, &at.place)), table),
        };
        if let (ListOr::Table(table), None) = (raw, run)
            && table.run.is_absent()
        {
            self.mistakes.absent(place, "run is missing", "write run = [\"check_http\", \"-I\", \"{host}\"]");
        }
        let argv = run.map_or_else(Vec::new, |(run, place)| self.probe_argv(run, place));
        let env = table.env.get().map_or(&[][..], |at| &at.value.0).iter().filter_map(|(name, value)| {
            self.variable(name);
            Some((name.value.clone(), self.argument(value.get()?)))
        });
        let secrets =
            table.secrets.get().map_or(&[][..], |at| &at.value.0).iter().filter_map(|(name, field)| {
                self.variable(name);
                Some((name.value.clone(), self.secret(field)?))
            });
        CommandProbe { argv, dir: self.base_dir.to_owned(), env: env.collect(), secrets: secrets.collect() }
    }

    fn probe_argv(&self, run: &List<Text>, place: &Place) -> Vec<String> {
        let argv: Vec<String> = run.items.iter().map(|at| self.argument(at)).collect();
        if run.complete && argv.first().is_none_or(|program| program.trim().is_empty()) {
            let remedy = "write [\"/usr/lib/nagios/plugins/check_http\", \"-I\", \"{host}\"]";
            self.mistakes.value(place, "no program", remedy);
        }
        argv
    }

    fn argument(&self, at: &At<Text>) -> String {
        if at.value.0.contains('\0') {
            self.mistakes.value(&at.place, "no program can be given a NUL character", "write it without");
        }
        at.value.0.clone()
    }

    fn variable(&self, name: &At<String>) {
        let good = !name.value.is_empty() && !name.value.contains(['=', '\0']);
        if !good || name.value.starts_with("MAINSTAY_") {
            let what = "not the name of a variable that a probe may set";
            self.mistakes.key(&name.place, what, "write TOKEN and the like");
        }
    }
}
