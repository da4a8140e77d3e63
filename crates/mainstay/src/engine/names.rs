//! Follows the servers that are written by name, of a host or of a service: each is looked up at its own TTL, side by side with the others, and a failed
//! or empty answer keeps the last good one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use mainstay_model::ServerId;
use mainstay_model::input::LookUpFailure;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::targets::Target;
use crate::config::{Config, ServerAddress};
use crate::dns;

/// A shorter TTL is not followed any closer (Kubernetes' own is 5 s): a name that says 0 would be asked for all the time.
const FLOOR: Duration = Duration::from_secs(5);
/// A longer one is not trusted for longer: a server that has moved is followed within minutes.
const CEILING: Duration = Duration::from_secs(300);
/// Between two look-ups by the system, which does not tell the TTL.
const UNKNOWN_TTL: Duration = Duration::from_secs(30);
/// Before the second try of a look-up that failed; the wait doubles.
const SOON: Duration = Duration::from_secs(1);
/// A failing name is tried again at least this often.
const AGAIN: Duration = Duration::from_secs(30);
/// A look-up that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(5);
/// A name that fails for so long is trouble of which people hear.
const PATIENCE: Duration = Duration::from_secs(60);
/// Look-ups under way at once.
const AT_ONCE: usize = 64;
/// Look-ups by the system that probes wait for at once.
const SYSTEM_AT_ONCE: usize = 32;
/// What the system knows without asking anybody.
const HOSTS: &str = "/etc/hosts";

/// Servers that are written by name, and whom to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    names: BTreeMap<ServerId, Asked>,
    /// `None`: those of /etc/resolv.conf.
    resolver: Option<SocketAddr>,
}

/// What is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The addresses of a host, for a server at this port.
    Host(String, u16),
    /// The servers of a service (SRV).
    Service(String),
}

impl Asked {
    fn name(&self) -> &str {
        match self {
            Asked::Host(name, _) | Asked::Service(name) => name,
        }
    }
}

impl Wanted {
    /// No server is written by name.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// What became known of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Where a server is.
    Address(LookedUp),
    /// Which servers the name stands for that a server is written with.
    Targets {
        /// Whose.
        server: ServerId,
        /// What was looked up.
        name: String,
        /// At least one.
        targets: Vec<Target>,
    },
    /// Names that have failed for long, for a person; `None`: there are none any more.
    Trouble(Option<String>),
}

/// The answer to one look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedUp {
    /// Whose.
    pub server: ServerId,
    /// What was looked up.
    pub name: (String, u16),
    /// What it is.
    pub address: SocketAddr,
}

impl LookedUp {
    /// It is still the answer to what the config asks.
    pub fn is_wanted(&self, addresses: &BTreeMap<ServerId, ServerAddress>) -> bool {
        let (host, port) = &self.name;
        matches!(addresses.get(&self.server), Some(ServerAddress::Name(h, p)) if (h, p) == (host, port))
    }
}

/// The servers that are written by name: in the config, and those that its names stand for.
pub fn wanted(
    config: &BTreeMap<ServerId, ServerAddress>,
    expanded: &BTreeMap<ServerId, ServerAddress>,
    resolver: Option<SocketAddr>,
) -> Wanted {
    let names = config.iter().chain(expanded).filter_map(|(server, address)| match address {
        ServerAddress::Name(host, port) => Some((server.clone(), Asked::Host(host.clone(), *port))),
        ServerAddress::Srv(name) => Some((server.clone(), Asked::Service(name.clone()))),
        ServerAddress::Fixed(_) | ServerAddress::Unix(_) => None,
    });
    Wanted { names: names.collect(), resolver }
}

/// The same of a config whose names have not been looked up.
pub fn wanted_at_first(config: &Config) -> Wanted {
    wanted(&config.addresses, &BTreeMap::new(), config.dns.resolver)
}

/// What a name says, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    says: Says,
    ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Addresses(Vec<IpAddr>),
    Targets(Vec<Target>),
}

