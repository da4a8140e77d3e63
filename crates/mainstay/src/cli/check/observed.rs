//! What a check saw, as plain facts: filled in by the layers, judged by `verdict`, shown by `layers`. Nothing here looks at
//! anything itself, so that every verdict can be tested from facts that a test writes down.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Everything that one check saw.
#[derive(Debug, Clone)]
pub(super) struct Observations {
    /// The URL that was asked for, without user and password.
    pub url: String,
    /// A first byte that takes longer than this is slow.
    pub slow: Duration,
    /// The text that the page must hold.
    pub expect: Option<String>,
    /// The moment of the check, in seconds since 1970, by this machine's clock.
    pub now: i64,
    /// From the first look to the last.
    pub took: Duration,
    pub machine: Machine,
    pub network: Network,
    /// The URL itself, then each one that a redirect led to. Never empty.
    pub hops: Vec<Hop>,
    /// Why a redirect was not followed any further.
    pub stopped: Option<Stopped>,
}

impl Observations {
    /// The place where the check ended.
    pub(super) fn last(&self) -> &Hop {
        self.hops.last().expect("a check looks at its own URL first")
    }
}

/// This machine's own end of the network.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    pub took: Duration,
    pub interfaces: Vec<Interface>,
    pub v4: Route,
    pub v6: Route,
}

/// One interface that is no loopback, or the loopback itself.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    pub name: String,
    pub loopback: bool,
    /// Up, and with a link.
    pub works: bool,
    pub addresses: Vec<Own>,
}

/// An address of this machine and how many leading bits all its neighbours have in common with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    pub ip: IpAddr,
    pub prefix: u32,
}

impl Own {
    /// Whether an address is one of the same network, with no router in between.
    pub(super) fn is_neighbour(self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let differ = u32::from(own) ^ u32::from(ip);
                differ.leading_zeros() >= self.prefix && self.prefix > 0
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let differ = u128::from(own) ^ u128::from(ip);
                differ.leading_zeros() >= self.prefix && self.prefix > 0
            }
            _ => false,
        }
    }
}

/// Whether the kernel knows a way to the world, and through whom.
#[derive(Debug, Clone, Default)]
pub(super) struct Route {
    pub exists: bool,
    /// The neighbour that packets for the world go to, and by which interface.
    pub gateway: Option<(SocketAddr, String)>,
}

impl Machine {
    /// Whether an interface besides the loopback works.
    pub(super) fn has_interface(&self) -> bool {
        self.interfaces.iter().any(|interface| !interface.loopback && interface.works)
    }

    /// Whether the loopback works.
    pub(super) fn has_loopback(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.loopback && interface.works)
    }

    /// Whether an address is in one of this machine's own networks.
    pub(super) fn is_neighbour(&self, ip: IpAddr) -> bool {
        let mut own = self.interfaces.iter().filter(|interface| interface.works).flat_map(|i| &i.addresses);
        own.any(|own| own.is_neighbour(ip))
    }

    /// Whether the world can be reached as far as this machine is concerned.
    pub(super) fn has_route(&self) -> bool {
        self.v4.exists || self.v6.exists
    }
}

/// What else can be reached from here.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    pub took: Duration,
    pub gateway: Option<Gateway>,
    pub references: Vec<Try>,
    /// Why no reference was asked, when none was.
    pub unasked: Option<&'static str>,
}

/// The neighbour that packets for the world go to.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    pub address: IpAddr,
    /// `None` when it stayed silent and nothing says that it is absent: many never answer.
    pub reached: Option<bool>,
}

impl Network {
    /// Whether a neutral place answered; `None` when none was asked.
    pub(super) fn world(&self) -> Option<bool> {
        let reached = self.references.iter().any(|reference| reference.outcome.is_alive());
        (!self.references.is_empty()).then_some(reached)
    }
}

/// One URL on the way: where its host leads, and what answered there.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    /// Without user and password.
    pub url: String,
    pub https: bool,
    pub host: String,
    /// `None` when the host is an address, or the one before had the same host.
    pub names: Option<Names>,
    pub tcp: Tcp,
    /// Through an address that this machine would use.
    pub walk: Option<Walk>,
    /// Through an address that only the other resolver gave, when the first way failed.
    pub other: Option<Walk>,
}

impl Hop {
    /// The way on which something was learned: the usual one, else the other.
    pub(super) fn way(&self) -> Option<&Walk> {
        self.walk.as_ref().or(self.other.as_ref())
    }

    /// The answer of the page.
    pub(super) fn page(&self) -> Option<&Page> {
        self.way()?.http.as_ref()?.result.as_ref().ok()
    }
}

