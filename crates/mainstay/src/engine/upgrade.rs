//! Handing over to another Mainstay, and taking over from one.
//!
//! The one that goes first freezes: its judge decides no more and its record is closed, while its data plane serves on by the
//! last table. Until the other says that it serves, everything can be taken up again as if nothing had been.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::carried::Carried;
use mainstay_model::{Endpoint, ServerId};
use mainstay_proxy::{Learned, Proxy, Report};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::core::Message;
use super::{Guided, Running};
use crate::dns;
use crate::handover::{HeldProcess, Line, Parcel, Role, State};
use crate::recovery::{Held, Inherited, Legacy};

/// An action that is under way is waited for so long; a server that is stopped may need it.
const ACTIONS_TAKE: Duration = Duration::from_secs(30);
/// After everything was waited for once.
const SOON: Duration = Duration::from_secs(2);
/// The dashboard's answers under way.
const WEB_TAKES: Duration = Duration::from_secs(2);

/// Everything that the Mainstay that goes on needs.
#[derive(Debug)]
pub struct Estate {
    /// What is told.
    pub state: State,
    /// The descriptors that belong to it.
    pub fds: Vec<OwnedFd>,
    line: std::os::unix::net::UnixStream,
}

/// What a Mainstay that has handed over still has to do.
#[derive(Debug)]
pub struct Left {
    /// Finishes what is under way.
    pub proxy: Arc<Proxy>,
    /// What that goes on to report; `None`: the loop that took it has panicked.
    pub reports: Option<mpsc::Receiver<Report>>,
    /// One that was replaced before and still finishes what it has.
    pub before: Option<Guided>,
    /// Processes that it stays the parent of.
    pub held: Held,
}

/// What a Mainstay takes over.
#[derive(Debug, Default)]
pub struct Inheritance {
    parcel: Parcel,
    held: Vec<HeldProcess>,
    /// How every server is.
    pub(super) carried: Carried,
    /// What is known of servers beside that.
    pub(super) learned: Learned,
}

impl Running {
    /// Stops deciding, and gives away all that another Mainstay needs; visitors are served on.
    ///
    /// # Errors
    /// Why it cannot be done now, for a person. Nothing has changed then.
    pub async fn freeze(&self) -> Result<Estate, String> {
        self.may_be_replaced()?;
        // What is under way now is waited for while everything is still judged.
        drop(self.supervisor.tell_all(ACTIONS_TAKE).await?);
        let (done, frozen) = oneshot::channel();
        let gone = |_| "the engine's loop is gone".to_owned();
        self.messages.send(Message::Freeze { done }).await.map_err(|_| gone(()))?;
        let carried = frozen.await.map_err(|_| gone(()))?;
        let learned = self.proxy.learned().await;
        let estate = async {
            let legacy = self.supervisor.tell_all(SOON).await?;
            self.estate(&carried, &learned, legacy)
                .map_err(|error| format!("sockets cannot be handed over: {error}"))
        };
        match estate.await {
            Ok(estate) => Ok(estate),
            Err(error) => {
                self.thaw().await;
                Err(error)
            }
        }
    }

    /// The Mainstay before was told that this one serves: what was taken over is this one's alone. The other finishes what it has
    /// by the tables of this one, which it is sent over the line.
    pub fn is_in_charge(&mut self, line: Line) {
        match Guided::begin(line, &self.proxy) {
            Ok(before) => self.before = Some(before),
            Err(error) => tracing::warn!(%error, "the Mainstay before finishes by its last table"),
        }
        self.proxy.is_in_charge();
        let snapshot = self.snapshots.borrow();
        self.supervisor.answer_for_adopted(|server| snapshot.server(server).is_some());
    }

    /// Goes on as if nothing had been.
    pub async fn thaw(&self) {
        let (done, thawed) = oneshot::channel();
        if self.messages.send(Message::Thaw { done }).await.is_ok() {
            let _ = thawed.await;
        }
    }

    /// Another Mainstay serves now. What is left is to finish what is under way, and to stay the parent of what was started.
    pub async fn leave(self, estate: Estate) -> Left {
        let held = self.supervisor.give_up(estate.line).await;
        self.stop_web.send_replace(true);
        if timeout(WEB_TAKES, self.web).await.is_err() {
            tracing::debug!("the dashboard had requests under way; they were cut");
        }
        let _ = self.messages.send(Message::Leave).await;
        let reports = self.core.await.ok().flatten();
        Left { proxy: self.proxy, reports, before: self.before, held }
    }

