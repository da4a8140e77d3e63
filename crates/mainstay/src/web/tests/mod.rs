//! The whole router against fakes.

pub(super) mod fake;
mod show;

use std::sync::Arc;

use mainstay_model::{Input, Snapshot};
use tokio::sync::{mpsc, watch};

use super::past::Past;
use super::{App, Context, Shared};
use crate::config::{AdminAccess, Secret};

/// The pages with everything around them made up.
struct Stage {
    app: App,
    snapshots: watch::Sender<Arc<Snapshot>>,
    access: watch::Sender<AdminAccess>,
    ready: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    /// What was handed to the judge.
    inputs: mpsc::UnboundedReceiver<Input>,
}

impl Stage {
    fn new(snapshot: Snapshot, loopback: bool, past: fake::FakePast) -> Self {
        let (snapshots, watched) = watch::channel(Arc::new(snapshot));
        let (access, access_watched) = watch::channel(AdminAccess::default());
        let (ready, ready_watched) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let (submitted, inputs) = mpsc::unbounded_channel();
        let stopped = stop.subscribe();
        let context = Context {
            snapshots: watched,
            reader: Arc::new(past) as Arc<dyn Past>,
            submit: Arc::new(move |input| {
                let taken = !*stopped.borrow() && submitted.send(input).is_ok();
                Box::pin(async move { taken })
            }),
            last_lines: Arc::new(|server| {
                vec![format!("{} listens on 3000", server.name), "<script>alert(1)</script>".to_owned()]
            }),
            access: access_watched,
            ready: ready_watched,
        };
        let app = Arc::new(Shared::new(context, loopback, stopping));
        Self { app, snapshots, access, ready, stop, inputs }
    }
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text.to_owned()))
}
