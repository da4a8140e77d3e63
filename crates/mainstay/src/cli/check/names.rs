//! The third layer: where the name leads. This machine's own resolvers (/etc/resolv.conf) are asked, all at the same time, and another
//! one for comparison; /etc/hosts comes before them, as it does for every program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use hickory_proto::rr::{Name, RecordType};
use nix::net::if_::if_nametoindex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lookup::ask;
use super::observed::{Answer, Asked, Names};

/// The C library looks at as many resolvers and search domains.
const RESOLVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;
/// A file of settings is not read beyond this.
const FILE_MAX: usize = 1 << 20;

/// The public resolvers that serve for comparison: the first of them that is not this machine's own.
const USUAL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)), IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1))];
/// The same for a machine without IPv4.
const USUAL_V6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
];

/// Names that mean something else, or nothing, outside of the own network: the rest of the world is not asked for them.
const PRIVATE_ENDINGS: [&str; 9] =
    ["local", "localhost", "internal", "lan", "home", "corp", "intranet", "home.arpa", "localdomain"];

/// Which resolver is asked for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherResolver {
    Usual,
    This(SocketAddr),
    None,
}

/// This machine's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    resolvers: Vec<SocketAddr>,
    search: Vec<String>,
    hosts: Vec<(IpAddr, String)>,
}

impl Settings {
    /// Reads /etc/resolv.conf and /etc/hosts.
    pub(super) fn read() -> Self {
        let read = |path: &str| {
            let bytes = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes[..bytes.len().min(FILE_MAX)]).into_owned()
        };
        Self::parse(&read("/etc/resolv.conf"), &read("/etc/hosts"))
    }

    fn parse(resolv_conf: &str, hosts: &str) -> Self {
        let mut settings = Self::default();
        for line in resolv_conf.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => settings.resolvers.extend(words.next().and_then(resolver_address)),
                Some("search" | "domain") => {
                    settings.search =
                        words.map(|word| word.trim_matches('.').to_owned()).take(SEARCH_MAX).collect();
                }
                _ => {}
            }
        }
        settings.resolvers.truncate(RESOLVERS_MAX);
        if settings.resolvers.is_empty() {
            // As the C library does.
            settings.resolvers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
        }
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            if let Some(address) = words.next().and_then(|word| word.parse().ok()) {
                settings.hosts.extend(words.map(|name| (address, name.to_ascii_lowercase())));
            }
        }
        settings
    }

    fn hosts_file(&self, host: &str) -> Vec<IpAddr> {
        let host = host.trim_end_matches('.');
        let mut found: Vec<IpAddr> = Vec::new();
        for (address, _) in self.hosts.iter().filter(|(_, name)| name == host) {
            if !found.contains(address) {
                found.push(*address);
            }
        }
        found
    }

    fn other(&self, wanted: OtherResolver, host: &str, v4: bool) -> Result<SocketAddr, &'static str> {
        match wanted {
            OtherResolver::This(address) => Ok(address),
            OtherResolver::None => Err("none is wanted"),
            OtherResolver::Usual if is_private(host) => Err("the name is one of this network only"),
            OtherResolver::Usual => {
                let usual = if v4 { USUAL } else { USUAL_V6 };
                let own = |ip: &IpAddr| self.resolvers.iter().any(|resolver| resolver.ip() == *ip);
                let free = usual.into_iter().find(|ip| !own(ip));
                Ok(SocketAddr::new(free.unwrap_or(usual[0]), 53))
            }
        }
    }
}

/// An address of a resolver, with an interface where it has one (`fe80::1%eth0`).
fn resolver_address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(SocketAddr::new(address, 53));
    }
    let (address, interface) = text.split_once('%')?;
    let scope = if_nametoindex(interface).ok().or_else(|| interface.parse().ok())?;
    Some(SocketAddr::V6(SocketAddrV6::new(address.parse().ok()?, 53, 0, scope)))
}

/// Whether a name means something only here.
pub(super) fn is_private(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let ends =
        |ending: &str| host == ending || host.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'));
    !host.contains('.') || PRIVATE_ENDINGS.iter().any(|ending| ends(ending))
}

/// Whether a name is this machine's own by definition (RFC 6761).
pub(super) fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

