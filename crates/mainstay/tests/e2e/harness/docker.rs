//! Debian's Docker Engine with folders of the test's own: no network of its own, and an image `box:1` of busybox.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::home::Home;
use super::{process, until};

/// A running Docker Engine.
pub struct Engine {
    pub socket: PathBuf,
    server: Child,
    containers: Vec<String>,
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
        let engine = Self { socket, server, containers: Vec::new() };
        until("the Docker Engine answers", async || engine.runs(&["info"]).then_some(())).await;
        let image = at("box.tar");
        engine.does(&["import", image.to_str().expect("UTF-8"), "box:1"]);
        engine
    }

    /// Runs a container that serves `/healthz` at this address, and ignores SIGTERM as every first process does.
    pub fn serve(&mut self, name: &str, address: std::net::SocketAddr) {
        let script = format!("echo {name} opens; echo ok > /www/healthz; exec httpd -f -p {address} -h /www");
        self.containers.push(name.to_owned());
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

    fn runs(&self, arguments: &[&str]) -> bool {
        let mut docker = self.docker(arguments);
        docker.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(format!("unix://{}", self.socket.display())).args(arguments);
        docker
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for name in &self.containers {
            self.runs(&["rm", "--force", name]);
        }
        process::signal(self.server.id(), libc::SIGTERM);
        let _ = self.server.wait();
    }
}
