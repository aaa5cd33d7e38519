//! The demonstration's container, as Plimsoll's API shows it.

use std::time::Duration;

use plimsoll_support::server::Server;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use crate::stage::say;

pub struct App {
    client: Client,
    base: String,
    name: String,
}

/// How an update ended.
pub struct Outcome {
    pub status: String,
    /// In their order.
    pub phases: Vec<String>,
    pub reason: String,
    pub last_log: String,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl App {
    pub fn new(server: &Server, name: &str) -> Self {
        Self {
            client: Client::new(),
            base: server.url("/api/v1"),
            name: name.into(),
        }
    }

    /// Watches all containers; returns the tag that ours could be updated to.
    pub async fn watch(&self) -> Result<Option<String>, String> {
        say("POST /api/v1/containers/watch");
        self.send(self.request(Method::POST, "/containers/watch"))
            .await?;
        let container = self.container().await?;
        if let Some(message) = container["error"]["message"].as_str() {
            return Err(format!("the watch failed: {message}"));
        }
        say(&format!(
            "updateAvailable: {}, updateKind: {}",
            container["updateAvailable"], container["updateKind"]
        ));
        let available = container["updateAvailable"] == true;
        Ok(available.then(|| text(&container["result"]["tag"])))
    }

    /// Updates our container and shows each phase as the event stream tells it.
    pub async fn update(&self) -> Result<Outcome, String> {
        let id = text(&self.container().await?["id"]);
        let mut events = self
            .request(Method::GET, "/events/ui")
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| error.to_string())?;
        say("POST /api/v1/containers/{id}/update");
        let accepted = self
            .send(
                self.request(Method::POST, &format!("/containers/{id}/update"))
                    .header("prefer", "respond-async"),
            )
            .await?;
        let operation = text(&accepted["operationId"]);
        if operation.is_empty() {
            return Err(format!("no operation was accepted: {accepted}"));
        }
        let mut phases: Vec<String> = Vec::new();
        let mut buffer = String::new();
        let follow = async {
            while let Some(chunk) = events.chunk().await.map_err(|error| error.to_string())? {
                buffer.push_str(&String::from_utf8_lossy(&chunk));
                while let Some(end) = buffer.find("\n\n") {
                    let event: String = buffer.drain(..end + 2).collect();
                    let Some(change) = change_of(&event, &operation) else {
                        continue;
                    };
                    let phase = text(&change["phase"]);
                    if phases.last() != Some(&phase) {
                        say(&format!("phase {phase}"));
                        phases.push(phase);
                    }
                    if change["status"] != "in-progress" && change["status"] != "queued" {
                        return Ok(());
                    }
                }
            }
            Err("the event stream ended".to_owned())
        };
        tokio::time::timeout(PATIENCE, follow)
            .await
            .map_err(|_| format!("no end of the update in {PATIENCE:?}"))??;
        let id = text(&self.container().await?["id"]);
        let operations = self
            .send(self.request(Method::GET, &format!("/containers/{id}/update-operations")))
            .await?;
        let ended = operations["data"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["id"] == operation.as_str()))
            .ok_or("the operation is not in the container's history")?;
        say(&format!(
            "{} to {}: {}",
            text(&ended["fromVersion"]),
            text(&ended["toVersion"]),
            text(&ended["status"])
        ));
        Ok(Outcome {
            status: text(&ended["status"]),
            phases,
            reason: text(&ended["rollbackReason"]),
            last_log: text(&ended["lastLog"]),
        })
    }

    async fn container(&self) -> Result<Value, String> {
        let all = self.send(self.request(Method::GET, "/containers")).await?;
        all["data"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == self.name.as_str()))
            .cloned()
            .ok_or_else(|| format!("{} is not in the inventory", self.name))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, String> {
        let answer = request
            .timeout(PATIENCE)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let (status, url) = (answer.status(), answer.url().clone());
        let body = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{url} answered {status}: {body}"));
        }
        serde_json::from_str(&body).map_err(|error| format!("{url}: {error}: {body}"))
    }
}

/// The payload of an event that tells of `operation`.
fn change_of(event: &str, operation: &str) -> Option<Value> {
    let field = |name: &str| {
        event
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim_start)
    };
    if field("event")? != "dd:update-operation-changed" {
        return None;
    }
    let payload: Value = serde_json::from_str(field("data")?).ok()?;
    (payload["operationId"] == operation).then_some(payload)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
