//! Prints the page: looks at the judgement once a second, and prints when something has changed that may be said, and once a
//! minute for the bars. The record is read beside it, so that a slow disk never holds up the news.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::incident::{IncidentState, Severity};
use mainstay_model::publication::Publications;
use mainstay_model::{IncidentId, Snapshot, Wall};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::days::Days;
use super::edition::Edition;
use super::folder;
use super::view::{MaintenanceView, State, Told, View, maintenance, states};
use super::zone;
use super::{Settings, Submit};
use crate::config::StatusConfig;
use crate::store::{ServiceDay, StoreError};
use crate::web::listener::stopped;
use crate::web::past::Past;

/// Between two looks at the judgement.
const PACE: Duration = Duration::from_secs(1);
/// The bars and the stamp are new once in this time.
const MINUTE_MS: i64 = 60_000;
/// Between two readings of the record.
const READ: Duration = Duration::from_secs(60);
/// The same after one that failed.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// The first page waits so long for the record.
const FIRST: Duration = Duration::from_secs(3);
/// A judgement that has not changed for so long is not gone by: whoever judges does not live any more.
const DOUBTFUL: Duration = Duration::from_secs(15);
/// Incidents are told for two years, in as many months as a person may want to turn back.
const PAST_MS: i64 = 2 * 365 * 86_400_000;
const PAST_MAX: usize = 1000;

/// What a page is made from, and where it goes.
pub(super) struct Press {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    past: Arc<dyn Past>,
    submit: Submit,
    settings: Settings,
    editions: watch::Sender<Arc<Edition>>,
}

/// What the record knows.
#[derive(Debug, Default)]
struct History {
    /// `None`: it could not be read.
    past: Option<Vec<Told>>,
    /// By component.
    days: BTreeMap<String, Vec<ServiceDay>>,
}

/// What of an incident changes what is told: how bad it is, where it stands, when it recovered and when it was over.
type IncidentSign = (IncidentId, Severity, IncidentState, Option<Wall>, Option<Wall>);

/// All that a page depends on, to see whether it is to be printed anew.
struct Signature {
    settings: Arc<StatusConfig>,
    history: Option<Arc<History>>,
    publications: Publications,
    states: Vec<State>,
    maintenance: Vec<MaintenanceView>,
    incidents: Vec<IncidentSign>,
    minute: i64,
}

impl Signature {
    fn same(&self, other: &Self) -> bool {
        let history = match (&self.history, &other.history) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        history
            && Arc::ptr_eq(&self.settings, &other.settings)
            && Arc::ptr_eq(&self.publications, &other.publications)
            && self.states == other.states
            && self.maintenance == other.maintenance
            && self.incidents == other.incidents
            && self.minute == other.minute
    }
}

/// Prints until Mainstay stops.
pub(super) async fn run(press: Press, mut stop: watch::Receiver<bool>) {
    let (say, history) = watch::channel(None);
    let copies = folder::follow(press.editions.subscribe(), press.settings.clone(), press.submit.clone());
    tokio::select! {
        () = read_on(press.past.clone(), press.settings.clone(), press.snapshots.clone(), say) => {}
        () = press.print_on(history) => {}
        () = copies => {}
        () = stopped(&mut stop) => {}
    }
}

impl Press {
    pub(super) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        past: Arc<dyn Past>,
        submit: Submit,
        settings: Settings,
        editions: watch::Sender<Arc<Edition>>,
    ) -> Self {
        Self { snapshots, past, submit, settings, editions }
    }

    async fn print_on(&self, history: watch::Receiver<Option<Arc<History>>>) {
        let begun = Instant::now();
        let mut printed: Option<Signature> = None;
        let mut seen: (Arc<Snapshot>, Instant) = (self.snapshots.borrow().clone(), begun);
        loop {
            let snapshot = self.snapshots.borrow().clone();
            if !Arc::ptr_eq(&snapshot, &seen.0) {
                seen = (snapshot.clone(), Instant::now());
            }
            let settings = self.settings.borrow().clone();
            let history = history.borrow().clone();
            let ready = snapshot.at != Wall::default() && (history.is_some() || begun.elapsed() >= FIRST);
            if let Some(settings) = settings.filter(|_| ready) {
                let doubtful = seen.1.elapsed() >= DOUBTFUL;
                let signature = sign(&settings, &snapshot, history, doubtful);
                if !printed.as_ref().is_some_and(|printed| printed.same(&signature)) {
                    let edition = print(&signature, &snapshot, doubtful);
                    self.editions.send_replace(Arc::new(edition));
                    printed = Some(signature);
                }
            }
            sleep(PACE).await;
        }
    }
}

fn sign(
    settings: &Arc<StatusConfig>,
    snapshot: &Snapshot,
    history: Option<Arc<History>>,
    doubtful: bool,
) -> Signature {
    let incident = |i: &Arc<mainstay_model::incident::Incident>| {
        (i.id, i.severity, i.state, i.recovered_at, i.resolved_at)
    };
    Signature {
        settings: settings.clone(),
        history,
        publications: snapshot.publications.clone(),
        states: states(settings, snapshot, doubtful),
        maintenance: maintenance(settings, snapshot),
        incidents: snapshot.incidents.iter().map(incident).collect(),
        minute: snapshot.at.0.div_euclid(MINUTE_MS),
    }
}

fn print(signature: &Signature, snapshot: &Snapshot, doubtful: bool) -> Edition {
    let (config, now) = (&signature.settings, snapshot.at);
    let history = signature.history.as_deref();
    let days = config.components.iter().filter_map(|component| {
        let known = history?.days.get(&component.id)?;
        Some((component.id.clone(), Days::of(now, &config.zone, component.services.len(), known)))
    });
    let past = history.and_then(|history| history.past.as_deref());
    Edition::of(&View::of(config, snapshot, past, days.collect(), now, doubtful))
}

/// Reads the record once a minute.
async fn read_on(
    past: Arc<dyn Past>,
    mut settings: Settings,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    say: watch::Sender<Option<Arc<History>>>,
) {
    // Until the first judgement nobody knows what day it is.
    if snapshots.wait_for(|snapshot| snapshot.at != Wall::default()).await.is_err() {
        return;
    }
    loop {
        let config = settings.borrow_and_update().clone();
        let now = snapshots.borrow().at;
        let mut pause = READ;
        if let Some(config) = config {
            let history = match read(&*past, &config, now).await {
                Ok(history) => history,
                Err(error) => {
                    tracing::warn!(%error, "the status page has no history: the record cannot be read");
                    pause = READ_AGAIN;
                    History::default()
                }
            };
            say.send_replace(Some(Arc::new(history)));
        }
        tokio::select! {
            () = sleep(pause) => {}
            changed = settings.changed() => if changed.is_err() { return },
        }
    }
}

async fn read(past: &dyn Past, config: &StatusConfig, now: Wall) -> Result<History, StoreError> {
    let incidents = past.public_incidents(Wall(now.0.saturating_sub(PAST_MS)), PAST_MAX).await?;
    let midnights = zone::midnights(now, &config.zone);
    let mut days = BTreeMap::new();
    for component in &config.components {
        let mut known = Vec::new();
        for service in &component.services {
            known.extend(past.service_days(service, &midnights).await?);
        }
        days.insert(component.id.clone(), known);
    }
    Ok(History { past: Some(incidents), days })
}
