//! Which service a request's Host and path lead to.

use std::collections::HashMap;
use std::rc::Rc;

use crate::codec::header::split_port;

/// Host names and what they lead to.
#[derive(Debug)]
pub(crate) struct Router<T> {
    exact: HashMap<Box<str>, Rc<T>>,
    /// `.example.com` for `*.example.com`, longest first.
    wildcards: Vec<(Box<str>, Rc<T>)>,
    default: Option<Rc<T>>,
    /// Paths that lead elsewhere, whatever the host or on these hosts only; longest first.
    paths: Vec<(Box<str>, Vec<String>, Rc<T>)>,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: Vec::new(), default: None, paths: Vec::new() }
    }
}

impl<T> Router<T> {
    /// Adds a service under its host names; without any (or with `*`) it takes every host that no other has. The first one wins.
    pub(crate) fn add(&mut self, hosts: &[String], service: &Rc<T>) {
        if hosts.is_empty() {
            self.default.get_or_insert_with(|| Rc::clone(service));
        }
        for host in hosts {
            let host = host.to_ascii_lowercase();
            if host == "*" {
                self.default.get_or_insert_with(|| Rc::clone(service));
            } else if let Some(suffix) = host.strip_prefix('*') {
                self.wildcards.push((suffix.into(), Rc::clone(service)));
            } else {
                self.exact.entry(host.into()).or_insert_with(|| Rc::clone(service));
            }
        }
        self.wildcards.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    }

    /// Adds a service under a path, on its hosts only or, without any, on every host.
    pub(crate) fn add_path(&mut self, path: &str, hosts: &[String], service: &Rc<T>) {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        self.paths.push((path.trim_end_matches('/').into(), hosts, Rc::clone(service)));
        self.paths.sort_by_key(|(path, ..)| std::cmp::Reverse(path.len()));
    }

    /// The service for a Host header, its port and case aside,, and the target for the server; no Host leads to the default.
    pub(crate) fn route(&self, host: Option<&str>, target: &str) -> Option<&Rc<T>> {
        if !self.paths.is_empty() {
            let path = target.split('?').next().unwrap_or_default();
            let found = self.paths.iter().find(|(prefix, hosts, _)| {
                is_below(path, prefix) && (hosts.is_empty() || host.is_some_and(|host| names(hosts, host)))
            });
            if let Some((_, _, service)) = found {
                return Some(service);
            }
        }
        self.route_host(host)
    }

    fn route_host(&self, host: Option<&str>) -> Option<&Rc<T>> {
        if self.exact.is_empty() && self.wildcards.is_empty() {
            return self.default.as_ref();
        }
        let Some(host) = host else { return self.default.as_ref() };
        let name = host.get(..split_port(host.as_bytes()).0.len()).unwrap_or(host);
        // A fully qualified name with its dot is the same name.
        let name = name.strip_suffix('.').unwrap_or(name);
        let lower;
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        self.exact
            .get(name)
            .or_else(|| self.wildcards.iter().find(|(suffix, _)| is_under(name, suffix)).map(|(_, s)| s))
            .or(self.default.as_ref())
    }
}

/// The path itself, or something below it.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// One of the host names, its port and case aside.
fn names(hosts: &[String], host: &str) -> bool {
    let name = host.get(..split_port(host.as_bytes()).0.len()).unwrap_or(host);
    hosts.iter().any(|known| known.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name)))
}

fn is_under(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router<&'static str> {
        let mut router = Router::default();
        router.add(&["shop.example.com".into(), "[::1]".into()], &Rc::new("shop"));
        router.add(&["*.example.com".into()], &Rc::new("wild"));
        router.add(&["*.eu.example.com".into()], &Rc::new("eu"));
        router
    }

    #[test]
    fn a_host_is_found_whatever_its_case_and_port() {
        let router = router();
        for (host, service) in [
            ("shop.example.com", Some("shop")),
            ("SHOP.example.com:8080", Some("shop")),
            ("shop.example.com.", Some("shop")),
            ("[::1]:80", Some("shop")),
            ("other.example.com", Some("wild")),
            ("a.eu.example.com", Some("eu")),
            ("example.com", None),
            ("notexample.com", None),
        ] {
            assert_eq!(router.route(Some(host), "/").map(|s| **s), service, "{host}");
        }
        assert_eq!(router.route(None, "/"), None);
    }

    #[test]
    fn a_service_without_hosts_takes_what_no_other_has() {
        let mut router = router();
        router.add(&[], &Rc::new("rest"));
        assert_eq!(router.route(Some("unknown"), "/").map(|s| **s), Some("rest"));
        assert_eq!(router.route(None, "/").map(|s| **s), Some("rest"));
        assert_eq!(router.route(Some("shop.example.com"), "/").map(|s| **s), Some("shop"));
    }

    #[test]
    fn a_path_goes_before_every_host_and_never_takes_its_neighbours() {
        let mut router = router();
        router.add_path("/status", &[], &Rc::new("status"));
        router.add_path("/status/deep/", &["Shop.example.com".into()], &Rc::new("deep"));
        let route = |host, target| router.route(host, target).map(|s| **s);
        for target in ["/status", "/status/", "/status?x=/y", "/status/feed.atom"] {
            assert_eq!(route(Some("shop.example.com"), target), Some("status"), "{target}");
            assert_eq!(route(None, target), Some("status"), "{target}");
        }
        for target in ["/", "/statuses", "/a/status", "/?/status", "/Status", "?/status", "*", ""] {
            assert_eq!(route(Some("shop.example.com"), target), Some("shop"), "{target}");
        }
        assert_eq!(route(Some("shop.example.com:80"), "/status/deep/x"), Some("deep"));
        assert_eq!(route(Some("other.example.com"), "/status/deep/x"), Some("status"));
    }
}
