//! How the loop comes to its end: for good, or for another Mainstay that goes on.

use std::time::Duration;

use mainstay_model::Input;
use mainstay_model::carried::Carried;
use mainstay_proxy::Report;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{CLOSE_ALERTS, Core, ERRANDS_TAKE, Message, RECORD_RETURNS, Sources};
use crate::engine::errands::Errand;
use crate::engine::status;
use crate::heartbeat::Taken;
use crate::store::Store;

impl Core {
    /// Does what was begun, tells what is known beside the record, and closes that.
    pub(super) async fn freeze(&mut self, sources: &mut Sources, done: oneshot::Sender<Carried>) {
        self.wait_for_errands().await;
        while let Ok(input) = sources.from_adapters.try_recv() {
            self.adapter_says(input);
        }
        self.last_pings(&mut sources.from_jobs);
        self.flush(true);
        self.parts.journal.tick();
        let carried = self.parts.model.carry(self.parts.clock.now());
        let store = self.parts.store.clone();
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            error!("the record's writer has panicked; what it had not written is lost");
        }
        let _ = done.send(carried);
    }

    async fn wait_for_errands(&mut self) {
        let (passed, all_begun) = oneshot::channel();
        let errand = Errand { passed: Some(passed), ..Errand::default() };
        if self.errands.run(errand, self.parts.store.write(Vec::new())).is_ok() {
            // Each waits for the disk, but only for a moment.
            let _ = tokio::time::timeout(ERRANDS_TAKE, all_begun).await;
        }
    }

    /// Waits for what becomes of the hand-over. `None`: another Mainstay goes on.
    pub(super) async fn while_frozen(
        &mut self,
        control: &mut mpsc::Receiver<Message>,
    ) -> Option<oneshot::Sender<()>> {
        loop {
            match control.recv().await? {
                Message::Thaw { done } => {
                    self.open_the_record_again().await;
                    return Some(done);
                }
                Message::Leave => return None,
                // Whoever asked is told that it was not heard.
                Message::Judge { .. }
                | Message::Apply { .. }
                | Message::Stop { .. }
                | Message::Freeze { .. } => {}
            }
        }
    }

    async fn open_the_record_again(&mut self) {
        let Some((data, retention)) = self.record.clone() else { return };
        let end = tokio::time::Instant::now() + RECORD_RETURNS;
        loop {
            // The other one may be just ending.
            match Store::open(&data, retention) {
                Ok((store, ..)) => {
                    self.parts.store = store;
                    return;
                }
                Err(error) if tokio::time::Instant::now() >= end => {
                    error!(%error, "the record cannot be opened again; nothing is written any more until a restart");
                    return;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The data plane is gone: takes in its last counts, ends the supervised servers, and closes the record.
    pub(super) async fn end(mut self, mut sources: Sources) {
        while let Ok(report) = sources.from_proxy.try_recv() {
            if let Some(Report::Traffic(traffic)) = status::without_page(report) {
                self.judge(Input::Traffic(traffic));
            }
        }
        let (supervisor, alerts, patience) =
            (self.parts.supervisor.clone(), self.parts.alerts.clone(), self.stop_servers);
        // A mail that its server has taken is noted, or the next start would send it again.
        let mut ending =
            Box::pin(async move { tokio::join!(supervisor.stop_all(patience), alerts.close(CLOSE_ALERTS)) });
        loop {
            tokio::select! {
                biased;
                Some(input) = sources.from_adapters.recv() => self.at_last(input),
                _ = &mut ending => break,
            }
        }
        while let Ok(input) = sources.from_adapters.try_recv() {
            self.at_last(input);
        }
        while let Ok(news) = sources.from_alerts.try_recv() {
            self.alerts_say(news);
        }
        self.last_pings(&mut sources.from_jobs);
        self.flush(true);
        self.publish_snapshot();
        let (store, journal) = (self.parts.store, self.parts.journal);
        let closed = tokio::task::spawn_blocking(move || {
            journal.close();
            store.close();
        });
        if closed.await.is_err() {
            error!("the record's writer has panicked; what it had not written is lost");
        }
    }

    /// While Mainstay ends: how actions ended is written down, or the next start would not know.
    fn at_last(&mut self, input: Input) {
        if matches!(input, Input::Outcome { .. } | Input::Switched { .. } | Input::Provided { .. }) {
            self.judge(input);
        }
    }

    pub(super) fn last_pings(&mut self, from: &mut mpsc::Receiver<Taken>) {
        let mut taken = Vec::new();
        while let Ok(ping) = from.try_recv() {
            taken.push(ping);
        }
        if !taken.is_empty() {
            self.pinged(&mut taken);
        }
    }
}
