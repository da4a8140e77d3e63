//! An HTTP/1.1 client that hides nothing: one connection is one connection, nothing is tried again, and every answer is
//! read to its last byte.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// An answer has this long; longer than anything that Mainstay itself may take in a test.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with what it was instead.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in answer {}: {}", self.status, self.text()))
    }
}

/// One kept connection.
pub struct Connection {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    open: bool,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        Self::over(within(TcpStream::connect(address)).await?)
    }

    /// As a visitor who has this address.
    pub async fn open_from(source: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        Self::over(within(socket.connect(address)).await?)
    }

    fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::of(stream))
    }

    /// A connection that was made in a way of the test's own.
    pub fn of(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), open: true }
    }

    /// Sends a request and reads its answer.
    pub async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.stream.peer_addr()?);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let message = [head.as_bytes(), b"\r\n", body].concat();
        within(async {
            self.stream.write_all(&message).await?;
            self.read_answer(method).await
        })
        .await
    }

    /// Whether the other side has left the connection open after the last answer.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Reads one answer to a request of this method.
    pub async fn read_answer(&mut self, method: &str) -> Result<Answer> {
        loop {
            let (status, headers) = self.read_head().await?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            self.open = !find(&headers, "connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
            let body = if method == "HEAD" || matches!(status, 101 | 204 | 304) {
                Vec::new()
            } else {
                self.read_body(&headers).await?
            };
            return Ok(Answer { status, headers, body });
        }
    }

    async fn read_head(&mut self) -> Result<(u16, Vec<(String, String)>)> {
        let end = self.fill_until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        parse_head(&head)
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("not an answer: {head:?}")))
    }

    async fn read_body(&mut self, headers: &[(String, String)]) -> Result<Vec<u8>> {
        if find(headers, "transfer-encoding").is_some_and(|t| t.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks().await;
        }
        if let Some(length) = find(headers, "content-length") {
            let length = length.parse().map_err(|_| Error::new(ErrorKind::InvalidData, "Content-Length"))?;
            return self.take(length).await;
        }
        self.open = false;
        let mut body = std::mem::take(&mut self.buffer);
        self.stream.read_to_end(&mut body).await?;
        Ok(body)
    }

    async fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = self.fill_until(b"\r\n").await?;
            let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end + 2);
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| Error::new(ErrorKind::InvalidData, format!("not a chunk's size: {line:?}")))?;
            let chunk = self.take(size + 2).await?;
            if !chunk.ends_with(b"\r\n") {
                return Err(Error::new(ErrorKind::InvalidData, "a chunk without its end"));
            }
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            read_more(&mut self.stream, &mut self.buffer).await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// The place of `end` in the buffer, reading as much as is needed.
    async fn fill_until(&mut self, end: &[u8]) -> Result<usize> {
        loop {
            if let Some(place) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(place);
            }
            read_more(&mut self.stream, &mut self.buffer).await?;
        }
    }
}

/// One `GET` on a connection of its own.
pub async fn get(address: SocketAddr, target: &str) -> Result<Answer> {
    Connection::open(address).await?.send("GET", target, &[("Connection", "close")], b"").await
}

/// One `POST` on a connection of its own.
pub async fn post(address: SocketAddr, target: &str, body: &[u8]) -> Result<Answer> {
    Connection::open(address).await?.send("POST", target, &[("Connection", "close")], body).await
}

/// Sends bytes as they are and returns whatever comes back until the other side closes or is silent for `patience`.
pub async fn raw(address: SocketAddr, bytes: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let mut stream = within(TcpStream::connect(address)).await?;
    let mut answer = Vec::new();
    // The other side may close before it has read all of it; what it said first still counts.
    let _ = within(stream.write_all(bytes)).await;
    let _ = tokio::time::timeout(patience, async {
        while read_more(&mut stream, &mut answer).await.is_ok() && answer.len() < 1 << 20 {}
    })
    .await;
    Ok(answer)
}

/// Adds what comes next; an end where more was due is an error.
pub async fn read_more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<()> {
    if stream.read_buf(buffer).await? == 0 {
        return Err(Error::new(ErrorKind::UnexpectedEof, "the connection was closed"));
    }
    Ok(())
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER_MAX, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::TimedOut, format!("no answer within {ANSWER_MAX:?}"))),
    }
}

fn parse_head(head: &str) -> Option<(u16, Vec<(String, String)>)> {
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    });
    Some((status, headers.collect::<Option<_>>()?))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
