//! Redirects: where an answer leads, by the rules that browsers go by (RFC 3986, RFC 9110 10.2.2), and who is asked next. A server's
//! check stays with the server: another host is not what it is a check of. A monitor goes along as a visitor would, and tells whoever
//! is elsewhere no secrets.

use std::sync::Arc;

use hyper::header::LOCATION;
use mainstay_model::input::{IpFamily, ProbeFailure};
use mainstay_model::{Endpoint, Whereabouts};
use mainstay_proxy::ServerTls;
use reqwest::Url;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Look;
use super::demand::Got;
use super::place::Names;
use super::wire::shortened;

/// As much of an address is told.
const TOLD_MAX: usize = 120;

/// The address of what is asked, as a visitor would write it; `None` when it makes none.
pub(super) fn asked(over_tls: bool, authority: &str, path: &str) -> Option<Url> {
    let scheme = if over_tls { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{authority}{path}")).ok()
}

/// Where an answer to `from` leads, if it is a redirect.
///
/// # Errors
/// It does not say where to, or to something that is not asked by HTTP.
pub(super) fn of(got: &Got, from: &Url) -> Result<Option<Url>, ProbeFailure> {
    if !matches!(got.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(target) = got.headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
        return Err(ProbeFailure::Answer(format!("answered status {} without saying where to", got.status)));
    };
    let next = from.join(target).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(mut next) = next.filter(|url| url.has_host()) else {
        let target = shortened(target, TOLD_MAX);
        return Err(ProbeFailure::Answer(format!("redirects to {target}, which is no address of the web")));
    };
    next.set_fragment(None);
    // What an answer says of a user and a password is not Mainstay's to send.
    let _ = (next.set_username(""), next.set_password(None));
    Ok(Some(next))
}

/// It is on the server that was asked: its name, its own port or the one that visitors use, and as safe as before.
pub(super) fn is_within(next: &Url, from: &Url, address: &Endpoint) -> bool {
    let port = next.port_or_known_default();
    let own_ports = [from.port_or_known_default(), address.port()];
    let itself = address.ip().is_some_and(|ip| {
        next.host_str().is_some_and(|host| host.trim_matches(['[', ']']) == ip.to_string())
            && port == address.port()
    });
    next.scheme() == from.scheme()
        && (next.host_str() == from.host_str() && own_ports.contains(&port) || itself)
}

/// Secrets that are meant for `from` may be told there too: the same place, or the same host by its usual port and now over TLS.
pub(super) fn is_trusted_with_secrets(next: &Url, from: &Url) -> bool {
    let usual_upgrade = || {
        next.host_str() == from.host_str()
            && (from.scheme(), next.scheme()) == ("http", "https")
            && (from.port(), next.port()) == (None, None)
    };
    next.origin() == from.origin() || usual_upgrade()
}

/// Path and query, as they stand in a request.
pub(super) fn path_of(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// Host and port, as they stand in a request.
pub(super) fn authority_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Where it is to be looked for.
pub(super) fn place_of(url: &Url) -> Whereabouts {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    match host.trim_matches(['[', ']']).parse() {
        Ok(ip) => Endpoint::Tcp(std::net::SocketAddr::new(ip, port)).into(),
        Err(_) => Whereabouts::Named { host: host.into(), port },
    }
}

/// Mainstay goes along to other machines, and this is what it needs on the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Along<'l> {
    pub(super) names: &'l Names,
    /// How TLS is spoken; with whoever is not trusted with secrets, without a certificate of Mainstay's own.
    pub(super) tls: Option<&'l ServerTls>,
    /// Over addresses of this kind alone.
    pub(super) family: Option<IpFamily>,
}

impl Along<'_> {
    /// How TLS is spoken there, if it is.
    ///
    /// # Errors
    /// Nobody has said how.
    pub(super) fn tls_with(
        &self,
        url: &Url,
        secrets: bool,
    ) -> Result<Option<(ServerTls, ServerName<'static>)>, ProbeFailure> {
        if url.scheme() != "https" {
            return Ok(None);
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let (Some(tls), Ok(name)) = (self.tls, ServerName::try_from(host)) else {
            return Err(ProbeFailure::NotProbed(mainstay_proxy::TlsFlaw::NotSetUp.to_string()));
        };
        let mut tls = tls.clone();
        if !secrets && tls.config.client_auth_cert_resolver.has_certs() {
            Arc::make_mut(&mut tls.config).client_auth_cert_resolver = Arc::new(Anonymous);
        }
        Ok(Some((tls, name)))
    }
}

/// Shows no certificate to anybody.
#[derive(Debug)]
struct Anonymous;

impl ResolvesClientCert for Anonymous {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What failed elsewhere, with where that was: whoever reads it knows the first address only.
pub(super) fn told_of(failure: ProbeFailure, url: &Url) -> ProbeFailure {
    let to = format!("redirects to {}", shortened(url.as_str(), TOLD_MAX));
    let which = |failure: &ProbeFailure| format!("{to}: {failure}");
    match failure {
        ProbeFailure::Name(_) => ProbeFailure::Name(which(&failure)),
        ProbeFailure::Unresolved(_) => ProbeFailure::Unresolved(which(&failure)),
        ProbeFailure::Certificate(why) => ProbeFailure::Certificate(format!("{to}, which {why}")),
        ProbeFailure::BrokenOff(why) => ProbeFailure::BrokenOff(format!("{to}, which {why}")),
        ProbeFailure::Tls(why) => ProbeFailure::Tls(format!("{to}, which {why}")),
        ProbeFailure::Unreachable(why) => ProbeFailure::Unreachable(format!("{to}: {why}")),
        ProbeFailure::ConnectTimeout | ProbeFailure::AnswerTimeout => {
            ProbeFailure::Silent(format!("{to}, which {failure}"))
        }
        ProbeFailure::Refused => ProbeFailure::Answer(which(&failure)),
        ProbeFailure::Reset | ProbeFailure::Malformed(_) | ProbeFailure::Status(_) => {
            ProbeFailure::Answer(format!("{to}, which {failure}"))
        }
        failure => failure,
    }
}

/// The look at what `url` leads to, at one of its addresses.
pub(super) fn look_at<'l>(
    look: &Look<'l>,
    address: &'l Endpoint,
    tls: Option<&'l (ServerTls, ServerName<'static>)>,
    connect_by: tokio::time::Instant,
) -> Look<'l> {
    Look {
        address,
        tls: tls.map(|(tls, name)| (tls, name)),
        over_tls: tls.is_some(),
        connect_by,
        greeting: &[],
        ..*look
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use mainstay_model::sample::Phases;

    use super::*;

    fn led(from: &str, location: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().unwrap());
        let got = Got {
            status: 302,
            headers,
            body: Vec::new(),
            whole: true,
            phases: Phases::default(),
            not_after: None,
        };
        match of(&got, &from.parse().unwrap()) {
            Ok(next) => Ok(next.expect("it is a redirect").to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn a_location_is_read_as_browsers_read_it() {
        let from = "http://shop.test/a/b?c=1";
        for (location, to) in [
            ("login", "http://shop.test/a/login"),
            ("./login", "http://shop.test/a/login"),
            ("../login#top", "http://shop.test/login"),
            ("?x=1", "http://shop.test/a/b?x=1"),
            ("", "http://shop.test/a/b?c=1"),
            ("/login", "http://shop.test/login"),
            ("//www.test/x", "http://www.test/x"),
            ("http://SHOP.test:80/x", "http://shop.test/x"),
            ("https://shop.test:443", "https://shop.test/"),
            ("https://ann:pass@shop.test/", "https://shop.test/"),
        ] {
            assert_eq!(led(from, location).unwrap(), to, "{location}");
        }
        let none = "redirects to mailto:ann@shop.test, which is no address of the web";
        assert_eq!(led(from, "mailto:ann@shop.test").unwrap_err(), none);
        assert!(led(from, "http://").is_err());
    }

    #[test]
    fn a_server_is_its_name_its_address_and_no_other_port() {
        let from: Url = "http://shop.test/".parse().unwrap();
        let address = Endpoint::Tcp("10.0.0.1:3000".parse().unwrap());
        let within = |to: &str| is_within(&to.parse().unwrap(), &from, &address);
        assert!(
            within("http://shop.test/a")
                && within("http://shop.test:3000/")
                && within("http://10.0.0.1:3000/")
        );
        assert!(
            !within("https://shop.test/")
                && !within("http://shop.test:8080/")
                && !within("http://www.shop.test/")
        );
        assert!(!within("http://10.0.0.1/"));
    }

    #[test]
    fn secrets_go_no_further_than_the_same_place_or_the_same_host_made_safe() {
        let may =
            |from: &str, to: &str| is_trusted_with_secrets(&to.parse().unwrap(), &from.parse().unwrap());
        assert!(may("http://x.test/", "http://x.test/y") && may("http://x.test/", "https://x.test/"));
        assert!(!may("https://x.test/", "http://x.test/"));
        assert!(!may("http://x.test/", "http://www.x.test/"));
        assert!(!may("http://x.test/", "https://x.test:8443/"));
    }
}
