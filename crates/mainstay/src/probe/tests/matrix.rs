//! Every kind of probe that goes to a server, against one that refuses, hangs, closes at once, and resets within its first words: what is
//! told is the same whatever is spoken.

use mainstay_model::policy::Protocol;

use super::*;
use crate::config::probe::{
    CertificateProbe, DnsProbe, Expect, GrpcProbe, HttpProbe, MysqlProbe, PostgresProbe, RedisProbe,
    SmtpProbe, Step, TcpProbe, WebSocketProbe,
};

/// How each kind is asked, and how a good answer to it begins.
fn kinds() -> Vec<(&'static str, ProbeSpec, &'static [u8])> {
    let hears = vec![Step { send: Vec::new(), expect: Some(Expect::Text("hello\n".to_owned())) }];
    let mail = SmtpProbe {
        hello: "probe.example".to_owned(),
        tls: false,
        starttls: false,
        require: Vec::new(),
        from: None,
        to: None,
    };
    let socket = WebSocketProbe {
        path: "/".to_owned(),
        host: None,
        protocol: None,
        origin: None,
        send: None,
        expect: None,
        tls: false,
    };
    vec![
        ("http", ProbeSpec::Http(HttpProbe::default()), b"HTTP/1.1 200 OK\r\ncontent-le"),
        ("grpc", ProbeSpec::Grpc(GrpcProbe::default()), b"\0\0\0\x04\0"),
        ("tcp", ProbeSpec::Tcp(TcpProbe { steps: hears, ..TcpProbe::default() }), b"hel"),
        ("redis", ProbeSpec::Redis(RedisProbe::default()), b"+PO"),
        ("postgres", ProbeSpec::Postgres(PostgresProbe::default()), b"R\0\0"),
        ("mysql", ProbeSpec::Mysql(MysqlProbe::default()), b"J\0\0"),
        ("smtp", ProbeSpec::Smtp(mail), b"220 ma"),
        ("websocket", ProbeSpec::WebSocket(socket), b"HTTP/1.1 101 Swi"),
        (
            "certificate",
            ProbeSpec::Certificate(CertificateProbe { starttls: None, min: None, warn: None }),
            b"\x16\x03\x03",
        ),
    ]
}

async fn asked(address: SocketAddr, spec: ProbeSpec, root: &Root) -> ProbeFailure {
    let service = ServiceId::new("shop");
    let settings = Settings {
        tls: Arc::new([(service.clone(), root.trusted())].into()),
        probes: [(service, Arc::new(spec.clone()))].into(),
        ..Settings::default()
    };
    let protocol = if matches!(spec, ProbeSpec::Grpc(_)) { Protocol::Http2 } else { Protocol::Http1 };
    let order = ProbeOrder { protocol, ..order(address, spec.kind(), SHORT * 3) };
    look(order, &settings).await.result.expect_err("it is not good")
}

#[tokio::test]
async fn every_kind_tells_a_refusal_a_hang_a_close_and_a_reset_alike() {
    let (root, mut wrong) = (Root::new(), Vec::new());
    for (name, spec, first) in kinds() {
        let refuses = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let hangs = server(|stream| async move {
            tokio::time::sleep(LONG).await;
            drop(stream);
        })
        .await;
        // What was asked is read, so that the end of the connection is a close and no reset.
        let closes = server(|mut stream| async move {
            let _ = stream.shutdown().await;
            while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let resets = server(move |mut stream| async move {
            let _ = stream.write_all(first).await;
            tokio::time::sleep(SHORT / 4).await;
            stream.set_zero_linger().unwrap();
        })
        .await;
        // Of a text that was waited for, what came of it is told.
        let broken = match name {
            "tcp" => {
                let what = "answered \"hel\" and not \"hello\", and closed the connection";
                ProbeFailure::Answer(what.to_owned())
            }
            _ => ProbeFailure::Reset,
        };
        for (what, address, wanted) in [
            ("refuses", refuses, ProbeFailure::Refused),
            ("hangs", hangs, ProbeFailure::AnswerTimeout),
            ("closes", closes, ProbeFailure::Reset),
            ("resets", resets, broken),
        ] {
            let told = asked(address, spec.clone(), &root).await;
            if told != wanted {
                wrong.push(format!("{name} {what}: {told:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn dns_tells_a_refusal_from_silence() {
    let root = Root::new();
    let spec = || {
        ProbeSpec::Dns(DnsProbe {
            name: "www.example.com.".parse().unwrap(),
            kind: hickory_proto::rr::RecordType::A,
            resolver: None,
            all: Vec::new(),
            any: Vec::new(),
            only: false,
            authoritative: false,
        })
    };
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let silent = "did not answer a question for www.example.com A in time".to_owned();
    assert_eq!(asked(at, spec(), &root).await, ProbeFailure::Silent(silent));
    drop(socket);
    assert_eq!(asked(at, spec(), &root).await, ProbeFailure::Refused);
}

/// The Docker Engine is on this machine: that it cannot be asked says nothing of the container.
#[tokio::test]
async fn a_docker_engine_that_cannot_be_asked_says_nothing_of_the_container() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::new();
    let at: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (name, hangs) in [("gone", None), ("hangs", Some(true)), ("closes", Some(false))] {
        let path = folder.path().join(name);
        if let Some(hangs) = hangs {
            let listener = UnixListener::bind(&path).unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    if hangs {
                        tokio::time::sleep(LONG).await;
                    }
                    drop(stream);
                }
            });
        }
        let socket: Arc<str> = path.to_str().unwrap().into();
        let spec =
            ProbeSpec::Docker(crate::config::probe::DockerProbe { container: "app".to_owned(), socket });
        let failure = asked(at, spec, &root).await;
        assert!(
            matches!(&failure, ProbeFailure::NotProbed(why) if why.contains("does not answer")),
            "{name}: {failure}"
        );
    }
}
