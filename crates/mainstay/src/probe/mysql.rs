//! The probe of MySQL and MariaDB: that logins are taken, as `mysqladmin ping` asks; and for a user that may log in, a query, whether it
//! takes writes, and how far a replica is behind.
//!
//! A login is begun and finished in every case: a server refuses machines that again and again break off in the middle of one.

use std::time::Duration;

use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::Look;
use super::postgres::judge_value;
use super::wire::{Wire, in_time, quoted, shortened};
use crate::config::probe::{DataRole, MysqlProbe, SqlLogin};
use crate::config::{Secret, people_duration};

/// A longer packet ends the probe: that of a row with a whole book in it.
const PACKET_MAX: usize = 60 * 1024;
/// A result of more columns is none that a probe asks for.
const COLUMNS_MAX: u64 = 200;

// What a client says that it can (CLIENT_…).
const LONG_PASSWORD: u32 = 1;
const WITH_DATABASE: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TLS: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
/// utf8mb4.
const CHARSET: u8 = 45;

const NATIVE: &str = "mysql_native_password";
const SHA2: &str = "caching_sha2_password";

/// Asks and says what answered.
pub(super) async fn probe(look: &Look<'_>, probe: &MysqlProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let wire = Wire::open(look).await?;
    in_time(look, ask(wire, look, probe)).await
}

async fn ask(wire: Wire, look: &Look<'_>, probe: &MysqlProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let mut session = Session { wire, sequence: 0, greeted: false };
    let first = session.packet().await?;
    let Some(login) = &probe.login else {
        let nobody = SqlLogin { user: "mainstay-probe".to_owned(), ..SqlLogin::default() };
        let complaint = match Complaint::read(&first) {
            Some(complaint) => Err(complaint),
            None => session.log_in(&first, &nobody, probe.tls, look).await?,
        };
        return match complaint {
            Err(complaint) if !complaint.is_about_who_asks() => Err(complaint.failure()),
            _ => {
                session.quit().await;
                Ok(ProbeAnswer::said("takes logins"))
            }
        };
    };
    if let Some(complaint) = Complaint::read(&first) {
        return Err(complaint.failure());
    }
    let greeting = Greeting::read(&first).ok_or_else(|| strange(&first))?;
    session.log_in(&first, login, probe.tls, look).await?.map_err(|complaint| complaint.failure())?;
    let state = session.ask_state(login).await?;
    let mut said = format!("answered {state}");
    if let Some(query) = &login.query {
        let value = session.ask_query(query, greeting.is_mariadb, look.deadline).await?;
        judge_value(value.as_deref(), login)?;
        if let Some(value) = value {
            said = format!("answered {} {state}", quoted(value.as_bytes()));
        }
    }
    session.quit().await;
    Ok(ProbeAnswer::said(said))
}

/// What the server says first.
#[derive(Debug)]
struct Greeting {
    is_mariadb: bool,
    salt: Vec<u8>,
    can: u32,
    plugin: String,
}

impl Greeting {
    fn read(packet: &[u8]) -> Option<Self> {
        let (10, rest) = packet.split_first().map(|(first, rest)| (*first, rest))? else { return None };
        let (version, rest) = until_nul(rest)?;
        // The connection's number, the first part of the salt, a zero, what it can, its character set, its state, what else it
        // can, how long the salt is, ten zeros.
        let (head, rest) = rest.split_at_checked(31)?;
        let can = u32::from(u16::from_le_bytes([head[13], head[14]]))
            | u32::from(u16::from_le_bytes([head[18], head[19]])) << 16;
        let more = usize::from(head[20]).saturating_sub(8).max(13);
        let (second, rest) = rest.split_at_checked(more.min(rest.len()))?;
        let second = second.strip_suffix(&[0]).unwrap_or(second);
        Some(Self {
            is_mariadb: String::from_utf8_lossy(version).contains("MariaDB"),
            salt: [&head[4..12], second].concat(),
            can,
            plugin: until_nul(rest).map_or_else(|| NATIVE.to_owned(), |(name, _)| text(name)),
        })
    }
}

/// A conversation in packets, which are numbered.
struct Session {
    wire: Wire,
    sequence: u8,
    /// Its first packet was one of this protocol.
    greeted: bool,
}

impl Session {
    /// The next packet.
    async fn packet(&mut self) -> Result<Vec<u8>, ProbeFailure> {
        let head = self.wire.take(4).await?;
        let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        if !self.greeted && (head[3] != 0 || length > PACKET_MAX) {
            return Err(strange(&head));
        }
        self.greeted = true;
        self.sequence = head[3].wrapping_add(1);
        match length {
            0 => Err(strange(&head)),
            1..=PACKET_MAX => self.wire.take(length).await,
            _ => Err(ProbeFailure::Answer("answered its query with more than 60 KiB".to_owned())),
        }
    }

