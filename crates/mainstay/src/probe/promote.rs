//! Makes a replica the primary. It is here because probes speak what the server speaks, with the same login, over the same TLS.

use std::sync::Arc;
use std::time::Duration;

use mainstay_model::effect::{ProbeOrder, SwitchOrder};
use mainstay_model::policy::{ProbeKind, Protocol};
use mainstay_model::{Input, Mono};

use super::{Prober, Settings, look};
use crate::config::probe::{PostgresProbe, ProbeSpec};

/// Less than the whole deadline is left to the server, so that its own answer is heard.
const OWN_ANSWER: Duration = Duration::from_secs(1);

impl Prober {
    /// Makes a replica the primary, in a task of its own; one [`Input::Switched`] follows within the order's deadline. Nothing but
    /// orders that promote.
    pub fn promote(&self, order: SwitchOrder) {
        let inputs = self.inputs.clone();
        let settings = self.settings();
        tokio::spawn(async move {
            let result = promote(&order, &settings).await;
            match &result {
                Ok(said) => tracing::info!(service = %order.service, said, "a replica was promoted"),
                Err(error) => tracing::error!(service = %order.service, error, "a promotion failed"),
            }
            let SwitchOrder { service, id: action, .. } = order;
            let output = result.iter().cloned().collect();
            let result = result.map(drop);
            // An error means that the judge is gone; its next run asks the servers.
            let _ = inputs.send(Input::Switched { service, action, result, output }).await;
        });
    }
}

async fn promote(order: &SwitchOrder, settings: &Settings) -> Result<String, String> {
    let Some(promotion) = &order.promote else { return Err("there is nobody to promote".to_owned()) };
    let Some(ProbeSpec::Postgres(probe)) = settings.probes.get(&order.service).map(Arc::as_ref) else {
        return Err("its probe left the config".to_owned());
    };
    let within = order.deadline.saturating_sub(OWN_ANSWER).max(order.deadline / 2);
    let probe = PostgresProbe { promote: Some(within), ..probe.clone() };
    let probes = [(order.service.clone(), Arc::new(ProbeSpec::Postgres(probe)))].into();
    let settings = Settings { probes, ..settings.clone() };
    let order = ProbeOrder {
        target: promotion.server.clone().into(),
        address: promotion.address.clone().into(),
        kind: ProbeKind::Postgres,
        send_proxy: promotion.send_proxy,
        tls: promotion.tls,
        protocol: Protocol::default(),
        timeout: order.deadline,
        due: Mono::default(),
        injection: None,
    };
    match look(order, &settings).await.result {
        Ok(answer) => Ok(answer.said.unwrap_or_default()),
        Err(failure) => Err(format!("{}: {failure}", promotion.server.name)),
    }
}
