//! The command line as a person and a script use it: statuses, outputs that parse, mistakes that are named.

use std::time::Duration;

use serde_json::Value;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{self, Connection};
use crate::harness::mainstay::{Mainstay, command, once, once_within};
use crate::harness::shop::Shop;
use crate::harness::{run, until};

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        panic!("{error} in output {out:?}; on standard error: {err}")
    })
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn check_config_names_every_mistake_with_its_place_at_once() {
    run(async {
        let home = Home::new();
        let lines = [
            "workers = \"two\"",
            "",
            "[listen]",
            "http = \"0.0.0.0:99999\"",
            "",
            "[service.shop]",
            "balance = \"fastest\"",
            "slow-start = \"10\"",
            "health = { http = \"healthz\" }",
            "",
            "[service.shop.server.app-1]",
            "adress = \"10.0.0.11:3000\"",
            "",
            "[record]",
            "minutes = 7",
            "",
            "[on-call.web]",
            "tell = [{ email = \"nobody\" }]",
            "",
            "[nonsense]",
        ];
        home.write_config(&lines.join("\n"));
        let output = once(&home, &["check-config", "-c", "mainstay.toml"]).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let wrong = [
            "workers",
            "http = \"0",
            "balance",
            "slow-start",
            "health",
            "adress",
            "minutes",
            "tell",
            "[nonsense",
        ];
        for start in wrong {
            let line = 1 + lines.iter().position(|l| l.starts_with(start)).expect("one of the lines");
            let place = format!("mainstay.toml:{line}:");
            let named =
                said.split(&place).nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            assert!(named, "no `{place}COLUMN` for `{start}` in:\n{said}");
        }
        assert!(
            said.contains("`address`") || said.contains("address"),
            "the remedy for a misspelt key:\n{said}"
        );
    });
}

#[test]
fn a_good_config_passes_the_check() {
    run(async {
        let home = Home::new();
        home.write_config(&Config::new().external("app-1", "127.0.0.1:3000").text(&home));
        let output = once(&home, &["check-config", "-c", "mainstay.toml"]).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    });
}

#[test]
fn a_config_with_a_mistake_is_not_run() {
    run(async {
        let home = Home::new();
        home.write_config("[service.shop]\nhosts = 7\n");
        let output = once(&home, &["run", "-c", "mainstay.toml"]).await;
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("mainstay.toml:2:"), "{}", said(&output));
    });
}

#[test]
fn what_init_writes_passes_the_check() {
    run(async {
        let home = Home::new();
        let output =
            once(&home, &["init", "--server", "http://127.0.0.1:3000", "--output", "new.toml"]).await;
        assert!(output.status.success(), "{}", said(&output));
        let text = std::fs::read_to_string(home.path().join("new.toml")).expect("it was written");
        assert!(text.contains("127.0.0.1:3000") && text.contains('#'), "{text}");
        let output = once(&home, &["check-config", "-c", "new.toml"]).await;
        assert_eq!(output.status.code(), Some(0), "{}\n{text}", said(&output));
    });
}

#[test]
fn an_admin_address_for_everybody_is_refused_without_a_token_or_password() {
    run(async {
        let home = Home::new();
        let open = Config::new().external("app-1", "127.0.0.1:3000").text(&home);
        let open = open.replace("admin = \"127.0.0.1:0\"", "admin = \"0.0.0.0:0\"");
        home.write_config(&open);
        let output = once(&home, &["run", "-c", "mainstay.toml"]).await;
        assert!(!output.status.success());
        let said = said(&output);
        assert!(said.contains("token") && said.contains("password"), "{said}");
    });
}

#[test]
fn a_token_opens_the_api_and_nothing_else_does() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        std::fs::write(home.path().join("token"), "a-long-enough-token-for-a-test\n").expect("a file");
        let table = format!("[admin]\ntoken = {{ file = {:?} }}", home.path().join("token"));
        let mainstay =
            Mainstay::start(&home, &Config::new().external("app-1", shop.address).table(&table)).await;
        let refused = mainstay.api().get("/api/v1/status").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert_eq!(mainstay.api().with_token("wrong").get("/api/v1/status").await.status, 401);
        let api = mainstay.api().with_token("a-long-enough-token-for-a-test");
        assert_eq!(api.get("/api/v1/status").await.status, 200);
        api.all_serve().await;
        assert!(!mainstay.log().join("\n").contains("a-long-enough-token"), "a secret is never printed");
    });
}

