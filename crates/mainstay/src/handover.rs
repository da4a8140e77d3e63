//! What one Mainstay hands to the one that takes its place: sockets, and what is not in the record, over a Unix socket.
//!
//! The one that takes over is started by the other with this socket as its standard input. A message is JSON of a known length
//! with file descriptors beside it. The one that goes on may be older or newer: what it does not understand of the state is
//! forgotten, and the sockets still serve.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mainstay_model::carried::Carried;
use mainstay_model::{Endpoint, ServerId};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Linux takes no more descriptors in one piece (SCM_MAX_FD is 253).
const TOGETHER: usize = 200;
/// More descriptors than any Mainstay listens with.
const DESCRIPTORS_MAX: u32 = 100_000;
/// Longer than the state of some thousand servers.
const LONGEST: u32 = 64 << 20;

/// The first words of the one that takes over: its config is good, and it is ready for the sockets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Its version, for the log.
    pub version: String,
}

/// What a descriptor is. What the one that takes over does not know it closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A socket for visitors at an address, as it was asked for.
    Visitors(Endpoint),
    /// The admin address.
    Admin(SocketAddr),
    /// Where nothing but pings of jobs come in.
    Pings(SocketAddr),
    /// DNS over TCP.
    DnsTcp(SocketAddr),
    /// DNS over UDP; follows its TCP socket.
    DnsUdp(SocketAddr),
    /// The status page's own address.
    Page(SocketAddr),
    /// Where the status page is reached from within.
    PageInside,
    /// The lock of the data directory's processes.
    Instance,
    /// What a held process writes, in the order of the processes.
    Output,
    /// The way to those who hold processes, in their order.
    Holder,
}

/// What is not in the record.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Supervised servers that go on.
    #[serde(default)]
    pub held: Vec<HeldProcess>,
    /// How every server is, as the judge of this version writes it.
    #[serde(default)]
    carried: serde_json::Value,
    /// What the data plane has learned of servers, as this version writes it.
    #[serde(default)]
    learned: serde_json::Value,
    /// What the descriptors are, in their order.
    #[serde(default)]
    roles: Vec<serde_json::Value>,
}

/// The process of a supervised server. Its parent stays the Mainstay that started it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldProcess {
    /// The server.
    pub server: ServerId,
    /// The process, also its group.
    pub pid: i32,
    /// Where it listens, if Mainstay chose that.
    pub port: Option<u16>,
    /// What it may take to end.
    pub stop_timeout: Duration,
    /// Which holder is its parent, by its place among them.
    pub holder: usize,
    /// The last lines that it wrote.
    pub tail: Vec<String>,
}

impl State {
    /// A state with what the judge carries over.
    pub fn new(carried: &Carried, held: Vec<HeldProcess>, roles: &[Role]) -> Self {
        let roles = roles.iter().map(|role| serde_json::to_value(role).unwrap_or_default()).collect();
        let carried = serde_json::to_value(carried).unwrap_or_default();
        Self { held, carried, learned: serde_json::Value::Null, roles }
    }

    /// The same with what the data plane has learned.
    pub fn with_learned(self, learned: &impl Serialize) -> Self {
        Self { learned: serde_json::to_value(learned).unwrap_or_default(), ..self }
    }

    /// What the data plane has learned; nothing if another version wrote it in another way.
    pub fn learned<T: DeserializeOwned + Default>(&self) -> T {
        T::deserialize(&self.learned).unwrap_or_default()
    }

    /// The descriptors that came with it, with what they are. What this version does not know is closed.
    pub fn parcel(&self, fds: Vec<OwnedFd>) -> Parcel {
        let known = |(role, fd)| Some((Role::deserialize(role).ok()?, fd));
        Parcel(self.roles.iter().zip(fds).filter_map(known).collect())
    }

    /// What the judge carried over; nothing if another version wrote it in another way.
    pub fn carried(&self) -> Carried {
        Carried::deserialize(&self.carried).unwrap_or_else(|error| {
            tracing::warn!(%error, "the state of another version is not understood: every server is looked at anew");
            Carried::default()
        })
    }
}

/// It serves; the other may go.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Its process id.
    pub pid: u32,
}

/// The socket between the two.
#[derive(Debug)]
pub struct Line(UnixStream);

