//! Servers and clients for the tests: plain blocking sockets, so that every byte on the wire is the test's own.

use std::future::Future as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mainstay_model::carriage::Carriage;
use mainstay_model::input::{ServerTraffic, ServiceTraffic, TrafficFailure, TrafficReport};
use mainstay_model::policy::Balance;
use mainstay_model::request::RequestRecord;
use mainstay_model::routing::{RoutedService, RoutingMode, RoutingTable, Target};
use mainstay_model::sample::TrafficSample;
use mainstay_model::{Endpoint, ServerId, ServiceId};
use mainstay_proxy::{Listen, Proxy, Report, Settings, StartError, Unusual};
use tokio::sync::mpsc;

/// The longest that anything in a test may take; generous, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A loopback address of one's own, with a port for the kernel to choose: a port that was given up is soon another test's, and
/// whoever asks whether nobody listens there any more would be answered by that.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, a, b, c] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddr::from(([127, a + 1, b, c], 0))
}

/// A door that stays shut until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
    }
}

/// A request as a server read it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How many requests its connection had carried before.
    pub nth: usize,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

/// A connection read with a memory of what was read too far.
pub struct Wire {
    pub stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    /// The same over a Unix socket: what is read and written is the same whatever the descriptor is.
    pub fn unix(stream: UnixStream) -> Self {
        Self::new(TcpStream::from(OwnedFd::from(stream)))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut buf = [0; 64 * 1024];
        let n = self.stream.read(&mut buf)?;
        self.ahead.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    /// A head's lines, without the empty one; `None` at the end of the stream.
    pub fn head(&mut self) -> io::Result<Option<Vec<String>>> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.ahead.drain(..end + 4);
                return Ok(Some(text.split("\r\n").map(str::to_owned).collect()));
            }
            if self.more()? == 0 {
                return Ok(None);
            }
        }
    }

    pub fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < n {
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.ahead.drain(..n).collect())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let text = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.ahead.drain(..end + 2);
                return Ok(text);
            }
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).expect("a chunk's size");
            body.extend(self.exactly(size)?);
            assert_eq!(self.exactly(2)?, b"\r\n");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Everything to the end of the stream.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.more()? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    fn body(&mut self, headers: &[(String, String)], otherwise_to_end: bool) -> io::Result<Vec<u8>> {
        let find =
            |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        if find("transfer-encoding").is_some() {
            return self.chunked();
        }
        match find("content-length") {
            Some(length) => self.exactly(length.parse().expect("a length")),
            None if otherwise_to_end => self.rest(),
            None => Ok(Vec::new()),
        }
    }

    /// The next whole answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        self.answer_to("GET")
    }

    pub fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let lines = self.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let headers = headers(&lines);
        let status: u16 = lines[0].split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let body = if bodiless { Vec::new() } else { self.body(&headers, true)? };
        Ok(Answer { status, headers, body })
    }

    fn request(&mut self, nth: usize) -> io::Result<Option<Seen>> {
        let Some(lines) = self.head()? else { return Ok(None) };
        let headers = headers(&lines);
        let body = self.body(&headers, false)?;
        Ok(Some(Seen { line: lines[0].clone(), headers, body, nth }))
    }
}

fn headers(lines: &[String]) -> Vec<(String, String)> {
    let split = |line: &String| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
    lines[1..].iter().filter_map(split).collect()
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A whole answer with a length.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// What a server does after a request.
pub enum Then {
    Continue,
    Close,
}

/// A server whose every answer is the test's own.
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    pub fn start(handle: impl Fn(&Seen, &mut Wire) -> Then + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind(own_address()).unwrap(), handle)
    }

    /// A server that answers `body` to everything.
    pub fn of(body: &'static str) -> Self {
        Self::start(move |_, wire| {
            wire.send(ok(body));
            Then::Continue
        })
    }

    pub fn start_on(
        listener: TcpListener,
        handle: impl Fn(&Seen, &mut Wire) -> Then + Send + Sync + 'static,
    ) -> Self {
        let origin = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            stopped: Arc::default(),
        };
        let handle = Arc::new(handle);
        let (seen, connections) = (Arc::clone(&origin.seen), Arc::clone(&origin.connections));
        let (open, stopped) = (Arc::clone(&origin.open), Arc::clone(&origin.stopped));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (handle, seen) = (Arc::clone(&handle), Arc::clone(&seen));
                thread::spawn(move || serve(Wire::new(stream), &*handle, &seen));
            }
        });
        origin
    }

    /// Requests so far, in the order in which they were whole.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Ends as a killed process does: no listener, no connection.
    pub fn kill(&self) {
        if self.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        // The accepting thread wakes for this connection and ends, which closes the listener.
        drop(TcpStream::connect(self.address));
        eventually("the listener is gone", || TcpStream::connect(self.address).is_err());
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.kill();
        }
    }
}

