//! One request from its head to its end: attempts at servers until one answers, or an honest answer of Mainstay's own.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mainstay_model::input::{FailureKind, TrafficFailure};
use mainstay_model::policy::Timeouts;
use mainstay_model::request::AttemptRecord;

use super::admit::{NotAdmitted, admit, within_limit};
use super::attempt::{self, Attempted};
use super::client::Client;
use super::connection::{Next, Request, send_outbox};
use super::gate::Place;
use super::in_flight::Failure;
use super::log::Outcome;
use super::relay::Upload;
use super::slots::Slot;
use super::story::{self, End};
use super::view::{Lasting, Server, Service};
use super::worker::Worker;
use crate::codec::{BodyLength, Refusal};
use crate::page::{self, Page};
use crate::policy::accounting::{Ending, Wait};
use crate::policy::hedge::may_hedge;
use crate::policy::retry::{Stage, Verdict, classify};
use crate::policy::story::{Cause, Decision, hedged};

/// So often a request goes on over another connection because of GOAWAY; then only to servers that were not tried. nginx ends a
/// connection after `keepalive_requests`, and of a hundred requests that are under way on it each may be among the last.
const GONE_AWAY_MAX: u8 = 16;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Journey {
    pub(crate) request: Request,
    pub(crate) service: Rc<Service>,
    pub(crate) ledger: Ledger,
    /// Those that it need not be sent to again.
    tried: RefCell<Vec<Rc<Server>>>,
    /// Attempts that were sent, in part at least: those that `max_tries` and the budget bound.
    sent_tries: u32,
    /// It left a server that answered nobody; it does so once.
    pub(crate) left_a_hang: bool,
    /// A server answered it with an error, so another one was asked; it is once.
    pub(crate) erred: bool,
    /// A safe retry was refused by the budget; said once a request.
    refused_retry: bool,
    /// Mainstay itself was short of descriptors, ports or memory once.
    was_short: bool,
    /// How often a server had enough of the connection before it looked at the request.
    gone_away: u8,
    /// A reused connection was closed under it: the next attempt makes a new one, which tells the truth.
    pub(crate) fresh_only: bool,
    pub(crate) attempt_began: Instant,
    /// When the server was asked that it waits for first.
    pub(crate) asked_at: Instant,
    /// It was asked of a second server beside the first; it is once.
    hedged: Cell<bool>,
    /// Attempts that were not answered, as they are told.
    pub(crate) attempts: Vec<AttemptRecord>,
    /// Whose answer it was.
    answered_by: Option<Rc<Server>>,
}

/// Counts a request once, however it ends.
#[derive(Debug)]
pub(crate) struct Ledger {
    worker: Rc<Worker>,
    lasting: Rc<Lasting>,
    visitor: Option<IpAddr>,
    /// It is Mainstay's own, and no visitor's.
    own: bool,
    /// Its place among the service's requests under way.
    place: Option<Place>,
    attempts: u32,
    wait: Wait,
    /// What is counted if nothing better becomes known: it was cut short.
    ending: Option<Ending>,
}

impl Ledger {
    fn begin(worker: &Rc<Worker>, service: &Service, request: &Request) -> Self {
        let (visitor, own) = (request.visitor, request.own);
        let lasting = Rc::clone(&service.lasting);
        lasting.counts.began();
        let wait = Wait { first_byte: None, slow_after: service.carriage.slow_after };
        let worker = Rc::clone(worker);
        Self { worker, lasting, visitor, own, place: None, attempts: 0, wait, ending: None }
    }

    /// The answer began to be passed on.
    pub(crate) fn answer_began(&mut self, after: Duration, now: Instant) {
        self.wait.first_byte = Some(after);
        if let Some(place) = &mut self.place {
            place.answered(now);
        }
    }

    /// How it ended. Its place is free: an upgraded connection is no request any more.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.place = None;
        let first = self.ending.replace(ending).is_none();
        if first && self.own {
            self.lasting.counts.left();
        } else if first {
            self.lasting.counts.ended(ending, self.attempts, self.wait);
            if ending.hurts()
                && let Some(visitor) = self.worker.visitor_hash(self.visitor)
            {
                self.lasting.counts.hurt(visitor);
            }
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.end(Ending::Failed);
    }
}

