//! The ping, over IPv4 and IPv6: whether the machine is there, how many pings are lost and how long they take. Who may not ping says so, and
//! says nothing about the machine.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::Look;
use super::connect::connect_failure;
use crate::config::people_duration;
use crate::config::probe::IcmpProbe;

/// Type, code, checksum, id, number, and what nobody guesses.
const LENGTH: usize = 24;
const HEAD: usize = 8;

/// Sends pings and waits for what comes back.
pub(super) async fn probe(look: &Look<'_>, probe: &IcmpProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let Some(mut address) = look.address.tcp() else {
        let what = "its address is a Unix socket, and only machines are pinged";
        return Err(ProbeFailure::NotProbed(what.to_owned()));
    };
    address.set_port(0);
    let mut pinger = Pinger::open(address)?;
    // The last of them needs time for its answer, too.
    let between = look.deadline.saturating_duration_since(look.begun) / (2 * probe.packets);
    let between = between.min(Duration::from_millis(100));
    let mut failed = None;
    for number in 0..probe.packets {
        if let Err(error) = pinger.send(number).await {
            failed = Some(connect_failure(&error));
            break;
        }
        let last = number + 1 == probe.packets;
        let until = if last { look.deadline } else { (Instant::now() + between).min(look.deadline) };
        if let Err(error) = pinger.hear(until, last).await {
            failed = Some(connect_failure(&error));
            break;
        }
    }
    match failed {
        Some(failure) if pinger.took.is_empty() => Err(failure),
        _ => judge(&pinger.took, probe),
    }
}

/// What was lost, and how long the others took.
fn judge(took: &[Duration], probe: &IcmpProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let sent = probe.packets;
    let heard = u32::try_from(took.len()).unwrap_or(u32::MAX).min(sent);
    let lost = sent - heard;
    let pings = |count: u32| if count == 1 { "1 ping".to_owned() } else { format!("{count} pings") };
    if heard == 0 {
        return Err(ProbeFailure::Unreachable(format!("no answer to {}", pings(sent))));
    }
    if f64::from(lost) / f64::from(sent) > probe.loss_max {
        return Err(ProbeFailure::Answer(format!("answered only {heard} of {} (loss-max)", pings(sent))));
    }
    let average = took.iter().sum::<Duration>() / heard;
    let ms = average.as_secs_f64() * 1000.0;
    let slow = probe.slow_after.filter(|most| average > *most);
    let warning = match (slow, lost) {
        (Some(most), _) => {
            Some(format!("answers pings after {ms:.1} ms (slow-after = {})", people_duration(most)))
        }
        (None, 0) => None,
        (None, lost) => Some(format!("{} of {sent} lost", pings(lost))),
    };
    let said = match (sent, lost) {
        (1, _) => "answered a ping".to_owned(),
        (_, 0) => format!("answered {}, after {ms:.1} ms each", pings(sent)),
        _ => format!("answered {heard} of {}, after {ms:.1} ms each", pings(sent)),
    };
    Ok(ProbeAnswer { warning, ..ProbeAnswer::said(said) })
}

struct Pinger {
    /// Of ICMP: to the system a socket of datagrams like any other.
    socket: UdpSocket,
    v6: bool,
    /// Nobody else's answers are taken for ours.
    nonce: [u8; LENGTH - HEAD],
    /// When each was sent; `None` once it was answered.
    sent: Vec<Option<Instant>>,
    took: Vec<Duration>,
}

impl Pinger {
    fn open(address: SocketAddr) -> Result<Self, ProbeFailure> {
        let not = |error: &io::Error| ProbeFailure::NotProbed(error.to_string());
        let (domain, protocol) = match address.is_ipv6() {
            true => (Domain::IPV6, Protocol::ICMPV6),
            false => (Domain::IPV4, Protocol::ICMPV4),
        };
        let made = Socket::new(domain, Type::DGRAM, Some(protocol))
            .or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)));
        let socket = made.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ProbeFailure::NotProbed(
                "Mainstay may not ping: write net.ipv4.ping_group_range = 0 2147483647 to /etc/sysctl.d, or give it CAP_NET_RAW"
                    .to_owned(),
            ),
            _ => not(&error),
        })?;
        socket.set_nonblocking(true).map_err(|error| not(&error))?;
        socket.connect(&address.into()).map_err(|error| connect_failure(&error))?;
        let mut nonce = [0; LENGTH - HEAD];
        getrandom::fill(&mut nonce).map_err(|error| ProbeFailure::NotProbed(error.to_string()))?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into()).map_err(|error| not(&error))?,
            v6: address.is_ipv6(),
            nonce,
            sent: Vec::new(),
            took: Vec::new(),
        })
    }

    async fn send(&mut self, number: u32) -> io::Result<()> {
        let packet = packet(self.v6, number, &self.nonce);
        self.sent.push(Some(Instant::now()));
        self.socket.send(&packet).await.map(|_| ())
    }

    /// Listens for so long; if those were the last, only until all are answered.
    async fn hear(&mut self, until: Instant, last: bool) -> io::Result<()> {
        let mut buffer = [0; 1500];
        while !last || self.sent.iter().any(Option::is_some) {
            let Ok(read) = timeout_at(until, self.socket.recv(&mut buffer)).await else { break };
            let number = answered(&buffer[..read?], self.v6, &self.nonce);
            let sent = number.and_then(|number| self.sent.get_mut(usize::from(number))?.take());
            self.took.extend(sent.map(|at| at.elapsed()));
            // Packets of others keep a raw socket busy.
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }
}

