//! The probe of a container: what the Docker Engine says of its state, and what the container's own health check says. That the Engine
//! cannot be asked says nothing about the container.

use hyper::Method;
use mainstay_model::input::{ProbeAnswer, ProbeFailure};

use super::Look;
use super::program::filled;
use super::wire::shortened;
use crate::config::probe::DockerProbe;
use crate::docker_client::{self, Container, EngineError};

/// Asks the Engine.
pub(super) async fn probe(look: &Look<'_>, probe: &DockerProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let container = filled(&probe.container, look);
    let not_asked = |error: EngineError| {
        ProbeFailure::NotProbed(format!("the Docker Engine at {} does not answer: {error}", probe.socket))
    };
    let stream = docker_client::connect(&probe.socket, look.connect_by).await.map_err(not_asked)?;
    look.trace.connected(look.begun.elapsed());
    let path = format!("/containers/{container}/json");
    let got = docker_client::ask(stream, Method::GET, &path, look.deadline).await.map_err(not_asked)?;
    match got.status {
        200 => judge(&got.body, &container),
        404 => {
            Err(ProbeFailure::Answer(format!("has no container {container}: it is not there (docker ps -a)")))
        }
        status => Err(ProbeFailure::NotProbed(format!("the Docker Engine answered status {status}"))),
    }
}

fn judge(body: &[u8], name: &str) -> Result<ProbeAnswer, ProbeFailure> {
    let container: Container = serde_json::from_slice(body).map_err(|error| {
        ProbeFailure::NotProbed(format!("the Docker Engine's answer cannot be read: {error}"))
    })?;
    let state = &container.state;
    let restarts = match container.restart_count {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        count => format!(", restarted {count} times"),
    };
    let bad = |what: String| Err(ProbeFailure::Answer(format!("its container {name} {what}")));
    match state.status.as_str() {
        "running" => {}
        "exited" | "dead" => {
            let error = if state.error.is_empty() {
                String::new()
            } else {
                format!(": {}", shortened(&state.error, 160))
            };
            return bad(format!("has exited with {}{error}{restarts}", state.ending()));
        }
        "restarting" => {
            return bad(format!("keeps ending and is started again: {}{restarts}", state.ending()));
        }
        "paused" => return bad("is paused (docker unpause)".to_owned()),
        "created" => return bad("was made and never started".to_owned()),
        "removing" => return bad("is being removed".to_owned()),
        other => return bad(format!("is in the state {:?}", shortened(other, 40))),
    }
    let Some(health) = &state.health else { return Ok(ProbeAnswer::said(format!("running{restarts}"))) };
    match health.status.as_str() {
        "unhealthy" => {
            let last = health.log.iter().flatten().next_back().map_or("", |check| check.output.trim());
            let last = if last.is_empty() { String::new() } else { format!(": {}", shortened(last, 160)) };
            bad(format!("is unhealthy by its own check, {} times in a row{last}", health.failing_streak))
        }
        "starting" => Ok(ProbeAnswer {
            warning: Some(format!("its container {name} runs, and its own check has not passed yet")),
            ..ProbeAnswer::said(format!("running, its own check has not passed yet{restarts}"))
        }),
        "healthy" => Ok(ProbeAnswer::said(format!("running and healthy by its own check{restarts}"))),
        _ => Ok(ProbeAnswer::said(format!("running{restarts}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(state: &str) -> String {
        match judge(
            format!(r#"{{ "Id": "1", "RestartCount": 2, "State": {{ {state} }} }}"#).as_bytes(),
            "web",
        ) {
            Ok(answer) => format!("good: {}", answer.said.unwrap_or_default()),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn every_state_of_a_container_is_told_in_words() {
        for (state, wanted) in [
            (r#""Status": "running""#, "good: running, restarted 2 times"),
            (
                r#""Status": "running", "Health": { "Status": "healthy", "Log": null }"#,
                "good: running and healthy by its own check, restarted 2 times",
            ),
            (
                r#""Status": "running", "Health": { "Status": "unhealthy", "FailingStreak": 3, "Log": [{ "Output": "old" }, { "Output": "no route\n" }] }"#,
                "its container web is unhealthy by its own check, 3 times in a row: no route",
            ),
            (
                r#""Status": "running", "Health": { "Status": "starting" }"#,
                "good: running, its own check has not passed yet, restarted 2 times",
            ),
            (
                r#""Status": "exited", "ExitCode": 137, "OOMKilled": true"#,
                "its container web has exited with status 137 (out of memory), restarted 2 times",
            ),
            (
                r#""Status": "exited", "ExitCode": 143"#,
                "its container web has exited with status 143 (SIGTERM), restarted 2 times",
            ),
            (
                r#""Status": "exited", "ExitCode": 127, "Error": "no such file""#,
                "its container web has exited with status 127: no such file, restarted 2 times",
            ),
            (
                r#""Status": "restarting", "ExitCode": 1"#,
                "its container web keeps ending and is started again: status 1, restarted 2 times",
            ),
            (r#""Status": "paused""#, "its container web is paused (docker unpause)"),
            (r#""Status": "created""#, "its container web was made and never started"),
        ] {
            assert_eq!(told(state), wanted, "{state}");
        }
        assert!(told(r#""Status": 1"#).contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange_to_be_judged(status in ".{0,20}", code: i64, streak: i64, count: i64) {
            let body = serde_json::json!({ "RestartCount": count, "State": { "Status": status, "ExitCode": code,
                "Health": { "Status": status, "FailingStreak": streak } } });
            let _ = judge(body.to_string().as_bytes(), "web");
        }
    }
}
