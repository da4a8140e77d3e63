//! TLS with servers: by whose settings, under which name, and the handshake.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mainstay_model::{ServerId, ServiceId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How TLS is spoken with the servers of each service that has such servers.
pub type ServersTls = BTreeMap<ServiceId, Arc<ServerTls>>;

/// How TLS is spoken with the servers of one service. It is made elsewhere, so that no file is read here.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Whom to trust and what to show. It remembers sessions, so that a server that was there before shakes hands quickly.
    pub config: Arc<ClientConfig>,
    /// The name that certificates must have, whatever a server's address says.
    pub name: Option<ServerName<'static>>,
    /// The names of servers that are written by name.
    pub names: BTreeMap<ServerId, ServerName<'static>>,
}

impl ServerTls {
    /// The name that a server's certificate must have: the service's, the server's, or else its address.
    pub fn name_of(&self, server: &ServerId, address: SocketAddr) -> ServerName<'static> {
        let own = || self.names.get(server).cloned();
        self.name.clone().or_else(own).unwrap_or_else(|| ServerName::from(address.ip()))
    }

    /// Shakes hands. The caller sets the deadline.
    ///
    /// # Errors
    /// Those of the connection, and those of TLS ([`crate::TlsFlaw::of`] tells them apart).
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        server: &ServerId,
        address: SocketAddr,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let name = self.name_of(server, address);
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}
