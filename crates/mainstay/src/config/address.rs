//! Addresses, names and URLs as people write them, each refusal with what to write instead.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mainstay_model::Endpoint;
use mainstay_model::endpoint::UNIX;

use super::resolve::{SRV, ServerAddress};

/// What is wrong, and what to do.
pub(super) type Refusal = (String, String);

fn refuse<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Refusal> {
    Err((what.into(), remedy.into()))
}

/// Where Mainstay listens for visitors: an IP address and a port, or a Unix socket.
pub(super) fn listen_for_visitors(text: &str) -> Result<Endpoint, Refusal> {
    if let Some(path) = text.strip_prefix(UNIX) {
        return socket_path(path).map(Endpoint::Unix);
    }
    if let Some(remedy) = socket_elsewhere(text) {
        return refuse("the path of a Unix socket has unix: before it", remedy);
    }
    listen(text).map(Endpoint::Tcp)
}

/// Where Mainstay itself listens: an IP address and a port.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.starts_with(UNIX) {
        return refuse(
            "this is reached over the network alone; Unix sockets are for visitors and for servers",
            "write \"127.0.0.1:9900\"",
        );
    }
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    match port {
        Some(port) if host == "localhost" => {
            refuse("an IP address is needed to listen on", format!("write \"127.0.0.1:{port}\""))
        }
        Some(port) => refuse(
            "not an IP address and a port",
            format!("write \"0.0.0.0:{port}\" for every address of this machine, or \"127.0.0.1:{port}\""),
        ),
        None => match text.parse::<IpAddr>() {
            Ok(ip) => refuse("the port is missing", format!("write \"{}\"", SocketAddr::new(ip, 8080))),
            Err(_) => refuse("not an IP address and a port", "write \"0.0.0.0:8080\" or \"127.0.0.1:8080\""),
        },
    }
}

/// What the kernel takes as the path of a Unix socket (`sun_path`, with a NUL behind it).
const SOCKET_PATH_MAX: usize = 107;

/// The path of a Unix socket, as it stands behind `unix:`.
pub(super) fn socket_path(text: &str) -> Result<Arc<str>, Refusal> {
    let Some(rest) = text.strip_prefix('/') else {
        let name = text.trim_start_matches(['.', '/', '@']);
        let name = if name.is_empty() { "app.sock" } else { name };
        return refuse(
            "the path of a Unix socket begins at the root",
            format!("write \"{UNIX}/run/{name}\""),
        );
    };
    // As URLs have it: `unix:///run/app.sock`.
    let path = format!("/{}", rest.trim_start_matches('/'));
    if path.ends_with('/') || path.chars().any(char::is_control) {
        return refuse("not the path of a socket", format!("write \"{UNIX}/run/app.sock\""));
    }
    if path.len() > SOCKET_PATH_MAX {
        let what = format!(
            "the path of a Unix socket has at most {SOCKET_PATH_MAX} bytes, and this one has {}",
            path.len()
        );
        return refuse(what, "choose a shorter one, like \"unix:/run/app.sock\"");
    }
    Ok(path.into())
}

/// How others write a Unix socket, as it is written here; `None`: it is no such thing.
fn socket_elsewhere(text: &str) -> Option<String> {
    let path = text.strip_prefix("unix@").unwrap_or(text);
    path.starts_with('/').then(|| format!("write \"{UNIX}{path}\""))
}

