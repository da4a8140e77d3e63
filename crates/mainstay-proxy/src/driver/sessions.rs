//! Sessions: connections that are passed on as they are (TCP services, WebSockets), counted by service while they are open.
//!
//! A session lasts as long as its client likes, so it is counted here and never measured as an answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_model::ServiceId;

use crate::Sessions;

/// Of all services, over all workers, since the start.
#[derive(Debug, Default)]
pub(crate) struct SessionBook {
    services: Mutex<BTreeMap<ServiceId, Arc<Counts>>>,
}

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// A session that is open until this is dropped.
#[derive(Debug)]
pub(crate) struct Session(Arc<Counts>);

impl SessionBook {
    /// A session begins.
    pub(crate) fn begin(&self, service: &ServiceId) -> Session {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = match services.get(service) {
            Some(counts) => Arc::clone(counts),
            None => Arc::clone(services.entry(service.clone()).or_default()),
        };
        counts.begun.fetch_add(1, Ordering::Relaxed);
        Session(counts)
    }

    /// What was counted of each service.
    pub(crate) fn read(&self) -> BTreeMap<ServiceId, Sessions> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |counts: &Counts| {
            // The ended first: one that begins in between must not look like less than none.
            let ended = counts.ended.load(Ordering::Relaxed);
            let begun = counts.begun.load(Ordering::Relaxed);
            Sessions {
                begun,
                open: begun.saturating_sub(ended),
                bytes_in: counts.bytes_in.load(Ordering::Relaxed),
                bytes_out: counts.bytes_out.load(Ordering::Relaxed),
            }
        };
        services.iter().map(|(id, counts)| (id.clone(), read(counts))).collect()
    }
}

impl Session {
    /// Bytes came from the client, and bytes were passed on to it.
    pub(crate) fn moved(&self, from_client: u64, to_client: u64) {
        self.0.bytes_in.fetch_add(from_client, Ordering::Relaxed);
        self.0.bytes_out.fetch_add(to_client, Ordering::Relaxed);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}
