//! Who was told of an incident: by which way, when and with what outcome, and who is next.

use askama::Template;
use mainstay_model::Wall;
use mainstay_model::effect::NoticeKind;
use mainstay_model::escalation::Recipient;
use mainstay_model::incident::{Incident, IncidentState};

use crate::store::{Message, MessageState, StoreError};
use crate::web::words::{self, Ago};

#[derive(Template)]
#[template(path = "incident-told.html")]
pub(super) struct ToldPart {
    people: Vec<Person>,
    next: Option<(String, Ago)>,
    /// Nobody more is told, and why not.
    rest: Option<String>,
    trouble: Option<String>,
}

struct Person {
    name: String,
    way: &'static str,
    /// `at once`, `after 5 min`.
    step: String,
    messages: Vec<Told>,
}

struct Told {
    kind: &'static str,
    class: &'static str,
    state: String,
    at: Ago,
    /// Why it was not delivered.
    error: Option<String>,
}

impl ToldPart {
    pub(super) fn of(incident: &Incident, messages: Result<&[Message], &StoreError>, now: Wall) -> Self {
        let (messages, trouble) = match messages {
            Ok(messages) => (messages, None),
            Err(error) => (&[][..], Some(error.to_string())),
        };
        let escalation = &incident.escalation;
        let told = |to: Option<&Recipient>| -> Vec<Told> {
            let same = |message: &&Message| match (&message.to, to) {
                (Some(a), Some(b)) => a.is_same(b),
                (None, None) => true,
                _ => false,
            };
            messages.iter().filter(same).map(|message| Told::of(message, now)).collect()
        };
        let mut people: Vec<Person> = escalation
            .told
            .iter()
            .map(|telling| Person {
                name: telling.to.name.clone(),
                way: telling.to.way.word(),
                step: step(telling.after_ms),
                messages: told(Some(&telling.to)),
            })
            .collect();
        let webhook = told(None);
        if !webhook.is_empty() {
            let (name, step) = ("Webhook".to_owned(), step(0));
            people.push(Person { name, way: "signed call", step, messages: webhook });
        }
        let next = escalation.next.as_ref().map(|next| {
            let names: Vec<String> =
                next.to.iter().map(|to| format!("{} by {}", to.name, to.way.word())).collect();
            (names.join(", "), words::ago(next.at, now))
        });
        let rest = match (incident.state, &incident.acknowledged) {
            (IncidentState::Acknowledged, Some((by, _))) => {
                Some(format!("{by} has taken it on: nobody else is told"))
            }
            _ => None,
        };
        Self { people, next, rest, trouble }
    }
}

impl Told {
    fn of(message: &Message, now: Wall) -> Self {
        let tried = || format!("not yet, tried {}", words::counted(message.attempts.into(), "time", "times"));
        let (class, state) = match message.state {
            MessageState::Waiting => ("waiting", "waits to be sent".to_owned()),
            MessageState::Trying => ("trying", tried()),
            MessageState::Accepted => ("good", "sent".to_owned()),
            MessageState::Delivered => ("good", "delivered".to_owned()),
            MessageState::Failed => ("bad", "failed".to_owned()),
            MessageState::HeldBack => ("bad", "not sent".to_owned()),
        };
        Self {
            kind: match message.kind {
                NoticeKind::Opened => "it began",
                NoticeKind::Escalated => "nobody has taken it on",
                NoticeKind::Worsened => "it is worse",
                NoticeKind::NeedsPerson => "a person is needed",
                NoticeKind::Resolved => "it is over",
            },
            class,
            state,
            at: words::ago(message.changed_at.unwrap_or(message.at), now),
            error: message.error.clone(),
        }
    }
}

fn step(after_ms: u64) -> String {
    match after_ms {
        0 => "first step".to_owned(),
        ms => format!("after {}", words::coarse(i64::try_from(ms).unwrap_or(i64::MAX))),
    }
}
