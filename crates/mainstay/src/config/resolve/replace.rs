//! How a server that cannot be brought back is replaced: `service.NAME.replace`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::policy::{Provider, ReplacePolicy, ServerPolicy};

use super::Config;
use super::restart::DOCKER_SOCKET;
use super::whole::Resolver;
use crate::config::address;
use crate::config::raw::{RawReplace, RawReplaceCommand, RawReplaceDocker, RawService};
use crate::config::read::{At, Field, List, Text};

/// Who makes new instances for a service, other than Mainstay itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaceSpec {
    /// By whom.
    pub how: ReplaceHow,
    /// Where a program runs: the config file's folder.
    pub dir: PathBuf,
}

/// By whom an instance is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaceHow {
    /// By the Docker Engine.
    Docker(ContainerSpec),
    /// By programs of the user's, each with its arguments. Not empty.
    Command {
        /// Makes one.
        create: Vec<String>,
        /// Destroys one.
        destroy: Option<Vec<String>>,
        /// Says whether one is there.
        list: Option<Vec<String>>,
    },
}

/// A container that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The image.
    pub image: String,
    /// The program and its arguments; `None`: the image's own.
    pub command: Option<Vec<String>>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// The network that it is in.
    pub network: String,
    /// Where it listens; `None`: on a free port of this machine.
    pub port: Option<u16>,
    /// The Engine's Unix socket.
    pub socket: Arc<str>,
}

impl fmt::Display for ReplaceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            ReplaceHow::Docker(container) => write!(f, "docker {}", container.image),
            ReplaceHow::Command { create, .. } => f.write_str(create.first().map_or("", String::as_str)),
        }
    }
}

