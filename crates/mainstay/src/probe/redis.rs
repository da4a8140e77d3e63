//! The Redis probe: logs in if it is to, sends `PING` and asks for the role. A Redis that loads its data, that is busy with a
//! script, that wants a password or that has no room for another client is told apart from one that hangs.

use mainstay_model::input::{ProbeAnswer, ProbeFailure};

use super::Look;
use super::wire::{Wire, in_time, quoted, shortened};
use crate::config::probe::{DataRole, RedisProbe};

/// Replies within replies are followed so deep; `ROLE` needs two.
const DEPTH_MAX: u32 = 4;
/// Replies in one reply: `ROLE` lists replicas.
const LENGTH_MAX: usize = 4096;

/// A reply in RESP.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Text(Vec<u8>),
    Error(String),
    Nothing,
    List(Vec<Reply>),
}

/// Asks and says what answered.
pub(super) async fn probe(look: &Look<'_>, probe: &RedisProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let mut wire = Wire::open(look).await?;
    let answer = in_time(look, ask(&mut wire, probe)).await?;
    wire.ended_well();
    Ok(answer)
}

async fn ask(wire: &mut Wire, probe: &RedisProbe) -> Result<ProbeAnswer, ProbeFailure> {
    // All at once: it costs one way there and back, as `PING` alone would.
    let mut commands = Vec::new();
    if let Some(password) = &probe.password {
        let login = [Some("AUTH"), probe.user.as_deref(), Some(password.reveal())];
        write_command(&mut commands, &login.into_iter().flatten().collect::<Vec<_>>());
    }
    write_command(&mut commands, &["PING"]);
    write_command(&mut commands, &["ROLE"]);
    wire.say(&commands).await?;
    if probe.password.is_some()
        && let Reply::Error(error) = reply(wire, 0).await?
    {
        return Err(ProbeFailure::Answer(refusal(&error)));
    }
    match reply(wire, 0).await? {
        Reply::Text(text) if text == b"PONG" => {}
        Reply::Error(error) => return Err(ProbeFailure::Answer(refusal(&error))),
        other => return Err(strange(&format!("{other:?}"))),
    }
    let role = reply(wire, 0).await?;
    judge_role(&role, probe)
}

/// Who it is, and whether it should be.
fn judge_role(reply: &Reply, probe: &RedisProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let bad = |what: String| Err(ProbeFailure::Answer(what));
    let texts: Vec<&[u8]> = match reply {
        Reply::List(items) => {
            items.iter().map(|item| if let Reply::Text(text) = item { &text[..] } else { b"" }).collect()
        }
        // Proxies and users with few rights know no `ROLE`.
        Reply::Error(error) if probe.role.is_some() || probe.linked => {
            return bad(format!("does not say which role it has: {}", short(error)));
        }
        _ => return Ok(ProbeAnswer::said("PONG")),
    };
    match (texts.first().copied().unwrap_or_default(), probe.role) {
        (b"master", Some(DataRole::Replica)) => bad("is a primary and should be a replica".to_owned()),
        (b"master", _) => Ok(ProbeAnswer::said("PONG from a primary")),
        (b"slave", role) => {
            let text = |at: usize| String::from_utf8_lossy(texts.get(at).copied().unwrap_or_default());
            let primary = short(&format!("{}:{}", text(1), text(2)));
            let linked = text(3) == "connected";
            if role == Some(DataRole::Primary) {
                return bad(format!("is a replica of {primary}, which takes no writes"));
            }
            if probe.linked && !linked {
                let state = short(&text(3));
                return bad(format!("is a replica that has lost its primary {primary} ({state})"));
            }
            let state = if linked { "" } else { " that has lost its primary" };
            Ok(ProbeAnswer::said(format!("PONG from a replica{state}")))
        }
        (other, Some(wanted)) => {
            bad(format!("is a {} and should be a {}", String::from_utf8_lossy(other), wanted.as_str()))
        }
        (other, None) => Ok(ProbeAnswer::said(format!("PONG from a {}", String::from_utf8_lossy(other)))),
    }
}

/// An error in words that say what to do about it.
fn refusal(error: &str) -> String {
    let said = short(error);
    match error.split(' ').next().unwrap_or_default() {
        "LOADING" => "is loading its data and answers no commands yet".to_owned(),
        "BUSY" => format!("is busy with a script and answers no commands: {said}"),
        "NOAUTH" => "wants a password: write health.redis.password".to_owned(),
        "WRONGPASS" => {
            "does not know this user and password: check health.redis.user and password".to_owned()
        }
        "NOPERM" => format!("does not let this user send PING: {said}"),
        "MASTERDOWN" => "is a replica that has lost its primary, and may not answer for it".to_owned(),
        "MISCONF" => format!("cannot write its data to disk, and takes no writes: {said}"),
        "DENIED" => "lets nobody in from elsewhere (protected-mode), for want of a password".to_owned(),
        _ if error.contains("max number of clients") => {
            "has no room for another client (maxclients)".to_owned()
        }
        _ if error.contains("without any password configured") => {
            "has no password, and was given one: remove health.redis.password".to_owned()
        }
        _ => format!("answered PING with an error: {said}"),
    }
}

/// A command as Redis reads it: a list of strings.
fn write_command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend(format!("*{}\r\n", words.len()).into_bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).into_bytes());
        out.extend(word.as_bytes());
        out.extend(b"\r\n");
    }
}

/// The next reply.
async fn reply(wire: &mut Wire, depth: u32) -> Result<Reply, ProbeFailure> {
    let line = wire.line().await?;
    let Some((kind, rest)) = line.split_first() else { return Err(strange("an empty line")) };
    let text = || String::from_utf8_lossy(rest);
    match kind {
        b'+' | b':' => Ok(Reply::Text(rest.to_vec())),
        b'-' => Ok(Reply::Error(text().into_owned())),
        b'$' | b'*' => {
            let Ok(length) = text().parse::<i64>() else { return Err(strange(&quoted(&line))) };
            let Ok(length) = usize::try_from(length) else { return Ok(Reply::Nothing) };
            if *kind == b'$' {
                // The end of its line comes with it. What is too long ends at the limit of the conversation.
                let mut text = wire.take(length.saturating_add(2)).await?;
                text.truncate(length);
                return Ok(Reply::Text(text));
            }
            if length > LENGTH_MAX || depth == DEPTH_MAX {
                return Err(strange("lists without an end"));
            }
            let mut items = Vec::new();
            for _ in 0..length {
                items.push(Box::pin(reply(wire, depth + 1)).await?);
            }
            Ok(Reply::List(items))
        }
        _ => Err(strange(&quoted(&line))),
    }
}

fn strange(what: &str) -> ProbeFailure {
    ProbeFailure::Answer(format!("did not answer as a Redis does: {}", short(what)))
}

fn short(text: &str) -> String {
    shortened(text, 120)
}
