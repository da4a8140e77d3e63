//! How text messages are sent: Twilio's API, or a call of any other that the user writes as templates.

use super::on_call::e164;
use super::whole::Resolver;
use super::{SmsCall, SmsConfig, SmsProvider};
use crate::config::address::{self, Refusal};
use crate::config::raw::{RawSms, RawSmsHttp, RawTwilio};
use crate::config::read::{At, Field, Private};
use crate::config::template::Template;

/// Where Twilio's API is.
const TWILIO: &str = "https://api.twilio.com";
/// More would be read by nobody.
const BUDGET_MAX: u32 = 1000;

impl Resolver<'_> {
    /// `alert.sms`.
    pub(super) fn sms(&self, at: &At<RawSms>, nobody: bool) -> Option<SmsConfig> {
        let raw = &at.value;
        if nobody {
            let remedy = "write [on-call.web] with tell = [{ sms = \"+491701234567\", after = \"5m\" }]";
            self.mistakes.absent(&at.place, "nobody is on call by SMS", remedy);
        }
        let budget = self.count(&raw.budget, 10, 2..=BUDGET_MAX);
        let provider = match (&raw.twilio, &raw.http) {
            (Field::Here(twilio), Field::Absent) => self.twilio(twilio),
            (Field::Absent, Field::Here(http)) => self.sms_call(http).map(SmsProvider::Http),
            (Field::Absent, Field::Absent) => {
                let remedy = "write twilio = { account = \"AC…\", token = { env = \"TWILIO_TOKEN\" }, from = \"+15005550006\" }, or http = { … }";
                self.mistakes.absent(&at.place, "it does not say who sends text messages", remedy);
                None
            }
            (_, Field::Here(http)) => {
                self.mistakes.key(
                    &http.place,
                    "two providers of text messages",
                    "keep either twilio or http",
                );
                None
            }
            (Field::Bad, _) | (_, Field::Bad) => None,
        };
        Some(SmsConfig { provider: provider?, budget })
    }

    fn twilio(&self, at: &At<RawTwilio>) -> Option<SmsProvider> {
        let raw = &at.value;
        let needed = [
            ("account", raw.account.is_absent(), "write account = \"AC…\", as Twilio's console shows it"),
            ("token", raw.token.is_absent(), "write token = { env = \"TWILIO_TOKEN\" }"),
            ("from", raw.from.is_absent(), "write from = \"+15005550006\", a number of yours at Twilio"),
        ];
        for (key, _, remedy) in needed.into_iter().filter(|(_, absent, _)| *absent) {
            self.mistakes.absent(&at.place, format!("{key} is missing"), remedy);
        }
        let account = raw.account.get().and_then(|at| self.accept(&at.place, twilio_account(&at.value.0)));
        let from = raw.from.get().and_then(|at| self.accept(&at.place, sender(&at.value.0)));
        let url = match &raw.url {
            Field::Here(url) => self.accept(&url.place, address::web_url(&url.value.0))?,
            Field::Absent => TWILIO.to_owned(),
            Field::Bad => return None,
        };
        let url = url.trim_end_matches('/').to_owned();
        Some(SmsProvider::Twilio { token: self.secret(&raw.token)?, url, account: account?, from: from? })
    }

    fn sms_call(&self, at: &At<RawSmsHttp>) -> Option<SmsCall> {
        let raw = &at.value;
        let secret = self.secret(&raw.secret);
        let url = match &raw.url {
            Field::Here(url) => self.template(url).filter(|template| {
                let sample = template.sample();
                let fine = address::web_url(&sample).is_ok() && !sample.contains('"');
                if !fine {
                    let remedy = "write \"https://sms.example.com/send?to={{ to|urlencode }}\"";
                    self.mistakes.value(&url.place, "not a web address once its values are in it", remedy);
                }
                fine
            }),
            Field::Absent => {
                self.mistakes.absent(
                    &at.place,
                    "url is missing",
                    "write url = \"https://sms.example.com/send\"",
                );
                None
            }
            Field::Bad => None,
        };
        let method = raw.method.get().map_or("POST", |at| at.value.0.as_str());
        if let Some(at) = raw.method.get().filter(|_| !["POST", "PUT", "GET"].contains(&method)) {
            self.mistakes.value(&at.place, "not a method for this", "write \"POST\", \"PUT\" or \"GET\"");
        }
        let body = match &raw.body {
            Field::Here(body) => self.body(body).map(Some),
            Field::Absent => Some(None),
            Field::Bad => None,
        };
        let headers = self.sms_headers(raw);
        let names_text =
            [&raw.url, &raw.body].into_iter().filter_map(Field::get).any(|at| at.value.0.contains("text"));
        if !names_text && url.is_some() && body.is_some() {
            let remedy = "write body = '{\"to\": {{ to|tojson }}, \"text\": {{ text|tojson }}}'";
            self.mistakes.absent(&at.place, "the text is sent nowhere", remedy);
        }
        Some(SmsCall { method: method.to_owned(), url: url?, headers: headers?, body: body?, secret })
    }

    fn body(&self, at: &At<Private>) -> Option<Template> {
        let template = self.template(at)?;
        let sample = template.sample();
        let is_json = serde_json::from_str::<serde_json::Value>(&sample).is_ok();
        if sample.trim_start().starts_with(['{', '[']) && !is_json {
            let remedy = "write {{ text|tojson }}, which writes its quotes too, in place of \"{{ text }}\"";
            self.mistakes.value(&at.place, "not JSON once a text with quotation marks is in it", remedy);
        }
        Some(template)
    }

    fn sms_headers(&self, raw: &RawSmsHttp) -> Option<Vec<(String, Template)>> {
        let named = match &raw.headers {
            Field::Here(headers) => &headers.value.0[..],
            Field::Absent => &[],
            Field::Bad => return None,
        };
        let mut headers = Vec::new();
        for (name, value) in named {
            let fine = !name.value.is_empty()
                && name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !fine {
                self.mistakes.key(&name.place, "not the name of a header", "write \"Authorization\"");
            }
            let Field::Here(value) = value else { continue };
            if let Some(template) = self.template(value) {
                if template.sample().chars().any(char::is_control) {
                    self.mistakes.value(&value.place, "a header is one line", "leave line ends out");
                }
                headers.push((name.value.clone(), template));
            }
        }
        Some(headers)
    }

    fn template(&self, at: &At<Private>) -> Option<Template> {
        self.accept(&at.place, Template::of_sms(&at.value.0))
    }
}

