//! The PostgreSQL probe: that logins are taken, as `pg_isready` asks; and for a user that may log in, a query, the role, and how
//! far a replica is behind; and a replica is made the primary.
//!
//! A PostgreSQL that starts up, shuts down, has no connection left or does not let the user in says so itself, and is told apart
//! from one that hangs.

use std::time::Duration;

use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use mainstay_model::lead::{self, DataState};

use super::Look;
use super::scram::{Scram, md5_answer};
use super::wire::{Wire, in_time, quoted, shortened};
use crate::config::probe::{DataRole, PostgresProbe, SqlLogin};
use crate::config::{Secret, people_duration};

/// A longer message ends the probe: that of a row with a whole book in it.
const MESSAGE_MAX: usize = 60 * 1024;

/// What is asked of everybody: a replica or not, and how far behind. Nothing has come in that was not replayed, and somebody
/// sends: then it is not behind, however long ago the last change was.
const STATE: &str = "SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN NULL \
     WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0 \
     ELSE EXTRACT(EPOCH FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END";

/// The same, and how far the log goes: what a primary has written, what a replica has received; whether it receives now, which only
/// somebody with `pg_monitor` is told; and on which timeline.
const STATE_AND_LOG: &str = "SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN NULL \
     WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0 \
     ELSE EXTRACT(EPOCH FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END, \
     CASE WHEN pg_is_in_recovery() THEN GREATEST(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
     ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn, \
     EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'), \
     CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli FROM pg_stat_wal_receiver) \
     ELSE ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int END";

/// The values of a row; `None` is NULL.
type Row = Vec<Option<String>>;

/// Asks and says what answered.
pub(super) async fn probe(look: &Look<'_>, probe: &PostgresProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let wire = Wire::open(look).await?;
    in_time(look, ask(wire, look, probe)).await
}

async fn ask(mut wire: Wire, look: &Look<'_>, probe: &PostgresProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let mut hidden = look.over_tls;
    if probe.tls && !hidden {
        ask_for_tls(&mut wire, look).await?;
        hidden = true;
    }
    let Some(login) = &probe.login else {
        wire.say(&start_up("mainstay-probe", "postgres")).await?;
        let (kind, body) = message(&mut wire).await?;
        let answer = match kind {
            b'R' => Ok(ProbeAnswer::said("takes logins")),
            b'E' if takes_logins(&Complaint::read(&body)) => Ok(ProbeAnswer::said("takes logins")),
            b'E' => Err(ProbeFailure::Answer(Complaint::read(&body).words())),
            _ => Err(strange(kind, &body)),
        };
        if answer.is_ok() {
            wire.ended_well();
        }
        return answer;
    };
    // A password in the clear is for nobody else to read.
    let safe = hidden || look.address.is_here();
    log_in(&mut wire, login, safe).await?;
    if let Some(within) = probe.promote {
        return promote(&mut wire, within).await;
    }
    let (role, data) = ask_role(&mut wire, login, probe.state).await?;
    let mut said = format!("answered as a {role}");
    if let Some(query) = &login.query {
        let timeout = look.deadline.saturating_duration_since(tokio::time::Instant::now());
        let value = ask_query(&mut wire, query, timeout).await?;
        judge_value(value.as_deref(), login)?;
        if let Some(value) = value {
            said = format!("answered {} as a {role}", quoted(value.as_bytes()));
        }
    }
    wire.say(&framed(Some(b'X'), b"")).await?;
    wire.ended_well();
    Ok(ProbeAnswer { data, ..ProbeAnswer::said(said) })
}

/// Makes it the primary, and makes sure that it is. One that is already is left as it is.
async fn promote(wire: &mut Wire, within: Duration) -> Result<ProbeAnswer, ProbeFailure> {
    const IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";
    let is =
        |row: Option<Row>, value: &str| row.is_some_and(|row| row.first() == Some(&Some(value.to_owned())));
    if is(query(wire, IN_RECOVERY).await?, "f") {
        return Ok(ProbeAnswer::said("it was the primary already"));
    }
    let seconds = within.as_secs().max(1);
    let done = is(query(wire, &format!("SELECT pg_promote(true, {seconds})")).await?, "t");
    if !done || !is(query(wire, IN_RECOVERY).await?, "f") {
        return Err(ProbeFailure::Answer(format!("it was not the primary within {seconds} s")));
    }
    wire.say(&framed(Some(b'X'), b"")).await?;
    wire.ended_well();
    Ok(ProbeAnswer::said("pg_promote made it the primary"))
}

/// The port takes logins when the complaint is about who wants to log in, and not about the server.
fn takes_logins(complaint: &Complaint) -> bool {
    // Invalid authorization, no such database, no such role.
    ["28", "3D", "42"].iter().any(|class| complaint.code.starts_with(class))
}