/// Carries a request out.
pub(crate) async fn run(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    mut request: Request,
) -> Next {
    let head = std::mem::take(&mut request.head);
    let Some(service) = request.service.take() else {
        worker.buffers.give(head);
        let page = if request.site_known { Page::NoSuchPath } else { Page::NoSuchSite };
        return answer_self(worker, slot, client, &request, page).await;
    };
    let mut ledger = Ledger::begin(worker, &service, &request);
    if let Some((status, to)) = request.changed.as_mut().and_then(|changed| changed.redirect.take()) {
        worker.buffers.give(head);
        return match within_limit(request.visitor, &service) {
            Err(NotAdmitted::Refused(page)) => {
                ledger.end(ending_of(page));
                answer_self(worker, slot, client, &request, page).await
            }
            _ => {
                ledger.end(Ending::Answered { status });
                redirect(worker, slot, client, &request, status, &to).await
            }
        };
    }
    match admit(worker, slot, client, &request, &service).await {
        Ok(place) => ledger.place = place,
        Err(NotAdmitted::Gone) => {
            client.note(|record| record.end(Outcome::Abandoned, ""));
            ledger.end(Ending::Abandoned);
            return Next::Abort;
        }
        Err(NotAdmitted::Refused(page)) => {
            let (ending, wait) = (ending_of(page), ledger.wait);
            let told = &head[..request.head_length];
            let end = End { service: &service.lasting.id, head: told, ending, page: Some(page), wait };
            story::remember(worker, &request, Vec::new(), &end);
            worker.buffers.give(head);
            ledger.end(ending);
            return answer_self(worker, slot, client, &request, page).await;
        }
    }
    let mut upload = Upload::new(head, &request, &service);
    service.lasting.budget.request(worker.now());
    let mut journey = Journey {
        request,
        service,
        ledger,
        tried: RefCell::default(),
        sent_tries: 0,
        left_a_hang: false,
        erred: false,
        refused_retry: false,
        was_short: false,
        gone_away: 0,
        fresh_only: false,
        attempt_began: worker.now(),
        asked_at: worker.now(),
        hedged: Cell::new(false),
        attempts: Vec::new(),
        answered_by: None,
    };
    let outcome = travel(worker, slot, client, &mut journey, &mut upload).await;
    let page = outcome.as_ref().err().copied();
    if let Some(page) = page {
        journey.ledger.end(ending_of(page));
    }
    journey.tell(worker, upload.head(), page);
    worker.buffers.give(upload.into_buffer());
    match outcome {
        Ok(next) => next,
        Err(page) => answer_self(worker, slot, client, &journey.request, page).await,
    }
}

fn ending_of(page: Page) -> Ending {
    match page {
        Page::Refused(_) => Ending::Refused,
        Page::Shed { .. } => Ending::Shed,
        Page::Limited { .. } => Ending::Limited,
        _ => Ending::Failed,
    }
}

fn outcome_of(page: Page) -> Outcome {
    match page {
        Page::Refused(_) | Page::NoSuchSite | Page::NoSuchPath => Outcome::Refused,
        Page::Shed { .. } => Outcome::Shed,
        Page::Limited { .. } => Outcome::Limited,
        Page::NoServer | Page::BadGateway | Page::GatewayTimeout => Outcome::Failed,
    }
}

