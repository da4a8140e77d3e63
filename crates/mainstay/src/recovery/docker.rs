//! Restarts a container through the Docker Engine, by its socket: of this machine, or of another one through
//! `docker system dial-stdio` over ssh, as Docker's own command line does.

use std::process::Stdio;
use std::time::Duration;

use hyper::Method;
use jiff::Timestamp;
use mainstay_model::Wall;
use mainstay_model::input::LookedInto;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::act::{Act, CAPTURE_TAKES, LAST_LINES, SETTLES, age_of, seconds, short, words};
use super::{lock, ssh};
use crate::config::Remote;
use crate::docker_client::{self, Answer, Container, EngineError, log_lines};

/// What ssh complains of is read for so long, and no further.
const COMPLAINTS_TAKE: Duration = Duration::from_millis(250);
const COMPLAINTS_MAX: u64 = 16 * 1024;

/// Restarts the container, after a look at how it is and at what it wrote last.
pub(super) async fn restart(act: &Act<'_>, container: &str, socket: &str) -> Result<(), String> {
    let is = inspect(act, container, socket).await?.ok_or_else(|| not_there(act, container))?;
    let lines = last_lines(act, container, socket, is.config.tty).await;
    act.captured(state(container, &is), lines).await;
    let path = format!("/containers/{container}/restart");
    let answer = ask(act, socket, Method::POST, &path, act.left()).await?;
    match answer.status {
        200..=299 => Ok(()),
        404 => Err(not_there(act, container)),
        _ => {
            Err(format!("the Docker Engine{} cannot restart {container}: {}", act.there(), answer.message()))
        }
    }
}

/// Whether a restart that was begun then was carried out; `None`: it may be under way.
pub(super) async fn look_into(
    act: &Act<'_>,
    container: &str,
    socket: &str,
    begun_at: Wall,
) -> Result<Option<LookedInto>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Info {
        system_time: String,
    }
    let Some(is) = inspect(act, container, socket).await? else {
        return Ok(Some(LookedInto::NotDone(not_there(act, container))));
    };
    // By its own clock: those of two machines differ.
    let info = ask(act, socket, Method::GET, "/info", CAPTURE_TAKES).await?;
    let begun = age_of(begun_at);
    let time = serde_json::from_slice::<Info>(&info.body).ok();
    let time = time.and_then(|info| info.system_time.parse::<Timestamp>().ok());
    let started = is.state.started_at.parse::<Timestamp>().ok();
    let (Some(time), Some(started)) = (time, started) else {
        return Ok(Some(LookedInto::NotKnown(format!(
            "the Docker Engine{} does not say when {container} was started",
            act.there()
        ))));
    };
    let age = Duration::try_from(time.duration_since(started)).unwrap_or(Duration::ZERO);
    let (status, for_long) = (is.state.status.as_str(), seconds(age));
    let done = age <= begun;
    Ok(match status {
        "running" if done => {
            Some(LookedInto::Done(format!("its container {container} was started {for_long} ago")))
        }
        // One that takes its time to end runs until then.
        "running" if begun < act.spec.deadline => None,
        "running" => {
            Some(LookedInto::NotDone(format!("its container {container} was started {for_long} ago, before")))
        }
        "restarting" | "removing" => None,
        _ if done => Some(LookedInto::Done(format!(
            "its container {container} was started {for_long} ago, and ended again with {}",
            is.state.ending()
        ))),
        _ if begun < SETTLES => None,
        _ => Some(LookedInto::NotDone(format!("its container {container} is {}", short(status)))),
    })
}

/// How it is; `None`: it is not there.
async fn inspect(act: &Act<'_>, container: &str, socket: &str) -> Result<Option<Container>, String> {
    let path = format!("/containers/{container}/json");
    let answer = ask(act, socket, Method::GET, &path, CAPTURE_TAKES).await?;
    match answer.status {
        200 => serde_json::from_slice(&answer.body)
            .map(Some)
            .map_err(|error| format!("the Docker Engine's answer cannot be read: {error}")),
        404 => Ok(None),
        _ => Err(format!(
            "the Docker Engine{} refuses to tell of {container}: {}",
            act.there(),
            answer.message()
        )),
    }
}