async fn ask_for_tls(wire: &mut Wire, look: &Look<'_>) -> Result<(), ProbeFailure> {
    const REQUEST: u32 = 80_877_103;
    wire.say(&framed(None, &REQUEST.to_be_bytes())).await?;
    match wire.take(1).await?.first() {
        Some(b'S') => wire.secure(look).await,
        Some(b'N') => Err(ProbeFailure::Tls("does not speak TLS (ssl = off)".to_owned())),
        other => {
            let what = format!("did not answer as a PostgreSQL does: {other:?} where TLS begins");
            Err(ProbeFailure::Answer(what))
        }
    }
}

/// From the first message until queries are taken.
async fn log_in(wire: &mut Wire, login: &SqlLogin, safe: bool) -> Result<(), ProbeFailure> {
    let bad = |what: &str| Err(ProbeFailure::Answer(what.to_owned()));
    wire.say(&start_up(&login.user, &login.database)).await?;
    let mut proof = None;
    let mut scram = None;
    loop {
        let (kind, body) = message(wire).await?;
        let method = match kind {
            b'Z' => return Ok(()),
            b'E' => return Err(ProbeFailure::Answer(Complaint::read(&body).words())),
            // Settings, the key for cancelling, notices.
            b'S' | b'K' | b'N' => continue,
            b'R' if body.len() >= 4 => u32::from_be_bytes([body[0], body[1], body[2], body[3]]),
            _ => return Err(strange(kind, &body)),
        };
        let rest = &body[4..];
        if method == 0 {
            if proof.is_some() {
                return bad("let the probe in without proving that it knows the password itself");
            }
            continue;
        }
        let Some(password) = login.password.as_ref().map(Secret::reveal) else {
            return bad("wants a password: write health.postgres.password");
        };
        match method {
            3 if safe => wire.say(&framed(Some(b'p'), &text(password))).await?,
            3 => return bad("wants the password in the clear: write health.postgres.tls = true"),
            5 => wire.say(&framed(Some(b'p'), &text(&md5_answer(&login.user, password, rest)))).await?,
            10 if rest.split(|byte| *byte == 0).any(|name| name == b"SCRAM-SHA-256") => {
                let begun = Scram::new(nonce()?);
                let first = begun.first();
                let mut body = text("SCRAM-SHA-256");
                body.extend(u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes());
                body.extend(first.as_bytes());
                wire.say(&framed(Some(b'p'), &body)).await?;
                scram = Some(begun);
            }
            11 => {
                let Some(begun) = &scram else { return Err(strange(kind, &body)) };
                let made = begun.prove(password, &String::from_utf8_lossy(rest));
                let made = made.map_err(ProbeFailure::Answer)?;
                wire.say(&framed(Some(b'p'), made.message.as_bytes())).await?;
                proof = Some(made.answer);
            }
            12 if proof.take().is_some_and(|answer| rest == answer.as_bytes()) => {}
            12 => return bad("does not know the password that it asked for: another server may be there"),
            other => return bad(&format!("wants a login of kind {other}, which a probe does not know")),
        }
    }
}

/// Which role it has, in words, and what it says of its state if that is asked; an error when it should have another role, or is too far
/// behind.
async fn ask_role(
    wire: &mut Wire,
    login: &SqlLogin,
    with_log: bool,
) -> Result<(String, Option<DataState>), ProbeFailure> {
    let row = query(wire, if with_log { STATE_AND_LOG } else { STATE }).await?.unwrap_or_default();
    let value = |at: usize| row.get(at).and_then(Option::as_deref);
    let data = with_log.then(|| DataState {
        role: if value(0) == Some("t") { lead::DataRole::Replica } else { lead::DataRole::Primary },
        position: value(2).and_then(|text| text.parse().ok()),
        receives: value(3) == Some("t"),
        timeline: value(4).and_then(|text| text.parse().ok()),
    });
    Ok((judge_role(&row, login)?, data))
}

fn judge_role(row: &Row, login: &SqlLogin) -> Result<String, ProbeFailure> {
    let bad = |what: String| Err(ProbeFailure::Answer(what));
    let value = |at: usize| row.get(at).and_then(Option::as_deref);
    if value(0) != Some("t") {
        return match login.role {
            Some(DataRole::Replica) => bad("is a primary and should be a replica".to_owned()),
            _ => Ok("primary".to_owned()),
        };
    }
    if login.role == Some(DataRole::Primary) {
        return bad("is a replica, which takes no writes".to_owned());
    }
    let behind = value(1).and_then(|text| text.parse::<f64>().ok());
    let behind = behind.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    match (behind, login.lag_max) {
        (None, Some(_)) => bad("is a replica and does not know how far it is behind".to_owned()),
        (Some(behind), Some(most)) if behind > most => bad(format!(
            "is a replica that is {} behind its primary (lag-max = {})",
            people_duration(behind),
            people_duration(most)
        )),
        (Some(behind), _) if behind >= Duration::from_secs(1) => {
            Ok(format!("replica, {} behind", people_duration(behind)))
        }
        _ => Ok("replica".to_owned()),
    }
}

