//! The HTTP probe in depth: answers that are good and bad for more than their status, as a person would judge them.

use mainstay_model::input::LookUpFailure;

use super::*;
use crate::config::Secret;
use crate::config::probe::{Demand, Expect, HttpProbe, JsonTest};

async fn looked(address: SocketAddr, probe: HttpProbe, root: Option<&Root>) -> Looked {
    probe_by(address, ProbeSpec::Http(probe), root).await
}

async fn told(answer: &'static str, probe: HttpProbe) -> String {
    match looked(answers(answer.as_bytes()).await, probe, None).await {
        Ok(ProbeAnswer { status, warning: None, .. }) => format!("good: {}", status.unwrap_or_default()),
        Ok(ProbeAnswer { warning: Some(warning), .. }) => format!("warns: {warning}"),
        Err(failure) => failure.to_string(),
    }
}

fn demands(demand: Demand) -> HttpProbe {
    HttpProbe { demands: vec![demand], ..HttpProbe::default() }
}

fn body(text: &str, present: bool) -> HttpProbe {
    demands(Demand::Body { expect: Expect::Text(text.to_owned()), present })
}

fn json(at: &str, test: JsonTest) -> HttpProbe {
    demands(Demand::Json { at: at.to_owned(), test })
}

fn header(name: &str, contains: &str) -> HttpProbe {
    demands(Demand::Header { name: name.to_owned(), contains: contains.to_owned() })
}

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"db\": {\"ok\": true}, \"queues\": [{\"depth\": 12}], \"v\": \"3\"}";
const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\nAn error occurred";

#[tokio::test]
async fn an_answer_must_have_in_it_what_is_asked_for() {
    let pattern = || Expect::Pattern(regex::bytes::Regex::new("(?i)ERROR").unwrap());
    let rows = [
        (PAGE, body("occurred", true), "good: 200"),
        (PAGE, body("Welcome", true), "answered status 200 without \"Welcome\""),
        (PAGE, body("error", false), "answered status 200 with \"error\" in it"),
        (
            PAGE,
            demands(Demand::Body { expect: pattern(), present: false }),
            "answered status 200 with \"(?i)ERROR\" in it",
        ),
        (PAGE, header("content-type", "html"), "good: 200"),
        (PAGE, header("content-type", "json"), "answered with content-type: text/html, not \"json\""),
        (PAGE, header("x-release", ""), "answered without the header x-release"),
        (PAGE, HttpProbe { status: vec![204..=204], ..HttpProbe::default() }, "answered status 200"),
        (PAGE, HttpProbe { size_max: Some(17), ..HttpProbe::default() }, "good: 200"),
        (
            PAGE,
            HttpProbe { size_max: Some(16), ..HttpProbe::default() },
            "answered with more than 16 bytes (size-max)",
        ),
        (PAGE, json("db", JsonTest::Present), "answered with something else than JSON"),
        (JSON, json("db.ok", JsonTest::Is("true".into())), "good: 200"),
        (JSON, json("db.ok", JsonTest::Is("yes".into())), "answered db.ok = true and not yes"),
        (JSON, json("v", JsonTest::Not("3".into())), "answered v = 3"),
        (JSON, json("queues.0.depth", JsonTest::Between(None, Some(100.0))), "good: 200"),
        (
            JSON,
            json("queues.0.depth", JsonTest::Between(None, Some(10.0))),
            "answered queues.0.depth = 12, more than 10",
        ),
        (JSON, json("v", JsonTest::Between(Some(4.0), None)), "answered v = 3, less than 4"),
        (
            JSON,
            json("db", JsonTest::Between(Some(4.0), None)),
            "answered db = {\"ok\":true}, which is no number",
        ),
        (JSON, json("queues.1", JsonTest::Present), "answered JSON without queues.1"),
        (JSON, json("queues.1", JsonTest::Absent), "good: 200"),
        (JSON, json("v", JsonTest::Absent), "answered v = 3, which should not be there"),
    ];
    for (answer, probe, wanted) in rows {
        assert_eq!(told(answer, probe.clone()).await, wanted, "{probe:?}");
    }
}

