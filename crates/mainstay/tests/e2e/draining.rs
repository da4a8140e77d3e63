//! Servers that are drained while nobody looks: real sessions with PostgreSQL and Redis and a real WebSocket have their time, are
//! ended well, and people and programs see how far it is.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::api::find_server;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left, once};
use crate::harness::postgres::Postgres;
use crate::harness::program::{Script, peer, redis};
use crate::harness::shop::Shop;
use crate::harness::{free_address, run, until};

/// psql in the middle of a transaction that is never committed.
fn in_a_transaction(port: u16) -> Child {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]);
    let piped = psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut psql = piped.spawn().expect("psql runs");
    let input = psql.stdin.as_mut().expect("it is piped");
    writeln!(input, "SET application_name = 'unattended';\nBEGIN;\nINSERT INTO orders VALUES (1);")
        .expect("it reads");
    psql
}

#[test]
fn sessions_and_websockets_of_a_drained_server_are_ended_at_its_deadline_and_in_their_own_language() {
    run(async {
        let home = Home::new();
        let (postgres, cache, shop) =
            tokio::join!(Postgres::start(&home), redis(&home), Shop::start(&home, "app-1"));
        assert!(postgres.query("CREATE TABLE orders (id int)"));
        let chat = free_address();
        let mut server = Script::start(&home, "websocket_echo.py", &[&chat.port().to_string()]);
        server.says("ready").await;
        let of_tcp = |name: &str, address| {
            format!(
                "[service.{name}]\nlisten = \"tcp://127.0.0.1:0\"\ndrain-timeout = \"2s\"\n\
                 [service.{name}.server.one]\naddress = \"{address}\"\n"
            )
        };
        let config = Config::new()
            .external("app-1", shop.address)
            .table(&of_tcp("cache", cache.address))
            .table(&of_tcp("db", postgres.address()))
            .table(&format!(
                "[service.chat]\nhosts = [\"chat.example.com\"]\ndrain-timeout = \"2s\"\nhealth = {{ tcp = true }}\n\
                 [service.chat.server.one]\naddress = \"{chat}\"\n"
            ));
        let mainstay = Mainstay::start(&home, &config).await;
        let (api, admin) = (mainstay.api(), mainstay.admin.to_string());
        for service in ["cache/one", "db/one", "chat/one"] {
            api.server_until(service, "is well", |s| s["health"] == "healthy" && s["in_rotation"] == true)
                .await;
        }
        let (to_cache, to_db) = (mainstay.tcp()[0], mainstay.tcp()[1]);

        let mut session = TcpStream::connect(to_cache).await.expect("it listens");
        session.write_all(b"PING\r\n").await.expect("it is open");
        let mut answer = [0; 7];
        session.read_exact(&mut answer).await.expect("an answer");
        let mut psql = in_a_transaction(to_db.port());
        let unattended = "SELECT 1/count(*) FROM pg_stat_activity WHERE application_name = 'unattended'";
        until("the transaction is under way", async || postgres.query(unattended).then_some(())).await;
        let front = mainstay.front().port().to_string();
        let mut client = Script::start(&home, "websocket_waits.py", &[&front, "chat.example.com"]);
        client.says("hello").await;
        server.says("open").await;
        for id in ["cache/one", "db/one", "chat/one"] {
            api.server_until(id, "one is under way", |s| s["in_flight"] == 1).await;
        }

        let drain = async |id: &'static str| {
            let drained = once(&home, &["drain", id, "--admin", &admin, "--wait"]).await;
            assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
            String::from_utf8_lossy(&drained.stdout).into_owned()
        };
        let shown = async {
            api.server_until("db/one", "says until when", |s| {
                let time = |key: &str| s["drain"][key].as_i64().unwrap_or(0);
                s["admin"] == "draining" && time("until") == time("since") + 2000
            })
            .await;
            let page = http::get(mainstay.admin, "/servers/db/one").await.expect("the page").text();
            assert!(page.contains("Draining: 1 connection still under way; what is left in "), "{page}");
        };
        let (of_cache, of_db, of_chat, ()) =
            tokio::join!(drain("cache/one"), drain("db/one"), drain("chat/one"), shown);
        for (told, what) in [(&of_cache, "1 connection"), (&of_db, "1 connection"), (&of_chat, "1 WebSocket")]
        {
            assert!(
                told.contains(&format!("drains: {what} under way; what is left in 2s is ended\n")),
                "{told}"
            );
            let ended = format!("has nothing under way; its time was over, and {what} ended then\n");
            assert!(told.ends_with(&ended), "{told}");
        }

        assert_eq!(session.read(&mut answer).await.expect("an end, and no reset"), 0);
        client.says("closed 1001").await;
        server.says("closed 1001").await;
        client.ended().await;
        writeln!(psql.stdin.as_mut().expect("it is piped"), "COMMIT;").expect("it reads");
        let ended = tokio::task::spawn_blocking(move || psql.wait_with_output()).await.expect("no panic");
        let said = String::from_utf8_lossy(&ended.expect("psql ends").stderr).into_owned();
        assert!(said.contains("server closed the connection unexpectedly"), "{said}");
        assert!(!postgres.query(unattended), "the database knows that its client is gone");
        assert!(
            postgres.query("DO $$ BEGIN ASSERT (SELECT count(*) FROM orders) = 0; END $$"),
            "it was rolled back"
        );
        let metrics = http::get(mainstay.admin, "/metrics").await.expect("the metrics").text();
        for counted in ["service=\"db\",what=\"connection\"} 1", "service=\"chat\",what=\"websocket\"} 1"] {
            assert!(metrics.contains(&format!("mainstay_service_drained_total{{{counted}")), "{metrics}");
        }
        assert!(api.incidents().await.is_empty(), "a person asked for it");
        drop(shop);
    });
}