/// Attempts until one is answered; otherwise the page to answer with.
async fn travel(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    journey: &mut Journey,
    upload: &mut Upload,
) -> Result<Next, Page> {
    let mut now = Instant::now();
    let mut server = journey.choose(worker, now).ok_or(Page::NoServer)?;
    loop {
        journey.ledger.attempts += 1;
        client.note(|record| record.attempt(&server));
        let mut attempted = attempt::run(worker, slot, client, journey, upload, &server, now).await;
        if let Attempted::Overtaken(heard, failure) = attempted {
            journey.was_overtaken(worker, client, &server, &heard.server, failure.as_ref());
            server = Rc::clone(&heard.server);
            let taking_over = attempt::take_over(worker, slot, client, journey, upload, *heard);
            attempted = Box::pin(taking_over).await;
        }
        let failure = match attempted {
            Attempted::Ended(next) => {
                journey.answered_by = Some(server);
                return Ok(next);
            }
            Attempted::Refused(refusal) => return Err(Page::Refused(refusal)),
            Attempted::Abandoned => {
                client.note(|record| record.end(Outcome::Abandoned, ""));
                journey.ledger.end(Ending::Abandoned);
                return Ok(Next::Abort);
            }
            Attempted::Failed(failure) => failure,
            // Who is asked second has no second.
            Attempted::Overtaken(..) => return Err(Page::BadGateway),
        };
        client.note(|record| record.attempt_failed(&failure));
        now = Instant::now();
        let next = journey.next_server(worker, &server, &failure, upload, now);
        let decision = next.as_ref().map_or_else(|(_, decision)| *decision, |_| Decision::Again);
        let verdict = decision.words(failure.stage, journey.request.safety, upload.can_rewind());
        let (began, outcome) = (journey.attempt_began, failure.cause.words());
        journey.attempts.push(story::attempt(&journey.request, &server, began, outcome, verdict));
        let retried_on = next.as_ref().ok().map(|next| &**next);
        journey.charge(worker, &server, &failure, retried_on);
        server = next.map_err(|(page, _)| page)?;
        journey.service.lasting.counts.retried();
        worker.retried(&journey.service.lasting.id, failure.cause);
        upload.rewind();
    }
}

