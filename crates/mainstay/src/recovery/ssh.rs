//! Programs on another machine, by the system's own `ssh`: its config, its keys and its agent are the user's business and
//! work as they do by hand. It never asks anything, never trusts an unknown host, and notices when the other side is gone.

use mainstay_model::input::Exit;

use super::act::{Ran, short};
use super::program::Ended;
use crate::config::Remote;

/// ssh itself ends with this when it could not do its part.
const OWN_FAILURE: i32 = 255;

/// How the program is run over there. A shell of the user's is in between, so each word is quoted.
pub(super) fn argv(remote: &Remote, program: &[String]) -> Vec<String> {
    let mut argv = vec!["ssh".to_owned(), "-T".to_owned()];
    let mut option = |text: String| argv.extend(["-o".to_owned(), text]);
    for text in [
        "BatchMode=yes",
        "ConnectTimeout=5",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=2",
        "StrictHostKeyChecking=yes",
        "LogLevel=ERROR",
    ] {
        option(text.to_owned());
    }
    if let Some(file) = &remote.known_hosts {
        option(format!("UserKnownHostsFile={}", quoted_option(&file.display().to_string())));
    }
    if let Some(file) = &remote.key {
        option("IdentitiesOnly=yes".to_owned());
        option(format!("IdentityFile={}", quoted_option(&file.display().to_string())));
    }
    if let Some(port) = remote.port {
        argv.extend(["-p".to_owned(), port.to_string()]);
    }
    if let Some(user) = &remote.user {
        argv.extend(["-l".to_owned(), user.clone()]);
    }
    let program: Vec<String> = program.iter().map(|word| quoted(word)).collect();
    argv.extend(["--".to_owned(), remote.host.clone(), program.join(" ")]);
    argv
}

/// For a shell of POSIX.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// For a value of ssh's config, in which a percent sign means more.
fn quoted_option(path: &str) -> String {
    format!("\"{}\"", path.replace('%', "%%"))
}

/// Why the other machine could not be reached, and what to do; `None`: it could.
pub(super) fn flaw(remote: &Remote, ran: &Ran) -> Option<String> {
    if ran.ended != Ended::Exit(Exit::Code(OWN_FAILURE)) {
        return None;
    }
    let host = &remote.host;
    Some(flaw_of(remote, &ran.lines).unwrap_or_else(|| match ran.last_line() {
        Some(line) => format!("ssh to {host} failed: {}", short(line)),
        None => {
            format!("ssh to {host} failed and says nothing; try it by hand as the user that Mainstay runs as")
        }
    }))
}

/// What ssh complains of, if it is something that is known here.
pub(super) fn flaw_of(remote: &Remote, lines: &[String]) -> Option<String> {
    let says = |text: &str| lines.iter().find(|line| line.contains(text)).map(|line| short(line.trim()));
    let host = &remote.host;
    let port = remote.port.map_or_else(String::new, |port| format!("-p {port} "));
    let file = remote
        .known_hosts
        .as_ref()
        .map_or_else(|| "~/.ssh/known_hosts".to_owned(), |f| f.display().to_string());
    if says("IDENTIFICATION HAS CHANGED").is_some() || says("has changed and you have requested").is_some() {
        return Some(format!(
            "{host} shows another host key than the one that is known: it was set up anew, or somebody stands in \
             between. If it was set up anew, remove the old key from {file} and add the new one"
        ));
    }
    if says("host key is known for").is_some() || says("Host key verification failed").is_some() {
        return Some(format!(
            "the host key of {host} is not known here: check it, and add it as the user that Mainstay runs as, with \
             ssh-keyscan {port}{host} >> {file}"
        ));
    }
    if let Some(line) = says("Permission denied") {
        let user = remote.user.as_deref().unwrap_or("its user");
        return Some(format!(
            "{host} does not let {user} in: put the public key into {user}'s authorized_keys there, and see that \
             Mainstay's user may read the private one ({line})"
        ));
    }
    let away = [
        "Connection refused",
        "timed out",
        "No route to host",
        "Could not resolve",
        "Network is unreachable",
    ];
    let line = away.iter().find_map(|text| says(text))?;
    Some(format!("{host} cannot be reached by ssh: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        Remote {
            user: Some("deploy".to_owned()),
            host: "10.0.0.11".to_owned(),
            port: Some(2222),
            key: Some("/etc/main stay/key".into()),
            known_hosts: None,
        }
    }

    #[test]
    fn every_word_comes_over_as_it_is_written() {
        let argv = argv(&remote(), &["/bin/bounce".to_owned(), "it's $HOME; rm".to_owned()]);
        assert_eq!(argv.last().unwrap(), r"'/bin/bounce' 'it'\''s $HOME; rm'");
        let text = argv.join(" ");
        assert!(
            text.contains("-o BatchMode=yes") && text.contains("-p 2222 -l deploy -- 10.0.0.11"),
            "{text}"
        );
        assert!(text.contains("-o IdentityFile=\"/etc/main stay/key\""), "{text}");
    }

    #[test]
    fn what_ssh_complains_of_is_told_with_what_to_do() {
        let told = |line: &str| flaw_of(&remote(), &[line.to_owned()]);
        let unknown =
            told("No ED25519 host key is known for 10.0.0.11 and you have requested strict checking.");
        assert!(unknown.unwrap().contains("ssh-keyscan -p 2222 10.0.0.11 >> ~/.ssh/known_hosts"));
        let changed = told("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @");
        assert!(changed.unwrap().contains("shows another host key"));
        let denied = told("deploy@10.0.0.11: Permission denied (publickey).");
        assert!(denied.unwrap().contains("deploy's authorized_keys"));
        let away = told("ssh: connect to host 10.0.0.11 port 22: Connection refused");
        assert!(away.unwrap().contains("cannot be reached by ssh"));
        assert_eq!(told("something else"), None);
    }
}
