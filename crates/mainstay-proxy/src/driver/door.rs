//! The addresses that are listened on: set as a whole at any time, and closed without losing a connection.
//!
//! Several sockets share each address (SO_REUSEPORT), and the kernel resets what waits in a socket's queue when that is
//! closed. So an address that is given up is first made deaf to new connections, and closed when what had begun has come in.
//! A Unix socket has one queue for all workers, and is deaf when its file is gone.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mainstay_model::Endpoint;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::sync::watch;

use super::unix::{self, SocketFile};
use crate::{Listen, StartError};

/// Connections that may wait to be accepted; the kernel's own limit (net.core.somaxconn, usually 4096) applies too.
const BACKLOG: i32 = 4096;

/// One address, as all workers see it.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// Stays while the address stays, whatever is spoken there.
    pub(crate) id: u64,
    pub(crate) listen: Listen,
    /// With the port that the kernel chose.
    pub(crate) bound: Endpoint,
    /// At least one a worker; of a Unix socket one for all.
    pub(crate) sockets: Arc<Vec<OwnedFd>>,
    /// The file of a Unix socket.
    file: Option<Arc<SocketFile>>,
}

/// Addresses that are bound and wait to be opened by [`crate::Proxy::listen`]. Dropped, what is new among them is let go.
#[derive(Debug)]
pub struct Prepared {
    doors: Vec<Door>,
}

impl Prepared {
    /// Where it will be listened, with the ports that the kernel chose, in the order in which the addresses were asked for.
    pub fn addresses(&self) -> Vec<Endpoint> {
        self.doors.iter().map(|door| door.bound.clone()).collect()
    }
}

/// All addresses of a data plane.
#[derive(Debug)]
pub(crate) struct Doors {
    workers: usize,
    next_id: AtomicU64,
    open: watch::Sender<Arc<Vec<Door>>>,
    /// Given up, with sockets that may be open for a moment yet.
    closing: Mutex<Vec<(Endpoint, Weak<Vec<OwnedFd>>)>>,
    /// Files of sockets that another process has listened at and this one does not.
    left: Mutex<Vec<SocketFile>>,
}

impl Doors {
    /// None yet.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            next_id: AtomicU64::new(0),
            open: watch::Sender::new(Arc::default()),
            closing: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Those that are open, now and as they change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Vec<Door>>> {
        self.open.subscribe()
    }

    pub(crate) fn addresses(&self) -> Vec<Endpoint> {
        self.open.borrow().iter().map(|door| door.bound.clone()).collect()
    }

    /// Copies of all sockets, each with the address that was asked for.
    pub(crate) fn sockets(&self) -> io::Result<Vec<(Endpoint, OwnedFd)>> {
        let open = Arc::clone(&self.open.borrow());
        let all =
            open.iter().flat_map(|door| door.sockets.iter().map(|socket| (&door.listen.address, socket)));
        all.map(|(address, socket)| Ok((address.clone(), socket.try_clone()?))).collect()
    }

    /// Another process listens at the files of Unix sockets from now on: they are its own.
    pub(crate) fn leave_files(&self) {
        self.each_file(SocketFile::leave);
    }

    /// The process before has gone: its files of Unix sockets are this one's, and those of which it has no use are removed.
    pub(crate) fn own_files(&self) {
        self.each_file(SocketFile::own);
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        left.iter().for_each(SocketFile::own);
    }

    /// Nobody new comes in by Unix sockets.
    pub(crate) fn remove_files(&self) {
        self.each_file(SocketFile::remove);
    }

    /// Gives all sockets up: the kernel refuses who comes once the workers have closed theirs too, instead of letting them wait for
    /// nobody.
    pub(crate) fn close(&self) {
        self.open.send_replace(Arc::default());
    }

    fn each_file(&self, act: impl Fn(&SocketFile)) {
        self.open.borrow().iter().filter_map(|door| door.file.as_deref()).for_each(act);
    }

