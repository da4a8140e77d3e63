//! The TCP probe with words, against listeners that say what they should and what they should not.

use super::*;
use crate::config::probe::{Expect, StartTls, Step, TcpProbe};

fn step(send: &str, expect: &str) -> Step {
    Step { send: send.into(), expect: (!expect.is_empty()).then(|| Expect::Text(expect.to_owned())) }
}

fn talk(steps: Vec<Step>) -> ProbeSpec {
    ProbeSpec::Tcp(TcpProbe { steps, ..TcpProbe::default() })
}

/// A server that says the first text, and each further one after it has heard a line.
async fn says(texts: &'static [&'static str]) -> SocketAddr {
    server(move |mut stream| async move {
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                while stream.read_u8().await.is_ok_and(|byte| byte != b'\n') {}
            }
            stream.write_all(text.as_bytes()).await.unwrap();
        }
        // Until the client goes.
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await
}

#[tokio::test]
async fn what_was_expected_is_heard_step_by_step() {
    let mail = says(&["220 mail\r\n", "250-hello\r\n250 fine\r\n", "221 bye\r\n"]).await;
    let steps = vec![step("", "220 "), step("EHLO x\r\n", "250 "), step("QUIT\r\n", "221")];
    assert_eq!(words(&probe_by(mail, talk(steps), None).await), "good: answered \"221\"");
    let pattern = Expect::Pattern(regex::bytes::Regex::new(r"(?i)^\+pong\r").unwrap());
    let cache = says(&["", "+PONG\r\n"]).await;
    let asks = talk(vec![Step { send: b"PING\r\n".to_vec(), expect: Some(pattern) }]);
    assert_eq!(words(&probe_by(cache, asks, None).await), "good: answered \"+PONG\"");
}

#[tokio::test]
async fn another_answer_an_end_silence_and_a_flood_are_told_apart() {
    let asks = || talk(vec![step("PING\r\n", "+PONG")]);
    let other = says(&["", "-ERR no such thing\r\n"]).await;
    let told = words(&probe_by(other, asks(), None).await);
    assert_eq!(told, "answered \"-ERR no such thing\" and not \"+PONG\" in time");
    let ends = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.write_all(b"-NO\r\n").await;
    })
    .await;
    let told = words(&probe_by(ends, asks(), None).await);
    assert_eq!(told, "answered \"-NO\" and not \"+PONG\", and closed the connection");
    let closes = server(|stream| async move { drop(stream) }).await;
    assert_eq!(probe_by(closes, asks(), None).await, Err(ProbeFailure::Reset));
    // Accepted by the kernel alone, as when a process is stopped.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = probe_by(listener.local_addr().unwrap(), asks(), None).await;
    assert_eq!(silent, Err(ProbeFailure::AnswerTimeout));
    let flood =
        server(|mut stream| async move { while stream.write_all(&[b'a'; 4096]).await.is_ok() {} }).await;
    assert_eq!(words(&probe_by(flood, asks(), None).await), "said more than 64 KiB");
}

#[tokio::test]
async fn a_handshake_is_enough_when_nothing_is_said_and_a_server_without_tls_fails_it() {
    let root = Root::new();
    let over_tls = || ProbeSpec::Tcp(TcpProbe { tls: true, ..TcpProbe::default() });
    let acceptor = root.acceptor();
    let secure = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(stream).await.unwrap().read(&mut [0; 16]).await;
        }
    })
    .await;
    assert_eq!(probe_by(secure, over_tls(), Some(&root)).await, Ok(ProbeAnswer::default()));
    let another = Root::new();
    let told = probe_by(secure, over_tls(), Some(&another)).await;
    assert!(matches!(told, Err(ProbeFailure::Certificate(_))), "{told:?}");
    let plain = says(&["220 mail\r\n"]).await;
    let told = probe_by(plain, over_tls(), Some(&root)).await;
    assert!(matches!(told, Err(ProbeFailure::Tls(_))), "{told:?}");
    let told = probe_by(plain, over_tls(), None).await;
    assert!(matches!(told, Err(ProbeFailure::NotProbed(_))), "{told:?}");
}

/// A server that speaks these lines up to TLS, and then answers a line with `250 hidden`.
async fn starts_tls(root: &Root, texts: &'static [&'static str]) -> SocketAddr {
    let acceptor = root.acceptor();
    server(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            for (at, text) in texts.iter().enumerate() {
                if at > 0 {
                    while stream.read_u8().await.is_ok_and(|byte| byte != b'\n') {}
                }
                stream.write_all(text.as_bytes()).await.unwrap();
            }
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.write_all(b"250 hidden\r\n").await;
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await
}

#[tokio::test]
async fn tls_begins_by_the_command_of_each_protocol() {
    let root = Root::new();
    let spec = |starttls| {
        let steps = vec![step("EHLO x\r\n", "250")];
        ProbeSpec::Tcp(TcpProbe { starttls: Some(starttls), steps, tls: false })
    };
    for (protocol, texts) in [
        (StartTls::Smtp, &["220-a\r\n220 mail\r\n", "250-a\r\n250 STARTTLS\r\n", "220 go\r\n"][..]),
        (StartTls::Ftp, &["220 files\r\n", "234 go\r\n"]),
        (StartTls::Pop3, &["+OK post\r\n", "+OK go\r\n"]),
        (StartTls::Imap, &["* OK mail\r\n", "a OK go\r\n"]),
    ] {
        let address = starts_tls(&root, texts).await;
        let told = probe_by(address, spec(protocol), Some(&root)).await;
        assert_eq!(words(&told), "good: answered \"250\"", "{protocol:?}");
    }
    let refuses = starts_tls(&root, &["220 mail\r\n", "250 hello\r\n", "502 no such command\r\n"]).await;
    let told = words(&probe_by(refuses, spec(StartTls::Smtp), Some(&root)).await);
    assert_eq!(told, "answered \"502 no such command\" and not \"220\" on the way to TLS");
    // What comes in the clear behind the command would pass for said over TLS.
    let injects = starts_tls(&root, &["+OK\r\n", "+OK go\r\n+OK all is well\r\n"]).await;
    let told = words(&probe_by(injects, spec(StartTls::Pop3), Some(&root)).await);
    assert_eq!(told, "said \"+OK all is well\" where TLS begins");
}
