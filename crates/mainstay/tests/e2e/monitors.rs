//! Monitors of real things that fail in their own ways: a web server that errs, a Redis that is killed, a certificate that has
//! expired, a name that is not there; and a crowd of them that fails together.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;
use tokio::net::TcpListener;

use crate::harness::config::Config;
use crate::harness::dns::{DnsServer, Kind};
use crate::harness::home::Home;
use crate::harness::mail::{MailSink, Message};
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::program::{Program, redis};
use crate::harness::site::{Authority, Leaf, Shown, answer, fine, serve};
use crate::harness::{measured, run, until};

/// Quick, so that a test need not wait.
const QUICK: &str = "interval = \"1s\"\ntimeout = \"2s\"\nfail = \"2 of 3\"\n";

/// A web server that answers well, or with an error.
pub async fn web(well: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    serve(listener, None, move |_| match well.load(Ordering::SeqCst) {
        true => fine(),
        false => answer(503, "", "the database is away"),
    });
    address
}

/// A config that serves something which is well, and watches this.
async fn watching(home: &Home, monitors: &str) -> Config {
    let always = web(Arc::new(AtomicBool::new(true))).await;
    let _ = home;
    Config::new().external("app-1", always).table(monitors)
}

async fn monitor(mainstay: &Mainstay, name: &str) -> Value {
    mainstay.api().get_json(&format!("/api/v1/monitors/{name}")).await
}

async fn is(mainstay: &Mainstay, name: &str, state: &str) -> Value {
    until(&format!("{name} is {state}"), async || {
        let monitor = monitor(mainstay, name).await;
        (monitor["state"] == state).then_some(monitor)
    })
    .await
}

/// What was told of a monitor.
fn mails(sink: &MailSink, name: &str) -> Vec<Message> {
    sink.messages().into_iter().filter(|message| message.header("subject").contains(name)).collect()
}

#[test]
fn a_web_server_and_a_redis_that_fail_are_told_once_with_their_cause_and_once_that_they_are_back() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let well = Arc::new(AtomicBool::new(true));
        let site = web(well.clone()).await;
        let mut cache = redis(&home).await;
        let at = cache.address;
        let tables = format!(
            "[monitor.site]\nurl = \"http://{site}/health\"\n{QUICK}group = \"own\"\n\
             [monitor.cache]\naddress = \"{at}\"\nprobe = {{ redis = true }}\n{QUICK}tags = [\"data\"]\n"
        );
        let config = watching(&home, &tables).await.mail_to(sink.address);
        let mainstay = Mainstay::start(&home, &config).await;
        is(&mainstay, "site", "up").await;
        is(&mainstay, "cache", "up").await;

        let failed = Instant::now();
        cache.kill();
        let down = is(&mainstay, "cache", "down").await;
        measured("a Redis that is watched: down after its end, ms", failed.elapsed().as_millis());
        assert_eq!(down["last"]["text"], "connection refused", "{down}");
        let number = down["incident"].as_u64().expect("an incident");
        let incident = mainstay.api().incident(number).await;
        assert_eq!(incident["title"], "cache is down: connection refused");
        assert_eq!(incident["diagnosis"]["cause"], "crash", "{incident}");
        assert_eq!(incident["timeline"][0]["text"], "a probe of cache failed: connection refused");

        well.store(false, Ordering::SeqCst);
        let down = is(&mainstay, "site", "down").await;
        assert_eq!(down["last"]["text"], "answered status 503", "{down}");
        let status =
            once(&home, &["status", "--admin", &format!("http://{}", mainstay.api().address())]).await;
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(text.contains("monitors  2 down") && text.contains("answered status 503"), "{text}");

        well.store(true, Ordering::SeqCst);
        let mut command = Command::new("redis-server");
        command.args(["--port", &at.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let _again = Program::start(&home, at, command).await;
        is(&mainstay, "site", "up").await;
        is(&mainstay, "cache", "up").await;
        mainstay.api().resolved(number).await;
        until("both are told, and that they are back", async || {
            let all = [mails(&sink, "site is down"), mails(&sink, "cache is down")];
            all.iter().all(|told| told.len() == 2).then_some(())
        })
        .await;
        let first = &mails(&sink, "cache is down")[0];
        assert!(
            first.body.contains("connection refused") && first.body.contains("only watches it"),
            "{first:#?}"
        );
        let metrics = mainstay.api().get("/metrics").await.text();
        assert!(metrics.contains("mainstay_monitor_up{monitor=\"site\",group=\"own\"} 1"), "{metrics}");
    });
}

