//! Servers that keep state: `service.NAME.state`.

use mainstay_model::policy::{Serves, StatePolicy};

use super::whole::Resolver;
use crate::config::mistake::Place;
use crate::config::probe::ProbeSpec;
use crate::config::raw::RawService;
use crate::config::read::{At, Field, TextOr, TrueOr};

impl Resolver<'_> {
    /// What is written, or nothing.
    pub(super) fn state(&self, service: &At<RawService>) -> Option<StatePolicy> {
        let raw = &service.value;
        let at = raw.state.get()?;
        let serves = match &at.value {
            TextOr::Text(kind) => {
                if kind != "postgres" {
                    self.mistakes.value(&at.place, "unknown value", "write \"postgres\"");
                }
                Serves::Writes
            }
            TextOr::Table(table) => {
                if table.kind.is_absent() {
                    self.mistakes.absent(&at.place, "no kind of server", "write kind = \"postgres\"");
                }
                self.word(&table.kind, &["postgres"]);
                match self.word(&table.serves, &["writes", "reads"]) {
                    Some("reads") => Serves::Reads,
                    _ => Serves::Writes,
                }
            }
        };
        self.state_is_asked(service, &at.place);
        self.nothing_beside_state(raw);
        if let (Some(switch), Serves::Reads) = (raw.switch.get(), serves) {
            let what = "only the service that takes the writes is switched";
            self.mistakes.value(&switch.place, what, "write it there, or serves = \"writes\"");
        }
        Some(StatePolicy { serves })
    }

    /// The probe asks for more where servers keep state.
    pub(super) fn ask_state(raw: &RawService, spec: ProbeSpec) -> ProbeSpec {
        match (raw.state.get(), spec) {
            (Some(_), ProbeSpec::Postgres(mut probe)) => {
                probe.state = true;
                ProbeSpec::Postgres(probe)
            }
            (_, spec) => spec,
        }
    }

    /// Who is what is found out by a probe that logs in.
    fn state_is_asked(&self, service: &At<RawService>, place: &Place) {
        let raw = &service.value;
        if raw.listen.is_absent() {
            let remedy = "write listen = \"tcp://0.0.0.0:5432\"";
            self.mistakes.absent(place, "state says nothing without listen", remedy);
        }
        let remedy = "write health = { postgres = { user = \"mainstay\" } }";
        let postgres = raw.health.get().and_then(|health| health.value.postgres.get());
        match postgres.map(|at| &at.value) {
            Some(TrueOr::Table(probe)) => {
                if probe.user.is_absent() {
                    let what = "a probe that does not log in is not told who is the primary";
                    self.mistakes.absent(place, what, remedy);
                }
                if let Some(role) = probe.role.get().filter(|at| at.value.0 != "any") {
                    let what = "each of them may be the primary, and state goes by which is";
                    self.mistakes.value(&role.place, what, "remove role");
                }
            }
            _ => self.mistakes.absent(place, "no probe tells who is the primary", remedy),
        }
    }

    /// What would send writes to more than one server, or decide otherwise who is the primary.
    fn nothing_beside_state(&self, raw: &RawService) {
        let what = "one server takes the writes, and state finds out which";
        let places = [
            raw.on_down.get().filter(|at| at.value.0 == "keep").map(|at| &at.place),
            raw.deploy.get().map(|at| &at.place),
            raw.scale.get().map(|at| &at.place),
            raw.replace.get().map(|at| &at.place),
        ];
        for place in places.into_iter().flatten() {
            self.mistakes.value(place, what, "remove it, or state");
        }
        let Field::Here(servers) = &raw.server else { return };
        for server in servers.value.0.iter().filter_map(|(_, server)| server.get()) {
            if let Some(role) = server.value.role.get() {
                self.mistakes.value(&role.place, what, "remove role");
            }
        }
    }
}