/// Where a server listens: a Unix socket, or an IP address or a host name with a port.
pub(super) fn server(text: &str) -> Result<ServerAddress, Refusal> {
    if let Some(name) = text.strip_prefix(SRV) {
        return srv_name(name).map(ServerAddress::Srv);
    }
    if let Some(path) = text.strip_prefix(UNIX) {
        return socket_path(path).map(ServerAddress::Unix);
    }
    if let Some(remedy) = socket_elsewhere(text) {
        return refuse("the path of a Unix socket has unix: before it", remedy);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let bare = rest.trim_end_matches('/');
        return match scheme {
            "http" => refuse("a server's address has no scheme", format!("write {bare:?}")),
            "https" => refuse("a server's address has no scheme here", format!("write {bare:?}")),
            _ => refuse("not an address", "write \"10.0.0.11:3000\" or \"app-1.internal:3000\""),
        };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(ServerAddress::Fixed(address));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return refuse("the port is missing", format!("write \"{}\"", SocketAddr::new(ip, 3000)));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return if host_name(text).is_ok() {
            refuse("the port is missing", format!("write \"{text}:3000\""))
        } else {
            refuse("not an address", "write \"10.0.0.11:3000\" or \"app-1.internal:3000\"")
        };
    };
    let Ok(port) = port.parse::<u16>() else {
        return refuse("the port is not a number from 0 to 65535", format!("write \"{host}:3000\""));
    };
    if host.is_empty() {
        return refuse("the host is missing", format!("write \"127.0.0.1:{port}\""));
    }
    match host_name(host) {
        Ok(host) => Ok(ServerAddress::Name(host, port)),
        Err((what, _)) => refuse(what, "write \"10.0.0.11:3000\" or \"app-1.internal:3000\""),
    }
}

/// The name of a service: `_http._tcp.shop.internal`.
fn srv_name(text: &str) -> Result<String, Refusal> {
    let remedy = "write \"srv+http://_http._tcp.shop.internal\"";
    let name = match host_name(text.trim_end_matches('/')) {
        Ok(name) => name,
        Err((what, _)) => return refuse(what, remedy),
    };
    let mut labels = name.split('.');
    let is_service = labels.next().is_some_and(|label| label.starts_with('_'))
        && matches!(labels.next(), Some("_tcp"))
        && labels.next().is_some();
    if !is_service {
        return refuse("not the name of a service in DNS (SRV)", remedy);
    }
    Ok(name)
}

/// The same with `https://` before it when the server speaks TLS, which it then does at port 443 unless another one is written.
pub(super) fn server_with_scheme(text: &str) -> Result<(ServerAddress, bool), Refusal> {
    let Some(rest) = text.strip_prefix("https://") else { return Ok((server(text)?, false)) };
    if rest.starts_with(UNIX) {
        let what = "nobody speaks TLS by a Unix socket, which does not leave this machine";
        return refuse(what, format!("write {rest:?}"));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        let host = authority.split(['/', '?', '#']).next().unwrap_or("");
        let host = host.rsplit('@').next().unwrap_or("");
        return refuse("a server's address has neither path nor user", format!("write \"https://{host}\""));
    }
    let address = match server(authority) {
        Err((what, _)) if what == "the port is missing" => server(&format!("{authority}:443")),
        other => other,
    };
    let with_scheme = |remedy: String| remedy.replacen("write \"", "write \"https://", 1);
    address.map(|address| (address, true)).map_err(|(what, remedy)| (what, with_scheme(remedy)))
}

/// A server as given to `--server`: a URL of HTTP without a path, and whether it speaks TLS.
pub(super) fn server_url(text: &str) -> Result<(ServerAddress, bool), Refusal> {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| *scheme != "unix") else {
        // `127.0.0.1:3000` alone is plain enough.
        return Ok((server(text)?, false));
    };
    if scheme == "http" && rest.starts_with(UNIX) {
        return refuse("a Unix socket has no scheme", format!("write {rest}"));
    }
    match scheme {
        "http" => {}
        "https" => {
            return server_with_scheme(text).map_err(|(what, remedy)| (what, remedy.replace('"', "")));
        }
        _ => return refuse("not an HTTP address", "write http://127.0.0.1:3000"),
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        let host = authority.split(['/', '?', '#']).next().unwrap_or("");
        let host = host.rsplit('@').next().unwrap_or("");
        return refuse("a server's address has neither path nor user", format!("write http://{host}"));
    }
    match server(authority) {
        Err((what, _)) if what == "the port is missing" => {
            let address: Option<ServerAddress> = server(&format!("{authority}:80")).ok();
            let address = address.ok_or_else(|| (what, format!("write http://{authority}:80")))?;
            Ok((address, false))
        }
        Err((what, _)) => refuse(what, "write http://127.0.0.1:3000"),
        Ok(address) => Ok((address, false)),
    }
}

