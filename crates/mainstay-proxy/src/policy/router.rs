//! Which service a request leads to, and by which route: the most specific rule that fits.
//!
//! In this order: an exact host goes before a wildcard, a longer wildcard before a shorter one, and any host before every
//! host; then a longer path before a shorter one, and a path alone before the same path with all below it; then more
//! headers before fewer, and methods before every method. Of rules that are equal in all of that the first one wins, which
//! the config allows within one service only. A rule that does not fit is passed by, also for a less specific host.
//!
//! Hosts and paths are looked up by hash, so that a request costs the same with one host as with a thousand.

use std::collections::HashMap;

use mainstay_model::route::{Condition, HeaderRule, PathRule};

use super::path::{Lenient, lenient};
use crate::codec::header::split_port;
use crate::codec::{Refusal, RequestHead};

/// What of a request decides where it goes, whatever protocol it came by.
pub(crate) trait Asked {
    /// Its host, perhaps with a port; `None` only in HTTP/1.0.
    fn host(&self) -> Option<&str>;
    /// Its path, without the query; begins with `/`, or is `*`, or is empty, which is `/`.
    fn path(&self) -> &str;
    /// Its method.
    fn method(&self) -> &str;
    /// Whether it has a header of this name (in lower case), and of this value if one is given.
    fn has_header(&self, name: &str, value: Option<&str>) -> bool;
}

impl Asked for RequestHead<'_, '_> {
    fn host(&self) -> Option<&str> {
        self.host
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn method(&self) -> &str {
        self.method
    }

    fn has_header(&self, name: &str, value: Option<&str>) -> bool {
        self.values(name).any(|sent| value.is_none_or(|value| sent == value.as_bytes()))
    }
}

/// Why a request leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// No service has its host.
    Host,
    /// The host is known, but nothing on it fits.
    Path,
    /// Its path could be read in two ways, and they lead to different places.
    Refused(Refusal),
}

/// Rules and what they lead to.
#[derive(Debug)]
pub(crate) struct Router<T> {
    hosts: HashMap<Box<str>, Site<T>>,
    /// `.example.com` for `*.example.com`.
    wildcards: HashMap<Box<str>, Site<T>>,
    every: Site<T>,
    /// How many rules there are.
    count: usize,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { hosts: HashMap::new(), wildcards: HashMap::new(), every: Site::default(), count: 0 }
    }
}

/// The rules of one host, or of all below a name, or of every host.
#[derive(Debug)]
struct Site<T> {
    /// Of paths alone.
    exact: HashMap<Box<[u8]>, Vec<Rule<T>>>,
    /// Of paths with all below them; by the path without a slash at its end.
    below: HashMap<Box<[u8]>, Vec<Rule<T>>>,
    /// Of every path.
    all: Vec<Rule<T>>,
    /// The longest path in `below`: a longer one need not be looked for.
    longest: usize,
}

impl<T> Default for Site<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new(), all: Vec::new(), longest: 0 }
    }
}

#[derive(Debug)]
struct Rule<T> {
    /// Number within the router, to tell two from each other.
    number: usize,
    methods: Box<[String]>,
    headers: Box<[HeaderRule]>,
    to: T,
}

impl<T> Router<T> {
    /// Adds a rule for each host and path of a condition; `to` is asked what the path leads to, with its length.
    pub(crate) fn add(&mut self, when: &Condition, mut to: impl FnMut(usize) -> T) {
        let every_host = ["*".to_owned()];
        let every_path = [PathRule::below("/")];
        let hosts = if when.hosts.is_empty() { &every_host[..] } else { &when.hosts };
        let paths = if when.paths.is_empty() { &every_path[..] } else { &when.paths };
        for host in hosts {
            for path in paths {
                let prefix = path.prefix();
                self.count += 1;
                let rule = Rule {
                    number: self.count,
                    methods: when.methods.clone().into(),
                    headers: when.headers.clone().into(),
                    to: to(prefix.len()),
                };
                self.site(host).add(path.exact, prefix, rule);
            }
        }
    }

