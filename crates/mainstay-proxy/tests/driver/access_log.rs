//! The access log: a line for each request, however it ended, with what the client and the server saw.

use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_proxy::access::{AccessLog, Destination, Format};
use serde_json::Value;

use crate::http2::with_plain_client;
use crate::support::{Gate, Origin, PATIENCE, Refusing, Rig, Then, carriage, eventually, get, ok, table};

/// A log in a file of its own.
pub struct Log {
    path: PathBuf,
    log: Arc<AccessLog>,
}

impl Log {
    pub fn new(name: &str, format: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mainstay-driver-{}-{name}.log", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let format = Format::parse(format).expect("a format");
        let log = AccessLog::open(Destination::File(path.clone()), format).expect("a file");
        Self { path, log }
    }

    pub fn log(&self) -> Arc<AccessLog> {
        Arc::clone(&self.log)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).expect("the log")
    }

    /// So many lines, waited for.
    pub fn lines(&self, n: usize) -> Vec<Value> {
        eventually("the lines", || self.text().matches('\n').count() >= n);
        let lines: Vec<Value> =
            self.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), n, "{lines:?}");
        lines
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn logged(table: mainstay_model::routing::RoutingTable, log: &Log) -> Rig {
    Rig::with(table, |settings| settings.access_log = Some(Arc::clone(&log.log)))
}

pub fn texts<'v>(line: &'v Value, names: &[&str]) -> Vec<&'v str> {
    names.iter().map(|name| line[*name].as_str().unwrap_or("")).collect()
}

#[test]
fn each_request_of_a_connection_has_a_line_with_its_own_bytes_and_the_id_that_everybody_saw() {
    let origin = Origin::of("hello");
    let log = Log::new("bytes", "json");
    let rig = logged(table(&[origin.address]), &log);
    let mut wire = rig.connect();
    let asked = "GET /a?b=c HTTP/1.1\r\nHost: Shop:80\r\nUser-Agent: test \"1\"\r\nReferer: http://x/\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    wire.send(asked);
    let first = wire.answer().unwrap();
    let posted = "POST /p HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nContent-Length: 5\r\n\r\nabcde";
    wire.send(posted);
    let second = wire.answer().unwrap();
    let lines = log.lines(2);
    assert_eq!(
        texts(
            &lines[0],
            &["method", "host", "target", "protocol", "outcome", "service", "server", "visitor"]
        ),
        ["GET", "Shop:80", "/a?b=c", "HTTP/1.1", "answered", "shop", "a", "127.0.0.1"]
    );
    assert_eq!(
        texts(&lines[0], &["user_agent", "referer", "traceparent", "reason", "failures"]),
        ["test \"1\"", "http://x/", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "", ""]
    );
    assert_eq!(lines[0]["bytes_in"], asked.len());
    assert_eq!((&lines[0]["status"], &lines[0]["attempts"]), (&200.into(), &1.into()));
    assert_eq!((&lines[1]["bytes_in"], &lines[1]["method"]), (&posted.len().into(), &"POST".into()));
    let head = "HTTP/1.1 200 OK\r\nX-Request-Id: mine\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(lines[1]["bytes_out"], head.len());
    let (first_byte, whole) = (lines[0]["first_byte_ms"].as_f64(), lines[0]["duration_ms"].as_f64());
    assert!(first_byte > Some(0.0) && first_byte <= whole, "{first_byte:?} {whole:?}");
    let seen = origin.seen();
    for (line, answer, seen) in [(&lines[0], &first, &seen[0]), (&lines[1], &second, &seen[1])] {
        let id = line["request_id"].as_str();
        assert!(id.is_some_and(|id| id == "mine" || id.len() == 32), "{id:?}");
        assert_eq!(answer.header("x-request-id"), id);
        assert_eq!(seen.all("x-request-id"), [id.unwrap_or_default()]);
    }
    assert!(seen[0].all("traceparent").len() == 1, "it is passed on");
}

#[test]
fn a_retried_request_names_who_failed_and_why() {
    let (dead, origin) = (Refusing::new(), Origin::of("hello"));
    let log = Log::new("retried", "json");
    let rig = logged(table(&[dead.address, origin.address]), &log);
    assert_eq!(rig.get("/").status, 200);
    let line = &log.lines(1)[0];
    assert_eq!(texts(line, &["server", "failures", "outcome"]), ["b", "a:refused", "answered"]);
    assert_eq!(line["attempts"], 2);
}

#[test]
fn a_request_that_no_server_took_is_logged_with_the_page_that_it_got() {
    let dead = Refusing::new();
    let log = Log::new("nobody", "json");
    let rig = logged(table(&[dead.address]), &log);
    let answer = rig.get("/");
    let line = &log.lines(1)[0];
    assert_eq!(texts(line, &["failures", "outcome", "reason"]), ["a:refused", "failed", "no-server"]);
    assert_eq!((&line["status"], answer.status), (&503.into(), 503));
    assert_eq!(answer.header("x-request-id"), line["request_id"].as_str());
}

