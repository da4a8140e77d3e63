//! The probe of MySQL and MariaDB: real MariaDBs, and what they and a MySQL 8 may answer.

use super::peers::Mariadb;
use super::*;
use crate::config::Secret;
use crate::config::probe::{DataRole, MysqlProbe, SqlLogin};

fn login(user: &str, password: Option<&str>) -> SqlLogin {
    let password = password.map(|text| Secret::new(text.to_owned()));
    SqlLogin { user: user.to_owned(), password, ..SqlLogin::default() }
}

async fn told(address: SocketAddr, login: Option<SqlLogin>) -> String {
    words(&probe_by(address, ProbeSpec::Mysql(MysqlProbe { login, tls: false }), None).await)
}

#[tokio::test]
async fn a_real_mariadb_is_probed_with_and_without_a_login_a_query_and_tls() {
    let root = Root::new();
    let mariadb = Mariadb::start(&root, &["--max-connect-errors=1", "--max-connections=10"]).await;
    let at = mariadb.address;
    mariadb.does(
        "CREATE USER probe IDENTIFIED BY 'secret'; CREATE USER open; CREATE DATABASE shop; GRANT SELECT ON shop.* TO probe; \
         CREATE TABLE shop.orders (what TEXT); INSERT INTO shop.orders VALUES ('tea'); \
         CREATE USER hidden IDENTIFIED BY 'secret' REQUIRE SSL;",
    );
    // More often than broken logins are borne.
    for _ in 0..3 {
        assert_eq!(told(at, None).await, "good: takes logins");
    }
    let probe = || login("probe", Some("secret"));
    assert_eq!(told(at, Some(probe())).await, "good: answered as a primary");
    assert_eq!(told(at, Some(login("open", None))).await, "good: answered as a primary");
    let wrong = told(at, Some(login("probe", Some("other")))).await;
    assert!(wrong.starts_with("does not let the probe's user in: Access denied"), "{wrong}");
    let asks = |query: &str, expect: Option<&str>| {
        let (query, expect) = (Some(query.to_owned()), expect.map(str::to_owned));
        Some(SqlLogin { database: "shop".to_owned(), query, expect, ..probe() })
    };
    let select = "SELECT what, 1, NULL FROM orders";
    assert_eq!(told(at, asks(select, Some("tea"))).await, "good: answered \"tea\" as a primary");
    let other = told(at, asks(select, Some("coffee"))).await;
    assert_eq!(other, "answered \"tea\" to its query and not \"coffee\"");
    let none = told(at, asks("SELECT what FROM orders WHERE FALSE", Some("tea"))).await;
    assert_eq!(none, "answered nothing to its query and not \"tea\"");
    let broken = told(at, asks("SELECT * FROM nowhere", None)).await;
    assert!(broken.contains("denied") || broken.contains("nowhere"), "{broken}");
    let writes = told(at, asks("DELETE FROM orders", None)).await;
    assert!(writes.starts_with("answered with an error"), "{writes}");
    let long = told(at, asks("SELECT REPEAT('x', 70000)", None)).await;
    assert!(long.contains("more than 60 KiB"), "{long}");
    let slow = told(at, asks("SELECT SLEEP(60)", None)).await;
    assert!(slow.contains("in time"), "{slow}");
    let nowhere = SqlLogin { database: "nowhere".to_owned(), ..probe() };
    assert!(told(at, Some(nowhere)).await.contains("denied"));

    let over_tls = |login| ProbeSpec::Mysql(MysqlProbe { login, tls: true });
    let hidden = || login("hidden", Some("secret"));
    assert!(told(at, Some(hidden())).await.starts_with("does not let the probe's user in"));
    let good = probe_by(at, over_tls(Some(hidden())), Some(&root)).await;
    assert_eq!(words(&good), "good: answered as a primary");
    let stranger = probe_by(at, over_tls(None), Some(&Root::new())).await;
    assert!(matches!(stranger, Err(ProbeFailure::Certificate(_))), "{stranger:?}");

    mariadb.does("SET GLOBAL read_only = 1");
    assert_eq!(told(at, Some(probe())).await, "good: answered and takes no writes");
    let primary = SqlLogin { role: Some(DataRole::Primary), ..probe() };
    assert_eq!(told(at, Some(primary)).await, "takes no writes (read_only), so it is no primary");
    let replica = |login| SqlLogin { role: Some(DataRole::Replica), ..login };
    let unseen = told(at, Some(replica(probe()))).await;
    assert!(unseen.contains("REPLICATION CLIENT"), "{unseen}");
    let lone = told(at, Some(replica(login("root", None)))).await;
    assert_eq!(lone, "is a primary and should be a replica: it follows nobody");
    // One that waits for a primary whom nobody has started.
    mariadb.does("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'x'");
    let lost = told(at, Some(replica(login("root", None)))).await;
    assert_eq!(lost, "is a replica that does not follow its primary");

    mariadb.signal(libc::SIGSTOP);
    let hangs = probe_by(at, ProbeSpec::Mysql(MysqlProbe::default()), None).await;
    assert_eq!(hangs, Err(ProbeFailure::AnswerTimeout), "its kernel accepts, and it does not answer");
    mariadb.signal(libc::SIGCONT);
}

