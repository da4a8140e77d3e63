//! Probes of what lies below a protocol: the certificate alone, and a ping.

use std::time::Duration;

use super::super::service::LEAST;
use super::super::whole::Resolver;
use super::StartTls;
use crate::config::raw::{RawCertificateProbe, RawIcmpProbe};

/// A handshake of TLS, and how long what is shown must be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateProbe {
    /// TLS by a protocol's own command.
    pub starttls: Option<StartTls>,
    /// One that is good for less time is not good.
    pub min: Option<Duration>,
    /// One that is good for less time makes degraded.
    pub warn: Option<Duration>,
}

/// Pings.
#[derive(Debug, Clone, PartialEq)]
pub struct IcmpProbe {
    /// How many are sent.
    pub packets: u32,
    /// The share of them that may be lost, 0 to 1.
    pub loss_max: f64,
    /// A longer average makes degraded.
    pub slow_after: Option<Duration>,
}

/// Who renews certificates by itself does it a month before they end: two weeks are left when that has failed again and again.
const WARN: Duration = Duration::from_secs(14 * 86_400);

impl Resolver<'_> {
    /// How long a certificate must be good.
    pub(super) fn certificate_probe(&self, raw: &RawCertificateProbe) -> CertificateProbe {
        let min = raw.min.get().map(|at| at.value.0);
        let warn = raw.warn.get().map_or(WARN, |at| at.value.0);
        if let (Some(at), Some(min)) = (raw.warn.get(), min)
            && warn < min
            && !warn.is_zero()
        {
            self.mistakes.value(
                &at.place,
                "nobody would be warned: min is longer",
                "make warn the longer one",
            );
        }
        CertificateProbe {
            starttls: self.starttls(&raw.starttls),
            min,
            warn: (!warn.is_zero()).then_some(warn),
        }
    }

    /// How many pings, and how many of them may be lost.
    pub(super) fn icmp_probe(&self, raw: &RawIcmpProbe) -> IcmpProbe {
        let packets = self.count(&raw.packets, 1, 1..=20);
        if let (Some(at), 1) = (raw.loss_max.get(), packets) {
            let what = "of one ping either all is lost or nothing";
            self.mistakes.value(&at.place, what, "write packets = 5, or remove loss-max");
        }
        IcmpProbe {
            packets,
            loss_max: self.share(&raw.loss_max, 0.0, 0.0),
            slow_after: raw.slow_after.get().map(|_| self.duration(&raw.slow_after, LEAST, LEAST)),
        }
    }
}
