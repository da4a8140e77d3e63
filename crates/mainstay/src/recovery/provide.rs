//! Has new instances made in the place of servers that cannot be brought back, and destroyed: by the Docker Engine, or by programs
//! of the user's. What became of it is told once; of what a stop of Mainstay cut in the middle nothing is told, so that the next
//! run asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::endpoint::Endpoint;
use mainstay_model::input::Exit;
use mainstay_model::substitute::{Made, ProvideOrder, ProvideTask, Provided};
use mainstay_model::{Input, ServiceId};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::act::{seconds, short};
use super::log::Tail;
use super::program::{self, Ended, Program, Running};
use super::{Shared, Supervisor, container, lock};
use crate::config::{ReplaceHow, ReplaceSpec};

/// What stands for a server's name in marks and the name of the log.
const MARK: &str = "@replace";
/// Lines that are read of what a program wrote.
const LINES_MAX: usize = 100;
/// A provider's own name for an instance is no longer.
const ID_MAX: usize = 200;
/// Programs are killed at the deadline, and that takes a moment.
const KILL_TAKES: Duration = Duration::from_secs(5);

/// What a program is told, as one line of JSON.
#[derive(Serialize)]
struct Context<'a> {
    /// `create`, `list` or `destroy`.
    task: &'a str,
    service: &'a str,
    /// In whose place.
    server: &'a str,
    /// The instance's name here.
    instance: &'a str,
    /// The number of the replacement in the record.
    action: u64,
    /// The provider's own name for the instance: of `destroy`.
    id: Option<&'a str>,
    reason: &'a str,
    incident: Option<u64>,
}

/// What a program says of an instance.
#[derive(Deserialize)]
struct Said {
    id: String,
    address: String,
}

/// One order, and what it needs.
pub(super) struct Providing<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) order: &'a ProvideOrder,
    /// It is given up then.
    pub(super) deadline: Instant,
}

impl Supervisor {
    /// Who makes new instances from now on. What is under way is left alone.
    pub fn apply_replaces(&self, replaces: BTreeMap<ServiceId, ReplaceSpec>) {
        *lock(&self.shared.replaces) = replaces;
    }

    /// Nothing is done, because that it is about to be done is not on disk.
    pub async fn refuse_to_provide(&self, order: ProvideOrder, why: String) {
        let why = format!("nothing was done, because it could not be written down before ({why})");
        let provided = match order.task {
            ProvideTask::Create => Provided::Nothing(why),
            ProvideTask::Find | ProvideTask::Destroy(_) => Provided::NotKnown(why),
        };
        let (service, action) = (order.instance.service, order.action);
        self.shared.report(Input::Provided { service, action, provided }).await;
    }

    /// Does it in a task of its own; one [`Input::Provided`] tells what became of it.
    pub fn provide(&self, order: ProvideOrder) {
        let shared = Arc::clone(&self.shared);
        let running = Running::of(&shared);
        tokio::spawn(async move {
            let _running = running;
            let deadline = Instant::now() + order.deadline;
            let providing = Providing { shared: &shared, order: &order, deadline };
            let mut cut = shared.cut_programs.subscribe();
            let provided = tokio::select! {
                biased;
                provided = providing.carry_out() => provided,
                _ = cut.wait_for(|cut| *cut) => return,
            };
            if *shared.cut_programs.borrow() {
                return;
            }
            tracing::info!(instance = %order.instance, ?provided, "a replacement went on");
            let (service, action) = (order.instance.service.clone(), order.action);
            shared.report(Input::Provided { service, action, provided }).await;
        });
    }
}

