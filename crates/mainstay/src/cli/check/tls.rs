//! TLS: a handshake that is carried to its end whatever the certificate says, so that a broken one can be described. No user, password
//! or path is ever sent over a connection whose certificate does not hold.

use std::io;
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::observed::{Certificate, Tls, TlsFailure};
use super::target::Host;
use super::trust::Trust;

/// Shakes hands by the deadline. The stream is there whenever the handshake came to its end.
pub(super) async fn shake_hands(
    stream: TcpStream,
    host: &Host,
    trust: &Arc<Trust>,
    now: i64,
    deadline: Instant,
) -> (Tls, Option<TlsStream<TcpStream>>) {
    let begun = Instant::now();
    let mut tls =
        Tls { took: begun.elapsed(), failure: None, version: None, certificate: None, server_time: None };
    let name = match host {
        Host::Address(address) => Ok(ServerName::from(*address)),
        Host::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()),
    };
    let Ok(name) = name else {
        tls.failure = Some(TlsFailure::Other("no certificate can be made out to such a name".to_owned()));
        return (tls, None);
    };
    let witness = Arc::new(Witness { trust: trust.clone(), now, seen: Mutex::new(None) });
    let connector = match connector(&witness) {
        Ok(connector) => connector,
        Err(error) => {
            tls.failure = Some(TlsFailure::Other(error.to_string()));
            return (tls, None);
        }
    };
    let result = timeout_at(deadline, connector.connect(name, stream)).await;
    tls.took = begun.elapsed();
    tls.certificate = witness.seen.lock().ok().and_then(|mut seen| seen.take());
    match result {
        Err(_) => tls.failure = Some(TlsFailure::TimedOut),
        Ok(Err(error)) => tls.failure = Some(failure(&error)),
        Ok(Ok(stream)) => {
            let version = stream.get_ref().1.protocol_version();
            tls.version =
                version.and_then(|version| version.as_str().map(|text| text.replace("TLSv1_", "TLS 1.")));
            return (tls, Some(stream));
        }
    }
    (tls, None)
}

fn connector(witness: &Arc<Witness>) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn failure(error: &io::Error) -> TlsFailure {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::TimedOut => TlsFailure::TimedOut,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => TlsFailure::Closed,
            _ => TlsFailure::Other(error.to_string()),
        };
    };
    match tls {
        rustls::Error::InvalidMessage(_) => TlsFailure::NotTls,
        rustls::Error::PeerIncompatible(why) => TlsFailure::NoCommonProtocol(format!("{why:?}")),
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::NoApplicationProtocol),
        ) => TlsFailure::NoCommonProtocol(format!("{alert:?}")),
        rustls::Error::AlertReceived(alert) => TlsFailure::Alert(format!("{alert:?}")),
        other => TlsFailure::Other(other.to_string()),
    }
}

/// Writes down what the server showed, and lets the handshake go on. That the server holds the certificate's key is checked as ever.
#[derive(Debug)]
struct Witness {
    trust: Arc<Trust>,
    now: i64,
    seen: Mutex<Option<Certificate>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown: Vec<CertificateDer<'_>> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        if let Ok(mut seen) = self.seen.lock() {
            *seen = self.trust.describe(&shown, server_name, self.now);
            if seen.is_some() {
                return Ok(ServerCertVerified::assertion());
            }
        }
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, self.trust.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}
