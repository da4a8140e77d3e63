//! Routes and sticky sessions through the whole program: from the config to the wire, over a restart and a drain.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::api::serves;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{Answer, Connection};
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::run;
use crate::harness::scripted::{Reply, Scripted};

async fn named(name: &'static str) -> Scripted {
    Scripted::start(move |_| Reply::Answer(200, name.as_bytes().to_vec())).await
}

async fn ask(front: SocketAddr, host: &str, target: &str, cookie: &str) -> Answer {
    let mut connection = Connection::open(front).await.expect("a connection");
    let headers = [("Host", host), ("Cookie", cookie)];
    let headers = if cookie.is_empty() { &headers[..1] } else { &headers[..] };
    connection.send("GET", target, headers, b"").await.expect("an answer")
}

#[test]
fn routes_lead_rewrite_and_redirect_as_the_config_says_and_check_config_foretells_it() {
    run(async {
        let home = Home::new();
        let (shop, blog) = (named("shop").await, named("blog").await);
        let config = Config::new()
            .service_lines("hosts = [\"shop.example.com\", \"*.shop.example.com\"]")
            .service_lines("response-headers.set.X-Frame-Options = \"DENY\"")
            .external("app-1", shop.address)
            .table(
                "[[service.shop.route]]\npath = \"/api\"\nrewrite = \"/\"\nrequest-headers.set.X-Tenant = \"{host}\"\n\
                 [[service.shop.route]]\nexact = \"/\"\nredirect = \"/start{query}\"\nredirect-status = 302\n\
                 [[service.shop.route]]\npath = \"/blog\"\nservice = \"blog\"\n",
            )
            .table(&format!("[service.blog]\nhosts = []\nserver.one.address = \"{}\"", blog.address))
            .table("[status]\npath = \"/status\"");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let front = mainstay.front();

        let answer = ask(front, "eu.shop.example.com", "/api/items?x=1", "").await;
        assert_eq!((answer.text().as_str(), answer.header("x-frame-options")), ("shop", Some("DENY")));
        let seen = shop.seen();
        let seen = seen.iter().find(|request| request.target == "/items?x=1").expect("rewritten");
        assert_eq!(seen.header("x-tenant"), Some("eu.shop.example.com"));
        let answer = ask(front, "shop.example.com", "/?a=b", "").await;
        assert_eq!((answer.status, answer.header("location")), (302, Some("/start?a=b")));
        assert_eq!(ask(front, "shop.example.com", "/blog/1", "").await.text(), "blog");
        assert_eq!(ask(front, "shop.example.com", "//blog/1", "").await.status, 400);
        // In its first moments the page says 503: it is not printed yet.
        while !ask(front, "shop.example.com", "/status/", "").await.text().contains("<html") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(ask(front, "other.example.com", "/", "").await.status, 404);

        let config = home.config();
        let config = config.to_str().expect("a path");
        let told =
            once(&home, &["check-config", "-c", config, "--route", "http://shop.example.com/api/x"]).await;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains("route 1 of shop") && told.contains("sent as   /x\n"), "{told}");
    });
}

#[test]
fn a_visitor_keeps_to_its_server_over_a_restart_of_mainstay_and_while_the_server_drains() {
    run(async {
        let home = Home::new();
        let (one, two) = (named("one").await, named("two").await);
        let config = Config::new()
            .service_lines("sticky = { cookie = \"keep\" }\nbalance = \"round-robin\"")
            .external("one", one.address)
            .external("two", two.address);
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let first = ask(mainstay.front(), "a", "/", "").await;
        let set = first.header("set-cookie").expect("a cookie").to_owned();
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
        let cookie = set.split(';').next().expect("a pair").to_owned();
        assert!(mainstay.stop().await.success());

        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        for _ in 0..6 {
            let again = ask(mainstay.front(), "a", "/", &cookie).await;
            assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
        }
        let own = format!("shop/{}", first.text());
        assert!(api.set_admin(&own, "draining").await.status < 300);
        api.server_until(&own, "drains", |server| server["admin"] == "draining" && !serves(server)).await;
        assert_eq!(ask(mainstay.front(), "a", "/", &cookie).await.text(), first.text());
        assert_ne!(ask(mainstay.front(), "a", "/", "").await.text(), first.text());
        assert!(api.set_admin(&own, "maintenance").await.status < 300);
        api.server_until(&own, "is in maintenance", |server| server["admin"] == "maintenance").await;
        let moved = crate::harness::until("the visitor is served elsewhere", async || {
            let answer = ask(mainstay.front(), "a", "/", &cookie).await;
            (answer.text() != first.text()).then_some(answer)
        })
        .await;
        assert!(moved.header("set-cookie").is_some_and(|new| !new.starts_with(&cookie)));
    });
}