impl Resolver<'_> {
    /// What is written, or nothing.
    pub(super) fn replace(
        &self,
        id: &ServiceId,
        at: &At<RawService>,
        servers: &BTreeMap<Arc<str>, ServerPolicy>,
        config: &mut Config,
    ) -> Option<ReplacePolicy> {
        let written = at.value.replace.get()?;
        let raw: &RawReplace = &written.value;
        let kinds = [!raw.process.is_absent(), !raw.docker.is_absent(), !raw.command.is_absent()];
        if kinds.iter().filter(|kind| **kind).count() != 1 {
            let remedy = "write one of process = \"app-1\", docker = { image = \"shop:42\", port = 3000 } and command = \
                          { create = [\"/usr/local/bin/make-one\"] }";
            self.mistakes.absent(&written.place, "an instance is made in one way", remedy);
            return None;
        }
        self.names_of_substitutes(servers, written);
        let by = match (raw.process.get(), raw.docker.get(), raw.command.get()) {
            (Some(process), _, _) => Provider::Process(self.process_of(process, servers)?),
            (_, Some(docker), _) => {
                let how = ReplaceHow::Docker(self.container(docker)?);
                self.other(id, how, config)
            }
            (_, _, Some(command)) => {
                let how = self.programs(command)?;
                self.other(id, how, config)
            }
            _ => return None,
        };
        let default = ReplacePolicy::default();
        let least = Duration::from_secs(1);
        Some(ReplacePolicy {
            by,
            after: self.duration(&raw.after, default.after, least),
            deadline: self.duration(&raw.deadline, default.deadline, least),
            healthy_within: self.duration(&raw.healthy_within, default.healthy_within, least),
            destroy_after: self.duration(&raw.destroy_after, default.destroy_after, Duration::ZERO),
            max: self.count(&raw.max, default.max, 1..=100),
            budget: self.count(&raw.budget, default.budget, 1..=50),
        })
    }

    fn other(&self, id: &ServiceId, how: ReplaceHow, config: &mut Config) -> Provider {
        let spec = ReplaceSpec { how, dir: self.base_dir.to_owned() };
        let by = spec.to_string();
        config.replaces.insert(id.clone(), spec);
        Provider::Other(by)
    }

    /// Instances have names of their own: `app-1-r7`.
    fn names_of_substitutes(&self, servers: &BTreeMap<Arc<str>, ServerPolicy>, written: &At<RawReplace>) {
        for name in servers.keys() {
            let like_ours = name.rsplit_once("-r").is_some_and(|(place, number)| {
                servers.contains_key(place)
                    && !number.is_empty()
                    && number.bytes().all(|b| b.is_ascii_digit())
            });
            if like_ours {
                let what = format!("server {name} has the name of an instance in the place of another one");
                self.mistakes.absent(&written.place, what, format!("call server {name} otherwise"));
            }
        }
    }

    fn process_of(&self, named: &At<Text>, servers: &BTreeMap<Arc<str>, ServerPolicy>) -> Option<Arc<str>> {
        match servers.get_key_value(named.value.0.as_str()) {
            Some((name, policy)) if policy.supervised => Some(Arc::clone(name)),
            Some(_) => {
                let what = "Mainstay does not run this server, so it cannot start one more";
                self.mistakes.value(&named.place, what, "name a server with command");
                None
            }
            None => {
                let what = "no server of this service has this name";
                self.mistakes.value(&named.place, what, "name one that has a command");
                None
            }
        }
    }

    fn container(&self, at: &At<RawReplaceDocker>) -> Option<ContainerSpec> {
        let raw = &at.value;
        let good = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/:@".contains(c))
        };
        let Some(image) = raw.image.get() else {
            self.mistakes.absent(&at.place, "no image", "write image = \"shop:42\"");
            return None;
        };
        if !good(&image.value.0) {
            self.mistakes.value(&image.place, "not the name of an image", "write \"shop:42\"");
            return None;
        }
        let network = raw.network.get().map_or("bridge", |at| at.value.0.as_str()).to_owned();
        if let Some(written) = raw.network.get().filter(|at| !good(&at.value.0)) {
            self.mistakes.value(&written.place, "not the name of a network", "write \"shop-net\"");
        }
        let port = match raw.port.get() {
            Some(_) => u16::try_from(self.count(&raw.port, 80, 1..=65_535)).ok(),
            None => None,
        };
        if port.is_none() && network != "host" {
            let remedy = "write port = 3000: where the program in it listens";
            self.mistakes.absent(&at.place, "nothing says on which port it listens", remedy);
        }
        let command = match raw.command.get() {
            Some(_) => Some(self.program_of(&raw.command, "/srv/shop", &[])?),
            None => None,
        };
        let socket = match raw.socket.get() {
            Some(at) => {
                self.accept(&at.place, address::socket_path(at.value.0.trim_start_matches("unix:")))?
            }
            None => DOCKER_SOCKET.into(),
        };
        Some(ContainerSpec {
            image: image.value.0.clone(),
            command,
            env: self.variables_of_container(&raw.env),
            network,
            port,
            socket,
        })
    }

    fn variables_of_container(
        &self,
        field: &Field<crate::config::read::Named<Text>>,
    ) -> BTreeMap<String, String> {
        let Some(written) = field.get() else { return BTreeMap::new() };
        let mut all = BTreeMap::new();
        for (name, value) in &written.value.0 {
            let Some(value) = value.get() else { continue };
            if name.value.contains('=') || name.value.contains('\0') || value.value.0.contains('\0') {
                self.mistakes.value(
                    &name.place,
                    "not a variable of an environment",
                    "write PORT = \"{port}\"",
                );
                continue;
            }
            all.insert(name.value.clone(), value.value.0.clone());
        }
        all
    }

    fn programs(&self, at: &At<RawReplaceCommand>) -> Option<ReplaceHow> {
        let raw = &at.value;
        if raw.create.is_absent() {
            let remedy = "write create = [\"/usr/local/bin/make-one\"]";
            self.mistakes.absent(&at.place, "no program makes an instance", remedy);
            return None;
        }
        let program = |field: &Field<List<Text>>| self.program_of(field, "/usr/local/bin/make-one", &[]);
        Some(ReplaceHow::Command {
            create: program(&raw.create)?,
            destroy: program(&raw.destroy),
            list: program(&raw.list),
        })
    }
}
