//! The faults of drills that are made at Mainstay itself: the record's disk is full, and DNS does not answer. Neither is real: the
//! writer of the record and those who look names up behave as if it were, and nothing is left of it when Mainstay ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mainstay_model::drill::Fault;
use tokio::sync::watch;

use super::names::Wanted;
use crate::recovery::OwnFaults;

/// Who makes them: at the record by `full`, at the look-ups of the names that are `wanted` by `silent`.
pub fn made(
    full: Arc<AtomicBool>,
    wanted: watch::Receiver<Wanted>,
    silent: watch::Sender<bool>,
) -> OwnFaults {
    Box::new(move |fault, begin| match fault {
        Fault::DiskFull => {
            full.store(begin, Ordering::Relaxed);
            Ok(())
        }
        Fault::Dns if begin && wanted.borrow().is_empty() => {
            Err("no server is written by name, so nobody asks DNS for one".to_owned())
        }
        Fault::Dns => {
            silent.send_replace(begin);
            Ok(())
        }
        _ => Err(format!("`{fault}` is made at a server")),
    })
}