    /// What is under way for minutes and would be cut.
    fn may_be_replaced(&self) -> Result<(), String> {
        let snapshot = self.snapshots.borrow();
        for service in &snapshot.services {
            let id = &service.id;
            if service.releases.as_ref().is_some_and(|releases| releases.deployment.is_some()) {
                return Err(format!("a release of {id} is being deployed; try again when that is over"));
            }
            if service.switch.as_ref().is_some_and(|switch| switch.is_running()) {
                return Err(format!("the switch of {id} runs; try again when it has ended"));
            }
        }
        if let Some(drill) = snapshot.drills.iter().find(|drill| !drill.state.is_over()) {
            return Err(format!("drill {} is under way; try again when it is over", drill.id));
        }
        match snapshot.backups.iter().find(|backup| backup.running.is_some()) {
            Some(backup) => Err(format!("the backup {} is being made; try again when it is done", backup.id)),
            None => Ok(()),
        }
    }

    fn estate(&self, carried: &Carried, learned: &Learned, legacy: Legacy) -> io::Result<Estate> {
        let mut parcel = Parcel::default();
        for (address, socket) in self.proxy.sockets()? {
            parcel.add(Role::Visitors(address), socket);
        }
        for (role, fd) in &self.kept {
            parcel.add(role.clone(), fd.try_clone()?);
        }
        for (role, fd) in self.page.sockets() {
            parcel.add(role, fd.try_clone()?);
        }
        parcel.add(Role::Instance, legacy.lock);
        legacy.outputs.into_iter().for_each(|fd| parcel.add(Role::Output, fd));
        legacy.holders.into_iter().for_each(|fd| parcel.add(Role::Holder, fd));
        let (roles, fds) = parcel.split();
        let state = State::new(carried, legacy.held, &roles).with_learned(learned);
        Ok(Estate { state, fds, line: legacy.line })
    }
}

impl Inheritance {
    /// What was sent.
    pub fn new(state: State, fds: Vec<OwnedFd>) -> Self {
        let (mut carried, learned) = (state.carried(), state.learned());
        let parcel = state.parcel(fds);
        let held = state.held;
        carried.keep_processes(|server, pid| {
            held.iter().any(|process| process.server == *server && process.pid.cast_unsigned() == pid)
        });
        Self { parcel, held, carried, learned }
    }

    /// The processes that go on; `None`: nothing is known of any, and what is left of them is to be ended.
    pub(super) fn processes(&mut self) -> Option<Inherited> {
        let all = |(_, fd)| fd;
        let lock = self.parcel.take(|role| (*role == Role::Instance).then_some(()));
        let outputs = self.parcel.take(|role| (*role == Role::Output).then_some(()));
        let holders = self.parcel.take(|role| (*role == Role::Holder).then_some(()));
        let lock = lock.into_iter().map(all).next()?;
        let held = std::mem::take(&mut self.held);
        if outputs.len() != held.len() {
            self.carried.keep_processes(|_: &ServerId, _| false);
            return None;
        }
        Some(Inherited {
            held,
            outputs: outputs.into_iter().map(all).collect(),
            holders: holders.into_iter().map(all).collect(),
            lock,
        })
    }

    /// Sockets for visitors.
    pub(super) fn visitors(&mut self) -> Vec<(Endpoint, OwnedFd)> {
        let address = |role: &Role| match role {
            Role::Visitors(address) => Some(address.clone()),
            _ => None,
        };
        self.parcel.take(address)
    }

    /// The socket of this role, or a new one at the address.
    pub(super) async fn listener(&mut self, role: Role, address: SocketAddr) -> io::Result<TcpListener> {
        match self.parcel.take(|other| (*other == role).then_some(())).into_iter().next() {
            Some(((), fd)) => from_fd(fd),
            None => TcpListener::bind(address).await,
        }
    }

    /// The sockets of this address over TCP and UDP.
    pub(super) fn dns(&mut self, address: SocketAddr) -> Option<(OwnedFd, OwnedFd)> {
        let mut of = |role: Role| {
            self.parcel.take(|other| (*other == role).then_some(())).into_iter().next().map(|(_, fd)| fd)
        };
        Some((of(Role::DnsTcp(address))?, of(Role::DnsUdp(address))?))
    }
}

fn from_fd(fd: OwnedFd) -> io::Result<TcpListener> {
    let listener = StdListener::from(fd);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Copies of the sockets of DNS, with what they are.
pub(super) fn dns_sockets(sockets: &dns::Sockets, wanted: &[SocketAddr]) -> io::Result<Vec<(Role, OwnedFd)>> {
    let mut copies = Vec::new();
    for (address, (tcp, udp)) in wanted.iter().zip(sockets.fds()) {
        copies.push((Role::DnsTcp(*address), tcp.try_clone_to_owned()?));
        copies.push((Role::DnsUdp(*address), udp.try_clone_to_owned()?));
    }
    Ok(copies)
}

/// A copy of a listening socket.
pub(super) fn copy(listener: &TcpListener) -> io::Result<OwnedFd> {
    listener.as_fd().try_clone_to_owned()
}