/// What resolvers said of a host.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub took: Duration,
    /// The name that was asked for in the end: with a search domain where that made the difference.
    pub asked: String,
    /// From this machine's own hosts file, which comes before any resolver.
    pub hosts_file: Vec<IpAddr>,
    /// In the order in which this machine asks them, the other resolver last.
    pub resolvers: Vec<Asked>,
    /// Why the other resolver was not asked, when it was not.
    pub unasked: Option<&'static str>,
}

/// One resolver and what it said.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub address: SocketAddr,
    /// One of this machine's own, from /etc/resolv.conf.
    pub system: bool,
    pub took: Duration,
    pub v4: Answer,
    pub v6: Answer,
}

/// What a resolver said to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Addresses(Vec<IpAddr>),
    /// The name exists and has no address of this kind.
    NoAddress,
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL: it could not find out.
    Failed,
    /// REFUSED, NOTIMP, FORMERR …: it does not want to.
    Declined(String),
    /// Nothing came back in time.
    Silent,
    /// Nobody listens there, or there is no way to it.
    Unreachable(String),
    /// What came back was no answer to the question.
    Broken(String),
}

impl Answer {
    /// Whether a resolver spoke, so that the way to it is good.
    pub(super) fn is_spoken(&self) -> bool {
        !matches!(self, Answer::Silent | Answer::Unreachable(_))
    }

    /// Whether a look-up ends with it rather than going on to the next resolver.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Answer::Addresses(_) | Answer::NoAddress | Answer::NoSuchName)
    }
}

impl Asked {
    /// All addresses that it gave.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let both = [&self.v4, &self.v6].into_iter();
        both.filter_map(|answer| if let Answer::Addresses(list) = answer { Some(list) } else { None })
            .flatten()
            .copied()
            .collect()
    }

    /// Both answers as one: what was learned wins, then what is the matter.
    pub(super) fn answer(&self) -> Answer {
        let addresses = self.addresses();
        if !addresses.is_empty() {
            return Answer::Addresses(addresses);
        }
        let worst = |answer: &Answer| match answer {
            Answer::NoAddress => 0,
            Answer::Silent => 2,
            Answer::NoSuchName => 3,
            _ => 1,
        };
        [&self.v4, &self.v6].into_iter().max_by_key(|answer| worst(answer)).expect("two").clone()
    }
}

impl Names {
    /// The resolver whose word this machine takes: the first that ends a look-up, else the first at all.
    pub(super) fn system(&self) -> Option<&Asked> {
        let own = || self.resolvers.iter().filter(|asked| asked.system);
        own().find(|asked| asked.answer().is_final()).or_else(|| own().next())
    }

    /// The resolver to compare with.
    pub(super) fn other(&self) -> Option<&Asked> {
        self.resolvers.iter().find(|asked| !asked.system)
    }

    /// Where this machine would go.
    pub(super) fn system_addresses(&self) -> Vec<IpAddr> {
        match self.hosts_file.is_empty() {
            true => self.system().map(Asked::addresses).unwrap_or_default(),
            false => self.hosts_file.clone(),
        }
    }

    /// Where only the other resolver leads.
    pub(super) fn other_addresses(&self) -> Vec<IpAddr> {
        let system = self.system_addresses();
        let other = self.other().map(Asked::addresses).unwrap_or_default();
        other.into_iter().filter(|address| !system.contains(address)).collect()
    }

    /// This machine's resolvers that are asked first and say nothing, while a later one speaks.
    pub(super) fn silent_before_system(&self) -> Vec<&Asked> {
        let Some(system) = self.system().filter(|asked| asked.answer().is_final()) else { return Vec::new() };
        let before = self.resolvers.iter().take_while(|asked| asked.address != system.address);
        before.filter(|asked| !asked.answer().is_spoken()).collect()
    }
}

/// Connections to every address.
#[derive(Debug, Clone, Default)]
pub(super) struct Tcp {
    pub took: Duration,
    pub tries: Vec<Try>,
    /// Addresses beyond the limit, which were not tried.
    pub left_out: usize,
    /// Another port of an address that stayed silent on the wanted one, and whether that one answered.
    pub other_port: Option<(SocketAddr, bool)>,
}

/// One attempt to connect.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub address: SocketAddr,
    /// Given by the other resolver only.
    pub other: bool,
    pub took: Duration,
    pub outcome: Outcome,
}

/// How an attempt to connect ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Connected,
    /// The machine is there, and nothing listens on the port.
    Refused,
    /// Nothing came back.
    TimedOut,
    /// A router, or the own kernel after nobody claimed the address, says that there is no way.
    Unreachable,
    /// This machine knows no way there at all.
    NoRoute,
    /// Not even tried, for want of something of this machine's own.
    NotTried(String),
}

impl Outcome {
    /// Whether something at that address spoke.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self, Outcome::Connected | Outcome::Refused)
    }
}

