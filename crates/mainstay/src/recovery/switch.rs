//! Runs the user's own `switch` command, its fence, and its way back: once for each order, with what is known on its standard
//! input.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_model::effect::SwitchOrder;
use mainstay_model::input::Exit;
use mainstay_model::switch::{OUTPUT_MAX, SwitchStep};
use mainstay_model::{Input, ServiceId};
use serde::Serialize;

use super::log::Tail;
use super::program::{self, Ended, Program, Running};
use super::{Shared, Supervisor, lock};
use crate::config::SwitchSpec;

/// What stands for a server's name in its marks and the name of its log.
const MARK: &str = "@switch";

/// Stands in arguments for the name of the server that takes the writes.
const LEAD: &str = "{lead}";

/// What the command is told, as one line of JSON.
#[derive(Serialize)]
struct Context<'a> {
    service: &'a str,
    /// `fence`, `there` or `back`.
    direction: &'static str,
    by: &'a str,
    reason: &'a str,
    incident: Option<u64>,
    /// Who takes the writes up to now, where servers keep state.
    lead: Option<&'a str>,
    /// Health by name.
    servers: BTreeMap<&'a str, &'static str>,
}

impl Supervisor {
    /// The commands from now on. One that runs is left alone.
    pub fn apply_switches(&self, switches: BTreeMap<ServiceId, SwitchSpec>) {
        *lock(&self.shared.switches) = switches;
    }

    /// It is not run, because that it is about to be run is not on disk.
    pub async fn refuse_switch(&self, order: SwitchOrder, why: String) {
        let result = Err(format!(
            "not run, because it could not be written down before ({why}), and after a restart it might be run twice"
        ));
        let (service, action, output) = (order.service, order.id, Vec::new());
        self.shared.report(Input::Switched { service, action, result, output }).await;
    }

    /// Runs the command in a task of its own; one [`Input::Switched`] tells how it ended.
    pub fn switch(&self, order: SwitchOrder) {
        let shared = Arc::clone(&self.shared);
        let running = Running::of(&shared);
        tokio::spawn(async move {
            let _running = running;
            let tail = Arc::<Mutex<Tail>>::default();
            let result = run(&shared, &order, &tail).await;
            match &result {
                Ok(()) => {
                    tracing::info!(service = %order.service, "{} was carried out", order.step.in_words())
                }
                Err(error) => {
                    tracing::error!(service = %order.service, error, "{} failed", order.step.in_words())
                }
            }
            let output = tail.lock().unwrap_or_else(PoisonError::into_inner).lines_of_process(OUTPUT_MAX);
            let (service, action) = (order.service, order.id);
            shared.report(Input::Switched { service, action, result, output }).await;
        });
    }
}

async fn run(shared: &Arc<Shared>, order: &SwitchOrder, tail: &Arc<Mutex<Tail>>) -> Result<(), String> {
    let service = &order.service;
    let spec = lock(&shared.switches).get(service).cloned();
    let spec = spec.ok_or_else(|| format!("service.{service}.switch left the config"))?;
    let argv = match order.step {
        SwitchStep::Fence => spec.fence,
        SwitchStep::There => spec.there,
        SwitchStep::Back => spec.back,
    };
    let argv =
        argv.ok_or_else(|| format!("service.{service}.switch.{} left the config", order.step.as_str()))?;
    let lead = order.from.as_ref().map(|lead| &*lead.name);
    let fill = |argument: String| lead.map_or(argument.clone(), |lead| argument.replace(LEAD, lead));
    let argv: Vec<String> = argv.into_iter().map(fill).collect();
    if shared.closing().is_some() {
        return Err("Mainstay is stopping".to_owned());
    }
    let program = argv.first().cloned().unwrap_or_default();
    let failed = |error: io::Error| format!("cannot run {program}: {error}; check service.{service}.switch");
    let context = context(order).map_err(failed)?;
    // The log is one for all runs; who belongs to a run is told apart.
    let mark = service.server(format!("{MARK}-{}", order.id.0));
    let (log, wanted_by) = (service.server(MARK), order.by.clone());
    let run = Program { mark, log, wanted_by, argv, dir: spec.dir, context, deadline: order.deadline };
    let mark = run.mark.clone();
    match run.run(shared, tail).await.map_err(failed)? {
        // What it started is its result: a database that was promoted, a tunnel.
        Ended::Exit(Exit::Code(0)) => shared.left.add(&mark).map_err(|error| {
            format!("it was carried out, but {error}: the next start of Mainstay would end what it started")
        }),
        ended => Err(ended.to_string()),
    }
}

/// What the command reads.
fn context(order: &SwitchOrder) -> io::Result<Vec<u8>> {
    let context = Context {
        service: order.service.as_str(),
        direction: order.step.as_str(),
        by: &order.by,
        reason: &order.reason,
        incident: order.incident.map(|incident| incident.0),
        lead: order.from.as_ref().map(|lead| &*lead.name),
        servers: order.servers.iter().map(|(id, health)| (&*id.name, health.as_str())).collect(),
    };
    program::context(&context)
}
