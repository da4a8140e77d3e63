//! The findings up to the connection, in the order of the way: this machine, its network, DNS, the way there, and a server that does not
//! listen. What comes after a connection stands is in `beyond`.

use std::net::IpAddr;

use super::beyond;
use super::names::answer_words;
use super::observed::{Answer, Asked, Names, Outcome, Try};
use super::verdict::{Case, Fault, Finding};

/// The first fault on the way.
pub(super) fn first(case: &Case<'_>) -> Option<Finding> {
    let elsewhere = || case.seen.hops.iter().find_map(|hop| dns(&Case::at(case.seen, hop)));
    machine(case)
        .or_else(elsewhere)
        .or_else(|| way(case))
        .or_else(|| beyond::first(case))
        .or_else(|| case.seen.hops.iter().find_map(|hop| silent_resolver(&Case::at(case.seen, hop))))
        .or_else(|| beyond::slow(case))
}

/// The finding when there is no fault.
pub(super) fn nothing(case: &Case<'_>) -> Finding {
    let page = case.hop.page();
    let status = page.map_or(0, |page| page.status);
    let first_byte = page.map(|page| page.first_byte).unwrap_or_default();
    let login = status == 401;
    let answered =
        if login { "asks for a login, as it should".to_owned() } else { format!("answered with {status}") };
    Finding::new(
        Fault::None,
        format!("{} can be reached from here", case.hop.host),
        format!(
            "Every step worked from here: {} {answered}; its first byte came after {}.",
            case.hop.url,
            beyond::time(first_byte)
        ),
        "If somebody else cannot reach it, the fault is at their end or on their way: have them run the same check. If it \
         fails only now and then, run it again while it fails.",
    )
}

