//! The command line: one file a subcommand.

mod ack;
mod admin;
mod args;
mod ask;
mod backup;
mod backup_worker;
mod change;
mod check;
mod check_config;
mod config_reference;
mod demo;
mod deploy;
mod drill;
mod dump;
mod freeze;
mod heartbeat;
mod init;
mod maintenance;
mod paint;
mod proposals;
mod replay;
mod report;
mod rollback;
mod routes;
mod run;
mod sample_shop;
mod status;
mod switch;
mod table;
mod take_over;
mod test_alert;
mod upgrade;
mod why;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use args::{DemoArgs, RunArgs};

use crate::config::Mistakes;
use crate::exit_code::Exit;

const EXAMPLES: &str = "\
Examples:
  mainstay demo                                      see it work, on this machine, in a minute
  mainstay run --server http://127.0.0.1:3000 --server http://127.0.0.1:3001
  mainstay init                                      write a config from a few answers
  mainstay check-config                              every mistake in it at once
  mainstay run -c mainstay.toml
  mainstay status                                    what is up, what is not
  mainstay why shop/app-1                            and why
  mainstay drain shop/app-1 --wait 5m                let it finish, before you work on it
  mainstay ack 12                                    take an incident on
  mainstay heartbeat backup-job                      where a job pings, and how
  mainstay change \"deployed v42\" --service shop      so that incidents name it
  mainstay test-alert                                does every way of telling people work?
  mainstay report 12                                 an incident, for the post-mortem
  mainstay backup list                               what could be restored
  mainstay check shop.example.com                    is it only me?
  mainstay deploy shop /srv/shop/42 --wait           a new release, promoted if it is not worse
  mainstay drill shop kill                           does it all work? break one server and see
  mainstay upgrade                                   a new Mainstay, without a lost connection

Exit status: 0 done, 1 could not be done, 2 the command line or the config has mistakes;
`check` has more, by who is at fault (mainstay check --help).";

/// Stands in front of your servers: balances, notices, recovers, tells and records.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: carry traffic to the servers, watch and recover them, until SIGTERM
    Run(RunArgs),
    /// See it work: three sample servers, traffic, one of them killed, and the story as it happens
    Demo(DemoArgs),
    /// Show every mistake in a config at once
    CheckConfig(check_config::CheckConfigArgs),
    /// Write a commented config from a few answers or options
    Init(init::InitArgs),
    /// Show how the services and servers of the running Mainstay are
    Status(status::StatusArgs),
    /// Explain why a server is in the state it is in, or what became of a request
    Why(why::WhyArgs),
    /// Give a server nothing new, and let what it has under way finish
    Drain(admin::DrainArgs),
    /// Open a window in which nobody is told of what is expected to be down; or take one server out of service
    Maintenance(maintenance::MaintenanceArgs),
    /// Make a fault at one server on purpose, and measure what comes of it
    Drill(drill::DrillArgs),
    /// Keep Mainstay from doing anything by itself but routing, for a while
    Freeze(freeze::FreezeArgs),
    /// End a freeze
    Thaw(freeze::ThawArgs),
    /// Show what Mainstay would do if it might, and what became of it
    Proposals(proposals::ProposalsArgs),
    /// Have Mainstay do what it proposes
    Approve(proposals::DecideArgs),
    /// Have Mainstay leave what it proposes
    Decline(proposals::DecideArgs),
    /// Show what the threads of a server are at, now
    Dump(dump::DumpArgs),
    /// Give a server traffic again
    Ready(admin::ReadyArgs),
    /// Show where jobs ping, and what to write into them
    Heartbeat(heartbeat::HeartbeatArgs),
    /// Take an incident on, so that nobody else is told
    Ack(ack::AckArgs),
    /// Tell of a change, so that incidents name it; without words, list the last ones
    Change(change::ChangeArgs),
    /// Send a marked message over each configured way of telling people
    TestAlert(test_alert::TestAlertArgs),
    /// Write what is known of an incident: timeline, times, impact, evidence
    Report(report::ReportArgs),
    /// Try another config on an incident, or on all that is kept of the time before now
    Replay(replay::ReplayArgs),
    /// Make, list, restore and try out backups
    Backup(backup::BackupArgs),
    /// Make or try out one backup, as a process of its own
    #[command(hide = true)]
    BackupWorker(backup_worker::BackupWorkerArgs),
    /// Is it only me? Check a page layer by layer from here, and say who is at fault
    Check(check::CheckArgs),
    /// Try a new release of a service beside its servers: promoted if it is not worse, else taken back
    Deploy(deploy::DeployArgs),
    /// End a deploy, or go back to the release before
    Rollback(rollback::RollbackArgs),
    /// Run the `switch` command of a service, or the one for the way back
    Switch(switch::SwitchArgs),
    /// Put another Mainstay in the place of the running one without losing a connection
    Upgrade(upgrade::UpgradeArgs),
    /// Print the reference of the config
    #[command(hide = true)]
    ConfigReference(config_reference::ConfigReferenceArgs),
    /// Serve as one of the demo's sample servers
    #[command(hide = true)]
    SampleShop(sample_shop::SampleShopArgs),
}

