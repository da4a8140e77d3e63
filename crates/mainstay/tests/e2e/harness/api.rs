//! The JSON API as a program uses it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{Answer, Connection};
use super::until;

/// Asks one Mainstay.
#[derive(Debug, Clone)]
pub struct Api {
    address: SocketAddr,
    token: Option<String>,
}

impl Api {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None }
    }

    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// The admin address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The whole of the judgement.
    pub async fn status(&self) -> Value {
        self.get_json("/api/v1/status").await
    }

    /// One server, `shop/app-1`; panics if there is none.
    pub async fn server(&self, id: &str) -> Value {
        let status = self.status().await;
        find_server(&status, id).unwrap_or_else(|| panic!("no server {id} in {status}")).clone()
    }

    /// Incidents that are known, newest first, without their timelines.
    pub async fn incidents(&self) -> Vec<Value> {
        let answer = self.get_json("/api/v1/incidents").await;
        let list = answer.get("incidents").unwrap_or(&answer);
        list.as_array().unwrap_or_else(|| panic!("not a list of incidents: {answer}")).clone()
    }

    /// One incident with its timeline.
    pub async fn incident(&self, id: u64) -> Value {
        self.get_json(&format!("/api/v1/incidents/{id}")).await
    }

    /// A server's buckets of one minute over the last hour, oldest first.
    pub async fn history(&self, id: &str) -> Vec<Value> {
        let answer = self.get_json(&format!("/api/v1/servers/{id}/history?step=minute")).await;
        let list = answer.get("buckets").unwrap_or(&answer);
        list.as_array().unwrap_or_else(|| panic!("not a list of buckets: {answer}")).clone()
    }

    /// Every look at a server within the last hour, oldest first.
    pub async fn results(&self, id: &str) -> Vec<Value> {
        let answer = self.get_json(&format!("/api/v1/servers/{id}/results?limit=10000")).await;
        let list = answer.get("results").unwrap_or(&answer);
        list.as_array().unwrap_or_else(|| panic!("not a list of looks: {answer}")).clone()
    }

    /// Waits until a server is as wanted, and returns it.
    pub async fn server_until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{id} {what}"), async || {
            let server = self.server(id).await;
            wanted(&server).then_some(server)
        })
        .await
    }

    /// Waits until every server is healthy, in rotation and at its full share.
    pub async fn all_serve(&self) {
        until("every server serves at its full share", async || {
            let status = self.status().await;
            let servers: Vec<&Value> = servers(&status).collect();
            (!servers.is_empty() && servers.iter().all(|s| serves(s) && s["share"].as_f64() >= Some(0.999)))
                .then_some(())
        })
        .await;
    }

    /// Waits until an incident has an entry of this kind, and returns the incident with its timeline.
    pub async fn incident_with(&self, id: u64, kind: &str) -> Value {
        until(&format!("incident {id} has an entry `{kind}`"), async || {
            let incident = self.incident(id).await;
            (!entries(&incident, kind).is_empty()).then_some(incident)
        })
        .await
    }

    /// Waits until an incident is over, and returns it with its timeline.
    pub async fn resolved(&self, id: u64) -> Value {
        until(&format!("incident {id} is resolved"), async || {
            let incident = self.incident(id).await;
            (incident["state"] == "resolved").then_some(incident)
        })
        .await
    }

    /// Waits for the first incident and returns its number.
    pub async fn first_incident(&self) -> u64 {
        until("an incident is opened", async || {
            self.incidents().await.last().and_then(|incident| incident["id"].as_u64())
        })
        .await
    }

    /// Takes an incident on.
    pub async fn acknowledge(&self, id: u64, by: &str) -> Answer {
        self.post(&format!("/api/v1/incidents/{id}/acknowledge"), &json!({ "by": by })).await
    }

    /// Puts a server into another admin state.
    pub async fn set_admin(&self, id: &str, state: &str) -> Answer {
        self.post(&format!("/api/v1/servers/{id}/state"), &json!({ "state": state })).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, b"").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, body.to_string().as_bytes()).await
    }

    /// What is at a path, as JSON.
    pub async fn get_json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Connection", "close"), ("Accept", "application/json")];
        headers.extend(bearer.as_deref().map(|value| ("Authorization", value)));
        if method == "POST" {
            headers.push(("Content-Type", "application/json"));
        }
        let ask = async { Connection::open(self.address).await?.send(method, path, &headers, body).await };
        ask.await.unwrap_or_else(|error| panic!("{method} {path} on {}: {error}", self.address))
    }
}

/// All servers of all services.
pub fn servers(status: &Value) -> impl Iterator<Item = &Value> {
    let services = status["services"].as_array().into_iter().flatten();
    services.flat_map(|service| service["servers"].as_array().into_iter().flatten())
}

pub fn find_server<'a>(status: &'a Value, id: &str) -> Option<&'a Value> {
    servers(status).find(|server| server["id"] == id)
}

/// Whether a server is healthy and in rotation.
pub fn serves(server: &Value) -> bool {
    server["health"] == "healthy" && server["in_rotation"] == true
}

/// The entries of an incident's timeline of one kind, oldest first.
pub fn entries<'a>(incident: &'a Value, kind: &str) -> Vec<&'a Value> {
    let timeline = incident["timeline"].as_array().into_iter().flatten();
    timeline.filter(|entry| entry["kind"] == kind).collect()
}

/// When the first entry of a kind happened, in milliseconds since 1970; panics without one.
pub fn at(incident: &Value, kind: &str) -> i64 {
    let entries = entries(incident, kind);
    let first = entries.first().unwrap_or_else(|| panic!("no `{kind}` in the timeline of {incident:#}"));
    first["at"].as_i64().unwrap_or_else(|| panic!("no time in {first}"))
}

/// Now, in the milliseconds of the API.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292277026")
}
