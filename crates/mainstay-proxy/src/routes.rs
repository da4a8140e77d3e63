//! Asking where a request would go, by the router that carries traffic, without sending one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mainstay_model::ServiceId;
use mainstay_model::carriage::Carriage;
use mainstay_model::route::Handling;

use crate::codec::Refusal;
use crate::policy::changes::Parts;
use crate::policy::router::{Asked, Lost, Router};

/// The routes of all services.
#[derive(Debug)]
pub struct Routes {
    router: Router<Rule>,
}

#[derive(Debug)]
struct Rule {
    taken_by: Taken,
    service: ServiceId,
    handling: Arc<Handling>,
    prefix: usize,
}

/// Whose rule takes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The service that the rule stands in.
    pub service: ServiceId,
    /// The place of the route among the service's, from 0; `None`: by its own hosts and paths.
    pub route: Option<usize>,
}

/// A request that is asked about.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// `GET`.
    pub method: String,
    /// By https.
    pub secure: bool,
    /// A host name, perhaps with a port.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// Where a request would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// By whose rule.
    pub taken_by: Taken,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// A server of this service gets it with this target.
    Served {
        /// The service.
        service: ServiceId,
        /// Path and query.
        target: String,
    },
    /// Mainstay answers with a redirect.
    Redirected {
        /// Its status.
        status: u16,
        /// Where to.
        to: String,
    },
}

/// Why a request would go nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nowhere {
    /// No service has the host.
    #[error("no service has this host: 404")]
    Host,
    /// Nothing on the host fits.
    #[error("the host is known, but nothing on it fits: 404")]
    Path,
    /// It is refused.
    #[error("refused, {0}: {status}", status = .0.status())]
    Refused(Refusal),
}

impl Asked for Question {
    fn host(&self) -> Option<&str> {
        Some(&self.host)
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn method(&self) -> &str {
        &self.method
    }

    fn has_header(&self, name: &str, value: Option<&str>) -> bool {
        self.headers.get(name).is_some_and(|sent| value.is_none_or(|value| value == sent))
    }
}

impl Routes {
    /// Those of these services, which are in the order of their names.
    pub fn new<'c>(services: impl Iterator<Item = (&'c ServiceId, &'c Carriage)>) -> Self {
        let mut router = Router::default();
        for (id, carriage) in services {
            for rule in carriage.rules() {
                router.add(&rule.when, |prefix| Rule {
                    taken_by: Taken { service: id.clone(), route: rule.route },
                    service: rule.service.unwrap_or(id).clone(),
                    handling: Arc::clone(rule.handling),
                    prefix,
                });
            }
        }
        Self { router }
    }

    /// Where a request would go.
    ///
    /// # Errors
    /// When it would go nowhere.
    pub fn find(&self, question: &Question) -> Result<Answer, Nowhere> {
        let rule = self.router.route(question).map_err(|lost| match lost {
            Lost::Host => Nowhere::Host,
            Lost::Path => Nowhere::Path,
            Lost::Refused(refusal) => Nowhere::Refused(refusal),
        })?;
        let parts = Parts {
            host: &question.host,
            secure: question.secure,
            method: &question.method,
            target: &question.target,
            prefix: rule.prefix,
            visitor: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            request_id: b"",
            service: rule.service.as_str(),
        };
        let handling = &rule.handling;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let fate = match parts.redirect(handling) {
            Some((status, to)) => Fate::Redirected { status, to: text(to) },
            None => Fate::Served {
                service: rule.service.clone(),
                target: match &handling.rewrite {
                    Some(to) => text(parts.rewritten(to)),
                    None => question.target.clone(),
                },
            },
        };
        Ok(Answer { taken_by: rule.taken_by.clone(), fate })
    }
}
