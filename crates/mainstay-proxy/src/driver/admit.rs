//! Whether a request is taken on: within the limit of its address, its body not too large, a place free or soon free.

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use mainstay_model::limits::Level;

use super::client::Client;
use super::connection::Request;
use super::gate::{Entry, Place, Queued};
use super::slots::Slot;
use super::view::Service;
use super::worker::Worker;
use crate::codec::{BodyLength, Refusal};
use crate::page::Page;
use crate::policy::visitor::Network;

/// Seconds after which somebody who was shed is asked to come back, at least and at most: not all in the same moment.
const COME_BACK: std::ops::RangeInclusive<u32> = 2..=6;

/// Why a request is not taken on.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    /// It gets this answer.
    Refused(Page),
    /// The visitor went away.
    Gone,
}

/// Takes a request on, after a wait if there is no room. `None`: the service has no room to be counted.
pub(crate) async fn admit(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    request: &Request,
    service: &Service,
) -> Result<Option<Place>, NotAdmitted> {
    within_limit(request.visitor, service)?;
    if let (Some(most), BodyLength::Length(length)) = (request.body_max(service), request.body)
        && length > most
    {
        return Err(NotAdmitted::Refused(Page::Refused(Refusal::BodyTooLarge)));
    }
    enter(worker, slot, client, request.level, service).await
}

/// A place, after a wait if there is none. `None`: the service has no room to be counted.
pub(crate) async fn enter(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    level: Level,
    service: &Service,
) -> Result<Option<Place>, NotAdmitted> {
    match (&service.gate, service.room) {
        (Some(gate), Some(room)) => {
            let entered = match gate.enter(level, Instant::now()) {
                Entry::Place(place) => return Ok(Some(place)),
                Entry::Shed => Ok(None),
                // Boxed, so that requests that need not wait are small.
                Entry::Queued(queued) => {
                    Box::pin(wait(worker, slot, client, service, queued, room.queue_deadline)).await
                }
            }?;
            entered.map(Some).ok_or_else(|| {
                gate.refused(Instant::now());
                NotAdmitted::Refused(Page::Shed { after: worker.rng.borrow_mut().u32(COME_BACK) })
            })
        }
        _ => Ok(None),
    }
}

/// Whether its address has not asked too often. Who has none is in nobody's bucket: all who come by a Unix socket would share one.
pub(crate) fn within_limit(visitor: Option<IpAddr>, service: &Service) -> Result<(), NotAdmitted> {
    let (Some(gate), Some(visitor)) = (&service.gate, visitor) else { return Ok(()) };
    // Not when the request began: a slow head would be judged by a past in which the bucket was fuller.
    let (limits, now) = (&service.carriage.limits, Instant::now());
    let network = Network::of(visitor);
    let wait = match &limits.per_address {
        Some(limit) if !limits.exempt.iter().any(|subnet| subnet.contains(visitor)) => {
            gate.take(network, limit, now).err().map(|wait| (wait, limit.close))
        }
        _ => None,
    };
    if wait.is_some() {
        gate.refused(now);
        tracing::trace!(%visitor, "over the limit of its address");
    }
    if gate.is_watched(now) {
        service.lasting.counts.asked(network, wait.is_some());
    }
    match wait {
        None => Ok(()),
        Some((wait, close)) => {
            let after = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            Err(NotAdmitted::Refused(Page::Limited { after, close }))
        }
    }
}

/// Waits for a place; `None`: it is shed.
async fn wait(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    service: &Service,
    queued: Queued,
    deadline: Duration,
) -> Result<Option<Place>, NotAdmitted> {
    let _counted = service.lasting.counts.waits();
    worker.slots.arm(slot, Instant::now() + deadline);
    poll_fn(|cx| {
        slot.watch(cx);
        if let Poll::Ready(fate) = queued.poll(cx) {
            return Poll::Ready(Ok(fate));
        }
        if client.poll_gone(cx, worker) {
            return Poll::Ready(Err(NotAdmitted::Gone));
        }
        if slot.fired() { Poll::Ready(Ok(None)) } else { Poll::Pending }
    })
    .await
}