    /// Binds what is wanted and not open yet. The kernel takes connections there from now on; they wait.
    pub(crate) fn prepare(&self, wanted: &[Listen]) -> Result<Prepared, StartError> {
        self.prepare_with(wanted, Vec::new())
    }

    /// The same with sockets that another process listened at, each with the address that was asked for.
    pub(crate) fn prepare_with(
        &self,
        wanted: &[Listen],
        mut inherited: Vec<(Endpoint, OwnedFd)>,
    ) -> Result<Prepared, StartError> {
        let open = Arc::clone(&self.open.borrow());
        let mut doors: Vec<Door> = Vec::with_capacity(wanted.len());
        for listen in wanted {
            let is_it = |door: &&Door| {
                door.listen.address == listen.address && !doors.iter().any(|taken| taken.id == door.id)
            };
            let door = match open.iter().find(is_it) {
                Some(known) => Door { listen: listen.clone(), ..known.clone() },
                None => {
                    // Several may have been asked for at a port of the kernel's choice; they come in their order.
                    let first = inherited.iter().find(|(address, _)| *address == listen.address);
                    let at = |socket: &OwnedFd| SockRef::from(socket).local_addr().ok();
                    let bound = first.and_then(|(_, socket)| at(socket));
                    let (mine, others) = inherited
                        .into_iter()
                        .partition(|(address, socket)| *address == listen.address && at(socket) == bound);
                    inherited = others;
                    self.bind(listen, &doors, mine)?
                }
            };
            doors.push(door);
        }
        let unwanted = inherited.iter().filter_map(|(address, _)| match address {
            Endpoint::Unix(path) => SocketFile::find(path, false).ok(),
            Endpoint::Tcp(_) => None,
        });
        self.left.lock().unwrap_or_else(PoisonError::into_inner).extend(unwanted);
        Ok(Prepared { doors })
    }

    /// Listens at these from now on, and at no others.
    pub(crate) fn set(&self, prepared: Prepared) {
        let before = Arc::clone(&self.open.borrow());
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        closing.retain(|(_, sockets)| sockets.strong_count() > 0);
        for door in before.iter().filter(|door| !prepared.doors.iter().any(|new| new.id == door.id)) {
            match &door.file {
                Some(file) => file.remove(),
                None => {
                    door.sockets.iter().for_each(make_deaf);
                    closing.push((door.bound.clone(), Arc::downgrade(&door.sockets)));
                }
            }
        }
        drop(closing);
        for door in &prepared.doors {
            let earlier = before.iter().find(|old| old.id == door.id);
            if let Some(file) = &door.file
                && earlier.is_some_and(|old| old.listen.access != door.listen.access)
            {
                file.set_access(&door.listen.access);
            }
        }
        self.open.send_replace(Arc::new(prepared.doors));
    }

    fn bind(
        &self,
        listen: &Listen,
        new: &[Door],
        inherited: Vec<(Endpoint, OwnedFd)>,
    ) -> Result<Door, StartError> {
        let inherited = inherited.into_iter().map(|(_, socket)| socket).collect();
        let (bound, sockets, file) = match &listen.address {
            Endpoint::Tcp(address) => self.bind_tcp(*address, new, inherited),
            Endpoint::Unix(path) => bind_unix(path, listen, inherited),
        }
        .map_err(|source| StartError::Listen { address: listen.address.clone(), source })?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Ok(Door { id, listen: listen.clone(), bound, sockets: Arc::new(sockets), file })
    }

    fn bind_tcp(&self, address: SocketAddr, new: &[Door], inherited: Vec<OwnedFd>) -> io::Result<Bound> {
        let closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        let left =
            closing.iter().filter(|(_, sockets)| sockets.strong_count() > 0).map(|(bound, _)| bound.clone());
        let mut own = left.chain(self.addresses()).chain(new.iter().map(|door| door.bound.clone()));
        let is_own = own.any(|own| own.tcp().is_some_and(|own| overlap(own, address)));
        drop(closing);
        let inherited = inherited.into_iter().map(TcpListener::from).collect();
        let (bound, sockets) = bind(address, self.workers, is_own, inherited)?;
        Ok((bound.into(), sockets.into_iter().map(OwnedFd::from).collect(), None))
    }
}

