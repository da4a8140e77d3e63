//! Mail by SMTP: one message a notice and person, threaded by incident, within a deadline.

use std::io;
use std::time::Duration;

use lettre::address::Address;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use mainstay_model::effect::{Notice, NoticeKind};
use mainstay_model::escalation::Recipient;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

use super::capped::Capped;
use super::{DeliveryError, message};
use crate::config::{EmailConfig, SmtpTls};

/// For the connection alone, so that a dead address leaves time to say so.
const CONNECT: Duration = Duration::from_secs(10);
/// For the good-bye after the message was accepted.
const GOODBYE: Duration = Duration::from_secs(2);
/// Answers by which a server refuses the login, or wants one (RFC 4954): the config is to be mended, the message is well.
const LOGIN_CODES: [u16; 4] = [530, 534, 535, 538];

/// Where a person can look, and take an incident on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LinksIn<'a> {
    /// The dashboard.
    pub(super) dashboard: Option<&'a str>,
    /// This person's own link to take it on.
    pub(super) take_on: Option<&'a str>,
    /// What they are asked, and their own link to decide on it.
    pub(super) decide: &'a [(String, String)],
}

/// Sends a notice to one person.
pub(super) async fn send(
    config: &EmailConfig,
    links: LinksIn<'_>,
    notice: &Notice,
    to: &Recipient,
    deadline: Duration,
) -> Result<(), DeliveryError> {
    let letter = compose(config, links, notice, to).map_err(DeliveryError::transient)?;
    let place = format!("{}:{}", config.host, config.port);
    match tokio::time::timeout(deadline, transfer(config, &place, &letter)).await {
        Ok(Ok(mut connection)) => {
            // The message is delivered, whatever becomes of the good-bye.
            let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
            Ok(())
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let text = format!("{place}: the mail server did not finish within {deadline:?}");
            Err(DeliveryError::transient(text))
        }
    }
}

/// A message, and whom it goes to.
#[derive(Debug)]
struct Letter {
    from: Address,
    to: Address,
    bytes: Vec<u8>,
}

fn compose(
    config: &EmailConfig,
    links: LinksIn<'_>,
    notice: &Notice,
    to: &Recipient,
) -> Result<Letter, String> {
    let mailbox = |text: &str| {
        text.parse::<Mailbox>().map_err(|error| format!("`{text}` is not an address for mail: {error}"))
    };
    let mut from = mailbox(&config.from)?;
    from.name.get_or_insert_with(|| "Mainstay".to_owned());
    let to = mailbox(&to.address)?;
    let id = |kind| message_id(notice, kind, &to.email, from.email.domain());
    let mut builder = Message::builder()
        .from(from.clone())
        .to(to.clone())
        .subject(message::subject(notice))
        .message_id(Some(id(notice.kind)))
        .header(AutoSubmitted)
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN);
    if notice.kind != NoticeKind::Opened {
        builder = builder.in_reply_to(id(NoticeKind::Opened)).references(id(NoticeKind::Opened));
    }
    let built = builder
        .body(message::body(notice, links))
        .map_err(|error| format!("the mail cannot be put together: {error}"))?;
    Ok(Letter { from: from.email, to: to.email, bytes: built.formatted() })
}

/// The same at every attempt and after a restart, so that a message that was sent twice is shown once. The time of the
/// incident is in it because numbers begin anew with a new data directory, a sum of the address because everybody gets a
/// letter of their own.
fn message_id(notice: &Notice, kind: NoticeKind, to: &Address, domain: &str) -> String {
    let sum = Sha256::digest(AsRef::<str>::as_ref(to));
    let sum: String = sum.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("<incident-{}.{}.{}.{sum}@{domain}>", notice.incident, kind.as_str(), notice.began_at.0)
}

