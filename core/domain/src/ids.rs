//! Identifiers. Every id is a type, so that a container id never travels as an operation id.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id; ids made later sort later (UUID version 7).
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }
    };
}

uuid_id!(
    /// One update or rollback of one container.
    OperationId
);
uuid_id!(
    /// Operations that were asked for together and come one after another.
    OperationGroupId
);
uuid_id!(
    /// One durable unit of work for a worker.
    JobId
);
uuid_id!(
    /// One kept way back: the image a container ran before an update.
    BackupId
);
uuid_id!(
    /// Objects of an engine that were asked to be removed together.
    RemovalId
);
uuid_id!(
    /// One API token (not its secret).
    TokenId
);
uuid_id!(
    /// One user account.
    UserId
);
uuid_id!(
    /// One open event stream.
    ClientId
);
uuid_id!(
    /// Somebody who is told of events by HTTP.
    WebhookEndpointId
);
uuid_id!(
    /// One event for one endpoint, however often it is sent: the header `webhook-id`.
    WebhookDeliveryId
);

/// A Docker container id: 64 lower-case hexadecimal digits. Containers are addressed by it and
/// never by name, so that a stale call cannot hit a successor (DESIGN.md 3.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(String);

impl ContainerId {
    /// Accepts what a Docker engine reports. Anything else is `None`.
    pub fn parse(id: &str) -> Option<Self> {
        let ok = id.len() == 64
            && id
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ok.then(|| Self(id.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The twelve digits that people and Docker's default host names use.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which Docker engine: a watcher's name and the agent that owns it. An empty agent is this
/// installation's own worker ("local" in Drydock's words).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WatcherRef {
    #[serde(default)]
    pub agent: String,
    pub name: String,
}

impl WatcherRef {
    pub fn local(name: impl Into<String>) -> Self {
        Self {
            agent: String::new(),
            name: name.into(),
        }
    }

    /// `agent` as Drydock shows it: absent for the local one.
    pub fn agent_name(&self) -> Option<&str> {
        (!self.agent.is_empty()).then_some(self.agent.as_str())
    }
}

impl fmt::Display for WatcherRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.agent.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.agent, self.name)
        }
    }
}

/// What a container is across re-creations: `agent::watcher::compose:project/service`, or
/// `agent::watcher::name` where Compose does not manage it (reference/drydock.md 1.7). Policy,
/// maturity clock and history belong to it, not to the container id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentityKey(String);

impl IdentityKey {
    /// `compose` is the Compose project and service, from the container's labels.
    pub fn new(watcher: &WatcherRef, name: &str, compose: Option<(&str, &str)>) -> Self {
        let WatcherRef {
            agent,
            name: watcher,
        } = watcher;
        Self(match compose {
            Some((project, service)) => format!("{agent}::{watcher}::compose:{project}/{service}"),
            None => format!("{agent}::{watcher}::{name}"),
        })
    }

    pub fn from_stored(key: String) -> Self {
        Self(key)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The Compose project that the container belongs to.
    pub fn stack(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once("::compose:")?;
        rest.rsplit_once('/').map(|(project, _)| project)
    }
}

impl fmt::Display for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
