//! One question to one resolver, told apart as finely as a person needs it. Nothing is cached and nothing asked of anybody else: what a
//! library makes of several resolvers and several tries would hide just what is looked for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::observed::Answer;

/// A datagram may be lost; it is sent again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What we say that we take in one datagram (the value of DNS Flag Day 2020).
const DATAGRAM_MAX: u16 = 1232;
/// As many addresses of one answer are looked at.
const ADDRESSES_MAX: usize = 64;

/// Asks a resolver for the addresses of one kind, over UDP, and over TCP when the answer is too long for that.
pub(super) async fn ask(resolver: SocketAddr, name: &Name, kind: RecordType, deadline: Instant) -> Answer {
    let mut question = Message::query();
    question.metadata.id = fastrand::u16(..);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM_MAX).set_version(0);
    question.set_edns(edns);
    let Ok(bytes) = question.to_vec() else {
        return Answer::Broken("the question cannot be written".to_owned());
    };
    let result = match timeout_at(deadline, over_udp(resolver, &question, &bytes)).await {
        Ok(Ok(answer)) if answer.metadata.truncation => {
            timeout_at(deadline, over_tcp(resolver, &question, &bytes)).await
        }
        other => other,
    };
    match result {
        Err(_) => Answer::Silent,
        Ok(Err(error)) => failure(&error),
        Ok(Ok(message)) => meaning(&message, kind),
    }
}

async fn over_udp(resolver: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let own: IpAddr =
        if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(resolver).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        socket.send(bytes).await?;
        let again_at = Instant::now() + AGAIN_AFTER;
        // What is no answer to the question is not listened to: anybody can send a datagram.
        while let Ok(received) = timeout_at(again_at, socket.recv(&mut buffer)).await {
            if let Some(answer) = answer_to(question, &buffer[..received?]) {
                return Ok(answer);
            }
        }
    }
}

async fn over_tcp(resolver: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    answer_to(question, &buffer).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "what came over TCP is no answer to the question")
    })
}

fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        // Some resolvers leave the question out of an answer that says no.
        && (answer.queries.is_empty() || answer.queries == question.queries);
    same.then_some(answer)
}

fn failure(error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Answer::Broken(error.to_string()),
        io::ErrorKind::ConnectionRefused => Answer::Unreachable("nothing listens there".to_owned()),
        _ => Answer::Unreachable(error.to_string()),
    }
}

/// What an answer says to the question for addresses of this kind. Aliases (CNAME) are in the answer with what they lead to.
fn meaning(message: &Message, kind: RecordType) -> Answer {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for record in message.answers.iter().filter(|record| record.record_type() == kind) {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => continue,
        };
        if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    match message.metadata.response_code {
        ResponseCode::NoError if addresses.is_empty() => Answer::NoAddress,
        ResponseCode::NoError => Answer::Addresses(addresses),
        ResponseCode::NXDomain => Answer::NoSuchName,
        ResponseCode::ServFail => Answer::Failed,
        other => Answer::Declined(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME};

    use super::*;

    /// A resolver that answers each datagram with what the function makes of it.
    async fn resolver(reply: impl Fn(Message) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                for bytes in reply(Message::from_vec(&buffer[..length]).unwrap()) {
                    socket.send_to(&bytes, from).await.unwrap();
                }
            }
        });
        address
    }

    async fn asked(resolver: SocketAddr, within: Duration) -> Answer {
        let name = Name::from_ascii("shop.example.com.").unwrap();
        ask(resolver, &name, RecordType::A, Instant::now() + within).await
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn addresses_behind_an_alias_are_found_and_forged_datagrams_ignored() {
        let address = resolver(|question| {
            let mut answer = question.into_response();
            let name = answer.queries[0].name().clone();
            let alias = Name::from_ascii("www.example.net.").unwrap();
            answer.add_answer(Record::from_rdata(name, 60, RData::CNAME(CNAME(alias.clone()))));
            answer.add_answer(Record::from_rdata(alias, 60, RData::A(A::new(192, 0, 2, 1))));
            let good = answer.to_vec().unwrap();
            answer.metadata.id ^= 1;
            vec![b"nonsense".to_vec(), answer.to_vec().unwrap(), good]
        })
        .await;
        assert_eq!(asked(address, PATIENCE).await, Answer::Addresses(vec!["192.0.2.1".parse().unwrap()]));
    }

    #[tokio::test]
    async fn every_way_to_say_no_is_told_apart() {
        for (code, expected) in [
            (ResponseCode::NXDomain, Answer::NoSuchName),
            (ResponseCode::ServFail, Answer::Failed),
            (ResponseCode::NoError, Answer::NoAddress),
            (ResponseCode::Refused, Answer::Declined(ResponseCode::Refused.to_string())),
        ] {
            let address = resolver(move |question| {
                let mut answer = question.into_response();
                answer.metadata.response_code = code;
                vec![answer.to_vec().unwrap()]
            })
            .await;
            assert_eq!(asked(address, PATIENCE).await, expected);
        }
    }

    #[tokio::test]
    async fn silence_and_a_port_where_nothing_listens_are_told_apart() {
        let silent = resolver(|_| Vec::new()).await;
        assert_eq!(asked(silent, Duration::from_millis(50)).await, Answer::Silent);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let gone = socket.local_addr().unwrap();
        drop(socket);
        assert!(matches!(asked(gone, PATIENCE).await, Answer::Unreachable(_)));
    }
}
