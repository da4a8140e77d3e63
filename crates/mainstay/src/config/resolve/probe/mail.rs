//! Probes of mail servers.

use super::super::whole::Resolver;
use crate::config::raw::RawSmtpProbe;
use crate::config::read::{At, Field, Text};

/// A probe of a mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpProbe {
    /// How it names itself.
    pub hello: String,
    /// TLS from the beginning.
    pub tls: bool,
    /// TLS by `STARTTLS`.
    pub starttls: bool,
    /// Extensions that must be offered.
    pub require: Vec<String>,
    /// Whom mail would come from; `None`: nobody, as that of servers does.
    pub from: Option<String>,
    /// For whom it must take mail.
    pub to: Option<String>,
}

impl Resolver<'_> {
    /// What a mail server is asked.
    pub(super) fn smtp_probe(&self, raw: &RawSmtpProbe) -> SmtpProbe {
        let on = |field: &Field<bool>| field.get().is_some_and(|at| at.value);
        let (tls, starttls) = (on(&raw.tls), on(&raw.starttls));
        if let (true, true, Some(at)) = (tls, starttls, raw.starttls.get()) {
            let what = "TLS begins with the connection or by a command, not by both";
            self.mistakes.value(&at.place, what, "remove starttls or tls");
        }
        if let (Some(at), true) = (raw.from.get(), raw.to.is_absent()) {
            let remedy = "write to = \"postmaster@example.com\", or remove from";
            self.mistakes.absent(&at.place, "from says nothing without to", remedy);
        }
        let word = |field: &Field<Text>| {
            let at = field.get()?;
            self.one_word(at);
            Some(at.value.0.clone())
        };
        let require = raw.require.get().map_or(&[][..], |at| &at.value.0.items);
        for at in require {
            if at.value.0.trim().is_empty() {
                self.mistakes.value(&at.place, "empty", "write \"8BITMIME\"");
            }
        }
        SmtpProbe {
            hello: word(&raw.hello).unwrap_or_else(|| "mainstay-probe".to_owned()),
            tls,
            starttls,
            require: require.iter().map(|at| at.value.0.clone()).collect(),
            from: word(&raw.from),
            to: word(&raw.to),
        }
    }

    /// What goes into a line of the protocol must not end it.
    fn one_word(&self, at: &At<Text>) {
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>');
        if at.value.0.is_empty() || at.value.0.contains(bad) {
            let what = "empty, or with spaces or brackets in it";
            self.mistakes.value(&at.place, what, "write \"postmaster@example.com\", or a name for hello");
        }
    }
}
