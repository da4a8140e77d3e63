//! Asks the running Mainstay over its API, with a deadline and a limit on what it answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use mainstay_model::Snapshot;
use reqwest::StatusCode;

use super::args::config_path;
use crate::config;
use crate::tls;

/// Where the running Mainstay is, and who asks.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// Its admin address [default: as the config says, else http://127.0.0.1:9900]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The config to read its admin address from
    #[arg(short, long, value_name = "PATH", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// The token, if it wants one; better given as MAINSTAY_TOKEN, which other users cannot see
    #[arg(long, env = "MAINSTAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// From asking to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Far more than the status of some hundred servers.
const LONGEST_ANSWER: usize = 16 << 20;

impl AskArgs {
    /// How everything is now.
    ///
    /// # Errors
    /// When nobody answers, or not with a status; the text says what to do.
    pub(super) fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let body = self.get("/api/v1/status")?;
        let origin = self.origin()?;
        serde_json::from_slice(&body)
            .with_context(|| format!("{origin} answered, but not as this version of Mainstay does; is it one, and of the same version?"))
    }

    /// The running Mainstay at an address, or else of a config.
    pub(super) fn of(admin: Option<String>, config: Option<PathBuf>, token: Option<String>) -> Self {
        Self { admin, config, token }
    }

    /// Gives an order; returns what the API answered.
    ///
    /// # Errors
    /// When nobody answers, or the order is refused; the text says why.
    pub(super) fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<Vec<u8>> {
        self.ask(path, Ask::Post(body))
    }

    /// Takes something back.
    ///
    /// # Errors
    /// When nobody answers, or it is refused; the text says why.
    pub(super) fn delete(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        self.ask(path, Ask::Delete)
    }

    /// The beginning of each URL, `http://127.0.0.1:9900`.
    pub(super) fn origin(&self) -> anyhow::Result<String> {
        if let Some(admin) = &self.admin {
            let url = if admin.contains("://") { admin.clone() } else { format!("http://{admin}") };
            let parsed =
                reqwest::Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            if !parsed.is_some_and(|url| url.has_host()) {
                bail!("--admin {admin} is not an address; write http://127.0.0.1:9900");
            }
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let path = config_path(self.config.as_deref());
        let address = config::admin_address(&path);
        if self.config.is_some() && !path.exists() {
            bail!("there is no config {}; name the address with --admin", path.display());
        }
        Ok(format!("http://{}", reachable(address.unwrap_or(config::DEFAULT_ADMIN))))
    }

    /// The report of an incident, as the running Mainstay writes it. The outer error: no Mainstay answers here.
    pub(super) fn report(
        &self,
        incident: u64,
        format: &str,
    ) -> Result<anyhow::Result<Vec<u8>>, anyhow::Error> {
        match self.get(&format!("/api/v1/incidents/{incident}/report?format={format}")) {
            Err(error) if error.is::<NotThere>() => Err(error),
            answer => Ok(answer),
        }
    }

    /// It was said where to ask, so that another place must not answer instead.
    pub(super) fn names_admin(&self) -> bool {
        self.admin.is_some()
    }

    /// The config that says where to ask, and where the record is.
    pub(super) fn config(&self) -> PathBuf {
        config_path(self.config.as_deref())
    }

    /// What is at a path.
    ///
    /// # Errors
    /// When nobody answers, or there is nothing.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        self.ask(path, Ask::Get)
    }

    fn ask(&self, path: &str, what: Ask<'_>) -> anyhow::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let origin = self.origin()?;
        runtime.block_on(async {
            match tokio::time::timeout(DEADLINE, self.ask_at(&origin, path, what)).await {
                Ok(answer) => answer,
                Err(_) => bail!("{origin} did not answer within {} s", DEADLINE.as_secs()),
            }
        })
    }

    async fn ask_at(&self, origin: &str, path: &str, what: Ask<'_>) -> anyhow::Result<Vec<u8>> {
        let url = format!("{origin}{path}");
        let mut request = match what {
            Ask::Get => client()?.get(url),
            Ask::Post(body) => client()?.post(url).json(body),
            Ask::Delete => client()?.delete(url),
        };
        if let Some(token) = self.token.as_ref().filter(|token| !token.is_empty()) {
            request = request.bearer_auth(token);
        }
        let mut answer = request.send().await.map_err(|error| not_there(origin, &error))?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.token.is_some() => {
                bail!(
                    "{origin} does not accept this token; it is the one that admin.token in its config names"
                )
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                bail!(
                    "{origin} wants a token: set MAINSTAY_TOKEN to the one that admin.token in its config names"
                )
            }
            status => match refusal(answer).await {
                Some(detail) => bail!("{detail}"),
                None => bail!("{origin}{path} answered {status}"),
            },
        }
        let mut body = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.with_context(|| format!("{origin} broke off its answer"))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_ANSWER {
                bail!("{origin} answers more than {} MiB; that is no Mainstay", LONGEST_ANSWER >> 20);
            }
        }
        Ok(body)
    }
}

