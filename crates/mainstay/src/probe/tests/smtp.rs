//! The SMTP probe, against a real mail server and against replies that are none.

use super::peers::Python;
use super::*;
use crate::config::probe::SmtpProbe;

fn spec() -> SmtpProbe {
    SmtpProbe {
        hello: "probe.example".to_owned(),
        tls: false,
        starttls: false,
        require: Vec::new(),
        from: None,
        to: None,
    }
}

fn mail_for(to: &str) -> SmtpProbe {
    SmtpProbe { to: Some(to.to_owned()), ..spec() }
}

/// Debian's aiosmtpd, which takes mail for `good@…` alone and for nobody from `bad@…`.
const MAIL_SERVER: &str = r#"
import asyncio, ssl, sys
from aiosmtpd.smtp import SMTP
folder = sys.argv[1]
class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        if address.startswith("bad@"):
            return "550 5.1.8 sender refused"
        envelope.mail_from = address
        return "250 OK"
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("later@"):
            return "451 4.7.1 greylisted, come again"
        return "250 OK" if address.startswith("good@") else "550 5.1.1 no such user"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
async def main():
    loop = asyncio.get_running_loop()
    make = lambda: SMTP(Handler(), hostname="mail.example.com", tls_context=context)
    server = await loop.create_server(make, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"#;

#[tokio::test]
async fn a_real_mail_server_is_greeted_in_the_clear_and_over_tls_and_asked_for_whom_it_takes_mail() {
    let root = Root::new();
    let mail = Python::start(MAIL_SERVER, &root);
    let told = async |probe| words(&probe_by(mail.address, ProbeSpec::Smtp(probe), Some(&root)).await);
    let greeted = told(spec()).await;
    assert!(greeted.starts_with("good: answered \"220 mail.example.com"), "{greeted}");
    let needs = |require: &str| SmtpProbe { require: vec![require.to_owned()], ..spec() };
    assert!(told(needs("starttls")).await.starts_with("good"));
    assert_eq!(told(needs("CHUNKING")).await, "does not offer CHUNKING (health.smtp.require)");
    let takes = told(mail_for("good@example.com")).await;
    assert!(takes.ends_with("and takes mail for <good@example.com>"), "{takes}");
    let refused = told(mail_for("other@example.com")).await;
    assert_eq!(refused, "takes no mail for <other@example.com>: 550 5.1.1 no such user");
    let later = told(mail_for("later@example.com")).await;
    assert_eq!(later, "takes no mail for <later@example.com>: 451 4.7.1 greylisted, come again (for now)");
    let from = SmtpProbe { from: Some("bad@example.com".to_owned()), ..mail_for("good@example.com") };
    assert_eq!(told(from).await, "takes no mail from <bad@example.com>: 550 5.1.8 sender refused");

    let hidden = || SmtpProbe { starttls: true, ..mail_for("good@example.com") };
    assert!(told(hidden()).await.starts_with("good"));
    let stranger = probe_by(mail.address, ProbeSpec::Smtp(hidden()), Some(&Root::new())).await;
    assert!(matches!(stranger, Err(ProbeFailure::Certificate(_))), "{stranger:?}");
}

/// A server that says the first text, and each further one after it has heard a line.
async fn says(texts: &'static [&'static str]) -> SocketAddr {
    server(move |mut stream| async move {
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                while stream.read_u8().await.is_ok_and(|byte| byte != b'\n') {}
            }
            let _ = stream.write_all(text.as_bytes()).await;
        }
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await
}

#[tokio::test]
async fn what_is_no_mail_server_or_none_for_us_says_so() {
    for (texts, wanted) in [
        (&["554 no mail here\r\n"][..], "greeted with 554 no mail here"),
        (&["421 too busy\r\n"], "greeted with 421 too busy (for now)"),
        (&["SSH-2.0-OpenSSH_9.2\r\n"], "did not answer as a mail server does: \"SSH-2.0-OpenSSH_9.2\""),
        (&["\r\n"], "did not answer as a mail server does: \"\""),
        (&["220"], "did not answer in time"),
        (&["220 a\r\n", "502 what?\r\n"], "answered EHLO with 502 what?"),
        (&["220 a\r\n", "250-a\r\n250 SIZE 1\r\n", "500 no\r\n"], "answered QUIT with 500 no"),
    ] {
        let told = words(&probe_by(says(texts).await, ProbeSpec::Smtp(spec()), None).await);
        assert!(told.ends_with(wanted), "{texts:?}: {told}");
    }
    let flood =
        server(|mut stream| async move { while stream.write_all(b"220-more\r\n").await.is_ok() {} }).await;
    let told = words(&probe_by(flood, ProbeSpec::Smtp(spec()), None).await);
    assert_eq!(told, "did not answer as a mail server does: \"220-more\"");
}