/// Looks a host up.
pub(super) async fn look_up(
    host: &str,
    settings: &Settings,
    other: OtherResolver,
    v4: bool,
    deadline: Instant,
) -> Names {
    let begun = Instant::now();
    let mut names =
        Names { asked: host.to_owned(), hosts_file: settings.hosts_file(host), ..Names::default() };
    if is_localhost(host) {
        if names.hosts_file.is_empty() {
            names.hosts_file = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        names.unasked = Some("the name is this machine's own");
        return names;
    }
    let other = match settings.other(other, host, v4) {
        Ok(address) => Some(address),
        Err(why) => {
            names.unasked = Some(why);
            None
        }
    };
    let wanted: Vec<(SocketAddr, bool)> = settings
        .resolvers
        .iter()
        .map(|address| (*address, true))
        .chain(other.map(|address| (address, false)))
        .collect();
    for candidate in candidates(host, &settings.search) {
        let Ok(name) = Name::from_ascii(format!("{}.", candidate.trim_end_matches('.'))) else { continue };
        names.asked = candidate;
        names.resolvers = ask_all(&wanted, &name, deadline).await;
        if !names.system_addresses().is_empty() || Instant::now() >= deadline {
            break;
        }
    }
    names.took = begun.elapsed();
    names
}

/// A name without a dot is looked for in the search domains first, as the C library does.
fn candidates(host: &str, search: &[String]) -> Vec<String> {
    let mut candidates: Vec<String> = Vec::new();
    if !host.contains('.') {
        candidates.extend(search.iter().map(|domain| format!("{host}.{domain}")));
    }
    candidates.push(host.to_owned());
    candidates
}

/// Asks all resolvers for both kinds of addresses at the same time.
async fn ask_all(wanted: &[(SocketAddr, bool)], name: &Name, deadline: Instant) -> Vec<Asked> {
    let mut questions = JoinSet::new();
    for (at, &(address, system)) in wanted.iter().enumerate() {
        let name = name.clone();
        questions.spawn(async move {
            let begun = Instant::now();
            let (v4, v6) = tokio::join!(
                ask(address, &name, RecordType::A, deadline),
                ask(address, &name, RecordType::AAAA, deadline)
            );
            (at, Asked { address, system, took: begun.elapsed(), v4, v6 })
        });
    }
    let mut answers = questions.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, asked)| asked).collect()
}

/// Words for an answer.
pub(super) fn answer_words(answer: &Answer) -> String {
    match answer {
        Answer::Addresses(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        Answer::NoAddress => "the name has no address".to_owned(),
        Answer::NoSuchName => "no such name (NXDOMAIN)".to_owned(),
        Answer::Failed => "it could not find out (SERVFAIL)".to_owned(),
        Answer::Declined(why) => format!("it declines to answer ({why})"),
        Answer::Silent => "no answer".to_owned(),
        Answer::Unreachable(why) => format!("cannot be asked ({why})"),
        Answer::Broken(why) => format!("a broken answer ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLV_CONF: &str = "# made by hand\nnameserver 10.0.0.53 ; the first\nsearch example.com. lan\n\
                               nameserver fd00::53\nnameserver fe80::1%lo\nnameserver 10.0.0.54\noptions ndots:1\nnameserver x\n";

    #[test]
    fn the_settings_are_read_as_the_c_library_reads_them() {
        let settings =
            Settings::parse(RESOLV_CONF, "127.0.0.1 localhost\n10.0.0.9\tShop.example.com shop # a shop\n");
        let resolvers: Vec<String> = settings.resolvers.iter().map(ToString::to_string).collect();
        assert_eq!(resolvers[..2], ["10.0.0.53:53", "[fd00::53]:53"]);
        assert!(resolvers[2].starts_with("[fe80::1%"), "{resolvers:?}");
        assert_eq!(settings.search, ["example.com", "lan"]);
        assert_eq!(settings.hosts_file("shop.example.com"), ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert!(settings.hosts_file("other.example.com").is_empty());
        assert_eq!(Settings::parse("", "").resolvers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_public_resolver_that_is_not_the_own_one_serves_for_comparison() {
        let other =
            |text: &str, host: &str| Settings::parse(text, "").other(OtherResolver::Usual, host, true);
        assert_eq!(other("nameserver 10.0.0.1", "shop.example.com"), Ok("9.9.9.9:53".parse().unwrap()));
        assert_eq!(other("nameserver 9.9.9.9", "shop.example.com"), Ok("1.1.1.1:53".parse().unwrap()));
        for private in ["shop", "shop.local", "db.corp.", "router.home.arpa", "a.b.internal"] {
            assert!(other("", private).is_err(), "{private}");
        }
        assert!(!is_private("localhome.example"));
    }

    #[test]
    fn a_short_name_is_looked_for_in_the_search_domains_first() {
        let search = ["example.com".to_owned(), "lan".to_owned()];
        assert_eq!(candidates("shop", &search), ["shop.example.com", "shop.lan", "shop"]);
        assert_eq!(candidates("shop.example.com", &search), ["shop.example.com"]);
        assert_eq!(candidates("shop.", &search), ["shop."]);
    }

    #[tokio::test]
    async fn localhost_is_this_machine_and_nobody_is_asked() {
        let settings = Settings::parse(RESOLV_CONF, "");
        let names = look_up("app.localhost", &settings, OtherResolver::Usual, true, Instant::now()).await;
        assert!(names.resolvers.is_empty());
        assert!(names.system_addresses().contains(&Ipv4Addr::LOCALHOST.into()));
    }
}
