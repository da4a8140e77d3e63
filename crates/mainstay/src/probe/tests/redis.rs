//! The Redis probe: what a Redis may answer, and a real one.

use super::peers::Redis;
use super::*;
use crate::config::Secret;
use crate::config::probe::{DataRole, RedisProbe};

/// A server that waits for the last command and says this.
async fn replies(text: &'static str) -> SocketAddr {
    server(move |mut stream| async move {
        let mut heard = Vec::new();
        while !heard.ends_with(b"ROLE\r\n") {
            heard.push(stream.read_u8().await.unwrap());
        }
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await
}

async fn told(text: &'static str, probe: RedisProbe) -> String {
    words(&probe_by(replies(text).await, ProbeSpec::Redis(probe), None).await)
}

fn wants(role: DataRole) -> RedisProbe {
    RedisProbe { role: Some(role), ..RedisProbe::default() }
}

const PRIMARY: &str =
    "+PONG\r\n*3\r\n$6\r\nmaster\r\n:7\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6380\r\n$1\r\n7\r\n";
const REPLICA: &str = "+PONG\r\n*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:7\r\n";
const LOST: &str = "+PONG\r\n*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n$7\r\nconnect\r\n:-1\r\n";

#[tokio::test]
async fn the_role_is_told_and_judged_when_one_is_wanted() {
    for (text, probe, wanted) in [
        (PRIMARY, RedisProbe::default(), "good: PONG from a primary"),
        (PRIMARY, wants(DataRole::Primary), "good: PONG from a primary"),
        (PRIMARY, wants(DataRole::Replica), "is a primary and should be a replica"),
        (REPLICA, RedisProbe::default(), "good: PONG from a replica"),
        (REPLICA, wants(DataRole::Primary), "is a replica of 10.0.0.1:6379, which takes no writes"),
        (LOST, wants(DataRole::Replica), "good: PONG from a replica that has lost its primary"),
        (
            LOST,
            RedisProbe { linked: true, ..RedisProbe::default() },
            "is a replica that has lost its primary 10.0.0.1:6379 (connect)",
        ),
        ("+PONG\r\n-ERR unknown command 'ROLE'\r\n", RedisProbe::default(), "good: PONG"),
        (
            "+PONG\r\n-NOPERM no permissions\r\n",
            wants(DataRole::Primary),
            "does not say which role it has: NOPERM no permissions",
        ),
    ] {
        assert_eq!(told(text, probe).await, wanted, "{text}");
    }
}

#[tokio::test]
async fn what_redis_complains_of_is_said_in_words_that_help() {
    for (text, wanted) in [
        ("-LOADING Redis is loading the dataset in memory\r\n", "is loading its data"),
        ("-NOAUTH Authentication required.\r\n", "wants a password: write health.redis.password"),
        ("-BUSY Redis is busy running a script.\r\n", "is busy with a script"),
        ("-MISCONF Redis is configured to save RDB snapshots\r\n", "cannot write its data to disk"),
        ("-ERR max number of clients reached\r\n", "has no room for another client"),
        ("-DENIED Redis is running in protected mode because\r\n", "protected-mode"),
        ("HTTP/1.1 400 Bad Request\r\n", "did not answer as a Redis does"),
        ("$-1\r\n", "did not answer as a Redis does"),
        ("$99999999\r\nx", "did not answer in time"),
        ("*x\r\n", "did not answer as a Redis does"),
        ("+PONG\r\n*4\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "lists without an end"),
        ("+PONG\r\n*99999999\r\n", "lists without an end"),
        ("\r\n", "did not answer as a Redis does"),
    ] {
        let told = told(text, RedisProbe::default()).await;
        assert!(told.contains(wanted), "{text:?}: {told}");
    }
}

#[tokio::test]
async fn a_real_redis_is_probed_with_and_without_a_password() {
    let open = Redis::start(&[]).await;
    let ask = async |address, probe| words(&probe_by(address, ProbeSpec::Redis(probe), None).await);
    assert_eq!(ask(open.address, RedisProbe::default()).await, "good: PONG from a primary");
    let password = |text: &str| Some(Secret::new(text.to_owned()));
    let with = |text| RedisProbe { password: password(text), ..RedisProbe::default() };
    let told = ask(open.address, with("secret")).await;
    assert_eq!(told, "has no password, and was given one: remove health.redis.password");

    let port = open.address.port().to_string();
    let closed = Redis::start(&["--requirepass", "secret", "--replicaof", "127.0.0.1", &port]).await;
    assert!(ask(closed.address, RedisProbe::default()).await.starts_with("wants a password"));
    assert!(ask(closed.address, with("other")).await.starts_with("does not know this user and password"));
    let login = RedisProbe { user: Some("default".to_owned()), ..with("secret") };
    assert!(ask(closed.address, login).await.starts_with("good: PONG from a replica"));
    let primary = RedisProbe { role: Some(DataRole::Primary), ..with("secret") };
    let told = ask(closed.address, primary.clone()).await;
    assert_eq!(told, format!("is a replica of 127.0.0.1:{port}, which takes no writes"));

    closed.signal(libc::SIGSTOP);
    assert_eq!(
        probe_by(closed.address, ProbeSpec::Redis(primary), None).await,
        Err(ProbeFailure::AnswerTimeout),
        "its kernel accepts, and it does not answer"
    );
    closed.signal(libc::SIGCONT);
}

#[tokio::test]
async fn redis_over_tls_is_asked_over_tls() {
    let root = Root::new();
    let acceptor = root.acceptor();
    let address = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 256]).await;
            let _ = stream.write_all(PRIMARY.as_bytes()).await;
            let _ = stream.read(&mut [0; 256]).await;
        }
    })
    .await;
    let probe = RedisProbe { tls: true, ..RedisProbe::default() };
    let told = probe_by(address, ProbeSpec::Redis(probe), Some(&root)).await;
    assert_eq!(words(&told), "good: PONG from a primary");
}