/// An echo request. The kernel fills in the checksum of IPv6, which is over addresses too.
fn packet(v6: bool, number: u32, nonce: &[u8; LENGTH - HEAD]) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = if v6 { 128 } else { 8 };
    packet[4..6].copy_from_slice(&nonce[..2]);
    // There are a few of them.
    packet[6..8].copy_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
    packet[HEAD..].copy_from_slice(nonce);
    if !v6 {
        let checksum = checksum(&packet);
        packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

/// The number of the ping that this is the answer to. In front of it stands what a raw socket hears of IPv4, or nothing.
fn answered(bytes: &[u8], v6: bool, nonce: &[u8; LENGTH - HEAD]) -> Option<u16> {
    let reply = if v6 { 129 } else { 0 };
    let start = match bytes.first() {
        Some(first) if !v6 && first >> 4 == 4 => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let message = bytes.get(start..)?;
    let good =
        message.len() == LENGTH && message[0] == reply && message[1] == 0 && message[HEAD..] == nonce[..];
    good.then(|| u16::from_be_bytes([message[6], message[7]]))
}

/// RFC 1071. The length is even.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(packets: u32, loss_max: f64) -> IcmpProbe {
        IcmpProbe { packets, loss_max, slow_after: Some(Duration::from_millis(50)) }
    }

    #[test]
    fn a_packet_is_what_the_standard_says_and_its_answer_is_known_with_and_without_a_header_of_ip() {
        let nonce = [7; LENGTH - HEAD];
        let sent = packet(false, 3, &nonce);
        assert_eq!(checksum(&sent), 0, "a packet with its checksum in it sums up to nothing");
        let mut reply = sent;
        assert_eq!(answered(&reply, false, &nonce), None, "our own question");
        reply[0] = 0;
        assert_eq!(answered(&reply, false, &nonce), Some(3));
        let with_header = [&[0x45][..], &[0; 19], &reply].concat();
        assert_eq!(answered(&with_header, false, &nonce), Some(3));
        assert_eq!(answered(&reply, false, &[8; LENGTH - HEAD]), None, "somebody else's");
        reply[0] = 129;
        assert_eq!(answered(&reply, true, &nonce), Some(3));
    }

    #[test]
    fn what_is_lost_and_what_is_slow_is_told_and_judged() {
        let took = |ms: &[u64]| ms.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        let told = |ms: &[u64], spec: &IcmpProbe| match judge(&took(ms), spec) {
            Ok(answer) => (answer.said.unwrap_or_default(), answer.warning.unwrap_or_default()),
            Err(failure) => (failure.to_string(), "failed".to_owned()),
        };
        let told = |ms: &[u64], packets, loss| told(ms, &spec(packets, loss));
        assert_eq!(told(&[], 1, 1.0).0, "unreachable: no answer to 1 ping");
        assert_eq!(told(&[5], 1, 0.0), ("answered a ping".to_owned(), String::new()));
        assert_eq!(told(&[5, 7], 4, 0.4).0, "answered only 2 of 4 pings (loss-max)");
        let some = ("answered 2 of 4 pings, after 6.0 ms each".to_owned(), "2 pings of 4 lost".to_owned());
        assert_eq!(told(&[5, 7], 4, 0.5), some);
        assert_eq!(told(&[60, 80], 2, 0.5).1, "answers pings after 70.0 ms (slow-after = 50ms)");
    }

    proptest! {
        #[test]
        fn no_packet_is_too_strange_to_be_read(bytes in prop::collection::vec(any::<u8>(), 0..100), v6: bool) {
            let _ = answered(&bytes, v6, &[0; LENGTH - HEAD]);
        }
    }
}