#[tokio::test]
async fn a_replica_that_follows_is_told_by_how_far_it_is_behind() {
    let root = Root::new();
    let primary = Mariadb::start(&root, &["--log-bin=log", "--server-id=1"]).await;
    let replica = Mariadb::start(&root, &["--server-id=2"]).await;
    let port = primary.address.port();
    replica.does(&format!(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'root', MASTER_DELAY = 3600; START SLAVE"
    ));
    let asks = |lag_max| Some(SqlLogin { role: Some(DataRole::Replica), lag_max, ..login("root", None) });
    let begun = std::time::Instant::now();
    while !told(replica.address, asks(None)).await.starts_with("good: answered as a replica") {
        assert!(begun.elapsed() < LONG, "it does not follow: {}", told(replica.address, asks(None)).await);
    }
    // A change that is held back for an hour grows old.
    primary.does("CREATE DATABASE shop");
    loop {
        let told = told(replica.address, asks(Some(Duration::from_millis(1)))).await;
        if told.starts_with("is a replica that is ") {
            assert!(told.ends_with("behind its primary (lag-max = 1ms)"), "{told}");
            break;
        }
        assert!(begun.elapsed() < LONG, "it is never behind: {told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a MySQL 8 says first, with its usual kind of login.
fn greeting(plugin: &str) -> Vec<u8> {
    let can: u32 = 0x0008_8200;
    let mut body = b"\x0a8.4.3\0\x01\0\0\0abcdefgh\0".to_vec();
    body.extend(u16::try_from(can & 0xffff).unwrap().to_le_bytes());
    body.extend([45, 2, 0]);
    body.extend(u16::try_from(can >> 16).unwrap().to_le_bytes());
    body.push(21);
    body.extend([0; 10]);
    body.extend(b"ijklmnopqrst\0");
    body.extend([plugin.as_bytes(), &[0]].concat());
    body
}

/// A server that sends these packets, each after the first when it has heard one.
async fn says(packets: Vec<Vec<u8>>) -> SocketAddr {
    let packets = Arc::new(packets);
    server(move |mut stream| {
        let packets = packets.clone();
        async move {
            for (at, body) in packets.iter().enumerate() {
                let silent = body.first() == Some(&1) && body.len() == 2 && body[1] == 3;
                let after_silent = at > 0 && packets[at - 1] == [1, 3];
                if at > 0 && !after_silent {
                    let mut head = [0; 4];
                    if stream.read_exact(&mut head).await.is_err() {
                        return;
                    }
                    let _ = stream.read_exact(&mut vec![0; usize::from(head[0])]).await;
                }
                let number = u8::try_from(if silent || after_silent { at + 1 } else { at * 2 }).unwrap();
                let head = [u8::try_from(body.len()).unwrap(), 0, 0, number];
                let _ = stream.write_all(&[&head[..], body].concat()).await;
            }
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_login_of_mysql_8_is_followed_and_its_whole_password_is_not_said_in_the_clear() {
    const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
    let nobody = |packets| async move { told(says(packets).await, None).await };
    let sha2 = || greeting("caching_sha2_password");
    // It knows the password already: two packets, one after the other.
    assert_eq!(nobody(vec![sha2(), vec![1, 3], OK.to_vec()]).await, "good: takes logins");
    let denied = b"\xff\x15\x04#28000Access denied".to_vec();
    assert_eq!(nobody(vec![sha2(), denied.clone()]).await, "good: takes logins");
    let switch = b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0".to_vec();
    assert_eq!(nobody(vec![greeting("sha256_password"), switch, denied]).await, "good: takes logins");
    let user = || Some(login("probe", Some("secret")));
    let whole = told(says(vec![sha2(), vec![1, 4]]).await, user()).await;
    assert!(whole.contains("write health.mysql.tls = true"), "{whole}");
    let odd = told(says(vec![sha2(), b"\xfeclient_ed25519\0abc\0".to_vec()]).await, user()).await;
    assert_eq!(odd, "wants a login of kind client_ed25519, which a probe does not know");
}

#[tokio::test]
async fn what_a_mysql_complains_of_and_what_is_none_are_told_in_words_that_help() {
    for (packet, wanted) in [
        (&b"\xff\x10\x04Too many connections"[..], "has no connection left: Too many connections"),
        (b"\xff\x69\x04Host is blocked", "refuses this machine after too many broken logins"),
        (b"\xff\x6a\x04Host is not allowed to connect", "good: takes logins"),
        (b"\xff\x1d\x04Server shutdown in progress", "takes no logins"),
        (b"\xff", "did not answer as a MySQL does"),
        (b"\x0a8.4\0", "did not answer as a MySQL does"),
        (b"\x09old", "did not answer as a MySQL does"),
    ] {
        let told = told(says(vec![packet.to_vec()]).await, None).await;
        assert!(told.starts_with(wanted), "{packet:?}: {told}");
    }
    let http = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    assert_eq!(told(http, None).await, "did not answer as a MySQL does: \"HTTP\"");
}