impl Journey {
    /// Its deadlines.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        self.request.timeouts(&self.service)
    }

    /// Whether it may leave a server that let it wait, for another that looks good. `ejected`: the server was taken out of rotation.
    pub(crate) fn may_leave(
        &mut self,
        worker: &Rc<Worker>,
        server: &Rc<Server>,
        upload: &Upload,
        ejected: bool,
    ) -> bool {
        let now = Instant::now();
        self.service = worker.newest(&self.service);
        if (self.left_a_hang && !ejected)
            || !upload.can_rewind()
            || self.sent_tries + 1 >= self.service.carriage.retry.max_tries
            || !self.has_good_besides(server, now)
        {
            return false;
        }
        self.is_within_budget(worker, now)
    }

    /// Whether to ask another server that looks good, because this one answered with an error.
    pub(crate) fn may_ask_again(
        &mut self,
        worker: &Rc<Worker>,
        server: &Rc<Server>,
        upload: &Upload,
    ) -> bool {
        let (now, retry) = (Instant::now(), self.service.carriage.retry);
        let may = !self.erred && self.request.safety.allows_again(retry.on_5xx);
        let can = upload.can_rewind() && upload.is_taken() && self.sent_tries + 1 < retry.max_tries;
        may && can
            && self.has_good_besides(server, now)
            && self.service.lasting.hope.is_worth_it(&mut worker.rng.borrow_mut())
            && self.is_within_budget(worker, now)
    }

    /// Whether it may be asked of a second server while the first takes its time.
    pub(crate) fn may_hedge(&self, now: Instant) -> bool {
        let request = &self.request;
        let has_body = !matches!(request.body, BodyLength::None | BodyLength::Length(0));
        !self.hedged.get()
            && may_hedge(request.safety, has_body, request.upgrade, request.own_server(now).is_some())
    }

    /// The second server to ask, if there is one that looks good and the budget allows it; it is spent then.
    pub(crate) fn second_server(&self, worker: &Worker, first: &Rc<Server>) -> Option<Rc<Server>> {
        let (service, now) = (&self.service, Instant::now());
        let retry = &service.carriage.retry;
        if self.sent_tries + 1 >= retry.max_tries
            || !self.has_good_besides(first, now)
            || !service.lasting.budget.allows(retry, worker.settings.workers, now)
        {
            return None;
        }
        let tried = |s: &Rc<Server>| Rc::ptr_eq(s, first) || self.has_tried(s);
        let (safety, key) = (self.request.safety, self.request.key);
        let second = service.rotation.choose(safety, key, tried, &mut worker.rng.borrow_mut(), now)?;
        self.hedged.set(true);
        self.tried.borrow_mut().push(Rc::clone(second));
        service.lasting.budget.spend(now);
        service.lasting.counts.retried();
        worker.retried(&service.lasting.id, Cause::Overtaken);
        Some(Rc::clone(second))
    }

    /// An answer began: how long answers of this kind take is known a little better.
    pub(crate) fn learn_tail(&self, now: Instant) {
        if let Some(hedge) = self.service.carriage.retry.hedge
            && (self.hedged.get() || self.may_hedge(now))
        {
            self.service.lasting.tail.record(hedge, now.saturating_duration_since(self.asked_at));
        }
    }

    /// The second server answered before the first, or after the first had failed.
    fn was_overtaken(
        &mut self,
        worker: &Rc<Worker>,
        client: &mut Client,
        first: &Rc<Server>,
        second: &Rc<Server>,
        failure: Option<&Failure>,
    ) {
        let (cause, verdict) = match failure {
            Some(failure) => (failure.cause, hedged::FIRST_FAILED),
            None => (Cause::Overtaken, hedged::SECOND_WON),
        };
        client.note(|record| {
            record.attempt_failed(&cause.as_str());
            record.attempt(second);
        });
        let record = story::attempt(&self.request, first, self.attempt_began, cause.words(), verdict);
        self.attempts.push(record);
        self.tried.borrow_mut().push(Rc::clone(first));
        if let Some(failure) = failure {
            // Without the second it would have failed.
            self.ledger.attempts += 1;
            self.charge(worker, first, failure, Some(second));
        }
    }

    /// Holds a failure against its server, if it is a reason to, and tells it.
    pub(crate) fn charge(
        &self,
        worker: &Worker,
        server: &Rc<Server>,
        failure: &Failure,
        retried_on: Option<&Server>,
    ) {
        let Some(first) = failure.spell else { return };
        if !server.state.reflex.borrow_mut().failure(Instant::now(), first) {
            return;
        }
        server.give_up_connections();
        if let Some(kind) = failure.cause.kind() {
            worker.collector().failure(TrafficFailure {
                server: server.state.id.clone(),
                kind,
                retried_on: retried_on.map(|server| server.state.id.clone()),
            });
        }
    }

    /// Writes down what became of it, unless it went the usual way. `head`: as servers get it.
    fn tell(&mut self, worker: &Worker, head: &[u8], page: Option<Page>) {
        let (ending, wait) = (self.ledger.ending.unwrap_or(Ending::Failed), self.ledger.wait);
        let slow = wait.first_byte.is_some_and(|after| after > wait.slow_after);
        if self.attempts.is_empty() && !slow && !ending.hurts() && page.is_none() {
            return;
        }
        let mut attempts = std::mem::take(&mut self.attempts);
        if let Some(server) = self.answered_by.take() {
            let outcome = match ending {
                Ending::Answered { status } => format!("it answered {status}"),
                _ => Cause::Fault(FailureKind::Truncated).words(),
            };
            attempts.push(story::attempt(&self.request, &server, self.attempt_began, outcome, ""));
        }
        let end = End { service: &self.service.lasting.id, head, ending, page, wait };
        story::remember(worker, &self.request, attempts, &end);
    }

    /// Nothing is against another server that it has not tried.
    pub(crate) fn has_good_besides(&self, server: &Rc<Server>, now: Instant) -> bool {
        let tried = |s: &Rc<Server>| Rc::ptr_eq(s, server) || self.has_tried(s);
        self.service.rotation.has_good(self.request.safety, tried, now)
    }

    fn has_tried(&self, server: &Rc<Server>) -> bool {
        self.tried.borrow().iter().any(|tried| Rc::ptr_eq(tried, server))
    }

    fn choose(&self, worker: &Worker, now: Instant) -> Option<Rc<Server>> {
        if let Some(own) = self.request.own_server(now).filter(|own| !self.has_tried(own)) {
            return Some(Rc::clone(own));
        }
        let (safety, key) = (self.request.safety, self.request.key);
        let mut rng = worker.rng.borrow_mut();
        self.service.rotation.choose(safety, key, |s| self.has_tried(s), &mut rng, now).cloned()
    }

    fn is_within_budget(&mut self, worker: &Worker, now: Instant) -> bool {
        let service = &self.service;
        let allowed = service.lasting.budget.allows(&service.carriage.retry, worker.settings.workers, now);
        if !allowed && !std::mem::replace(&mut self.refused_retry, true) {
            service.lasting.counts.retry_refused();
        }
        allowed
    }

    /// Where a failed request goes next, or the page it is answered with.
    fn next_server(
        &mut self,
        worker: &Rc<Worker>,
        server: &Rc<Server>,
        failure: &Failure,
        upload: &Upload,
        now: Instant,
    ) -> Result<Rc<Server>, (Page, Decision)> {
        let page = match failure.cause {
            // Nobody took the request, so to the visitor nobody is there.
            _ if failure.stage == Stage::Unsent => Page::NoServer,
            Cause::Fault(FailureKind::Timeout) | Cause::Hang(_) | Cause::Ejected => Page::GatewayTimeout,
            _ => Page::BadGateway,
        };
        self.service = worker.newest(&self.service);
        self.erred |= matches!(failure.cause, Cause::Erred(_));
        match failure.cause {
            // A stale connection says nothing of its server: a new one may go there too.
            Cause::Stale => self.fresh_only = true,
            // What Mainstay was short of was just freed, so the same server may be asked once more.
            Cause::Own if !std::mem::replace(&mut self.was_short, true) => {}
            // Over another connection the server takes it; with many requests at once that may take a few.
            Cause::GoneAway if self.gone_away < GONE_AWAY_MAX => self.gone_away += 1,
            _ => self.tried.borrow_mut().push(Rc::clone(server)),
        }
        self.sent_tries += u32::from(failure.stage != Stage::Unsent && failure.cause != Cause::Stale);
        let out_of_time = now >= self.request.started + self.timeouts().request;
        let verdict = classify(failure.stage, self.request.safety, upload.can_rewind());
        if verdict == Verdict::Never {
            return Err((page, Decision::Unsafe));
        }
        if out_of_time {
            return Err((page, Decision::OutOfTime));
        }
        if verdict == Verdict::Budgeted {
            if self.sent_tries >= self.service.carriage.retry.max_tries {
                return Err((page, Decision::TriesUsed));
            }
            if !self.is_within_budget(worker, now) {
                return Err((page, Decision::OverBudget));
            }
            self.service.lasting.budget.spend(now);
        }
        self.choose(worker, now).ok_or((page, Decision::NobodyLeft))
    }
}