fn twilio_account(text: &str) -> Result<String, Refusal> {
    let digits = text.strip_prefix("AC").filter(|rest| rest.len() == 32);
    if digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Ok(text.to_owned());
    }
    let remedy = "write \"AC\" and 32 digits, as Twilio's console shows it".to_owned();
    Err(("not an account of Twilio".to_owned(), remedy))
}

/// A number, a messaging service, or a name that is shown in place of a number.
fn sender(text: &str) -> Result<String, Refusal> {
    let service = text.strip_prefix("MG").is_some_and(|rest| rest.len() == 32);
    let name = (1..=11).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ')
        && text.bytes().any(|b| b.is_ascii_alphabetic());
    if service || name { Ok(text.to_owned()) } else { e164(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_a_number_a_service_or_a_name() {
        for good in ["+15005550006", "MG0123456789abcdef0123456789abcdef", "Mainstay"] {
            assert_eq!(sender(good).as_deref(), Ok(good));
        }
        for bad in ["", "A name too long", "15005550006", "Main-stay"] {
            assert!(sender(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_account_is_ac_and_32_digits() {
        assert!(twilio_account("AC0123456789abcdef0123456789abcdef").is_ok());
        for bad in ["", "AC", "SK0123456789abcdef0123456789abcdef", "AC0123456789abcdef0123456789abcdeg"] {
            assert!(twilio_account(bad).is_err(), "{bad}");
        }
    }
}