/// The user's own query, which changes nothing and does not go on when nobody waits for it any more. Its first value.
async fn ask_query(wire: &mut Wire, sql: &str, timeout: Duration) -> Result<Option<String>, ProbeFailure> {
    let limit = timeout.as_millis().max(1);
    query(wire, &format!("BEGIN; SET LOCAL statement_timeout = {limit}")).await?;
    let row = query(wire, sql).await?;
    query(wire, "ROLLBACK").await?;
    Ok(row.and_then(|row| row.into_iter().next().flatten()))
}

/// Whether the first value of an answer is the one that is wanted.
pub(super) fn judge_value(value: Option<&str>, login: &SqlLogin) -> Result<(), ProbeFailure> {
    let Some(wanted) = &login.expect else { return Ok(()) };
    if value == Some(wanted) {
        return Ok(());
    }
    let got = value.map_or_else(|| "nothing".to_owned(), |value| quoted(value.as_bytes()));
    Err(ProbeFailure::Answer(format!("answered {got} to its query and not {}", quoted(wanted.as_bytes()))))
}

/// Sends a query and reads all of its answer; the first row, if there is one.
async fn query(wire: &mut Wire, sql: &str) -> Result<Option<Row>, ProbeFailure> {
    wire.say(&framed(Some(b'Q'), &text(sql))).await?;
    let (mut first, mut complaint) = (None, None);
    loop {
        let (kind, body) = message(wire).await?;
        match kind {
            b'Z' => return complaint.map_or(Ok(first), Err),
            b'D' => first = first.or_else(|| row(&body)),
            b'E' => complaint = Some(ProbeFailure::Answer(Complaint::read(&body).words())),
            // A row's columns, the end of a statement, an empty one, settings, notices.
            b'T' | b'C' | b'I' | b'S' | b'N' => {}
            _ => return Err(strange(kind, &body)),
        }
    }
}

fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_at_checked(2)?;
    let mut row = Row::new();
    for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
        let (length, after) = rest.split_at_checked(4)?;
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let Ok(length) = usize::try_from(length) else {
            row.push(None);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at_checked(length)?;
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(row)
}

/// What an error of PostgreSQL says.
#[derive(Debug, Default)]
struct Complaint {
    /// SQLSTATE.
    code: String,
    text: String,
}

impl Complaint {
    fn read(body: &[u8]) -> Self {
        let mut complaint = Self::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { continue };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => complaint.code = text,
                b'M' => complaint.text = text,
                _ => {}
            }
        }
        complaint
    }

    /// What it means for a person.
    fn words(&self) -> String {
        let said = shortened(&self.text, 160);
        match self.code.as_str() {
            "57P03" => format!("takes no logins: {said}"),
            "53300" => format!("has no connection left: {said}"),
            "28P01" | "28000" => {
                format!("does not let the probe's user in: {said}; check health.postgres and pg_hba.conf")
            }
            "3D000" => format!("{said}: check health.postgres.database"),
            "57014" => "did not answer its query in time".to_owned(),
            code => format!("answered with an error: {said} ({code})"),
        }
    }
}

/// The next message: its kind and what is in it.
async fn message(wire: &mut Wire) -> Result<(u8, Vec<u8>), ProbeFailure> {
    let head = wire.take(5).await?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    match length.checked_sub(4) {
        Some(length) if length <= MESSAGE_MAX => Ok((head[0], wire.take(length).await?)),
        Some(_) if head[0] == b'D' => {
            Err(ProbeFailure::Answer("answered its query with more than 60 KiB".to_owned()))
        }
        _ => Err(ProbeFailure::Answer(format!("did not answer as a PostgreSQL does: {}", quoted(&head)))),
    }
}

fn strange(kind: u8, body: &[u8]) -> ProbeFailure {
    let beginning: Vec<u8> = [&[kind], &body[..body.len().min(40)]].concat();
    ProbeFailure::Answer(format!("did not answer as a PostgreSQL does: {}", quoted(&beginning)))
}

/// The first message: version 3.0 and whose login it is.
fn start_up(user: &str, database: &str) -> Vec<u8> {
    let mut body = 196_608u32.to_be_bytes().to_vec();
    for part in ["user", user, "database", database, "application_name", "mainstay-probe"] {
        body.extend(text(part));
    }
    body.push(0);
    framed(None, &body)
}

/// A message with its length in front.
fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    kind.iter().copied().chain(length.to_be_bytes()).chain(body.iter().copied()).collect()
}

fn text(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

/// Text that nobody guesses.
fn nonce() -> Result<String, ProbeFailure> {
    let mut random = [0; 18];
    getrandom::fill(&mut random).map_err(|error| ProbeFailure::NotProbed(error.to_string()))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
