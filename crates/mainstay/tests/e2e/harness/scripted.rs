//! A server whose every answer a test decides: closes after reading, hangs, echoes an upgraded connection, or answers.
//! It counts exactly what reached it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::http::read_more;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request that it has read whole.
pub enum Reply {
    /// Answers with a status and a body.
    Answer(u16, Vec<u8>),
    /// Closes the connection without a word.
    Close,
    /// Never says anything.
    Hang,
    /// Accepts an upgrade and sends back whatever comes.
    Echo,
}

/// A running scripted server.
pub struct Scripted {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Listens on a port that the kernel chose. `GET /healthz` is always answered well and not counted.
    pub async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), script)
    }

    /// The same on a listener, which may be in a network of its own.
    pub fn on(listener: TcpListener, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("its address");
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (script, log) = (Arc::new(script), seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log) = (script.clone(), log.clone());
                // A client that goes away in the middle is no fault of this server.
                tokio::spawn(async move { drop(converse(stream, &*script, &log).await) });
            }
        });
        Self { address, seen, task }
    }

    /// What has reached it, oldest first.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("no test panics while it holds this").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    mut stream: TcpStream,
    script: &(impl Fn(&Request) -> Reply + Send + Sync),
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let request = read_request(&mut stream, &mut buffer).await?;
        let reply = if request.target == "/healthz" {
            Reply::Answer(200, b"ok".to_vec())
        } else {
            let reply = script(&request);
            log.lock().expect("no test panics while it holds this").push(request);
            reply
        };
        match reply {
            Reply::Answer(status, body) => {
                let head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), &body].concat()).await?;
            }
            Reply::Close => return Ok(()),
            Reply::Hang => std::future::pending().await,
            Reply::Echo => return echo(stream, buffer).await,
        }
    }
}

async fn echo(mut stream: TcpStream, mut buffer: Vec<u8>) -> std::io::Result<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(&buffer).await?;
        buffer.clear();
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Request> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        read_more(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let mut request = Request { method, target, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    while buffer.len() < length {
        read_more(stream, buffer).await?;
    }
    request.body = buffer.drain(..length).collect();
    Ok(request)
}

#[test]
fn a_scripted_server_answers_closes_and_counts_what_reached_it() {
    super::run(async {
        let server = Scripted::start(|request| match request.method.as_str() {
            "POST" => Reply::Close,
            _ => Reply::Answer(200, request.target.clone().into_bytes()),
        })
        .await;
        let answer = super::http::get(server.address, "/a").await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "/a"));
        let error = super::http::post(server.address, "/b", b"x").await.expect_err("it closes");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        super::http::get(server.address, "/healthz").await.expect("an answer");
        let seen: Vec<String> = server.seen().into_iter().map(|r| r.target).collect();
        assert_eq!(seen, ["/a", "/b"]);
    });
}

#[test]
fn the_load_generator_counts_every_request_and_its_failures() {
    super::run(async {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let server =
            Scripted::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                10 => Reply::Close,
                20 => Reply::Answer(503, Vec::new()),
                _ => Reply::Answer(200, b"fine".to_vec()),
            })
            .await;
        let load = super::load::Load::start(server.address, 200, "/");
        load.more(60).await;
        let run = load.finish().await;
        let failed: Vec<_> = run.samples.iter().filter(|s| !s.good()).map(|s| s.outcome.clone()).collect();
        assert_eq!(server.seen().len(), run.samples.len());
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(failed.contains(&Ok(503)), "{failed:?}");
        assert!(std::panic::catch_unwind(|| run.assert_none_failed()).is_err());
    });
}
