//! `mainstay check-config`: every mistake in a config at once, or what it means in short.

use std::fmt::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use mainstay_model::ServiceId;
use mainstay_model::carriage::Tcp;
use mainstay_model::escalation::Call;
use mainstay_model::limits::Limits;
use mainstay_model::policy::{Role, Serves, ServicePolicy};
use mainstay_model::rung::Level;
use nix::unistd::{AccessFlags, access};
use serde_json::{Value, json};

use super::args::{config_path, front_words};
use super::routes;
use crate::cli::paint::counted;
use crate::config::{self, Config, Mistakes, ServerAddress, SmsProvider, StatusConfig};
use crate::exit_code::Exit;
use crate::probe::SocketFlaw;
use crate::tls::certificate::Certificate;

/// Options of `mainstay check-config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Secrets are read too, so run it as the user and with the environment that Mainstay runs with.

Examples:
  mainstay check-config
  mainstay check-config -c /etc/mainstay/mainstay.toml --json | jq '.mistakes[].line'
  mainstay check-config --route https://shop.example.com/api/items
  mainstay check-config --route POST https://shop.example.com/api/items --header 'X-Beta: yes'

Exit status: 0 no mistake, 1 the request of --route leads nowhere, 2 mistakes, or the file cannot be read.")]
pub struct CheckConfigArgs {
    /// The config [default: ./mainstay.toml, else /etc/mainstay/mainstay.toml]
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Say which route and service a request would take: `[METHOD] URL`, without sending it
    #[arg(long, num_args = 1..=2, value_names = ["METHOD", "URL"])]
    route: Vec<String>,
    /// A header of that request; may be given several times
    #[arg(long, value_name = "NAME: VALUE", requires = "route")]
    header: Vec<String>,
    /// Print for a program
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: CheckConfigArgs) -> anyhow::Result<Exit> {
    let path = config_path(args.config.as_deref());
    let result = config::load(&path);
    let file = path.display().to_string();
    if let (Ok(config), false) = (&result, args.route.is_empty()) {
        let (text, exit) = routes::explain(config, &args.route, &args.header, args.json)?;
        super::print(&text)?;
        return Ok(exit);
    }
    let text = match args.json {
        true => format!("{:#}\n", for_programs(&file, &result)),
        false => for_people(&file, &result),
    };
    super::print(&text)?;
    Ok(if result.is_ok() { Exit::Ok } else { Exit::Usage })
}

/// Which connections a TCP service takes, and what becomes of them when their server is down.
fn tcp_words(id: &ServiceId, tcp: Tcp, config: &Config) -> String {
    let here = config.tcp.iter().filter(|front| front.services.contains(id));
    let at: Vec<String> = here.map(|front| front_words("tcp", &front.address)).collect();
    let hosts = config.policy.services.get(id).map_or(&[][..], |service| &service.carriage.hosts);
    let which = match hosts.is_empty() {
        true => "every connection".to_owned(),
        false => format!("TLS for {}", hosts.join(", ")),
    };
    let down = if tcp.close_when_down { "closed" } else { "kept" };
    format!("{which} at {}; connections are {down} when their server is down", at.join(", "))
}

fn for_people(file: &str, result: &Result<Config, Mistakes>) -> String {
    let config = match result {
        Ok(config) => config,
        Err(mistakes) => return format!("{mistakes}\n\n{}\n", counted(mistakes.count() as u64, "mistake")),
    };
    let plain = config.http.iter().map(|address| front_words("http", address));
    let secure = config.https.iter().map(|address| front_words("https", address));
    let tcp = config.tcp.iter().map(|front| front_words("tcp", &front.address));
    let listeners: Vec<String> = plain.chain(secure).chain(tcp).collect();
    let mut out = format!("{file}: OK\n");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "serving    {}", listeners.join(", "));
    for certificate in &config.tls.certificates {
        let _ = writeln!(out, "tls        {}", certificate_words(certificate, config.tls.warn_before));
    }
    let _ = writeln!(out, "dashboard  http://{}/", config.admin);
    let _ = writeln!(out, "record     {}", config.data.display());
    if let Some(log) = &config.access_log {
        let _ = writeln!(out, "access log {}", log.destination);
    }
    for (id, service) in &config.policy.services {
        let hosts = match service.carriage.tcp {
            Some(tcp) => tcp_words(id, tcp, config),
            None => routes::hosts_words(&service.carriage),
        };
        let _ =
            writeln!(out, "service    {id}: {}; {}; {hosts}", servers_words(service), probe_words(service));
        for line in routes::lines(service) {
            let _ = writeln!(out, "route      {id}: {line}");
        }
    }
    for warning in socket_warnings(config) {
        let _ = writeln!(out, "warning    {warning}");
    }
    for line in dns_lines(config) {
        let _ = writeln!(out, "{line}");
    }
    for (id, service) in &config.policy.services {
        if let Some(words) = limits_words(&service.carriage.limits) {
            let _ = writeln!(out, "limits     {id}: {words}");
        }
    }
    for (id, service) in &config.policy.services {
        for line in change_lines(service) {
            let _ = writeln!(out, "{:<10} {id}: {}", line.0, line.1);
        }
    }
    for (id, service) in &config.policy.services {
        if let Some(value) = &service.value {
            let _ = writeln!(out, "value      {id}: an hour is worth {} {}", value.per_hour, value.currency);
        }
    }
    for line in super::maintenance::config_lines(config) {
        let _ = writeln!(out, "window     {line}");
    }
    if let Some(status) = &config.status {
        let _ = writeln!(out, "status     {}", status_words(status));
    }
    let _ = writeln!(out, "machine    {}", machine_words(config));
    let _ = writeln!(out, "alerts     {}", alerts_words(config));
    for (group, calls) in &config.policy.on_call.groups {
        let _ = writeln!(out, "on call    {group}: {}", calls_words(calls));
    }
    for (id, backup) in &config.policy.backups {
        let to =
            config.backups.get(id).map_or_else(String::new, |spec| spec.repository.display().to_string());
        let every = config::people_duration(backup.every);
        let _ = writeln!(out, "backup     {id}: every {every} to {to}");
    }
    out
}

