//! The program: parses the command line and hands over to one file a subcommand in `cli/`.

mod ack;
mod alert;
mod calendar;
mod cli;
mod config;
mod control;
mod dns;
mod dns_client;
mod docker_client;
mod engine;
mod exit_code;
mod freeze;
mod gateway;
mod handover;
mod heartbeat;
mod host;
mod journal;
mod key_file;
mod probe;
mod recovery;
mod report;
mod shutdown;
mod store;
mod systemd_unit;
mod telemetry;
mod tls;
mod web;

fn main() -> std::process::ExitCode {
    cli::main()
}
