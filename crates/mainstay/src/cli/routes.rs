//! Routes in words, and which of them a request would take: what `check-config` says of them.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use mainstay_model::ServiceId;
use mainstay_model::carriage::Carriage;
use mainstay_model::limits::Level;
use mainstay_model::policy::ServicePolicy;
use mainstay_model::route::{Condition, Handling, PathRule};
use mainstay_proxy::routes::{Answer, Fate, Question, Routes, Taken};
use serde_json::json;

use crate::config::Config;
use crate::exit_code::Exit;

/// Which hosts and paths lead to a service.
pub(super) fn hosts_words(carriage: &Carriage) -> String {
    let hosts = match (carriage.unlisted, carriage.hosts.is_empty()) {
        (true, _) => "no host".to_owned(),
        (_, true) => "every host".to_owned(),
        _ => carriage.hosts.join(", "),
    };
    match carriage.paths.is_empty() {
        true => hosts,
        false => format!("{hosts}; {}", carriage.paths.join(", ")),
    }
}

/// The routes of a service in their order, a line each.
pub(super) fn lines(service: &ServicePolicy) -> Vec<String> {
    let own = &service.carriage.handling;
    let routes = service.carriage.routes.iter();
    routes
        .map(|route| {
            let mut words = condition_words(&route.when, &service.carriage);
            if let Some(service) = &route.service {
                let _ = write!(words, " → service {service}");
            }
            for word in handling_words(&route.handling, own) {
                let _ = write!(words, "; {word}");
            }
            words
        })
        .collect()
}

/// `GET, HEAD shop.example.com/api with x-beta: yes`
fn condition_words(when: &Condition, carriage: &Carriage) -> String {
    let mut words = String::new();
    if !when.methods.is_empty() {
        let _ = write!(words, "{} ", when.methods.join(", "));
    }
    if when.hosts != carriage.hosts {
        let hosts = if when.hosts.is_empty() { "every host".to_owned() } else { when.hosts.join(", ") };
        let _ = write!(words, "{hosts} ");
    }
    let path = |rule: &PathRule| match rule.exact {
        true => format!("{} alone", rule.path),
        false => rule.path.clone(),
    };
    let paths: Vec<String> = when.paths.iter().map(path).collect();
    words.push_str(&if paths.is_empty() { "every path".to_owned() } else { paths.join(", ") });
    for header in &when.headers {
        let value = header.value.as_deref().unwrap_or("*");
        let _ = write!(words, " with {}: {value}", header.name);
    }
    words
}

/// What is done, beside what the service itself does.
fn handling_words(handling: &Handling, own: &Handling) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(redirect) = &handling.redirect {
        words.push(format!("redirected to {} with {}", redirect.to, redirect.status));
    }
    if handling.redirect_https != own.redirect_https {
        words.push(if handling.redirect_https { "https alone" } else { "also in the clear" }.to_owned());
    }
    if let Some(to) = &handling.rewrite {
        words.push(format!("rewritten to {}", if to.is_empty() { "/" } else { to }));
    }
    if handling.timeouts.is_some() {
        words.push("deadlines of its own".to_owned());
    }
    if let Some(bytes) = handling.body_max {
        words.push(format!("bodies up to {bytes} bytes"));
    }
    if let Some(level) = handling.level.filter(|level| *level != Level::Normal) {
        words.push(format!("priority {}", level.as_str()));
    }
    if handling.request_headers != own.request_headers || handling.response_headers != own.response_headers {
        words.push("headers changed".to_owned());
    }
    words
}

/// Which route and service a request would take.
pub(super) fn explain(
    config: &Config,
    request: &[String],
    headers: &[String],
    as_json: bool,
) -> anyhow::Result<(String, Exit)> {
    let question = question(request, headers)?;
    let services = config.policy.services.iter().map(|(id, service)| (id, &*service.carriage));
    let found = Routes::new(services).find(&question);
    let exit = if found.is_ok() { Exit::Ok } else { Exit::Failed };
    let scheme = if question.secure { "https" } else { "http" };
    let asked = format!("{} {scheme}://{}{}", question.method, question.host, question.target);
    if as_json {
        let value = match &found {
            Ok(Answer { taken_by, fate }) => {
                let (service, route) = (&taken_by.service, taken_by.route.map(|place| place + 1));
                match fate {
                    Fate::Served { service: by, target } => {
                        json!({ "request": asked, "rule": { "service": service, "route": route }, "service": by, "target": target })
                    }
                    Fate::Redirected { status, to } => {
                        json!({ "request": asked, "rule": { "service": service, "route": route }, "redirect": { "status": status, "to": to } })
                    }
                }
            }
            Err(nowhere) => json!({ "request": asked, "nowhere": nowhere.to_string() }),
        };
        return Ok((format!("{value:#}\n"), exit));
    }
    let text = match found {
        Ok(answer) => format!("{asked}\n{}", answer_words(config, &answer)),
        Err(nowhere) => format!("{asked}\n  answer    {nowhere}\n"),
    };
    Ok((text, exit))
}

