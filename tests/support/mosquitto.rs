//! A real MQTT broker of its own for one test, asked with its own command line client.

use std::collections::BTreeMap;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::certificate::Certificate;
use crate::ports::free_port;
use crate::process::{Process, command};
use crate::services::shared;
use crate::wait;

pub struct Mosquitto {
    // Stopped before its directory is removed: fields are dropped in this order.
    process: Option<Process>,
    directory: TempDir,
    port: u16,
    web: u16,
    secure_web: u16,
    certificate: Certificate,
}

impl Mosquitto {
    /// One that lets everybody in.
    pub async fn start() -> Self {
        Self::with(None).await
    }

    pub async fn with_password(user: &str, password: &str) -> Self {
        Self::with(Some((user, password))).await
    }

    async fn with(login: Option<(&str, &str)>) -> Self {
        let directory = shared().scratch();
        let port = free_port();
        let (web, secure_web) = (free_port(), free_port());
        let certificate = Certificate::new();
        // It takes a user of its own when it is started as root, and must read its files then.
        let mut configuration = format!(
            "user root\nlistener {port} 127.0.0.1\n\
             listener {web} 127.0.0.1\nprotocol websockets\n\
             listener {secure_web} 127.0.0.1\nprotocol websockets\ncertfile {}\nkeyfile {}\n",
            certificate.path().display(),
            certificate.key().display(),
        );
        match login {
            None => configuration.push_str("allow_anonymous true\n"),
            Some((user, password)) => {
                let file = directory.path().join("passwords");
                let made = std::process::Command::new("mosquitto_passwd")
                    .args(["-b", "-c"])
                    .arg(&file)
                    .args([user, password])
                    .status();
                assert!(
                    made.is_ok_and(|status| status.success()),
                    "run `make services`"
                );
                configuration.push_str(&format!("password_file {}\n", file.display()));
            }
        }
        let file = directory.path().join("mosquitto.conf");
        std::fs::write(&file, configuration).expect("the scratch directory is writable");
        let mut broker = Self {
            process: None,
            directory,
            port,
            web,
            secure_web,
            certificate,
        };
        broker.start_again().await;
        broker
    }

    /// Ends it. It forgets what it was told.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// With the same ports.
    pub async fn start_again(&mut self) {
        // Debian puts it where only root looks.
        let usual = "/usr/sbin/mosquitto";
        let program = match std::path::Path::new(usual).exists() {
            true => usual,
            false => "mosquitto",
        };
        let mut broker = command(program);
        broker
            .arg("-c")
            .arg(self.directory.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(Process::spawn("mosquitto", broker));
        // It opens one after the other.
        for port in [self.port, self.web, self.secure_web] {
            wait::until_true("mosquitto", wait::SOON, || async move {
                TcpStream::connect(("127.0.0.1", port)).await.is_ok()
            })
            .await;
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Over WebSockets.
    pub fn web_url(&self) -> String {
        format!("ws://127.0.0.1:{}/mqtt", self.web)
    }

    /// Over WebSockets and TLS.
    pub fn secure_web_url(&self) -> String {
        format!("wss://localhost:{}/mqtt", self.secure_web)
    }

    /// What a client has to trust.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What a client that comes now is given, by topic, once that is so many topics or more. Only
    /// for brokers without a password.
    pub async fn retained(&self, filter: &str, topics: usize) -> BTreeMap<String, String> {
        self.held(filter, &[], topics).await
    }

    /// The same with a password.
    pub async fn retained_for(
        &self,
        user: &str,
        password: &str,
        filter: &str,
        topics: usize,
    ) -> BTreeMap<String, String> {
        self.held(filter, &["-u", user, "-P", password], topics)
            .await
    }

    /// A client listens for a second, in which a busy machine may not give it everything.
    async fn held(&self, filter: &str, login: &[&str], topics: usize) -> BTreeMap<String, String> {
        wait::until("what the broker holds", wait::SOON, async || {
            let heard = self.heard(filter, login).await;
            (heard.len() >= topics).then_some(heard)
        })
        .await
    }

    async fn heard(&self, filter: &str, login: &[&str]) -> BTreeMap<String, String> {
        let listened = tokio::process::Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(login)
            // Ends by itself when nothing retained is left.
            .args(["-t", filter, "--retained-only", "-W", "1", "-F", "%t %p"])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("mosquitto_sub is there; run `make services`");
        String::from_utf8_lossy(&listened.stdout)
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(topic, payload)| (topic.to_owned(), payload.to_owned()))
            .collect()
    }
}
