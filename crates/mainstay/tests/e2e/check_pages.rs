//! `mainstay check` against pages that are odd: each set-up is one that a confused visitor may meet, and none may make the check hang, panic
//! or guess wrong. They are all on this machine, so that nobody else is asked.

use serde_json::Value;
use tokio::net::TcpListener;

use crate::harness::home::Home;
use crate::harness::mainstay::once;
use crate::harness::run;
use crate::harness::site::{Act, Authority, Leaf, Shown, answer, fine, serve};

/// A page on a port of its own.
async fn page(script: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    serve(listener, None, script);
    url
}

/// What the check says, as its status and its report.
async fn check(arguments: &[&str]) -> (Option<i32>, Value) {
    let home = Home::new();
    let output = once(&home, &[&["check", "--json"], arguments].concat()).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out:?}; {err}"));
    (output.status.code(), report)
}

async fn assert_check(arguments: &[&str], status: i32, words: &str) -> Value {
    let (code, report) = check(arguments).await;
    let told = ["headline", "seen"].map(|key| report[key].as_str().expect("a text")).join(" ");
    assert_eq!(code, Some(status), "{report:#}");
    assert!(told.contains(words), "no `{words}` in {report:#}");
    report
}

/// The statuses of `check`.
const NONE: i32 = 0;
const SERVER: i32 = 14;
const APPLICATION: i32 = 15;

#[test]
fn statuses_and_contents_are_judged() {
    run(async {
        let url = page(|request| match request.split(' ').nth(1).unwrap_or_default() {
            "/502" => answer(502, "", "Bad Gateway"),
            "/404" => answer(404, "", "nothing here"),
            "/empty" => answer(200, "", ""),
            "/login" => answer(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", "who are you?"),
            "/mine" if request.to_lowercase().contains("authorization: basic ywrhonm=") => fine(),
            "/mine" => answer(401, "", "no"),
            _ => fine(),
        })
        .await;
        assert_check(&[&url], NONE, "answered with 200").await;
        assert_check(&[&url, "--expect", "Welcome to the shop"], NONE, "").await;
        assert_check(&[&url, "--expect", "Goodbye"], APPLICATION, "`Goodbye` is not in").await;
        assert_check(&[&format!("{url}502")], APPLICATION, "502").await;
        assert_check(&[&format!("{url}404")], APPLICATION, "no such page").await;
        assert_check(&[&format!("{url}empty")], APPLICATION, "is empty").await;
        let report = assert_check(&[&format!("{url}login")], NONE, "asks for a login").await;
        assert!(report["warnings"][0].as_str().is_some_and(|text| text.contains("login")), "{report:#}");
        let with_login = url.replace("http://", "http://ada:s@");
        let report = assert_check(&[&format!("{with_login}mine")], NONE, "").await;
        assert!(!report.to_string().contains("ada"), "{report:#}");
        let wrong = url.replace("http://", "http://ada:wrong@");
        assert_check(&[&format!("{wrong}mine")], APPLICATION, "user or the password").await;
    });
}

#[test]
fn redirects_are_followed_as_a_browser_follows_them() {
    run(async {
        let gone = crate::harness::free_address();
        let url = page(move |request| {
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let to = |place: &str| answer(302, &format!("Location: {place}\r\n"), "");
            match path.as_str() {
                "/once" => to("/"),
                "/circle" => to("/circle2"),
                "/circle2" => to("/circle"),
                "/dead" => to(&format!("http://{gone}/")),
                "/nowhere" => answer(301, "", "over there"),
                "/mail" => to("mailto:ada:secret@example.com"),
                "/nonsense" => to("http://[::1/"),
                "/cookie" if request.contains("seen=yes") => fine(),
                "/cookie" => answer(302, "Set-Cookie: seen=yes; Path=/\r\nLocation: /cookie\r\n", ""),
                path => match path.strip_prefix("/count/").and_then(|count| count.parse::<u32>().ok()) {
                    Some(count) => to(&format!("/count/{}", count + 1)),
                    None => fine(),
                },
            }
        })
        .await;
        let at = |path: &str| format!("{url}{path}");
        let report = assert_check(&[&at("once")], NONE, "answered with 200").await;
        assert_eq!(report["http"]["redirects"], 1);
        assert_check(&[&at("cookie")], NONE, "answered with 200").await;
        assert_check(&[&at("circle")], APPLICATION, "in a circle").await;
        assert_check(&[&at("count/1")], APPLICATION, "After 10 redirects").await;
        assert_check(&[&at("dead")], SERVER, "leads to").await;
        let report = assert_check(&[&at("mail")], APPLICATION, "no web address").await;
        assert!(!report.to_string().contains("secret"), "{report:#}");
        assert_check(&[&at("nonsense")], APPLICATION, "no web address").await;
        assert_check(&[&at("nowhere")], APPLICATION, "redirects, and not to anywhere").await;
        let long = format!("http://{}.invalid/", "a".repeat(70));
        let nobody = ["--resolver", "none", "--reference", "none"];
        assert_check(&[&[long.as_str()][..], &nobody].concat(), 12, "no name that DNS can hold").await;
    });
}

#[test]
fn servers_that_break_the_rules_are_named_and_hold_nobody_up() {
    run(async {
        let say = |text: &str| vec![Act::Say(text.as_bytes().to_vec())];
        let cases: Vec<(Vec<Act>, i32, &str)> = vec![
            (vec![], SERVER, "without an answer"),
            (vec![Act::Hang], APPLICATION, "does not answer"),
            (say("SSH-2.0-OpenSSH_9.2\r\n"), SERVER, "no web server"),
            (say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), APPLICATION, "breaks off"),
            (
                vec![Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()), Act::Hang],
                APPLICATION,
                "does not come to its end",
            ),
            (
                say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nwhich"),
                SERVER,
                "no web server",
            ),
            (say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), APPLICATION, "breaks off"),
            (
                vec![
                    Act::Say(b"HTTP/1.1 200 OK\r\n".to_vec()),
                    Act::SayForEver([b"X-Filler: ", &[b'x'; 1000][..], b"\r\n"].concat()),
                ],
                APPLICATION,
                "header",
            ),
            (
                vec![Act::Say(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Act::SayForEver(vec![b'x'; 65_536])],
                NONE,
                "answered with 200",
            ),
            (
                vec![
                    Act::Say(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec(),
                    ),
                    Act::Hang,
                ],
                NONE,
                "answered with 200",
            ),
            (
                vec![Act::SayForEver(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())],
                APPLICATION,
                "does not answer",
            ),
            (
                say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
                APPLICATION,
                "empty",
            ),
        ];
        let mut checks = tokio::task::JoinSet::new();
        for (acts, status, words) in cases {
            checks.spawn(async move {
                let acts = std::sync::Mutex::new(Some(acts));
                let url = page(move |_| acts.lock().expect("no panic").take().unwrap_or_default()).await;
                let report = assert_check(&[&url, "--timeout", "4s", "--slow", "1s"], status, words).await;
                // By its own clock, because the process itself waits for its turn on a busy machine.
                assert!(report["took_ms"].as_f64() < Some(20_000.0), "{report:#}");
            });
        }
        checks.join_all().await;
    });
}

