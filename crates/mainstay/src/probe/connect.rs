//! The connection of a probe, by TCP or by a Unix socket, and what its errors say: about the server, or only about Mainstay
//! itself.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mainstay_model::Endpoint;
use mainstay_model::input::ProbeFailure;
use mainstay_proxy::{ServerTls, TlsFlaw, connect_unix};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Look, certificate};

/// How TLS is spoken with a server, and the name that its certificate must have.
pub(super) type Secured<'s> = (&'s ServerTls, &'s ServerName<'static>);

/// A connection to a server.
#[derive(Debug)]
pub(super) enum Connection {
    /// In the clear.
    Plain(TcpStream),
    /// By a Unix socket.
    Unix(UnixStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// When the certificate of the other side ends, in seconds since 1970, if it has shown one that can be read.
    pub(super) fn not_after(&self) -> Option<i64> {
        let shown = self.certificates();
        let (_, certificate) = X509Certificate::from_der(shown.first()?).ok()?;
        Some(certificate.validity().not_after.timestamp())
    }

    /// What the other side has shown of itself, its own certificate first; empty in the clear.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let Connection::Tls(stream) = self else { return Vec::new() };
        stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec()
    }

    /// Closing it is a reset, which waits for nobody.
    pub(super) fn reset_on_close(&self) {
        let stream = match self {
            Connection::Plain(stream) => stream,
            Connection::Tls(stream) => stream.get_ref().0,
            // Closing it waits for nobody as it is.
            Connection::Unix(_) => return,
        };
        // It fails on a connection that is gone, which is as good.
        let _ = stream.set_zero_linger();
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Connection::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Connection::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Connection::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Connection::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Connection::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Connection::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Connection::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Connection::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The value of a Host header for a server that nobody has given a name: its address, or what goes for this machine.
pub(super) fn host_of(address: &Endpoint) -> String {
    address.tcp().map_or_else(|| "localhost".to_owned(), |address| address.to_string())
}

/// Connects to the server by the deadline, says the greeting first if there is one, and shakes hands with one that speaks TLS.
/// When each was done is traced.
///
/// # Errors
/// Why it could not: refused, unreachable, too late, not to be trusted (and what it shows), or not tried for want of something
/// of our own.
pub(super) async fn connect(look: &Look<'_>) -> Result<Connection, ProbeFailure> {
    match connect_once(look).await {
        Err(ProbeFailure::Certificate(why)) => {
            Err(ProbeFailure::Certificate(Box::pin(certificate::explained(look, None, why)).await))
        }
        other => other,
    }
}

async fn connect_once(look: &Look<'_>) -> Result<Connection, ProbeFailure> {
    let tls = look.secured();
    let address = match look.address {
        Endpoint::Tcp(address) => *address,
        Endpoint::Unix(_) if tls.is_some() => {
            return Err(ProbeFailure::NotProbed(TlsFlaw::NotSetUp.to_string()));
        }
        Endpoint::Unix(path) => {
            let mut stream = connect_to_socket(path, look.connect_by).await?;
            look.trace.connected(look.begun.elapsed());
            greet(&mut stream, look.greeting, look.deadline).await?;
            return Ok(Connection::Unix(stream));
        }
    };
    let mut stream = connect_plain(address, look.connect_by).await?;
    look.trace.connected(look.begun.elapsed());
    greet(&mut stream, look.greeting, look.deadline).await?;
    let Some(tls) = tls else { return Ok(Connection::Plain(stream)) };
    shake_hands(stream, tls, look).await
}

/// Goes on over TLS on a connection that began in the clear.
///
/// # Errors
/// The handshake failed, or nobody has said how TLS is spoken with this server.
pub(super) async fn secure(stream: Connection, look: &Look<'_>) -> Result<Connection, ProbeFailure> {
    match (stream, look.tls) {
        (Connection::Plain(stream), Some(tls)) => shake_hands(stream, tls, look).await,
        (stream @ Connection::Tls(_), _) => Ok(stream),
        (Connection::Plain(_) | Connection::Unix(_), _) => {
            Err(ProbeFailure::NotProbed(TlsFlaw::NotSetUp.to_string()))
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    (tls, name): Secured<'_>,
    look: &Look<'_>,
) -> Result<Connection, ProbeFailure> {
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    match timeout_at(look.deadline, connector.connect(name.clone(), stream)).await {
        Err(_) => Err(ProbeFailure::AnswerTimeout),
        Ok(Ok(stream)) => {
            look.trace.reached(|phases| phases.secured = Some(look.begun.elapsed()));
            Ok(Connection::Tls(Box::new(stream)))
        }
        Ok(Err(error)) => Err(handshake_failure(&error, look.along.is_some())),
    }
}

async fn greet(
    stream: &mut (impl AsyncWrite + Unpin),
    greeting: &[u8],
    deadline: Instant,
) -> Result<(), ProbeFailure> {
    if greeting.is_empty() {
        return Ok(());
    }
    // The socket is new, so its buffer has room for all of it.
    match timeout_at(deadline, stream.write_all(greeting)).await {
        Err(_) => Err(ProbeFailure::AnswerTimeout),
        Ok(Err(error)) => Err(answer_failure(&error)),
        Ok(Ok(())) => Ok(()),
    }
}

async fn connect_to_socket(path: &str, deadline: Instant) -> Result<UnixStream, ProbeFailure> {
    match timeout_at(deadline, connect_unix(path)).await {
        Err(_) => Err(ProbeFailure::ConnectTimeout),
        Ok(Err(error)) => Err(socket_failure(path, &error)),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// What can be wrong with the Unix socket of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketFlaw {
    /// It is not there.
    Missing,
    /// Something else is.
    AnotherFile,
    /// Mainstay's user may not connect to it.
    Shut,
}

impl SocketFlaw {
    /// In a sentence, with what to do about it.
    pub fn words(self, path: &str) -> String {
        let words = match self {
            SocketFlaw::Missing => "does not exist; start the server, or have it listen there",
            SocketFlaw::AnotherFile => "is no socket but another kind of file; correct the server's address",
            SocketFlaw::Shut => {
                "may not be opened by Mainstay's user; let it write to the socket and search its folders"
            }
        };
        format!("{path} {words}")
    }
}

/// What an error of connecting to a Unix socket says, and what to do about it.
fn socket_failure(path: &str, error: &io::Error) -> ProbeFailure {
    match error.kind() {
        io::ErrorKind::NotFound => ProbeFailure::NoSocket(SocketFlaw::Missing.words(path)),
        io::ErrorKind::ConnectionRefused if !is_socket(path) => {
            ProbeFailure::Unreachable(SocketFlaw::AnotherFile.words(path))
        }
        io::ErrorKind::PermissionDenied => ProbeFailure::Unreachable(SocketFlaw::Shut.words(path)),
        _ if error.raw_os_error() == Some(libc::EPROTOTYPE) => ProbeFailure::Unreachable(format!(
            "{path} is a socket of another kind; a server listens on one of the kind stream"
        )),
        _ => connect_failure(error),
    }
}

/// Only asked about a path that there is and that refuses.
fn is_socket(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// A monitor has the keys of `server-tls` under `tls`.
pub(super) fn flaw_words(flaw: TlsFlaw, of_monitor: bool) -> String {
    match of_monitor {
        true => flaw.to_string().replace("(server-tls.", "(tls."),
        false => flaw.to_string(),
    }
}

fn handshake_failure(error: &io::Error, of_monitor: bool) -> ProbeFailure {
    match TlsFlaw::of(error) {
        Some(flaw) if flaw.is_of_certificate() => ProbeFailure::Certificate(flaw_words(flaw, of_monitor)),
        Some(flaw) => ProbeFailure::Tls(flaw_words(flaw, of_monitor)),
        None => answer_failure(error),
    }
}

pub(super) async fn connect_plain(address: SocketAddr, deadline: Instant) -> Result<TcpStream, ProbeFailure> {
    let connecting = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.connect(address).await
    };
    let stream = match timeout_at(deadline, connecting).await {
        Err(_) => return Err(ProbeFailure::ConnectTimeout),
        Ok(Err(error)) => return Err(connect_failure(&error)),
        Ok(Ok(stream)) => stream,
    };
    if is_own_end(&stream) {
        let _ = stream.set_zero_linger();
        return Err(ProbeFailure::Refused);
    }
    // Only a delay would follow if it failed.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// What an error of an established connection says.
pub(super) fn answer_failure(error: &io::Error) -> ProbeFailure {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => ProbeFailure::Reset,
        io::ErrorKind::TimedOut => ProbeFailure::AnswerTimeout,
        // The HTTP library says so of chunks that are none.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            ProbeFailure::Malformed(error.to_string())
        }
        _ if is_own_want(error) => ProbeFailure::NotProbed(error.to_string()),
        _ => ProbeFailure::Unreachable(error.to_string()),
    }
}

/// What an error of reaching a server says.
pub(super) fn connect_failure(error: &io::Error) -> ProbeFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ProbeFailure::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => ProbeFailure::Reset,
        io::ErrorKind::TimedOut => ProbeFailure::ConnectTimeout,
        _ if is_own_want(error) => ProbeFailure::NotProbed(error.to_string()),
        _ => ProbeFailure::Unreachable(error.to_string()),
    }
}

/// No descriptors, memory or ports left on this side, or a kind of address that this machine has not.
fn is_own_want(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOMEM
                | libc::ENOBUFS
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN
                | libc::EAFNOSUPPORT
        )
    )
}

