//! Databases that hang: their kernel goes on accepting connections, and only a probe that speaks with them finds it out.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::Mainstay;
use crate::harness::postgres::Postgres;
use crate::harness::program::{ran, redis};
use crate::harness::{PATIENCE, measured, run, until};

/// A TCP service with a primary and a backup that are probed in this way, and nothing else.
async fn start(home: &Home, health: &str, primary: SocketAddr, standby: SocketAddr) -> Mainstay {
    let table = format!(
        "[service.db]\nlisten = \"tcp://127.0.0.1:0\"\nhealth = {{ {health}, interval = \"500ms\" }}\n\
         [service.db.server.primary]\naddress = \"{primary}\"\n\
         [service.db.server.standby]\naddress = \"{standby}\"\nrole = \"backup\"\n"
    );
    let config = Config::new().external("app-1", "127.0.0.1:1").table(&table);
    let mainstay = Mainstay::start(home, &config).await;
    for id in ["db/primary", "db/standby"] {
        mainstay.api().server_until(id, "is healthy", |server| server["health"] == "healthy").await;
    }
    mainstay
}

/// After the primary was stopped: it is found out, and why is told.
async fn found_out(mainstay: &Mainstay, stopped: Instant, what: &str) {
    let hangs = |server: &serde_json::Value| server["health"] == "unhealthy";
    let server = mainstay.api().server_until("db/primary", "is unhealthy", hangs).await;
    measured(&format!("a {what} that hangs: noticed after, ms"), stopped.elapsed().as_millis());
    let rule = server["why"]["rule"].as_str().unwrap_or_default();
    assert!(rule.ends_with("accepted the connection but did not answer in time"), "{server}");
}

#[test]
fn a_redis_that_hangs_behind_a_tcp_service_is_found_out_and_its_backup_takes_over() {
    run(async {
        let home = Home::new();
        let (primary, standby) = (redis(&home).await, redis(&home).await);
        let ask = async |at: SocketAddr, words: &[&str]| {
            let port = at.port().to_string();
            ran("redis-cli", [&["-h", "127.0.0.1", "-p", &port], words].concat()).await.out.trim().to_owned()
        };
        ask(primary.address, &["SET", "who", "primary"]).await;
        ask(standby.address, &["SET", "who", "standby"]).await;
        let mainstay = start(&home, "redis = true", primary.address, standby.address).await;
        let at = mainstay.tcp()[0];
        assert_eq!(ask(at, &["GET", "who"]).await, "primary");
        let mut session = TcpStream::connect(at).await.expect("it listens");
        let stopped = Instant::now();
        primary.signal(libc::SIGSTOP);
        found_out(&mainstay, stopped, "Redis").await;
        let read = tokio::time::timeout(PATIENCE, session.read(&mut [0; 16])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "nobody sits on a database that hangs: {read:?}");
        assert_eq!(ask(at, &["GET", "who"]).await, "standby");
        primary.signal(libc::SIGCONT);
        until("the primary is used again", async || {
            (ask(at, &["GET", "who"]).await == "primary").then_some(())
        })
        .await;
    });
}

#[test]
fn a_postgresql_that_hangs_is_found_out_and_its_replica_answers() {
    run(async {
        let home = Home::new();
        let primary = Postgres::start(&home).await;
        let standby = primary.replica(&home).await;
        let health = "postgres = { user = \"postgres\", query = \"SELECT 1\" }";
        let mainstay = start(&home, health, primary.address(), standby.address()).await;
        let at = mainstay.tcp()[0];
        let is_replica = async || Postgres::ask(at, "SELECT pg_is_in_recovery()").await.good().trim() == "t";
        assert!(!is_replica().await);
        let server = mainstay.api().server("db/standby").await;
        let said = server["last_probe"]["text"].as_str().unwrap_or_default();
        assert!(said.starts_with("answered \"1\" as a replica"), "{server}");
        let stopped = Instant::now();
        primary.signal(libc::SIGSTOP);
        found_out(&mainstay, stopped, "PostgreSQL").await;
        assert!(is_replica().await);
        primary.signal(libc::SIGCONT);
    });
}