/// Hands the letter over.
async fn transfer(
    config: &EmailConfig,
    place: &str,
    letter: &Letter,
) -> Result<AsyncSmtpConnection, DeliveryError> {
    let mut connection = connect(config, place).await?;
    let refused = |what: &str, error: Error| refusal(place, what, &error);
    let parameters = utf8_parameters(&connection, letter);
    connection
        .command(Mail::new(Some(letter.from.clone()), parameters))
        .await
        .map_err(|error| refused("the sender", error))?;
    let to = &letter.to;
    connection
        .command(Rcpt::new(to.clone(), Vec::new()))
        .await
        .map_err(|error| refused(&format!("the recipient {to}"), error))?;
    connection.command(Data).await.map_err(|error| refused("the message", error))?;
    connection.message(&letter.bytes).await.map_err(|error| refused("the message", error))?;
    Ok(connection)
}

async fn connect(config: &EmailConfig, place: &str) -> Result<AsyncSmtpConnection, DeliveryError> {
    let refused = |what: &str, error: Error| refusal(place, what, &error);
    let hello = ClientId::default();
    let tls = match config.tls {
        SmtpTls::None => None,
        SmtpTls::Implicit | SmtpTls::StartTls => Some(tls_parameters(config, place).await?),
    };
    let address = (config.host.as_str(), config.port);
    let connected = match config.tls {
        // The peer is known by its certificate before it can say a word.
        SmtpTls::Implicit => {
            AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT), &hello, tls.clone(), None).await
        }
        SmtpTls::StartTls | SmtpTls::None => {
            let stream = tcp(address)
                .await
                .map_err(|error| DeliveryError::transient(format!("{place}: the connection: {error}")))?;
            AsyncSmtpConnection::connect_with_transport(Box::new(Capped::new(stream)), &hello).await
        }
    };
    let mut connection = connected.map_err(|error| refused("the connection", error))?;
    if let Some(tls) = tls.filter(|_| config.tls == SmtpTls::StartTls) {
        connection.starttls(tls, &hello).await.map_err(|error| refused("STARTTLS", error))?;
    }
    if let Some((user, password)) = &config.login {
        let credentials = Credentials::new(user.clone(), password.reveal().to_owned());
        connection
            .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
            .await
            .map_err(|error| refused("the login", error))?;
    }
    Ok(connection)
}

async fn tcp(address: (&str, u16)) -> io::Result<TcpStream> {
    match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(stream) => stream,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "not accepted in time")),
    }
}

async fn tls_parameters(config: &EmailConfig, place: &str) -> Result<TlsParameters, DeliveryError> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(ca) = &config.ca {
        let pem = tokio::fs::read(ca).await.map_err(|error| {
            DeliveryError::transient(format!("the certificate authority {}: {error}", ca.display()))
        })?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|_| DeliveryError::transient(format!("{} is not a PEM certificate", ca.display())))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| refusal(place, "TLS", &error))
}

/// Addresses with other than ASCII letters need the server's consent (RFC 6531).
fn utf8_parameters(connection: &AsyncSmtpConnection, letter: &Letter) -> Vec<MailParameter> {
    let ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    let wanted = !ascii(&letter.from) || !ascii(&letter.to);
    let offered = connection.server_info().supports_feature(Extension::SmtpUtfEight);
    if wanted && offered { vec![MailParameter::SmtpUtfEight] } else { Vec::new() }
}

/// A refusal for a person: where, of what, why. A login that is refused is mended in the config, so it is tried again.
fn refusal(place: &str, what: &str, error: &Error) -> DeliveryError {
    let mut text = format!("{place}: {what}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    let text: String = text.chars().filter(|c| !c.is_control()).take(500).collect();
    let code = error.status().map(u16::from);
    let login = code.is_some_and(|code| LOGIN_CODES.contains(&code)) || what == "the login";
    if error.is_permanent() && !login {
        return DeliveryError::permanent(text);
    }
    let remedy = if login { "; check user and password of `alert.email`" } else { "" };
    DeliveryError::transient(format!("{text}{remedy}"))
}

/// Keeps out-of-office answers away (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
