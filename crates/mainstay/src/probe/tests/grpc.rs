//! The gRPC probe: what a health service may answer, and servers that have none.

use hyper::{HeaderMap, Response};

use super::*;
use crate::config::probe::GrpcProbe;

/// What a server answers: its status, its type, its message, and gRPC's status behind it.
type Answer = (u16, &'static str, &'static [u8], Option<&'static str>);

/// A server of HTTP/2 that answers this, and the messages that it was sent.
async fn health(answer: Answer) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let address = server(move |stream| {
        let seen = seen.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                assert_eq!(request.headers()["te"], "trailers");
                let (status, kind, message, code) = answer;
                let head = Response::builder().status(status).header("content-type", kind).body(()).unwrap();
                let mut stream = respond.send_response(head, false).unwrap();
                stream.send_data(message.into(), code.is_none()).unwrap();
                if let Some(code) = code {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", code.parse().unwrap());
                    stream.send_trailers(trailers).unwrap();
                }
                let seen = seen.clone();
                tokio::spawn(async move {
                    let question = request.into_body().data().await.unwrap().unwrap();
                    seen.lock().unwrap().push(question.to_vec());
                });
            }
        }
    })
    .await;
    (address, asked)
}

async fn told(answer: Answer, service: &str) -> String {
    let (address, _) = health(answer).await;
    let probe = GrpcProbe { service: service.to_owned(), host: None };
    words(&probe_by(address, ProbeSpec::Grpc(probe), None).await)
}

#[tokio::test]
async fn what_a_health_service_says_is_told_in_words() {
    const GRPC: &str = "application/grpc+proto";
    for (answer, service, wanted) in [
        ((200, GRPC, &b"\0\0\0\0\x02\x08\x01"[..], Some("0")), "", "good: SERVING"),
        ((200, GRPC, b"\0\0\0\0\x02\x08\x02", Some("0")), "", "says that it is NOT_SERVING"),
        ((200, GRPC, b"\0\0\0\0\x02\x08\x02", Some("0")), "a.B", "says that its service a.B is NOT_SERVING"),
        (
            (200, GRPC, b"\0\0\0\0\x02\x08\x03", Some("0")),
            "a.B",
            "does not know its service a.B (SERVICE_UNKNOWN)",
        ),
        ((200, GRPC, b"\0\0\0\0\0", Some("0")), "", "does not say how it is"),
        ((200, GRPC, b"", Some("5")), "a.B", "does not know its service a.B"),
        (
            (200, GRPC, b"", Some("12")),
            "",
            "has no health service (grpc.health.v1.Health); add it, or probe with tcp",
        ),
        ((200, GRPC, b"", Some("16")), "", "does not let the probe ask for its health"),
        ((200, GRPC, b"", Some("13")), "", "answered with gRPC's status 13"),
        ((200, GRPC, b"\0\0\0\0\x02\x08\x01", None), "", "closed the connection before its answer was whole"),
        (
            (200, GRPC, b"\0\0\0\0\x09\x08\x01", Some("0")),
            "",
            "did not answer as a health service does: \"\\0\\0\\0\\0\\t\\u{8}\\u{1}\"",
        ),
        ((200, GRPC, &[0; 5000], Some("0")), "", "answered with more than a health check has to say"),
        ((200, "text/html", b"hello", None), "", "did not answer in gRPC"),
        ((404, "text/html", b"", None), "", "answered status 404"),
    ] {
        assert_eq!(told(answer, service).await, wanted, "{answer:?}");
    }
}

#[tokio::test]
async fn the_service_that_is_asked_about_is_named_in_the_question() {
    for (service, question) in [("", &b"\0\0\0\0\0"[..]), ("a.B", b"\0\0\0\0\x05\x0a\x03a.B")] {
        let (address, asked) = health((200, "application/grpc", b"\0\0\0\0\x02\x08\x01", Some("0"))).await;
        let probe = GrpcProbe { service: service.to_owned(), host: Some("shop.internal".to_owned()) };
        assert_eq!(words(&probe_by(address, ProbeSpec::Grpc(probe), None).await), "good: SERVING");
        let begun = std::time::Instant::now();
        while asked.lock().unwrap().is_empty() {
            assert!(begun.elapsed() < LONG, "nobody asked");
            tokio::task::yield_now().await;
        }
        assert_eq!(*asked.lock().unwrap(), [question]);
    }
}

#[tokio::test]
async fn a_server_that_hangs_or_does_not_speak_http_2_is_told() {
    let grpc = || ProbeSpec::Grpc(GrpcProbe::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = probe_by(listener.local_addr().unwrap(), grpc(), None).await;
    assert_eq!(silent, Err(ProbeFailure::AnswerTimeout));
    // It reads to the end, so that its answer is not lost in a reset.
    let http1 = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        while stream.read(&mut [0; 512]).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    assert!(matches!(probe_by(http1, grpc(), None).await, Err(ProbeFailure::Malformed(_))));
}