    async fn say(&mut self, body: &[u8]) -> Result<(), ProbeFailure> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let packet = [&length[..3], &[self.sequence], body].concat();
        self.sequence = self.sequence.wrapping_add(1);
        self.wire.say(&packet).await
    }

    /// From the greeting until queries are taken, or until the server has said that they are not.
    async fn log_in(
        &mut self,
        first: &[u8],
        login: &SqlLogin,
        tls: bool,
        look: &Look<'_>,
    ) -> Result<Result<(), Complaint>, ProbeFailure> {
        let bad = |what: String| Err(ProbeFailure::Answer(what));
        let greeting = Greeting::read(first).ok_or_else(|| strange(first))?;
        let password = login.password.as_ref().map_or("", Secret::reveal);
        let mut hidden = look.over_tls;
        let plugin = if greeting.plugin == SHA2 { SHA2 } else { NATIVE };
        let mut can = LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
        if !login.database.is_empty() {
            can |= WITH_DATABASE;
        }
        if tls && !hidden {
            if greeting.can & TLS == 0 {
                return Err(ProbeFailure::Tls("does not speak TLS (it has no certificate)".to_owned()));
            }
            can |= TLS;
            self.say(&introduction(can)).await?;
            self.wire.secure(look).await?;
            hidden = true;
        }
        let proved = proof(plugin, password, &greeting.salt).unwrap_or_default();
        self.say(&answer_to_greeting(can, login, plugin, &proved)).await?;
        loop {
            let packet = self.packet().await?;
            if let Some(complaint) = Complaint::read(&packet) {
                return Ok(Err(complaint));
            }
            match (packet[0], &packet[1..]) {
                (0, _) => return Ok(Ok(())),
                // Another kind of login than the one that was begun.
                (0xfe, rest) => {
                    let Some((name, salt)) = until_nul(rest) else {
                        return bad("wants a login of the kind before MySQL 4.1".to_owned());
                    };
                    let salt = salt.strip_suffix(&[0]).unwrap_or(salt);
                    match proof(&text(name), password, salt) {
                        Some(proof) => self.say(&proof).await?,
                        // Nobody is logged in anyhow; the server shall have the last word.
                        None if login.password.is_none() => self.say(&[]).await?,
                        None => {
                            let name = shortened(&text(name), 60);
                            return bad(format!("wants a login of kind {name}, which a probe does not know"));
                        }
                    }
                }
                // It knows the password already; now comes its yes.
                (1, [3]) => {}
                (1, [4]) if hidden || look.address.tcp().is_none() => {
                    self.say(&[password.as_bytes(), &[0]].concat()).await?;
                }
                (1, [4]) => {
                    return bad(
                        "wants the whole password, which only goes over TLS: write health.mysql.tls = true"
                            .to_owned(),
                    );
                }
                _ => return Err(strange(&packet)),
            }
        }
    }

    /// Whether it takes writes and what it follows, in words; an error when it should be otherwise.
    async fn ask_state(&mut self, login: &SqlLogin) -> Result<String, ProbeFailure> {
        let bad = |what: &str| Err(ProbeFailure::Answer(what.to_owned()));
        let read_only = self.query("SELECT @@global.read_only").await?.and_then(|row| row.value(0));
        let read_only = read_only.is_some_and(|value| value != "0" && value != "OFF");
        if read_only && login.role == Some(DataRole::Primary) {
            return bad("takes no writes (read_only), so it is no primary");
        }
        if login.role != Some(DataRole::Replica) && login.lag_max.is_none() {
            return Ok(if read_only { "and takes no writes" } else { "as a primary" }.to_owned());
        }
        let Some(status) = self.query("SHOW REPLICA STATUS").await? else {
            return bad("is a primary and should be a replica: it follows nobody");
        };
        let named = |new: &str, old: &str| status.named(new).or_else(|| status.named(old));
        let behind = named("Seconds_Behind_Source", "Seconds_Behind_Master");
        let Some(behind) = behind.and_then(|text| text.parse().ok()).map(Duration::from_secs) else {
            let why = [named("Last_IO_Error", ""), named("Last_SQL_Error", "")];
            let why = why.into_iter().flatten().find(|text| !text.is_empty());
            let why = why.map_or_else(String::new, |why| format!(": {}", shortened(&why, 160)));
            return bad(&format!("is a replica that does not follow its primary{why}"));
        };
        match login.lag_max {
            Some(most) if behind > most => bad(&format!(
                "is a replica that is {} behind its primary (lag-max = {})",
                people_duration(behind),
                people_duration(most)
            )),
            _ if behind.is_zero() => Ok("as a replica".to_owned()),
            _ => Ok(format!("as a replica, {} behind", people_duration(behind))),
        }
    }

    /// The user's own query, which changes nothing and does not go on when nobody waits for it any more. Its first value.
    async fn ask_query(
        &mut self,
        sql: &str,
        is_mariadb: bool,
        deadline: Instant,
    ) -> Result<Option<String>, ProbeFailure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = match is_mariadb {
            true => format!("SET SESSION max_statement_time = {:.3}", left.as_secs_f64().max(0.001)),
            false => format!("SET SESSION max_execution_time = {}", left.as_millis().max(1)),
        };
        self.query(&limit).await?;
        self.query("START TRANSACTION READ ONLY").await?;
        let row = self.query(sql).await?;
        self.query("ROLLBACK").await?;
        Ok(row.and_then(|row| row.value(0)))
    }

    /// Sends a query and reads all of its answer; the first row, if there is one.
    async fn query(&mut self, sql: &str) -> Result<Option<Row>, ProbeFailure> {
        const QUERY: u8 = 3;
        self.sequence = 0;
        self.say(&[&[QUERY], sql.as_bytes()].concat()).await?;
        let packet = self.packet().await?;
        if let Some(complaint) = Complaint::read(&packet) {
            return Err(complaint.failure());
        }
        if packet[0] == 0 {
            return Ok(None);
        }
        let count = length(&packet).map(|(count, _)| count).filter(|count| (1..=COLUMNS_MAX).contains(count));
        let count = count.ok_or_else(|| strange(&packet))?;
        let mut names = Vec::new();
        for _ in 0..count {
            let column = self.packet().await?;
            names.push(column_name(&column).ok_or_else(|| strange(&column))?);
        }
        let end = self.packet().await?;
        if !is_end(&end) {
            return Err(strange(&end));
        }
        let mut first = None;
        loop {
            let packet = self.packet().await?;
            if let Some(complaint) = Complaint::read(&packet) {
                return Err(complaint.failure());
            }
            if is_end(&packet) {
                return Ok(first);
            }
            if first.is_none() {
                let values = values(&packet, names.len()).ok_or_else(|| strange(&packet))?;
                first = Some(Row { names: std::mem::take(&mut names), values });
            }
        }
    }

    /// Leaves as a client does. Nobody waits for an answer.
    async fn quit(&mut self) {
        self.sequence = 0;
        if self.say(&[1]).await.is_ok() {
            self.wire.ended_well();
        }
    }
}

