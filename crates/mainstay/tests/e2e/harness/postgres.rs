//! Debian's PostgreSQL with folders of the test's own, as another user when the test is root.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::home::Home;
use super::program::{Ran, ran};
use super::{free_address, process, until};

/// A running database server.
pub struct Postgres {
    address: SocketAddr,
    folder: PathBuf,
    server: Child,
}

impl Postgres {
    /// A new, empty one.
    pub async fn start(home: &Home) -> Self {
        let folder = folder(home, "postgres");
        let mut make = as_user("initdb");
        make.args(["-A", "trust", "-U", "postgres", "-N", "-D"]).arg(&folder);
        assert!(make.stdout(Stdio::null()).status().expect("initdb runs").success());
        Self::serve(folder).await
    }

    /// One that follows this one and can be read from.
    pub async fn replica(&self, home: &Home) -> Self {
        let folder = folder(home, "postgres-replica");
        self.copy_to(&folder);
        Self::serve(folder).await
    }

    /// Ends it as a person does who means it, with all that it has sent to its replicas.
    pub async fn stop(&mut self) {
        self.signal(libc::SIGINT);
        until("PostgreSQL has ended", async || self.server.try_wait().expect("it is our child").map(drop))
            .await;
    }

    /// Makes it a replica of another one, where it was; what it had is gone.
    pub async fn follow(&mut self, other: &Self) {
        if self.server.try_wait().expect("it is our child").is_none() {
            self.signal(libc::SIGKILL);
            let _ = self.server.wait();
        }
        let holds = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").path();
        for path in std::fs::read_dir(&self.folder).expect("its folder").map(holds) {
            let gone =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            gone.expect("it can be removed");
        }
        other.copy_to(&self.folder);
        self.server = run(self.address, &self.folder);
        self.answers().await;
    }

    fn copy_to(&self, folder: &Path) {
        let mut copy = as_user("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.address.port().to_string()]);
        copy.args(["-R", "-N", "-c", "fast", "-D"]).arg(folder);
        assert!(copy.status().expect("pg_basebackup runs").success());
    }

    async fn serve(folder: PathBuf) -> Self {
        let address = free_address();
        let server = run(address, &folder);
        let mut postgres = Self { address, folder, server };
        postgres.answers().await;
        postgres
    }

    /// Starts one that was killed again, where it was and with what it had.
    pub async fn again(&mut self) {
        let _ = self.server.wait();
        self.server = run(self.address, &self.folder);
        self.answers().await;
    }

    async fn answers(&mut self) {
        until("PostgreSQL answers", async || {
            // Processes of one that was killed may hold what it needs for a moment.
            if self.server.try_wait().expect("it is our child").is_some() {
                self.server = run(self.address, &self.folder);
            }
            self.query("SELECT 1").then_some(())
        })
        .await;
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it, as the kernel does when memory is short.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// To the process that takes connections.
    pub fn signal(&self, signal: i32) {
        process::signal(self.server.id(), signal);
    }

    /// Whether it does that.
    pub fn query(&self, sql: &str) -> bool {
        let port = self.address.port().to_string();
        let mut psql = Command::new("psql");
        psql.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-c", sql]);
        psql.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// What psql prints of the answer of whoever is at that address, without headings.
    pub async fn ask(at: SocketAddr, sql: &str) -> Ran {
        let port = at.port().to_string();
        ran("psql", ["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-c", sql])
            .await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(libc::SIGCONT);
        self.signal(libc::SIGTERM);
        let _ = self.server.wait();
    }
}

fn run(address: SocketAddr, folder: &Path) -> Child {
    let mut command = as_user("postgres");
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    command.args(["-p", &address.port().to_string(), "-k"]).arg(folder).arg("-D").arg(folder);
    command.stderr(Stdio::null()).spawn().expect("postgres runs")
}

/// A folder that the database may use.
fn folder(home: &Home, name: &str) -> PathBuf {
    let folder = home.path().join(name);
    std::fs::create_dir(&folder).expect("a folder");
    let open = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    open(home.path(), 0o755);
    open(&folder, 0o700);
    if nix::unistd::geteuid().is_root() {
        assert!(Command::new("chown").arg("postgres").arg(&folder).status().expect("chown").success());
    }
    folder
}

/// One of the newest version's programs, as the user that it wants.
fn as_user(program: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Debian's postgresql is installed");
    let newest = versions.map(|v| v.expect("a version").path()).max().expect("a version");
    let program = newest.join("bin").join(program);
    let mut command = Command::new(program);
    if nix::unistd::geteuid().is_root() {
        let user =
            nix::unistd::User::from_name("postgres").expect("users").expect("Debian's postgresql makes it");
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("HOME", "/");
    }
    command
}
