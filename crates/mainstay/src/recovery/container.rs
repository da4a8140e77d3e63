//! Makes, finds and destroys containers that take the place of servers, through the Docker Engine's socket. What belongs to which
//! replacement stands in the container's labels, so that none is made twice.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyper::Method;
use mainstay_model::substitute::{Made, ProvideTask, Provided};
use serde::Deserialize;
use serde_json::json;

use super::act::short;
use super::provide::Providing;
use crate::config::{ContainerSpec, url_encoded};
use crate::docker_client::{self, Answer, EngineError};

/// Which data directory's Mainstay made it.
const DATA: &str = "mainstay.data";
/// For which replacement.
const ACTION: &str = "mainstay.action";
/// In whose place.
const SERVER: &str = "mainstay.server";
/// Where it listens.
const PORT: &str = "mainstay.port";
/// Stands for the port in its command and its environment.
const PORT_WORD: &str = "{port}";

/// A container as it is listed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What is read of a container's networks.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    network_settings: Networks,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Networks {
    #[serde(default)]
    networks: BTreeMap<String, Network>,
}

#[derive(Deserialize)]
struct Network {
    #[serde(rename = "IPAddress", default)]
    address: String,
}

/// Does what is ordered.
pub(super) async fn carry_out(providing: &Providing<'_>, wanted: &ContainerSpec) -> Provided {
    let engine = Engine { providing, wanted };
    match &providing.order.task {
        ProvideTask::Create => engine.create().await,
        ProvideTask::Find => engine.find().await,
        ProvideTask::Destroy(id) => match engine.remove(id, true).await {
            Ok(()) => Provided::Nothing(String::new()),
            Err(why) => Provided::NotKnown(why),
        },
    }
}

struct Engine<'a> {
    providing: &'a Providing<'a>,
    wanted: &'a ContainerSpec,
}