    /// What a request leads to.
    pub(crate) fn route(&self, asked: &impl Asked) -> Result<&T, Lost> {
        if self.hosts.is_empty() && self.wildcards.is_empty() && self.every.is_plain() {
            return self.every.all.first().map(|rule| &rule.to).ok_or(Lost::Host);
        }
        let lower;
        let name = match asked.host() {
            None => "",
            Some(host) => {
                let name = host.get(..split_port(host.as_bytes()).0.len()).unwrap_or(host);
                // A fully qualified name with its dot is the same name.
                let name = name.strip_suffix('.').unwrap_or(name);
                if name.bytes().any(|b| b.is_ascii_uppercase()) {
                    lower = name.to_ascii_lowercase();
                    &lower
                } else {
                    name
                }
            }
        };
        let path = match asked.path() {
            "" => "/",
            path => path,
        };
        let found = self.find(name, path.as_bytes(), asked);
        if self.sites(name).any(Site::has_paths)
            && let Some(other) = lenient(path.as_bytes())
        {
            match other {
                Lenient::DotSegment => return Err(Lost::Refused(Refusal::DotSegment)),
                Lenient::Nul => return Err(Lost::Refused(Refusal::AmbiguousPath)),
                Lenient::Reads(reading) => {
                    let read = self.find(name, &reading, asked);
                    if read.map(|rule| rule.number) != found.map(|rule| rule.number) {
                        return Err(Lost::Refused(Refusal::AmbiguousPath));
                    }
                }
            }
        }
        match found {
            Some(rule) => Ok(&rule.to),
            None if self.sites(name).any(|site| !site.is_empty()) => Err(Lost::Path),
            None => Err(Lost::Host),
        }
    }

    fn find<'r>(&'r self, name: &str, path: &[u8], asked: &impl Asked) -> Option<&'r Rule<T>> {
        self.sites(name).find_map(|site| site.find(path, asked))
    }

    /// The sites that a host belongs to, the most specific first.
    fn sites<'r, 'n>(&'r self, name: &'n str) -> impl Iterator<Item = &'r Site<T>> + use<'r, 'n, T> {
        let exact = (!self.hosts.is_empty()).then(|| self.hosts.get(name)).flatten();
        let dots = name.match_indices('.').filter(|_| !self.wildcards.is_empty());
        // The first dot of a name that begins with one has no label in front.
        let wildcards = dots.filter(|(at, _)| *at > 0).filter_map(|(at, _)| self.wildcards.get(&name[at..]));
        exact.into_iter().chain(wildcards).chain([&self.every])
    }

    fn site(&mut self, host: &str) -> &mut Site<T> {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix('*') {
            Some("") => &mut self.every,
            Some(suffix) => self.wildcards.entry(suffix.into()).or_default(),
            None => self.hosts.entry(host.into()).or_default(),
        }
    }
}

impl<T> Site<T> {
    fn add(&mut self, exact: bool, prefix: &str, rule: Rule<T>) {
        let rules = match (exact, prefix) {
            (false, "") => &mut self.all,
            (false, _) => {
                self.longest = self.longest.max(prefix.len());
                self.below.entry(prefix.as_bytes().into()).or_default()
            }
            (true, _) => self.exact.entry(prefix.as_bytes().into()).or_default(),
        };
        // The more it asks for the earlier it is asked; of equals the first one stays in front.
        let weight = |rule: &Rule<T>| (rule.headers.len(), !rule.methods.is_empty());
        let at = rules.partition_point(|other| weight(other) >= weight(&rule));
        rules.insert(at, rule);
    }

    fn find<'s>(&'s self, path: &[u8], asked: &impl Asked) -> Option<&'s Rule<T>> {
        let fitting = |rules: &'s [Rule<T>]| rules.iter().find(|rule| rule.fits(asked));
        if !self.exact.is_empty()
            && let Some(rule) = self.exact.get(path).and_then(|rules| fitting(rules))
        {
            return Some(rule);
        }
        if !self.below.is_empty() {
            let whole = Some(path.len()).into_iter();
            let slashes = (0..path.len().min(self.longest + 1)).rev().filter(|&at| path[at] == b'/');
            for end in whole.chain(slashes).filter(|&end| end <= self.longest) {
                if let Some(rule) = self.below.get(&path[..end]).and_then(|rules| fitting(rules)) {
                    return Some(rule);
                }
            }
        }
        fitting(&self.all)
    }

    fn has_paths(&self) -> bool {
        !self.exact.is_empty() || !self.below.is_empty()
    }

    fn is_empty(&self) -> bool {
        !self.has_paths() && self.all.is_empty()
    }

    /// One way for everything.
    fn is_plain(&self) -> bool {
        let asks_nothing = |rule: &Rule<T>| rule.methods.is_empty() && rule.headers.is_empty();
        !self.has_paths() && self.all.len() <= 1 && self.all.iter().all(asks_nothing)
    }
}

