//! The TCP probe with words: something is said, something must be heard, over TLS from the beginning or by a protocol's own
//! command. Unlike a connection alone it is answered by the program and not by the kernel.

use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use tokio::time::timeout_at;

use super::Look;
use super::wire::{Wire, in_time, quoted};
use crate::config::probe::{Expect, StartTls, Step, TcpProbe};

/// Says and hears one thing after the other. Quotes what was heard last.
pub(super) async fn probe(look: &Look<'_>, probe: &TcpProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let mut wire = Wire::open(look).await?;
    if let Some(protocol) = probe.starttls {
        in_time(look, begin_tls(&mut wire, protocol, look)).await?;
    }
    let mut answer = ProbeAnswer::default();
    for step in &probe.steps {
        if let Some(heard) = take_step(&mut wire, step, look).await? {
            answer = ProbeAnswer::said(format!("answered {heard}"));
        }
    }
    wire.ended_well();
    Ok(answer)
}

/// One step; what was heard, if something was waited for.
async fn take_step(wire: &mut Wire, step: &Step, look: &Look<'_>) -> Result<Option<String>, ProbeFailure> {
    if !step.send.is_empty() {
        in_time(look, wire.say(&step.send)).await?;
    }
    let Some(expect) = &step.expect else { return Ok(None) };
    loop {
        if let Some(end) = end_of(expect, wire.heard()) {
            let heard = wire.take(end).await?;
            return Ok(Some(quoted(line_at_the_end(&heard))));
        }
        let wanted = quoted(expect.as_str().as_bytes());
        let nothing = wire.heard().is_empty();
        let so_far = quoted(wire.heard());
        match timeout_at(look.deadline, wire.hear()).await {
            Ok(Ok(())) => {}
            Err(_) if nothing => return Err(ProbeFailure::AnswerTimeout),
            Err(_) => {
                return Err(ProbeFailure::Answer(format!("answered {so_far} and not {wanted} in time")));
            }
            Ok(Err(ProbeFailure::Reset)) if !nothing => {
                let what = format!("answered {so_far} and not {wanted}, and closed the connection");
                return Err(ProbeFailure::Answer(what));
            }
            Ok(Err(failure)) => return Err(failure),
        }
    }
}

/// Where what was expected ends.
fn end_of(expect: &Expect, heard: &[u8]) -> Option<usize> {
    match expect {
        Expect::Text(text) => {
            let text = text.as_bytes();
            heard.windows(text.len().max(1)).position(|part| part == text).map(|start| start + text.len())
        }
        Expect::Pattern(pattern) => pattern.find(heard).map(|found| found.end()),
    }
}

/// The last line that has something in it.
fn line_at_the_end(heard: &[u8]) -> &[u8] {
    heard.split(|byte| *byte == b'\n').rfind(|line| !line.trim_ascii().is_empty()).unwrap_or(heard)
}

/// The protocol's own way to TLS.
pub(super) async fn begin_tls(
    wire: &mut Wire,
    protocol: StartTls,
    look: &Look<'_>,
) -> Result<(), ProbeFailure> {
    match protocol {
        StartTls::Smtp => {
            expect_code(wire, "220").await?;
            wire.say(b"EHLO mainstay-probe\r\n").await?;
            expect_code(wire, "250").await?;
            wire.say(b"STARTTLS\r\n").await?;
            expect_code(wire, "220").await?;
        }
        StartTls::Ftp => {
            expect_code(wire, "220").await?;
            wire.say(b"AUTH TLS\r\n").await?;
            expect_code(wire, "234").await?;
        }
        StartTls::Pop3 => {
            expect_line(wire, "+OK").await?;
            wire.say(b"STLS\r\n").await?;
            expect_line(wire, "+OK").await?;
        }
        StartTls::Imap => {
            expect_line(wire, "* OK").await?;
            wire.say(b"a STARTTLS\r\n").await?;
            expect_line(wire, "a OK").await?;
        }
    }
    wire.secure(look).await
}

/// A reply of mail and file servers: lines with a code, the last of which has a space behind it.
async fn expect_code(wire: &mut Wire, code: &str) -> Result<(), ProbeFailure> {
    loop {
        let line = wire.line().await?;
        if !line.starts_with(code.as_bytes()) {
            return Err(unexpected(&line, code));
        }
        if line.get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

async fn expect_line(wire: &mut Wire, start: &str) -> Result<(), ProbeFailure> {
    let line = wire.line().await?;
    match line.starts_with(start.as_bytes()) {
        true => Ok(()),
        false => Err(unexpected(&line, start)),
    }
}

fn unexpected(line: &[u8], wanted: &str) -> ProbeFailure {
    ProbeFailure::Answer(format!("answered {} and not {wanted:?} on the way to TLS", quoted(line)))
}