/// What Mainstay changes of a service by itself or when it is asked: releases, instances, the user's own switch.
fn change_lines(service: &ServicePolicy) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(deploy) = &service.deploy {
        let share = deploy.share * 100.0;
        lines.push((
            "releases",
            format!("begins with {}, {share:.0} % of the requests for a trial", deploy.first),
        ));
    }
    if let Some(scale) = &service.scale {
        let (min, max, each) = (scale.min, scale.max, scale.concurrency);
        lines.push((
            "scale",
            format!(
                "{min} to {} of {}, each for {each} under way",
                counted(max.into(), "instance"),
                scale.template
            ),
        ));
    }
    if let Some(state) = &service.state {
        let text = match state.serves {
            Serves::Writes => "connections go to the one that says that it is the primary",
            Serves::Reads => {
                "connections go to the replicas, and to the primary when too few of them may serve"
            }
        };
        lines.push(("state", text.to_owned()));
    }
    if let Some(switch) = &service.switch {
        let level = match service.recovery.levels.switch {
            Level::Automatic => "by itself",
            _ => "when a person says so",
        };
        lines.push((
            "switch",
            format!("{level}, after {} without a primary", config::people_duration(switch.after)),
        ));
    }
    lines
}

/// What is not right with servers' Unix sockets at this moment: a server that is only not started yet is no mistake.
fn socket_warnings(config: &Config) -> Vec<String> {
    let sockets = config.addresses.iter().filter_map(|(server, address)| match address {
        ServerAddress::Unix(path) => Some((server, &**path)),
        _ => None,
    });
    sockets.filter_map(|(server, path)| Some(format!("{server}: {}", socket_flaw(path)?))).collect()
}

fn socket_flaw(path: &str) -> Option<String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(SocketFlaw::Missing.words(path)),
        Err(error) => Some(format!("{path} cannot be looked at: {error}")),
        Ok(file) if !file.file_type().is_socket() => Some(SocketFlaw::AnotherFile.words(path)),
        // Who connects writes.
        Ok(_) => access(path, AccessFlags::W_OK).is_err().then(|| SocketFlaw::Shut.words(path)),
    }
}

/// Whom it is made out to and until when, loudly when that is soon.
fn certificate_words(certificate: &Certificate, warn_before: Duration) -> String {
    let now = SystemTime::now();
    let left = certificate.left(now);
    let names = match certificate.names.is_empty() {
        true => "no host name at all".to_owned(),
        false => certificate.names.join(", "),
    };
    let (day, days) = (certificate.last_day(), left.as_secs() / 86_400);
    let until = match left {
        _ if certificate.not_before > now => "NOT VALID YET".to_owned(),
        Duration::ZERO => format!("EXPIRED on {day}"),
        left if left < warn_before => format!("EXPIRES SOON, on {day}, in {}", counted(days, "day")),
        _ => format!("valid until {day}, {}", counted(days, "day")),
    };
    format!("{}: {names}; {until}", certificate.chain.display())
}

fn machine_words(config: &Config) -> String {
    let Some(host) = &config.host else { return "not watched".to_owned() };
    let further = host.disks.iter().map(|path| format!(", {}", path.display())).collect::<String>();
    format!("watched, with the disks of /, {}{further}", host.data.display())
}

