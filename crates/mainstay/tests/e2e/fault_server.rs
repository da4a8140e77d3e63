//! One server with every fault that a monitor can meet, and what a person would say of each: how it is, in a sentence, and why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::Mainstay;
use crate::harness::site::{Act, Authority, Leaf, Shown, answer, fine, serve};
use crate::harness::{run, until_within};

/// Certainty takes two looks, some of which take their whole time.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many monitors that are well: what fails is not a crowd then, and each has an incident of its own.
const WELL: usize = 24;

/// What this server does with a request for a path, once it is told to fail.
fn fault(path: &str) -> Vec<Act> {
    let say = |text: &str| vec![Act::Say(text.as_bytes().to_vec())];
    match path {
        "/slow" => [vec![Act::Wait(Duration::from_millis(600))], fine()].into_iter().flatten().collect(),
        "/hang" => vec![Act::Hang],
        "/drip" => {
            let mut acts = say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
            acts.extend(
                (0..600).flat_map(|_| [Act::Wait(Duration::from_millis(100)), Act::Say(b".".to_vec())]),
            );
            acts
        }
        "/cut" => say("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf of"),
        "/long" => say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay, and more"),
        "/two-lengths" => say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nokay?"),
        "/bad-length" => say("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nokay"),
        "/loop" => answer(302, "Location: /loop?again\r\n", ""),
        "/says-error" => answer(200, "", "Fatal error: the database is away"),
        "/garbage" => say("SSH-2.0-OpenSSH_9.2\r\n"),
        "/closes" => Vec::new(),
        "/sick" => answer(503, "", "the database is away"),
        _ => fine(),
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// A server of TLS that shows such a certificate.
async fn secure(authority: &Authority, leaf: &Leaf) -> SocketAddr {
    let (listener, address) = listener().await;
    serve(listener, Some(authority.server(leaf)), |_| fine());
    address
}

/// A server that breaks its answer off by a reset, when the beginning of it has been read.
async fn resets() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf of").await;
                tokio::time::sleep(Duration::from_millis(500)).await;
                let _ = stream.set_zero_linger();
            });
        }
    });
    address
}

/// A resolver that knows every name but two: `gone.test` does not exist, and of `broken.test` it cannot find out.
async fn resolver(faulty: Arc<AtomicBool>) -> SocketAddr {
    const HEAD: usize = 12;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = &buffer[HEAD..length];
            // Labels, each after its length, up to one of no length; then the type and the class.
            let end = question.iter().position(|byte| *byte == 0).expect("a name") + 5;
            let (question, name) = (&question[..end], String::from_utf8_lossy(&question[..end]));
            let fault = faulty.load(Ordering::SeqCst);
            let code: u8 = match () {
                () if fault && name.contains("gone") => 3,
                () if fault && name.contains("broken") => 2,
                () => 0,
            };
            let is_a = question[end - 4..] == [0, 1, 0, 1];
            let answers = u8::from(code == 0 && is_a);
            let mut message = buffer[..2].to_vec();
            message.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
            message.extend(question);
            if answers > 0 {
                // The name of the question, an address of this machine, good for no time.
                message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&message, from).await;
        }
    });
    address
}

/// What a person would say: of which monitor, how it is, in which words (or what they begin with), put down to what.
struct Verdict {
    monitor: &'static str,
    lines: String,
    state: &'static str,
    text: &'static str,
    cause: &'static str,
}

async fn is(mainstay: &Mainstay, name: &str, state: &str) -> Value {
    let path = format!("/api/v1/monitors/{name}");
    let mut last = Value::Null;
    until_within(PATIENCE, &format!("{name} is {state}"), async || {
        last = mainstay.api().get_json(&path).await;
        (last["state"] == state).then(|| last.clone())
    })
    .await
}

