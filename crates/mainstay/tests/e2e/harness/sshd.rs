//! Debian's sshd on loopback, with a host key, a port and keys of the test's own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::home::Home;
use super::{free_address, process, until};

/// A running sshd that lets the test's own user in by one key.
pub struct Sshd {
    port: u16,
    user: String,
    folder: PathBuf,
    server: Child,
}

impl Sshd {
    pub async fn start(home: &Home) -> Self {
        let folder = home.path().join("sshd");
        std::fs::create_dir(&folder).expect("a folder");
        for name in ["host", "client", "stranger"] {
            make_key(&folder.join(name));
        }
        std::fs::copy(folder.join("client.pub"), folder.join("authorized")).expect("a copy");
        let port = free_address().port();
        let host = std::fs::read_to_string(folder.join("host.pub")).expect("a public key");
        known(&folder.join("known"), port, &host);
        let stranger = std::fs::read_to_string(folder.join("stranger.pub")).expect("a public key");
        known(&folder.join("known-otherwise"), port, &stranger);
        std::fs::write(folder.join("known-to-nobody"), "").expect("a file");
        // What is run there is found again by the test's mark.
        let (name, value) = home.mark();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             SetEnv {name}={value}\n",
            at = folder.display()
        );
        std::fs::write(folder.join("config"), text).expect("a file");
        // Debian's service makes it; who is not root needs none.
        let _ = std::fs::create_dir_all("/run/sshd");
        let log = std::fs::File::create(folder.join("log")).expect("a file");
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.arg("-D").arg("-e").arg("-f").arg(folder.join("config"));
        let server = sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let server = server.expect("Debian's openssh-server is installed");
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().expect("a user").name;
        let sshd = Self { port, user, folder, server };
        until("sshd answers", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        sshd
    }

    /// `over = …` by which Mainstay gets in.
    pub fn over(&self) -> String {
        self.over_with("client", "known")
    }

    /// The same with another key or other host keys: `client`, `stranger`; `known`, `known-otherwise`, `known-to-nobody`.
    pub fn over_with(&self, key: &str, known: &str) -> String {
        let at = self.folder.display();
        format!(
            "over = {{ to = \"ssh://{}@127.0.0.1:{}\", key = \"{at}/{key}\", known-hosts = \"{at}/{known}\" }}",
            self.user, self.port
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        process::signal(self.server.id(), libc::SIGTERM);
        let _ = self.server.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            eprintln!("--- sshd's log:\n{log}---");
        }
    }
}

fn make_key(path: &Path) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path);
    assert!(keygen.status().expect("ssh-keygen runs").success());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
}

fn known(path: &Path, port: u16, key: &str) {
    std::fs::write(path, format!("[127.0.0.1]:{port} {key}")).expect("a file");
}
