//! Texts that the user writes as templates (minijinja): checked with the config, so that a slip is not found at three in
//! the morning.

use std::borrow::Cow;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

/// A template that is known to render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

/// What a template of a text message may name.
#[derive(Debug, Clone)]
pub struct SmsValues<'a> {
    /// The number, `+491701234567`.
    pub to: &'a str,
    /// The text, of characters that every telephone shows.
    pub text: &'a str,
    /// The incident's number.
    pub incident: u64,
    /// `opened`, `escalated`, `worsened`, `needs-person` or `resolved`.
    pub kind: &'a str,
    /// `degraded`, `partial` or `down`.
    pub severity: &'a str,
    /// The service.
    pub service: &'a str,
    /// The person's name.
    pub name: &'a str,
    /// What `secret` names; empty without one.
    pub secret: &'a str,
}

impl SmsValues<'_> {
    /// Values that hurt where they are not quoted.
    const SAMPLE: SmsValues<'static> = SmsValues {
        to: "+491701234567",
        text: "[shop] DOWN: \"app-2\" & 'app-3' \\ 100%, since 08:26 UTC",
        incident: 7,
        kind: "opened",
        severity: "down",
        service: "shop",
        name: "Ada \"on call\"",
        secret: "s3cret",
    };

    fn named(&self) -> Value {
        Value::from_pairs([
            ("to", Value::from(self.to)),
            ("text", Value::from(self.text)),
            ("incident", Value::from(self.incident)),
            ("kind", Value::from(self.kind)),
            ("severity", Value::from(self.severity)),
            ("service", Value::from(self.service)),
            ("name", Value::from(self.name)),
            ("secret", Value::from(self.secret)),
        ])
    }
}

impl Template {
    /// Takes a template that renders with every value it names.
    ///
    /// # Errors
    /// What is wrong with it and what to write, for a person.
    pub(super) fn of_sms(source: &str) -> Result<Self, (String, String)> {
        let template = Self(source.to_owned());
        match template.try_render(&SmsValues::SAMPLE) {
            Ok(_) => Ok(template),
            Err(error) => {
                let detail = match error.kind() {
                    ErrorKind::UndefinedError => "it names a value that there is not".to_owned(),
                    kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
                };
                let line = match error.line() {
                    Some(line) if source.lines().count() > 1 => format!(" in its line {line}"),
                    _ => String::new(),
                };
                let remedy = "write {{ to }}, {{ text }}, {{ incident }}, {{ kind }}, {{ severity }}, {{ service }}, {{ name }} or \
                     {{ secret }}, with |tojson or |urlencode where it needs quoting";
                Err((format!("a mistake in the template{line}: {detail}"), remedy.to_owned()))
            }
        }
    }

    /// As it looks with values that hurt where they are not quoted.
    pub(super) fn sample(&self) -> String {
        self.render(&SmsValues::SAMPLE).unwrap_or_default()
    }

    /// The text with its values.
    ///
    /// # Errors
    /// What went wrong, for a person; hardly ever, as it was tried with the config.
    pub fn render(&self, values: &SmsValues<'_>) -> Result<String, String> {
        self.try_render(values).map_err(|error| error.to_string())
    }

    fn try_render(&self, values: &SmsValues<'_>) -> Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.add_filter("urlencode", |text: Cow<'_, str>| url_encoded(&text));
        environment.render_str(&self.0, values.named())
    }
}

/// Every byte that is not plainly harmless, as `%2B`.
pub fn url_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_names_its_values_and_quotes_them_for_json_and_urls() {
        let template = Template::of_sms("{\"to\": {{ to|tojson }}, \"text\": {{ text | tojson }}}").unwrap();
        let json: serde_json::Value = serde_json::from_str(&template.sample()).unwrap();
        assert_eq!(json["text"], SmsValues::SAMPLE.text);
        let template = Template::of_sms("to={{ to|urlencode }}&text={{ text|urlencode }}").unwrap();
        assert!(
            template.sample().starts_with("to=%2B491701234567&text=%5Bshop%5D%20DOWN%3A%20%22app-2%22%20%26")
        );
    }

    #[test]
    fn a_mistake_says_where_and_what() {
        let (what, remedy) = Template::of_sms("fine\n{{ texd }}").unwrap_err();
        assert!(what.starts_with("a mistake in the template in its line 2: "), "{what}");
        assert!(remedy.contains("{{ text }}"));
        for bad in ["{{ text", "{% for x in text %}", "{{ text|nothing }}", "{{ text.nothing.more }}"] {
            assert!(Template::of_sms(bad).is_err(), "{bad}");
        }
    }
}
