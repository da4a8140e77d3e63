//! The judge of Mainstay: a pure state machine.
//!
//! No socket, file, clock, thread or dice: `now` is a parameter, the seed is a parameter, and every collection
//! that is iterated has an order. So a journal of inputs replays to the same decisions, and a bug is a seed.
//!
//! [`Model`] has four verbs: [`Model::handle`], [`Model::handle_timeout`], [`Model::poll_timeout`] and
//! [`Model::poll_effect`]. Everything that comes in is an [`input::Input`], everything that goes out an
//! [`effect::Effect`]; what people look at is a [`snapshot::Snapshot`].
//!
//! Inside, `model` hands each input to the `service` it is about, which takes it in and then thinks itself through, always
//! in the same order: `health` (how is each server, by probes and by `traffic`; `witness` when the two contradict one another, `flap` when it goes up and down), `load` (are there more requests than it
//! can answer), `deploy` (what is done about a new release, by the `gate`; `replace` puts it into the servers' place),
//! `scale` (how many instances there are), `rotation` (who carries the service), `recovery` (what is to be restarted; `outside` what Mainstay has not started itself),
//! `substitute` (a new instance for one that cannot be brought back), `switch` (the user's own way out), `incidents` (what is to be told; an incident while it is open is `open`, what it cost
//! is counted by `impact`, why it happened is said by `cause`, `notices` are its messages, `escalation` whom they go to).
//! `sample` is what was answered when something failed.
//! `host` is the machine that all of it runs on, `sight` whether Mainstay itself can see, `monitor` what is only watched, `heartbeat` what
//! says by itself that it ran, `drill` what fails on purpose, `needs` whose fault it is when something fails that needs something else.
//! `server` is the state they share, `out` the way out; `present` and `why`
//! show it to people.
//! None of it remembers when it did what was due: everything due is found again from the state, so a timer is never
//! lost. [`invariants`] says what must hold after each input.

pub mod affinity;
mod announced;
mod asked;
mod backup;
pub mod carriage;
pub mod carried;
pub mod cause;
pub mod chain;
pub mod change;
mod comeback;
mod departure;
mod deploy;
pub mod drill;
pub mod effect;
pub mod endpoint;
pub mod escalation;
mod flap;
pub mod freeze;
mod front;
mod gate;
mod gone;
mod health;
pub mod heartbeat;
pub mod helped;
pub mod histogram;
pub mod host;
pub mod id;
pub mod impact;
pub mod incident;
mod incidents;
pub mod input;
pub mod invariants;
pub mod lead;
pub mod limits;
mod load;
pub mod memory;
mod model;
pub mod monitor;
pub mod needs;
mod notices;
mod open;
mod out;
mod outside;
pub mod pace;
pub mod policy;
mod present;
pub mod proposal;
pub mod publication;
mod recovery;
pub mod release;
mod replace;
pub mod replay;
pub mod request;
mod restored;
pub mod results;
mod rng;
mod rotation;
pub mod route;
pub mod routing;
pub mod rung;
pub mod sample;
pub mod scale;
mod server;
mod service;
pub mod sight;
pub mod sketch;
pub mod snapshot;
pub mod stencil;
pub mod substitute;
pub mod switch;
#[cfg(test)]
mod testing;
pub mod time;
mod traffic;
mod warm;
mod why;
pub mod window;
mod witness;
pub mod words;

pub use effect::Effect;
pub use endpoint::{Endpoint, Whereabouts};
pub use id::{ActionId, BackupId, IncidentId, MachineId, MonitorId, ProbeTarget, ServerId, ServiceId};
pub use input::Input;
pub use model::Model;
pub use policy::Policy;
pub use snapshot::Snapshot;
pub use time::{Mono, Now, Wall};