impl Tcp {
    /// The attempts at addresses that this machine would use.
    pub(super) fn own(&self) -> impl Iterator<Item = &Try> {
        self.tries.iter().filter(|attempt| !attempt.other)
    }
}

/// What answered on a connection.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub address: SocketAddr,
    /// `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// `None` when it did not come to that.
    pub http: Option<Http>,
}

impl Walk {
    /// Whether a visitor would be content: an answer that is no error, over a connection that holds.
    pub(super) fn is_good(&self) -> bool {
        let broken = |tls: &Tls| {
            tls.failure.is_some() || tls.certificate.as_ref().is_none_or(|own| !own.problems.is_empty())
        };
        let answered = self.http.as_ref().and_then(|http| http.result.as_ref().ok());
        !self.tls.as_ref().is_some_and(broken)
            && answered.is_some_and(|page| page.status < 400 && page.found != Some(false))
    }
}

/// A TLS handshake.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub took: Duration,
    pub failure: Option<TlsFailure>,
    /// `TLS 1.3`.
    pub version: Option<String>,
    pub certificate: Option<Certificate>,
    /// The server's own idea of the time, in seconds since 1970; asked only when the certificate's dates do not fit.
    pub server_time: Option<i64>,
}

/// Why there was no handshake. A certificate that does not hold is no failure of the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TlsFailure {
    TimedOut,
    /// Closed or reset in the middle.
    Closed,
    /// The other side does not speak TLS on this port.
    NotTls,
    /// Both speak TLS, and find no version or cipher in common.
    NoCommonProtocol(String),
    /// The server said no, by an alert.
    Alert(String),
    Other(String),
}

/// A server's certificate.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificate {
    pub subject: String,
    /// The hosts that it is made out to.
    pub names: Vec<String>,
    pub issuer: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Only this machine's own store, or `--ca`, vouches for it.
    pub by_own_authority: bool,
    pub problems: Vec<CertificateProblem>,
}

/// Why a browser would warn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CertificateProblem {
    Expired,
    NotYetValid,
    WrongHost,
    SelfSigned,
    UnknownAuthority,
    /// The server leaves out the certificates between its own and the authority's.
    ChainMissing,
    /// A certificate between has expired or is not valid yet.
    ChainExpired,
    Other(String),
}

impl Certificate {
    /// Whole days until it ends, negative since it has.
    pub(super) fn days_left(&self, now: i64) -> i64 {
        (self.not_after - now).div_euclid(86_400)
    }

    /// Whether nothing but its dates is wrong.
    pub(super) fn only_dates_are_wrong(&self) -> bool {
        use CertificateProblem::{ChainExpired, Expired, NotYetValid};
        !self.problems.is_empty()
            && self.problems.iter().all(|problem| matches!(problem, Expired | NotYetValid | ChainExpired))
    }
}

/// A request and its answer.
#[derive(Debug, Clone)]
pub(super) struct Http {
    pub took: Duration,
    pub result: Result<Page, HttpFailure>,
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HttpFailure {
    TimedOut,
    /// Closed or reset without a word.
    Closed,
    /// What came is not HTTP.
    NotHttp(String),
    /// What came is TLS: the port wants https.
    IsTls,
    /// The header is longer than this many bytes.
    HeadTooLong(usize),
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    pub status: u16,
    /// From the request sent to the end of the answer's header.
    pub first_byte: Duration,
    /// Where a redirect leads, without user and password.
    pub location: Option<String>,
    /// Bytes of content that were read.
    pub bytes: usize,
    pub end: PageEnd,
    /// Whether the wanted text is in it; `None` when none was wanted.
    pub found: Option<bool>,
    /// The server's own idea of the time, in seconds since 1970.
    pub server_time: Option<i64>,
    /// A user and password went with the request.
    pub with_login: bool,
}

/// How the content ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PageEnd {
    #[default]
    Whole,
    /// There is more than a check reads.
    LongerThanRead,
    /// A stream of events, which has no end.
    Stream,
    /// The connection ended before the content did.
    CutShort,
    /// It had not ended when the time was up.
    Stalled,
}

impl Page {
    /// Whether it sends the visitor elsewhere.
    pub(super) fn is_redirect(&self) -> bool {
        self.location.is_some()
    }

    /// Whether an answer with this status has no content by its nature, or need not have any.
    pub(super) fn may_be_empty(&self) -> bool {
        matches!(self.status, 204 | 205 | 304 | 400..)
    }
}

/// Why a redirect was not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It leads to a place where it was before.
    Loop(String),
    /// More than this many.
    TooMany(usize),
    /// It leads to something that is no web address.
    Nowhere(String),
    /// No time was left.
    OutOfTime(String),
}
