//! The demo's mail server, spoken to by lettre as alerts are, and by hand where a client misbehaves.

use lettre::message::{MultiPart, header::ContentType};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A client that speaks line by line.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn new(sink: &MailSink) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(sink.address()).await.unwrap()));
        assert_eq!(client.code().await, 220);
        client
    }

    /// The code of the answer's last line.
    async fn code(&mut self) -> u16 {
        loop {
            let mut line = String::new();
            timeout(LONG, self.0.read_line(&mut line)).await.expect("an answer in time").unwrap();
            if line.as_bytes().get(3) == Some(&b' ') {
                return line[..3].parse().unwrap();
            }
            assert_eq!(line.as_bytes().get(3), Some(&b'-'), "{line:?}");
        }
    }

    async fn say(&mut self, text: &str) -> u16 {
        self.0.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
        self.code().await
    }
}

async fn send(sink: &MailSink, mail: Message) {
    let address = sink.address();
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
        .port(address.port())
        .build();
    transport.send(mail).await.unwrap();
}

fn message(subject: &str) -> lettre::message::MessageBuilder {
    Message::builder()
        .from("Mainstay <mainstay@example.com>".parse().unwrap())
        .to("ops@example.com".parse().unwrap())
        .cc("web@example.com".parse().unwrap())
        .subject(subject)
}

#[tokio::test]
async fn a_mail_arrives_with_its_envelope_subject_and_text() {
    let (sink, mut mails) = MailSink::start().await.unwrap();
    let text = "Server shop/app-1 is down.\n\n.hidden dots\n..\nand a line of more than seventy-six characters, so that an encoder breaks it somewhere.";
    let subject =
        "shop: app-1 was killed – restarted after 0.4 s, and nobody noticed that anything happened at all";
    send(&sink, message(subject).header(ContentType::TEXT_PLAIN).body(text.to_owned()).unwrap()).await;
    let mail = mails.recv().await.unwrap();
    assert_eq!(mail.from, "mainstay@example.com");
    assert_eq!(mail.to, ["ops@example.com", "web@example.com"]);
    assert_eq!(mail.subject, subject);
    assert_eq!(mail.text, text);
}

#[tokio::test]
async fn of_a_mail_in_parts_the_plain_text_is_shown() {
    let (sink, mut mails) = MailSink::start().await.unwrap();
    let parts = MultiPart::alternative_plain_html("größer = schöner".to_owned(), "<b>no</b>".to_owned());
    send(&sink, message("parts").multipart(parts).unwrap()).await;
    let mail = mails.recv().await.unwrap();
    assert_eq!((mail.subject.as_str(), mail.text.as_str()), ("parts", "größer = schöner"));
}

#[tokio::test]
async fn commands_out_of_order_are_refused_and_do_no_harm() {
    let (sink, mut mails) = MailSink::start().await.unwrap();
    let mut client = Client::new(&sink).await;
    assert_eq!(client.say("HELO me").await, 250);
    assert_eq!(client.say("RCPT TO:<a@b>").await, 503);
    assert_eq!(client.say("DATA").await, 503);
    assert_eq!(client.say("MAIL FROM a@b").await, 501);
    assert_eq!(client.say("mail from:<> SIZE=3").await, 250);
    assert_eq!(client.say("MAIL FROM:<x@y>").await, 503);
    assert_eq!(client.say("RCPT TO:<>").await, 501);
    assert_eq!(client.say("RCPT TO:<lost@b>").await, 250);
    assert_eq!(client.say("RSET").await, 250);
    assert_eq!(client.say("DATA").await, 503);
    assert_eq!(client.say("NOOP").await, 250);
    assert_eq!(client.say("VRFY a").await, 502);
    assert_eq!(client.say("EHLO me").await, 250);
    assert_eq!(client.say("MAIL FROM:<>").await, 250);
    assert_eq!(client.say("RCPT TO:<a@b>").await, 250);
    assert_eq!(client.say("DATA").await, 354);
    assert_eq!(client.say("Subject: a\r\n b\r\n\r\n..x\r\n.").await, 250);
    assert_eq!(client.say("QUIT").await, 221);
    let mail = mails.recv().await.unwrap();
    let expected =
        Mail { from: String::new(), to: vec!["a@b".into()], subject: "a b".into(), text: ".x".into() };
    assert_eq!(mail, expected);
}

#[tokio::test]
async fn lines_mails_recipients_and_clients_are_limited() {
    let (sink, mut mails) = MailSink::start().await.unwrap();
    let mut client = Client::new(&sink).await;
    assert_eq!(client.say("MAIL FROM:<a@b>").await, 250);
    for _ in 0..RECIPIENTS_MAX {
        assert_eq!(client.say("RCPT TO:<a@b>").await, 250);
    }
    assert_eq!(client.say("RCPT TO:<a@b>").await, 452);
    assert_eq!(client.say("DATA").await, 354);
    let line = format!("{}\r\n", "x".repeat(4094));
    assert_eq!(client.say(&format!("{}.", line.repeat(MAIL_MAX / 4096 + 1))).await, 552);
    assert!(mails.try_recv().is_err());
    assert_eq!(client.say(&"x".repeat(LINE_MAX + 1)).await, 500);
    assert_eq!(client.0.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

    let mut held = Vec::new();
    let refused = loop {
        let mut stream = BufReader::new(TcpStream::connect(sink.address()).await.unwrap());
        let mut greeting = String::new();
        stream.read_line(&mut greeting).await.unwrap();
        if !greeting.starts_with("220") {
            break greeting;
        }
        held.push(stream);
        assert!(held.len() <= CLIENTS_MAX);
    };
    assert!(refused.starts_with("421"), "{refused}");
}

#[tokio::test]
async fn when_nobody_takes_the_mails_the_client_is_told_to_come_again() {
    let (sink, _mails) = MailSink::start().await.unwrap();
    let mut client = Client::new(&sink).await;
    for n in 0..=WAITING_MAX {
        assert_eq!(client.say("MAIL FROM:<a@b>").await, 250);
        assert_eq!(client.say("RCPT TO:<a@b>").await, 250);
        assert_eq!(client.say("DATA").await, 354);
        assert_eq!(client.say("\r\nhi\r\n.").await, if n < WAITING_MAX { 250 } else { 452 });
    }
}

#[test]
fn encoded_words_are_joined_and_strange_ones_are_left() {
    assert_eq!(decode_words("a =?utf-8?B?w7w=?= =?UTF-8?q?=C3=B6_?= b"), "a üö  b");
    assert_eq!(
        decode_words("=?iso-8859-1?q?=FC?= =?utf-8?x?a?= =?utf-8?b?!?="),
        "=?iso-8859-1?q?=FC?= =?utf-8?x?a?= =?utf-8?b?!?="
    );
}

proptest! {
    #[test]
    fn arbitrary_mails_never_panic(mail in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_mail(&mail);
    }

    #[test]
    fn mails_of_odd_parts_never_panic(pieces in prop::collection::vec(prop_oneof![
        Just("Content-Type: multipart/mixed; boundary=\"b\"\n"), Just("Content-Type: multipart/x; boundary=b\n"),
        Just("Content-Type: text/plain\n"), Just("Content-Transfer-Encoding: base64\n"), Just("Subject: =?utf-8?q?=?=\n"),
        Just("Content-Transfer-Encoding: quoted-printable\n"), Just("--b\n"), Just("--b--\n"), Just("\n"), Just("=4"), Just(" x\n"), Just("ü=\n"),
    ], 0..30)) {
        let _ = read_mail(pieces.concat().as_bytes());
    }
}
