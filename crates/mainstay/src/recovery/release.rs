//! Is a release there, and can it be started? Looked at when it is handed in, so that a typing error is told to whoever
//! made it and never becomes a deploy.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::ServiceId;
use tokio::time::timeout;

use super::{Supervisor, lock};
use crate::config::CommandSpec;

/// A file system that takes longer hangs.
const LOOK_TAKES: Duration = Duration::from_secs(3);

impl Supervisor {
    /// What `{release}` is to stand for when `path` is handed in: the path without symbolic links, so that what is gone
    /// back to later is what was deployed now.
    ///
    /// # Errors
    /// Why it cannot be a release of this service, for a person.
    pub async fn check_release(&self, service: &ServiceId, path: &str) -> Result<String, String> {
        let commands: Vec<CommandSpec> = {
            let all = lock(&self.shared.commands);
            let mine = all.iter().filter(|(server, _)| server.service == *service);
            mine.map(|(_, spec)| spec.clone()).filter(CommandSpec::has_release).collect()
        };
        if !Path::new(path).is_absolute() {
            return Err(format!("{path} is not an absolute path"));
        }
        let wanted: Arc<str> = path.into();
        let looked = tokio::task::spawn_blocking({
            let wanted = Arc::clone(&wanted);
            move || look(&wanted, &commands)
        });
        match timeout(LOOK_TAKES, looked).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Err(format!("{path} could not be looked at: {error}")),
            Err(_) => Err(format!(
                "{path} could not be looked at within {} s; its file system hangs",
                LOOK_TAKES.as_secs()
            )),
        }
    }
}

fn look(path: &str, commands: &[CommandSpec]) -> Result<String, String> {
    let found = std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
    let found = found.to_str().ok_or_else(|| format!("{path} leads to a name that is not UTF-8"))?.to_owned();
    for command in commands {
        let command = command.with_release(&found);
        if let Some(dir) = &command.dir
            && !dir.is_dir()
        {
            return Err(format!("{} is not a folder, and a server is to be started there", dir.display()));
        }
        let program = command.argv.first().map_or("", String::as_str);
        if program.contains('/') {
            is_program(&command.dir.as_deref().unwrap_or(Path::new("/")).join(program))?;
        }
    }
    Ok(found)
}

fn is_program(path: &PathBuf) -> Result<(), String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!("{shown} may not be executed; chmod +x"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(program: &str) -> CommandSpec {
        CommandSpec {
            argv: vec![program.to_owned(), "{port}".to_owned()],
            port: None,
            host: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            dir: None,
            env: Default::default(),
            stop_timeout: Duration::from_secs(1),
            capture: Vec::new(),
        }
    }

    #[test]
    fn a_release_is_there_with_a_program_that_may_run_or_it_is_said_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let release = folder.path().join("7");
        std::fs::create_dir(&release).unwrap();
        let link = folder.path().join("next");
        std::os::unix::fs::symlink(&release, &link).unwrap();
        let (link, program) = (link.to_str().unwrap(), release.join("shop"));
        let commands = [command("{release}/shop")];
        assert!(look(link, &commands).unwrap_err().contains("No such file"));
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        assert!(look(link, &commands).unwrap_err().contains("may not be executed"));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(look(link, &commands).unwrap(), release.canonicalize().unwrap().to_str().unwrap());
        assert_eq!(
            look(link, &[command("python3")]).unwrap(),
            release.canonicalize().unwrap().to_str().unwrap()
        );
        assert!(look("/no/such/release", &commands).unwrap_err().starts_with("/no/such/release: "));
    }
}