/// A host name in lower case, or an IP address, without a port.
pub(super) fn host_name(text: &str) -> Result<String, Refusal> {
    let bad = |what: &str, remedy: String| refuse(what, remedy);
    if text.contains("://") || text.contains('/') {
        let host = text.rsplit("://").next().unwrap_or(text).split('/').next().unwrap_or("");
        return bad("a host name has neither scheme nor path", format!("write {host:?}"));
    }
    if text.starts_with('[') {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        return match inner.map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(ip)) => Ok(format!("[{ip}]")),
            _ => bad(
                "not a host name",
                "write a name, \"shop.example.com\", or an address, \"[2001:db8::1]\"".into(),
            ),
        };
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
        && !host.contains(':')
    {
        return bad("a host name has no port", format!("write {host:?}"));
    }
    if !text.is_ascii() {
        return bad("not a host name in ASCII", "write its punycode form, \"xn--…\"".into());
    }
    if text.contains('*') {
        return bad(
            "a wildcard stands in front of a whole name",
            "write \"*.example.com\", or \"*\" for every host, where hosts are chosen".into(),
        );
    }
    let name = text.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return bad(
            "not a host name",
            "write letters, digits, dots and hyphens: \"shop.example.com\"".into(),
        );
    }
    Ok(name.to_owned())
}

/// The value of a Host header: a host name or an IP address, perhaps with a port.
pub(super) fn host_header(text: &str) -> Result<String, Refusal> {
    match host_and_port(text) {
        Some((name, Some(port))) => Ok(format!("{}:{port}", host_name(name)?)),
        Some((name, None)) => host_name(name),
        None => refuse("not a host name", "write \"shop.example.com\""),
    }
}

/// A web address that messages or calls can go to.
pub(super) fn web_url(text: &str) -> Result<String, Refusal> {
    let refusal = || refuse("not a web address", "write \"https://example.com/path\"");
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return refusal();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let fine = match host_and_port(host) {
        Some((host, _)) => host_name(host).is_ok(),
        None => false,
    };
    if !fine || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        refusal()
    } else {
        Ok(text.to_owned())
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
pub(super) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    match text[after_bracket..].find(':') {
        Some(at) => {
            let (host, port) = text.split_at(after_bracket + at);
            port[1..].parse().ok().filter(|&port| port > 0).map(|port| (host, Some(port)))
        }
        None => Some((text, None)),
    }
}

/// A name of the user's own, for services, servers and groups: it becomes part of URLs, metrics and file names.
pub(super) fn own_name(text: &str) -> Result<(), Refusal> {
    const LONGEST: usize = 64;
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if text.chars().all(fine) && starts_well && text.len() <= LONGEST {
        return Ok(());
    }
    let better: String =
        text.to_lowercase().chars().map(|c| if fine(c) { c } else { '-' }).take(LONGEST).collect();
    let better = better.trim_matches(['-', '.', '_']);
    let better = if better.is_empty() { "app-1" } else { better };
    refuse(
        "a name has lower-case letters, digits, dots, hyphens and underscores only, starts with a letter or a digit, and is at most 64 long",
        format!("call it `{better}`"),
    )
}

/// Whether an address that Mainstay listens on takes the place of another one.
pub(super) fn overlap(a: &Endpoint, b: &Endpoint) -> bool {
    let (Some(a), Some(b)) = (a.tcp(), b.tcp()) else { return a == b };
    // Port 0 is a different port each time.
    a.port() == b.port() && a.port() != 0 && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// Whether a request sent to `server` would come back to Mainstay, which listens on `own`.
pub(super) fn leads_back(own: &Endpoint, server: &ServerAddress) -> bool {
    let Some(own) = own.tcp() else { return server.endpoint().as_ref() == Some(own) };
    let server = match server {
        ServerAddress::Fixed(address) => *address,
        ServerAddress::Name(name, port) if name == "localhost" => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port)
        }
        ServerAddress::Name(..) | ServerAddress::Srv(_) | ServerAddress::Unix(_) => return false,
    };
    let here = server.ip().is_loopback() || server.ip().is_unspecified();
    let reached = own.ip() == server.ip() || (here && covers(own.ip(), server.ip()));
    own.port() == server.port() && own.port() != 0 && reached
}