impl Providing<'_> {
    async fn carry_out(&self) -> Provided {
        let service = &self.order.instance.service;
        if self.order.task == ProvideTask::Create && self.shared.closing().is_some() {
            return Provided::Nothing("Mainstay is stopping".to_owned());
        }
        let spec = lock(&self.shared.replaces).get(service).cloned();
        let Some(spec) = spec else {
            return Provided::NotKnown(format!("service.{service}.replace left the config"));
        };
        match &spec.how {
            ReplaceHow::Docker(wanted) => {
                let late = self.deadline + KILL_TAKES;
                let done = timeout_at(late, container::carry_out(self, wanted)).await;
                done.unwrap_or_else(|_| {
                    Provided::NotKnown("the Docker Engine did not answer in time".to_owned())
                })
            }
            ReplaceHow::Command { create, destroy, list } => match &self.order.task {
                ProvideTask::Create => self.create(&spec, create, list.as_deref()).await,
                ProvideTask::Find => match list {
                    Some(list) => self.find(&spec, list).await,
                    None => {
                        let create = create.first().map_or("", String::as_str);
                        Provided::NotKnown(format!("nobody can be asked what {create} did: there is no list"))
                    }
                },
                ProvideTask::Destroy(id) => match destroy {
                    Some(destroy) => self.destroy(&spec, destroy, id).await,
                    None => Provided::NotKnown("the config says nothing that would destroy it".to_owned()),
                },
            },
        }
    }

    async fn create(&self, spec: &ReplaceSpec, create: &[String], list: Option<&[String]>) -> Provided {
        let (ended, lines) = match self.run(spec, "create", create, None).await {
            Ok(ran) => ran,
            Err(why) => return Provided::Nothing(why),
        };
        let made = lines.iter().rev().find_map(|line| said(line));
        match (ended, made) {
            (Ended::Exit(Exit::Code(0)), Some(Ok(made))) => Provided::Made(made),
            (Ended::Exit(Exit::Code(0)), Some(Err(why))) => Provided::NotKnown(why),
            (Ended::Exit(Exit::Code(0)), None) => Provided::NotKnown(
                "create ended well, and wrote no line { \"id\": …, \"address\": … }".to_owned(),
            ),
            (Ended::Exit(_), _) => Provided::Nothing(self.words("create", ended, &lines)),
            _ => match list {
                // It was killed in the middle.
                Some(list) => self.find(spec, list).await,
                None => Provided::NotKnown(self.words("create", ended, &lines)),
            },
        }
    }

    async fn find(&self, spec: &ReplaceSpec, list: &[String]) -> Provided {
        match self.run(spec, "list", list, None).await {
            Ok((Ended::Exit(Exit::Code(0)), lines)) => match lines.iter().rev().find_map(|line| said(line)) {
                Some(Ok(made)) => Provided::Made(made),
                Some(Err(why)) => Provided::NotKnown(why),
                None => Provided::Nothing("list tells of none".to_owned()),
            },
            Ok((ended, lines)) => Provided::NotKnown(self.words("list", ended, &lines)),
            Err(why) => Provided::NotKnown(why),
        }
    }

    async fn destroy(&self, spec: &ReplaceSpec, destroy: &[String], id: &str) -> Provided {
        match self.run(spec, "destroy", destroy, Some(id)).await {
            Ok((Ended::Exit(Exit::Code(0)), _)) => Provided::Nothing(String::new()),
            Ok((ended, lines)) => Provided::NotKnown(self.words("destroy", ended, &lines)),
            Err(why) => Provided::NotKnown(why),
        }
    }

    async fn run(
        &self,
        spec: &ReplaceSpec,
        task: &str,
        argv: &[String],
        id: Option<&str>,
    ) -> Result<(Ended, Vec<String>), String> {
        let order = self.order;
        let service = &order.instance.service;
        let context = Context {
            task,
            service: service.as_str(),
            server: &order.server.name,
            instance: &order.instance.name,
            action: order.action.0,
            id,
            reason: &order.reason,
            incident: order.incident.map(|incident| incident.0),
        };
        let program = argv.first().map_or("", String::as_str);
        let failed = |error: std::io::Error| {
            format!("cannot run {program}: {error}; check service.{service}.replace.command.{task}")
        };
        let run = Program {
            mark: service.server(format!("{MARK}-{task}-{}", order.action.0)),
            log: service.server(MARK),
            wanted_by: "Mainstay".to_owned(),
            argv: argv.to_vec(),
            dir: spec.dir.clone(),
            context: program::context(&context).map_err(failed)?,
            // `list` may follow a `create` that was late.
            deadline: match task {
                "list" => order.deadline,
                _ => self.deadline.saturating_duration_since(Instant::now()),
            },
        };
        let mark = run.mark.clone();
        let tail = Arc::<Mutex<Tail>>::default();
        let ended = run.run(self.shared, &tail).await.map_err(failed)?;
        if task == "create" && ended == Ended::Exit(Exit::Code(0)) {
            // What it started is its result.
            if let Err(error) = self.shared.left.add(&mark) {
                tracing::error!(%error, "the next start of Mainstay would end what create has started");
            }
        }
        let lines = tail.lock().unwrap_or_else(PoisonError::into_inner).lines_of_process(LINES_MAX);
        Ok((ended, lines))
    }

    fn words(&self, task: &str, ended: Ended, lines: &[String]) -> String {
        let how = match ended {
            Ended::Late(_) => {
                format!(
                    "{task} did not end within {} (deadline) and was killed",
                    seconds(self.order.deadline)
                )
            }
            _ => format!("{task}: {ended}"),
        };
        match lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty()) {
            Some(line) => format!("{how}; the last line it wrote: {}", short(line)),
            None => how,
        }
    }
}

/// A line that tells of an instance; `None`: it does not.
fn said(line: &str) -> Option<Result<Made, String>> {
    let said: Said = serde_json::from_str(line.trim()).ok()?;
    let id: String = said.id.chars().filter(|c| !c.is_control()).take(ID_MAX).collect();
    let address = said.address.strip_prefix("http://").unwrap_or(&said.address).trim_end_matches('/');
    let made = match address.parse::<Endpoint>() {
        Ok(address) if !id.is_empty() => Ok(Made { id, address }),
        Ok(_) => Err(format!("an instance at {address} was made, and nothing says what it is called (id)")),
        Err(_) => Err(format!(
            "{id} was made, and {} is not where it could listen: an IP address and a port is needed",
            short(address)
        )),
    };
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_told_of_by_its_id_and_an_address() {
        let made = said(r#"{ "id": "vm-7", "address": "10.0.0.13:3000", "more": true }"#).unwrap().unwrap();
        assert_eq!((made.id.as_str(), made.address.to_string().as_str()), ("vm-7", "10.0.0.13:3000"));
        let six = said(r#"{"id":"a","address":"http://[::1]:80/"}"#).unwrap().unwrap();
        assert_eq!(six.address.to_string(), "[::1]:80");
        assert!(said("made one").is_none());
        assert!(said(r#"{"id": "vm-7"}"#).is_none());
        assert!(said(r#"{"id": "", "address": "10.0.0.13:3000"}"#).unwrap().is_err());
        let nowhere = said(r#"{"id": "vm-7", "address": "somewhere"}"#).unwrap().unwrap_err();
        assert!(nowhere.contains("vm-7 was made, and somewhere is not where it could listen"), "{nowhere}");
    }
}
