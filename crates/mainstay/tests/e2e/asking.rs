//! Levels below automatic: what Mainstay would do is proposed, and done when a person says so, by a link in a mail that is good
//! for one decision, on the command line, or in the API.

use serde_json::{Value, json};

use crate::harness::api::{Api, entries, serves};
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{self, Connection};
use crate::harness::mail::MailSink;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::{process, run, until};
use crate::recovery::{pid_of, three_supervised};

/// Three servers of Mainstay's own, which asks before it restarts one.
fn asking() -> Config {
    three_supervised().service_lines("recovery = { level = { restart = \"ask\" } }")
}

async fn kill(api: &Api, id: &str) {
    process::signal(pid_of(&api.server(id).await), libc::SIGKILL);
}

/// The newest proposal, once there is one about this server.
async fn proposed(api: &Api, server: &str) -> Value {
    until("it is proposed", async || {
        let all = api.get_json("/api/v1/proposals").await;
        all.as_array()?.iter().find(|p| p["server"] == server && p["end"].is_null()).cloned()
    })
    .await
}

/// The path of the link to decide, from a mail's text.
fn link(text: &str) -> String {
    let text = text.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=");
    let (_, rest) =
        text.split_once("http://ops.example.com/decide/").unwrap_or_else(|| panic!("no link in {text}"));
    let token: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    format!("/decide/{token}")
}

#[test]
fn who_is_asked_by_mail_approves_by_a_button_behind_a_link_once() {
    run(async {
        let home = Home::new();
        let mail = MailSink::start(&home).await;
        let config = asking()
            .table("[alert]\ndashboard = \"http://ops.example.com\"")
            .table(&format!(
                "[alert.email]\nsmtp = \"smtp://{}\"\nfrom = \"mainstay@example.com\"",
                mail.address
            ))
            .table("[on-call.web]\ntell = [{ email = \"ada@example.com\" }]");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        kill(&api, "shop/app-2").await;
        let proposal = proposed(&api, "shop/app-2").await;
        assert_eq!((&proposal["what"], &proposal["level"]), (&json!("restart app-2"), &json!("ask")));
        let asks = until("a mail asks", async || {
            mail.messages().into_iter().find(|message| message.header("subject").contains("needs you"))
        })
        .await;
        let path = link(&asks.body);

        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        let over = api.get_json("/api/v1/proposals").await;
        assert_eq!(
            over[0]["end"]["score"], "by-itself",
            "Mainstay was started anew, and its servers: {over}"
        );

        kill(&api, "shop/app-2").await;
        let number = proposed(&api, "shop/app-2").await["number"].clone();
        assert_eq!(number, 2);
        let asks = until("another mail asks", async || {
            let asking =
                |body: &str| body.contains("restart app-2") && link_of(body).is_some_and(|l| l != path);
            mail.messages().into_iter().find(|message| asking(&message.body))
        })
        .await;
        let second = link(&asks.body);

        let old = http::get(mainstay.admin, &path).await.expect("a page");
        assert!(old.text().contains("There is nothing to decide any more"), "{}", old.text());
        let page = http::get(mainstay.admin, &second).await.expect("a page");
        assert!(page.text().contains("Mainstay would restart app-2"), "{}", page.text());
        assert!(page.text().contains("Approve as ada@example.com"), "{}", page.text());
        assert!(api.server("shop/app-2").await["process"]["pid"].is_null(), "looking changes nothing");
        let waits = "Waits for your decision";
        assert!(api.get("/").await.text().contains(waits), "on the overview");

        let form = "approved=true";
        let posted = post(&mainstay, &second, form).await;
        assert_eq!(posted.status, 303, "{}", posted.text());
        api.server_until("shop/app-2", "serves", serves).await;
        assert!(!api.get("/").await.text().contains(waits), "no longer");
        let again = http::get(mainstay.admin, &second).await.expect("a page");
        assert!(again.text().contains("approved by ada@example.com"), "{}", again.text());
        assert!(!again.text().contains("<form"), "{}", again.text());
        post(&mainstay, &second, "approved=false").await;
        let known = api.get_json("/api/v1/proposals").await;
        assert_eq!(known[0]["decided"]["approved"], true, "a link is good for one decision: {known}");
        let id = api.first_incident().await;
        let incident = api.resolved(id).await;
        assert!(!entries(&incident, "proposed").is_empty(), "{incident:#}");
    });
}

fn link_of(body: &str) -> Option<String> {
    body.contains("/decide/").then(|| link(body))
}

async fn post(mainstay: &Mainstay, path: &str, form: &str) -> http::Answer {
    let mut connection = Connection::open(mainstay.admin).await.expect("a connection");
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Connection", "close")];
    connection.send("POST", path, &headers, form.as_bytes()).await.expect("an answer")
}

#[test]
fn proposals_are_listed_declined_and_approved_on_the_command_line() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &asking()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let admin = mainstay.admin.to_string();
        let says = async |words: &[&str]| {
            let all: Vec<&str> = words.iter().copied().chain(["--admin", &admin]).collect();
            let output = once(&home, &all).await;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
        };
        assert_eq!(says(&["proposals"]).await, (Some(0), "nothing was proposed\n".to_owned()));
        kill(&api, "shop/app-1").await;
        kill(&api, "shop/app-3").await;
        let one = proposed(&api, "shop/app-1").await["number"].to_string();
        let three = proposed(&api, "shop/app-3").await["number"].to_string();
        let (_, text) = says(&["status"]).await;
        let asks = format!("a person is to decide whether to restart app-1: mainstay approve {one}");
        assert!(text.contains(&asks), "{text}");
        let (code, text) = says(&["decline", &one, "--by", "anna"]).await;
        assert!(code == Some(0) && text.contains("declined by anna"), "{text}");
        let (code, text) = says(&["approve", &one]).await;
        assert!(code == Some(1) && text.contains("declined by anna"), "{text}");
        let (code, text) = says(&["approve", &three, "--by", "anna"]).await;
        assert!(code == Some(0) && text.contains("approved by anna"), "{text}");
        api.server_until("shop/app-3", "serves", serves).await;
        let (_, text) = says(&["proposals"]).await;
        assert!(text.contains("shop: restart app-1 (ask): its process was killed by SIGKILL"), "{text}");
        assert!(api.server("shop/app-1").await["process"]["pid"].is_null());
        let answer = api.post("/api/v1/servers/shop/app-1/state", &json!({ "state": "ready" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        api.server_until("shop/app-1", "serves", serves).await;
        let missing = api.post("/api/v1/proposals/99", &json!({ "approved": true })).await;
        assert_eq!(missing.status, 404, "{}", missing.text());
    });
}