#[tokio::test]
async fn a_health_document_says_which_part_fails() {
    let plain = HttpProbe::default;
    let document = || HttpProbe { document: true, ..HttpProbe::default() };
    for (answer, probe, wanted) in [
        (
            "HTTP/1.1 503 Oh\r\ncontent-type: application/json\r\n\r\n{\"status\":\"DOWN\",\"components\":{\"db\":{\"status\":\"DOWN\",\"details\":{\"error\":\"refused\"}}}}",
            plain(),
            "answered status 503: db is DOWN: refused",
        ),
        (
            "HTTP/1.1 500 Oh\r\ncontent-type: text/plain\r\n\r\n[+]ping ok\n[-]etcd failed: withheld\n",
            plain(),
            "answered status 500: etcd failed: withheld",
        ),
        (
            "HTTP/1.1 500 Oh\r\ncontent-type: text/html\r\n\r\n{\"status\":\"DOWN\"}",
            plain(),
            "answered status 500",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/health+json\r\n\r\n{\"status\":\"fail\",\"output\":\"no disk\"}",
            plain(),
            "answered status 200, but its health is fail: no disk",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"status\":\"error\"}",
            plain(),
            "good: 200",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"status\":\"error\"}",
            document(),
            "answered status 200, but its health is error",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"status\":\"warn\",\"checks\":{\"disk\":[{\"status\":\"warn\"}]}}",
            document(),
            "warns: disk is warn",
        ),
    ] {
        assert_eq!(told(answer, probe).await, wanted, "{answer}");
    }
    // Why it is bad is not waited for as long as the probe may take.
    let never = server(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-type: application/json\r\n\r\n{").await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(looked(never, plain(), None).await, Err(ProbeFailure::Status(500)));
}

#[tokio::test]
async fn the_request_is_the_one_that_was_written() {
    let (heads, mut head) = mpsc::channel(1);
    let address = server(move |mut stream| {
        let heads = heads.clone();
        async move {
            let head = read_head(&mut stream).await;
            let mut body = [0; 4];
            stream.read_exact(&mut body).await.unwrap();
            heads.send((head, body)).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let probe = HttpProbe {
        path: "/rpc".to_owned(),
        method: "POST".to_owned(),
        body: Some("ping".to_owned()),
        headers: vec![
            ("X-Probe".to_owned(), Secret::new("1".to_owned())),
            ("authorization".to_owned(), Secret::new("Bearer s3cret".to_owned())),
        ],
        ..HttpProbe::default()
    };
    assert!(!format!("{probe:?}").contains("s3cret"));
    let answer = looked(address, probe, None).await.unwrap();
    let said = answer.said.unwrap();
    assert!(said.starts_with("connect ") && said.contains("first byte ") && said.contains("rest "), "{said}");
    let (head, body) = head.recv().await.unwrap();
    assert!(head.starts_with("POST /rpc HTTP/1.1\r\n") && &body == b"ping", "{head}");
    for line in ["x-probe: 1\r\n", "authorization: Bearer s3cret\r\n", "content-length: 4\r\n"] {
        assert!(head.contains(line), "{head}");
    }
}

#[tokio::test]
async fn redirects_are_followed_on_the_server_and_nowhere_else() {
    let address = server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let to = match head.split(' ').nth(1).unwrap() {
            "/" => "/in/next#part".to_owned(),
            "/in/next" => format!("http://{}/in/deep?x=1", stream.local_addr().unwrap()),
            "/in/deep?x=1" => "?x=2".to_owned(),
            "/in/deep?x=2" => "../end".to_owned(),
            "/end" => return stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap(),
            "/away" => "https://elsewhere.example/login".to_owned(),
            "/nowhere" => return stream.write_all(b"HTTP/1.1 302 Found\r\n\r\n").await.unwrap(),
            _ => "/circle".to_owned(),
        };
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let ask = async |path: &str, follow| {
        let probe = HttpProbe { path: path.to_owned(), follow, ..HttpProbe::default() };
        match looked(address, probe, None).await {
            Ok(answer) => answer.status.unwrap_or_default().to_string(),
            Err(failure) => failure.to_string(),
        }
    };
    assert_eq!(ask("/", true).await, "204");
    assert_eq!(ask("/", false).await, "302");
    assert_eq!(ask("/away", true).await, "redirects to https://elsewhere.example/login, which is elsewhere");
    assert_eq!(ask("/circle", true).await, "redirects more than 5 times, at last to /circle");
    assert_eq!(ask("/nowhere", true).await, "answered status 302 without saying where to");
}

/// A server that leads on by redirects as `leads` says, or answers 200, and tells what it was asked.
async fn leading(leads: impl Fn(&str) -> Option<String> + Clone + Send + 'static) -> (SocketAddr, Heads) {
    let heads = Heads::default();
    let told = heads.clone();
    let address = server(move |mut stream| {
        let (told, leads) = (told.clone(), leads.clone());
        async move {
            let head = read_head(&mut stream).await;
            let to = leads(head.split(' ').nth(1).unwrap());
            told.lock().unwrap().push(head);
            let answer = match to {
                Some(to) => format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"),
                None => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    (address, heads)
}

type Heads = Arc<Mutex<Vec<String>>>;

/// A monitor of `address`, which follows redirects and shows a secret; every name leads to this machine.
async fn monitored(address: SocketAddr, path: &str, tls: Option<ServerTls>) -> ProbeReport {
    let spec = ProbeSpec::Http(HttpProbe {
        path: path.to_owned(),
        host: Some(format!("first.test:{}", address.port())),
        headers: vec![("authorization".to_owned(), Secret::new("Bearer abc".to_owned()))],
        follow: true,
        ..HttpProbe::default()
    });
    let id = MonitorId::new("site".to_owned());
    let order = ProbeOrder { target: id.clone().into(), ..order(address, spec.kind(), LONG) };
    let watched = Watched { spec: Some(Arc::new(spec)), tls: tls.map(Arc::new), ..Watched::default() };
    let settings = Settings {
        monitors: Arc::new([(id, watched)].into()),
        names: Names(Arc::new(|host, _| {
            Box::pin(async move {
                match &*host {
                    "gone.test" => Err(LookUpFailure::NoSuchName),
                    _ => Ok(vec!["127.0.0.1".parse().unwrap()]),
                }
            })
        })),
        ..Settings::default()
    };
    look(order, &settings).await
}

#[tokio::test]
async fn a_monitor_goes_along_to_another_host_and_leaves_its_secrets_behind() {
    let (second, asked) = leading(|path| (path == "/in").then(|| "/home?x=1".to_owned())).await;
    let to = format!("http://second.test:{}/in", second.port());
    let (first, at_first) = leading(move |path| match path {
        "/" => Some("/own".to_owned()),
        _ => Some(to.clone()),
    })
    .await;
    assert_eq!(monitored(first, "/", None).await.result.unwrap().status, Some(200));
    assert!(at_first.lock().unwrap().iter().all(|head| head.contains("authorization: Bearer abc\r\n")));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked[0].starts_with("GET /in HTTP/1.1\r\n") && asked[1].starts_with("GET /home?x=1 HTTP/1.1\r\n")
    );
    for head in asked {
        assert!(head.contains(&format!("host: second.test:{}\r\n", second.port())), "{head}");
        assert!(!head.contains("Bearer"), "{head}");
    }
}

#[tokio::test]
async fn a_monitor_that_fails_elsewhere_says_where() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sick = answers(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
    let to = move |path: &str| {
        Some(match path {
            "/gone" => "http://gone.test/".to_owned(),
            "/refused" => format!("http://second.test:{}/", gone.port()),
            "/sick" => format!("http://second.test:{}/", sick.port()),
            _ => "/round".to_owned(),
        })
    };
    let (first, _) = leading(to).await;
    let failure = async |path| monitored(first, path, None).await.result.unwrap_err();
    let name = "redirects to http://gone.test/: gone.test does not exist in DNS (NXDOMAIN)";
    assert_eq!(failure("/gone").await, ProbeFailure::Name(name.to_owned()));
    let refused = format!("redirects to http://second.test:{}/: connection refused", gone.port());
    assert_eq!(failure("/refused").await, ProbeFailure::Answer(refused));
    assert_eq!(failure("/sick").await, ProbeFailure::Status(503));
    let sample = monitored(first, "/sick", None).await.sample.expect("what was answered");
    assert_eq!(sample.asked, format!("GET second.test:{}/", sick.port()));
    let round = "redirects more than 5 times, at last to /round";
    assert_eq!(failure("/round").await, ProbeFailure::Answer(round.to_owned()));
}

#[tokio::test]
async fn a_monitor_goes_along_to_https_and_verifies_who_is_there() {
    let root = Root::new();
    let acceptor = root.acceptor();
    let secure = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    })
    .await;
    let (first, _) = leading(move |path| Some(format!("https://{}:{}/", &path[1..], secure.port()))).await;
    let tls = ServerTls { name: None, ..(*root.trusted()).clone() };
    let good = monitored(first, "/app.internal", Some(tls.clone())).await;
    assert_eq!(good.result.unwrap().status, Some(204));
    assert!(good.phases.secured.is_some());
    let other = monitored(first, "/second.test", Some(tls)).await.result.unwrap_err();
    assert!(matches!(other, ProbeFailure::Certificate(_)), "{other:?}");
    let start = format!("redirects to https://second.test:{}/, which shows a certificate", secure.port());
    assert!(other.to_string().starts_with(&start), "{other}");
}

#[tokio::test]
async fn a_failed_look_keeps_what_was_answered_and_when() {
    let kept = async |answer: &'static [u8]| {
        let kind = ProbeKind::Http { path: "/health".to_owned(), host: None };
        probe(answers(answer).await, kind, SHORT).await
    };
    let report = kept(
        b"HTTP/1.1 503 No\r\nset-cookie: s=1\r\nx-why: db\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\nsick",
    )
    .await;
    assert_eq!(report.result, Err(ProbeFailure::Status(503)));
    let sample = report.sample.expect("an answer was kept");
    assert_eq!((sample.asked.as_str(), sample.status), ("GET /health", Some(503)));
    assert_eq!(
        sample.headers,
        "set-cookie: (not kept)\nx-why: db\ncontent-type: text/html\ncontent-length: 4\n"
    );
    assert_eq!((sample.body.as_str(), sample.cut), ("sick", false));
    assert!(sample.phases.connected < sample.phases.first_byte, "{:?}", sample.phases);
    assert!(sample.phases.first_byte <= sample.phases.last_byte, "{:?}", sample.phases);

    // The answer broke off, though its status was good.
    let report = kept(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf of").await;
    let how = "answered status 200 and broke off after 7 of 99 bytes".to_owned();
    assert_eq!(report.result, Err(ProbeFailure::BrokenOff(how)));
    let sample = report.sample.expect("what came of it was kept");
    assert_eq!((sample.status, sample.body.as_str(), sample.cut), (Some(200), "half of", true));

    let report = kept(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert!(report.result.is_ok());
    assert_eq!(report.sample, None);
    assert!(report.phases.last_byte.is_some());
}

#[tokio::test]
async fn a_look_that_nobody_answers_says_how_far_it_came() {
    let silent = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        tokio::time::sleep(LONG).await;
    })
    .await;
    let kind = || ProbeKind::Http { path: "/".to_owned(), host: None };
    let report = probe(silent, kind(), SHORT).await;
    assert_eq!(report.result, Err(ProbeFailure::AnswerTimeout));
    let sample = report.sample.expect("it was connected");
    assert_eq!((sample.asked.as_str(), sample.status), ("GET /", None));
    assert!(sample.phases.connected.is_some() && sample.phases.first_byte.is_none());

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let report = probe(nobody, kind(), SHORT).await;
    assert_eq!((report.result, report.sample), (Err(ProbeFailure::Refused), None));
}

#[tokio::test]
async fn a_late_answer_warns_with_its_phases() {
    let address = answers(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let slow = |after| HttpProbe { slow_after: Some(after), ..HttpProbe::default() };
    let warning = looked(address, slow(Duration::ZERO), None).await.unwrap().warning.unwrap();
    assert!(warning.starts_with("answers later than slow-after = 0s: connect "), "{warning}");
    assert_eq!(looked(address, slow(LONG), None).await.unwrap().warning, None);
}

#[tokio::test]
async fn a_certificate_must_be_good_for_long_enough() {
    let root = Root::new();
    let acceptor = root.acceptor();
    let address = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    })
    .await;
    let ask = async |certificate_min| {
        let spec =
            ProbeSpec::Http(HttpProbe { certificate_min: Some(certificate_min), ..HttpProbe::default() });
        let service = ServiceId::new("shop");
        let tls = [(service.clone(), root.trusted())].into();
        let settings = Settings {
            tls: Arc::new(tls),
            probes: [(service, Arc::new(spec.clone()))].into(),
            ..Settings::default()
        };
        look(ProbeOrder { tls: true, ..order(address, spec.kind(), LONG) }, &settings).await.result
    };
    let answer = ask(Duration::from_secs(3600)).await.unwrap();
    assert!(answer.said.is_some_and(|said| said.contains(", TLS ")));
    let year = Duration::from_secs(365 * 86_400);
    let Err(ProbeFailure::Certificate(why)) = ask(year * 90_000).await else { panic!("it is good for ever") };
    assert!(
        why.starts_with("shows a certificate that is good for ") && why.contains("certificate-min"),
        "{why}"
    );
}

#[tokio::test]
async fn a_server_of_http_2_is_judged_by_the_same_rules() {
    let (address, asked) = http2_server(200).await;
    let ask = async |probe: HttpProbe| {
        let spec = ProbeSpec::Http(HttpProbe { path: "/x".to_owned(), ..probe });
        let settings = Settings {
            probes: [(ServiceId::new("shop"), Arc::new(spec.clone()))].into(),
            ..Settings::default()
        };
        let order = ProbeOrder { protocol: Protocol::Http2, ..order(address, spec.kind(), LONG) };
        words(&look(order, &settings).await.result)
    };
    assert!(ask(body("well", true)).await.starts_with("good: connect "));
    assert_eq!(ask(body("ill", true)).await, "answered status 200 without \"ill\"");
    assert!(asked.lock().unwrap().iter().all(|uri| uri.ends_with("/x")));
}