#[test]
fn a_foreign_page_can_change_nothing() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let mainstay = Mainstay::start(&home, &Config::new().external("app-1", shop.address)).await;
        mainstay.api().all_serve().await;
        let hosts = mainstay.admin.to_string();
        let foreign: [&[(&str, &str)]; 3] = [
            &[("Origin", "http://evil.example"), ("Content-Type", "application/json")],
            &[("Sec-Fetch-Site", "cross-site"), ("Content-Type", "application/json")],
            // A name of the attacker's that was pointed at loopback after the page was loaded.
            &[
                ("Host", "evil.example"),
                ("Origin", "http://evil.example"),
                ("Content-Type", "application/json"),
            ],
        ];
        for headers in foreign {
            let mut connection = Connection::open(mainstay.admin).await.expect("it listens");
            let target = "/api/v1/servers/shop/app-1/state";
            let answer = connection
                .send("POST", target, headers, br#"{"state":"draining"}"#)
                .await
                .expect("an answer");
            assert!((400..500).contains(&answer.status), "{headers:?} to {hosts}: {}", answer.status);
        }
        assert_eq!(mainstay.api().server("shop/app-1").await["admin"], "ready");
    });
}

#[test]
fn servers_can_be_named_on_the_command_line_without_a_file() {
    run(async {
        let home = Home::new();
        let shops = Shop::three(&home).await;
        let data = home.data();
        let mut arguments = vec!["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        arguments.extend(["--data", data.to_str().expect("UTF-8")]);
        let servers: Vec<String> = shops.iter().map(|shop| format!("http://{}", shop.address)).collect();
        for server in &servers {
            arguments.extend(["--server", server]);
        }
        let mainstay = Mainstay::spawn(command(&home, &arguments)).await;
        assert_eq!(mainstay.printed()[0], format!("mainstay {}", env!("CARGO_PKG_VERSION")));
        until("visitors are served", async || {
            (http::get(mainstay.front(), "/").await.ok()?.status == 200).then_some(())
        })
        .await;
        assert_eq!(mainstay.api().status().await["services"][0]["servers"].as_array().map(Vec::len), Some(3));
        assert!(mainstay.stop().await.success());
    });
}

#[test]
fn status_and_why_print_for_a_person_and_for_a_program() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let dead = crate::harness::free_address();
        let config = Config::new().external("app-1", shop.address).external("app-2", dead);
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.server_until("shop/app-2", "is unhealthy", |s| s["health"] == "unhealthy").await;
        api.server_until("shop/app-1", "is healthy", |s| s["health"] == "healthy").await;
        let url = format!("http://{}", mainstay.admin);

        let status = once(&home, &["status", "--admin", &url]).await;
        assert!(status.status.success(), "{}", said(&status));
        for word in ["shop", "app-1", "app-2", "healthy", "unhealthy"] {
            assert!(said(&status).contains(word), "no {word} in {}", said(&status));
        }
        let status = json(&once(&home, &["status", "--json", "--admin", &url]).await);
        assert!(crate::harness::api::find_server(&status, "shop/app-2").is_some(), "{status}");

        let why = once(&home, &["why", "shop/app-2", "--admin", &url]).await;
        assert!(why.status.success(), "{}", said(&why));
        for word in ["refused", "fall = 2", "rise = 2"] {
            assert!(said(&why).contains(word), "no {word} in {}", said(&why));
        }
        assert!(json(&once(&home, &["why", "shop/app-2", "--json", "--admin", &url]).await).is_object());

        let refused = http::get(mainstay.front(), "/nowhere\u{7f}").await.expect("an answer");
        let id = refused.header("x-request-id").expect("an id").to_owned();
        let why = once(&home, &["why", &id, "--admin", &url]).await;
        assert!(said(&why).contains("control-character") && said(&why).contains("400"), "{}", said(&why));
        assert!(json(&once(&home, &["why", &id, "--json", "--admin", &url]).await)["status"] == 400);

        let unknown = once(&home, &["why", "shop/app-9", "--admin", &url]).await;
        assert!(!unknown.status.success());
        assert!(said(&unknown).contains("app-9"), "{}", said(&unknown));
    });
}

#[test]
fn status_says_what_to_do_when_nothing_runs() {
    run(async {
        let home = Home::new();
        let url = format!("http://{}", crate::harness::free_address());
        let output = once(&home, &["status", "--admin", &url]).await;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(&url), "{}", said(&output));
    });
}

