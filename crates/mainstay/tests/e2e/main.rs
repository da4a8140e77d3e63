//! The real program with real servers, a real mail server and a real browser: what a user does, and what must hold when
//! servers die. One test program, so that it is built once; `browser::` has a step of its own in `cargo xtask test`.

mod access_log;
mod alerts;
mod backups;
mod blackbox;
mod browser;
mod certificates;
mod changes;
mod check;
mod check_pages;
mod commands;
mod dns;
mod draining;
mod durability;
mod escalation;
mod failing_over;
mod harness;
mod heartbeats;
mod host;
mod hostile;
mod impact;
mod limits;
mod maintenance;
mod monitors;
mod probes;
mod protocols;
mod recovery;
mod releases;
mod requests;
mod routing;
mod scaling;
mod status_page;
mod switching;
mod tcp_services;
mod unix_sockets;
mod upgrading;