fn machine(case: &Case<'_>) -> Option<Finding> {
    let machine = &case.seen.machine;
    let attempts = &case.hop.tcp.tries;
    if case.connected() || attempts.iter().any(|attempt| attempt.outcome.is_alive()) {
        return None;
    }
    if case.is_loopback() {
        let advice = "Bring it up: `ip link set lo up`.";
        let seen = format!(
            "{} is an address of this machine itself, and its loopback interface is down.",
            case.hop.host
        );
        return (!machine.has_loopback())
            .then(|| Finding::new(Fault::Machine, "this machine cannot talk to itself", seen, advice));
    }
    if let Some(Outcome::NotTried(why)) = attempts.first().map(|attempt| &attempt.outcome)
        && attempts.iter().all(|attempt| matches!(attempt.outcome, Outcome::NotTried(_)))
    {
        return Some(Finding::new(
            Fault::Machine,
            "this machine could not even try to connect",
            format!("The kernel of this machine refused to open a connection: {why}."),
            "It may have run out of something, or a rule of its own firewall forbids it. Close programs, look at the firewall of this \
             machine, and try again.",
        ));
    }
    let no_way = attempts.iter().all(|attempt| attempt.outcome == Outcome::NoRoute);
    let spoke =
        case.names.is_some_and(|names| names.resolvers.iter().any(|asked| asked.answer().is_spoken()));
    if !no_way || (attempts.is_empty() && spoke) {
        return None;
    }
    if !machine.has_interface() {
        return Some(Finding::new(
            Fault::Machine,
            "this machine is not connected to any network",
            "No network interface besides the loopback is up, so nothing outside of this machine can be reached.",
            "Plug in the cable or switch on the wireless network, and look at the network settings of this machine. The page itself \
             may be fine.",
        ));
    }
    if !machine.has_route() {
        return Some(Finding::new(
            Fault::Machine,
            "this machine knows no way out of its own network",
            "A network interface is up, but there is no default route, so no packet for the Internet leaves this machine.",
            "Connect again, or renew the lease of the network (DHCP); with settings made by hand, enter the gateway. The page itself may \
             be fine.",
        ));
    }
    if attempts.is_empty() {
        return None;
    }
    let (theirs, ours) = if attempts[0].address.is_ipv6() { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
    Some(Finding::new(
        Fault::Network,
        format!("{} has only {theirs} addresses, and this network has no {theirs}", case.hop.host),
        format!(
            "The name leads to {theirs} addresses alone. This machine has a way to the Internet over {ours} only."
        ),
        format!(
            "Use a network with {theirs}. If it is your site: give the name an {ours} address too, many visitors have only that."
        ),
    ))
}

/// DNS, and a hosts file that overrides it.
fn dns(case: &Case<'_>) -> Option<Finding> {
    let names = case.names?;
    if !names.system_addresses().is_empty() {
        return misled(case, names);
    }
    let Some(system) = names.system() else {
        return Some(Finding::new(
            Fault::Dns,
            format!("{} is no name that DNS can hold", names.asked),
            "A part between two dots is longer than 63 letters, or the whole is longer than 253, so nobody can be asked for it.",
            "Look at the spelling of the address.",
        ));
    };
    let own = system.answer();
    let other = names.other().map(Asked::answer);
    if let Some(Answer::Addresses(_)) = &other {
        return Some(only_other_knows(case, names, system));
    }
    let agree = other.as_ref() == Some(&own);
    match own {
        Answer::NoSuchName | Answer::NoAddress => Some(no_such_name(&names.asked, &own, agree)),
        Answer::Silent | Answer::Unreachable(_) => no_resolver(case, names),
        _ => Some(Finding::new(
            Fault::Dns,
            format!("the address of {} cannot be found out", names.asked),
            format!(
                "This machine's resolver {} says: {}.{}",
                system.address.ip(),
                answer_words(&own),
                if agree {
                    " Another resolver says the same, so the fault is at the name's own DNS."
                } else {
                    ""
                }
            ),
            "Wait and try again. If it is your site: look at the name servers of its domain (do they answer, is DNSSEC in order, is the \
             delegation right?).",
        )),
    }
}

fn only_other_knows(case: &Case<'_>, names: &Names, system: &Asked) -> Finding {
    let other = names.other().expect("it gave addresses");
    let (own, theirs) = (system.address.ip(), other.address.ip());
    let page = match case.hop.way() {
        Some(way) if way.is_good() => " The page itself answers at the address that the other one gives.",
        Some(_) => " The page does not answer as it should at the address that the other one gives, either.",
        None => " Nothing answers at the address that the other one gives, either.",
    };
    let headline = match system.answer() {
        Answer::Silent | Answer::Unreachable(_) => {
            "your resolver does not answer; another one does".to_owned()
        }
        Answer::NoSuchName | Answer::NoAddress => {
            format!("your resolver says that there is no {}; another one knows it", names.asked)
        }
        _ => format!("your resolver cannot look up {}; another one can", names.asked),
    };
    Finding::new(
        Fault::Dns,
        headline,
        format!(
            "This machine asks the resolver {own} for addresses: {}. The resolver {theirs} gives {}.{page}",
            answer_words(&system.answer()),
            answer_words(&other.answer())
        ),
        format!(
            "It is you, or your network: others reach the name. Restart the router, or set another resolver in the network settings of \
             this machine ({theirs} answers). If the resolver is your own, look at it: it may be down, filter the name, or remember an \
             old answer."
        ),
    )
}

fn no_such_name(name: &str, answer: &Answer, agree: bool) -> Finding {
    let both = if agree { " Another resolver says the same." } else { "" };
    let (headline, seen) = match answer {
        Answer::NoAddress => (
            format!("{name} has no address"),
            format!("The name exists in DNS, but no address of a server belongs to it.{both}"),
        ),
        _ => (
            format!("there is no {name}"),
            format!("DNS says that the name does not exist (NXDOMAIN).{both}"),
        ),
    };
    let advice = "Look at the spelling; perhaps it is another name (with or without www). If it is your site: look whether the domain has \
                  expired and whether the record is in its zone.";
    Finding::new(Fault::Dns, headline, seen, advice)
}

/// No resolver says anything: it is them, or nothing gets out of here.
fn no_resolver(case: &Case<'_>, names: &Names) -> Option<Finding> {
    let addresses: Vec<String> = names
        .resolvers
        .iter()
        .map(|asked| format!("{} ({})", asked.address.ip(), answer_words(&asked.answer())))
        .collect();
    let asked = addresses.join(", ");
    if !case.connected() && !is_outside_alive(case) {
        return Some(nothing_outside(case, &format!("No resolver answers: {asked}.")));
    }
    Some(Finding::new(
        Fault::Dns,
        "your resolver does not answer",
        format!(
            "{} no resolver that was asked answers: {asked}. So the name {} leads nowhere.",
            if case.connected() || case.world() == Some(true) {
                "The network works, but"
            } else {
                "As far as can be seen,"
            },
            names.asked
        ),
        "Restart the router, or set another resolver in the network settings of this machine (9.9.9.9 or 1.1.1.1). If the resolver is \
         your own, look whether it runs.",
    ))
}

/// Whether anything beyond this network is known to answer. When nothing was asked, the doubt is for the page and not for the network,
/// unless the gateway is gone.
fn is_outside_alive(case: &Case<'_>) -> bool {
    let gateway_is_gone =
        case.seen.network.gateway.as_ref().is_some_and(|gateway| gateway.reached == Some(false));
    case.world().unwrap_or(!gateway_is_gone)
}

fn nothing_outside(case: &Case<'_>, what: &str) -> Finding {
    let gateway = case.seen.network.gateway.as_ref();
    let references = match case.seen.network.references.len() {
        0 => "",
        1 => " Neither does a neutral place on the Internet.",
        _ => " Neither does any of the neutral places on the Internet that were tried.",
    };
    let (headline, gateway) = match gateway {
        Some(gateway) if gateway.reached == Some(false) => (
            "the gateway of this network does not answer",
            format!(" The gateway {}, through which everything goes, cannot be reached.", gateway.address),
        ),
        Some(gateway) if gateway.reached == Some(true) => (
            "this network has no connection to the Internet",
            format!(" The gateway {} is there, so the fault is behind it.", gateway.address),
        ),
        _ => ("nothing outside of this network can be reached", String::new()),
    };
    Finding::new(
        Fault::Network,
        headline,
        format!("{what}{references}{gateway}"),
        "It is your end: restart the router, or ask whoever runs the network or sells you the line. Another network (a phone's, say) \
         shows whether the page itself is fine.",
    )
}

/// This machine is sent to a place that does not answer, while another resolver leads to one that does.
fn misled(case: &Case<'_>, names: &Names) -> Option<Finding> {
    if case.hop.walk.as_ref().is_some_and(|walk| walk.is_good()) || !case.hop.other.as_ref()?.is_good() {
        return None;
    }
    let own: Vec<String> = names.system_addresses().iter().map(ToString::to_string).collect();
    let other = names.other()?;
    let (own, theirs) = (own.join(", "), answer_words(&other.answer()));
    let blocked = |ip: &IpAddr| ip.is_unspecified() || ip.is_loopback();
    if !names.hosts_file.is_empty() {
        return Some(Finding::new(
            Fault::Machine,
            format!("the hosts file of this machine sends {} to the wrong place", names.asked),
            format!(
                "/etc/hosts says {own}, where the page does not answer as it should. The resolver {} gives {theirs}, and there it does.",
                other.address.ip()
            ),
            format!("Remove the line with {} from /etc/hosts of this machine.", names.asked),
        ));
    }
    let resolver = names.system()?.address.ip();
    let why = match names.system_addresses().iter().all(blocked) {
        true => " Such an answer is given on purpose, by a filter against advertisements or malware.",
        false => "",
    };
    Some(Finding::new(
        Fault::Dns,
        "your resolver sends you to the wrong place",
        format!(
            "The resolver {resolver} of this machine gives {own}, where the page does not answer as it should. The resolver {} gives \
             {theirs}, and there it does.{why}",
            other.address.ip()
        ),
        "It is you, or your network: the answer may be old (wait, or restart the router), filtered, or forged. Set another resolver in the \
         network settings of this machine. If it is your site and its address has changed, the old answer goes away by itself when its \
         lifetime (TTL) is over.",
    ))
}

/// The page is reached, but only because a later resolver answers for a silent first one.
fn silent_resolver(case: &Case<'_>) -> Option<Finding> {
    let names = case.names?;
    let silent: Vec<String> =
        names.silent_before_system().iter().map(|asked| asked.address.ip().to_string()).collect();
    let system = names.system().filter(|_| !silent.is_empty())?;
    let silent = silent.join(" and ");
    Some(Finding::new(
        Fault::Dns,
        "your resolver does not answer; another one does",
        format!(
            "The resolver {silent}, which this machine asks first, does not answer. {} does, and the page is fine; but each new look-up \
             waits for the first one, often for five seconds.",
            system.address.ip()
        ),
        format!(
            "Take {silent} out of the network settings of this machine (or /etc/resolv.conf), or repair it. Pages open slowly until then."
        ),
    ))
}

/// No connection to any address.
fn way(case: &Case<'_>) -> Option<Finding> {
    let attempts = &case.hop.tcp.tries;
    if case.connected() || attempts.is_empty() {
        return None;
    }
    let (host, port) = (&case.hop.host, attempts[0].address.port());
    let list = outcomes(attempts);
    if attempts.iter().any(|attempt| attempt.outcome == Outcome::Refused) {
        return Some(Finding::new(
            Fault::Server,
            format!("nothing listens on port {port} of {host}"),
            format!("The machine is there and refuses the connection: {list}."),
            "It is not you. Wait and try again. If it is your site: the web server is not running, or listens on another port or address; \
             start it, and look at its log for why it ended.",
        ));
    }
    if let Some((address, true)) = case.hop.tcp.other_port {
        return Some(Finding::new(
            Fault::Server,
            format!("{host} is there, but lets nobody in on port {port}"),
            format!("{list}. The same machine answers on port {}, so the way there is good.", address.port()),
            format!(
                "It is not you. If it is your site: a firewall on the server or before it drops packets for port {port}; open it."
            ),
        ));
    }
    if case.is_loopback() {
        return Some(Finding::new(
            Fault::Machine,
            "this machine keeps its own packets from arriving",
            format!("{host} is an address of this machine itself: {list}."),
            "A firewall on this machine drops them; look at its rules (`nft list ruleset`, `iptables -L`).",
        ));
    }
    let neighbour = attempts.iter().all(|attempt| case.seen.machine.is_neighbour(attempt.address.ip()));
    if neighbour && attempts.iter().all(|attempt| attempt.outcome == Outcome::Unreachable) {
        return Some(Finding::new(
            Fault::Server,
            format!("{host} is not on the network"),
            format!("It would be in this machine's own network, and nobody there has that address: {list}."),
            "The machine is switched off, has another address now, or is not plugged in. Look at it.",
        ));
    }
    if !case.is_near() && !is_outside_alive(case) {
        return Some(nothing_outside(case, &format!("No connection is made: {list}.")));
    }
    let world = match case.world() {
        Some(true) => " Other places on the Internet answer, so this machine and its network are fine.",
        _ => "",
    };
    Some(Finding::new(
        Fault::Path,
        format!("packets to {host} get lost on the way"),
        format!(
            "{list}.{world} Between here and there packets vanish, or the machine at the other end is off."
        ),
        "Try another network (a phone's, say): if it works there, a provider or a firewall between you and the page is at fault; tell them \
         the addresses above. If it fails there too, the site is down for everybody. If it is your site: look whether the machine runs and \
         what its firewall and its hoster's drop.",
    ))
}

/// `192.0.2.1:443 stayed silent for 3.00 s, 192.0.2.2:443 refused`; the same outcome of several addresses is said once.
fn outcomes(attempts: &[Try]) -> String {
    const SHOWN: usize = 4;
    let mut told: Vec<String> = attempts
        .iter()
        .take(SHOWN)
        .map(|attempt| format!("{} {}", attempt.address, outcome_words(attempt)))
        .collect();
    if attempts.len() > SHOWN {
        told.push(format!("{} more addresses likewise or worse", attempts.len() - SHOWN));
    }
    told.join(", ")
}

/// How an attempt ended, as a verb.
pub(super) fn outcome_words(attempt: &Try) -> String {
    match &attempt.outcome {
        Outcome::Connected => "answers".to_owned(),
        Outcome::Refused => "refuses".to_owned(),
        Outcome::TimedOut => format!("stayed silent for {}", beyond::time(attempt.took)),
        Outcome::Unreachable => "is unreachable".to_owned(),
        Outcome::NoRoute => "has no way from this machine".to_owned(),
        Outcome::NotTried(why) => format!("was not tried ({why})"),
    }
}