/// What is asked of a path.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Get,
    Post(&'a serde_json::Value),
    Delete,
}

/// No Mainstay answers.
#[derive(Debug)]
struct NotThere(String);

impl std::fmt::Display for NotThere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotThere {}

/// What a refusal says to a person.
async fn refusal(mut answer: reqwest::Response) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await
        && body.len() < 64 * 1024
    {
        body.extend_from_slice(&chunk);
    }
    let problem: serde_json::Value = serde_json::from_slice(&body).ok()?;
    Some(super::paint::clean(problem.get("detail")?.as_str()?))
}

fn client() -> anyhow::Result<reqwest::Client> {
    tls::install_provider();
    Ok(reqwest::Client::builder()
        // A proxy of the environment is meant for other places than the own machine.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("mainstay/", env!("CARGO_PKG_VERSION")))
        .build()?)
}

fn not_there(origin: &str, error: &reqwest::Error) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    anyhow::Error::new(NotThere(format!(
        "no Mainstay answers at {origin}: {cause}\n    start one with `mainstay run`, or say where it is with --admin URL or -c CONFIG"
    )))
}

/// Where to connect to reach a listener on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn asking(admin: &str, token: Option<&str>) -> AskArgs {
        AskArgs { admin: Some(admin.to_owned()), config: None, token: token.map(str::to_owned) }
    }

    /// Answers one request, and returns its head.
    fn answer_once(answer: String) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(head).unwrap()
        });
        (address, thread)
    }

    #[test]
    fn a_snapshot_is_asked_for_with_the_token() {
        let body = serde_json::to_string(&Snapshot::default()).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let (address, thread) = answer_once(answer);
        assert_eq!(asking(&address, Some("t0ken")).snapshot().unwrap(), Snapshot::default());
        let head = thread.join().unwrap();
        assert!(head.starts_with("GET /api/v1/status HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer t0ken"), "{head}");
    }

    #[test]
    fn a_refused_token_and_a_missing_one_are_told_apart() {
        for (token, expected) in [(None, "wants a token"), (Some("x"), "does not accept this token")] {
            let (address, thread) =
                answer_once("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_owned());
            let error = asking(&address, token).snapshot().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            thread.join().unwrap();
        }
    }

    #[test]
    fn an_answer_that_is_no_snapshot_is_told_so() {
        let (address, thread) = answer_once("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned());
        let error = asking(&address, None).snapshot().unwrap_err().to_string();
        assert!(error.contains("not as this version"), "{error}");
        thread.join().unwrap();
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = asking(&format!("http://127.0.0.1:{port}"), None).snapshot().unwrap_err().to_string();
        assert!(error.contains("mainstay run") && error.contains("refused"), "{error}");
    }

    #[test]
    fn every_address_is_asked_at_loopback() {
        assert_eq!(reachable("0.0.0.0:9900".parse().unwrap()).to_string(), "127.0.0.1:9900");
        assert_eq!(reachable("[::]:9900".parse().unwrap()).to_string(), "[::1]:9900");
    }

    #[test]
    fn a_strange_admin_address_is_refused() {
        for bad in ["ftp://x", "http://", "http://a b"] {
            assert!(asking(bad, None).origin().is_err(), "{bad}");
        }
    }
}
