//! Connections of clients that mean harm, or are merely slow.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Stage, fake};
use crate::web::listener::{Limits, accept};
use crate::web::router;

/// Far above what anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const GET: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

async fn serve(stage: &Stage, limits: Limits) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = accept(listener, router::router(stage.app.clone()), limits, stage.stop.subscribe());
    (address, tokio::spawn(accepting))
}

/// Sends bytes and reads until the other side closes, for whatever reason.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let talk = async {
        // Either may fail: the other side is free to hang up on garbage.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(DEADLINE, talk).await.expect("the connection is closed in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hostile_strings_leave_it_serving() {
    let stage = Stage::open();
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let (address, _serving) = serve(&stage, limits).await;
    let mut dice = fastrand::Rng::with_seed(7);
    let starts: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
        b"GET /events?page=/ HTTP/1.1\r\nHost: ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01",
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..1000 {
        let mut bytes = starts[round % starts.len()].to_vec();
        bytes.extend((0..dice.usize(0..300)).map(|_| dice.u8(..)));
        tasks.spawn(async move { exchange(address, &bytes).await });
        if tasks.len() >= 50 {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(exchange(address, GET).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_end_and_an_idle_connection_are_closed() {
    let stage = Stage::open();
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let (address, _serving) = serve(&stage, limits).await;
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nHost: loc", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    {
        exchange(address, bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_of_its_stream_loses_its_place() {
    let stage = Stage::open();
    let limits = Limits { write_stall: Duration::from_millis(200), ..Limits::default() };
    let (address, _serving) = serve(&stage, limits).await;
    let places = stage.app.streams.available_permits();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /events?page=%2F HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let lost = async {
        // Changes until its buffers are full, and then until its deadline has passed.
        let mut snapshot = fake::snapshot();
        while stage.app.streams.available_permits() >= places {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for round in 0.. {
            if stage.app.streams.available_permits() == places {
                break;
            }
            // Each round is another text: the stream skips rounds while it renders, and says nothing of one it has shown.
            snapshot.own_trouble[0].1 = format!("{round} {}", "x".repeat(4_000_000));
            let _ = stage.snapshots.send(std::sync::Arc::new(snapshot.clone()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, lost).await.expect("its place is given back");
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_the_limit_wait_for_one_to_end() {
    let stage = Stage::open();
    let (address, _serving) = serve(&stage, Limits { connections: 2, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 8];
        stream.read_exact(&mut first).await.unwrap();
        held.push(stream);
    }
    let waiting = tokio::spawn(exchange(address, GET));
    drop(held);
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_though_a_stream_and_an_idle_connection_are_open() {
    let stage = Stage::open();
    let (address, serving) = serve(&stage, Limits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /events?page=%2F HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 8];
    stream.read_exact(&mut first).await.unwrap();
    let _idle = TcpStream::connect(address).await.unwrap();
    stage.stop.send(true).unwrap();
    tokio::time::timeout(DEADLINE, serving).await.expect("it stops").unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any longer");
}