impl Line {
    /// Both ends.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (mine, other) = UnixStream::pair()?;
        Ok((Self(mine), other.into()))
    }

    /// The end that this process was started with, as its standard input.
    ///
    /// # Errors
    /// When standard input is something else.
    pub fn from_stdin() -> io::Result<Self> {
        let own = io::stdin().as_fd().try_clone_to_owned()?;
        let stream = UnixStream::from(own);
        stream.peer_addr()?;
        Ok(Self(stream))
    }

    /// The bare socket, when all that is said before both serve has been said.
    pub fn into_stream(self) -> UnixStream {
        self.0
    }

    /// Sends a message. Blocks for at most `patience`.
    ///
    /// # Errors
    /// When the other end is gone or does not read.
    pub fn send(&self, message: &impl Serialize, fds: &[OwnedFd], patience: Duration) -> io::Result<()> {
        self.0.set_write_timeout(Some(patience))?;
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        let count = u32::try_from(fds.len()).map_err(io::Error::other)?;
        (&self.0).write_all(&length.to_be_bytes())?;
        (&self.0).write_all(&count.to_be_bytes())?;
        for together in fds.chunks(TOGETHER) {
            let raw: Vec<RawFd> = together.iter().map(AsRawFd::as_raw_fd).collect();
            let byte = [IoSlice::new(b"+")];
            let rights = [ControlMessage::ScmRights(&raw)];
            sendmsg::<()>(self.0.as_raw_fd(), &byte, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        }
        (&self.0).write_all(&text)
    }

    /// The next message. Blocks for at most `patience`.
    ///
    /// # Errors
    /// When the other end is gone, says nothing in time, or something else.
    pub fn receive<T: DeserializeOwned>(&self, patience: Duration) -> io::Result<(T, Vec<OwnedFd>)> {
        self.0.set_read_timeout(Some(patience))?;
        let length = self.number()?;
        let count = self.number()?;
        if length > LONGEST || count > DESCRIPTORS_MAX {
            return Err(io::Error::other("the message is longer than any can be"));
        }
        let mut fds = Vec::new();
        while fds.len() < count as usize {
            let before = fds.len();
            self.receive_fds(&mut fds)?;
            if fds.len() == before {
                return Err(io::Error::other("descriptors are missing; is the limit of open files too low?"));
            }
        }
        let mut text = vec![0; length as usize];
        (&self.0).read_exact(&mut text)?;
        Ok((serde_json::from_slice(&text)?, fds))
    }

    fn number(&self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        (&self.0).read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn receive_fds(&self, fds: &mut Vec<OwnedFd>) -> io::Result<()> {
        let mut byte = [0];
        let mut space = nix::cmsg_space!([RawFd; TOGETHER]);
        let mut into = [IoSliceMut::new(&mut byte)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.0.as_raw_fd(), &mut into, Some(&mut space), flags)?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                fds.extend(raw.into_iter().map(own));
            }
        }
        Ok(())
    }
}

#[expect(unsafe_code, reason = "the kernel has just made the descriptor for us, and only the number is told")]
fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: it came with SCM_RIGHTS, so it is open and nobody else's.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Descriptors with what they are.
#[derive(Debug, Default)]
pub struct Parcel(Vec<(Role, OwnedFd)>);

impl Parcel {
    /// Adds one.
    pub fn add(&mut self, role: Role, fd: OwnedFd) {
        self.0.push((role, fd));
    }

    /// Takes out those that `of` wants, in their order.
    pub fn take<T>(&mut self, of: impl Fn(&Role) -> Option<T>) -> Vec<(T, OwnedFd)> {
        let (mine, others) = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(role, fd)| (of(&role), role, fd))
            .fold((Vec::new(), Vec::new()), |(mut mine, mut others), (wanted, role, fd)| {
                match wanted {
                    Some(wanted) => mine.push((wanted, fd)),
                    None => others.push((role, fd)),
                }
                (mine, others)
            });
        self.0 = others;
        mine
    }

    /// Roles and descriptors, to be sent.
    pub fn split(self) -> (Vec<Role>, Vec<OwnedFd>) {
        self.0.into_iter().unzip()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_socket_that_was_sent_is_the_same_socket() {
        let (mine, other) = Line::pair().unwrap();
        let other = Line(UnixStream::from(other));
        let listeners: Vec<TcpListener> =
            (0..450).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = listeners[401].local_addr().unwrap();
        let mut parcel = Parcel::default();
        for listener in listeners {
            parcel.add(Role::Visitors(listener.local_addr().unwrap().into()), listener.into());
        }
        let sending = std::thread::spawn(move || {
            let (roles, fds) = parcel.split();
            mine.send(&State::new(&Carried::default(), Vec::new(), &roles), &fds, PATIENCE).unwrap();
        });
        let (state, fds) = other.receive::<State>(PATIENCE).unwrap();
        sending.join().unwrap();
        assert_eq!(state.carried(), Carried::default());
        let mut parcel = state.parcel(fds);
        let taken = parcel.take(|role| (*role == Role::Visitors(address.into())).then_some(()));
        let listener = TcpListener::from(taken.into_iter().next().unwrap().1);
        assert_eq!(listener.local_addr().unwrap(), address);
        assert_eq!(parcel.split().0.len(), 449);
    }

    #[test]
    fn a_state_of_another_version_is_forgotten_and_its_sockets_are_not() {
        let text =
            r#"{"carried": {"other": 1}, "roles": [{"admin": "127.0.0.1:1"}, "of-tomorrow"], "new": true}"#;
        let state: State = serde_json::from_str(text).unwrap();
        assert_eq!(state.carried(), Carried::default());
        let fds = (0..2).map(|_| OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        assert_eq!(state.parcel(fds).split().0, [Role::Admin("127.0.0.1:1".parse().unwrap())]);
    }

    #[test]
    fn an_end_that_is_gone_or_silent_is_an_error_in_time() {
        let (mine, other) = Line::pair().unwrap();
        assert!(mine.receive::<Hello>(Duration::from_millis(20)).is_err());
        drop(other);
        assert!(mine.receive::<Hello>(PATIENCE).is_err());
        assert!(mine.send(&Ready { pid: 1 }, &[], PATIENCE).is_err());
    }
}
