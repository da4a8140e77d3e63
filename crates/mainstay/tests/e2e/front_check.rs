//! A service that is looked at as its visitors see it: by HTTPS at Mainstay's own door, for its host, and counted as nobody's visit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::Value;
use tokio::net::TcpListener;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mail::MailSink;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::program::ran;
use crate::harness::site::{Authority, Leaf, answer, fine, serve};
use crate::harness::{free_address, run, until};

const HOST: &str = "shop.example.com";

async fn door_is(mainstay: &Mainstay, state: &str) -> Value {
    until(&format!("the door is {state}"), async || {
        let door = mainstay.api().get_json("/api/v1/monitors/shop-front").await;
        (door["state"] == state).then_some(door)
    })
    .await
}

#[test]
fn what_only_visitors_get_is_found_at_the_front_door_and_is_nobodys_visit() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let files = Authority::new("of visitors").files(home.path(), "shop", &Leaf::fine(HOST));
        // Its health check knows nothing of what is wrong with its pages.
        let (well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let shop = listener.local_addr().expect("an address");
        let (is_well, pages) = (well.clone(), asked.clone());
        serve(listener, None, move |request| {
            if request.contains("/healthz") {
                return fine();
            }
            pages.fetch_add(1, Ordering::SeqCst);
            let for_its_host = request.to_ascii_lowercase().contains(&format!("host: {HOST}"));
            match for_its_host && is_well.load(Ordering::SeqCst) {
                true => answer(200, "", "welcome"),
                false => answer(503, "", "no"),
            }
        });
        let at = free_address();
        let mut config = Config::new()
            .service_lines(&format!(
                "hosts = [{HOST:?}]\nfront-check = {{ http = {{ path = \"/basket\", expect = \"welcome\" }}, interval = \"1s\", \
                 timeout = \"2s\", fail = \"2 of 3\", tls = {{ ca = {:?} }} }}",
                files.ca
            ))
            .external("app-1", shop)
            .table(&format!("[[tls.certificate]]\nchain = {:?}\nkey = {:?}", files.chain, files.key))
            .mail_to(sink.address);
        config.listen = format!("https = \"{at}\"\n");
        let mainstay = Mainstay::start(&home, &config).await;
        let up = door_is(&mainstay, "up").await;
        assert_eq!(up["target"], format!("https://{HOST} at {at}, the front door of shop"));
        let admin = format!("http://{}", mainstay.api().address());
        let why = async || {
            let ran = once(&home, &["why", "shop/app-1", "--admin", &admin]).await;
            String::from_utf8_lossy(&ran.stdout).into_owned()
        };
        let told = why().await;
        assert!(told.contains("listener ok (checked "), "{told}");

        well.store(false, Ordering::SeqCst);
        let down = door_is(&mainstay, "down").await;
        assert_eq!(down["last"]["text"], "answered status 503", "{down}");
        let number = down["incident"].as_u64().expect("an incident");
        let incident = mainstay.api().incident(number).await;
        let title = "visitors at the front door of shop are not served: it answered status 503";
        assert_eq!(incident["title"], title);
        let evidence = &incident["timeline"][0]["sample"];
        assert_eq!(evidence["status"], 503, "{incident}");
        let told = why().await;
        assert!(told.contains("front door answered status 503 since "), "{told}");
        until("people are told", async || {
            sink.messages()
                .iter()
                .any(|mail| mail.header("subject").contains("front door of shop"))
                .then_some(())
        })
        .await;
        let metrics = mainstay.api().get("/metrics").await.text();
        assert!(metrics.contains("mainstay_monitor_up{monitor=\"shop-front\""), "{metrics}");

        well.store(true, Ordering::SeqCst);
        door_is(&mainstay, "up").await;
        mainstay.api().resolved(number).await;
        let status = mainstay.api().status().await;
        assert!(asked.load(Ordering::SeqCst) > 5, "it came through to the server");
        assert_eq!(status["services"][0]["totals"]["requests"], 0, "{}", status["services"][0]["totals"]);

        // The same request of anybody else's is a visit.
        let url = format!("https://{HOST}:{}/basket", at.port());
        let resolve = format!("{HOST}:{}:127.0.0.1", at.port());
        let arguments =
            ["-sS", "--max-time", "30", "--noproxy", "*", "--cacert", &files.ca, "--resolve", &resolve];
        let visit = ran("curl", [&arguments[..], &[&url]].concat()).await;
        assert!(visit.out.contains("welcome"), "{}", visit.err);
        until("the visit is counted", async || {
            let status = mainstay.api().status().await;
            (status["services"][0]["totals"]["requests"] == 1).then_some(())
        })
        .await;
    });
}