/// Whether listening on `wide` takes what is sent to `narrow`. `[::]` takes IPv4 too, as Linux does by default.
fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    wide == narrow || (wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(text: &str) -> ServerAddress {
        ServerAddress::Fixed(text.parse().unwrap())
    }

    #[test]
    fn servers_are_given_by_address_or_by_name() {
        assert_eq!(server("10.0.0.11:3000"), Ok(fixed("10.0.0.11:3000")));
        assert_eq!(server("[::1]:3000"), Ok(fixed("[::1]:3000")));
        assert_eq!(server("App-1.internal:3000"), Ok(ServerAddress::Name("app-1.internal".into(), 3000)));
    }

    #[test]
    fn a_refused_server_address_says_what_to_write() {
        let remedy = |text| server(text).unwrap_err().1;
        assert_eq!(remedy("http://10.0.0.11:3000/"), "write \"10.0.0.11:3000\"");
        assert_eq!(remedy("10.0.0.11"), "write \"10.0.0.11:3000\"");
        assert_eq!(remedy("::1"), "write \"[::1]:3000\"");
        assert_eq!(remedy("app-1"), "write \"app-1:3000\"");
        assert_eq!(remedy(":3000"), "write \"127.0.0.1:3000\"");
        assert_eq!(remedy("app-1:http"), "write \"app-1:3000\"");
        let secure = |text| server_with_scheme(text).unwrap_err().1;
        assert_eq!(secure("https://10.0.0.11/shop"), "write \"https://10.0.0.11\"");
        assert_eq!(secure("https://:8443"), "write \"https://127.0.0.1:8443\"");
    }

    #[test]
    fn a_unix_socket_is_given_by_its_path_and_other_ways_to_write_it_are_put_right() {
        let unix = |path: &str| Ok(ServerAddress::Unix(path.into()));
        assert_eq!(server("unix:/run/app.sock"), unix("/run/app.sock"));
        assert_eq!(server("unix:///run/app.sock"), unix("/run/app.sock"));
        assert_eq!(server_url("unix:/run/app.sock"), unix("/run/app.sock").map(|address| (address, false)));
        let longest = format!("unix:/{}", "x".repeat(106));
        assert!(server(&longest).is_ok());
        let long = server(&format!("{longest}x")).unwrap_err().0;
        assert!(long.contains("107 bytes, and this one has 108"), "{long}");
        let remedy = |text| server(text).unwrap_err().1;
        assert_eq!(remedy("/run/app.sock"), "write \"unix:/run/app.sock\"");
        assert_eq!(remedy("unix@/run/app.sock"), "write \"unix:/run/app.sock\"");
        assert_eq!(remedy("unix:app.sock"), "write \"unix:/run/app.sock\"");
        assert_eq!(remedy("http://unix:/run/app.sock"), "write \"unix:/run/app.sock\"");
        assert_eq!(server_url("http://unix:/run/app.sock").unwrap_err().1, "write unix:/run/app.sock");
        let secure = server_with_scheme("https://unix:/run/app.sock").unwrap_err();
        assert!(secure.0.contains("TLS") && secure.1 == "write \"unix:/run/app.sock\"", "{secure:?}");
        for bad in ["unix:", "unix:/", "unix:/run/", "unix:/run/a\nb"] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_url_may_leave_its_port_out() {
        assert_eq!(server_url("http://127.0.0.1:3000"), Ok((fixed("127.0.0.1:3000"), false)));
        assert_eq!(server_url("http://127.0.0.1"), Ok((fixed("127.0.0.1:80"), false)));
        assert_eq!(server_url("http://[::1]/"), Ok((fixed("[::1]:80"), false)));
        assert_eq!(server_url("http://app-1"), Ok((ServerAddress::Name("app-1".into(), 80), false)));
        assert_eq!(server_url("localhost:3000"), Ok((ServerAddress::Name("localhost".into(), 3000), false)));
        assert_eq!(server_url("https://app-1/"), Ok((ServerAddress::Name("app-1".into(), 443), true)));
        assert_eq!(server_url("https://[::1]:8443"), Ok((fixed("[::1]:8443"), true)));
    }

    #[test]
    fn paths_are_refused_with_a_remedy() {
        assert_eq!(server_url("https://app-1:3000/shop").unwrap_err().1, "write https://app-1:3000");
        assert_eq!(server_url("http://app-1:3000/shop").unwrap_err().1, "write http://app-1:3000");
        assert!(server_url("ftp://app-1").is_err());
    }

    #[test]
    fn host_names_are_lower_case_and_alone() {
        assert_eq!(host_name("Shop.Example.com."), Ok("shop.example.com".to_owned()));
        assert_eq!(host_name("[2001:DB8::1]"), Ok("[2001:db8::1]".to_owned()));
        for bad in
            ["", "a b", "https://shop.example.com/x", "shop:80", "*.example.com", "münchen.de", "-a", "a..b"]
        {
            assert!(host_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_address_overlaps_every_other_one_on_its_port() {
        let at = |text: &str| text.parse::<Endpoint>().unwrap();
        assert!(overlap(&at("0.0.0.0:80"), &at("127.0.0.1:80")));
        assert!(overlap(&at("[::]:80"), &at("127.0.0.1:80")));
        assert!(!overlap(&at("127.0.0.1:80"), &at("127.0.0.2:80")));
        assert!(!overlap(&at("127.0.0.1:0"), &at("127.0.0.1:0")));
        assert!(overlap(&at("unix:/run/a.sock"), &at("unix:/run/a.sock")));
        assert!(!overlap(&at("unix:/run/a.sock"), &at("0.0.0.0:80")));
    }

    #[test]
    fn a_server_that_is_mainstay_itself_is_noticed() {
        let at = |text: &str| text.parse::<Endpoint>().unwrap();
        assert!(leads_back(&at("0.0.0.0:80"), &fixed("127.0.0.1:80")));
        assert!(leads_back(&at("127.0.0.1:80"), &ServerAddress::Name("localhost".into(), 80)));
        assert!(leads_back(&at("[::]:80"), &fixed("127.0.0.1:80")));
        assert!(!leads_back(&at("0.0.0.0:80"), &fixed("10.0.0.1:80")));
        assert!(!leads_back(&at("0.0.0.0:80"), &fixed("[::1]:80")));
        assert!(leads_back(&at("unix:/run/a.sock"), &ServerAddress::Unix("/run/a.sock".into())));
        assert!(!leads_back(&at("unix:/run/a.sock"), &ServerAddress::Unix("/run/b.sock".into())));
    }

    #[test]
    fn the_name_of_a_service_says_protocol_and_domain() {
        let srv = |name: &str| server(name).map_err(|(what, _)| what);
        assert_eq!(
            srv("srv+http://_http._tcp.Shop.internal"),
            Ok(ServerAddress::Srv("_http._tcp.shop.internal".into()))
        );
        assert_eq!(
            srv("srv+http://_shop._tcp.shop.internal/"),
            Ok(ServerAddress::Srv("_shop._tcp.shop.internal".into()))
        );
        for bad in
            ["srv+http://shop.internal", "srv+http://_http._udp.a", "srv+http://_http._tcp", "srv+http://"]
        {
            assert!(srv(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_would_hurt_a_path_or_a_url_are_refused() {
        assert_eq!(own_name("app-1.eu_2"), Ok(()));
        for bad in ["", "..", "App", "a/b", "ä", "-a", " a"] {
            assert!(own_name(bad).is_err(), "{bad}");
        }
        assert_eq!(own_name("My Shop").unwrap_err().1, "call it `my-shop`");
    }
}
