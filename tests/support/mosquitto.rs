//! A real MQTT broker of its own for one test, asked with its own command line client.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::{Process, command};
use crate::services::shared;
use crate::wait;

pub struct Mosquitto {
    // Stopped before its directory is removed: fields are dropped in this order.
    _process: Process,
    _directory: TempDir,
    port: u16,
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
        // It takes a user of its own when it is started as root, and must read its files then.
        let mut configuration = format!("listener {port} 127.0.0.1\nuser root\n");
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
        // Debian puts it where only root looks.
        let usual = "/usr/sbin/mosquitto";
        let program = match std::path::Path::new(usual).exists() {
            true => usual,
            false => "mosquitto",
        };
        let mut broker = command(program);
        broker
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::spawn("mosquitto", broker);
        wait::until_true("mosquitto", Duration::from_secs(10), || async move {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self {
            _process: process,
            _directory: directory,
            port,
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// What a client that comes now is given, by topic. Only for brokers without a password.
    pub async fn retained(&self, filter: &str) -> BTreeMap<String, String> {
        let listened = tokio::process::Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