/// Keeps looking up whatever is wanted and tells each answer. When the config was applied again every address is told again: the
/// judge may have forgotten it with a server that left the config and came back. Ends when the engine does.
///
/// While DNS is `silent`, for a drill, nobody answers.
pub async fn follow(
    mut wanted: watch::Receiver<Wanted>,
    mut silent: watch::Receiver<bool>,
    news: mpsc::Sender<News>,
) {
    let mut names = Names::default();
    let mut under_way = JoinSet::new();
    names.take(&wanted.borrow_and_update(), Instant::now());
    loop {
        while under_way.len() < AT_ONCE
            && let Some((server, name)) = names.next_due(Instant::now())
        {
            let looking = look_up(name.clone(), names.resolver);
            let silent = *silent.borrow();
            under_way.spawn(async move {
                let answer = async {
                    if silent {
                        std::future::pending::<()>().await;
                    }
                    looking.await
                };
                let found = timeout(DEADLINE, answer).await;
                let late = |_| Err(format!("no answer within {} s", DEADLINE.as_secs()));
                (server, name, found.unwrap_or_else(late))
            });
        }
        let mut tell = Vec::new();
        let next = names.next_at().filter(|_| under_way.len() < AT_ONCE);
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => tell = names.take(&wanted.borrow_and_update(), Instant::now()),
                Err(_) => return,
            },
            Ok(()) = silent.changed() => names.ask_again(Instant::now()),
            Some(Ok((server, name, found))) = under_way.join_next() => {
                tell.extend(names.found(&server, &name, found, Instant::now()));
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
        tell.extend(names.trouble(Instant::now()));
        for one in tell {
            if news.send(one).await.is_err() {
                return;
            }
        }
    }
}

/// All names that are followed.
#[derive(Debug, Default)]
struct Names {
    all: BTreeMap<ServerId, Followed>,
    resolver: Option<SocketAddr>,
    /// The trouble that people were told of.
    told: Option<String>,
}

/// One server's name.
#[derive(Debug)]
struct Followed {
    name: Asked,
    /// The last good answer for a host.
    known: Option<SocketAddr>,
    /// And for a service.
    targets: Vec<Target>,
    /// `None`: it is being looked up.
    due: Option<Instant>,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    wait: Duration,
    error: String,
}

impl Names {
    /// Goes by what is wanted now; what is known already is told again.
    fn take(&mut self, wanted: &Wanted, now: Instant) -> Vec<News> {
        self.resolver = wanted.resolver;
        self.all.retain(|server, followed| wanted.names.get(server) == Some(&followed.name));
        for (server, name) in &wanted.names {
            self.all.entry(server.clone()).or_insert_with(|| Followed {
                name: name.clone(),
                known: None,
                targets: Vec::new(),
                due: Some(now),
                failing: None,
            });
        }
        self.all.iter().filter_map(|(server, followed)| followed.news(server)).collect()
    }

    /// All of them are looked up now, because the answers are others now.
    fn ask_again(&mut self, now: Instant) {
        for followed in self.all.values_mut() {
            // One that is being looked up is asked for again anyhow.
            followed.due = followed.due.map(|_| now);
        }
    }

    fn next_at(&self) -> Option<Instant> {
        self.all.values().filter_map(|followed| followed.due).min()
    }

    /// A name that is to be looked up now.
    fn next_due(&mut self, now: Instant) -> Option<(ServerId, Asked)> {
        let (server, followed) =
            self.all.iter_mut().find(|(_, followed)| followed.due.is_some_and(|due| due <= now))?;
        followed.due = None;
        Some((server.clone(), followed.name.clone()))
    }

