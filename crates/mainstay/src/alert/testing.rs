//! Peers for the tests of alerts: a real mail server (Debian's aiosmtpd), a webhook's receiver, and notices to send.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use mainstay_model::effect::{Notice, NoticeKind};
use mainstay_model::escalation::{Recipient, Way};
use mainstay_model::incident::{EntryKind, Severity, TimelineEntry, VisitorsSaw};
use mainstay_model::{IncidentId, ServiceId, Wall};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Attempted, Channel, Delivery, Report, webhook};
use crate::config::{EmailConfig, Secret, SmtpTls, WebhookConfig};

/// No condition that a test waits for takes nearly as long.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// 2026-11-22 08:26:08.123 UTC.
const BEGAN: i64 = 1_795_335_968_123;

pub(super) fn notice(incident: u64, kind: NoticeKind) -> Notice {
    let app = ServiceId::new("shop").server("app-2");
    let entry = |ms, kind, text: &str, times| TimelineEntry {
        at: Wall(BEGAN + ms),
        kind,
        server: Some(app.clone()),
        action: None,
        text: text.to_owned(),
        times,
        sample: None,
    };
    Notice {
        incident: IncidentId(incident),
        kind,
        severity: Severity::Degraded,
        title: "app-2 of shop was killed by SIGKILL".to_owned(),
        scope: "shop".to_owned(),
        began_at: Wall(BEGAN),
        at: Wall(BEGAN + 1_500),
        seen: VisitorsSaw { requests: 812, failed: 0, server_errors: 0, saved: 3, ..VisitorsSaw::default() },
        impact: mainstay_model::impact::Impact::default(),
        timeline: vec![
            entry(0, EntryKind::ProcessExited, "app-2 was killed by SIGKILL", 1),
            entry(17, EntryKind::TrafficFailed, "connection refused", 3),
            entry(18, EntryKind::Ejected, "app-2 is out of rotation", 1),
            entry(27, EntryKind::ActionBegun, "restart of app-2 begun", 1),
        ],
        advice: String::new(),
        to: vec![ops()],
        asked: Vec::new(),
        acknowledged_by: None,
        diagnosis: None,
        chain: None,
        affected: Vec::new(),
        last_change: None,
    }
}

/// A notice of now, so that it is not too old to be tried again.
pub(super) fn delivery(row: i64, channel: Channel, kind: NoticeKind) -> Delivery {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let at = Wall(i64::try_from(now.as_millis()).expect("a date"));
    let to = match channel {
        Channel::Email => Some(ops()),
        Channel::Sms => Some(ada()),
        Channel::Webhook => None,
    };
    Delivery { row, channel, to, notice: Notice { at, ..notice(7, kind) }, attempts: 0 }
}

pub(super) fn ops() -> Recipient {
    Recipient { way: Way::Email, address: "ops@example.com".to_owned(), name: "ops@example.com".to_owned() }
}

pub(super) fn night() -> Recipient {
    Recipient { address: "night@example.com".to_owned(), name: "Night <shift>".to_owned(), ..ops() }
}

pub(super) fn ada() -> Recipient {
    Recipient { way: Way::Sms, address: "+491701234567".to_owned(), name: "Ada".to_owned() }
}

/// The next thing that the deliverer says.
pub(super) async fn news(reports: &mut mpsc::Receiver<Report>) -> Report {
    tokio::time::timeout(DEADLINE, reports.recv()).await.expect("in time").expect("alerts live")
}

pub(super) async fn next(reports: &mut mpsc::Receiver<Report>) -> Attempted {
    match news(reports).await {
        Report::Attempted(attempted) => attempted,
        Report::Receipt(receipt) => panic!("an attempt was expected: {receipt:?}"),
    }
}

/// A mail server in a process of its own, ended with the test.
pub(super) struct MailServer {
    child: Child,
    pub(super) port: u16,
    lines: std::sync::mpsc::Receiver<Value>,
    pub(super) certificate: PathBuf,
    _dir: tempfile::TempDir,
}