/// The first row of an answer.
#[derive(Debug)]
struct Row {
    names: Vec<String>,
    /// `None` is NULL.
    values: Vec<Option<String>>,
}

impl Row {
    fn value(&self, at: usize) -> Option<String> {
        self.values.get(at).cloned().flatten()
    }

    fn named(&self, name: &str) -> Option<String> {
        self.value(self.names.iter().position(|own| own.eq_ignore_ascii_case(name))?)
    }
}

/// What an error says.
#[derive(Debug)]
struct Complaint {
    number: u16,
    text: String,
}

impl Complaint {
    fn read(packet: &[u8]) -> Option<Self> {
        let rest = packet.strip_prefix(&[0xff])?;
        let (number, rest) = rest.split_at_checked(2)?;
        // SQLSTATE stands in front of the text, but not before the client has said what it can.
        let words = match rest.strip_prefix(b"#") {
            Some(rest) => rest.get(5..).unwrap_or_default(),
            None => rest,
        };
        Some(Self { number: u16::from_le_bytes([number[0], number[1]]), text: text(words) })
    }

    /// It is about who wants to log in, and not about the server.
    fn is_about_who_asks(&self) -> bool {
        // Access denied to a database or to a user, no such user, a machine that may not come, a login that it does not know.
        matches!(self.number, 1044 | 1045 | 1049 | 1130 | 1251 | 1275 | 1524 | 1698 | 3118)
    }

