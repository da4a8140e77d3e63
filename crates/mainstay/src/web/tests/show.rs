//! The pages over a real socket, to be looked at.
//!
//! `MAINSTAY_SHOW=7000 cargo test -p mainstay over_a_real_socket` serves made-up pages on ports 7000 (trouble), 7001 (all is
//! well), 7002 (nothing configured) and 7003 (down, its record unreadable) until it is ended.

use std::time::Duration;

use mainstay_model::Snapshot;
use mainstay_model::routing::RoutingMode;
use mainstay_model::snapshot::{Health, ServiceState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Stage, fake};
use crate::web::listener::{self, Limits};
use crate::web::router;

/// Everything that can be down is.
fn down() -> Snapshot {
    let mut snapshot = fake::snapshot();
    for service in &mut snapshot.services {
        service.state = ServiceState::Down;
        service.mode = RoutingMode::Panic;
        for server in &mut service.servers {
            server.health = Health::Unhealthy;
        }
    }
    snapshot
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_are_served_over_a_real_socket() {
    let show: Option<u16> = std::env::var("MAINSTAY_SHOW").ok().and_then(|port| port.parse().ok());
    let stages = [
        Stage::new(super::drills::drilled(), true, fake::FakePast::default()),
        Stage::new(fake::healthy(), true, fake::FakePast::default()),
        Stage::new(Snapshot::default(), true, fake::FakePast::default()),
        Stage::new(down(), true, fake::FakePast { broken: true }),
    ];
    let mut serving = Vec::new();
    for (offset, stage) in (0..).zip(&stages) {
        fake::pass_ten_minutes(&stage.app);
        let listener = TcpListener::bind(("127.0.0.1", show.map_or(0, |port| port + offset))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = listener::accept(
            listener,
            router::router(stage.app.clone()),
            Limits::default(),
            stage.stop.subscribe(),
        );
        serving.push((address, tokio::spawn(accepting)));
    }
    for (address, _) in &serving {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("</html>"), "{answer}");
    }
    if show.is_some() {
        std::future::pending::<()>().await;
    }
    for (stage, (_, accepting)) in stages.iter().zip(serving) {
        stage.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(20), accepting).await.unwrap().unwrap().unwrap();
    }
}
