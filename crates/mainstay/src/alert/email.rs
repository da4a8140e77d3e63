//! Mail by SMTP: one message a notice to all recipients, threaded by incident, within a deadline.

use std::collections::BTreeSet;
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

/// Sends a notice to those recipients that are not in `accepted`, and adds those whose server has taken it.
pub(super) async fn send(
    config: &EmailConfig,
    dashboard: Option<&str>,
    notice: &Notice,
    accepted: &mut BTreeSet<String>,
    deadline: Duration,
) -> Result<(), DeliveryError> {
    let letter = compose(config, dashboard, notice).map_err(DeliveryError::transient)?;
    let place = format!("{}:{}", config.host, config.port);
    match tokio::time::timeout(deadline, transfer(config, &place, &letter, accepted)).await {
        Ok(Ok(connection)) => {
            if let Some(mut connection) = connection {
                // The message is delivered, whatever becomes of the good-bye.
                let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
            }
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
    to: Vec<Address>,
    bytes: Vec<u8>,
}

fn compose(config: &EmailConfig, dashboard: Option<&str>, notice: &Notice) -> Result<Letter, String> {
    let mailbox = |text: &str| {
        text.parse::<Mailbox>().map_err(|error| format!("`{text}` is not an address for mail: {error}"))
    };
    let mut from = mailbox(&config.from)?;
    from.name.get_or_insert_with(|| "Mainstay".to_owned());
    let to = config.to.iter().map(|to| mailbox(to)).collect::<Result<Vec<_>, _>>()?;
    let id = |kind| message_id(notice, kind, from.email.domain());
    let mut builder = Message::builder()
        .from(from.clone())
        .subject(message::subject(notice))
        .message_id(Some(id(notice.kind)))
        .header(AutoSubmitted)
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN);
    if notice.kind != NoticeKind::Opened {
        builder = builder.in_reply_to(id(NoticeKind::Opened)).references(id(NoticeKind::Opened));
    }
    for to in &to {
        builder = builder.to(to.clone());
    }
    let built = builder
        .body(message::body(notice, dashboard))
        .map_err(|error| format!("the mail cannot be put together: {error}"))?;
    let to = to.into_iter().map(|to| to.email).collect();
    Ok(Letter { from: from.email, to, bytes: built.formatted() })
}

/// The same at every attempt and after a restart, so that a message that was sent twice is shown once. The time of the
/// incident is in it because numbers begin anew with a new data directory.
fn message_id(notice: &Notice, kind: NoticeKind, domain: &str) -> String {
    format!("<incident-{}.{}.{}@{domain}>", notice.incident, kind.as_str(), notice.began_at.0)
}

/// Hands the letter over; `None`: everybody had it already.
async fn transfer(
    config: &EmailConfig,
    place: &str,
    letter: &Letter,
    accepted: &mut BTreeSet<String>,
) -> Result<Option<AsyncSmtpConnection>, DeliveryError> {
    let left: Vec<&Address> =
        letter.to.iter().filter(|to| !accepted.contains(AsRef::<str>::as_ref(*to))).collect();
    if left.is_empty() {
        return Ok(None);
    }
    let mut connection = connect(config, place).await?;
    let refused = |what: &str, error: Error| refusal(place, what, &error);
    let parameters = utf8_parameters(&connection, letter);
    connection
        .command(Mail::new(Some(letter.from.clone()), parameters))
        .await
        .map_err(|error| refused("the sender", error))?;
    let mut taken = Vec::new();
    let mut refusals = Vec::new();
    for to in left {
        match connection.command(Rcpt::new(to.clone(), Vec::new())).await {
            Ok(_) => taken.push(to.to_string()),
            // An answer is about this recipient; anything else is the end of the connection.
            Err(error) if error.status().is_some() => {
                refusals.push(refusal(place, &format!("the recipient {to}"), &error));
            }
            Err(error) => return Err(refused("the recipients", error)),
        }
    }
    if !taken.is_empty() {
        connection.command(Data).await.map_err(|error| refused("the message", error))?;
        connection.message(&letter.bytes).await.map_err(|error| refused("the message", error))?;
        accepted.extend(taken);
    }
    settle(refusals, !accepted.is_empty())?;
    Ok(Some(connection))
}

/// What refused recipients mean for the delivery as a whole.
fn settle(refusals: Vec<DeliveryError>, somebody_has_it: bool) -> Result<(), DeliveryError> {
    if refusals.is_empty() {
        return Ok(());
    }
    let texts: Vec<&str> = refusals.iter().map(|refusal| refusal.text.as_str()).collect();
    let text = texts.join("; ");
    if refusals.iter().any(|refusal| !refusal.permanent) {
        return Err(DeliveryError::transient(text));
    }
    if somebody_has_it {
        tracing::warn!(%text, "a recipient of alerts is refused; correct or remove the address in `on-call`");
        return Ok(());
    }
    Err(DeliveryError::permanent(text))
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
    let wanted = !ascii(&letter.from) || !letter.to.iter().all(ascii);
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
