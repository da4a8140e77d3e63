//! The WebSocket probe, against Debian's python3-websockets and against servers that do not keep to the standard.

use base64::Engine as _;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::peers::Python;
use super::*;
use crate::config::probe::{Expect, WebSocketProbe};

fn spec(path: &str) -> WebSocketProbe {
    WebSocketProbe {
        path: path.to_owned(),
        host: None,
        protocol: None,
        origin: None,
        send: None,
        expect: None,
        tls: false,
    }
}

fn asks(send: &str, expect: &str) -> WebSocketProbe {
    WebSocketProbe {
        send: Some(send.to_owned()),
        expect: Some(Expect::Text(expect.to_owned())),
        ..spec("/echo")
    }
}

const PEER: &str = r#"
import asyncio, http, sys, ssl
import websockets
folder = sys.argv[1]
async def talk(socket, *path):
    async for message in socket:
        await socket.send("you said " + message)
        await socket.send(["in ", "pieces"])
async def refuse(path, headers):
    if path != "/echo":
        return http.HTTPStatus.NOT_FOUND, [], b"no\n"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
async def main():
    tls = context if sys.argv[2] == "tls" else None
    async with websockets.serve(talk, "127.0.0.1", 0, ssl=tls, process_request=refuse, subprotocols=["chat.v2"]) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"#;

#[tokio::test]
async fn a_real_websocket_is_opened_pinged_and_talked_with() {
    let root = Root::new();
    let peer = Python::start_with(PEER, &root, &["clear"]);
    let told = async |probe| words(&probe_by(peer.address, ProbeSpec::WebSocket(probe), None).await);
    assert_eq!(told(spec("/echo")).await, "good: answered a ping");
    assert_eq!(told(spec("/other")).await, "answered status 404 and opened no WebSocket");
    assert_eq!(told(asks("hello", "you said hello")).await, "good: answered \"you said hello\" and a ping");
    assert_eq!(told(asks("hello", "in pieces")).await, "good: answered \"in pieces\" and a ping");
    let long = "x".repeat(70_000);
    assert_eq!(told(asks(&long, "y")).await, "sent a message of more than 60 KiB");
    assert_eq!(
        told(asks("hello", "nothing of it")).await,
        "accepted the connection but did not answer in time"
    );
    let agreed = WebSocketProbe { protocol: Some("chat.v2".to_owned()), ..spec("/echo") };
    assert_eq!(told(agreed).await, "good: answered a ping");
    let unknown = WebSocketProbe { protocol: Some("other".to_owned()), ..spec("/echo") };
    assert_eq!(told(unknown).await, "opened a WebSocket without the protocol other");

    let secure = Python::start_with(PEER, &root, &["tls"]);
    let over_tls = ProbeSpec::WebSocket(WebSocketProbe { tls: true, ..spec("/echo") });
    assert_eq!(words(&probe_by(secure.address, over_tls, Some(&root)).await), "good: answered a ping");
}

/// A server that opens a WebSocket as it should, and then sends these bytes.
async fn opens(bytes: Vec<u8>) -> SocketAddr {
    server(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let head = read_head(&mut stream).await;
            let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
            let mixed = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
            let accept = base64::engine::general_purpose::STANDARD
                .encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, mixed.as_bytes()));
            let head = format!(
                "HTTP/1.1 101 Switching\r\nupgrade: WebSocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
            );
            let _ = stream.write_all(&[head.as_bytes(), &bytes].concat()).await;
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_breaks_the_rules_is_told_and_never_waited_for_without_end() {
    for (bytes, wanted) in [
        (vec![0x88, 5, 0x03, 0xf3, b'b', b'y', b'e'], "closed the WebSocket: 1011 \"bye\""),
        (vec![0x88, 0], "closed the WebSocket: 1005 \"\""),
        (vec![0x83, 0], "sent a frame that is none of a WebSocket (kind 3)"),
        (vec![0x81, 0x80, 0, 0, 0, 0], "sent a frame that is none of a WebSocket (kind 1)"),
        (vec![0x09, 0], "sent a frame that is none of a WebSocket (kind 9)"),
        (vec![0x80, 0], "sent a frame that is none of a WebSocket (kind 0)"),
        (vec![0xc1, 0], "sent a frame that is none of a WebSocket (kind 1)"),
        ([&[0x81, 127][..], &[0xff; 8]].concat(), "sent a message of more than 60 KiB"),
        ([0x81, 0].repeat(2000), "sent frame after frame, and not what was waited for"),
        (vec![0x8a, 1, b'x', 0x81, 126, 0], "accepted the connection but did not answer in time"),
    ] {
        let told = words(&probe_by(opens(bytes.clone()).await, ProbeSpec::WebSocket(spec("/")), None).await);
        assert_eq!(told, wanted, "{:?}", &bytes[..bytes.len().min(8)]);
    }
    for (head, wanted) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "answered status 200 and opened no WebSocket"),
        ("HTTP/1.1 101 Fine\r\n\r\n", "answered status 101 without an upgrade to a WebSocket"),
        (
            "HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: c29tZXRoaW5n\r\n\r\n",
            "opened another WebSocket than the one that was asked for (Sec-WebSocket-Accept)",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "did not answer in HTTP: \"SSH-2.0-OpenSSH_9.2\""),
        ("HTTP/1.1 1\r\n", "did not answer in HTTP: \"HTTP/1.1 1\""),
    ] {
        let told =
            words(&probe_by(answers(head.as_bytes()).await, ProbeSpec::WebSocket(spec("/")), None).await);
        assert_eq!(told, wanted, "{head}");
    }
}