    /// Takes an answer in; what is to be told of it.
    fn found(
        &mut self,
        server: &ServerId,
        name: &Asked,
        found: Result<Found, String>,
        now: Instant,
    ) -> Option<News> {
        // A reload may have overtaken it.
        let followed = self.all.get_mut(server).filter(|followed| followed.name == *name)?;
        let host = name.name();
        let found = found.and_then(|found| match &found.says {
            Says::Addresses(addresses) if addresses.is_empty() => Err("the name has no address".to_owned()),
            Says::Targets(targets) if targets.is_empty() => Err("the name has no servers".to_owned()),
            _ => Ok(found),
        });
        match found {
            Ok(Found { says, ttl }) => {
                followed.due = Some(now + ttl.clamp(FLOOR, CEILING));
                if followed.failing.take().is_some() {
                    info!(%server, %host, "can be looked up again");
                }
                match says {
                    Says::Addresses(addresses) => followed.is_at(server, &addresses, ttl),
                    Says::Targets(targets) => followed.targets = targets,
                }
                followed.news(server)
            }
            Err(error) => {
                let wait = match &followed.failing {
                    Some(failing) => (failing.wait * 2).min(AGAIN),
                    None => SOON,
                };
                followed.due = Some(now + wait);
                if followed.failing.as_ref().is_none_or(|failing| failing.error != error) {
                    let stays = followed.stays();
                    warn!(%server, %host, %error, "look-up failed; {stays}");
                }
                let since = followed.failing.as_ref().map_or(now, |failing| failing.since);
                followed.failing = Some(Failing { since, wait, error });
                None
            }
        }
    }

    /// What people are to hear of names that fail for long, if that is something new.
    fn trouble(&mut self, now: Instant) -> Option<News> {
        let failing = self.all.iter().filter_map(|(server, followed)| {
            let failing = followed.failing.as_ref().filter(|failing| now - failing.since >= PATIENCE)?;
            let (host, stays) = (followed.name.name(), followed.stays());
            Some(format!("{host} ({server}) cannot be looked up: {}; {stays}", failing.error))
        });
        let failing: Vec<String> = failing.collect();
        let trouble = (!failing.is_empty()).then(|| failing.join(". "));
        (self.told != trouble).then(|| {
            self.told.clone_from(&trouble);
            News::Trouble(trouble)
        })
    }
}

impl Followed {
    /// It has these addresses, of which one is used.
    fn is_at(&mut self, server: &ServerId, addresses: &[IpAddr], ttl: Duration) {
        let Asked::Host(host, port) = &self.name else { return };
        // The one in use as long as it is among the answers: a resolver may turn them around each time.
        let stays = self.known.filter(|known| addresses.contains(&known.ip()));
        let Some(address) = stays.or_else(|| Some(SocketAddr::new(*addresses.first()?, *port))) else {
            return;
        };
        if self.known.replace(address) != Some(address) {
            info!(%server, %host, %address, ?ttl, "looked up");
        }
    }

    /// The last good answer, to be told.
    fn news(&self, server: &ServerId) -> Option<News> {
        let server = server.clone();
        match &self.name {
            Asked::Host(host, port) => {
                let name = (host.clone(), *port);
                Some(News::Address(LookedUp { server, name, address: self.known? }))
            }
            Asked::Service(_) if self.targets.is_empty() => None,
            Asked::Service(name) => {
                Some(News::Targets { server, name: name.clone(), targets: self.targets.clone() })
            }
        }
    }

    fn stays(&self) -> &'static str {
        match (&self.name, self.known) {
            (Asked::Service(_), _) => "the servers that it stood for last stay in use",
            (_, Some(_)) => "the last good address stays in use",
            (_, None) => "the server has no address yet and gets no requests",
        }
    }
}

