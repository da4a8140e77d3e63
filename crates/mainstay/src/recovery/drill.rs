//! Makes the faults of drills at the servers that Mainstay starts itself, and undoes them. What the data plane and probes do as if a
//! server were broken needs nobody here.
//!
//! A full disk and a silent DNS are made by those who write the record and look names up; here they are only passed on.
//!
//! Nothing is left of a fault when Mainstay dies in its middle: the processes that it stopped die with it.

use std::sync::Arc;

use mainstay_model::Input;
use mainstay_model::drill::{DrillStep, Fault};

use super::keeper::Order;
use super::{Supervisor, lock};

/// Makes a fault at Mainstay itself, or undoes it (`false`); the error is for a person.
pub type OwnFaults = Box<dyn Fn(Fault, bool) -> Result<(), String> + Send + Sync>;

impl Supervisor {
    /// Makes a fault, of which one [`Input::Injected`] tells, or undoes it.
    pub fn drill(&self, step: DrillStep) {
        let drill = step.drill;
        let begin = step.begin;
        // Held until the order is on its way: to make a fault waits for the disk, to undo it does not.
        let mut undone = lock(&self.undone);
        if !begin {
            *undone = drill.max(*undone);
        } else if drill <= *undone {
            return self.injected(drill, Err("it was ended before it began".to_owned()));
        }
        let result = match step.fault {
            Fault::Kill | Fault::Hang => match self.tell_keeper(step) {
                Ok(()) => return,
                Err(why) => Err(why),
            },
            Fault::Refuse
            | Fault::BlackHole
            | Fault::Reset
            | Fault::Slow
            | Fault::Errors
            | Fault::Certificate => Ok(()),
            Fault::DiskFull | Fault::Dns => match self.own_faults.get() {
                Some(make) => make(step.fault, begin),
                None => Err("nobody is there who makes it".to_owned()),
            },
        };
        if begin {
            self.injected(drill, result);
        }
    }

    /// Who makes faults at Mainstay itself, and undoes them. The first is kept.
    pub fn makes_own_faults(&self, make: OwnFaults) {
        let _ = self.own_faults.set(make);
    }

    fn injected(&self, drill: u64, result: Result<(), String>) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.report(Input::Injected { drill, result }).await });
    }

    /// Tells why a fault is not made.
    pub async fn refuse_drill(&self, step: &DrillStep, why: String) {
        let result = Err(format!("it is not written down: {why}"));
        self.shared.report(Input::Injected { drill: step.drill, result }).await;
    }

    fn tell_keeper(&self, step: DrillStep) -> Result<(), String> {
        let keepers = lock(&self.keepers);
        let server = step.server.as_ref().ok_or("no server is named")?;
        let slot = keepers.get(server).ok_or_else(|| format!("{server} does not run"))?;
        slot.orders
            .try_send(Order::Drill(step))
            .map_err(|_| "too many orders wait for this server".to_owned())
    }
}