fn servers_words(service: &ServicePolicy) -> String {
    let count = service.servers.len();
    let mut words = counted(count as u64, "server");
    let backups = service.servers.values().filter(|server| server.role == Role::Backup).count();
    let supervised = service.servers.values().filter(|server| server.supervised).count();
    for (count, what) in [(backups, "as backup"), (supervised, "started by Mainstay")] {
        if count > 0 {
            let _ = write!(words, ", {count} {what}");
        }
    }
    words
}

fn probe_words(service: &ServicePolicy) -> String {
    let every = config::people_duration(service.health.interval);
    format!("{} every {every}", service.health.probe.words())
}

/// What is on of DNS; nothing when nothing is.
fn dns_lines(config: &Config) -> Vec<String> {
    let dns = &config.dns;
    let live = |live: &config::LiveNames| -> String {
        let names: Vec<String> =
            live.names.iter().map(|(name, service)| format!("{name} → {service}")).collect();
        if names.is_empty() { "nothing live".to_owned() } else { format!("live {}", names.join(", ")) }
    };
    let mut lines: Vec<String> = dns.listen.iter().map(|address| format!("dns        {address}")).collect();
    lines.extend(dns.zones.iter().map(|zone| {
        let records = counted(zone.zone.records() as u64, "record");
        format!("zone       {}: {records}, {}", zone.zone.origin(), live(&zone.live))
    }));
    lines.extend(dns.updates.iter().map(|update| {
        format!(
            "update     {} at {} by the key {}: {}",
            update.zone,
            update.server,
            update.key,
            live(&update.live)
        )
    }));
    lines
}

/// Where the status page is, and what it shows.
fn status_words(status: &StatusConfig) -> String {
    let mut ways = Vec::new();
    ways.extend(status.host.as_ref().map(|host| format!("http://{host}/")));
    ways.extend(status.path.as_ref().map(|path| format!("{path} on every host")));
    ways.extend(status.listen.map(|address| format!("http://{address}/")));
    ways.extend(status.folder.as_ref().map(|folder| format!("a copy in {}", folder.display())));
    let names: Vec<&str> = status.components.iter().map(|component| component.name.as_str()).collect();
    format!("{}: {}", ways.join(", "), names.join(", "))
}

fn limits_words(limits: &Limits) -> Option<String> {
    let mut words = Vec::new();
    if let Some(limit) = &limits.per_address {
        words.push(format!("{limit} of one address, {} at once", limit.burst));
    }
    if let Some(room) = &limits.room {
        let deadline = config::people_duration(room.queue_deadline);
        words.push(format!("{} under way, {} wait up to {deadline}", room.concurrent, room.queue));
    }
    if let Some(bytes) = limits.body_max {
        words.push(format!("bodies up to {}", counted(bytes, "byte")));
    }
    (!words.is_empty()).then(|| words.join("; "))
}

fn alerts_words(config: &Config) -> String {
    let alerts = &config.alerts;
    let mut ways = Vec::new();
    if let Some(email) = &alerts.email {
        ways.push(format!("mail by {}:{}", email.host, email.port));
    }
    if let Some(sms) = &alerts.sms {
        let by = match &sms.provider {
            SmsProvider::Twilio { account, .. } => format!("Twilio account {account}"),
            SmsProvider::Http(_) => "an HTTP API".to_owned(),
        };
        ways.push(format!("SMS by {by}, at most {} to a person an hour", sms.budget));
    }
    if alerts.webhook.is_some() {
        ways.push("a webhook".to_owned());
    }
    if ways.is_empty() {
        "nobody is told; see [alert.email] and [on-call]".to_owned()
    } else {
        ways.join("; ")
    }
}

/// `ops@example.com by mail at once; Ada by SMS after 5m`
fn calls_words(calls: &[Call]) -> String {
    let when = |call: &Call| match call.after.is_zero() {
        true => "at once".to_owned(),
        false => format!("after {}", config::people_duration(call.after)),
    };
    let words = calls.iter().map(|call| format!("{} by {} {}", call.to.name, call.to.way.word(), when(call)));
    words.collect::<Vec<_>>().join("; ")
}

