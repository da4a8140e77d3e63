//! Asks one DNS server one thing, with a deadline. No cache and no second server: who looks at what DNS really says must not
//! be comforted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{LowerName, Name, RData, RecordType};
use mainstay_model::input::LookUpFailure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// A datagram that is not answered is sent again after so long.
const AGAIN: Duration = Duration::from_millis(1500);
/// The longest datagram that is asked for.
const UDP_MAX: u16 = 1232;
/// Strangers' datagrams that are looked past while waiting for the answer.
const STRANGERS_MAX: usize = 100;

/// A server gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It could not be reached.
    #[error("{text}")]
    Io {
        /// What the system says.
        text: String,
        /// Its number for it.
        code: Option<i32>,
    },
    /// It did not answer in time.
    #[error("no answer in time")]
    Late,
    /// What came is no answer to the question.
    #[error("its answer cannot be read: {0}")]
    Garbled(String),
}

impl From<std::io::Error> for AskError {
    fn from(error: std::io::Error) -> Self {
        Self::Io { text: error.to_string(), code: error.raw_os_error() }
    }
}

/// Asks about one name and type; over TCP when the answer does not fit into a datagram.
pub async fn ask(
    server: SocketAddr,
    name: &LowerName,
    kind: RecordType,
    recurse: bool,
    deadline: Instant,
) -> Result<Message, AskError> {
    let mut question = Message::query();
    question.metadata.recursion_desired = recurse;
    question.add_query(Query::query(Name::from(name), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MAX);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(|error| AskError::Garbled(error.to_string()))?;
    let answer =
        timeout_at(deadline, by_udp(server, &question, &bytes)).await.map_err(|_| AskError::Late)??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let bytes = exchange(server, &bytes, deadline).await?;
    read(&bytes, &question).ok_or_else(|| AskError::Garbled("not what was asked for".to_owned()))
}

async fn by_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, AskError> {
    let any: IpAddr = match server.is_ipv4() {
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        socket.send(bytes).await?;
        let again = Instant::now() + AGAIN;
        for _ in 0..STRANGERS_MAX {
            let Ok(received) = timeout_at(again, socket.recv(&mut buffer)).await else { break };
            if let Some(answer) = read(&buffer[..received?], question) {
                return Ok(answer);
            }
        }
    }
}

/// The message, if it is the answer to the question.
fn read(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries;
    fits.then_some(answer)
}

/// Sends a message over a connection of its own, and returns the one that comes back.
pub async fn exchange(server: SocketAddr, message: &[u8], deadline: Instant) -> Result<Vec<u8>, AskError> {
    let talk = async {
        let length = u16::try_from(message.len()).map_err(|_| AskError::Garbled("too long".to_owned()))?;
        let mut stream = TcpStream::connect(server).await?;
        let mut framed = Vec::with_capacity(message.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(message);
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout_at(deadline, talk).await.map_err(|_| AskError::Late)?
}

/// Every address of a name, each with its TTL, as one server says it.
pub async fn addresses(
    server: SocketAddr,
    name: &LowerName,
    recurse: bool,
    deadline: Instant,
) -> Result<Vec<(IpAddr, u32)>, LookUpFailure> {
    let (v4, v6) = tokio::join!(
        ask(server, name, RecordType::A, recurse, deadline),
        ask(server, name, RecordType::AAAA, recurse, deadline)
    );
    let mut found = Vec::new();
    let mut failure = None;
    for answer in [v4, v6] {
        match answer.map_err(|error| LookUpFailure::Failed(error.to_string())).and_then(|m| said(&m)) {
            Ok(addresses) => found.extend(addresses),
            // That there is no answer to one of the two must not pass for a name without an address.
            Err(error) => {
                if !matches!(failure, Some(LookUpFailure::Failed(_))) {
                    failure = Some(error);
                }
            }
        }
    }
    match failure {
        Some(failure) if found.is_empty() => Err(failure),
        _ if found.is_empty() => Err(LookUpFailure::NoAddress),
        _ => {
            found.sort();
            Ok(found)
        }
    }
}

/// Every target of a service's name (priority, weight, host, port), and the least TTL, as one server says it. None of them when the
/// name says that there is none.
pub async fn targets(
    server: SocketAddr,
    name: &LowerName,
    deadline: Instant,
) -> Result<(Vec<(u16, u16, String, u16)>, u32), LookUpFailure> {
    let answer = ask(server, name, RecordType::SRV, true, deadline).await;
    let answer = answer.map_err(|error| LookUpFailure::Failed(error.to_string()))?;
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Err(LookUpFailure::NoSuchName),
        other => return Err(LookUpFailure::Failed(refusal(other))),
    }
    let targets = answer.answers.iter().filter_map(|record| match &record.data {
        // A lone dot says that the service is not offered (RFC 2782).
        RData::SRV(srv) if !srv.target.is_root() => {
            let host = srv.target.to_ascii().to_ascii_lowercase();
            Some((srv.priority, srv.weight, host.trim_end_matches('.').to_owned(), srv.port))
        }
        _ => None,
    });
    let ttl = answer.answers.iter().map(|record| record.ttl).min().unwrap_or_default();
    Ok((targets.collect(), ttl))
}

/// An error that a server answered with, in words.
fn refusal(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "its resolver could not find out (SERVFAIL)".to_owned(),
        ResponseCode::Refused => "its resolver refuses the question (REFUSED)".to_owned(),
        other => format!("its resolver answered with an error: {other}"),
    }
}

/// The addresses in an answer.
fn said(answer: &Message) -> Result<Vec<(IpAddr, u32)>, LookUpFailure> {
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Err(LookUpFailure::NoSuchName),
        other => return Err(LookUpFailure::Failed(refusal(other))),
    }
    // An alias that is forgotten earlier than its target's address takes the address with it.
    let alias = answer.answers.iter().filter(|r| r.record_type() == RecordType::CNAME).map(|r| r.ttl).min();
    let address = answer.answers.iter().filter_map(|record| {
        let ip: IpAddr = match &record.data {
            RData::A(ip) => ip.0.into(),
            RData::AAAA(ip) => ip.0.into(),
            _ => return None,
        };
        Some((ip, record.ttl.min(alias.unwrap_or(u32::MAX))))
    });
    Ok(address.collect())
}