async fn last_lines(act: &Act<'_>, container: &str, socket: &str, tty: bool) -> Vec<String> {
    let path = format!("/containers/{container}/logs?stdout=1&stderr=1&tail={LAST_LINES}");
    match ask(act, socket, Method::GET, &path, CAPTURE_TAKES).await {
        Ok(answer) if answer.status == 200 => log_lines(&answer.body, tty),
        // It is worth having and not needed.
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// How the container is, or ended.
fn state(container: &str, is: &Container) -> String {
    let state = &is.state;
    match state.status.as_str() {
        "running" => match &state.health {
            Some(health) if health.status == "unhealthy" => {
                format!("its container {container} runs, and is unhealthy by its own check")
            }
            _ => format!("its container {container} runs"),
        },
        "exited" | "dead" => format!("its container {container} has exited with {}", state.ending()),
        "restarting" => {
            format!("its container {container} keeps ending and is started again: {}", state.ending())
        }
        other => format!("its container {container} is {}", short(other)),
    }
}

fn not_there(act: &Act<'_>, container: &str) -> String {
    let (there, key) = (act.there(), act.key());
    format!(
        "the Docker Engine{there} has no container {container}: docker ps -a shows which there are; check {key}.docker"
    )
}

/// Asks the Engine, where it is.
async fn ask(
    act: &Act<'_>,
    socket: &str,
    method: Method,
    path: &str,
    within: Duration,
) -> Result<Answer, String> {
    let deadline = (Instant::now() + within).min(act.deadline);
    let failed = |error: EngineError| match error {
        EngineError::Late => {
            let within = seconds(within.min(act.spec.deadline));
            format!("the Docker Engine{} did not answer within {within}; it may go on with it", act.there())
        }
        error => format!("the Docker Engine{} cannot be asked: {error}", act.there()),
    };
    match &act.spec.over {
        None => {
            let stream = docker_client::connect(socket, deadline).await.map_err(failed)?;
            docker_client::ask(stream, method, path, deadline).await.map_err(failed)
        }
        Some(remote) => {
            let dial = Dial { act, remote, socket, deadline };
            dial.ask(method, path).await.map_err(|(error, flaw)| flaw.unwrap_or_else(|| failed(error)))
        }
    }
}

/// A way to another machine's Engine.
struct Dial<'a> {
    act: &'a Act<'a>,
    remote: &'a Remote,
    socket: &'a str,
    deadline: Instant,
}

impl Dial<'_> {
    /// Beside the Engine's error, what ssh complains of.
    async fn ask(&self, method: Method, path: &str) -> Result<Answer, (EngineError, Option<String>)> {
        let there = words(&["docker", "--host", &format!("unix://{}", self.socket), "system", "dial-stdio"]);
        let argv = ssh::argv(self.remote, &there);
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir(&self.act.spec.dir).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in lock(&self.act.shared.withheld).iter() {
            command.env_remove(name);
        }
        let broken = |text: String| (EngineError::Broken(text), None);
        let mut child = command.spawn().map_err(|error| broken(format!("cannot run ssh: {error}")))?;
        let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.stderr.take());
        let ((input, output), errors) = pipes.ok_or_else(|| broken("ssh has no pipes".to_owned()))?;
        let stream = tokio::io::join(output, input);
        let asked = docker_client::ask(stream, method, path, self.deadline).await;
        let Err(error) = asked else { return asked.map_err(|error| (error, None)) };
        let mut complaints = Vec::new();
        // Whoever keeps it open is not waited for.
        let _ = timeout(COMPLAINTS_TAKE, errors.take(COMPLAINTS_MAX).read_to_end(&mut complaints)).await;
        let complaints = String::from_utf8_lossy(&complaints);
        let lines: Vec<String> = complaints.lines().map(str::to_owned).collect();
        Err((error, ssh::flaw_of(self.remote, &lines).or_else(|| no_docker(self.act, &lines))))
    }
}

/// What Docker's own command line complains of there.
fn no_docker(act: &Act<'_>, lines: &[String]) -> Option<String> {
    let line = lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty())?;
    let there = act.there();
    Some(if line.contains("permission denied") {
        format!(
            "its user may not speak to the Docker Engine{there}: put it into the group docker ({})",
            short(line)
        )
    } else {
        format!("the Docker Engine{there} cannot be asked: {}", short(line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_container_ended_is_told_and_want_of_memory_is_told_apart() {
        let told = |text: &str| {
            let container: Container = serde_json::from_str(&format!("{{\"State\": {{{text}}}}}")).unwrap();
            state("shop-1", &container)
        };
        assert_eq!(
            told(r#""Status": "exited", "ExitCode": 137, "OOMKilled": true"#),
            "its container shop-1 has exited with status 137 (out of memory)"
        );
        assert_eq!(
            told(r#""Status": "exited", "ExitCode": 137"#),
            "its container shop-1 has exited with status 137 (SIGKILL)"
        );
        assert_eq!(
            told(r#""Status": "running", "Health": { "Status": "unhealthy" }"#),
            "its container shop-1 runs, and is unhealthy by its own check"
        );
    }
}
