//! Networks, as far as the update program attaches containers to them.

use http::Method;
use plimsoll_domain::ids::ContainerId;
use serde_json::{Value, json};

use super::containers::{about, named};
use super::engine::{Engine, deadline, escape};
use super::error::EngineError;

/// What a disconnect does with an endpoint that is in use or has lost its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    Orderly,
    /// For a stale endpoint of a container that is ours or gone (reliability.md D8).
    Forced,
}

impl Engine {
    /// `network` is a name or an id.
    pub async fn inspect_network(&self, network: &str) -> Result<Value, EngineError> {
        let subject = format!("the network {network}");
        let path = format!("/networks/{}", escape(network));
        self.get(&path, about("inspect", &subject), deadline::INSPECT)
            .await
    }

    /// `GET /networks`, as the engine says it.
    pub async fn list_networks(&self) -> Result<Vec<Value>, EngineError> {
        self.get("/networks", about("list", "its networks"), deadline::LIST)
            .await
    }

    /// Attaches a container, running or not, with this `EndpointConfig`.
    pub async fn connect_network(
        &self,
        network: &str,
        id: &ContainerId,
        endpoint: &Value,
    ) -> Result<(), EngineError> {
        let subject = format!("{} to the network {network}", named(id));
        let path = format!("/networks/{}/connect", escape(network));
        let body = json!({ "Container": id.as_str(), "EndpointConfig": endpoint });
        let about = about("connect", &subject);
        self.call(Method::POST, &path, Some(&body), about, deadline::CHANGE)
            .await
            .map(drop)
    }

    pub async fn disconnect_network(
        &self,
        network: &str,
        id: &ContainerId,
        how: Disconnect,
    ) -> Result<(), EngineError> {
        let subject = format!("{} from the network {network}", named(id));
        let path = format!("/networks/{}/disconnect", escape(network));
        let body = json!({ "Container": id.as_str(), "Force": how == Disconnect::Forced });
        let about = about("disconnect", &subject);
        self.call(Method::POST, &path, Some(&body), about, deadline::CHANGE)
            .await
            .map(drop)
    }
}