#[test]
fn an_expired_certificate_and_a_name_that_is_not_there_are_told_for_what_they_are() {
    run(async {
        let home = Home::new();
        let dns = DnsServer::start(&home, Kind::Knot, "web A 127.0.0.1").await;
        let authority = Authority::new("watched");
        let ca = home.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).expect("a file");
        let secure = async |days| {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let leaf = Leaf { host: "web.example.com", days, shown: Shown::Chain };
            serve(listener, Some(authority.server(&leaf)), |_| fine());
            address.port()
        };
        let (good, expired) = (secure((-1, 90)).await, secure((-10, -1)).await);
        let tls = format!("tls = {{ ca = {ca:?} }}\n");
        let tables = format!(
            "[dns]\nresolver = \"{}\"\n\
             [monitor.good]\nurl = \"https://web.example.com:{good}/\"\n{QUICK}{tls}\
             [monitor.old]\nurl = \"https://web.example.com:{expired}/\"\n{QUICK}{tls}\
             [monitor.gone]\nurl = \"http://gone.example.com/\"\n{QUICK}",
            dns.address
        );
        let mainstay = Mainstay::start(&home, &watching(&home, &tables).await).await;
        is(&mainstay, "good", "up").await;
        for (name, text, cause) in [
            ("old", "shows a certificate that has expired: for web.example.com, issued by ", "certificate"),
            ("gone", "gone.example.com does not exist in DNS (NXDOMAIN)", "dns"),
        ] {
            let down = is(&mainstay, name, "down").await;
            assert!(down["last"]["text"].as_str().is_some_and(|told| told.starts_with(text)), "{down}");
            let incident = mainstay.api().incident(down["incident"].as_u64().expect("an incident")).await;
            assert_eq!(incident["diagnosis"]["cause"], cause, "{incident}");
        }
        // It is looked up at each probe, so what is put right is seen at the next one.
        dns.change("update add gone.example.com 60 A 127.0.0.1").await;
        let text = "connection refused";
        until("the name leads somewhere", async || {
            (monitor(&mainstay, "gone").await["last"]["text"] == text).then_some(())
        })
        .await;
    });
}

#[test]
fn thirty_that_fail_together_are_one_incident_and_two_messages_and_a_restart_tells_nobody_again() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let well = Arc::new(AtomicBool::new(true));
        let mut tables = String::new();
        for n in 0..30 {
            let site = web(well.clone()).await;
            tables.push_str(&format!("[monitor.m-{n:02}]\nurl = \"http://{site}/\"\ninterval = \"5s\"\n"));
        }
        let config = watching(&home, &tables).await.mail_to(sink.address);
        let mainstay = Mainstay::start(&home, &config).await;
        let counts = async |mainstay: &Mainstay| mainstay.api().status().await["monitor_counts"].clone();
        until("all are up", async || (counts(&mainstay).await["up"] == 30).then_some(())).await;
        well.store(false, Ordering::SeqCst);
        let failed = Instant::now();
        let number = mainstay.api().first_incident().await;
        measured("thirty that fail together: one incident after, ms", failed.elapsed().as_millis());
        until("all are down", async || (counts(&mainstay).await["down"] == 30).then_some(())).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        until("all are down again", async || (counts(&mainstay).await["down"] == 30).then_some(())).await;
        let found = mainstay.api().get_json(&format!("/api/v1/monitors?incident={number}")).await;
        assert_eq!(found["found"], 30, "all of them are part of it: {found}");
        well.store(true, Ordering::SeqCst);
        mainstay.api().resolved(number).await;
        assert_eq!(mainstay.api().incidents().await.len(), 1);
        until("two messages came", async || (sink.messages().len() >= 2).then_some(())).await;
        assert_eq!(sink.messages().len(), 2, "{:#?}", sink.messages());
    });
}

#[test]
fn what_fails_with_what_it_needs_is_told_with_it_and_not_by_itself() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let [db, shop] = [(); 2].map(|()| Arc::new(AtomicBool::new(true)));
        let (db_at, shop_at) = (web(db.clone()).await, web(shop.clone()).await);
        let tables = format!(
            "[monitor.db]\nurl = \"http://{db_at}/\"\n{QUICK}\
             [monitor.front]\nurl = \"http://{shop_at}/\"\nneeds = \"db\"\n{QUICK}"
        );
        let mainstay = Mainstay::start(&home, &watching(&home, &tables).await.mail_to(sink.address)).await;
        is(&mainstay, "db", "up").await;
        is(&mainstay, "front", "up").await;
        shop.store(false, Ordering::SeqCst);
        db.store(false, Ordering::SeqCst);
        let root = is(&mainstay, "db", "down").await["incident"].as_u64().expect("an incident");
        let part = is(&mainstay, "front", "down").await["incident"].as_u64().expect("an incident");
        let attached = async || (mainstay.api().incident(part).await["part_of"] == root).then_some(());
        until("it is a part of what it needs", attached).await;
        let incident = mainstay.api().incident(root).await;
        assert_eq!(incident["affected"][0]["what"]["monitor"], "front", "{incident}");
        db.store(true, Ordering::SeqCst);
        mainstay.api().resolved(root).await;
        until("the root is told, and that it is over", async || {
            (mails(&sink, "db is down").len() == 2).then_some(())
        })
        .await;
        let end = mails(&sink, "db is down").remove(1);
        assert!(end.body.contains("front"), "{end:#?}");
        assert!(mails(&sink, "front is down").is_empty());
    });
}