/// Answers with a page of Mainstay's own.
async fn answer_self(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    request: &Request,
    page: Page,
) -> Next {
    let closes = matches!(page, Page::Refused(_) | Page::Limited { close: true, .. });
    let (keep_alive, then) = after_own_answer(worker, client, request, closes);
    if let Page::Refused(refusal) = page {
        worker.refused(refusal.as_str());
    }
    client.note(|record| record.own_answer(page.status(), outcome_of(page), page.as_str()));
    let mut digits = [0; 32];
    let id = request.id.text(&mut digits);
    let out = worker.buffers.prepare(&mut client.outbox);
    let start = out.len();
    page::write(page, request.form, request.to_head, keep_alive, id, out);
    if let Some(changed) = &request.changed {
        changed.complete_own_answer(out, start);
    }
    let then = if page == Page::Refused(Refusal::BodyTimeout) { Next::Linger } else { then };
    send_outbox(worker, slot, client, then).await
}

/// Sends the visitor elsewhere.
async fn redirect(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    request: &Request,
    status: u16,
    to: &[u8],
) -> Next {
    let (keep_alive, then) = after_own_answer(worker, client, request, false);
    client.note(|record| record.own_answer(status, Outcome::Answered, "redirect"));
    let mut digits = [0; 32];
    let id = request.id.text(&mut digits);
    let out = worker.buffers.prepare(&mut client.outbox);
    let start = out.len();
    page::write_redirect(status, to, keep_alive, id, out);
    if let Some(changed) = &request.changed {
        changed.complete_own_answer(out, start);
    }
    send_outbox(worker, slot, client, then).await
}

/// Whether the connection stays, and what becomes of it: a body that nobody has read is in the way of the next request.
fn after_own_answer(worker: &Worker, client: &Client, request: &Request, closes: bool) -> (bool, Next) {
    let bodiless = matches!(request.body, BodyLength::None | BodyLength::Length(0));
    let keep_alive = request.keep_alive && bodiless && !client.is_leaving(worker) && !closes;
    match (keep_alive, bodiless) {
        (true, _) => (true, Next::KeepAlive),
        (false, true) => (false, Next::Close),
        (false, false) => (false, Next::Linger),
    }
}
