//! HTTP/1.1 as far as the load and the servers of a measurement need it: blocking, one thread a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A head, or a body without a length, longer than this is a mistake of the bench.
const HEAD_MAX: usize = 64 * 1024;

/// One connection, with what was read too early.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    inbox: Vec<u8>,
}

/// A message whose body was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The first line and the header lines.
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Of an answer.
    pub fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1)?.parse().ok()
    }

    /// Whether the connection ends with it.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Wire {
    /// Connects. Waiting for an answer ends after `patience`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn connect(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        Self::of(stream)
    }

    /// Takes an accepted connection.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, inbox: Vec::new() })
    }

    /// # Errors
    /// Those of the kernel.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads a message with its body; `None` at the end of the connection.
    ///
    /// # Errors
    /// When it ends in the middle, or is not HTTP.
    pub fn message(&mut self) -> io::Result<Option<Message>> {
        let length = loop {
            if let Some(at) = self.inbox.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.inbox.len() > HEAD_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            match (self.fill()?, self.inbox.is_empty()) {
                (0, true) => return Ok(None),
                (0, false) => return Err(ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        };
        let head = String::from_utf8_lossy(&self.inbox[..length]).into_owned();
        self.inbox.drain(..length);
        let mut message = Message { head, body: Vec::new() };
        let body = message.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        message.body = self.take(body)?;
        Ok(Some(message))
    }

    /// The body of an answer that ends with its connection, or by its length.
    ///
    /// # Errors
    /// When it is not HTTP.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let Some(message) = self.message()? else { return Err(ErrorKind::UnexpectedEof.into()) };
        if message.header("content-length").is_some() {
            return Ok(message.body);
        }
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.inbox))
    }

    /// Exactly so many bytes.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.inbox.len() < length {
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.inbox.split_off(length);
        Ok(std::mem::replace(&mut self.inbox, rest))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk)?;
        self.inbox.extend_from_slice(&chunk[..n]);
        Ok(n)
    }
}

/// A WebSocket's handshake with the key of RFC 6455's own example; the bench checks no client's honesty.
pub fn upgrade_request(host: &str) -> String {
    format!(
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The answer to [`upgrade_request`].
pub const UPGRADE_ANSWER: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A binary frame of a client, masked, of up to 125 bytes.
pub fn masked_frame(payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    debug_assert!(payload.len() < 126);
    let mut frame = vec![0x82, 0x80 | payload.len() as u8];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads a masked frame and gives the one that answers it with the same payload.
///
/// # Errors
/// When the connection ends.
pub fn echo_of(wire: &mut Wire) -> io::Result<Vec<u8>> {
    let start = wire.take(6)?;
    let length = usize::from(start[1] & 0x7f);
    let payload = wire.take(length)?;
    let mut frame = vec![0x82, length as u8];
    frame.extend(payload.iter().zip(start[2..].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Wire, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client =
            Wire::connect(listener.local_addr().unwrap(), Duration::from_secs(10)).expect("it listens");
        (client, Wire::of(listener.accept().unwrap().0).unwrap())
    }

    #[test]
    fn messages_are_read_one_by_one_with_their_bodies() {
        let (mut client, mut server) = pair();
        client
            .send(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nX-Id: 7\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n")
            .unwrap();
        let first = server.message().unwrap().unwrap();
        assert_eq!((first.header("x-id"), first.body.as_slice()), (Some("7"), &b"abc"[..]));
        assert!(server.message().unwrap().unwrap().head.starts_with("GET /b "));
        drop(client);
        assert_eq!(server.message().unwrap(), None);
    }

    #[test]
    fn an_answer_says_its_status_and_whether_it_is_the_last() {
        let message = |head: &str| Message { head: head.into(), body: Vec::new() };
        let answer = message("HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n");
        assert_eq!((answer.status(), answer.closes()), (Some(503), true));
        assert!(!message("HTTP/1.1 200 OK\r\n\r\n").closes());
    }

    #[test]
    fn a_frame_comes_back_with_its_payload_unmasked() {
        let (mut client, mut server) = pair();
        client.send(&masked_frame(b"hello")).unwrap();
        assert_eq!(echo_of(&mut server).unwrap(), b"\x82\x05hello");
    }
}
