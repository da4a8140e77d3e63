//! Real databases for the tests of probes: Debian's own, in folders of the test's, ended by their process id.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpStream;

use super::LONG;

/// A running Redis that writes nothing to disk.
pub(super) struct Redis {
    pub(super) address: SocketAddr,
    child: Child,
}

impl Redis {
    pub(super) async fn start(arguments: &[&str]) -> Self {
        let address = free_address();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
        command.args(arguments).current_dir(std::env::temp_dir()).stdout(Stdio::null());
        let child = command.spawn().expect("Debian's redis-server is installed");
        let redis = Self { address, child };
        listens(address).await;
        redis
    }

    pub(super) fn signal(&self, signal: i32) {
        send(self.child.id(), signal);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running PostgreSQL.
pub(super) struct Postgres {
    pub(super) address: SocketAddr,
    folder: PathBuf,
    server: Child,
    /// Removed with all that is in it.
    _home: tempfile::TempDir,
}

impl Postgres {
    /// With these lines in its `pg_hba.conf`, and these settings.
    pub(super) async fn start(hba: &str, settings: &[&str]) -> Self {
        let (home, folder) = home("postgres");
        let mut make = as_user("initdb");
        make.args(["-A", "trust", "-U", "postgres", "-N", "-D"]).arg(&folder).stdout(Stdio::null());
        assert!(make.status().expect("initdb runs").success());
        std::fs::write(folder.join("pg_hba.conf"), format!("local all,replication all trust\n{hba}\n"))
            .unwrap();
        Self::serve(home, folder, settings).await
    }

    /// One that follows this one.
    pub(super) async fn replica(&self) -> Self {
        let (home, folder) = home("postgres");
        let mut copy = as_user("pg_basebackup");
        copy.arg("-h").arg(&self.folder).args(["-p", &self.address.port().to_string(), "-U", "postgres"]);
        copy.args(["-R", "-N", "-c", "fast", "-D"]).arg(&folder);
        assert!(copy.status().expect("pg_basebackup runs").success());
        Self::serve(home, folder, &[]).await
    }

    async fn serve(home: tempfile::TempDir, folder: PathBuf, settings: &[&str]) -> Self {
        let address = free_address();
        let mut command = as_user("postgres");
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        settings.iter().for_each(|setting| {
            command.args(["-c", setting]);
        });
        command.args(["-p", &address.port().to_string(), "-k"]).arg(&folder).arg("-D").arg(&folder);
        let server = command.stderr(Stdio::null()).spawn().expect("postgres runs");
        let postgres = Self { address, folder, server, _home: home };
        let begun = std::time::Instant::now();
        while !postgres.does("SELECT 1") {
            assert!(begun.elapsed() < LONG, "PostgreSQL does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        postgres
    }

    /// Whether it does that, through its own socket.
    pub(super) fn does(&self, sql: &str) -> bool {
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(&self.folder).args(["-p", &self.address.port().to_string()]);
        psql.args(["-X", "-q", "-U", "postgres", "-c", sql]).stdout(Stdio::null()).stderr(Stdio::null());
        psql.status().is_ok_and(|status| status.success())
    }

    /// To the process that takes connections.
    pub(super) fn signal(&self, signal: i32) {
        send(self.server.id(), signal);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        send(self.server.id(), libc::SIGCONT);
        send(self.server.id(), libc::SIGTERM);
        let _ = self.server.wait();
    }
}

fn send(pid: u32, signal: i32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    let _ = kill(pid, Signal::try_from(signal).expect("a signal"));
}

/// Somewhere nobody listens.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn listens(address: SocketAddr) {
    let begun = std::time::Instant::now();
    while TcpStream::connect(address).await.is_err() {
        assert!(begun.elapsed() < LONG, "nobody listens at {address}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A folder that the database may use, which runs as this user.
fn home(user: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(home.path(), 0o755);
    let folder = home.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    open(&folder, 0o700);
    if nix::unistd::geteuid().is_root() {
        assert!(Command::new("chown").arg(user).arg(&folder).status().unwrap().success());
    }
    (home, folder)
}

/// One of the newest version's programs, as the user that it wants.
fn as_user(program: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Debian's postgresql is installed");
    let newest = versions.map(|version| version.unwrap().path()).max().expect("a version");
    let program = newest.join("bin").join(program);
    let mut command = Command::new(program);
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name("postgres").unwrap().expect("Debian's postgresql makes it");
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("HOME", "/");
    }
    command
}

/// A running Knot DNS with these records in `example.com`, and a zone `broken.test` that it could not load.
pub(super) struct Knot {
    pub(super) address: SocketAddr,
    child: Child,
    /// Removed with all that is in it.
    _home: tempfile::TempDir,
}

impl Knot {
    pub(super) async fn start(records: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().display();
        std::fs::create_dir(home.path().join("db")).unwrap();
        let zone =
            format!("$TTL 300\n@ SOA ns1 host 1 3600 900 1209600 60\n@ NS ns1\nns1 A 127.0.0.1\n{records}");
        std::fs::write(home.path().join("example.com.zone"), zone).unwrap();
        std::fs::write(home.path().join("broken.test.zone"), "nonsense\n").unwrap();
        let address = free_address();
        let config = format!(
            "server:\n    rundir: {dir}\n    listen: 127.0.0.1@{}\n    udp-workers: 1\n    tcp-workers: 1\n\
             \x20   background-workers: 1\ndatabase:\n    storage: {dir}/db\nzone:\n\
             \x20 - domain: example.com\n    storage: {dir}\n    file: example.com.zone\n\
             \x20 - domain: broken.test\n    storage: {dir}\n    file: broken.test.zone\n",
            address.port()
        );
        let file = home.path().join("knot.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/knotd");
        command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("Debian's knot is installed");
        let knot = Self { address, child, _home: home };
        listens(address).await;
        knot
    }

    pub(super) fn signal(&self, signal: i32) {
        send(self.child.id(), signal);
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running MariaDB, with `root` as its administrator without a password.
pub(super) struct Mariadb {
    pub(super) address: SocketAddr,
    socket: PathBuf,
    server: Child,
    /// Removed with all that is in it.
    _home: tempfile::TempDir,
}

impl Mariadb {
    /// With these options; its certificate is of `root`.
    pub(super) async fn start(root: &super::Root, options: &[&str]) -> Self {
        let (home, folder) = home("mysql");
        root.write(home.path());
        let make = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(["--innodb-log-file-size=4M", "--user=mysql"])
            // Each of them clears away what it finds in its folder for temporary files.
            .args(["datadir", "tmpdir"].map(|name| format!("--{name}={}", folder.display())))
            .output()
            .expect("Debian's mariadb-server is installed");
        assert!(make.status.success(), "{}", String::from_utf8_lossy(&make.stderr));
        let (address, socket) = (free_address(), folder.join("socket"));
        let own = |name: &str, file: &str| format!("--{name}={}", home.path().join(file).display());
        let server = Command::new("mariadbd")
            .args(["--no-defaults", "--user=mysql", "--bind-address=127.0.0.1", "--skip-name-resolve"])
            .args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=8M"])
            .args([
                own("ssl-cert", "cert.pem"),
                own("ssl-key", "key.pem"),
                own("datadir", "data"),
                own("tmpdir", "data"),
            ])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--socket={}", socket.display()))
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mariadbd runs");
        let mariadb = Self { address, socket, server, _home: home };
        let begun = std::time::Instant::now();
        while !mariadb.runs("SELECT 1") {
            assert!(begun.elapsed() < LONG, "MariaDB does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        mariadb
    }

    /// Does that, through its own socket.
    pub(super) fn does(&self, sql: &str) {
        assert!(self.runs(sql), "{sql}");
    }

    fn runs(&self, sql: &str) -> bool {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--user=root", "--execute", sql]);
        client.arg(format!("--socket={}", self.socket.display())).stdout(Stdio::null()).stderr(Stdio::null());
        client.status().is_ok_and(|status| status.success())
    }

    pub(super) fn signal(&self, signal: i32) {
        send(self.server.id(), signal);
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A server that somebody wrote in Python: it says its port first, and ends when nobody holds its input any more.
pub(super) struct Python {
    pub(super) address: SocketAddr,
    child: Child,
    /// Removed with all that is in it.
    _home: tempfile::TempDir,
}

impl Python {
    /// With the folder of a certificate of `root` as its argument.
    pub(super) fn start(script: &str, root: &super::Root) -> Self {
        Self::start_with(script, root, &[])
    }

    /// With further arguments.
    pub(super) fn start_with(script: &str, root: &super::Root, arguments: &[&str]) -> Self {
        use std::io::BufRead as _;
        let home = tempfile::tempdir().unwrap();
        root.write(home.path());
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", script]).arg(home.path()).args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Debian's python3");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().expect("its port; is the package of this peer installed?");
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), child, _home: home }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running Docker Engine without a network, with an image `box:1` of busybox.
pub(super) struct Engine {
    pub(super) socket: PathBuf,
    server: Child,
    /// Removed with all that is in it.
    _home: tempfile::TempDir,
}

impl Engine {
    pub(super) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("box/bin");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::copy("/bin/busybox", root.join("busybox")).expect("Debian's busybox-static is installed");
        for name in ["sh", "sleep"] {
            std::os::unix::fs::symlink("busybox", root.join(name)).unwrap();
        }
        let image = home.path().join("box.tar");
        let tar = Command::new("tar")
            .arg("-C")
            .arg(home.path().join("box"))
            .arg("-cf")
            .arg(&image)
            .arg(".")
            .status();
        assert!(tar.unwrap().success());
        let (socket, at) = (home.path().join("socket"), |name: &str| home.path().join(name));
        let server = Command::new("/usr/sbin/dockerd")
            .args(["--bridge=none", "--iptables=false", "--data-root"])
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's docker.io is installed");
        let engine = Self { socket, server, _home: home };
        let begun = std::time::Instant::now();
        while !engine.runs("info") {
            assert!(begun.elapsed() < LONG, "the Docker Engine does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        engine.does(&format!("import {} box:1", image.display()));
        engine
    }

    /// Does that, by its own command line.
    pub(super) fn does(&self, arguments: &str) {
        assert!(self.runs(arguments), "docker {arguments}");
    }

    fn runs(&self, arguments: &str) -> bool {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(format!("unix://{}", self.socket.display())).args(arguments.split(' '));
        docker.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for name in ["web", "gone", "ill"] {
            self.runs(&format!("rm --force {name}"));
        }
        send(self.server.id(), libc::SIGTERM);
        let _ = self.server.wait();
    }
}