impl MailServer {
    /// Options: `tls` (`implicit` or `starttls`), `login` (user, password), `fail_first` (messages answered 451), `answer`
    /// (to each message), `refuse` and `later` (recipients answered 550, and 451 the first time), `stall`, `port`.
    pub(super) fn start(options: Value) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let certificate = make_certificate(dir.path());
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", MAIL_SERVER, &options.to_string()])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian's python3 is at /usr/bin/python3");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (tell, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).expect("a line of JSON"));
            }
        });
        let ready: Value = lines.recv_timeout(DEADLINE).expect("install Debian's package python3-aiosmtpd");
        let port = ready["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        Self { child, port, lines, certificate, _dir: dir }
    }

    /// The next thing that the server tells: `{"to", "data", "tls", "login"}` of a message, or `{"event"}`.
    pub(super) async fn told(&self) -> Value {
        let start = Instant::now();
        loop {
            if let Ok(line) = self.lines.try_recv() {
                return line;
            }
            assert!(start.elapsed() < DEADLINE, "the mail server was told nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything that it was told and nobody asked for yet.
    pub(super) fn more(&self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }

    pub(super) fn config(&self, tls: SmtpTls) -> EmailConfig {
        EmailConfig {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls,
            login: None,
            ca: Some(self.certificate.clone()),
            from: "mainstay@example.com".to_owned(),
        }
    }

    pub(super) fn login(&self, tls: SmtpTls, user: &str, password: &str) -> EmailConfig {
        let login = Some((user.to_owned(), Secret::new(password.to_owned())));
        EmailConfig { login, ..self.config(tls) }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A header of a message, unfolded.
pub(super) fn header(message: &Value, name: &str) -> Option<String> {
    let data = message["data"].as_str().expect("a message").replace("\r\n ", " ");
    let head = data.split("\r\n\r\n").next().expect("a head");
    let prefix = format!("{name}: ");
    head.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

fn make_certificate(dir: &Path) -> PathBuf {
    let certificate = dir.join("cert.pem");
    let output = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=mail"
                .split(' '),
        )
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("install Debian's package openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    certificate
}

/// Tells each message as a line of JSON; ends with its standard input, so also when the test is killed.
const MAIL_SERVER: &str = r#"
import asyncio, json, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult

options, folder = json.loads(sys.argv[1]), sys.argv[2]
left = {"fail": options.get("fail_first", 0), "later": list(options.get("later", []))}

def tell(**what):
    print(json.dumps(what), flush=True)

def authenticate(server, session, envelope, mechanism, data):
    user, password = options["login"]
    right = (data.login, data.password) == (user.encode(), password.encode())
    return AuthResult(success=right, handled=False)

class Handler:
    async def handle_RCPT(self, server, session, envelope, address, _):
        if address in options.get("refuse", []):
            return "550 5.1.1 no such user here"
        if address in left["later"]:
            left["later"].remove(address)
            return "451 4.7.1 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if options.get("stall"):
            tell(event="stalling")
            await asyncio.sleep(3600)
        if left["fail"] > 0:
            left["fail"] -= 1
            tell(event="451")
            return "451 4.3.0 try again later"
        if "answer" in options:
            return options["answer"]
        tell(to=envelope.rcpt_tos, data=envelope.content.decode(), tls=server.transport.get_extra_info("ssl_object") is not None,
             login=session.authenticated)
        return "250 OK"

async def main():
    context = None
    if "tls" in options:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
    starttls = context if options.get("tls") == "starttls" else None
    implicit = context if options.get("tls") == "implicit" else None
    login = "login" in options
    loop = asyncio.get_running_loop()
    factory = lambda: SMTP(Handler(), loop=loop, hostname="mail.test", tls_context=starttls,
        require_starttls=starttls is not None, auth_required=login, auth_require_tls=starttls is not None,
        authenticator=authenticate if login else None)
    server = await loop.create_server(factory, "127.0.0.1", options.get("port", 0), ssl=implicit)
    tell(port=server.sockets[0].getsockname()[1])
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()

asyncio.run(main())
"#;

/// What a webhook's receiver was called with.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) path: String,
    pub(super) id: String,
    pub(super) signed: bool,
    pub(super) body: Value,
}

/// A webhook's receiver, which answers by its path: `/ok`, `/500-then-ok`, `/gone`, `/moved`, `/slow` (when it is let
/// go), `/stall`, `/huge`.
pub(super) struct Receiver {
    address: SocketAddr,
    pub(super) calls: mpsc::Receiver<Call>,
    secret: Vec<u8>,
    pub(super) let_go: Arc<tokio::sync::Notify>,
}

struct Receiving {
    let_go: Arc<tokio::sync::Notify>,
    calls: mpsc::Sender<Call>,
    secret: Vec<u8>,
    failed: std::sync::atomic::AtomicBool,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        let secret = b"a secret of sixteen bytes or more".to_vec();
        let (tell, calls) = mpsc::channel(64);
        let let_go = Arc::<tokio::sync::Notify>::default();
        let state =
            Receiving { let_go: let_go.clone(), calls: tell, secret: secret.clone(), failed: false.into() };
        let router = Router::new().fallback(receive).with_state(Arc::new(state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, calls, secret, let_go }
    }

    pub(super) fn config(&self, path: &str) -> WebhookConfig {
        WebhookConfig { url: format!("http://{}{path}", self.address), secret: Some(self.secret.clone()) }
    }

    pub(super) async fn call(&mut self) -> Call {
        tokio::time::timeout(DEADLINE, self.calls.recv()).await.expect("in time").expect("it lives")
    }
}

async fn receive(State(state): State<Arc<Receiving>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let id = header("webhook-id");
    let expected = webhook::signature(&state.secret, &id, &header("webhook-timestamp"), &body);
    let signed = header("webhook-signature") == expected;
    let body = serde_json::from_slice(&body).unwrap_or(json!("not JSON"));
    let call = Call { path: uri.path().to_owned(), id, signed, body };
    state.calls.send(call).await.expect("the test listens");
    match uri.path() {
        "/ok" => StatusCode::NO_CONTENT.into_response(),
        "/500-then-ok" if !state.failed.swap(true, std::sync::atomic::Ordering::Relaxed) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the database\nis away").into_response()
        }
        "/500-then-ok" => StatusCode::OK.into_response(),
        "/gone" => StatusCode::GONE.into_response(),
        "/moved" => (StatusCode::FOUND, [("location", "/ok")]).into_response(),
        "/slow" => {
            state.let_go.notified().await;
            StatusCode::OK.into_response()
        }
        "/stall" => std::future::pending().await,
        "/huge" => {
            let endless = tokio_stream::iter(std::iter::repeat_with(|| {
                Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 65_536]))
            }));
            (StatusCode::BAD_REQUEST, Body::from_stream(endless)).into_response()
        }
        path => panic!("unknown path {path}"),
    }
}