fn answer_words(config: &Config, answer: &Answer) -> String {
    let Taken { service, route } = &answer.taken_by;
    let rule =
        config.policy.services.get(service).and_then(|policy| lines(policy).into_iter().nth((*route)?));
    let mut out = match (route, rule) {
        (Some(place), Some(rule)) => format!("  taken by  route {} of {service}: {rule}\n", place + 1),
        _ => format!("  taken by  the hosts and paths of {service}\n"),
    };
    match &answer.fate {
        Fate::Redirected { status, to } => out.push_str(&format!("  answer    {status} to {to}\n")),
        Fate::Served { service, target } => {
            out.push_str(&format!("  service   {service}: {}\n", servers_words(config, service)));
            out.push_str(&format!("  sent as   {target}\n"));
        }
    }
    out
}

fn servers_words(config: &Config, service: &ServiceId) -> String {
    let servers = config.policy.services.get(service).map(|policy| &policy.servers);
    let names: Vec<&str> =
        servers.into_iter().flat_map(|servers| servers.keys().map(AsRef::as_ref)).collect();
    names.join(", ")
}

fn question(request: &[String], headers: &[String]) -> anyhow::Result<Question> {
    let (method, url) = match request {
        [url] => ("GET", url),
        [method, url] => (method.as_str(), url),
        _ => bail!("--route takes a method and a URL"),
    };
    let (scheme, rest) = url
        .split_once("://")
        .with_context(|| format!("{url} is no URL; write https://shop.example.com/path"))?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(at);
    let target = target.split('#').next().unwrap_or_default();
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut question = Question {
        method: method.to_owned(),
        secure: scheme.eq_ignore_ascii_case("https"),
        host: host.to_owned(),
        target: format!("{slash}{target}"),
        ..Question::default()
    };
    for header in headers {
        let (name, value) =
            header.split_once(':').with_context(|| format!("{header} is no header; write 'X-Beta: yes'"))?;
        question.headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(question)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIG: &str = "
        [service.shop]
        hosts = [\"shop.example.com\", \"*.shop.example.com\"]
        server.a.address = \"10.0.0.1:1\"
        [[service.shop.route]]
        path = \"/api\"
        methods = [\"POST\", \"PUT\"]
        header.x-beta = \"yes\"
        rewrite = \"/\"
        limits.body-max = \"1KiB\"
        [[service.shop.route]]
        exact = \"/old\"
        redirect = \"https://{host}/new\"
        [[service.shop.route]]
        hosts = \"blog.example.com\"
        service = \"blog\"
        [service.blog]
        hosts = []
        server.x.address = \"10.0.0.1:2\"
        server.y.address = \"10.0.0.1:3\"
    ";

    fn asked(request: &[&str], headers: &[&str]) -> (String, Exit) {
        let config =
            crate::config::parse(CONFIG, "m.toml", Path::new("/"), &|_| Some("/x".to_owned())).unwrap();
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        explain(&config, &strings(request), &strings(headers), false).unwrap()
    }

    #[test]
    fn a_request_is_told_its_route_its_service_and_what_the_server_gets() {
        let (text, exit) = asked(&["POST", "https://shop.example.com/api/items?x=1"], &["X-Beta: yes"]);
        assert_eq!(
            text,
            "POST https://shop.example.com/api/items?x=1\n\
             \x20 taken by  route 1 of shop: POST, PUT /api with x-beta: yes; rewritten to /; bodies up to 1024 bytes\n\
             \x20 service   shop: a\n\
             \x20 sent as   /items?x=1\n"
        );
        assert_eq!(exit, Exit::Ok);
        let (text, _) = asked(&["http://eu.shop.example.com:8080"], &[]);
        assert!(
            text.contains("taken by  the hosts and paths of shop\n") && text.contains("sent as   /\n"),
            "{text}"
        );
        let (text, _) = asked(&["https://shop.example.com/old"], &[]);
        assert!(text.contains("  answer    307 to https://shop.example.com/new\n"), "{text}");
        let (text, _) = asked(&["https://blog.example.com/"], &[]);
        assert!(text.contains("  service   blog: x, y\n"), "{text}");
    }

    #[test]
    fn a_request_that_leads_nowhere_says_why() {
        for (url, why) in [
            ("https://other.example/", "no service has this host: 404"),
            ("https://shop.example.com//api", "refused, ambiguous-path: 400"),
            ("https://shop.example.com/x/../api", "refused, dot-segment: 400"),
        ] {
            let (text, exit) = asked(&["POST", url], &["x-beta: yes"]);
            assert!(text.contains(why), "{text}");
            assert_eq!(exit, Exit::Failed);
        }
    }
}
