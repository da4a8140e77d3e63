//! Probes that ask somebody else about a server: the Docker Engine about its container, systemd about its unit.

use std::sync::Arc;

use super::super::whole::Resolver;
use crate::config::address;
use crate::config::mistake::Place;
use crate::config::raw::RawDockerProbe;
use crate::config::read::{At, Text, TextOr};

/// A container whose state is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerProbe {
    /// Its name or id; `{server}` and the like stand in it.
    pub container: String,
    /// The Engine's Unix socket.
    pub socket: Arc<str>,
}

/// A unit of systemd whose state is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdProbe {
    /// Its name; `{server}` and the like stand in it.
    pub unit: String,
    /// The program that is asked.
    pub systemctl: String,
}

/// Where the Docker Engine listens unless somebody has changed it.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

impl Resolver<'_> {
    /// A container, and where the Engine listens.
    pub(super) fn docker_probe(&self, raw: &TextOr<RawDockerProbe>, place: &Place) -> DockerProbe {
        let absent = RawDockerProbe::default();
        let (container, table) = match raw {
            TextOr::Text(container) => (Some((container, place)), &absent),
            TextOr::Table(table) => (table.container.get().map(|at| (&at.value.0, &at.place)), table),
        };
        match container {
            Some((name, place)) => {
                let good = |c: char| c.is_ascii_alphanumeric() || "_.-{}".contains(c);
                if name.is_empty() || !name.chars().all(good) {
                    self.mistakes.value(place, "not the name of a container", "write \"shop-{server}\"");
                }
            }
            None if table.container.is_absent() => {
                self.mistakes.absent(place, "container is missing", "write container = \"shop-{server}\"");
            }
            None => {}
        }
        let socket = table.socket.get().and_then(|at| {
            self.accept(&at.place, address::socket_path(at.value.0.trim_start_matches("unix:")))
        });
        DockerProbe {
            container: container.map_or_else(String::new, |(name, _)| name.clone()),
            socket: socket.unwrap_or_else(|| DOCKER_SOCKET.into()),
        }
    }

    /// A unit.
    pub(super) fn systemd_probe(&self, at: &At<Text>) -> SystemdProbe {
        let unit = at.value.0.clone();
        let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@{}".contains(c);
        if unit.is_empty() || unit.len() > 255 || !unit.chars().all(good) {
            self.mistakes.value(
                &at.place,
                "not the name of a unit",
                "write \"shop.service\" or \"shop@{server}.service\"",
            );
        }
        SystemdProbe { unit, systemctl: "systemctl".to_owned() }
    }
}