#[test]
fn what_is_no_tls_or_no_whole_one_is_named() {
    run(async {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let home = Home::new();
        let authority = Authority::new("Known");
        let ca = home.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).expect("a file");
        let listener = listen().await;
        let url = format!("https://{}/", listener.local_addr().expect("its address"));
        let leaf = Leaf { host: "127.0.0.1", days: (-1, 80), shown: Shown::Chain };
        serve(listener, Some(authority.server(&leaf)), |_| fine());
        let report =
            assert_check(&[&url, "--ca", ca.to_str().expect("UTF-8")], NONE, "answered with 200").await;
        assert_eq!(report["certificate"]["names"][0], "127.0.0.1");
        assert_check(&[&url], SERVER, "nobody that is known").await;

        // The alert `handshake_failure`, as a server sends it that wants a cipher of long ago.
        let alert = vec![Act::Say(vec![0x15, 0x03, 0x03, 0, 2, 2, 40])];
        for (acts, words) in [
            (alert, "no common version of TLS"),
            (vec![], "closes the connection at once"),
            (vec![Act::Hang], "then says nothing"),
            (vec![Act::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())], "does not speak HTTPS"),
        ] {
            let listener = listen().await;
            let url = format!("https://{}/", listener.local_addr().expect("its address"));
            let acts = std::sync::Mutex::new(Some(acts));
            serve(listener, None, move |_| acts.lock().expect("no panic").take().unwrap_or_default());
            assert_check(&[&url, "--timeout", "4s"], SERVER, words).await;
        }
    });
}

#[test]
fn a_wrong_command_line_says_what_to_write() {
    run(async {
        let home = Home::new();
        for (arguments, words) in [
            (vec!["check", "ftp://ada:secret@example.com/"], "https://shop.example.com/"),
            (vec!["check", "https://ada:secret@example.com:99999/"], "is no address of a page"),
            (vec!["check", ""], "there is no address"),
            (vec!["check", "localhost", "--ca", "/nonexistent"], "PEM"),
            (vec!["check", "localhost", "--timeout", "15"], "needs a unit"),
            (vec!["check", "localhost", "--timeout", "1h"], "from 1s to 5m"),
            (vec!["check", "localhost", "--resolver", "dns.example"], "9.9.9.9"),
            (vec!["check", "localhost", "--reference", "1.1.1.1"], "1.1.1.1:443"),
        ] {
            let output = once(&home, &arguments).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
            assert!(said.contains(words) && !said.contains("secret"), "{arguments:?}: {said}");
        }
    });
}
