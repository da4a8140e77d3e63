//! What the pages ask of the record, as a trait, so that they are tested without a database.

use std::future::Future;
use std::pin::Pin;

use mainstay_model::host::seconds::Seconds;
use mainstay_model::incident::Incident;
use mainstay_model::publication::Publication;
use mainstay_model::results::Look;
use mainstay_model::{IncidentId, MonitorId, ProbeTarget, ServerId, ServiceId, Wall};

use crate::store::{
    Evidence, MachineBucket, Message, MonitorBucket, Reader, ServerBucket, ServiceBucket, ServiceDay, Step,
    StoreError,
};

/// An answer of the record, on its way.
pub(super) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The record, for reading. See [`Reader`] for what each question means.
pub(super) trait Past: Send + Sync {
    fn incidents(&self, before: Option<IncidentId>, most: usize) -> Answer<'_, Vec<Incident>>;
    fn incident(&self, id: IncidentId) -> Answer<'_, Option<Incident>>;
    fn messages(&self, incident: IncidentId) -> Answer<'_, Vec<Message>>;
    fn evidence<'a>(&'a self, incident: &'a Incident) -> Answer<'a, Evidence>;
    fn machine_around<'a>(&'a self, incident: &'a Incident) -> Answer<'a, Seconds>;
    fn server_history<'a>(
        &'a self,
        server: &'a ServerId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<ServerBucket>>;
    fn service_history<'a>(
        &'a self,
        service: &'a ServiceId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<ServiceBucket>>;
    fn machine_history(&self, step: Step, from: Wall, to: Wall) -> Answer<'_, Vec<MachineBucket>>;
    fn monitor_history<'a>(
        &'a self,
        monitor: &'a MonitorId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<MonitorBucket>>;
    fn results<'a>(
        &'a self,
        target: &'a ProbeTarget,
        from: Wall,
        to: Wall,
        most: usize,
    ) -> Answer<'a, Vec<Look>>;
    fn last_results<'a>(&'a self, server: &'a ServerId, before: Wall, most: usize) -> Answer<'a, Vec<Look>>;
    fn public_incidents(&self, since: Wall, most: usize) -> Answer<'_, Vec<(Incident, Option<Publication>)>>;
    fn publication(&self, id: IncidentId) -> Answer<'_, Option<Publication>>;
    fn service_days<'a>(
        &'a self,
        service: &'a ServiceId,
        midnights: &'a [Wall],
    ) -> Answer<'a, Vec<ServiceDay>>;
}

impl Past for Reader {
    fn incidents(&self, before: Option<IncidentId>, most: usize) -> Answer<'_, Vec<Incident>> {
        Box::pin(Reader::incidents(self, before, most))
    }

    fn incident(&self, id: IncidentId) -> Answer<'_, Option<Incident>> {
        Box::pin(Reader::incident(self, id))
    }

    fn messages(&self, incident: IncidentId) -> Answer<'_, Vec<Message>> {
        Box::pin(Reader::messages(self, incident))
    }

    fn evidence<'a>(&'a self, incident: &'a Incident) -> Answer<'a, Evidence> {
        Box::pin(Reader::evidence(self, incident))
    }

    fn machine_around<'a>(&'a self, incident: &'a Incident) -> Answer<'a, Seconds> {
        Box::pin(Reader::machine_around(self, incident))
    }

    fn server_history<'a>(
        &'a self,
        server: &'a ServerId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<ServerBucket>> {
        Box::pin(Reader::server_history(self, server, step, from, to))
    }

    fn service_history<'a>(
        &'a self,
        service: &'a ServiceId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<ServiceBucket>> {
        Box::pin(Reader::service_history(self, service, step, from, to))
    }

    fn machine_history(&self, step: Step, from: Wall, to: Wall) -> Answer<'_, Vec<MachineBucket>> {
        Box::pin(Reader::machine_history(self, step, from, to))
    }

    fn monitor_history<'a>(
        &'a self,
        monitor: &'a MonitorId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<MonitorBucket>> {
        Box::pin(Reader::monitor_history(self, monitor, step, from, to))
    }

    fn results<'a>(
        &'a self,
        target: &'a ProbeTarget,
        from: Wall,
        to: Wall,
        most: usize,
    ) -> Answer<'a, Vec<Look>> {
        Box::pin(Reader::results(self, target, from, to, most))
    }

    fn last_results<'a>(&'a self, server: &'a ServerId, before: Wall, most: usize) -> Answer<'a, Vec<Look>> {
        Box::pin(Reader::last_results(self, server, before, most))
    }

    fn public_incidents(&self, since: Wall, most: usize) -> Answer<'_, Vec<(Incident, Option<Publication>)>> {
        Box::pin(Reader::public_incidents(self, since, most))
    }

    fn publication(&self, id: IncidentId) -> Answer<'_, Option<Publication>> {
        Box::pin(Reader::publication(self, id))
    }

    fn service_days<'a>(
        &'a self,
        service: &'a ServiceId,
        midnights: &'a [Wall],
    ) -> Answer<'a, Vec<ServiceDay>> {
        Box::pin(Reader::service_days(self, service, midnights))
    }
}
