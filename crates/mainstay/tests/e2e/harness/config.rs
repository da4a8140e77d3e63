//! Configs for tests: one service named `shop`, on ports that the kernel chooses, with short times where a test would
//! only wait.

use std::fmt::Write;

use super::home::Home;

/// A config in the making.
#[derive(Clone)]
pub struct Config {
    /// Lines before the first table.
    pub top: String,
    /// Further lines of `[listen]`.
    pub listen: String,
    /// Lines of `[service.shop]`, instead of [`Config::QUICK`].
    pub service: String,
    servers: String,
    /// Whole tables at the end.
    pub tables: String,
    /// The machine that the tests run on is busy with them, which is no news; a test of the machine itself watches it.
    pub host: String,
}

impl Config {
    /// Probes each second as by default, but an incident is closed soon and a returning server is soon at its full share.
    pub const QUICK: &str = "health = { http = \"/healthz\", interval = \"1s\", timeout = \"800ms\", rise = 2, fall = 2 }\n\
                             slow-start = \"2s\"\nresolve-after = \"2s\"\n";

    pub fn new() -> Self {
        Self {
            top: "drain = \"10s\"\n".into(),
            listen: String::new(),
            service: Self::QUICK.into(),
            servers: String::new(),
            tables: String::new(),
            host: "watch = false\n".into(),
        }
    }

    /// A server that somebody else runs.
    pub fn external(mut self, name: &str, address: impl std::fmt::Display) -> Self {
        let _ = writeln!(self.servers, "[service.shop.server.{name}]\naddress = \"{address}\"\n");
        self
    }

    /// A sample shop that Mainstay starts itself.
    pub fn supervised(self, name: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_mainstay");
        self.command(name, &[program, "sample-shop", "--port", "{port}", "--name", name])
    }

    /// Any program that Mainstay starts itself.
    pub fn command(mut self, name: &str, argv: &[&str]) -> Self {
        let _ = writeln!(
            self.servers,
            "[service.shop.server.{name}]\ncommand = {argv:?}\nstop-timeout = \"5s\"\n"
        );
        self
    }

    /// A server's further lines, after the server was added.
    pub fn server_lines(mut self, lines: &str) -> Self {
        self.servers.truncate(self.servers.trim_end().len());
        let _ = write!(self.servers, "\n{lines}\n\n");
        self
    }

    /// Further lines of `[service.shop]`.
    pub fn service_lines(mut self, lines: &str) -> Self {
        let _ = writeln!(self.service, "{lines}");
        self
    }

    /// Whole tables at the end.
    pub fn table(mut self, text: &str) -> Self {
        let _ = writeln!(self.tables, "{text}\n");
        self
    }

    /// Mail to ops@example.com through a server on loopback without TLS.
    pub fn mail_to(self, smtp: std::net::SocketAddr) -> Self {
        self.table(&format!(
            "[alert.email]\nsmtp = \"smtp://{smtp}\"\nfrom = \"mainstay@example.com\"\n\n\
             [on-call.web]\ntell = [{{ email = \"ops@example.com\" }}]"
        ))
    }

    /// The whole text.
    pub fn text(&self, home: &Home) -> String {
        format!(
            "data = {data:?}\nworkers = 2\n{top}\n[listen]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{listen}\n\
             [host]\n{host}\n\n\
             [service.shop]\n{service}\n{servers}\n{tables}",
            data = home.data(),
            top = self.top,
            listen = self.listen,
            service = self.service,
            servers = self.servers,
            tables = self.tables,
            host = self.host,
        )
    }
}

#[test]
fn a_config_has_its_tables_in_the_order_that_toml_needs() {
    let home = Home::new();
    let config = Config::new()
        .external("a", "127.0.0.1:1")
        .server_lines("role = \"backup\"")
        .supervised("b")
        .mail_to("127.0.0.1:25".parse().expect("an address"));
    let text = config.text(&home);
    let parsed: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let servers = &parsed["service"]["shop"]["server"];
    assert_eq!(servers["a"]["role"].as_str(), Some("backup"));
    assert_eq!(servers["b"]["command"][1].as_str(), Some("sample-shop"));
    assert_eq!(parsed["alert"]["email"]["smtp"].as_str(), Some("smtp://127.0.0.1:25"));
}
