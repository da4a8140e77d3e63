//! TLS with clients: the handshake within its deadline, then whatever protocol both sides agreed on.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio_rustls::{TlsAcceptor, TlsStream};

use super::client::Peer;
use super::connection::{self, Registered};
use super::io::{Socket, Stream};
use super::listener::Entrance;

/// What a handshake that fails, or takes too long, is counted as.
const HANDSHAKE_FAILED: &str = "tls-handshake";

/// Shakes hands and serves the connection to its end.
pub(crate) async fn serve(registered: Registered, entrance: Rc<Entrance>, stream: Socket, peer: Peer) {
    let Some(config) = registered.worker.tls() else {
        return registered.worker.refused("tls-no-certificate");
    };
    // Boxed, so that the task is as small as its connection once the hands are shaken.
    let mut accepting = Box::pin(TlsAcceptor::from(config).accept(stream));
    match within_deadline(&registered, accepting.as_mut()).await {
        Ok(stream) => {
            drop(accepting);
            let stream = Stream::Tls(Box::new(TlsStream::Server(stream)));
            connection::serve(registered, entrance, stream, peer).await;
        }
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            registered.worker.refused(HANDSHAKE_FAILED);
        }
    }
}

/// A handshake that takes longer than a request's head may is nobody's who wants to ask something.
async fn within_deadline<T>(
    registered: &Registered,
    mut shaking: Pin<&mut impl Future<Output = io::Result<T>>>,
) -> io::Result<T> {
    let Registered { worker, slot, .. } = registered;
    worker.slots.arm(slot, worker.now() + worker.settings.head_timeout);
    poll_fn(|cx| {
        slot.watch(cx);
        match shaking.as_mut().poll(cx) {
            Poll::Pending if slot.fired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    })
    .await
}
