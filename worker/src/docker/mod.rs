//! The Docker Engine API, as far as Plimsoll needs it.
//!
//! [`Engine`] is the one way to an engine. It speaks the HTTP API itself for everything whose
//! exact JSON matters: bollard's typed models drop fields they do not know and refuse enum values
//! they do not know (Podman's states, later engines' mount types), and a container re-created
//! from such a model would differ from the old one. Typed, lossy calls (statistics, exec, volume
//! lists) go through [`Engine::docker`], which is bollard over the same transport.

pub mod address;
mod containers;
mod engine;
mod error;
mod events;
mod explore;
mod images;
mod log_pieces;
mod logs;
mod networks;
mod pull;
mod stats;
mod transport;

pub use address::{AddressError, EngineAddress, EngineSettings, TlsFiles};
pub use containers::{ContainerSummary, CreatedContainer, ListFilter, NetworkSummary};
pub use engine::{Engine, deadline};
pub use error::EngineError;
pub use events::{EngineEvent, EventKind};
pub use explore::Usage;
pub use log_pieces::{Demux, Framing, LogSource, Piece, Stamps};
pub use logs::{LogBody, LogOptions, framing};
pub use networks::Disconnect;
pub use plimsoll_domain::spec::ApiVersion;
pub use pull::{PullProgress, PullRequest, RegistryAuth};
