//! `mainstay check URL`: is it only me? Looks at the way to a page from this machine inwards, layer by layer, and says who is at fault and
//! what the person can do. It needs no running Mainstay and no config.

mod beyond;
mod budget;
mod connect;
mod findings;
mod http;
mod json;
mod layers;
mod lookup;
mod machine;
mod names;
mod network;
mod observed;
mod show;
mod target;
mod tls;
mod trust;
mod verdict;
mod walk;
mod warnings;

#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use self::names::OtherResolver;
use self::network::References;
use self::target::Target;
use self::trust::Trust;
use self::walk::Wishes;
use super::paint::Paint;
use crate::config::duration_from_text;
use crate::exit_code::Exit;

/// Options of `mainstay check`.
#[derive(Debug, Args)]
#[command(after_help = "\
It asks this machine's resolvers and one more, connects to every address of the host, shakes
hands, follows redirects and reads the page once. To tell a fault of the page from one of your
network it also connects to two public addresses and sends them nothing.

Examples:
  mainstay check shop.example.com
  mainstay check https://shop.example.com/basket --expect 'Your basket'
  mainstay check http://10.0.0.11:3000/healthz --timeout 5s --slow 500ms
  mainstay check https://intranet.example --ca company.pem --resolver none --reference none
  mainstay check shop.example.com --json | jq -r .verdict

Exit status, by who is at fault:
  0   nobody, nothing is wrong       12  DNS
  1   the check could not be done    13  the way there
  2   the URL or an option is wrong  14  the server
  10  this machine                   15  the application
  11  this network")]
pub struct CheckArgs {
    /// The page; without a scheme, https is meant
    #[arg(value_name = "URL")]
    url: String,
    /// How long the whole check may take, from 1s to 5m
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = timeout)]
    timeout: Duration,
    /// A first byte that takes longer is a fault of the application
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    slow: Duration,
    /// A text that must be in the page's first MiB
    #[arg(long, value_name = "TEXT")]
    expect: Option<String>,
    /// Certificates of authorities to believe besides those of browsers and of this machine (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The resolver to compare with, or `none` [default: 9.9.9.9, else 1.1.1.1]
    #[arg(long, value_name = "ADDR", value_parser = other_resolver)]
    resolver: Option<OtherResolver>,
    /// A neutral place to compare with, or `none`; may be given several times [default: 1.1.1.1:443
    /// and 9.9.9.9:443, left alone for pages of this machine or network]
    #[arg(long, value_name = "ADDR:PORT", value_parser = reference)]
    reference: Vec<Reference>,
    /// Print for a program
    #[arg(long)]
    json: bool,
}

/// One value of `--reference`.
#[derive(Debug, Clone, Copy)]
enum Reference {
    At(SocketAddr),
    None,
}

/// Runs the subcommand.
///
/// # Errors
/// When the check itself could not be done.
pub fn run(args: CheckArgs) -> anyhow::Result<Exit> {
    let (target, trust) = match (Target::parse(&args.url), Trust::load(args.ca.as_deref())) {
        (Ok(target), Ok(trust)) => (target, trust),
        (Err(error), _) => return Ok(refuse(&error)),
        (_, Err(error)) => return Ok(refuse(&error)),
    };
    let wishes = Wishes {
        target,
        timeout: args.timeout,
        slow: args.slow,
        expect: args.expect,
        references: references(&args.reference),
        other_resolver: args.resolver.unwrap_or(OtherResolver::Usual),
        trust,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(walk::look(&wishes));
    let verdict = verdict::judge(&seen);
    super::print(&match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&json::report(&seen, &verdict))?),
        false => show::render(&seen, &verdict, Paint::for_stdout()),
    })?;
    Ok(verdict.finding.fault.exit())
}

/// Says what is wrong with the command line.
fn refuse(error: &dyn std::error::Error) -> Exit {
    // Standard error may be closed; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr().lock(), "mainstay: {error}");
    Exit::Usage
}

fn references(given: &[Reference]) -> References {
    let places: Vec<SocketAddr> = given
        .iter()
        .filter_map(|reference| match reference {
            Reference::At(address) => Some(*address),
            Reference::None => None,
        })
        .collect();
    match (given.is_empty(), places.is_empty()) {
        (true, _) => References::Usual,
        (false, true) => References::None,
        (false, false) => References::These(places),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    duration_from_text(text)
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    match (Duration::from_secs(1)..=Duration::from_secs(300)).contains(&time) {
        true => Ok(time),
        false => Err("a check takes from 1s to 5m".to_owned()),
    }
}

fn reference(text: &str) -> Result<Reference, String> {
    if text == "none" {
        return Ok(Reference::None);
    }
    text.parse()
        .map(Reference::At)
        .map_err(|_| "write an address and a port, like 1.1.1.1:443, or none".to_owned())
}

fn other_resolver(text: &str) -> Result<OtherResolver, String> {
    if text == "none" {
        return Ok(OtherResolver::None);
    }
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)).or_else(|_| text.parse());
    address
        .map(OtherResolver::This)
        .map_err(|_| "write an address, like 9.9.9.9 or 10.0.0.53:5353, or none".to_owned())
}
