//! The books of a server while an attempt is under way there, and what a failed attempt says of it.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mainstay_model::ServerId;
use mainstay_model::input::FailureKind;

use super::view::Server;
use crate::policy::reflex::{FAILED, SILENT};
use crate::policy::retry::Stage;
use crate::policy::server::Borne;
use crate::policy::story::Cause;

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) cause: Cause,
    /// Reason enough to avoid the server, for so long at first.
    pub(crate) spell: Option<Duration>,
}

/// The word used in logs.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Erred(status) => status.fmt(f),
            cause => f.write_str(cause.as_str()),
        }
    }
}

/// Keeps a server's books of an attempt right, however it ends.
#[derive(Debug)]
pub(crate) struct InFlight {
    server: Rc<Server>,
    _borne: Borne,
    began: Instant,
    /// What became of it says something of the server.
    concluded: bool,
}

impl InFlight {
    /// An attempt begins.
    pub(crate) fn begin(server: &Rc<Server>, now: Instant) -> Self {
        let borne = server.state.begin_attempt();
        server.state.reflex.borrow_mut().attempt(now);
        Self { server: Rc::clone(server), _borne: borne, began: now, concluded: false }
    }

    /// At which server it is.
    pub(crate) fn at(&self) -> &Rc<Server> {
        &self.server
    }

    /// Its name.
    pub(crate) fn server(&self) -> &ServerId {
        &self.server.state.id
    }

    /// It failed; `waited`: for so long, if that says something of the server.
    pub(crate) fn failed(&mut self, stage: Stage, kind: FailureKind, waited: Option<Duration>) -> Failure {
        self.server.state.saw_failure(kind, waited, Instant::now());
        // One answer that is not HTTP is no reason to leave a server alone.
        let spell = (kind != FailureKind::Malformed).then_some(FAILED);
        self.concluded = spell.is_some();
        Failure { stage, cause: Cause::Fault(kind), spell }
    }

    /// There is no connection to the server, by its fault or its network's.
    pub(crate) fn unreached(&mut self, cause: Cause) -> Failure {
        if let Some(kind) = cause.kind() {
            self.server.state.saw_failure(kind, None, Instant::now());
        }
        self.concluded = true;
        Failure { stage: Stage::Unsent, cause, spell: Some(FAILED) }
    }

    /// The server has said that it did not look at the request.
    pub(crate) fn declined(&self) -> Failure {
        self.server.state.saw_failure(FailureKind::Refused, None, Instant::now());
        Failure { stage: Stage::Unsent, cause: Cause::Declined, spell: None }
    }

    /// The server takes no more requests over the connection, and has said that it did not look at this one. That is how servers
    /// end connections of which they have had enough, and no failure.
    pub(crate) fn gone_away(&self) -> Failure {
        Failure { stage: Stage::Unsent, cause: Cause::GoneAway, spell: None }
    }

    /// It was left because its server seems to hang. That counts as a failure only if it was found out for the second time:
    /// a pause of the server's is none, and for the first seconds avoiding it is enough.
    pub(crate) fn left(
        &mut self,
        stage: Stage,
        kind: FailureKind,
        waited: Duration,
        out_of_time: bool,
    ) -> Failure {
        let (state, now) = (&self.server.state, Instant::now());
        let again = state.reflex.borrow().began_before(self.began);
        self.concluded = true;
        let first = if out_of_time || again {
            state.saw_failure(kind, Some(waited), now);
            FAILED
        } else {
            state.saw_wait(waited, now);
            SILENT
        };
        Failure { stage, cause: Cause::Hang(kind), spell: Some(first) }
    }

    /// Its connection had been used before, and was closed without an answer.
    pub(crate) fn stale(&self, stage: Stage) -> Failure {
        self.server.state.saw_failure(FailureKind::Reset, None, Instant::now());
        Failure { stage, cause: Cause::Stale, spell: None }
    }

    /// The answer's head is there, so long after its request was sent.
    pub(crate) fn answered(&mut self, status: u16, sent_at: Instant, now: Instant) {
        self.server.state.saw_answer(status, now.saturating_duration_since(sent_at), now);
        self.concluded = true;
    }

    /// Another server answered first, so this one was left: no failure, and no praise either.
    pub(crate) fn overtaken(&self, now: Instant) {
        self.server.state.saw_longer_than(now.saturating_duration_since(self.began), now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.server.state.end_attempt();
        if !self.concluded {
            self.server.state.reflex.borrow_mut().inconclusive();
        }
    }
}