impl<T> Rule<T> {
    fn fits(&self, asked: &impl Asked) -> bool {
        let method = || self.methods.iter().any(|method| method == asked.method());
        let header = |rule: &HeaderRule| asked.has_header(&rule.name, rule.value.as_deref());
        (self.methods.is_empty() || method()) && self.headers.iter().all(header)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// A request of a test.
    #[derive(Debug, Clone, Default)]
    struct Request {
        host: Option<String>,
        path: String,
        method: String,
        headers: Vec<(String, String)>,
    }

    impl Asked for Request {
        fn host(&self) -> Option<&str> {
            self.host.as_deref()
        }
        fn path(&self) -> &str {
            &self.path
        }
        fn method(&self) -> &str {
            &self.method
        }
        fn has_header(&self, name: &str, value: Option<&str>) -> bool {
            self.headers.iter().any(|(n, v)| n == name && value.is_none_or(|value| value == v))
        }
    }

    fn get(host: &str, path: &str) -> Request {
        Request { host: Some(host.into()), path: path.into(), method: "GET".into(), headers: Vec::new() }
    }

    fn hosts(names: &[&str]) -> Condition {
        Condition { hosts: names.iter().map(|name| (*name).to_owned()).collect(), ..Condition::default() }
    }

    fn paths(names: &[&str]) -> Condition {
        Condition { paths: names.iter().map(|path| PathRule::below(path)).collect(), ..Condition::default() }
    }

    fn router(rules: &[(&'static str, Condition)]) -> Router<&'static str> {
        let mut router = Router::default();
        for (name, when) in rules {
            router.add(when, |_| *name);
        }
        router
    }

    #[test]
    fn a_host_is_found_whatever_its_case_and_port_and_the_more_specific_goes_first() {
        let mut rules = vec![
            ("wild", hosts(&["*.example.com"])),
            ("shop", hosts(&["shop.example.com", "[::1]"])),
            ("eu", hosts(&["*.eu.example.com"])),
        ];
        let expected = [
            ("shop.example.com", Ok("shop")),
            ("SHOP.example.com:8080", Ok("shop")),
            ("shop.example.com.", Ok("shop")),
            ("[::1]:80", Ok("shop")),
            ("other.example.com", Ok("wild")),
            ("a.b.Example.com", Ok("wild")),
            ("a.eu.example.com", Ok("eu")),
            ("eu.example.com", Ok("wild")),
            ("example.com", Err(Lost::Host)),
            (".example.com", Err(Lost::Host)),
            ("notexample.com", Err(Lost::Host)),
        ];
        for (host, service) in expected {
            assert_eq!(router(&rules).route(&get(host, "/")).copied(), service, "{host}");
        }
        assert_eq!(router(&rules).route(&Request::default()), Err(Lost::Host));
        rules.push(("rest", Condition::default()));
        let all = router(&rules);
        assert_eq!(all.route(&get("unknown", "/")), Ok(&"rest"));
        assert_eq!(all.route(&Request::default()), Ok(&"rest"));
        assert_eq!(all.route(&get("shop.example.com", "/")), Ok(&"shop"));
    }

    #[test]
    fn the_longest_path_wins_and_never_takes_its_neighbours() {
        let exactly = Condition { paths: vec![PathRule::exactly("/")], ..Condition::default() };
        let router = router(&[
            ("rest", Condition::default()),
            ("api", paths(&["/api", "/v1/"])),
            ("orders", paths(&["/api/orders"])),
            ("start", exactly),
        ]);
        for (path, to) in [
            ("/api", "api"),
            ("/api/", "api"),
            ("/api/x/y", "api"),
            ("/apis", "rest"),
            ("/API", "rest"),
            ("/v1", "api"),
            ("/api/orders", "orders"),
            ("/api/orders/7", "orders"),
            ("/api/ordersx", "api"),
            ("/", "start"),
            ("", "start"),
            ("/x", "rest"),
            ("*", "rest"),
        ] {
            assert_eq!(router.route(&get("a", path)), Ok(&to), "{path}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_past_a_route_is_refused_and_any_other_is_not() {
        let router = router(&[("rest", Condition::default()), ("admin", paths(&["/admin"]))]);
        let dot = Err(Lost::Refused(Refusal::DotSegment));
        let ambiguous = Err(Lost::Refused(Refusal::AmbiguousPath));
        for (path, expected) in [
            ("/x/../admin", dot),
            ("/%2e%2e/x", dot),
            ("/x/..;/admin", dot),
            ("//admin", ambiguous),
            ("/%61dmin", ambiguous),
            ("/admin%2fx", ambiguous),
            ("/admin;x", ambiguous),
            ("/\\admin", ambiguous),
            ("/admin%00", ambiguous),
            ("/admin/a%2fb", Ok(&"admin")),
            ("/admin//x", Ok(&"admin")),
            ("/projects/group%2Fname", Ok(&"rest")),
            ("/a//b;c", Ok(&"rest")),
        ] {
            assert_eq!(router.route(&get("a", path)), expected, "{path}");
        }
    }

    #[test]
    fn a_site_without_paths_passes_every_path_on() {
        let router = router(&[
            ("shop", hosts(&["shop"])),
            ("blog", Condition { paths: vec![PathRule::below("/x")], ..hosts(&["blog"]) }),
        ]);
        assert_eq!(router.route(&get("shop", "/a/../b//%2e")), Ok(&"shop"));
        assert_eq!(router.route(&get("blog", "/y")), Err(Lost::Path));
    }

    #[test]
    fn of_one_path_the_rule_that_asks_for_more_goes_first() {
        let post = Condition { methods: vec!["POST".into()], ..Condition::default() };
        let header = |value: Option<&str>| Condition {
            headers: vec![HeaderRule { name: "x-beta".into(), value: value.map(str::to_owned) }],
            ..Condition::default()
        };
        let router = router(&[
            ("rest", Condition::default()),
            ("post", post),
            ("yes", header(Some("yes"))),
            ("any", header(None)),
        ]);
        let ask = |method: &str, beta: Option<&str>| Request {
            method: method.into(),
            headers: beta.map(|value| ("x-beta".to_owned(), value.to_owned())).into_iter().collect(),
            ..get("a", "/")
        };
        assert_eq!(router.route(&ask("GET", None)), Ok(&"rest"));
        assert_eq!(router.route(&ask("POST", None)), Ok(&"post"));
        assert_eq!(router.route(&ask("POST", Some("yes"))), Ok(&"yes"));
        assert_eq!(router.route(&ask("GET", Some("no"))), Ok(&"any"));
    }

    /// The order that the module's documentation names, written down as plainly as can be.
    fn naive<'r>(rules: &'r [(usize, Condition)], request: &Request) -> Option<&'r usize> {
        let name = request.host.clone().unwrap_or_default().to_ascii_lowercase();
        let mut best: Option<(_, &usize)> = None;
        for (number, when) in rules {
            let host_ranks: Vec<(u8, usize)> = if when.hosts.is_empty() {
                vec![(0, 0)]
            } else {
                let rank = |host: &String| match host.strip_prefix('*') {
                    Some("") => Some((0, 0)),
                    Some(suffix) => {
                        (name.len() > suffix.len() && name.ends_with(suffix)).then_some((1, suffix.len()))
                    }
                    None => (name == *host).then_some((2, 0)),
                };
                when.hosts.iter().filter_map(rank).collect()
            };
            let path_rank = |path: &PathRule| {
                let prefix = path.prefix();
                let below =
                    || request.path.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with('/'));
                let fits = if path.exact { request.path == path.path } else { below() };
                fits.then_some((prefix.len(), path.exact))
            };
            let path_ranks: Vec<(usize, bool)> = match when.paths.is_empty() {
                true => vec![(0, false)],
                false => when.paths.iter().filter_map(path_rank).collect(),
            };
            let method = when.methods.is_empty() || when.methods.contains(&request.method);
            let headers = when.headers.iter().all(|h| request.has_header(&h.name, h.value.as_deref()));
            for host in &host_ranks {
                for path in &path_ranks {
                    let rank = (*host, *path, when.headers.len(), !when.methods.is_empty());
                    if method && headers && best.is_none_or(|(other, _)| rank > other) {
                        best = Some((rank, number));
                    }
                }
            }
        }
        best.map(|(_, number)| number)
    }

    prop_compose! {
        fn condition()(
            hosts in prop::collection::vec(select(vec!["a.x", "b.x", "*.x", "*.a.x", "*", "x"]), 0..3),
            paths in prop::collection::vec((select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b"]), any::<bool>()), 0..3),
            methods in prop::collection::vec(select(vec!["GET", "POST"]), 0..2),
            headers in prop::collection::vec((select(vec!["p", "q"]), prop::option::of(select(vec!["1", "2"]))), 0..3),
        ) -> Condition {
            Condition {
                hosts: hosts.into_iter().map(str::to_owned).collect(),
                paths: paths.into_iter().map(|(path, exact)| PathRule { path: path.to_owned(), exact }).collect(),
                methods: methods.into_iter().map(str::to_owned).collect(),
                headers: headers.into_iter().map(|(name, value)| HeaderRule { name: name.to_owned(), value: value.map(str::to_owned) }).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn every_request_goes_where_a_naive_router_sends_it(
            rules in prop::collection::vec(condition(), 0..8),
            requests in prop::collection::vec((
                prop::option::of(select(vec!["a.x", "A.X", "b.x", "c.x", "d.a.x", "x", "y"])),
                prop::collection::vec(select(vec!["/", "a", "b", "ab", "/a", "/b"]), 0..6),
                select(vec!["GET", "POST", "PUT"]),
                prop::collection::vec((select(vec!["p", "q"]), select(vec!["1", "2", "3"])), 0..3),
            ), 1..20),
        ) {
            let rules: Vec<(usize, Condition)> = rules.into_iter().enumerate().collect();
            let mut router = Router::default();
            for (number, when) in &rules {
                router.add(when, |_| *number);
            }
            for (host, path, method, headers) in requests {
                let path = format!("/{}", path.concat());
                // What has two readings is another test's.
                let path = path.split('/').filter(|part| !part.is_empty()).fold(String::new(), |path, part| path + "/" + part);
                let request = Request {
                    host: host.map(str::to_owned),
                    path: if path.is_empty() { "/".to_owned() } else { path },
                    method: method.to_owned(),
                    headers: headers.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                };
                prop_assert_eq!(router.route(&request).ok(), naive(&rules, &request), "{:?}", request);
            }
        }

        /// No way of writing a path leads a lenient server to a page of another route than the one it went by.
        #[test]
        fn nobody_slips_past_a_route(
            parts in prop::collection::vec(select(vec![
                "/", "admin", "x", "..", ".", ";", "%2f", "%2e", "\\", "%5c", "%61", "dmin", "%00", "%3b", "%3f",
            ]), 0..10),
        ) {
            let router = router(&[("rest", Condition::default()), ("admin", paths(&["/admin"]))]);
            let path = format!("/{}", parts.concat());
            let Ok(to) = router.route(&get("a", &path)) else { return Ok(()) };
            // Every way to read it, by every choice of what a server may do.
            for choice in 0u32..32 {
                let mut read = path.clone();
                let does = |bit: u32| choice & (1 << bit) != 0;
                if does(0) {
                    for (from, into) in [("%61", "a"), ("%2e", "."), ("%3b", ";"), ("%3f", "?")] {
                        read = read.replace(from, into);
                    }
                }
                if does(1) { read = read.replace("%2f", "/").replace("%5c", "\\"); }
                if does(2) { read = read.replace('\\', "/"); }
                if does(3) {
                    read = read.split('?').next().unwrap_or_default().split('/')
                        .map(|part| part.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/");
                }
                let mut out: Vec<&str> = Vec::new();
                for part in read.split('/').skip(1) {
                    match part {
                        ".." => drop(out.pop()),
                        "." => {}
                        "" if does(4) => {}
                        part => out.push(part),
                    }
                }
                let is_admin = out.first() == Some(&"admin");
                prop_assert_eq!(is_admin, *to == "admin", "{} read as {:?}", path, out);
            }
        }
    }
}
