//! The PostgreSQL probe: what a server may answer, and a real one with its replica.

use mainstay_model::lead;

use super::peers::Postgres;
use super::*;
use crate::config::Secret;
use crate::config::probe::{DataRole, PostgresProbe, SqlLogin};

/// A server that reads the first message and says this.
async fn replies(bytes: &'static [u8]) -> SocketAddr {
    server(move |mut stream| async move {
        let length = stream.read_u32().await.unwrap();
        let _ = stream.read_exact(&mut vec![0; length as usize - 4]).await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await
}

fn login(user: &str, password: Option<&str>) -> SqlLogin {
    SqlLogin {
        user: user.to_owned(),
        database: "postgres".to_owned(),
        password: password.map(|text| Secret::new(text.to_owned())),
        ..SqlLogin::default()
    }
}

async fn ask(address: SocketAddr, login: SqlLogin) -> String {
    let probe = PostgresProbe { login: Some(login), ..PostgresProbe::default() };
    words(&probe_by(address, ProbeSpec::Postgres(probe), None).await)
}

async fn knock(address: SocketAddr) -> Looked {
    probe_by(address, ProbeSpec::Postgres(PostgresProbe::default()), None).await
}

#[tokio::test]
async fn without_a_user_it_is_enough_that_logins_are_taken() {
    for (bytes, wanted) in [
        (&b"R\0\0\0\x08\0\0\0\x03"[..], "good: takes logins"),
        (b"E\0\0\0\x1eSFATAL\0C28000\0Mwho is it\0\0", "good: takes logins"),
        (b"E\0\0\0\x1eSFATAL\0C57P03\0Mstarts up\0\0", "takes no logins: starts up"),
        (b"E\0\0\0\x1eSFATAL\0C53300\0Mtoo many!\0\0", "has no connection left: too many!"),
        (b"E\0\0\0\x1eSFATAL\0CXX000\0Msomething\0\0", "answered with an error: something (XX000)"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "did not answer as a PostgreSQL does: \"HTTP/\""),
        (b"E\0\0\0\x02", "did not answer as a PostgreSQL does: \"E\\0\\0\\0\\u{2}\""),
        (b"Q\0\0\0\x04", "did not answer as a PostgreSQL does: \"Q\""),
    ] {
        let told = words(&knock(replies(bytes).await).await);
        assert_eq!(told, wanted, "{:?}", String::from_utf8_lossy(bytes));
    }
    let closes = server(|stream| async move { drop(stream) }).await;
    assert_eq!(knock(closes).await, Err(ProbeFailure::Reset));
}

#[tokio::test]
async fn a_login_that_cannot_be_made_says_what_to_do() {
    let secret = Some("secret");
    for (bytes, password, wanted) in [
        (&b"R\0\0\0\x08\0\0\0\x03"[..], None, "wants a password: write health.postgres.password"),
        (b"R\0\0\0\x08\0\0\0\x07", secret, "wants a login of kind 7, which a probe does not know"),
        (b"R\0\0\0\x06\0\0", secret, "did not answer as a PostgreSQL does"),
        (b"R\0\0\0\x0c\0\0\0\x0cv=ab", secret, "another server may be there"),
        (b"R\0\0\0\x0c\0\0\0\x0br=ab", secret, "did not answer as a PostgreSQL does"),
        (b"R\0\0\0\x0c\0\0\0\x0aXYZ\0", secret, "wants a login of kind 10"),
        (b"E\0\0\0\x1eSFATAL\0C28P01\0Mwho is it\0\0", secret, "check health.postgres and pg_hba.conf"),
        (b"E\0\0\0\x1eSFATAL\0C3D000\0Mno such x\0\0", secret, "no such x: check health.postgres.database"),
    ] {
        let told = ask(replies(bytes).await, login("probe", password)).await;
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
}

#[tokio::test]
async fn a_real_postgresql_lets_the_probe_in_by_each_kind_of_password() {
    let hba = "host all old 127.0.0.1/32 md5\nhost all plain 127.0.0.1/32 password\n\
               host all postgres 127.0.0.1/32 trust\nhost all nobody 127.0.0.1/32 reject\n\
               host all all 127.0.0.1/32 scram-sha-256";
    let postgres = Postgres::start(hba, &[]).await;
    for sql in [
        "CREATE USER new PASSWORD 'secret'",
        "CREATE USER plain PASSWORD 'secret'",
        "SET password_encryption = 'md5'; CREATE USER old PASSWORD 'secret'",
        "CREATE TABLE orders (what text); INSERT INTO orders VALUES ('tea'); GRANT SELECT ON orders TO PUBLIC",
    ] {
        assert!(postgres.does(sql), "{sql}");
    }
    let at = postgres.address;
    assert_eq!(words(&knock(at).await), "good: takes logins");
    for user in ["old", "plain", "new"] {
        assert_eq!(ask(at, login(user, Some("secret"))).await, "good: answered as a primary", "{user}");
        let told = ask(at, login(user, Some("other"))).await;
        assert!(told.starts_with("does not let the probe's user in"), "{user}: {told}");
    }
    assert_eq!(ask(at, login("postgres", None)).await, "good: answered as a primary");
    assert!(ask(at, login("new", None)).await.starts_with("wants a password"));
    assert!(ask(at, login("nobody", None)).await.starts_with("does not let the probe's user in"));
    let elsewhere = SqlLogin { database: "nowhere".to_owned(), ..login("postgres", None) };
    assert!(ask(at, elsewhere).await.ends_with("check health.postgres.database"));

    let asks = |query: &str, expect: Option<&str>| SqlLogin {
        query: Some(query.to_owned()),
        expect: expect.map(str::to_owned),
        ..login("new", Some("secret"))
    };
    let first = asks("SELECT what FROM orders", Some("tea"));
    assert_eq!(ask(at, first).await, "good: answered \"tea\" as a primary");
    let other = asks("SELECT what FROM orders", Some("coffee"));
    assert_eq!(ask(at, other).await, "answered \"tea\" to its query and not \"coffee\"");
    let none = asks("SELECT what FROM orders WHERE false", Some("tea"));
    assert_eq!(ask(at, none).await, "answered nothing to its query and not \"tea\"");
    let wrong = ask(at, asks("SELECT * FROM nowhere", None)).await;
    assert!(wrong.contains("\"nowhere\" does not exist (42P01)"), "{wrong}");
    let long = ask(at, asks("SELECT repeat('x', 70000)", None)).await;
    assert_eq!(long, "answered its query with more than 60 KiB");
    let slow = asks("SELECT pg_sleep(60)", None);
    assert!(ask(at, slow).await.contains("in time"));
    let replica = SqlLogin { role: Some(DataRole::Replica), ..login("postgres", None) };
    assert_eq!(ask(at, replica).await, "is a primary and should be a replica");
    assert!(postgres.does(
        "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' \
         AND state = 'active' AND now() - query_start > '30s'); END $$"
    ));

    postgres.signal(libc::SIGSTOP);
    assert_eq!(
        knock(at).await,
        Err(ProbeFailure::AnswerTimeout),
        "its kernel accepts, and it does not answer"
    );
    postgres.signal(libc::SIGCONT);
}

#[tokio::test]
async fn a_replica_is_told_from_its_primary_and_by_how_far_it_is_behind() {
    let primary = Postgres::start("host all all 127.0.0.1/32 trust", &[]).await;
    let replica = primary.replica().await;
    let asks = |role, lag_max: Option<Duration>| SqlLogin { role, lag_max, ..login("postgres", None) };
    let least = Some(Duration::from_millis(1));
    let fresh = ask(replica.address, asks(Some(DataRole::Replica), Some(Duration::from_secs(3600)))).await;
    assert!(fresh.starts_with("good: answered as a replica"), "{fresh}");
    let told = ask(replica.address, asks(Some(DataRole::Primary), None)).await;
    assert_eq!(told, "is a replica, which takes no writes");
    // What comes in is held back, and the last change that was replayed grows old.
    assert!(primary.does("CREATE TABLE orders (what text)"));
    let begun = std::time::Instant::now();
    loop {
        assert!(replica.does("SELECT pg_wal_replay_pause()"));
        assert!(primary.does("INSERT INTO orders VALUES ('tea')"));
        let told = ask(replica.address, asks(None, least)).await;
        if told.starts_with("is a replica that is ") && told.ends_with("behind its primary (lag-max = 1ms)") {
            break;
        }
        assert!(begun.elapsed() < LONG, "{told}");
    }
}

#[tokio::test]
async fn tls_is_asked_for_and_a_server_without_it_is_told() {
    let root = Root::new();
    let spec = || ProbeSpec::Postgres(PostgresProbe { tls: true, ..PostgresProbe::default() });
    let acceptor = root.acceptor();
    let secure = server(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(request, [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
            stream.write_all(b"S").await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 256]).await;
            let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await;
            let _ = stream.read(&mut [0; 256]).await;
        }
    })
    .await;
    assert_eq!(words(&probe_by(secure, spec(), Some(&root)).await), "good: takes logins");
    let without = replies(b"N").await;
    assert_eq!(words(&probe_by(without, spec(), Some(&root)).await), "does not speak TLS (ssl = off)");
}

#[tokio::test]
async fn a_server_that_keeps_state_says_how_far_its_log_goes_and_a_replica_is_promoted_once() {
    let primary = Postgres::start("host all all 127.0.0.1/32 trust", &[]).await;
    let replica = primary.replica().await;
    assert!(primary.does("CREATE ROLE watcher LOGIN"));
    let probe =
        |user: &str| PostgresProbe { login: Some(login(user, None)), state: true, ..Default::default() };
    let state = async |at: SocketAddr, user: &str| {
        let looked = probe_by(at, ProbeSpec::Postgres(probe(user)), None).await;
        looked.expect("it is well").data.expect("it was asked")
    };
    let promote = async |user: &str| {
        let probe = PostgresProbe { promote: Some(Duration::from_secs(60)), ..probe(user) };
        words(&probe_by(replica.address, ProbeSpec::Postgres(probe), None).await)
    };
    let written = state(primary.address, "postgres").await;
    assert_eq!((written.role, written.receives, written.timeline), (lead::DataRole::Primary, false, Some(1)));
    assert!(primary.does("CREATE TABLE orders AS SELECT generate_series(1, 1000)"));
    let later = state(primary.address, "postgres").await.position;
    assert!(later > written.position && written.position.is_some());
    let begun = std::time::Instant::now();
    loop {
        let received = state(replica.address, "postgres").await;
        assert_eq!(received.role, lead::DataRole::Replica);
        if received.receives && received.position >= later {
            assert_eq!(received.timeline, Some(1));
            break;
        }
        assert!(begun.elapsed() < LONG, "{received:?}");
    }
    // Whoever may not see it is told that nothing is received: nobody is promoted for want of knowledge.
    assert!(!state(replica.address, "watcher").await.receives);
    let refused = promote("watcher").await;
    assert_eq!(refused, "answered with an error: permission denied for function pg_promote (42501)");
    assert_eq!(promote("postgres").await, "good: pg_promote made it the primary");
    let promoted = state(replica.address, "postgres").await;
    assert_eq!((promoted.role, promoted.timeline), (lead::DataRole::Primary, Some(2)));
    assert_eq!(promote("postgres").await, "good: it was the primary already");
}