/// When nothing listens on a port of this machine, the kernel may choose that very port for our own end and connect the
/// socket with itself (a simultaneous open of TCP). Nobody answered, and holding it would keep the server from its port.
fn is_own_end(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn what_we_lack_ourselves_says_nothing_about_the_server() {
        for code in
            [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT]
        {
            assert!(matches!(connect_failure(&os(code)), ProbeFailure::NotProbed(_)), "{}", os(code));
            assert!(matches!(answer_failure(&os(code)), ProbeFailure::NotProbed(_)), "{}", os(code));
        }
    }

    #[test]
    fn errors_of_the_network_are_told_with_their_text() {
        for code in [libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ENETDOWN, libc::EACCES] {
            let ProbeFailure::Unreachable(text) = connect_failure(&os(code)) else { panic!("{}", os(code)) };
            assert_eq!(text, os(code).to_string());
        }
    }

    #[test]
    fn refused_reset_and_timed_out_are_told_apart() {
        assert_eq!(connect_failure(&os(libc::ECONNREFUSED)), ProbeFailure::Refused);
        assert_eq!(connect_failure(&os(libc::ECONNRESET)), ProbeFailure::Reset);
        assert_eq!(connect_failure(&os(libc::ETIMEDOUT)), ProbeFailure::ConnectTimeout);
        assert_eq!(answer_failure(&os(libc::ECONNRESET)), ProbeFailure::Reset);
        assert_eq!(answer_failure(&os(libc::EPIPE)), ProbeFailure::Reset);
        assert_eq!(answer_failure(&os(libc::ETIMEDOUT)), ProbeFailure::AnswerTimeout);
    }

    #[tokio::test]
    async fn a_socket_that_met_itself_is_recognised() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.expect("Linux connects a bound socket with itself");
        assert!(is_own_end(&stream));
    }
}
