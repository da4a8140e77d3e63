//! How people are told: mail servers and webhooks; text messages are `sms`'s, whom to tell is `on_call`'s.

use std::path::PathBuf;

use base64::Engine as _;
use mainstay_model::escalation::{OnCall, Way};

use super::whole::Resolver;
use super::{AlertConfig, EmailConfig, Secret, SmtpTls, WebhookConfig};
use crate::config::address::{self, Refusal};
use crate::config::raw::{RawAlert, RawEmail, RawOnCall, RawWebhook};
use crate::config::read::{At, Field, Named, Text};
use crate::config::secrets;

/// A mail server as its URL names it.
#[derive(Debug, PartialEq, Eq)]
struct SmtpUrl {
    tls: SmtpTls,
    user: Option<String>,
    host: String,
    port: u16,
}

impl Resolver<'_> {
    /// All ways of telling people, and whom.
    pub(super) fn alerts(
        &self,
        field: &Field<RawAlert>,
        on_call: &Field<Named<RawOnCall>>,
    ) -> (AlertConfig, OnCall) {
        let absent = RawAlert::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let people = self.people(on_call);
        let is_there = |absent: bool| !absent || matches!(field, Field::Bad);
        if let (Some(place), false) = (people.first(Way::Email), is_there(raw.email.is_absent())) {
            self.mistakes.absent(
                place,
                "there is no mail server to tell people by",
                "write [alert.email] with smtp = \"smtps://user@smtp.example.com\" and from = \"mainstay@example.com\"",
            );
        }
        if let (Some(place), false) = (people.first(Way::Sms), is_there(raw.sms.is_absent())) {
            self.mistakes.absent(
                place,
                "there is no provider to send text messages by",
                "write [alert.sms] with twilio = { account = \"AC…\", token = { env = \"TWILIO_TOKEN\" }, from = \"+15005550006\" }",
            );
        }
        let config = AlertConfig {
            email: raw.email.get().and_then(|at| self.email(at, people.nobody(Way::Email))),
            sms: raw.sms.get().and_then(|at| self.sms(at, people.nobody(Way::Sms))),
            webhook: raw.webhook.get().and_then(|at| self.webhook(at)),
            dashboard: raw
                .dashboard
                .get()
                .and_then(|at| self.accept(&at.place, address::web_url(&at.value.0))),
        };
        let escalate_from = self.escalate_from(&raw.escalate_from);
        (config, OnCall { groups: people.groups, escalate_from })
    }

    fn email(&self, at: &At<RawEmail>, nobody: bool) -> Option<EmailConfig> {
        let raw = &at.value;
        let missing = |name: &str, remedy: &str| {
            self.mistakes.absent(&at.place, format!("{name} is missing"), remedy);
        };
        if raw.smtp.is_absent() {
            missing("smtp", "write smtp = \"smtps://user@smtp.example.com\"");
        }
        if raw.from.is_absent() {
            missing("from", "write from = \"mainstay@example.com\"");
        }
        if nobody {
            let remedy = "write [on-call.web] with tell = [{ email = \"ops@example.com\" }]";
            self.mistakes.absent(&at.place, "nobody is on call by mail", remedy);
        }
        let url = raw.smtp.get().and_then(|smtp| self.accept(&smtp.place, smtp_url(&smtp.value.0)));
        let login = self.login(raw, url.as_ref());
        let ca = raw.ca.get().map(|ca| self.certificates(ca));
        let from = raw.from.get().and_then(|from| self.mailbox(from, "mainstay@example.com"));
        let SmtpUrl { tls, host, port, .. } = url?;
        Some(EmailConfig { host, port, tls, login, ca, from: from? })
    }

    fn login(&self, raw: &RawEmail, url: Option<&SmtpUrl>) -> Option<(String, Secret)> {
        let password = self.secret(&raw.password);
        let (url, smtp) = (url?, raw.smtp.get()?);
        match (&url.user, &raw.password) {
            (Some(user), Field::Absent) => {
                let what = format!("the password of user {user} is missing");
                self.mistakes.absent(
                    &smtp.place,
                    what,
                    "write password = { env = \"SMTP_PASSWORD\" }, or leave the user out",
                );
            }
            (None, Field::Here(at)) => {
                let remedy = format!("write the user in front of the mail server: smtps://user@{}", url.host);
                self.mistakes.key(&at.place, "a password without a user", remedy);
            }
            (Some(_), Field::Here(at)) if url.tls == SmtpTls::None && !is_loopback(&url.host) => {
                let remedy = "use smtps:// or smtp://, or a mail server that wants no password";
                self.mistakes.key(&at.place, "the password would travel unprotected", remedy);
            }
            _ => {}
        }
        Some((url.user.clone()?, password?))
    }

    fn certificates(&self, at: &At<Text>) -> PathBuf {
        let path = self.base_dir.join(&at.value.0);
        let remedy = "name a PEM file with -----BEGIN CERTIFICATE-----";
        match secrets::read_file(&path) {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => {}
            Ok(_) => self.mistakes.value(&at.place, "there is no certificate in this file", remedy),
            Err(what) => self.mistakes.value(&at.place, what, remedy),
        }
        path
    }

    fn webhook(&self, at: &At<RawWebhook>) -> Option<WebhookConfig> {
        let raw = &at.value;
        if raw.url.is_absent() {
            let remedy = "write url = \"https://hooks.example.com/mainstay\"";
            self.mistakes.absent(&at.place, "url is missing", remedy);
        }
        let url = raw.url.get().and_then(|url| self.accept(&url.place, address::web_url(&url.value.0)));
        let secret = self.secret(&raw.secret);
        let key = match (secret, raw.secret.get()) {
            (Some(secret), Some(written)) => self.accept(&written.place, signing_key(secret.reveal())),
            _ => None,
        };
        Some(WebhookConfig { url: url?, secret: key })
    }
}

