//! What becomes of text messages after the provider has taken them: it is asked now and then until it knows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::lane::{closing, dropped};
use super::sms::{self, Receipt};
use super::{Awaited, Receipted, Report, Shared};
use crate::config::AlertConfig;

/// So often it is asked; with doubling pauses that is about half an hour.
const TIMES: u32 = 10;
/// Between two askings at most.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Asks in a task of its own. When too many messages are being asked for already, this one is not.
pub(super) fn follow(shared: &Arc<Shared>, config: watch::Receiver<Arc<AlertConfig>>, awaited: Awaited) {
    if *shared.closing.borrow() {
        return;
    }
    let Ok(place) = shared.receipts.clone().try_acquire_owned() else {
        tracing::debug!(row = awaited.row, "too many receipts are awaited; this one is not");
        return;
    };
    let task = {
        let shared = shared.clone();
        async move {
            tokio::select! {
                () = ask(&shared, config.clone(), awaited) => {}
                () = closing(&shared) => {}
                () = dropped(config) => {}
            }
            drop(place);
        }
    };
    shared.tasks().spawn(task);
}

async fn ask(shared: &Shared, config: watch::Receiver<Arc<AlertConfig>>, awaited: Awaited) {
    let mut pause = shared.limits.receipt;
    for _ in 0..TIMES {
        tokio::time::sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
        let Some(sms) = config.borrow().sms.clone() else { return };
        let Some(receipt) = sms::receipt(&sms, &awaited.reference, shared.limits.sms).await else { return };
        let result = match receipt {
            Receipt::NotYet => continue,
            Receipt::Delivered => Ok(()),
            Receipt::Undelivered(why) => Err(why),
        };
        let Awaited { row, incident, to, .. } = awaited;
        // Nobody listens any longer when the engine is gone; the next run asks again.
        let _ = shared.reports.send(Report::Receipt(Receipted { row, incident, to, result })).await;
        return;
    }
}
