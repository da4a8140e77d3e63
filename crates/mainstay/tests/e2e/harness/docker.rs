//! Debian's Docker Engine with folders of the test's own: no network of its own, and an image `box:1` of busybox.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::home::Home;
use super::{process, until};

/// A running Docker Engine.
pub struct Engine {
    pub socket: PathBuf,
    server: Child,
}

impl Engine {
    pub async fn start(home: &Home) -> Self {
        let at = |name: &str| home.path().join("docker").join(name);
        let root = at("box");
        for folder in ["bin", "www"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("Debian's busybox-static is installed");
        for name in ["sh", "echo", "httpd"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&root).arg("-cf").arg(at("box.tar")).arg(".");
        assert!(tar.status().expect("tar runs").success());
        let socket = at("socket");
        let mut dockerd = Command::new("/usr/sbin/dockerd");
        dockerd.args(["--bridge=none", "--iptables=false", "--data-root"]).arg(at("data"));
        dockerd.arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
        dockerd.arg("--host").arg(format!("unix://{}", socket.display()));
        let log = std::fs::File::create(at("log")).expect("a file");
        let server = dockerd.stdout(Stdio::null()).stderr(log).spawn();
        let server = server.expect("Debian's docker.io is installed");
        let engine = Self { socket, server };
        until("the Docker Engine answers", async || engine.runs(&["info"]).then_some(())).await;
        let image = at("box.tar");
        engine.does(&["import", image.to_str().expect("UTF-8"), "box:1"]);
        engine
    }

    /// Runs a container that serves `/healthz` at this address, and ignores SIGTERM as every first process does.
    pub fn serve(&self, name: &str, address: std::net::SocketAddr) {
        let script = format!("echo {name} opens; echo ok > /www/healthz; exec httpd -f -p {address} -h /www");
        self.does(&["run", "-d", "--network", "host", "--name", name, "box:1", "sh", "-c", &script]);
    }

    /// Does that, by its own command line.
    pub fn does(&self, arguments: &[&str]) {
        assert!(self.runs(arguments), "docker {}", arguments.join(" "));
    }

    /// When a container was last started.
    pub fn started_at(&self, name: &str) -> String {
        let mut docker = self.docker(&["inspect", "--format", "{{.State.StartedAt}}", name]);
        String::from_utf8(docker.output().expect("docker runs").stdout).expect("UTF-8").trim().to_owned()
    }

    /// Containers that this filter lets through, whatever they do.
    pub fn ids(&self, filter: &str) -> Vec<String> {
        let mut docker = self.docker(&["ps", "--all", "--quiet", "--filter", filter]);
        let output = docker.output().expect("docker runs").stdout;
        String::from_utf8(output).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    /// Sends the Engine itself a signal.
    pub fn signal(&self, signal: i32) {
        process::signal(self.server.id(), signal);
    }

    fn runs(&self, arguments: &[&str]) -> bool {
        let mut docker = self.docker(arguments);
        docker.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// It leaves the namespace of its containers' network mounted when it ends, which would keep the folder from being removed.
    fn unmount(&self) {
        let below = self.socket.parent().expect("a folder");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(std::path::Path::new);
        for target in targets.filter(|target| target.starts_with(below)) {
            // umount2 with MNT_DETACH: it is gone from here at once, whoever still uses it.
            let _ = Command::new("umount").arg("--lazy").arg(target).status();
        }
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(format!("unix://{}", self.socket.display())).args(arguments);
        docker
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A test that failed may have left it stopped.
        process::signal(self.server.id(), libc::SIGCONT);
        for id in self.ids("status=running").iter().chain(&self.ids("status=exited")) {
            self.runs(&["rm", "--force", id]);
        }
        process::signal(self.server.id(), libc::SIGTERM);
        let _ = self.server.wait();
        self.unmount();
    }
}
