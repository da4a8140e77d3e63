//! The demo's world while it lasts: what happens in it is told, and a fault is followed from its first moment to its last.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use mainstay_model::effect::Record;
use mainstay_model::incident::{Incident, IncidentState};
use mainstay_model::release::ReleaseState;
use mainstay_model::snapshot::{Health, ServiceSnapshot};
use mainstay_model::{IncidentId, ServerId, Snapshot, Wall};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use super::fault::{self, Fault, Gone, Ground};
use super::load::{Crowd, Load};
use super::mail_sink::Mail;
use super::story::Story;
use super::summary::{Done, Saw, Summary};
use super::{PATHS, SERVICE, Teller};
use crate::web::demo::DemoState;

/// The demo's visitors: enough to notice within milliseconds, few enough for any machine.
const VISITORS: Crowd =
    Crowd { per_second: 150, first: std::net::Ipv4Addr::new(127, 0, 1, 1), addresses: 250, paths: PATHS };
/// How long the world is left in peace before a fault.
const CALM: Duration = Duration::from_secs(2);
/// Until every server must be healthy, at its full share, and no incident open.
const READY: Duration = Duration::from_secs(60);
/// Until a fault must be over and told.
const OVER: Duration = Duration::from_secs(90);
/// An incident must have been opened by so long after the last harm; later it was none.
const NOTICED: Duration = Duration::from_secs(10);
/// The mails about an incident have so long after its end.
const MAILS: Duration = Duration::from_secs(4);
/// Between two looks at what goes on.
const LOOK: Duration = Duration::from_millis(100);
/// Results that the dashboard shows.
const RESULTS_MAX: usize = 14;

/// What the demo watches its Mainstay by, and what it has of it.
pub struct World<'a> {
    pub events: broadcast::Receiver<Record>,
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub mails: mpsc::Receiver<Mail>,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    /// A release with a mistake in it.
    pub bad_release: PathBuf,
    /// What the dashboard shows of the demo.
    pub state: watch::Sender<DemoState>,
    pub say: &'a Teller,
}

/// What has been seen of one fault.
#[derive(Default)]
struct Followed {
    story: Story,
    /// The newest incident before it.
    newest_before: Option<IncidentId>,
    /// The first incident that was opened after it.
    incident: Option<IncidentId>,
    done: Done,
    mails: u32,
    resolved: Option<Instant>,
}

impl World<'_> {
    /// Waits until all serve, and lets visitors in.
    ///
    /// # Errors
    /// When the servers do not come up.
    pub async fn begin(&mut self) -> anyhow::Result<Load> {
        self.settled().await?;
        let load = Load::start(self.http, VISITORS);
        self.say.line(&format!(
            "  traffic    {} requests/s from the demo's own visitors, at {} addresses",
            VISITORS.per_second, VISITORS.addresses
        ));
        Ok(load)
    }

    /// Breaks something and tells what happens until it is over.
    ///
    /// # Errors
    /// When the world is in no state for it.
    pub async fn play(&mut self, fault: Fault, visitors: &Load) -> anyhow::Result<Summary> {
        self.state.send_modify(|state| {
            state.note.clear();
            state.playing = format!("Under way: {}", fault.title());
        });
        let played = self.play_through(fault, visitors).await;
        self.state.send_modify(|state| {
            state.playing.clear();
            if let Ok(summary) = &played {
                state.results.insert(0, summary.for_the_page());
                state.results.truncate(RESULTS_MAX);
            }
        });
        played
    }

    /// Says why a fault could not be.
    pub fn refuse(&self, fault: Fault, why: &str) {
        let text = format!("Not possible just now: {}: {why}", fault.title());
        self.say.line(&format!("  {text}"));
        self.state.send_modify(|state| state.note = text);
    }

    async fn play_through(&mut self, fault: Fault, visitors: &Load) -> anyhow::Result<Summary> {
        let before = self.settled().await?;
        let calm = Instant::now() + CALM;
        let mut followed = Followed::default();
        self.until(&mut followed, calm).await;
        let saved = before.service()?.totals.saved;
        visitors.take();
        let newest_before = before.0.incidents.iter().map(|incident| incident.id).max();
        followed = Followed { newest_before, ..Followed::default() };
        self.say.line("");
        let at = wall_now();
        followed.story.fault(at);
        let ground = Ground {
            snapshot: &before.0,
            http: self.http,
            admin: self.admin,
            bad_release: &self.bad_release,
        };
        let begun = fault::begin(fault, &ground).await?;
        self.say.line(&followed.story.said(at, "fault", &begun.said));
        let mut gone = Gone::default();
        let over = self.follow(&mut followed, begun.harm, &mut gone).await;
        let now = View(self.snapshots.borrow().clone());
        let incident = followed.incident.and_then(|id| now.incident(id));
        let mut saw = visitors.take();
        saw.merge(&gone.visitors);
        let saved = now.service()?.totals.saved.saturating_sub(saved);
        let saw = Saw { visitors: saw, saved, attackers: gone.attackers };
        Ok(Summary::of(fault, at, incident.as_deref(), &saw, &followed.done, over))
    }

    /// Tells what happens until the harm is over and its incident closed; `false` when that took too long.
    async fn follow(&mut self, followed: &mut Followed, mut harm: fault::Harm, gone: &mut Gone) -> bool {
        let deadline = Instant::now() + OVER;
        let mut last_harm = Instant::now();
        while Instant::now() < deadline {
            self.until(followed, Instant::now() + LOOK).await;
            let view = View(self.snapshots.borrow().clone());
            if let Some(said) = harm.tend(&view.0, gone).await {
                self.say.line(&followed.story.said(wall_now(), "demo", &said));
                last_harm = Instant::now();
            }
            if !harm.is_over() || view.is_deploying() {
                last_harm = last_harm.max(Instant::now() - LOOK);
                continue;
            }
            match (followed.incident, followed.resolved) {
                (Some(_), Some(at)) if followed.mails >= 2 || at.elapsed() > MAILS => return true,
                (None, _) if last_harm.elapsed() > NOTICED => return true,
                _ => {}
            }
        }
        false
    }

    /// Tells what happens by itself, or by somebody's hand.
    pub async fn tell_what_happens(&mut self) {
        let mut followed = Followed::default();
        loop {
            self.until(&mut followed, Instant::now() + LOOK).await;
        }
    }

    /// Tells what happens until then.
    async fn until(&mut self, followed: &mut Followed, then: Instant) {
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Ok(record) => recorded(followed, self.say, &record),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        self.say.line(&format!("              ({missed} events were too quick to tell)"));
                    }
                    // The engine ends, and the demo with it.
                    Err(broadcast::error::RecvError::Closed) => tokio::time::sleep_until(then).await,
                },
                Some(mail) = self.mails.recv() => mailed(followed, self.say, &mail),
                () = tokio::time::sleep_until(then) => return,
            }
        }
    }

    /// Waits until everything is as it should be, and tells what happens meanwhile.
    async fn settled(&mut self) -> anyhow::Result<View> {
        let deadline = Instant::now() + READY;
        let mut followed = Followed::default();
        loop {
            let view = View(self.snapshots.borrow_and_update().clone());
            if view.is_settled() {
                return Ok(view);
            }
            if Instant::now() > deadline {
                bail!("not every server was well within {} s: {}", READY.as_secs(), view.what_is_wrong());
            }
            self.until(&mut followed, Instant::now() + LOOK).await;
        }
    }

    /// The processes of the servers.
    pub fn processes(&self) -> Vec<(ServerId, u32)> {
        let snapshot = self.snapshots.borrow();
        let servers = snapshot.services.iter().flat_map(|service| &service.servers);
        servers.filter_map(|server| Some((server.id.clone(), server.process.as_ref()?.pid?))).collect()
    }
}

