//! `mainstay init`: writes a commented config from options, or from a few answers on a terminal. What it writes is checked
//! before it is written, so that it passes `check-config`.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::config::{self, DEFAULT_ADMIN, DEFAULT_HTTP};
use crate::exit_code::Exit;

/// Options of `mainstay init`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Without options it asks, if it runs on a terminal. It never overwrites a file unless --force says so.

Examples:
  mainstay init
  mainstay init --server http://10.0.0.11:3000 --server http://10.0.0.12:3000 --host shop.example.com
  mainstay init --email ops@example.com --smtp smtps://user@smtp.example.com
  mainstay init --server http://127.0.0.1:3000 -o - | less

Exit status: 0 written, 1 it could not be, 2 the options do not make a config.")]
pub struct InitArgs {
    /// What visitors reach, by a name of your own [default: shop]
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// A server; may be given several times [default: http://127.0.0.1:3000]
    #[arg(long, value_name = "URL")]
    server: Vec<String>,
    /// A host name that leads to the service; may be given several times [default: every host]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Where to serve visitors [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Whom to tell of incidents; may be given several times
    #[arg(long, value_name = "ADDRESS", requires = "smtp")]
    email: Vec<String>,
    /// The mail server to tell them by: smtps://user@smtp.example.com
    #[arg(long, value_name = "URL", requires = "email")]
    smtp: Option<String>,
    /// The file to write; - is standard output
    #[arg(short, long, value_name = "PATH", default_value = "mainstay.toml")]
    output: PathBuf,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// When the file is there already or cannot be written, or the answers do not make a config.
pub fn run(mut args: InitArgs) -> anyhow::Result<Exit> {
    let to_stdout = args.output == Path::new("-");
    // Say so before ten questions, not after.
    if !to_stdout && !args.force && args.output.exists() {
        bail!("{} is there already; --force overwrites it, -o PATH writes another", args.output.display());
    }
    if nothing_was_given(&args) && std::io::stdin().is_terminal() {
        ask(&mut args, &mut std::io::stdin().lock(), &mut std::io::stderr())?;
    }
    let text = compose(&args)?;
    config::parse(&text, "what was given", Path::new("/"), &stand_in)?;
    if to_stdout {
        super::print(&text)?;
    } else {
        write(&args, &text)?;
        super::print(&next_steps(&args))?;
    }
    Ok(Exit::Ok)
}

fn nothing_was_given(args: &InitArgs) -> bool {
    let asked_for = InitArgs { output: PathBuf::new(), force: false, ..args.clone() };
    let empty = asked_for.server.is_empty() && asked_for.host.is_empty() && asked_for.email.is_empty();
    empty && asked_for.service.is_none() && asked_for.listen.is_none()
}

/// The secrets that the new config names are not set yet.
fn stand_in(name: &str) -> Option<String> {
    std::env::var(name).ok().or_else(|| (name == SMTP_PASSWORD).then(|| "not known yet".to_owned()))
}

const SMTP_PASSWORD: &str = "SMTP_PASSWORD";

fn write(args: &InitArgs, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    // Without --force also a file that appeared since we looked is left alone.
    options.write(true).truncate(true).create(args.force).create_new(!args.force);
    let written = options.open(&args.output).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", args.output.display()))
}

fn next_steps(args: &InitArgs) -> String {
    let file = args.output.display();
    let mut text = format!("wrote {file}\n\nnext:\n");
    if wants_password(args) {
        text.push_str(&format!("  export {SMTP_PASSWORD}=…        the mail server's password\n"));
    }
    text.push_str(&format!("  mainstay check-config -c {file}\n  mainstay run -c {file}\n"));
    text
}

fn wants_password(args: &InitArgs) -> bool {
    args.smtp.as_ref().is_some_and(|url| url.contains('@'))
}

/// Asks for what makes a config. Each question has a default; an answer that is none is asked again.
fn ask(args: &mut InitArgs, from: &mut dyn BufRead, to: &mut dyn Write) -> anyhow::Result<()> {
    let fine = |_: &str| Ok(());
    writeln!(to, "A config in five questions; Enter takes what stands in brackets.\n")?;
    let servers = question("Servers, separated by spaces", "http://127.0.0.1:3000", from, to, |answer| {
        answer.split_whitespace().try_for_each(|url| config::server_address(url).map(drop))
    })?;
    args.server = servers.split_whitespace().map(str::to_owned).collect();
    args.service = Some(question("A name for what they serve", "shop", from, to, fine)?);
    let hosts = question("Host names that visitors use, separated by spaces", "every host", from, to, fine)?;
    if hosts != "every host" {
        args.host = hosts.split_whitespace().map(str::to_owned).collect();
    }
    let listen = question("Serve visitors on", &DEFAULT_HTTP.to_string(), from, to, |answer| {
        let address: Result<SocketAddr, _> = answer.parse();
        address.map(drop).map_err(|_| "write an address and a port, 0.0.0.0:80".to_owned())
    })?;
    args.listen = listen.parse().ok();
    let email = question("Mail address to tell of incidents", "nobody", from, to, fine)?;
    if email != "nobody" {
        args.email = vec![email];
        args.smtp = Some(question("Mail server", "smtp://127.0.0.1:25", from, to, fine)?);
    }
    Ok(())
}

fn question(
    text: &str,
    default: &str,
    from: &mut dyn BufRead,
    to: &mut dyn Write,
    check: impl Fn(&str) -> Result<(), String>,
) -> anyhow::Result<String> {
    loop {
        write!(to, "{text} [{default}]: ")?;
        to.flush()?;
        let mut answer = String::new();
        if from.read_line(&mut answer)? == 0 {
            bail!("the answers ended early; nothing was written");
        }
        let answer = if answer.trim().is_empty() { default } else { answer.trim() };
        match check(answer) {
            Ok(()) => return Ok(answer.to_owned()),
            Err(why) => writeln!(to, "  {why}")?,
        }
    }
}

/// How names would follow the service, for who wants that.
fn dns(service: &str) -> String {
    format!(
        "
# Names that lead only to addresses that answer: list the addresses in `front` of [service.{service}], then let Mainstay
# answer the zone (docs/dns.md):
# [service.{service}] front = [\"192.0.2.10\", \"198.51.100.10\"]
# [listen] dns = \"192.0.2.10:53\"
# [zone.\"example.com\"]
# file = \"example.com.zone\"
# live = {{ {service} = {quoted} }}
",
        service = key(service),
        quoted = quoted(service),
    )
}

/// The config as text.
fn compose(args: &InitArgs) -> anyhow::Result<String> {
    let service = args.service.as_deref().unwrap_or("shop");
    let listen = args.listen.unwrap_or(DEFAULT_HTTP);
    let default_server = ["http://127.0.0.1:3000".to_owned()];
    let servers = if args.server.is_empty() { &default_server[..] } else { &args.server };
    let hosts = match args.host.is_empty() {
        true => "# hosts = [\"shop.example.com\"]       # without it: every host".to_owned(),
        false => format!("hosts = {}", list(&args.host)),
    };
    let mut text = format!(
        "\
# Mainstay's config. Every key, its default and its meaning: docs/config-reference.md
# Check it: mainstay check-config      Apply it: save it, or send SIGHUP

# data = \"/var/lib/mainstay\"          # where the record is kept

[listen]
http = {http}
admin = {admin}            # dashboard, API, metrics; another address than loopback needs [admin]

# [admin]
# token = {{ env = \"MAINSTAY_TOKEN\" }}             # for programs
# password = {{ file = \"/etc/mainstay/password\" }} # for people

[service.{service}]
{hosts}
# balance = \"least-latency\"           # or \"least-requests\", \"round-robin\", \"random\", \"hash\"
# sticky = {{ cookie = \"shop-server\" }}  # visitors keep to their server: docs/routing.md
# redirect-https = true
# response-headers.set.Strict-Transport-Security = \"max-age=31536000\"
# health = {{ http = \"/healthz\", interval = \"1s\", timeout = \"800ms\" }}   # without http: is the port open?
# value = {{ per-hour = 1200, currency = \"EUR\" }}   # incidents then say about what they cost
# limits = {{ per-address = \"50/s\", concurrent = 200 }}   # floods and overload: docs/limits.md
# priority = [{{ path = \"/checkout\", level = \"high\" }}]  # who goes first when there is no room for all
",
        http = quoted(&listen.to_string()),
        admin = quoted(&DEFAULT_ADMIN.to_string()),
        service = key(service),
    );
    for (index, server) in servers.iter().enumerate() {
        let (address, tls) =
            config::server_address(server).map_err(|why| anyhow::anyhow!("--server {server}: {why}"))?;
        text.push_str(&format!(
            "\n[service.{}.server.app-{}]\naddress = {}\n",
            key(service),
            index + 1,
            quoted(&format!("{}{address}", if tls { "https://" } else { "" }))
        ));
    }
    text.push_str(&format!(
        "
# A server that Mainstay starts, watches and restarts itself:
# [service.{service}.server.own]
# command = [\"./shop\", \"--port\", \"{{port}}\"]
# As many instances of it as are needed (docs/scaling.md):
# [service.{service}.scale]
# max = 4
# concurrency = 50
# New releases of it, tried on a share of the requests first (docs/releases.md); its command then begins with {{release}}:
# [service.{service}.deploy]
# release = \"/srv/shop/1\"

# A server for the time when the others do not serve:
# [service.{service}.server.spare]
# address = \"10.0.1.11:3000\"
# role = \"backup\"
# Your own command for what Mainstay cannot switch itself (docs/backup-systems.md):
# [service.{service}.switch]
# command = [\"/usr/local/bin/promote-standby\"]
# after = \"5s\"

# A part of its requests that is treated in its own way, by path, method or header (docs/routing.md):
# [[service.{service}.route]]
# path = \"/api\"
# rewrite = \"/\"                      # servers get /items for /api/items
# timeouts.request = \"10s\"

# A public status page on the visitors' own ports; docs/status-page.md:
# [status]
# path = \"/status\"                   # and/or host = \"status.example.com\"
# title = \"Status of the shop\"
# [status.component.{service}]
# name = \"Shop\"
",
        service = key(service),
    ));
    text.push_str(&dns(service));
    text.push_str(&alerts(args));
    text.push_str(MACHINE);
    text.push_str(BACKUPS);
    Ok(text)
}

/// The machine is watched without being asked for.
const MACHINE: &str = "
# The machine that Mainstay runs on is watched: an overload or a disk that fills is told of.
# [host]
# disks = [\"/srv\"]                    # beside those of / and of the data directory
# disk-full = \"90%\"
# watch = false
";

const BACKUPS: &str = "
# What is backed up, encrypted, and tried out by restoring it (docs/backups.md):
# [backup.nightly]
# repository = \"/mnt/backups/shop\"
# password = { file = \"/etc/mainstay/backup-password\" }
# folders = [\"/srv/shop/uploads\"]
# sqlite = [\"/srv/shop/shop.db\"]
# at = \"03:15\"
";

fn alerts(args: &InitArgs) -> String {
    let Some(smtp) = &args.smtp else {
        return "
# Nobody is told of incidents yet:
# [alert.email]
# smtp = \"smtps://user@smtp.example.com\"
# password = { env = \"SMTP_PASSWORD\" }
# from = \"mainstay@example.com\"
# [on-call.web]
# tell = [{ email = \"ops@example.com\" }, { sms = \"+491701234567\", after = \"5m\" }]
"
        .to_owned()
            + SMS_EXAMPLE;
    };
    let domain =
        args.email.first().and_then(|email| email.rsplit_once('@')).map_or("localhost", |(_, domain)| domain);
    let password = match wants_password(args) {
        true => format!("password = {{ env = {} }}\n", quoted(SMTP_PASSWORD)),
        false => String::new(),
    };
    let people: Vec<String> =
        args.email.iter().map(|email| format!("{{ email = {} }}", quoted(email))).collect();
    format!(
        "\n[alert.email]\nsmtp = {}\n{password}from = {}\n\n[on-call.web]\ntell = [{}]\n{SMS_EXAMPLE}",
        quoted(smtp),
        quoted(&format!("mainstay@{}", domain.trim_end_matches('>'))),
        people.join(", "),
    )
}

/// Whom to wake when nobody takes an incident on.
const SMS_EXAMPLE: &str = "
# To wake somebody when nobody has taken an incident on in time, add to `tell`:
#   { name = \"Ada\", sms = \"+491701234567\", after = \"5m\" }
# and say who sends text messages, and where people reach the dashboard (docs/alerts.md):
# [alert]
# dashboard = \"https://ops.example.com\"
# [alert.sms]
# twilio = { account = \"AC…\", token = { env = \"TWILIO_TOKEN\" }, from = \"+15005550006\" }
";

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A TOML key; a name that is no name of ours is quoted, and refused by the check.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &InitArgs) -> Result<config::Config, String> {
        let text = compose(args).map_err(|error| error.to_string())?;
        let env = |name: &str| matches!(name, SMTP_PASSWORD | "HOME").then(|| "/secret".to_owned());
        config::parse(&text, "m.toml", Path::new("/"), &env).map_err(|mistakes| format!("{mistakes}\n{text}"))
    }

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn whatever_is_chosen_the_config_passes_the_check() {
        let servers = [
            vec![],
            strings(&["http://10.0.0.1"]),
            strings(&["http://[::1]:3000/", "app-2:80", "http://app-3:1"]),
        ];
        let hosts = [vec![], strings(&["shop.example.com", "www.shop.example.com"]), strings(&["*"])];
        let mails = [
            (vec![], None),
            (strings(&["ops@example.com"]), Some("smtp://127.0.0.1:25")),
            (strings(&["Ops <ops@example.com>", "b@example.com"]), Some("smtps://user@smtp.example.com")),
        ];
        let mut checked = 0;
        for server in &servers {
            for host in &hosts {
                for (email, smtp) in &mails {
                    for service in [None, Some("api.v2")] {
                        for listen in [None, Some("[::]:80")] {
                            let args = InitArgs {
                                service: service.map(str::to_owned),
                                server: server.clone(),
                                host: host.clone(),
                                listen: listen.map(|listen: &str| listen.parse().unwrap()),
                                email: email.clone(),
                                smtp: smtp.map(str::to_owned),
                                ..InitArgs::default()
                            };
                            let config = check(&args).unwrap();
                            assert_eq!(config.addresses.len(), server.len().max(1));
                            assert_eq!(config.alerts.email.is_some(), smtp.is_some());
                            checked += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(checked, 108);
    }

    const EXAMPLES: [&str; 5] = ["server.own", "scale", "deploy", "server.spare", "switch"];

    /// The text with these examples about the shop taken out of their comments.
    fn with_examples(text: &str) -> String {
        let mut inside = false;
        let line = |line: &str| {
            let example = line.strip_prefix("# ").unwrap_or_default();
            let begins = EXAMPLES.iter().any(|name| example == format!("[service.shop.{name}]"));
            inside = begins || (inside && example.contains(" = "));
            format!("{}\n", if inside { example } else { line })
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn the_examples_about_a_service_pass_the_check_as_well() {
        let text = compose(&InitArgs::default()).unwrap();
        // As the comment beside it says.
        let text = with_examples(&text).replace("[\"./shop\"", "[\"{release}/shop\"");
        let config = config::parse(&text, "m.toml", Path::new("/"), &|_| None);
        let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        let shop = config.policy.services.values().next().unwrap();
        assert_eq!(shop.scale.as_ref().map(|scale| scale.max), Some(4));
        assert_eq!(shop.deploy.as_ref().map(|deploy| deploy.first.as_str()), Some("/srv/shop/1"));
        assert!(shop.switch.is_some() && shop.recovery.levels == Default::default());
        assert_eq!(shop.servers.len(), 3);
    }

    #[test]
    fn hostile_answers_are_refused_and_never_escape_their_quotes() {
        let evil = "a\"]\n[listen]\nadmin = \"0.0.0.0:1\"";
        for args in [
            InitArgs { service: Some(evil.to_owned()), ..InitArgs::default() },
            InitArgs { host: strings(&[evil]), ..InitArgs::default() },
            InitArgs { server: strings(&[evil]), ..InitArgs::default() },
            InitArgs { email: strings(&[evil]), smtp: Some(evil.to_owned()), ..InitArgs::default() },
        ] {
            assert!(check(&args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn answers_on_a_terminal_make_the_same_config_as_options() {
        let answers = "ftp://no\nhttp://10.0.0.1:1 http://10.0.0.2:1\napi\nx.example.com\n80\n0.0.0.0:80\nops@example.com\n\n";
        let mut args = InitArgs::default();
        let mut shown = Vec::new();
        ask(&mut args, &mut answers.as_bytes(), &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("not an HTTP address"), "{shown}");
        assert!(shown.contains("write an address and a port"), "{shown}");
        let config = check(&args).unwrap();
        assert_eq!((config.addresses.len(), config.http[0].port().unwrap_or_default()), (2, 80));
        let calls = config.policy.on_call.calls(None);
        assert_eq!(
            calls.iter().map(|call| call.to.address.as_str()).collect::<Vec<_>>(),
            ["ops@example.com"]
        );
    }

    #[test]
    fn answers_that_end_early_write_nothing() {
        let error = ask(&mut InitArgs::default(), &mut "\n".as_bytes(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("nothing was written"));
    }

    #[test]
    fn a_file_is_overwritten_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("m.toml");
        let args = InitArgs {
            server: strings(&["http://10.0.0.1:1"]),
            output: output.clone(),
            ..InitArgs::default()
        };
        assert_eq!(run(args.clone()).unwrap(), Exit::Ok);
        assert!(config::load(&output).is_ok());
        std::fs::write(&output, "mine").unwrap();
        assert!(run(args.clone()).unwrap_err().to_string().contains("--force"));
        assert!(write(&args, "x").is_err());
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine");
        assert_eq!(run(InitArgs { force: true, ..args }).unwrap(), Exit::Ok);
        assert!(config::load(&output).is_ok());
    }
}