fn smtp_url(text: &str) -> Result<SmtpUrl, Refusal> {
    let example = "write \"smtps://user@smtp.example.com\"";
    let refuse = |what: &str, remedy: &str| Err((what.to_owned(), remedy.to_owned()));
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse("not the address of a mail server", example);
    };
    if !["smtps", "smtp", "smtp+plain"].contains(&scheme) {
        return refuse("a mail server's address begins with smtps://, smtp:// or smtp+plain://", example);
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, server) = match rest.rsplit_once('@') {
        Some((user, server)) => (Some(user), server),
        None => (None, rest),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return refuse(
            "a password does not belong in the config",
            "write smtps://user@smtp.example.com and password = { env = \"SMTP_PASSWORD\" }",
        );
    }
    let Some((host, port)) = address::host_and_port(server) else {
        return refuse(
            "the mail server's port is not a number from 1 to 65535",
            "write smtps://smtp.example.com:465",
        );
    };
    let host = address::host_name(host)
        .map_err(|_| ("not the address of a mail server".to_owned(), example.to_owned()))?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let user = user.map(percent_decoded).filter(|user| !user.is_empty());
    let (tls, usual_port) = match scheme {
        "smtps" => (SmtpTls::Implicit, 465),
        "smtp" if !is_loopback(&host) => (SmtpTls::StartTls, 587),
        _ => (SmtpTls::None, 25),
    };
    Ok(SmtpUrl { tls, user, host, port: port.unwrap_or(usual_port) })
}

/// The key of a Standard Webhooks secret.
fn signing_key(secret: &str) -> Result<Vec<u8>, Refusal> {
    let refusal = || {
        let what = "not a signing secret: whsec_ and 24 to 64 bytes in base64".to_owned();
        (what, "make one: echo whsec_$(head -c 32 /dev/urandom | base64)".to_owned())
    };
    let text = secret.trim().strip_prefix("whsec_").ok_or_else(refusal)?;
    let key = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| refusal())?;
    if (24..=64).contains(&key.len()) { Ok(key) } else { Err(refusal()) }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `ops%40example.com` is `ops@example.com`; what is no escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.filter(|hex| first == b'%' && hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            Some(hex) => {
                bytes.push(u8::from_str_radix(hex, 16).unwrap_or(first));
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> (SmtpTls, Option<String>, String, u16) {
        let url = smtp_url(text).unwrap();
        (url.tls, url.user, url.host, url.port)
    }

    #[test]
    fn the_scheme_decides_protection_and_port() {
        assert_eq!(
            url("smtps://smtp.example.com"),
            (SmtpTls::Implicit, None, "smtp.example.com".into(), 465)
        );
        assert_eq!(url("smtp://smtp.example.com"), (SmtpTls::StartTls, None, "smtp.example.com".into(), 587));
        assert_eq!(
            url("smtp+plain://smtp.example.com"),
            (SmtpTls::None, None, "smtp.example.com".into(), 25)
        );
        assert_eq!(url("smtp://127.0.0.1:1025"), (SmtpTls::None, None, "127.0.0.1".into(), 1025));
        assert_eq!(url("smtp://[::1]:1025/"), (SmtpTls::None, None, "::1".into(), 1025));
    }

    #[test]
    fn a_user_may_be_a_mail_address() {
        let user = |text| smtp_url(text).unwrap().user.unwrap();
        assert_eq!(user("smtps://ops%40example.com@smtp.example.com"), "ops@example.com");
        assert_eq!(user("smtps://ops@example.com@smtp.example.com"), "ops@example.com");
    }

    #[test]
    fn a_password_in_the_url_is_refused() {
        assert!(smtp_url("smtps://ops:hunter2@smtp.example.com").unwrap_err().1.contains("env"));
    }

    #[test]
    fn strange_mail_servers_are_refused() {
        for bad in [
            "smtp.example.com",
            "http://smtp.example.com",
            "smtps://",
            "smtps://a b",
            "smtps://x:0",
            "smtps://x:y",
        ] {
            assert!(smtp_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signing_secret_has_its_prefix_and_length() {
        assert_eq!(signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap().len(), 24);
        for bad in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!!!!", "whsec_AAAA"] {
            assert!(signing_key(bad).is_err(), "{bad}");
        }
    }
}
