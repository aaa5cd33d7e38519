//! Everything that an engine has: lists in the engine's own JSON, and the removal of volumes and
//! networks. Nothing here is ever forced: what is in use the engine refuses, too.

use http::Method;
use serde_json::Value;

use super::containers::about;
use super::engine::{Engine, deadline, escape};
use super::error::EngineError;
use plimsoll_domain::spec::ApiVersion;

/// From here on the engine reckons only what it is asked for.
const TYPED_USAGE: ApiVersion = ApiVersion::new(1, 42);

/// Of what disk usage is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Containers,
    Images,
    Volumes,
}

impl Usage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Containers => "container",
            Self::Images => "image",
            Self::Volumes => "volume",
        }
    }
}

impl Engine {
    /// `GET /containers/json` of all, in any state.
    pub async fn list_containers(&self) -> Result<Vec<Value>, EngineError> {
        let about = about("list", "its containers");
        self.get("/containers/json?all=1", about, deadline::LIST)
            .await
    }

    /// `GET /volumes`, as the engine says it.
    pub async fn list_volumes(&self) -> Result<Vec<Value>, EngineError> {
        let about = about("list", "its volumes");
        let mut answer: Value = self.get("/volumes", about, deadline::LIST).await?;
        match answer["Volumes"].take() {
            Value::Array(volumes) => Ok(volumes),
            // An engine without any.
            Value::Null => Ok(Vec::new()),
            _ => Err(self.protocol("the list of volumes is none")),
        }
    }

    /// `GET /system/df`: what things take on the disk. Engines before 23.0 reckon everything at
    /// every call, one call at a time, so this may fail while all is well.
    pub async fn disk_usage(&self, of: &[Usage]) -> Result<Value, EngineError> {
        let mut path = "/system/df".to_owned();
        if self.api_version().await? >= TYPED_USAGE {
            let types = of.iter().map(|one| format!("type={}", one.as_str()));
            path = format!("{path}?{}", types.collect::<Vec<_>>().join("&"));
        }
        let about = about("reckon", "what things take on its disk");
        self.get(&path, about, deadline::CHANGE).await
    }

    /// A volume that no container uses. `Conflict` if one does, `NotFound` if it is gone.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let subject = format!("the volume {name}");
        let path = format!("/volumes/{}?force=false", escape(name));
        let about = about("remove", &subject);
        self.call(Method::DELETE, &path, None, about, deadline::CHANGE)
            .await
            .map(drop)
    }

    /// By its id. An engine refuses while a container runs in it; `NotFound` if it is gone.
    pub async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        let subject = format!("the network {id}");
        let path = format!("/networks/{}", escape(id));
        let about = about("remove", &subject);
        self.call(Method::DELETE, &path, None, about, deadline::CHANGE)
            .await
            .map(drop)
    }
}
