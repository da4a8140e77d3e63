//! How a server that Mainstay does not start itself is restarted, as written.

use crate::config::read::{List, Span, Text, TextOr, table};

table! {
    /// How Mainstay restarts a server that it does not start itself, when its probes say that it is down: one of `systemd`, `docker`
    /// and `command`. Within the budget and the guards of the service's `recovery`.
    RawRestart {
        /// Restart this unit of systemd: `"shop.service"`. `{server}` and the like stand in it as in `command`.
        systemd: Text,
        /// How systemd is spoken to: `["sudo", "-n", "systemctl"]`. Only with `systemd`.
        #[schemars(extend("default" = ["systemctl"]))]
        systemctl: List<Text>,
        /// Restart this container through the Docker Engine: `"shop-1"`. `{server}` and the like stand in it as in `command`.
        docker: Text,
        /// The Engine's Unix socket, there where it runs. Only with `docker`.
        #[schemars(extend("default" = "/run/docker.sock"))]
        socket: Text,
        /// Run this program, with its arguments: `["/usr/local/bin/bounce", "{server}"]`. `{server}`, `{service}`, `{host}` and
        /// `{port}` stand for the server. No shell runs it; it gets what is known as JSON on its standard input. Exit code 0 is a restart.
        command: List<Text>,
        /// Do it there, by ssh: `"ssh://deploy@10.0.0.11"`. A table: with more than that. Without it: on this machine.
        over: TextOr<RawOver>,
        /// It is given up after so long, and what runs here is killed.
        #[schemars(extend("default" = "60s"))]
        deadline: Span,
    }
}

table! {
    /// Another machine, by ssh.
    RawOver {
        /// `ssh://deploy@10.0.0.11`, or with a port, `ssh://deploy@10.0.0.11:2222`. Needed.
        to: Text,
        /// The private key's file. By default what the user that Mainstay runs as has in `~/.ssh`.
        key: Text,
        /// The file with the host keys that are trusted. By default those of the user that Mainstay runs as, and the system's.
        known_hosts: Text,
    }
}
