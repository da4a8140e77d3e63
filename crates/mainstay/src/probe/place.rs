//! Where a name leads, asked at each probe: what it says, and what it means when it says nothing.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use mainstay_model::input::{IpFamily, LookUpFailure, ProbeFailure};
use mainstay_model::{Endpoint, Whereabouts};
use tokio::time::{Instant, timeout_at};

/// Addresses of one name that are tried.
const TRIED_MAX: usize = 4;

/// Looks a name up, by a deadline.
pub type Resolve = Arc<
    dyn Fn(Arc<str>, Instant) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, LookUpFailure>> + Send>>
        + Send
        + Sync,
>;

/// How names are looked up; by default as the system does, by whatever it goes by.
#[derive(Clone)]
pub(super) struct Names(pub(super) Resolve);

impl Default for Names {
    fn default() -> Self {
        Self(Arc::new(|host, _| {
            Box::pin(async move {
                match tokio::net::lookup_host((&*host, 0)).await {
                    Ok(found) => Ok(found.map(|address| address.ip()).collect()),
                    Err(error) => Err(LookUpFailure::Failed(error.to_string())),
                }
            })
        }))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names(…)")
    }
}

/// Every address to try, one at least; those of a name of one kind alone, if it is said which.
///
/// # Errors
/// The name leads nowhere, or DNS does not say where.
pub(super) async fn addresses(
    place: &Whereabouts,
    family: Option<IpFamily>,
    resolve: &Resolve,
    deadline: Instant,
) -> Result<Vec<Endpoint>, ProbeFailure> {
    let (host, port) = match place {
        Whereabouts::Known(address) => return Ok(vec![address.clone()]),
        Whereabouts::Named { host, port } => (host, *port),
    };
    let found = match timeout_at(deadline, resolve(Arc::clone(host), deadline)).await {
        Ok(Ok(found)) if found.is_empty() => Err(LookUpFailure::NoAddress),
        Ok(found) => found,
        Err(_) => Err(LookUpFailure::Failed("no answer in time".to_owned())),
    };
    let endpoint = |ip| Endpoint::Tcp(SocketAddr::new(ip, port));
    match found {
        Ok(found) => {
            let wanted = |ip: &IpAddr| family.is_none_or(|family| family.has(*ip));
            let wanted: Vec<Endpoint> =
                found.into_iter().filter(wanted).take(TRIED_MAX).map(endpoint).collect();
            match family.filter(|_| wanted.is_empty()) {
                Some(family) => Err(ProbeFailure::Name(format!("{host} has no {family} address in DNS"))),
                None => Ok(wanted),
            }
        }
        Err(LookUpFailure::NoSuchName) => {
            Err(ProbeFailure::Name(format!("{host} does not exist in DNS (NXDOMAIN)")))
        }
        Err(LookUpFailure::NoAddress) => Err(ProbeFailure::Name(format!("{host} has no address in DNS"))),
        Err(LookUpFailure::Failed(why)) if is_own_want(&why) => Err(ProbeFailure::NotProbed(why)),
        Err(LookUpFailure::Failed(why)) => {
            Err(ProbeFailure::Unresolved(format!("DNS does not say where {host} is: {why}")))
        }
    }
}

/// The addresses of one name, tried one after the other until one takes the connection.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    left: &'a [Endpoint],
    deadline: Instant,
    first: Option<ProbeFailure>,
}

impl<'a> Tries<'a> {
    /// None was tried yet.
    pub(super) fn new(addresses: &'a [Endpoint], deadline: Instant) -> Self {
        Self { left: addresses, deadline, first: None }
    }

    /// The next one, and by when it must be connected: each has its part of the time.
    pub(super) fn next(&mut self) -> Option<(&'a Endpoint, Instant)> {
        let parts = u32::try_from(self.left.len()).unwrap_or(u32::MAX);
        let (address, left) = self.left.split_first()?;
        self.left = left;
        let now = Instant::now();
        Some((address, now + self.deadline.saturating_duration_since(now) / parts))
    }

    /// What came of it; `None`: nobody was there, and the next one is tried.
    pub(super) fn decided<T>(&mut self, result: Result<T, ProbeFailure>) -> Option<Result<T, ProbeFailure>> {
        match result {
            Err(
                failure @ (ProbeFailure::Refused
                | ProbeFailure::Unreachable(_)
                | ProbeFailure::ConnectTimeout
                | ProbeFailure::NotProbed(_)),
            ) => {
                // What could not be tried says less than what was.
                if matches!(self.first, None | Some(ProbeFailure::NotProbed(_))) {
                    self.first = Some(failure);
                }
                None
            }
            result => Some(result),
        }
    }

    /// What none of them came to.
    pub(super) fn failure(self) -> ProbeFailure {
        self.first.unwrap_or_else(|| ProbeFailure::NotProbed("it has no address".to_owned()))
    }
}

/// No descriptors or memory left on this side. What asks DNS tells it as text.
fn is_own_want(why: &str) -> bool {
    [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS]
        .iter()
        .any(|code| why.ends_with(&format!("(os error {code})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(answer: Result<Vec<&'static str>, LookUpFailure>) -> Resolve {
        let answer = answer.map(|all| all.into_iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>());
        Arc::new(move |_, _| {
            let answer = answer.clone();
            Box::pin(async move { answer })
        })
    }

    async fn of(answer: Result<Vec<&'static str>, LookUpFailure>) -> Result<Vec<String>, ProbeFailure> {
        let place = Whereabouts::Named { host: "pay.example.com".into(), port: 443 };
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let found = addresses(&place, None, &says(answer), deadline).await?;
        Ok(found.iter().map(Endpoint::to_string).collect())
    }

    #[tokio::test]
    async fn what_dns_says_is_told_apart() {
        assert_eq!(of(Ok(vec!["10.0.0.1", "::1"])).await.unwrap(), ["10.0.0.1:443", "[::1]:443"]);
        let name = |text: &str| Err(ProbeFailure::Name(text.to_owned()));
        assert_eq!(of(Ok(vec![])).await, name("pay.example.com has no address in DNS"));
        let gone = of(Err(LookUpFailure::NoSuchName)).await;
        assert_eq!(gone, name("pay.example.com does not exist in DNS (NXDOMAIN)"));
        let failed = of(Err(LookUpFailure::Failed("Server Failure".into()))).await;
        let unknown = "DNS does not say where pay.example.com is: Server Failure".to_owned();
        assert_eq!(failed, Err(ProbeFailure::Unresolved(unknown)));
        let own = of(Err(LookUpFailure::Failed("Too many open files (os error 24)".into()))).await;
        assert!(matches!(own, Err(ProbeFailure::NotProbed(_))), "{own:?}");
    }
}