/// Answers the requests of one connection.
pub fn serve(
    mut wire: Wire,
    handle: &(dyn Fn(&Seen, &mut Wire) -> Then + Send + Sync),
    seen: &Mutex<Vec<Seen>>,
) {
    for nth in 0.. {
        let Ok(Some(request)) = wire.request(nth) else { break };
        seen.lock().unwrap().push(request.clone());
        let then = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle(&request, &mut wire)));
        if !matches!(then, Ok(Then::Continue)) {
            break;
        }
    }
    let _ = wire.stream.shutdown(Shutdown::Both);
}

/// An address that refuses connections for as long as this lives.
pub struct Refusing {
    pub address: SocketAddr,
    _socket: socket2::Socket,
}

impl Refusing {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self { address: socket.local_addr().unwrap().as_socket().unwrap(), _socket: socket }
    }
}

pub fn service_id() -> ServiceId {
    ServiceId::new("shop")
}

pub fn server_id(name: &str) -> ServerId {
    service_id().server(name)
}

/// Servers `a`, `b`, … in rotation, in turn, so that the first request goes to `a`.
pub fn table(addresses: &[SocketAddr]) -> RoutingTable {
    let name = |i: usize| char::from(b'a' + i as u8).to_string();
    let target = |(i, &address): (usize, &SocketAddr)| Target {
        id: server_id(&name(i)),
        address: address.into(),
        share: 1.0,
        concurrent: None,
        tls: false,
        injection: None,
    };
    RoutingTable {
        version: 1,
        services: vec![RoutedService {
            id: service_id(),
            carriage: Arc::new(Carriage { balance: Balance::RoundRobin, ..Carriage::default() }),
            mode: RoutingMode::Normal,
            trial: None,
            targets: addresses.iter().enumerate().map(target).collect(),
            last_resort: Vec::new(),
            draining: Vec::new(),
            leaving: Vec::new(),
        }],
    }
}

/// How the table's only service is carried, to be changed.
pub fn carriage(table: &mut RoutingTable) -> &mut Carriage {
    Arc::make_mut(&mut table.services[0].carriage)
}

/// All that a proxy said.
#[derive(Default)]
pub struct Told {
    pub failures: Vec<TrafficFailure>,
    pub answers: Vec<TrafficSample>,
    pub traffic: TrafficReport,
}

impl Told {
    fn take(&mut self, report: Report) {
        match report {
            Report::Failure(failure) => self.failures.push(failure),
            Report::Answered(seen) => self.answers.push(seen),
            Report::Traffic(report) => {
                // What is under way is a state and no count: the last report says it for all.
                for server in self.traffic.servers.values_mut() {
                    server.in_flight = 0;
                }
                for service in self.traffic.services.values_mut() {
                    (service.in_flight, service.queued, service.places) = (0, 0, 0);
                }
                for (id, server) in report.servers {
                    self.traffic.servers.entry(id).or_default().merge(&server);
                }
                self.traffic.sources.extend(report.sources);
                for (name, n) in report.refusals {
                    *self.traffic.refusals.entry(name).or_default() += n;
                }
                for (id, service) in report.services {
                    self.traffic.services.entry(id).or_default().merge(&service);
                }
            }
        }
    }

    pub fn server(&self, name: &str) -> ServerTraffic {
        self.traffic.servers.get(&server_id(name)).cloned().unwrap_or_default()
    }

    pub fn service(&self) -> ServiceTraffic {
        self.traffic.services.get(&service_id()).cloned().unwrap_or_default()
    }
}

/// A proxy under test.
pub struct Rig {
    proxy: Proxy,
    reports: mpsc::Receiver<Report>,
    told: Told,
}

impl Rig {
    pub fn new(table: RoutingTable) -> Self {
        Self::with(table, |_| {})
    }

