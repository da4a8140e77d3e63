//! The SMTP probe: greets a mail server as another one does, over TLS if it is to, looks for the extensions that are needed, and asks
//! whether mail for somebody would be taken. No mail is sent.

use mainstay_model::input::{ProbeAnswer, ProbeFailure};

use super::Look;
use super::wire::{Wire, in_time, quoted, shortened};
use crate::config::probe::SmtpProbe;

/// A reply of more lines is none.
const LINES_MAX: usize = 100;

/// A reply: its code, and the text of its lines.
#[derive(Debug)]
struct Reply {
    code: u16,
    lines: Vec<String>,
}

/// Asks and says what answered.
pub(super) async fn probe(look: &Look<'_>, probe: &SmtpProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let wire = Wire::open(look).await?;
    in_time(look, ask(wire, look, probe)).await
}

async fn ask(mut wire: Wire, look: &Look<'_>, probe: &SmtpProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let greeting = expect(&mut wire, 220, "greeted with").await?;
    let mut extensions = hello(&mut wire, probe).await?;
    if probe.starttls {
        if !offers(&extensions, "STARTTLS") {
            return Err(ProbeFailure::Tls("does not offer STARTTLS".to_owned()));
        }
        wire.say(b"STARTTLS\r\n").await?;
        expect(&mut wire, 220, "answered STARTTLS with").await?;
        wire.secure(look).await?;
        extensions = hello(&mut wire, probe).await?;
    }
    if let Some(missing) = probe.require.iter().find(|name| !offers(&extensions, name)) {
        return Err(ProbeFailure::Answer(format!("does not offer {missing} (health.smtp.require)")));
    }
    let mut said = format!("answered {}", quoted(greeting.first().as_bytes()));
    if let Some(to) = &probe.to {
        let from = probe.from.as_deref().unwrap_or_default();
        wire.say(format!("MAIL FROM:<{from}>\r\n").as_bytes()).await?;
        expect(&mut wire, 250, &format!("takes no mail from <{from}>:")).await?;
        wire.say(format!("RCPT TO:<{to}>\r\n").as_bytes()).await?;
        let reply = reply(&mut wire).await?;
        // 251: it would forward it; 252: it would try to deliver it.
        if !matches!(reply.code, 250..=252) {
            return Err(ProbeFailure::Answer(format!("takes no mail for <{to}>: {}", reply.words())));
        }
        wire.say(b"RSET\r\n").await?;
        expect(&mut wire, 250, "answered RSET with").await?;
        said = format!("{said} and takes mail for <{to}>");
    }
    wire.say(b"QUIT\r\n").await?;
    expect(&mut wire, 221, "answered QUIT with").await?;
    wire.ended_well();
    Ok(ProbeAnswer::said(said))
}

/// Greets, and returns what the server can.
async fn hello(wire: &mut Wire, probe: &SmtpProbe) -> Result<Vec<String>, ProbeFailure> {
    wire.say(format!("EHLO {}\r\n", probe.hello).as_bytes()).await?;
    let reply = expect(wire, 250, "answered EHLO with").await?;
    Ok(reply.lines.into_iter().skip(1).collect())
}

fn offers(extensions: &[String], name: &str) -> bool {
    // `AUTH PLAIN` asks for a word behind the first, too.
    let mut wanted = name.split_whitespace();
    let (keyword, rest): (&str, Vec<&str>) = (wanted.next().unwrap_or_default(), wanted.collect());
    extensions.iter().any(|line| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
            && rest.iter().all(|word| line.split_whitespace().any(|own| own.eq_ignore_ascii_case(word)))
    })
}

/// A reply with this code; `what` begins the sentence about another one.
async fn expect(wire: &mut Wire, code: u16, what: &str) -> Result<Reply, ProbeFailure> {
    let reply = reply(wire).await?;
    match reply.code == code {
        true => Ok(reply),
        false => Err(ProbeFailure::Answer(format!("{what} {}", reply.words()))),
    }
}

/// A code and lines, the last of which has a space behind its code.
async fn reply(wire: &mut Wire) -> Result<Reply, ProbeFailure> {
    let mut reply = Reply { code: 0, lines: Vec::new() };
    loop {
        let line = wire.line().await?;
        let code = line.get(..3).filter(|code| code.iter().all(u8::is_ascii_digit));
        let code = code.and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        let (Some(code), true) = (code, reply.lines.len() < LINES_MAX) else {
            return Err(ProbeFailure::Answer(format!(
                "did not answer as a mail server does: {}",
                quoted(&line)
            )));
        };
        reply.code = code;
        reply.lines.push(String::from_utf8_lossy(line.get(4..).unwrap_or_default()).into_owned());
        if line.get(3) != Some(&b'-') {
            return Ok(reply);
        }
    }
}

impl Reply {
    fn first(&self) -> String {
        format!("{} {}", self.code, self.lines.first().map_or("", String::as_str)).trim_end().to_owned()
    }

    /// All of it for a person, and whether it may be otherwise later.
    fn words(&self) -> String {
        let said = shortened(&format!("{} {}", self.code, self.lines.join(" ")), 160);
        match self.code {
            400..500 => format!("{said} (for now)"),
            _ => said,
        }
    }
}