#[test]
fn a_supervised_server_that_leaves_the_config_finishes_what_it_has_before_it_is_ended() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let (program, file) = (peer("waiting_server.py"), home.path().join("go"));
        let with_one =
            Config::new().external("app-1", shop.address).service_lines("balance = \"round-robin\"");
        let argv = ["python3", program.to_str().unwrap(), "{port}", file.to_str().unwrap()];
        let mainstay = Mainstay::start(&home, &with_one.clone().command("app-2", &argv)).await;
        let api = mainstay.api();
        api.all_serve().await;
        // About half of them come to the server that waits; the other one has no such page.
        let asked = [(); 8].map(|()| tokio::spawn(http::get(mainstay.front(), "/wait")));
        api.server_until("shop/app-2", "has a request", |s| s["in_flight"].as_u64() > Some(0)).await;
        let reload = |config: &Config| {
            home.write_config(&config.text(&home));
            mainstay.signal(libc::SIGHUP);
        };
        let gone = async || find_server(&api.status().await, "shop/app-2").is_none().then_some(());
        reload(&with_one);
        until("it is no server any more", gone).await;
        let pids = home.supervised();
        assert!(!pids.is_empty(), "its process goes on");

        // Somebody thinks better of it.
        reload(&with_one.clone().command("app-2", &argv));
        until("it is back at once", async || {
            let status = api.status().await;
            find_server(&status, "shop/app-2").filter(|server| server["in_rotation"] == true).map(|_| ())
        })
        .await;
        assert_eq!(home.supervised(), pids, "as the process that it was");
        reload(&with_one);
        until("it is no server any more", gone).await;

        std::fs::write(&file, "").expect("the folder is there");
        let mut statuses = Vec::new();
        for answer in asked {
            statuses.push(answer.await.expect("no panic").expect("an answer").status);
        }
        assert!(statuses.contains(&200), "{statuses:?}");
        no_orphan_is_left(&home).await;
        assert!(api.incidents().await.is_empty());
        mainstay.stop().await;
    });
}
