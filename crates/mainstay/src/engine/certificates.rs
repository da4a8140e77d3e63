//! The certificates that visitors are shown: how TLS is spoken by them, and whether one of them will soon be of no use.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_model::Wall;
use mainstay_model::chain::CertificateSnapshot;
use rustls::ServerConfig;
use tracing::error;

use crate::tls::certificate::Certificate;
use crate::tls::front::{Front, FrontTls};

/// What is shown now.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    tls: FrontTls,
    front: Front,
    config: Option<Arc<ServerConfig>>,
    /// Certificates that took the place of others, and are not told of yet.
    changes: Vec<String>,
    /// What was said last.
    trouble: Option<String>,
}

impl Certificates {
    /// Takes changed files and settings. What cannot be used is said, and the old way of speaking TLS stays.
    pub(super) fn apply(&mut self, tls: &FrontTls) -> Option<Arc<ServerConfig>> {
        if self.tls != *tls {
            match self.front.config(tls) {
                Ok(config) => {
                    let new = tls.certificates.iter().filter(|c| !self.tls.certificates.contains(c));
                    // At the start all of them are new.
                    if self.config.is_some() {
                        self.changes.extend(new.map(|c| {
                            format!("another certificate is shown for {}, until {}", c.title(), c.last_day())
                        }));
                    }
                    (self.tls, self.config) = (tls.clone(), config);
                }
                Err(error) => error!(error, "[tls] is of no use; visitors are served as before"),
            }
        }
        self.config.clone()
    }

    /// Until when each of them is good.
    pub(super) fn shown(&self) -> Vec<CertificateSnapshot> {
        let ms = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let one = |c: &Certificate| CertificateSnapshot {
            names: c.names.clone(),
            until: Wall(i64::try_from(ms(c.not_after)).unwrap_or(i64::MAX)),
        };
        self.tls.certificates.iter().map(one).collect()
    }

    /// Which certificates are shown that were not, since this was last asked.
    pub(super) fn changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changes)
    }

    /// What is the matter with them, if that is news.
    pub(super) fn news(&mut self, now: Wall) -> Option<Option<String>> {
        let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
        let trouble = trouble(&self.tls, now);
        (trouble != self.trouble).then(|| {
            self.trouble.clone_from(&trouble);
            trouble
        })
    }

    /// None of them was in trouble when they were looked at last.
    pub(super) fn are_well(&self) -> bool {
        self.trouble.is_none()
    }
}

/// Those that expire soon; by their dates, so that it is the same text every day.
fn trouble(tls: &FrontTls, now: SystemTime) -> Option<String> {
    let soon = tls.certificates.iter().filter(|c| c.left(now) < tls.warn_before);
    let told: Vec<String> = soon
        .map(|certificate| {
            let verb = if certificate.not_after <= now { "expired" } else { "expires" };
            let (title, day) = (certificate.title(), certificate.last_day());
            format!("the certificate of {title} {verb} on {day} (in {})", certificate.chain.display())
        })
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}
