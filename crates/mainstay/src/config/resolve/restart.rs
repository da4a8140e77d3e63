//! How a server that Mainstay does not start itself is restarted: `service.NAME.server.NAME.restart`.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::ServerId;
use mainstay_model::policy::RestartPolicy;

use super::ServerAddress;
use super::whole::Resolver;
use crate::config::address;
use crate::config::mistake::Place;
use crate::config::raw::{RawOver, RawRestart, RawServer};
use crate::config::read::{At, Field, List, Text, TextOr};

/// How a server that Mainstay does not start itself is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RestartSpec {
    /// By whom.
    pub how: RestartHow,
    /// On which machine; `None`: on this one.
    pub over: Option<Remote>,
    /// It is given up after so long.
    pub deadline: Duration,
    /// Where a program of this machine runs: the config file's folder.
    pub dir: PathBuf,
}

/// By whom a server is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RestartHow {
    /// By systemd.
    Systemd {
        /// The unit's name.
        unit: String,
        /// How systemd is spoken to. Not empty.
        systemctl: Vec<String>,
    },
    /// By the Docker Engine.
    Docker {
        /// The container's name or id.
        container: String,
        /// The Engine's Unix socket.
        socket: Arc<str>,
    },
    /// By a program of the user's, with its arguments. Not empty.
    Command(Vec<String>),
}

/// Another machine, by ssh.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remote {
    /// As whom; `None`: as ssh's own config says.
    pub user: Option<String>,
    /// Its name or address.
    pub host: String,
    /// `None`: as ssh's own config says.
    pub port: Option<u16>,
    /// The private key.
    pub key: Option<PathBuf>,
    /// The host keys that are trusted.
    pub known_hosts: Option<PathBuf>,
}

impl fmt::Display for RestartSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            RestartHow::Systemd { unit, .. } => write!(f, "systemctl restart {unit}")?,
            RestartHow::Docker { container, .. } => write!(f, "docker restart {container}")?,
            RestartHow::Command(argv) => f.write_str(argv.first().map_or("", String::as_str))?,
        }
        self.over.as_ref().map_or(Ok(()), |remote| write!(f, " on {}", remote.host))
    }
}

impl RestartSpec {
    /// What the judge needs to know of it, and another number for another way.
    pub(super) fn policy(&self) -> (RestartPolicy, u64) {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        (RestartPolicy { by: self.to_string(), deadline: self.deadline }, hasher.finish())
    }
}