fn for_programs(file: &str, result: &Result<Config, Mistakes>) -> Value {
    let config = match result {
        Ok(config) => config,
        Err(mistakes) => return json!({ "file": file, "ok": false, "mistakes": mistakes }),
    };
    let services: Vec<Value> = config
        .policy
        .services
        .iter()
        .map(|(id, service)| {
            let servers: Vec<&str> = service.servers.keys().map(AsRef::as_ref).collect();
            json!({ "name": id, "hosts": service.carriage.hosts, "servers": servers, "routes": routes::lines(service) })
        })
        .collect();
    json!({
        "file": file,
        "ok": true,
        "mistakes": [],
        "listen": { "http": config.http, "https": config.https, "admin": config.admin },
        "services": services,
        "warnings": socket_warnings(config),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<Config, Mistakes> {
        let env = |name: &str| (name == "HOME").then(|| "/home/ops".to_owned());
        config::parse(text, "m.toml", Path::new("/"), &env)
    }

    #[test]
    fn a_good_config_is_summed_up_in_a_few_lines() {
        let text = "data = \"/d\"\n[service.shop]\nhealth.http = \"/up\"\nserver.a.address = \"10.0.0.1:1\"\nserver.b = { command = [\"b\"], role = \"backup\" }\n";
        assert_eq!(
            for_people("m.toml", &parse(text)),
            "m.toml: OK\n\
             serving    http://127.0.0.1:8080\n\
             dashboard  http://127.0.0.1:9900/\n\
             record     /d\n\
             service    shop: 2 servers, 1 as backup, 1 started by Mainstay; GET /up every 1s; every host\n\
             machine    watched, with the disks of /, /d\n\
             alerts     nobody is told; see [alert.email] and [on-call]\n"
        );
    }

    #[test]
    fn where_connections_with_databases_go_is_said() {
        let text = "[service.db]\nlisten = \"tcp://127.0.0.1:5432\"\nstate = \"postgres\"\n\
                    health.postgres.user = \"mainstay\"\nserver.a.address = \"10.0.0.11:5432\"\n";
        let told = for_people("m.toml", &parse(text));
        let line = "state      db: connections go to the one that says that it is the primary\n";
        assert!(told.contains(line) && told.contains("switch     db: when a person says so"), "{told}");
    }

    #[test]
    fn a_status_page_is_summed_up_with_its_ways_and_parts() {
        let text = "[service.shop.server.a]\naddress = \"10.0.0.1:1\"\n[status]\nhost = \"s.example.com\"\n\
                    path = \"/status\"\nfolder = \"/srv/status\"\n";
        let told = for_people("m.toml", &parse(text));
        let line = "status     http://s.example.com/, /status on every host, a copy in /srv/status: Shop\n";
        assert!(told.contains(line), "{told}");
    }

    #[test]
    fn limits_are_summed_up_when_there_are_any() {
        let text = "[service.shop]\nlimits = { per-address = \"600/m\", burst = 30, concurrent = 200, queue = 50, body-max = \"1MiB\" }\nserver.a.address = \"10.0.0.1:1\"\n";
        let shown = for_people("m.toml", &parse(text));
        let line = shown.lines().find(|line| line.starts_with("limits")).expect("a line");
        assert_eq!(
            line,
            "limits     shop: 600/m of one address, 30 at once; 200 under way, 50 wait up to 2s; bodies up to 1048576 bytes"
        );
    }

    #[test]
    fn a_value_is_summed_up() {
        let text = "[service.shop]\nvalue = { per-hour = 1200, currency = \"EUR\" }\nserver.a.address = \"10.0.0.1:1\"\n";
        let said = for_people("m.toml", &parse(text));
        assert!(said.contains("\nvalue      shop: an hour is worth 1200 EUR\n"), "{said}");
    }

    #[test]
    fn a_program_gets_each_mistake_with_its_place() {
        let json = for_programs("m.toml", &parse("workers = 0\nfoo = 1\n"));
        assert_eq!(json["ok"], false);
        assert_eq!((&json["mistakes"][1]["line"], &json["mistakes"][2]["key"]), (&json!(1), &json!("foo")));
    }

    #[test]
    fn a_program_is_told_what_is_served() {
        let json = for_programs("m.toml", &parse("service.shop.server.a.address = \"10.0.0.1:1\"\n"));
        assert_eq!(
            json["services"][0],
            json!({ "name": "shop", "hosts": [], "servers": ["a"], "routes": [] })
        );
        assert_eq!(json["listen"]["admin"], "127.0.0.1:9900");
    }

    #[test]
    fn a_servers_socket_that_is_not_there_or_no_socket_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let _listener = std::os::unix::net::UnixListener::bind(path("good")).unwrap();
        std::fs::write(path("file"), "").unwrap();
        let servers = ["good", "file", "gone"]
            .map(|name| format!("service.shop.server.{name}.address = \"unix:{}\"\n", path(name)));
        let config = parse(&servers.concat());
        let text = for_people("m.toml", &config);
        let warned: Vec<&str> = text.lines().filter(|line| line.starts_with("warning ")).collect();
        let [file, gone] = &warned[..] else { panic!("{text}") };
        assert!(file.contains("shop/file: ") && file.contains("is no socket"), "{file}");
        assert!(gone.contains("shop/gone: ") && gone.contains("does not exist; start the server"), "{gone}");
        assert_eq!(for_programs("m.toml", &config)["warnings"].as_array().map(Vec::len), Some(2));
    }
}