/// How everything was at one moment.
struct View(Arc<Snapshot>);

impl View {
    fn service(&self) -> anyhow::Result<&ServiceSnapshot> {
        let mut services = self.0.services.iter();
        services.find(|service| service.id.as_str() == SERVICE).context("the demo has lost its service")
    }

    fn incident(&self, id: IncidentId) -> Option<Arc<Incident>> {
        self.0.incidents.iter().find(|incident| incident.id == id).cloned()
    }

    fn is_deploying(&self) -> bool {
        let mut releases = self.0.services.iter().filter_map(|service| service.releases.as_ref());
        releases.any(|releases| releases.deployment.is_some())
    }

    fn is_settled(&self) -> bool {
        let Ok(service) = self.service() else { return false };
        let enough = service.scale.as_ref().is_some_and(|scale| service.servers.len() as u32 >= scale.min);
        let all_serve =
            service.servers.iter().all(|s| s.health == Health::Healthy && s.in_rotation && s.share >= 1.0);
        let open = self.0.incidents.iter().any(|i| i.state != IncidentState::Resolved);
        enough && all_serve && !open && !self.is_deploying()
    }

    fn what_is_wrong(&self) -> String {
        let open = self.0.incidents.iter().filter(|i| i.state != IncidentState::Resolved);
        let open = open.map(|i| i.title.clone());
        let servers = self.0.services.iter().flat_map(|service| &service.servers);
        let ill = servers.filter(|s| s.health != Health::Healthy);
        let words: Vec<_> = open.chain(ill.map(|s| format!("{}: {}", s.id, s.why.rule))).collect();
        if words.is_empty() { "a server has not its full share".to_owned() } else { words.join("; ") }
    }
}

/// Tells one change of the record.
fn recorded(followed: &mut Followed, say: &Teller, record: &Record) {
    if let Some(line) = followed.story.recorded(record) {
        say.line(&line);
    }
    let incident = match record {
        Record::Incident(incident) if Some(incident.id) > followed.newest_before => incident,
        Record::Release { release, .. } if release.state == ReleaseState::RolledBack => {
            followed.done.rolled_back = release.steps.last().map(|step| step.at);
            return;
        }
        Record::Instances { instances, .. } => {
            followed.done.most_instances = followed.done.most_instances.max(*instances);
            return;
        }
        _ => return,
    };
    let first = *followed.incident.get_or_insert(incident.id);
    if first == incident.id && incident.state == IncidentState::Resolved {
        followed.resolved.get_or_insert_with(Instant::now);
    }
}

fn mailed(followed: &mut Followed, say: &Teller, mail: &Mail) {
    followed.mails += 1;
    say.line(&followed.story.mail(wall_now(), &mail.subject));
    for line in mail.text.lines().take_while(|line| !line.starts_with("What happened")).take(8) {
        say.line(&format!("              | {line}"));
    }
}

fn wall_now() -> Wall {
    Wall(jiff::Timestamp::now().as_millisecond())
}