impl Resolver<'_> {
    /// What is written, or nothing.
    pub(super) fn restart(
        &self,
        id: &ServerId,
        raw: &RawServer,
        address: Option<&ServerAddress>,
    ) -> Option<RestartSpec> {
        let At { value: written, place } = raw.restart.get()?;
        if !raw.command.is_absent() {
            let what = "Mainstay starts this server itself, so it restarts it too";
            self.mistakes.key(place, what, "remove restart, or remove command and write address");
            return None;
        }
        if matches!(address, Some(ServerAddress::Srv(_))) {
            let what = "this address may stand for many servers, and one restart is for one of them";
            self.mistakes.key(place, what, "write each server with an address of its own, or remove restart");
            return None;
        }
        let how = self.how(written, place, &known(id, address))?;
        let over = match written.over.get() {
            Some(at) => Some(self.remote(&at.value, &at.place)?),
            None => None,
        };
        let deadline = self.duration(&written.deadline, Duration::from_secs(60), Duration::from_secs(1));
        Some(RestartSpec { how, over, deadline, dir: self.base_dir.to_owned() })
    }

    fn how(&self, raw: &RawRestart, place: &Place, known: &[(&str, String)]) -> Option<RestartHow> {
        let kinds = [!raw.systemd.is_absent(), !raw.docker.is_absent(), !raw.command.is_absent()];
        if kinds.iter().filter(|written| **written).count() != 1 {
            let remedy = "write one of systemd = \"shop.service\", docker = \"shop-1\" and \
                          command = [\"/usr/local/bin/bounce\", \"{server}\"]";
            self.mistakes.absent(place, "a server is restarted in one way", remedy);
            return None;
        }
        self.only_beside(raw.systemctl.get().map(|at| &at.place), &raw.systemd, "systemd = \"shop.service\"");
        self.only_beside(raw.socket.get().map(|at| &at.place), &raw.docker, "docker = \"shop-1\"");
        if let Some(at) = raw.systemd.get() {
            let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@{}".contains(c);
            let unit = filled(&at.value.0, known);
            if unit.is_empty() || unit.starts_with('-') || unit.len() > 255 || !unit.chars().all(good) {
                let remedy = "write \"shop.service\" or \"shop@{server}.service\"";
                self.mistakes.value(&at.place, "not the name of a unit", remedy);
                return None;
            }
            let systemctl = match raw.systemctl.get() {
                Some(_) => self.program_of(&raw.systemctl, "systemctl", &[])?,
                None => vec!["systemctl".to_owned()],
            };
            return Some(RestartHow::Systemd { unit, systemctl });
        }
        if let Some(at) = raw.docker.get() {
            let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            let container = filled(&at.value.0, known);
            if container.is_empty() || container.starts_with(['-', '.']) || !container.chars().all(good) {
                self.mistakes.value(&at.place, "not the name of a container", "write \"shop-{server}\"");
                return None;
            }
            let written = raw.socket.get().map(|at| (&at.place, at.value.0.trim_start_matches("unix:")));
            let socket = match written {
                Some((place, path)) => self.accept(place, address::socket_path(path))?,
                None => DOCKER_SOCKET.into(),
            };
            return Some(RestartHow::Docker { container, socket });
        }
        self.program_of(&raw.command, "/usr/local/bin/bounce", known).map(RestartHow::Command)
    }

    fn only_beside(&self, key: Option<&Place>, needs: &Field<Text>, example: &str) {
        if let Some(place) = key.filter(|_| needs.is_absent()) {
            let remedy = format!("write {example}, or remove it");
            self.mistakes.absent(place, "says nothing here", remedy);
        }
    }

    pub(super) fn program_of(
        &self,
        field: &Field<List<Text>>,
        example: &str,
        known: &[(&str, String)],
    ) -> Option<Vec<String>> {
        let written = field.get()?;
        let argv: Vec<String> = written.value.items.iter().map(|item| filled(&item.value.0, known)).collect();
        if argv.first().is_none_or(|program| program.trim().is_empty()) {
            self.mistakes.value(&written.place, "no program to run", format!("write [{example:?}]"));
            return None;
        }
        if argv.iter().any(|argument| argument.contains('\0')) {
            let what = "a NUL character cannot be given to a program";
            self.mistakes.value(&written.place, what, "remove it");
            return None;
        }
        Some(argv)
    }

    fn remote(&self, raw: &TextOr<RawOver>, place: &Place) -> Option<Remote> {
        let absent = RawOver::default();
        let (to, place, raw) = match raw {
            TextOr::Text(text) => (text, place, &absent),
            TextOr::Table(table) => match table.to.get() {
                Some(at) => (&at.value.0, &at.place, table),
                None => {
                    let remedy = "write to = \"ssh://deploy@10.0.0.11\"";
                    self.mistakes.absent(place, "nothing says which machine", remedy);
                    return None;
                }
            },
        };
        let Some((user, host, port)) = parts(to) else {
            let remedy = "write \"ssh://deploy@10.0.0.11\" or \"ssh://deploy@app-1.internal:2222\"";
            self.mistakes.value(place, "not a machine that ssh could reach", remedy);
            return None;
        };
        let file = |field: &Field<Text>| field.get().map(|at| self.base_dir.join(Path::new(&at.value.0)));
        Some(Remote { user, host, port, key: file(&raw.key), known_hosts: file(&raw.known_hosts) })
    }
}

/// Where the Docker Engine listens unless somebody has changed it.
pub(super) const DOCKER_SOCKET: &str = "/run/docker.sock";

/// What stands for whom.
fn known(id: &ServerId, address: Option<&ServerAddress>) -> [(&'static str, String); 4] {
    let (host, port) = match address {
        Some(ServerAddress::Fixed(address)) => (address.ip().to_string(), address.port().to_string()),
        Some(ServerAddress::Name(host, port)) => (host.clone(), port.to_string()),
        Some(ServerAddress::Unix(_) | ServerAddress::Srv(_)) | None => (String::new(), String::new()),
    };
    [
        ("{server}", id.name.to_string()),
        ("{service}", id.service.to_string()),
        ("{host}", host),
        ("{port}", port),
    ]
}

fn filled(text: &str, known: &[(&str, String)]) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// `ssh://user@host:port`. None of them can be taken for an option of ssh.
fn parts(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
    let rest = text.strip_prefix("ssh://")?.trim_end_matches('/');
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let (host, port) = address::host_and_port(rest)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let fits = plain(host, ".-_:%") && user.is_none_or(|user| plain(user, "._-"));
    fits.then(|| (user.map(str::to_owned), host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_a_user_a_host_and_a_port_and_never_an_option() {
        let to = |user: &str, host: &str, port| {
            Some(((!user.is_empty()).then(|| user.to_owned()), host.to_owned(), port))
        };
        assert_eq!(parts("ssh://deploy@10.0.0.11"), to("deploy", "10.0.0.11", None));
        assert_eq!(parts("ssh://deploy@app-1.internal:2222/"), to("deploy", "app-1.internal", Some(2222)));
        assert_eq!(parts("ssh://app"), to("", "app", None));
        assert_eq!(parts("ssh://root@[2001:db8::1]:22"), to("root", "2001:db8::1", Some(22)));
        assert_eq!(parts("ssh://[::1]"), to("", "::1", None));
        for wrong in [
            "deploy@10.0.0.11",
            "ssh://",
            "ssh://a@",
            "ssh://@a",
            "ssh://-oProxyCommand=x",
            "ssh://-u@host",
            "ssh://a:0",
            "ssh://a:x",
            "ssh://[::1]x",
            "ssh://a b",
            "ssh://a;b",
            "http://a",
        ] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