    pub fn with(table: RoutingTable, change: impl FnOnce(&mut Settings)) -> Self {
        Self::taking_over(table, Vec::new(), change)
    }

    /// One that goes on with the sockets of another.
    pub fn taking_over(
        table: RoutingTable,
        sockets: Vec<(Endpoint, OwnedFd)>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings { listen: vec![own_address().into()], workers: 1, ..Settings::default() };
        change(&mut settings);
        let (sender, reports) = mpsc::channel(4096);
        let proxy = Proxy::take_over(settings, sockets, Arc::new(table), sender).expect("starts");
        proxy.set_visitor_key([7; 16]);
        Self { proxy, reports, told: Told::default() }
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    pub fn set_access_log(&self, log: Option<Arc<mainstay_proxy::access::AccessLog>>) {
        self.proxy.set_access_log(log);
    }

    /// Where it listens now over TCP, in the order of what was wanted.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.proxy.addresses().iter().filter_map(Endpoint::tcp).collect()
    }

    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Listens there and nowhere else.
    pub fn listen(&self, wanted: &[Listen]) -> Result<(), StartError> {
        self.proxy.prepare(wanted).map(|prepared| self.proxy.listen(prepared))
    }

    pub fn publish(&self, table: RoutingTable) {
        self.proxy.publish(Arc::new(table));
    }

    pub fn set_session_key(&self, key: [u8; 32]) {
        self.proxy.set_session_key(key);
    }

    pub fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address()).unwrap())
    }

    /// A connection from an address of this machine.
    pub fn connect_from(&self, source: std::net::IpAddr) -> Wire {
        let domain = socket2::Domain::for_address(self.address());
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect(&self.address().into()).unwrap();
        Wire::new(socket.into())
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut wire = self.connect();
        wire.send(request.as_ref());
        let method =
            String::from_utf8_lossy(request.as_ref()).split(' ').next().unwrap_or_default().to_owned();
        wire.answer_to(&method).expect("a whole answer")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(get(path))
    }

    pub fn post(&self, body: &str) -> Answer {
        self.ask(post(body))
    }

    /// What became of a request, by the id that its answer named; the answer may be here before its end is written down.
    pub fn story(&self, answer: &Answer) -> RequestRecord {
        let mut story = None;
        eventually("it is remembered", || {
            story = self.known(answer);
            story.is_some()
        });
        story.unwrap()
    }

    /// The same, if it is known already.
    pub fn known(&self, answer: &Answer) -> Option<RequestRecord> {
        self.proxy.find_request(answer.header("x-request-id").expect("an id"))
    }

    pub fn unusual(&self) -> Unusual {
        self.proxy.unusual()
    }

    /// What was told so far.
    pub fn told(&mut self) -> &Told {
        while let Ok(report) = self.reports.try_recv() {
            self.told.take(report);
        }
        &self.told
    }

    /// Copies of its sockets.
    pub fn sockets(&self) -> Vec<(Endpoint, OwnedFd)> {
        self.proxy.sockets().unwrap()
    }

    /// What it has learned of servers, as another process is told it.
    pub fn learned(&self) -> serde_json::Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        serde_json::to_value(runtime.block_on(self.proxy.learned())).unwrap()
    }

    /// Drains. Returns how many connections were cut, and all that was told.
    pub fn finish(self, deadline: Duration) -> (usize, Told) {
        self.leave(async |proxy| proxy.drain(deadline).await)
    }

    /// Drains while another goes on with its sockets.
    pub fn retire(self, deadline: Duration) -> (usize, Told) {
        self.leave(async |proxy| proxy.retire(deadline).await)
    }

    /// The same, and is told to hurry when `done` has returned.
    pub fn retire_until(self, deadline: Duration, done: impl FnOnce()) -> (usize, Told) {
        self.leave(async |proxy| {
            let mut retired = std::pin::pin!(proxy.retire(deadline));
            // It has begun when it was polled once.
            std::future::poll_fn(|cx| {
                let _ = retired.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
            done();
            proxy.cut();
            retired.await
        })
    }

    fn leave(self, how: impl AsyncFnOnce(&Proxy) -> usize) -> (usize, Told) {
        let Rig { proxy, mut reports, mut told } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cut = runtime.block_on(how(&proxy));
        while let Ok(report) = reports.try_recv() {
            told.take(report);
        }
        (cut, told)
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

pub fn post(body: &str) -> String {
    format!("POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