/// Where it is listened, with what, and the file of a Unix socket.
type Bound = (Endpoint, Vec<OwnedFd>, Option<Arc<SocketFile>>);

/// One socket for all workers. The file of an inherited one is its earlier owner's as long as that may go on.
fn bind_unix(path: &Arc<str>, listen: &Listen, inherited: Vec<OwnedFd>) -> io::Result<Bound> {
    let bound = Endpoint::Unix(Arc::clone(path));
    if let Some(socket) = inherited.into_iter().next() {
        // Without its file nobody finds the way to it.
        if let Ok(file) = SocketFile::find(path, false) {
            UnixListener::from(socket.try_clone()?).set_nonblocking(true)?;
            return Ok((bound, vec![socket], Some(Arc::new(file))));
        }
    }
    let (socket, file) = unix::bind(path, &listen.access, BACKLOG)?;
    Ok((bound, vec![socket.into()], Some(Arc::new(file))))
}

/// At least one listening socket for each worker, all on one address, and the address with the port that the kernel chose.
/// `is_own`: Mainstay itself has sockets there. None of the inherited ones is closed: that would reset what waits there.
fn bind(
    address: SocketAddr,
    workers: usize,
    is_own: bool,
    inherited: Vec<TcpListener>,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    // SO_REUSEPORT would let two programs of one user share a port without a word; a socket without it finds out.
    if address.port() != 0 && !is_own && inherited.is_empty() {
        let probe = socket(address)?;
        probe.bind(&address.into())?;
    }
    let mut bound = inherited.first().map_or(Ok(address), TcpListener::local_addr)?;
    let mut listeners = inherited;
    listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
    while listeners.len() < workers.max(1) {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok((bound, listeners))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it, which spares each of them a system call.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != std::net::Ipv6Addr::UNSPECIFIED)?;
    }
    Ok(socket)
}

/// Both cannot be bound by two programs.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// New connections are no longer begun, and whoever tries asks again a second later; those that the kernel has begun
/// still come in. Where the kernel cannot do that they are refused a moment later all the same.
fn make_deaf(listener: &OwnedFd) {
    /// The flags of a TCP segment.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // Classic BPF, which sees a segment from its TCP header on: load the byte of the flags, keep SYN and ACK, and drop what
    // has the first alone.
    let program = [
        SockFilter::new(0x30, 0, 0, FLAGS),
        SockFilter::new(0x54, 0, 0, SYN | ACK),
        SockFilter::new(0x15, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&program) {
        tracing::debug!(%error, "an address that is given up refuses new connections at once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_program_listens_on_is_not_shared_with_it() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, listeners) = bind(any, 2, false, Vec::new()).expect("a free port");
        assert_eq!(listeners.len(), 2);
        assert_eq!(
            bind(address, 1, false, Vec::new()).map_err(|e| e.kind()).err(),
            Some(io::ErrorKind::AddrInUse)
        );
        assert!(bind(address, 1, true, Vec::new()).is_ok());
        drop(listeners);
        assert!(bind(address, 1, false, Vec::new()).is_ok());
    }

    #[test]
    fn an_address_overlaps_with_itself_and_with_every_address_of_its_port() {
        let overlaps = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(overlaps("127.0.0.1:80", "127.0.0.1:80"));
        assert!(overlaps("127.0.0.1:80", "0.0.0.0:80") && overlaps("[::]:80", "127.0.0.1:80"));
        assert!(!overlaps("127.0.0.1:80", "127.0.0.2:80") && !overlaps("0.0.0.0:80", "0.0.0.0:81"));
    }
}