    fn failure(&self) -> ProbeFailure {
        let said = shortened(&self.text, 160);
        ProbeFailure::Answer(match self.number {
            1040 | 1203 => format!("has no connection left: {said}"),
            1053 => format!("takes no logins: {said}"),
            1129 => format!("refuses this machine after too many broken logins: {said}"),
            1044 | 1045 | 1130 | 1698 | 3118 => {
                format!("does not let the probe's user in: {said}; check health.mysql")
            }
            1049 => format!("{said}: check health.mysql.database"),
            1227 => format!(
                "{said}: GRANT REPLICATION CLIENT (of MariaDB REPLICA MONITOR) ON *.* to the probe's user"
            ),
            1317 | 1969 | 3024 => "did not answer its query in time".to_owned(),
            number => format!("answered with an error: {said} ({number})"),
        })
    }
}

fn strange(packet: &[u8]) -> ProbeFailure {
    let beginning = &packet[..packet.len().min(40)];
    ProbeFailure::Answer(format!("did not answer as a MySQL does: {}", quoted(beginning)))
}

/// What a client says of itself; alone, it asks for TLS.
fn introduction(can: u32) -> Vec<u8> {
    let most = u32::try_from(PACKET_MAX).unwrap_or(u32::MAX);
    [&can.to_le_bytes()[..], &most.to_le_bytes(), &[CHARSET], &[0; 23]].concat()
}

fn answer_to_greeting(can: u32, login: &SqlLogin, plugin: &str, proof: &[u8]) -> Vec<u8> {
    let mut body = introduction(can);
    body.extend([login.user.as_bytes(), &[0]].concat());
    // A proof has 32 bytes at most.
    body.push(u8::try_from(proof.len()).unwrap_or(u8::MAX));
    body.extend_from_slice(proof);
    if can & WITH_DATABASE != 0 {
        body.extend([login.database.as_bytes(), &[0]].concat());
    }
    body.extend([plugin.as_bytes(), &[0]].concat());
    body
}

/// What shows that the password is known; `None`: this kind of login is not known here.
fn proof(plugin: &str, password: &str, salt: &[u8]) -> Option<Vec<u8>> {
    if password.is_empty() {
        return matches!(plugin, NATIVE | SHA2).then(Vec::new);
    }
    match plugin {
        NATIVE => {
            let once = sha1(password.as_bytes());
            Some(xor(&once, &sha1(&[salt, &sha1(&once)].concat())))
        }
        SHA2 => {
            let once = Sha256::digest(password.as_bytes());
            let mixed = Sha256::digest([&Sha256::digest(once)[..], salt].concat());
            Some(xor(&once, &mixed))
        }
        _ => None,
    }
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The end of columns, and of rows.
fn is_end(packet: &[u8]) -> bool {
    packet.len() < 9 && packet.first() == Some(&0xfe)
}

/// A number of one to nine bytes.
fn length(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let bytes = match first {
        0..=0xfa => return Some((u64::from(*first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(bytes)?;
    Some((number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest))
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = length(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// Catalogue, database, table and its first name come before it.
fn column_name(packet: &[u8]) -> Option<String> {
    let mut rest = packet;
    for _ in 0..4 {
        rest = string(rest)?.1;
    }
    Some(text(string(rest)?.0))
}

fn values(packet: &[u8], count: usize) -> Option<Vec<Option<String>>> {
    const NULL: u8 = 0xfb;
    let mut rest = packet;
    let mut values = Vec::new();
    for _ in 0..count {
        if let Some(after) = rest.strip_prefix(&[NULL]) {
            values.push(None);
            rest = after;
            continue;
        }
        let (value, after) = string(rest)?;
        values.push(Some(text(value)));
        rest = after;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn passwords_are_proved_as_the_documentation_of_mysql_computes_it() {
        let salt: Vec<u8> = (1..=20).collect();
        // Made with Python's hashlib by the formulas of the documentation.
        assert_eq!(hex(&proof(NATIVE, "secret", &salt).unwrap()), "b32bb3a583e1340c0a1108d58b1be49781ad8c2f");
        assert_eq!(
            hex(&proof(SHA2, "secret", &salt).unwrap()),
            "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9"
        );
        assert_eq!(proof(NATIVE, "", &salt), Some(Vec::new()));
        assert_eq!(proof("client_ed25519", "secret", &salt), None);
    }

    proptest! {
        #[test]
        fn no_packet_is_too_strange_to_be_read(packet in prop::collection::vec(any::<u8>(), 0..100), count in 0usize..5) {
            let _ = Greeting::read(&packet);
            let _ = Greeting::read(&[&[10], &packet[..]].concat());
            let _ = Complaint::read(&packet).map(|complaint| complaint.failure());
            let _ = Complaint::read(&[&[0xff], &packet[..]].concat());
            let _ = column_name(&packet);
            let _ = values(&packet, count);
            let _ = is_end(&packet);
        }
    }
}
