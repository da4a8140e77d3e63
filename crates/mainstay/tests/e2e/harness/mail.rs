//! A real mail server, Debian's aiosmtpd, which keeps what it got as files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::home::Home;
use super::http::read_more;
use super::{free_address, until};

/// A mail server that can go down and come back on the same port with the same mailbox.
pub struct MailSink {
    pub address: SocketAddr,
    folder: PathBuf,
    mark: (&'static str, String),
    child: Option<Child>,
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Message {
    head: String,
    /// The whole of it after the head, as sent.
    pub body: String,
}

impl MailSink {
    /// A mail server that does not run yet; its address is already known.
    pub fn down(home: &Home) -> Self {
        Self { address: free_address(), folder: home.path().join("mail"), mark: home.mark(), child: None }
    }

    /// A mail server that runs.
    pub async fn start(home: &Home) -> Self {
        let mut sink = Self::down(home);
        sink.up().await;
        sink
    }

    /// Starts it (again).
    pub async fn up(&mut self) {
        let address = self.address.to_string();
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-m", "aiosmtpd", "-n", "-l", &address, "-c", "aiosmtpd.handlers.Mailbox"]);
        command.arg(&self.folder).env(self.mark.0, &self.mark.1);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child =
            Some(command.spawn().expect("python3 with aiosmtpd (python3-aiosmtpd of Debian) is installed"));
        until("the mail server answers", async || {
            tokio::net::TcpStream::connect(self.address).await.ok().map(drop)
        })
        .await;
    }

    /// The messages that arrived, oldest first.
    pub fn messages(&self) -> Vec<Message> {
        let Ok(entries) = std::fs::read_dir(self.folder.join("new")) else { return Vec::new() };
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort_by_key(|path| path.metadata().and_then(|m| m.modified()).ok());
        files.iter().map(|path| Message::parse(&std::fs::read(path).unwrap_or_default())).collect()
    }
}

impl Drop for MailSink {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Message {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        Self { head: head.replace("\n ", " ").replace("\n\t", " "), body: body.to_owned() }
    }

    /// A header's value, unfolded; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

#[test]
fn the_mail_server_keeps_what_it_got() {
    super::run(async {
        use tokio::io::AsyncWriteExt;
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        assert!(sink.messages().is_empty());
        let mut stream = tokio::net::TcpStream::connect(sink.address).await.expect("it listens");
        let mut answers = Vec::new();
        let lines = "EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n";
        for line in lines.split_inclusive("\r\n") {
            read_more(&mut stream, &mut answers).await.expect("an answer");
            stream.write_all(line.as_bytes()).await.expect("it reads");
        }
        read_more(&mut stream, &mut answers).await.expect("an answer");
        stream.write_all(b"Subject: one\r\n two\r\n\r\nhello\r\n.\r\n").await.expect("it reads");
        let message = until("the message is there", async || sink.messages().pop()).await;
        assert_eq!(message.header("subject"), "one two");
        assert_eq!(message.body.trim(), "hello");
    });
}