#[test]
fn what_is_refused_is_logged_by_the_name_of_the_refusal() {
    let origin = Origin::of("hello");
    let log = Log::new("refused", "json");
    let mut table = table(&[origin.address]);
    carriage(&mut table).hosts = vec!["a".to_owned()];
    let rig = logged(table, &log);
    rig.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    rig.ask("GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n");
    rig.ask("\u{7f}garbage\r\n\r\n");
    let lines = log.lines(3);
    let reasons: Vec<_> = lines.iter().map(|line| texts(line, &["outcome", "reason", "service"])).collect();
    assert_eq!(
        reasons,
        [
            ["refused", "doubled-host", ""],
            ["refused", "no-such-site", ""],
            ["refused", "control-character", ""]
        ]
    );
    assert_eq!(texts(&lines[0], &["method", "target"]), ["GET", "/"]);
    assert_eq!(lines[2]["method"], "\u{7f}garbage");
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_connection_too_many_has_a_line() {
    let origin = Origin::of("hello");
    let log = Log::new("too-many", "json");
    let rig = Rig::with(table(&[origin.address]), |settings| {
        settings.access_log = Some(Arc::clone(&log.log));
        settings.connections_max = 1;
    });
    let mut held = rig.connect();
    held.send(get("/"));
    held.answer().unwrap();
    rig.connect().rest().unwrap();
    let lines = log.lines(2);
    assert_eq!(texts(&lines[1], &["visitor", "reason"]), ["127.0.0.1", "too-many-connections"]);
}

#[test]
fn a_visitor_who_goes_away_is_told_from_a_server_that_breaks_off() {
    let gate = Gate::default();
    let origin = Origin::start({
        let gate = gate.clone();
        move |request, wire| {
            if request.path() == "/cut" {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                return Then::Close;
            }
            gate.wait();
            Then::Close
        }
    });
    let log = Log::new("gone", "json");
    let rig = logged(table(&[origin.address]), &log);
    let mut wire = rig.connect();
    wire.send(get("/gone"));
    eventually("the server has it", || origin.count() == 1);
    wire.stream.shutdown(Shutdown::Both).unwrap();
    let line = &log.lines(1)[0];
    assert_eq!((&line["status"], &line["outcome"]), (&499.into(), &"abandoned".into()));
    gate.open();
    let mut wire = rig.connect();
    wire.send(get("/cut"));
    wire.rest().unwrap();
    let line = &log.lines(2)[1];
    assert_eq!(line["status"], 200);
    assert_eq!(texts(line, &["outcome", "reason", "failures"]), ["failed", "truncated", "a:truncated"]);
}

#[test]
fn a_tunnel_has_one_line_at_its_end_with_all_its_bytes() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        let bytes = wire.exactly(5).unwrap();
        wire.send(bytes);
        Then::Close
    });
    let log = Log::new("tunnel", "json");
    let rig = logged(table(&[origin.address]), &log);
    let mut wire = rig.connect();
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    wire.send(asked);
    let head = wire.head().unwrap().expect("an answer").join("\r\n") + "\r\n\r\n";
    wire.send("hello");
    assert_eq!(wire.exactly(5).unwrap(), b"hello");
    drop(wire);
    let line = &log.lines(1)[0];
    assert_eq!((&line["status"], &line["outcome"]), (&101.into(), &"answered".into()));
    assert_eq!(line["bytes_in"], asked.len() + 5);
    assert_eq!(line["bytes_out"], head.len() + 5);
}

#[test]
fn another_log_takes_over_without_a_restart_and_a_template_is_followed() {
    let origin = Origin::start(|_, wire| {
        wire.send(ok("x"));
        Then::Continue
    });
    let (first, second) = (Log::new("first", "{method} {path}"), Log::new("second", "{target}"));
    let rig = logged(table(&[origin.address]), &first);
    rig.get("/one?q");
    eventually("the first line", || !first.text().is_empty());
    rig.set_access_log(Some(Arc::clone(&second.log)));
    rig.get("/two?q");
    rig.set_access_log(None);
    rig.get("/three");
    let (cut, _) = rig.finish(PATIENCE);
    eventually("the second line", || !second.text().is_empty());
    assert_eq!((cut, first.text().as_str(), second.text().as_str()), (0, "GET /one\n", "/two?q\n"));
}

#[test]
fn the_protocol_is_what_the_client_spoke() {
    let origin = Origin::of("hello");
    let log = Log::new("protocol", "json");
    let rig = logged(table(&[origin.address]), &log);
    assert_eq!(rig.get("/one").status, 200);
    with_plain_client(rig.address(), async |client| {
        assert_eq!(crate::http2::get(&client, "/two").await.unwrap().status(), 200);
    });
    let lines = log.lines(2);
    assert_eq!(texts(&lines[0], &["target", "protocol"]), ["/one", "HTTP/1.1"]);
    assert_eq!(texts(&lines[1], &["target", "protocol"]), ["/two", "HTTP/2.0"]);
}

#[test]
fn the_last_lines_are_written_before_a_drain_is_over() {
    let origin = Origin::of("hello");
    let log = Log::new("drain", "{outcome}");
    let rig = logged(table(&[origin.address]), &log);
    let mut wires: Vec<_> = (0..20).map(|_| rig.connect()).collect();
    for wire in &mut wires {
        wire.send(get("/"));
        wire.answer().unwrap();
    }
    rig.finish(Duration::from_secs(5));
    assert_eq!(log.text(), "answered\n".repeat(20));
}