#[test]
fn every_fault_gets_the_verdict_and_the_cause_that_a_person_would_give() {
    run(async {
        let home = Home::new();
        let faulty = Arc::new(AtomicBool::new(false));
        let (here, at) = listener().await;
        let told = faulty.clone();
        serve(here, None, move |request| {
            let path = request.split([' ', '?']).nth(1).unwrap_or_default();
            if told.load(Ordering::SeqCst) { fault(path) } else { fine() }
        });
        let authority = Authority::new("faults");
        let ca = home.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).expect("a file");
        let leaf = |host, days, shown| Leaf { host, days, shown };
        let good = secure(&authority, &Leaf::fine("site.test")).await.port();
        let expired = secure(&authority, &leaf("site.test", (-10, -1), Shown::Chain)).await.port();
        let own = secure(&authority, &leaf("site.test", (-1, 90), Shown::SelfSigned)).await.port();
        let other = secure(&authority, &Leaf::fine("other.test")).await.port();
        let (to_https, leads) = listener().await;
        serve(to_https, None, move |_| answer(301, &format!("Location: https://site.test:{good}/\r\n"), ""));
        let resets = resets().await;
        let refused = listener().await.1;
        let dns = resolver(faulty.clone()).await;

        let plain = |path: &str| format!("url = \"http://site.test:{}/{path}\"\n", at.port());
        let named = |host: &str| format!("url = \"http://{host}:{}/\"\n", at.port());
        let tls = format!("tls = {{ ca = {ca:?} }}\n");
        let secured = |port: u16| format!("url = \"https://site.test:{port}/\"\n{tls}");
        let row = |monitor, lines, state, text, cause| Verdict { monitor, lines, state, text, cause };
        let slow = plain("slow") + "probe = { http = { slow-after = \"300ms\" } }\n";
        let says = plain("says-error") + "probe = { http = { expect = \"Welcome\" } }\n";
        let follow = "probe = { http = { follow = true } }\n";
        let along = format!("url = \"http://site.test:{}/\"\n{follow}{tls}", leads.port());
        let cut = "answered status 200 and broke off after 7 of 99 bytes";
        let hangs = "accepted the connection but did not answer in time";
        let cannot_read = "did not answer in HTTP: ";
        let rows = [
            row("slow", slow, "degraded", "answers later than slow-after = 300ms: ", ""),
            // By the address of this machine: hosts that are silent together would make Mainstay look at its own sight.
            row("hang", format!("url = \"http://{at}/hang\"\n"), "down", hangs, "crash"),
            row("drip", format!("url = \"http://{at}/drip\"\n"), "down", hangs, "crash"),
            row("cut", plain("cut"), "down", cut, "unknown"),
            row("reset", format!("url = \"http://{resets}/\"\n"), "down", cut, "unknown"),
            // What comes after the end belongs to nobody, and a visitor would not see it either.
            row("long", plain("long"), "up", "", ""),
            row("two-lengths", plain("two-lengths"), "down", cannot_read, "unknown"),
            row("bad-length", plain("bad-length"), "down", cannot_read, "unknown"),
            row("garbage", plain("garbage"), "down", cannot_read, "unknown"),
            row(
                "closes",
                plain("closes"),
                "down",
                "closed the connection before its answer was whole",
                "unknown",
            ),
            row(
                "loop",
                plain("loop") + follow,
                "down",
                "redirects more than 5 times, at last to /loop?again",
                "unknown",
            ),
            row("along", along, "up", "", ""),
            row("says-error", says, "down", "answered status 200 without \"Welcome\"", "unknown"),
            row("sick", plain("sick"), "down", "answered status 503", "unknown"),
            row("refused", format!("url = \"http://{refused}/\"\n"), "down", "connection refused", "crash"),
            row(
                "expired",
                secured(expired),
                "down",
                "shows a certificate that has expired: for site.test, issued by ",
                "certificate",
            ),
            row(
                "self-signed",
                secured(own),
                "down",
                "shows a certificate that no trusted authority has issued (tls.ca): for site.test, self-signed, ends in ",
                "certificate",
            ),
            row(
                "wrong-host",
                secured(other),
                "down",
                "shows a certificate that is made out to another name (tls.name)",
                "certificate",
            ),
            row("gone", named("gone.test"), "down", "gone.test does not exist in DNS (NXDOMAIN)", "dns"),
            row(
                "broken",
                named("broken.test"),
                "down",
                "DNS does not say where broken.test is: its resolver could not find out (SERVFAIL)",
                "dns",
            ),
        ];
        let quick = "interval = \"1s\"\ntimeout = \"2s\"\nfail = \"2 of 3\"\n";
        let mut tables = format!("[dns]\nresolver = \"{dns}\"\n");
        for Verdict { monitor, lines, .. } in &rows {
            tables += &format!("[monitor.{monitor}]\n{lines}{quick}");
        }
        for n in 0..WELL {
            tables += &format!("[monitor.well-{n:02}]\n{}{quick}", plain("well"));
        }
        // The same faults as a service's own: who runs it hears that it is its server.
        let (hanging, hangs_at) = listener().await;
        serve(hanging, None, |_| vec![Act::Hang]);
        let (cutting, cuts_at) = listener().await;
        serve(cutting, None, |_| fault("/cut"));
        let health = "health = { http = \"/\", interval = \"1s\", timeout = \"800ms\", fall = 2 }\n";
        for (service, address, more) in [
            ("hanging", hangs_at.to_string(), String::new()),
            ("cutting", cuts_at.to_string(), String::new()),
            (
                "old",
                format!("https://127.0.0.1:{expired}"),
                format!("server-tls = {{ ca = {ca:?}, name = \"site.test\" }}\n"),
            ),
        ] {
            tables += &format!(
                "[service.{service}]\nhosts = [\"{service}.test\"]\n{health}{more}server.one.address = \"{address}\"\n"
            );
        }
        let config = Config::new().external("app-1", at).table(&tables);
        let mainstay = Mainstay::start(&home, &config).await;
        // What fails from the beginning are fewer than make a crowd.
        let early = ["reset", "expired", "self-signed", "wrong-host"];
        for Verdict { monitor, .. } in
            rows.iter().filter(|row| !early.contains(&row.monitor) && row.monitor != "refused")
        {
            is(&mainstay, monitor, "up").await;
        }
        faulty.store(true, Ordering::SeqCst);
        for Verdict { monitor, state, text, cause, .. } in &rows {
            let seen = is(&mainstay, monitor, state).await;
            let words = if *state == "degraded" { &seen["because"] } else { &seen["last"]["text"] };
            let words = words.as_str().expect("a text");
            assert!(words.starts_with(text), "{monitor}: {words:?} is not {text:?}");
            if *state != "down" {
                assert!(seen["incident"].is_null(), "{monitor}: {seen}");
                continue;
            }
            let incident = mainstay.api().incident(seen["incident"].as_u64().expect("an incident")).await;
            let title = incident["title"].as_str().expect("a title");
            assert!(title.starts_with(&format!("{monitor} is down: {text}")), "{title}");
            assert_eq!(incident["diagnosis"]["cause"], *cause, "{monitor}: {incident}");
            assert!(
                incident["diagnosis"]["evidence"][0].as_str().is_some_and(|e| e.contains(text)),
                "{incident}"
            );
        }
        for (service, cause, sentence) in [
            ("hanging", "crash", "one hangs: it accepts connections and does not answer"),
            ("cutting", "crash", "one answered status 200 and broke off after 7 of 99 bytes"),
            ("old", "certificate", "one shows a certificate that has expired: for site.test, issued by "),
        ] {
            let what = format!("the incident of {service} says why");
            until_within(PATIENCE, &what, async || {
                let all = mainstay.api().incidents().await;
                let own = all.iter().find(|incident| incident["scope"]["service"] == service)?;
                let incident = mainstay.api().incident(own["id"].as_u64()?).await;
                let found = &incident["diagnosis"];
                let evidence = found["evidence"][0].as_str()?;
                (found["cause"] == cause && evidence.starts_with(sentence)).then_some(())
            })
            .await;
        }
    });
}