/// What a name says. Names that the system itself knows, and those without a dot, are the system's; others are asked for in DNS, which
/// tells the TTL, and if it does not know them the system may (by a search domain, or mDNS).
async fn look_up(asked: Asked, resolver: Option<SocketAddr>) -> Result<Found, String> {
    let host = match asked {
        Asked::Host(host, _) => host,
        Asked::Service(name) => {
            let found =
                dns::targets_of(&name, resolver, DEADLINE).await.map_err(|error| error.to_string())?;
            let target = |(priority, weight, host, port)| Target { priority, weight, host, port };
            let targets = found.0.into_iter().map(target).collect();
            return Ok(Found { says: Says::Targets(targets), ttl: Duration::from_secs(found.1.into()) });
        }
    };
    let is_the_systems = !host.contains('.') || is_in_hosts(Path::new(HOSTS), &host);
    if !is_the_systems && let Ok(answers) = dns::addresses_of(&host, resolver, DEADLINE / 2).await {
        let ttl = answers.iter().map(|(_, ttl)| *ttl).min().unwrap_or_default();
        let addresses = answers.into_iter().map(|(ip, _)| ip).collect();
        return Ok(Found { says: Says::Addresses(addresses), ttl: Duration::from_secs(ttl.into()) });
    }
    match tokio::net::lookup_host((host.as_str(), 0)).await {
        Ok(answers) => {
            Ok(Found { says: Says::Addresses(answers.map(|a| a.ip()).collect()), ttl: UNKNOWN_TTL })
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Every address of a host, as a probe asks for it: what DNS says is believed, also that there is no such name. Only when nobody
/// answers, the system's other ways are tried; few at once, for each of them blocks a thread that others need.
pub async fn addresses(
    host: &str,
    resolver: Option<SocketAddr>,
    deadline: Instant,
) -> Result<Vec<IpAddr>, LookUpFailure> {
    static SYSTEM: Semaphore = Semaphore::const_new(SYSTEM_AT_ONCE);
    let patience = deadline.saturating_duration_since(Instant::now());
    let mut failed = None;
    if host.contains('.') && !is_in_hosts(Path::new(HOSTS), host) {
        match dns::addresses_of(host, resolver, patience / 2).await {
            Ok(answers) => return Ok(answers.into_iter().map(|(ip, _)| ip).collect()),
            Err(LookUpFailure::Failed(why)) => failed = Some(why),
            Err(said) => return Err(said),
        }
    }
    let by_the_system = async {
        let _turn = SYSTEM.acquire().await.ok();
        tokio::net::lookup_host((host, 0)).await
    };
    match tokio::time::timeout_at(deadline, by_the_system).await {
        Ok(Ok(answers)) => Ok(answers.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(LookUpFailure::Failed(failed.unwrap_or_else(|| error.to_string()))),
        Err(_) => Err(LookUpFailure::Failed(failed.unwrap_or_else(|| "no answer in time".to_owned()))),
    }
}

fn is_in_hosts(path: &Path, host: &str) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.split_whitespace().skip(1)).any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(n: usize) -> ServerId {
        format!("shop/app-{n}").parse().unwrap()
    }

    fn found(addresses: &[&str], ttl: u64) -> Result<Found, String> {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Ok(Found { says: Says::Addresses(addresses), ttl: Duration::from_secs(ttl) })
    }

    fn named(names: &[&str]) -> Wanted {
        let names =
            names.iter().enumerate().map(|(n, name)| (server(n), Asked::Host((*name).to_owned(), 80)));
        Wanted { names: names.collect(), resolver: None }
    }

    /// When each name is asked for within so many seconds, when every look-up is answered at once in this way.
    fn asked(
        names: &mut Names,
        (begun, seconds): (Instant, u64),
        answer: impl Fn(&str) -> Result<Found, String>,
    ) -> BTreeMap<String, Vec<u64>> {
        let mut asked: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        while let Some(at) = names.next_at().filter(|at| (*at - begun).as_secs() < seconds) {
            while let Some((server, name)) = names.next_due(at) {
                asked.entry(name.name().to_owned()).or_default().push((at - begun).as_secs());
                names.found(&server, &name, answer(name.name()), at);
            }
        }
        asked
    }

    fn at(news: Option<News>) -> SocketAddr {
        match news {
            Some(News::Address(LookedUp { address, .. })) => address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_name_is_asked_for_at_its_own_ttl_within_bounds_and_soon_again_when_it_fails() {
        let (mut names, begun) = (Names::default(), Instant::now());
        names.take(&named(&["a", "b", "c", "gone"]), begun);
        let asked = asked(&mut names, (begun, 41), |name| match name {
            "a" => found(&["10.0.0.1"], 20),
            "b" => found(&["10.0.0.2"], 0),
            "c" => found(&["10.0.0.3"], 86_400),
            _ => Err("no such name".to_owned()),
        });
        assert_eq!(asked["a"], [0, 20, 40]);
        assert_eq!(asked["b"], [0, 5, 10, 15, 20, 25, 30, 35, 40]);
        assert_eq!(asked["c"], [0]);
        assert_eq!(asked["gone"], [0, 1, 3, 7, 15, 31]);
        assert_eq!(names.all[&server(2)].due, Some(begun + CEILING));
    }

    #[test]
    fn one_that_is_being_looked_up_holds_up_no_other() {
        let (mut names, begun) = (Names::default(), Instant::now());
        names.take(&named(&["slow", "b"]), begun);
        assert_eq!(names.next_due(begun).map(|(server, _)| server), Some(server(0)));
        let asked = asked(&mut names, (begun, 11), |_| found(&["10.0.0.2"], 5));
        assert_eq!(asked, BTreeMap::from([("b".to_owned(), vec![0, 5, 10])]));
    }

    #[test]
    fn a_failure_or_an_empty_answer_keeps_the_last_good_one_and_is_told_after_a_while() {
        let (mut names, begun) = (Names::default(), Instant::now());
        names.take(&named(&["a"]), begun);
        let name = Asked::Host("a".to_owned(), 80);
        let first = names.found(&server(0), &name, found(&["10.0.0.1"], 5), begun);
        assert_eq!(at(first), "10.0.0.1:80".parse().unwrap());
        assert_eq!(names.found(&server(0), &name, found(&[], 5), begun), None);
        assert_eq!(names.trouble(begun + PATIENCE / 2), None, "nobody need know yet");
        assert_eq!(names.found(&server(0), &name, Err("SERVFAIL".to_owned()), begun + PATIENCE), None);
        let Some(News::Trouble(Some(text))) = names.trouble(begun + PATIENCE) else {
            panic!("nobody is told")
        };
        assert!(text.contains("SERVFAIL") && text.contains("the last good address stays"), "{text}");
        assert_eq!(names.trouble(begun + PATIENCE), None, "once");
        assert_eq!(names.all[&server(0)].known, Some("10.0.0.1:80".parse().unwrap()));
        let back = names.found(&server(0), &name, found(&["10.0.0.9"], 5), begun + PATIENCE);
        assert_eq!(at(back), "10.0.0.9:80".parse().unwrap());
        assert_eq!(names.trouble(begun + PATIENCE), Some(News::Trouble(None)));
    }

    #[test]
    fn the_address_in_use_stays_while_it_is_among_the_answers() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.take(&named(&["a"]), now);
        let mut says = |addresses: &[&str]| {
            at(names.found(&server(0), &Asked::Host("a".to_owned(), 80), found(addresses, 5), now))
                .ip()
                .to_string()
        };
        assert_eq!(says(&["10.0.0.1", "10.0.0.2"]), "10.0.0.1");
        assert_eq!(says(&["10.0.0.2", "10.0.0.1"]), "10.0.0.1");
        assert_eq!(says(&["10.0.0.2", "10.0.0.3"]), "10.0.0.2");
    }

    #[test]
    fn a_service_keeps_its_servers_when_its_name_says_that_there_are_none_or_fails() {
        let (mut names, begun) = (Names::default(), Instant::now());
        let name = Asked::Service("_http._tcp.a".to_owned());
        names.take(&Wanted { names: [(server(0), name.clone())].into(), resolver: None }, begun);
        let says = |hosts: &[&str]| {
            let target = |host: &&str| Target { priority: 0, weight: 0, host: (*host).to_owned(), port: 80 };
            let says = Says::Targets(hosts.iter().map(target).collect());
            Ok(Found { says, ttl: Duration::from_secs(7) })
        };
        let told = names.found(&server(0), &name, says(&["b", "c"]), begun);
        assert!(matches!(&told, Some(News::Targets { targets, .. }) if targets.len() == 2), "{told:?}");
        assert_eq!(names.all[&server(0)].due, Some(begun + Duration::from_secs(7)));
        assert_eq!(names.found(&server(0), &name, says(&[]), begun), None);
        assert_eq!(names.found(&server(0), &name, Err("SERVFAIL".to_owned()), begun), None);
        let again = names.take(&Wanted { names: [(server(0), name)].into(), resolver: None }, begun);
        assert_eq!(again, told.into_iter().collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_told_again_when_the_config_was_applied_again() {
        let (tell, wanted) = watch::channel(named(&["localhost"]));
        let (sender, mut news) = mpsc::channel(8);
        let (_speaks, silent) = watch::channel(false);
        let task = tokio::spawn(follow(wanted, silent, sender));
        let mut next = async || timeout(Duration::from_secs(20), news.recv()).await.unwrap();
        let first = at(next().await);
        assert!(first.ip().is_loopback() && first.port() == 80);
        // The server may have left and come back meanwhile, and be without an address.
        tell.send_replace(named(&["localhost"]));
        assert_eq!(at(next().await), first);
        drop(tell);
        timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn while_dns_is_silent_nobody_answers_and_afterwards_it_is_asked_again() {
        let (_tell, wanted) = watch::channel(named(&["localhost"]));
        let (silence, silent) = watch::channel(true);
        let (sender, mut news) = mpsc::channel(8);
        tokio::spawn(follow(wanted, silent, sender));
        let early = timeout(Duration::from_secs(1), news.recv()).await;
        assert!(early.is_err(), "nobody was to answer: {early:?}");
        silence.send_replace(false);
        let told = timeout(Duration::from_secs(20), news.recv()).await.unwrap();
        assert!(at(told).ip().is_loopback());
    }

    #[test]
    fn what_is_known_stays_and_is_looked_up_at_once_when_dns_falls_silent_or_speaks_again() {
        let mut names = Names::default();
        let begun = Instant::now();
        names.take(&named(&["localhost"]), begun);
        let (server, name) = names.next_due(begun).unwrap();
        let found = Found { says: Says::Addresses(vec![[10, 0, 0, 1].into()]), ttl: CEILING };
        let told = names.found(&server, &name, Ok(found), begun);
        assert_eq!(names.next_due(begun + SOON), None);
        names.ask_again(begun + SOON);
        let (server, name) = names.next_due(begun + SOON).expect("it is looked up");
        assert_eq!(names.found(&server, &name, Err("no answer".to_owned()), begun + SOON), None);
        assert_eq!(names.all[&server].news(&server), told, "the last good address stays");
        names.ask_again(begun + SOON);
        assert!(names.next_due(begun + SOON).is_some());
    }

    #[tokio::test]
    async fn a_name_that_the_system_knows_is_not_asked_for_in_dns() {
        let nobody = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        let found = look_up(Asked::Host("localhost".to_owned(), 80), nobody).await.unwrap();
        let Says::Addresses(addresses) = &found.says else { panic!("{found:?}") };
        assert!(addresses.iter().all(IpAddr::is_loopback) && found.ttl == UNKNOWN_TTL, "{found:?}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        std::fs::write(
            &path,
            "127.0.0.1 localhost\n# 10.0.0.1 old.internal\n10.0.0.2 App.internal app # x\n",
        )
        .unwrap();
        assert!(is_in_hosts(&path, "app.internal"));
        assert!(!is_in_hosts(&path, "old.internal") && !is_in_hosts(&path, "10.0.0.2"));
    }
}
