//! Why a server could not be spoken to over TLS, in words that a person can act on.

use std::fmt;
use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// What was wrong with a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFlaw {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is made out to others.
    WrongName,
    /// Nobody who is trusted has issued the certificate.
    UnknownAuthority,
    /// The certificate is of no use for another reason.
    BadCertificate,
    /// The server wants a certificate from Mainstay, or another one.
    WantsCertificate,
    /// There is no version or cipher that both sides speak.
    NothingInCommon,
    /// The server does not speak HTTP/2 over TLS.
    NoHttp2,
    /// What came is no TLS.
    NotTls,
    /// The server broke the handshake off by an alert, or its rules.
    Refused,
    /// Mainstay was not told how to speak TLS with this server.
    NotSetUp,
}

impl TlsFlaw {
    /// What an error of a handshake says; `None`: it is one of the connection, not of TLS.
    pub fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        Some(match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(alert) => match alert {
                AlertDescription::NoApplicationProtocol => TlsFlaw::NoHttp2,
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity => TlsFlaw::NothingInCommon,
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied => TlsFlaw::WantsCertificate,
                _ => TlsFlaw::Refused,
            },
            Error::PeerIncompatible(_) => TlsFlaw::NothingInCommon,
            Error::InvalidMessage(_) => TlsFlaw::NotTls,
            _ => TlsFlaw::Refused,
        })
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFlaw::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFlaw::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFlaw::WrongName
            }
            // A signature that does not fit is what an authority of the same name and another key leaves.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFlaw::UnknownAuthority,
            // What webpki says of a certificate that is its own authority.
            CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
                TlsFlaw::UnknownAuthority
            }
            _ => TlsFlaw::BadCertificate,
        }
    }

    /// It is the certificate that is at fault.
    pub fn is_of_certificate(self) -> bool {
        matches!(
            self,
            TlsFlaw::Expired
                | TlsFlaw::NotYetValid
                | TlsFlaw::WrongName
                | TlsFlaw::UnknownAuthority
                | TlsFlaw::BadCertificate
        )
    }
}

/// What is said of the server.
impl fmt::Display for TlsFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsFlaw::Expired => "shows a certificate that has expired",
            TlsFlaw::NotYetValid => "shows a certificate that is not valid yet",
            TlsFlaw::WrongName => "shows a certificate that is made out to another name (server-tls.name)",
            TlsFlaw::UnknownAuthority => {
                "shows a certificate that no trusted authority has issued (server-tls.ca)"
            }
            TlsFlaw::BadCertificate => "shows a certificate that is of no use",
            TlsFlaw::WantsCertificate => {
                "wants a certificate from Mainstay, or another one (server-tls.certificate)"
            }
            TlsFlaw::NothingInCommon => "speaks no version of TLS, or no cipher, that Mainstay speaks too",
            TlsFlaw::NoHttp2 => "does not speak HTTP/2 over TLS (server-protocol)",
            TlsFlaw::NotTls => "does not speak TLS",
            TlsFlaw::Refused => "broke the TLS handshake off",
            TlsFlaw::NotSetUp => "is to be spoken to over TLS, and Mainstay was not told how",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_tls_are_told_apart_from_those_of_the_connection() {
        let flaw = |error: Error| TlsFlaw::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(flaw(CertificateError::Expired.into()), Some(TlsFlaw::Expired));
        assert_eq!(flaw(CertificateError::NotValidForName.into()), Some(TlsFlaw::WrongName));
        assert_eq!(flaw(CertificateError::UnknownIssuer.into()), Some(TlsFlaw::UnknownAuthority));
        let alert = AlertDescription::NoApplicationProtocol;
        assert_eq!(flaw(Error::AlertReceived(alert)), Some(TlsFlaw::NoHttp2));
        assert_eq!(TlsFlaw::of(&io::ErrorKind::ConnectionReset.into()), None);
        assert!(TlsFlaw::Expired.is_of_certificate() && !TlsFlaw::NotTls.is_of_certificate());
    }
}
