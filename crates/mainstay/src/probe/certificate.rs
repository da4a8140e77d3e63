//! The certificate probe: a handshake of TLS and nothing more; whether what is shown is to be trusted, for whom it is made out, who has issued
//! it, and how long all of its chain is good.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use mainstay_proxy::{ServerTls, TlsFlaw};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Look;
use super::connect::flaw_words;
use super::talk::begin_tls;
use super::trace::Trace;
use super::wire::{Wire, in_time, shortened};
use crate::config::people_duration;
use crate::config::probe::{CertificateProbe, StartTls};
use crate::tls::servers::Anybody;

/// So many names of a certificate are told.
const NAMES_TOLD: usize = 3;

/// Shakes hands, and looks at what was shown.
pub(super) async fn probe(look: &Look<'_>, probe: &CertificateProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let Some((tls, server)) = look.tls else {
        return Err(ProbeFailure::NotProbed(TlsFlaw::NotSetUp.to_string()));
    };
    // A session that is taken up again shows nothing anew.
    let mut config = (*tls.config).clone();
    config.resumption = Resumption::disabled();
    let anew = with_config(tls, config);
    match shown(&Look { tls: Some((&anew, server)), ..*look }, probe.starttls).await {
        Ok(chain) => judge(&Chain::read(&chain)?, probe, now()),
        Err(ProbeFailure::Certificate(why)) if probe.starttls.is_some() => {
            Err(ProbeFailure::Certificate(explained(look, probe.starttls, why).await))
        }
        Err(failure) => Err(failure),
    }
}

fn with_config(tls: &ServerTls, config: ClientConfig) -> ServerTls {
    ServerTls { config: Arc::new(config), name: tls.name.clone(), names: tls.names.clone() }
}

/// Why a certificate is not to be trusted, with what stands in it: it is looked at again by somebody who trusts everybody.
pub(super) async fn explained(look: &Look<'_>, starttls: Option<StartTls>, why: String) -> String {
    let Some((tls, server)) = look.tls else { return why };
    let mut config = (*tls.config).clone();
    config.resumption = Resumption::disabled();
    let provider = config.crypto_provider().clone();
    config.dangerous().set_certificate_verifier(Arc::new(Anybody::of(provider)));
    let lenient = with_config(tls, config);
    let again = Look { tls: Some((&lenient, server)), trace: &Trace::default(), ..*look };
    match shown(&again, starttls).await.and_then(|chain| Chain::read(&chain)) {
        Err(_) => why,
        Ok(chain) => {
            let unknown = why == flaw_words(TlsFlaw::UnknownAuthority, look.along.is_some());
            let alone = match unknown && chain.alone && !chain.self_signed {
                true => "; it is shown alone: is the one of its issuer missing in the chain?",
                false => "",
            };
            format!("{why}: {}{alone}", chain.words(now()))
        }
    }
}

/// What the server shows, its own certificate first.
async fn shown(
    look: &Look<'_>,
    starttls: Option<StartTls>,
) -> Result<Vec<CertificateDer<'static>>, ProbeFailure> {
    let mut wire = Wire::open(look).await?;
    if let Some(protocol) = starttls {
        in_time(look, begin_tls(&mut wire, protocol, look)).await?;
    }
    let chain = wire.certificates();
    wire.ended_well();
    match chain.is_empty() {
        true => Err(ProbeFailure::Tls("shows no certificate".to_owned())),
        false => Ok(chain),
    }
}

/// What stands in what was shown.
#[derive(Debug)]
struct Chain {
    names: Vec<String>,
    issuer: String,
    self_signed: bool,
    /// Nothing but its own was shown.
    alone: bool,
    /// When its own begins, in seconds since 1970.
    not_before: i64,
    /// When the first of them ends, in seconds since 1970, and whether it is one in between.
    not_after: i64,
    between: bool,
}

impl Chain {
    fn read(shown: &[CertificateDer<'_>]) -> Result<Self, ProbeFailure> {
        let bad = || ProbeFailure::Certificate("shows a certificate that cannot be read".to_owned());
        let mut parsed = Vec::new();
        for der in shown {
            parsed.push(X509Certificate::from_der(der).map_err(|_| bad())?.1);
        }
        let own = parsed.first().ok_or_else(bad)?;
        let ends = |certificate: &X509Certificate<'_>| certificate.validity().not_after.timestamp();
        // Authorities are shown again under old names; that one of them ends says nothing as long as it is not needed, but the
        // next one in the chain is.
        let next = parsed.get(1).filter(|next| next.subject() == own.issuer()).map(ends);
        Ok(Self {
            names: names(own),
            issuer: name(own.issuer()),
            self_signed: own.subject() == own.issuer(),
            alone: parsed.len() == 1,
            not_before: own.validity().not_before.timestamp(),
            not_after: next.map_or(ends(own), |next| next.min(ends(own))),
            between: next.is_some_and(|next| next < ends(own)),
        })
    }

    fn words(&self, now: i64) -> String {
        let more = self.names.len().saturating_sub(NAMES_TOLD);
        let names = self.names.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>().join(", ");
        let names = match (self.names.is_empty(), more) {
            (true, _) => "made out to nobody".to_owned(),
            (_, 0) => format!("for {names}"),
            (_, more) => format!("for {names} and {more} more"),
        };
        let issuer = match self.self_signed {
            true => "self-signed".to_owned(),
            false => format!("issued by {}", self.issuer),
        };
        let whose = if self.between { "its authority's " } else { "" };
        let until = |at: i64| days((at - now).unsigned_abs());
        let end = match (self.not_before > now, self.not_after >= now) {
            (true, _) => format!("begins in {}", until(self.not_before)),
            (_, true) => format!("{whose}ends in {}", until(self.not_after)),
            (_, false) => format!("{whose}ended {} ago", until(self.not_after)),
        };
        format!("{names}, {issuer}, {end}")
    }
}

/// Nobody wants to read of seconds where days are meant.
fn days(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    let rounded = if seconds >= 2 * DAY { seconds / DAY * DAY } else { seconds / 60 * 60 };
    people_duration(Duration::from_secs(rounded))
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(shortened(name, 80)),
            GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
                Ok(v4) => Some(std::net::IpAddr::from(v4).to_string()),
                Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::IpAddr::from(v6).to_string()),
            },
            _ => None,
        })
        .collect()
}

/// Its common name, or else all of it.
fn name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|part| part.as_str().ok());
    shortened(&common.map_or_else(|| name.to_string(), str::to_owned), 80)
}

fn judge(chain: &Chain, probe: &CertificateProbe, now: i64) -> Result<ProbeAnswer, ProbeFailure> {
    if let Some(least) = probe.min {
        lasts(chain.not_after, now, least, "min")?;
    }
    let soon = probe.warn.filter(|least| chain.not_after - now < seconds(*least));
    let warning =
        soon.map(|least| format!("its certificate {} (warn = {})", chain.words(now), people_duration(least)));
    Ok(ProbeAnswer { warning, ..ProbeAnswer::said(format!("certificate {}", chain.words(now))) })
}

/// A certificate must be good for so long; `key` says who wants it.
///
/// # Errors
/// It is not.
pub(super) fn lasts(not_after: i64, now: i64, least: Duration, key: &str) -> Result<(), ProbeFailure> {
    let left = Duration::from_secs(u64::try_from(not_after - now).unwrap_or(0));
    if left >= least {
        return Ok(());
    }
    Err(ProbeFailure::Certificate(format!(
        "shows a certificate that is good for {} more ({key} = {})",
        people_duration(left),
        people_duration(least)
    )))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}