#[test]
fn an_incident_can_be_taken_on_once() {
    run(async {
        let home = Home::new();
        let mainstay =
            Mainstay::start(&home, &Config::new().external("app-1", crate::harness::free_address())).await;
        let api = mainstay.api();
        let id = api.first_incident().await;
        let answer = api.acknowledge(id, "Ada").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["state"], "acknowledged");
        api.acknowledge(id, "Bob").await;
        let incident = api.incident_with(id, "acknowledged").await;
        assert_eq!(incident["acknowledged"][0], "Ada", "{incident:#}");
        assert_eq!(api.acknowledge(id + 1, "Ada").await.status, 404);
    });
}

#[test]
fn machines_can_ask_for_metrics_liveness_and_the_shape_of_the_api() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let mainstay = Mainstay::start(&home, &Config::new().external("app-1", shop.address)).await;
        let api = mainstay.api();
        api.all_serve().await;
        assert_eq!(api.get("/livez").await.status, 200);
        assert_eq!(api.get("/readyz").await.status, 200);
        let metrics = api.get("/metrics").await;
        assert!(
            metrics.header("content-type").unwrap_or_default().starts_with("application/openmetrics-text")
        );
        assert!(
            metrics.text().contains("mainstay_") && metrics.text().ends_with("# EOF\n"),
            "{}",
            metrics.text()
        );
        let shape = api.get("/api/v1/openapi.json").await.json();
        let paths = shape["paths"].as_object().expect("paths");
        assert!(shape["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
        for path in paths.keys().filter(|path| !path.contains('{')) {
            let answer = api.get(path).await;
            assert!(
                answer.status < 500 && answer.status != 404,
                "{path} is described but answers {}",
                answer.status
            );
        }
        let unknown = api.get("/api/v1/nothing").await;
        assert_eq!((unknown.status, unknown.header("content-type")), (404, Some("application/problem+json")));
        assert_eq!(unknown.json()["status"], 404);
    });
}

#[test]
fn the_demo_heals_its_own_world_and_says_so() {
    run(async {
        let home = Home::new();
        let arguments = ["demo", "--once", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let output = once(&home, &arguments).await;
        assert!(output.status.success(), "{}", said(&output));
        let summary = json(&output);
        assert_eq!(summary["failed"], 0, "{summary}");
        assert!(summary["requests"].as_u64() > Some(0), "{summary}");
        for field in ["saved", "notice_ms", "divert_ms", "recover_ms", "incident"] {
            assert!(summary[field].is_u64(), "no {field} in {summary}");
        }
        for field in ["notice_ms", "divert_ms", "recover_ms"] {
            crate::harness::measured(&format!("demo: {field}"), &summary[field]);
        }
    });
}

#[test]
fn the_demo_shows_all_that_can_go_wrong_and_what_came_of_it() {
    run(async {
        let home = Home::new();
        let arguments =
            ["demo", "--all", "--once", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let output = once_within(Duration::from_secs(400), &home, &arguments).await;
        let summary = json(&output);
        let faults = summary["faults"].as_array().unwrap_or_else(|| panic!("{}", said(&output)));
        let ids: Vec<_> = faults.iter().filter_map(|fault| fault["fault"].as_str()).collect();
        assert_eq!(ids, ["kill", "hang", "slow", "bad-release", "overload", "attack", "all-down"]);
        for fault in faults {
            assert_eq!(fault["over"], true, "{fault}");
            assert!(fault["incident"].is_u64() && fault["notice_ms"].is_u64(), "nobody noticed: {fault}");
            assert!(fault["recover_ms"].is_u64() && fault["requests"].as_u64() > Some(0), "{fault}");
            crate::harness::measured(&format!("demo: {}", fault["fault"]), fault);
        }
        let done = |n: usize| faults[n]["done"].to_string();
        assert!(done(1).contains("restarted"), "the hang: {}", faults[1]);
        assert!(done(2).contains("taken out"), "the slow server: {}", faults[2]);
        assert_eq!(faults[3]["cause"], "bad update");
        assert!(done(3).contains("rolled back"), "{}", faults[3]);
        assert!(faults[4]["shed"].as_u64() > Some(0) && done(4).contains("scaled to"), "{}", faults[4]);
        assert_eq!(faults[5]["cause"], "attack");
        assert!(faults[5]["attacks_refused"].as_u64() > Some(0), "{}", faults[5]);
        assert_eq!(faults[5]["limited"], 0, "visitors are not taken for attackers: {}", faults[5]);
        assert!(done(6).contains("restarted"), "{}", faults[6]);
        assert!(output.status.success(), "{}", said(&output));
    });
}
