//! A provider of text messages that speaks Twilio's Messages API over real HTTP, and is as well or as ill as a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;

use super::scripted::{Reply, Request, Scripted};

/// How the provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Takes messages, and says that they were delivered.
    Well,
    /// Takes messages, and says that they were not delivered.
    Undelivered,
    /// Refuses the number for good.
    BadNumber,
    /// Wants to be left alone for a while.
    Busy,
    /// Answers 500.
    Broken,
    /// Closes connections without a word.
    Away,
}

/// A message that the provider has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sms {
    pub to: String,
    pub from: String,
    pub body: String,
}

/// The provider.
pub struct SmsSink {
    server: Scripted,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    taken: Vec<Sms>,
}

/// The account and its token in tests.
pub const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
pub const TOKEN: &str = "a token of a test";

impl SmsSink {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State { mood: Mood::Well, taken: Vec::new() }));
        let shared = state.clone();
        let server = Scripted::start(move |request| answer(&shared, request)).await;
        Self { server, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub fn is(&self, mood: Mood) {
        self.state.lock().expect("no test panics while it holds this").mood = mood;
    }

    /// What it has taken, oldest first.
    pub fn taken(&self) -> Vec<Sms> {
        self.state.lock().expect("no test panics while it holds this").taken.clone()
    }

    /// Times that somebody tried to hand over a message.
    pub fn tried(&self) -> usize {
        self.server.seen().iter().filter(|request| request.method == "POST").count()
    }

    /// `[alert.sms]` of a config that sends by this provider.
    pub fn table(&self, budget: u32) -> String {
        format!(
            "[alert.sms]\nbudget = {budget}\ntwilio = {{ account = \"{ACCOUNT}\", token = {{ file = \"sms-token\" }}, \
             from = \"+15005550006\", url = \"http://{}\" }}",
            self.address()
        )
    }
}

fn answer(state: &Mutex<State>, request: &Request) -> Reply {
    let mut state = state.lock().expect("no test panics while it holds this");
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{ACCOUNT}:{TOKEN}"));
    let json = |status, body: serde_json::Value| Reply::Answer(status, body.to_string().into_bytes());
    if request.header("authorization") != Some(&format!("Basic {login}")) {
        return json(401, serde_json::json!({ "code": 20003, "message": "Authenticate", "status": 401 }));
    }
    let messages = format!("/2010-04-01/Accounts/{ACCOUNT}/Messages");
    if request.method == "GET" && request.target.starts_with(&format!("{messages}/SM")) {
        return json(
            200,
            match state.mood {
                Mood::Undelivered => serde_json::json!({ "status": "undelivered", "error_code": 30003 }),
                _ => serde_json::json!({ "status": "delivered", "error_code": null }),
            },
        );
    }
    assert_eq!(request.target, format!("{messages}.json"));
    match state.mood {
        Mood::Well | Mood::Undelivered => {
            let field = |name: &str| form_field(&request.body, name);
            state.taken.push(Sms { to: field("To"), from: field("From"), body: field("Body") });
            let sid = format!("SM{:032}", state.taken.len());
            json(201, serde_json::json!({ "sid": sid, "status": "queued", "error_code": null }))
        }
        Mood::BadNumber => json(
            400,
            serde_json::json!({ "code": 21211, "message": "The 'To' number is not valid", "status": 400 }),
        ),
        Mood::Busy => {
            json(429, serde_json::json!({ "code": 20429, "message": "Too Many Requests", "status": 429 }))
        }
        Mood::Broken => json(500, serde_json::json!({ "status": 500 })),
        Mood::Away => Reply::Close,
    }
}

/// A field of a form, decoded.
fn form_field(body: &[u8], name: &str) -> String {
    let body = String::from_utf8_lossy(body).into_owned();
    let value = body.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    let value = value.unwrap_or_else(|| panic!("no {name} in {body}")).replace('+', " ");
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escape {
            Some(hex) => {
                bytes.push(u8::from_str_radix(hex, 16).expect("an escape"));
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).expect("text in UTF-8")
}

#[test]
fn a_form_is_read_as_it_was_written() {
    assert_eq!(form_field(b"To=%2B49170&Body=a+b%20%26%C3%A4", "Body"), "a b &ä");
    assert_eq!(form_field(b"To=%2B49170&Body=a", "To"), "+49170");
}
