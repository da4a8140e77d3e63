//! The demo's own mail server: takes every mail and hands it over to be shown, so that nothing leaves the machine.
//!
//! SMTP as far as a sending client needs it (RFC 5321), with a limit on everything.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Clients at once; one more is told to come again.
const CLIENTS_MAX: usize = 16;
/// Bytes of a line, of commands and of mails (RFC 5321 wants 1,000 at least).
const LINE_MAX: usize = 8 * 1024;
/// Bytes of a mail.
const MAIL_MAX: usize = 1024 * 1024;
/// Recipients of a mail.
const RECIPIENTS_MAX: usize = 100;
/// Mails that wait to be shown.
const WAITING_MAX: usize = 64;
/// A client may be silent so long.
const LINE_TAKES: Duration = Duration::from_secs(30);
/// A client may stay so long.
const SESSION_TAKES: Duration = Duration::from_secs(300);
/// Parts within parts that are looked into.
const DEPTH_MAX: usize = 4;

/// A mail server on 127.0.0.1. Dropped, it takes no more clients.
#[derive(Debug)]
pub struct MailSink {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// A mail as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// The subject, decoded; empty when there is none.
    pub subject: String,
    /// The plain text, decoded; of a mail in several parts, the first that is plain text.
    pub text: String,
}

impl MailSink {
    /// Listens on a port that the kernel chose, and hands mails over.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start() -> io::Result<(Self, mpsc::Receiver<Mail>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mails, received) = mpsc::channel(WAITING_MAX);
        let accepting = tokio::spawn(accept(listener, mails));
        Ok((Self { address, accepting }, received))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MailSink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, mails: mpsc::Sender<Mail>) {
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // No file descriptors: some will be free again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&clients).try_acquire_owned() else {
            // What the kernel's empty buffer does not take at once is not worth waiting for.
            let _ = stream.try_write(b"421 4.7.0 too many clients at once\r\n");
            let _ = stream.shutdown().await;
            continue;
        };
        let mails = mails.clone();
        tokio::spawn(async move {
            // A client that breaks off or stays too long is its own affair.
            let _ = timeout(SESSION_TAKES, Session::new(stream, mails).run()).await;
            drop(place);
        });
    }
}

/// One client.
struct Session<S> {
    stream: BufReader<S>,
    mails: mpsc::Sender<Mail>,
    from: Option<String>,
    to: Vec<String>,
}

impl Session<TcpStream> {
    fn new(stream: TcpStream, mails: mpsc::Sender<Mail>) -> Self {
        Self { stream: BufReader::new(stream), mails, from: None, to: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(mut self) -> io::Result<()> {
        self.say("220 mainstay-demo ESMTP").await?;
        while let Some(line) = self.line().await? {
            let line = String::from_utf8_lossy(&line).into_owned();
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => {
                    self.forget();
                    self.say(&format!("250-mainstay-demo\r\n250-SIZE {MAIL_MAX}\r\n250 8BITMIME")).await?;
                }
                "HELO" => {
                    self.forget();
                    self.say("250 mainstay-demo").await?;
                }
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.recipient(rest).await?,
                "DATA" => self.data().await?,
                "RSET" => {
                    self.forget();
                    self.say("250 2.0.0 forgotten").await?;
                }
                "NOOP" => self.say("250 2.0.0 still here").await?,
                "QUIT" => return self.say("221 2.0.0 goodbye").await,
                _ => self.say("502 5.5.1 no such command here").await?,
            }
        }
        Ok(())
    }

    async fn mail(&mut self, rest: &str) -> io::Result<()> {
        if self.from.is_some() {
            return self.say("503 5.5.1 one sender is enough").await;
        }
        match path(rest, "FROM:") {
            Some(from) => {
                self.from = Some(from);
                self.say("250 2.1.0 sender ok").await
            }
            None => self.say("501 5.5.4 write MAIL FROM:<address>").await,
        }
    }

    async fn recipient(&mut self, rest: &str) -> io::Result<()> {
        if self.from.is_none() {
            return self.say("503 5.5.1 MAIL comes first").await;
        }
        if self.to.len() == RECIPIENTS_MAX {
            return self.say("452 4.5.3 too many recipients").await;
        }
        match path(rest, "TO:").filter(|to| !to.is_empty()) {
            Some(to) => {
                self.to.push(to);
                self.say("250 2.1.5 recipient ok").await
            }
            None => self.say("501 5.5.4 write RCPT TO:<address>").await,
        }
    }

    async fn data(&mut self) -> io::Result<()> {
        if self.to.is_empty() {
            return self.say("503 5.5.1 RCPT comes first").await;
        }
        self.say("354 end with a line that is a full stop").await?;
        let mut mail = Vec::new();
        let mut is_too_large = false;
        loop {
            let line = self.line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line == b"." {
                break;
            }
            // A full stop at the beginning of a line was doubled by the sender.
            let line = line.strip_prefix(b".").unwrap_or(&line);
            is_too_large |= mail.len() + line.len() + 1 > MAIL_MAX;
            if !is_too_large {
                mail.extend_from_slice(line);
                mail.push(b'\n');
            }
        }
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        if is_too_large {
            return self.say("552 5.3.4 the mail is too large").await;
        }
        let (subject, text) = read_mail(&mail);
        match self.mails.try_send(Mail { from, to, subject, text }) {
            Ok(()) => self.say("250 2.0.0 taken").await,
            Err(_) => self.say("452 4.3.1 too many mails wait, come again").await,
        }
    }

    fn forget(&mut self) {
        self.from = None;
        self.to.clear();
    }

    /// A line without its end; `None` when the client has gone.
    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let read = timeout(LINE_TAKES, read_line(&mut self.stream)).await;
        match read.map_err(|_| io::ErrorKind::TimedOut)? {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.say("500 5.5.2 the line is too long").await?;
                Err(error)
            }
            other => other,
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        let text = format!("{text}\r\n");
        timeout(LINE_TAKES, self.stream.write_all(text.as_bytes()))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }
}

