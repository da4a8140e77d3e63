//! The access log while Mainstay runs: another one by a reload, opened again by a signal, its trouble told to the judge.

use std::io;
use std::sync::Arc;

use mainstay_model::Input;
use mainstay_model::input::OwnPart;
use mainstay_proxy::access::{AccessCounts, AccessLog};
use tokio::sync::{mpsc, watch};

use crate::config::AccessLogConfig;

/// The access log in force.
#[derive(Debug)]
pub struct Access {
    current: watch::Sender<Option<Arc<AccessLog>>>,
}

impl Access {
    /// Opens the log that the config asks for.
    pub fn open(config: Option<&AccessLogConfig>) -> io::Result<Self> {
        Ok(Self { current: watch::channel(open(config)?).0 })
    }

    /// The log in force, if there is one.
    pub fn log(&self) -> Option<Arc<AccessLog>> {
        self.current.borrow().clone()
    }

    /// The log that a changed config asks for: the present one if it asks for nothing else.
    pub fn becoming(&self, config: Option<&AccessLogConfig>) -> io::Result<Option<Arc<AccessLog>>> {
        match (self.log(), config) {
            (Some(log), Some(config))
                if *log.destination() == config.destination && *log.format() == config.format =>
            {
                Ok(Some(log))
            }
            _ => open(config),
        }
    }

    /// Another log is in force from now on.
    pub fn replace(&self, log: Option<Arc<AccessLog>>) {
        self.current.send_replace(log);
    }

    /// Whoever rotates logs has moved the file.
    pub fn reopen(&self) {
        if let Some(log) = self.log() {
            log.reopen();
        }
    }

    /// What became of lines, for `/metrics`; `None`: there is no log.
    pub fn counts(&self) -> impl Fn() -> Option<AccessCounts> + Send + Sync + use<> {
        let current = self.current.subscribe();
        move || current.borrow().as_ref().map(|log| log.counts())
    }

    /// Tells the judge of the log's trouble, and of its end, until Mainstay stops.
    pub fn follow(&self, inputs: mpsc::Sender<Input>) {
        tokio::spawn(follow(self.current.subscribe(), inputs));
    }
}

fn open(config: Option<&AccessLogConfig>) -> io::Result<Option<Arc<AccessLog>>> {
    let Some(config) = config else { return Ok(None) };
    AccessLog::open(config.destination.clone(), config.format.clone()).map(Some)
}

async fn follow(mut current: watch::Receiver<Option<Arc<AccessLog>>>, inputs: mpsc::Sender<Input>) {
    let mut said: Option<String> = None;
    loop {
        let mut trouble = current.borrow_and_update().as_ref().map(|log| log.trouble());
        let now = trouble.as_mut().and_then(|trouble| trouble.borrow_and_update().clone());
        if now != said {
            said.clone_from(&now);
            if inputs.send(Input::Own { part: OwnPart::AccessLog, trouble: now }).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = current.changed() => if changed.is_err() { return },
            () = changed(trouble) => {}
        }
    }
}

async fn changed(trouble: Option<watch::Receiver<Option<String>>>) {
    let ended = match trouble {
        Some(mut trouble) => trouble.changed().await.is_err(),
        None => true,
    };
    if ended {
        std::future::pending::<()>().await;
    }
}