/// Parses the command line and runs the subcommand.
pub fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::run(args),
        Command::CheckConfig(args) => check_config::run(args),
        Command::Init(args) => init::run(args),
        Command::Status(args) => status::run(args),
        Command::Why(args) => why::run(args),
        Command::Drain(args) => admin::drain(args),
        Command::Maintenance(args) => maintenance::run(args),
        Command::Drill(args) => drill::run(args),
        Command::Freeze(args) => freeze::freeze(args),
        Command::Thaw(args) => freeze::thaw(args),
        Command::Proposals(args) => proposals::list(args),
        Command::Approve(args) => proposals::decide(args, true),
        Command::Decline(args) => proposals::decide(args, false),
        Command::Dump(args) => dump::run(args),
        Command::Ready(args) => admin::ready(args),
        Command::Heartbeat(args) => heartbeat::run(args),
        Command::Ack(args) => ack::run(args),
        Command::Change(args) => change::run(args),
        Command::TestAlert(args) => test_alert::run(args),
        Command::Report(args) => report::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Backup(args) => backup::run(args),
        Command::BackupWorker(args) => backup_worker::run(args),
        Command::Check(args) => check::run(args),
        Command::Deploy(args) => deploy::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Switch(args) => switch::run(args),
        Command::Upgrade(args) => upgrade::run(args),
        Command::ConfigReference(args) => config_reference::run(args),
        Command::SampleShop(args) => sample_shop::run(args),
    };
    result.unwrap_or_else(|error| explain(&error)).into()
}

/// Tells a person why it could not be done.
fn explain(error: &anyhow::Error) -> Exit {
    // Standard error may be closed; there is nobody left to tell then.
    let mut out = std::io::stderr().lock();
    if let Some(mistakes) = error.downcast_ref::<Mistakes>() {
        let _ = writeln!(out, "{mistakes}\n\n{}", paint::counted(mistakes.count() as u64, "mistake"));
        return Exit::Usage;
    }
    let _ = writeln!(out, "mainstay: {}", with_causes(error));
    Exit::Failed
}

/// The error and what caused it, without what it says itself already.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Prints a result. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_visible_subcommand_shows_an_example() {
        for command in CommandLine::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("mainstay "), "{}: {help}", command.get_name());
        }
    }

    #[test]
    fn an_error_says_nothing_twice() {
        let cause = std::io::Error::other("in use");
        let error = anyhow::Error::new(cause).context("listen.http: in use; stop it").context("starting");
        assert_eq!(with_causes(&error), "starting: listen.http: in use; stop it");
    }

    #[test]
    fn a_config_and_servers_exclude_each_other() {
        let parse = |line: &str| CommandLine::try_parse_from(line.split(' '));
        assert!(parse("mainstay run -c a.toml --server http://127.0.0.1:1").is_err());
        assert!(
            parse("mainstay run --server http://127.0.0.1:1 --listen 127.0.0.1:0 --admin 127.0.0.1:0")
                .is_ok()
        );
    }
}