async fn read_line(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let buffer = stream.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let end = buffer.iter().position(|&b| b == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        if line.len() + part.len() > LINE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        line.extend_from_slice(part);
        let used = end.map_or(buffer.len(), |end| end + 1);
        stream.consume(used);
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(line));
        }
    }
}

/// The address in `FROM:<address> SIZE=1`.
fn path(rest: &str, keyword: &str) -> Option<String> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (address, _) = rest[keyword.len()..].trim_start().strip_prefix('<')?.split_once('>')?;
    Some(address.to_owned())
}

/// Subject and text of a mail whose lines end with `\n`.
fn read_mail(mail: &[u8]) -> (String, String) {
    let (headers, body) = head_and_body(mail);
    let subject = header(&headers, "subject").map(decode_words).unwrap_or_default();
    let text = plain_text(&headers, body, DEPTH_MAX)
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim_end().to_owned());
    (subject, text)
}

type Headers = Vec<(String, String)>;

fn head_and_body(part: &[u8]) -> (Headers, &[u8]) {
    let mut headers: Headers = Vec::new();
    let mut rest = part;
    while !rest.is_empty() {
        let end = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = rest.get(end + 1..).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t'])
            && let Some((_, value)) = headers.last_mut()
        {
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    (headers, rest)
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The first part that is plain text.
fn plain_text(headers: &Headers, body: &[u8], depth: usize) -> Option<String> {
    let kind = header(headers, "content-type").unwrap_or("text/plain");
    let lower = kind.to_ascii_lowercase();
    if lower.starts_with("multipart/") {
        let mark = format!("--{}", boundary(kind)?);
        let inner = depth.checked_sub(1)?;
        return parts(body, mark.as_bytes()).into_iter().find_map(|part| {
            let (headers, body) = head_and_body(part);
            plain_text(&headers, body, inner)
        });
    }
    if !lower.starts_with("text/plain") {
        return None;
    }
    let encoding = header(headers, "content-transfer-encoding").unwrap_or("7bit").to_ascii_lowercase();
    let bytes = match encoding.as_str() {
        "base64" => from_base64(body)?,
        "quoted-printable" => from_quoted_printable(body, false),
        _ => body.to_vec(),
    };
    Some(String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim_end().to_owned())
}

fn boundary(kind: &str) -> Option<&str> {
    let at = kind.to_ascii_lowercase().find("boundary=")? + "boundary=".len();
    let value = &kind[at..];
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split([';', ' ']).next(),
    }
}

fn parts<'a>(body: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut begin = None;
    let mut at = 0;
    for line in body.split_inclusive(|&b| b == b'\n') {
        if line.starts_with(mark) {
            if let Some(begin) = begin {
                parts.push(&body[begin..at]);
            }
            begin = Some(at + line.len());
            if line[mark.len()..].starts_with(b"--") {
                return parts;
            }
        }
        at += line.len();
    }
    parts
}

fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    BASE64.decode(text).ok()
}

/// `=3D` and soft line ends; in a header (`is_word`) `_` stands for a space. What is wrong stays as it is.
fn from_quoted_printable(text: &[u8], is_word: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'=' {
            if let Some(next_line) = after.strip_prefix(b"\n") {
                rest = next_line;
                continue;
            }
            let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            if let Some(value) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                out.push(value);
                rest = &after[2..];
                continue;
            }
        }
        out.push(if is_word && byte == b'_' { b' ' } else { byte });
    }
    out
}

/// Encoded words in UTF-8 (RFC 2047); others stay as they are.
fn decode_words(text: &str) -> String {
    let mut out = String::new();
    let mut was_encoded = false;
    for word in text.split(' ') {
        let decoded = decode_word(word);
        // The space between two encoded words belongs to neither.
        if !(out.is_empty() || was_encoded && decoded.is_some()) {
            out.push(' ');
        }
        was_encoded = decoded.is_some();
        out.push_str(decoded.as_deref().unwrap_or(word));
    }
    out
}

fn decode_word(word: &str) -> Option<String> {
    let mut fields = word.strip_prefix("=?")?.strip_suffix("?=")?.splitn(3, '?');
    let (charset, encoding, text) = (fields.next()?, fields.next()?, fields.next()?);
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => from_base64(text.as_bytes())?,
        "Q" | "q" => from_quoted_printable(text.as_bytes(), true),
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