impl Engine<'_> {
    async fn create(&self) -> Provided {
        let port = match self.port() {
            Ok(port) => port,
            Err(why) => return Provided::Nothing(why),
        };
        let instance = &self.providing.order.instance;
        let name = url_encoded(&format!("{}-{}", instance.service, instance.name));
        let path = format!("/containers/create?name={name}");
        let answer = match self.ask(Method::POST, &path, self.body(port)).await {
            Ok(answer) => answer,
            // Nobody was asked.
            Err(error @ (EngineError::NoSocket(_) | EngineError::NotASocket(_) | EngineError::Shut(_))) => {
                return Provided::Nothing(error.to_string());
            }
            Err(_) => return self.find().await,
        };
        match answer.status {
            201 => match serde_json::from_slice::<Listed>(&answer.body) {
                Ok(made) => self.start(made.id, port).await,
                Err(_) => self.find().await,
            },
            // It may be ours: the same order, of which the outcome was lost.
            409 => match self.find().await {
                Provided::Nothing(_) => Provided::Nothing(answer.message()),
                found => found,
            },
            404 => Provided::Nothing(format!(
                "the Docker Engine has no image {}: {}",
                self.wanted.image,
                answer.message()
            )),
            _ => Provided::Nothing(answer.message()),
        }
    }

    /// What cannot be started is not left there.
    async fn start(&self, id: String, port: u16) -> Provided {
        let why = match self.try_start(&id, port).await {
            Ok(made) => return Provided::Made(made),
            Err(why) => why,
        };
        match self.remove(&id, false).await {
            Ok(()) => Provided::Nothing(why),
            Err(error) => Provided::NotKnown(format!("{why}; container {} is there: {error}", short_id(&id))),
        }
    }

    async fn try_start(&self, id: &str, port: u16) -> Result<Made, String> {
        let path = format!("/containers/{id}/start");
        let answer = self.ask(Method::POST, &path, String::new()).await.map_err(|error| error.to_string())?;
        // 304: it runs already.
        if !matches!(answer.status, 200..=299 | 304) {
            return Err(format!("it could not be started: {}", answer.message()));
        }
        let ip = self.address(id).await?;
        Ok(Made { id: short_id(id), address: SocketAddr::new(ip, port).into() })
    }

    async fn address(&self, id: &str) -> Result<IpAddr, String> {
        if self.wanted.network == "host" {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        let path = format!("/containers/{id}/json");
        let answer = self.ask(Method::GET, &path, String::new()).await.map_err(|error| error.to_string())?;
        let inspected =
            serde_json::from_slice::<Inspected>(&answer.body).map_err(|error| error.to_string())?;
        let network = inspected.network_settings.networks.get(&self.wanted.network);
        let address = network.and_then(|network| network.address.parse().ok());
        address.ok_or_else(|| format!("it has no address in network {}", short(&self.wanted.network)))
    }

    /// The one that was made for this replacement; started, if it was not.
    async fn find(&self) -> Provided {
        let order = self.providing.order;
        let labels =
            [format!("{DATA}={}", self.providing.shared.instance), format!("{ACTION}={}", order.action.0)];
        let filters = url_encoded(&json!({ "label": labels }).to_string());
        let path = format!("/containers/json?all=true&filters={filters}");
        let answer = match self.ask(Method::GET, &path, String::new()).await {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => return Provided::NotKnown(answer.message()),
            Err(error) => return Provided::NotKnown(format!("the Docker Engine cannot be asked: {error}")),
        };
        let listed = serde_json::from_slice::<Vec<Listed>>(&answer.body);
        let Some(found) = listed.ok().map(|all| all.into_iter().next()) else {
            return Provided::NotKnown("the Docker Engine's answer cannot be read".to_owned());
        };
        let Some(found) = found else {
            return Provided::Nothing("the Docker Engine has no container for it".to_owned());
        };
        let Some(port) = found.labels.get(PORT).and_then(|port| port.parse().ok()) else {
            return Provided::NotKnown(format!(
                "container {} does not say where it listens",
                short_id(&found.id)
            ));
        };
        self.start(found.id, port).await
    }

    /// `gently`: it is asked to end first.
    async fn remove(&self, id: &str, gently: bool) -> Result<(), String> {
        let told = |error: EngineError| format!("the Docker Engine cannot be asked: {error}");
        if gently {
            let path = format!("/containers/{id}/stop");
            self.ask(Method::POST, &path, String::new()).await.map_err(told)?;
        }
        let path = format!("/containers/{id}?force=true&v=true");
        let answer = self.ask(Method::DELETE, &path, String::new()).await.map_err(told)?;
        match answer.status {
            200..=299 | 404 => Ok(()),
            _ => Err(answer.message()),
        }
    }

    /// Where the program in it listens.
    fn port(&self) -> Result<u16, String> {
        match self.wanted.port {
            Some(port) => Ok(port),
            None => {
                let ports = &self.providing.shared.ports;
                let chosen = ports.choose(&self.providing.order.instance, Ipv4Addr::LOCALHOST.into());
                chosen.map_err(|error| format!("no port is free: {error}"))
            }
        }
    }

    fn body(&self, port: u16) -> String {
        let order = self.providing.order;
        let fill = |text: &String| text.replace(PORT_WORD, &port.to_string());
        let env: Vec<String> =
            self.wanted.env.iter().map(|(name, value)| format!("{name}={}", fill(value))).collect();
        let mut body = json!({
            "Image": self.wanted.image,
            "Env": env,
            "Labels": {
                DATA: self.providing.shared.instance,
                ACTION: order.action.0.to_string(),
                SERVER: order.server.to_string(),
                PORT: port.to_string(),
            },
            "HostConfig": {
                "NetworkMode": self.wanted.network,
                "RestartPolicy": { "Name": "unless-stopped" },
            },
        });
        if let Some(command) = &self.wanted.command {
            body["Cmd"] = command.iter().map(fill).collect();
        }
        body.to_string()
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Result<Answer, EngineError> {
        let stream = docker_client::connect(&self.wanted.socket, self.providing.deadline).await?;
        docker_client::ask_with(stream, method, path, body, self.providing.deadline).await
    }
}

/// As Docker's own command line shows it.
fn short_id(id: &str) -> String {
    id.chars().take(12).collect()
}
