//! Operations that stop Plimsoll itself: telling those who follow the events, and waiting a moment
//! for their answers (contract/drydock-app-api.md, "Self-update acknowledgment").
//!
//! A client gets an id and a token with its event stream. While the stream is open Redis holds the
//! id and a hash ([`Proof`]); when an operation begins, its worker copies them to Postgres, so the
//! answer may come to any replica. Without clients, or without Redis, nobody is waited for.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use plimsoll_domain::ids::{ClientId, OperationId};
use plimsoll_queue::Queue;
use plimsoll_store::jobs::Lease;
pub use plimsoll_store::self_updates::{Acknowledgment, SelfUpdate};
use plimsoll_store::{StoreError, self_updates::Client};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    App, AppError,
    access::{Presented, random_text},
    update_operations::NOT_FOUND,
};

/// How long answers are waited for (reference/drydock.md 2.6).
pub const ACK_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is looked whether all have answered.
const POLL: Duration = Duration::from_millis(100);
/// The counter of Redis' stream slots that names clients.
const CLIENTS: &str = "clients";
/// Of more clients than these, the latest are asked.
const MAX_CLIENTS: u32 = 1_000;

/// `dd:self-update`, in the contract's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SelfUpdateEvent {
    op_id: OperationId,
    requires_ack: bool,
    /// 0 where no answer is asked for.
    ack_timeout_ms: u64,
    started_at: String,
}

/// Who holds a stream: what a client's token is worth nothing without. The same on every replica.
#[derive(Clone, Debug)]
pub struct Holder(String);

impl Holder {
    /// A session or an API token by itself; whoever sends a password, or nothing, by name.
    pub fn of(presented: &Presented, name: &str) -> Self {
        Self(match presented {
            Presented::Session(digest) | Presented::Token(digest) => {
                format!("credential:{}", hex::encode(digest.as_bytes()))
            }
            _ => format!("user:{name}"),
        })
    }
}

/// What a client is told of itself, `dd:connected`.
pub struct Credentials {
    pub client: ClientId,
    pub token: SecretString,
}

/// A client that can be asked, for as long as its stream is open.
pub(crate) struct Reachable {
    member: String,
}

impl Reachable {
    /// A new client of `holder`, not announced yet.
    pub(crate) fn new(holder: &Holder) -> (Self, Credentials) {
        let client = ClientId::generate();
        let token = SecretString::from(random_text::<32>());
        let proof = hex::encode(proof(&token, holder));
        let reachable = Self {
            member: format!("{client}.{proof}"),
        };
        (reachable, Credentials { client, token })
    }

    /// Says that it is there, for `held`. Without Redis it will not be asked.
    pub(crate) async fn announce(&self, queue: &Queue, held: Duration) {
        let counters = [CLIENTS.to_owned()];
        if let Err(error) = queue.renew_stream_slot(&counters, &self.member, held).await {
            tracing::debug!(%error, "a client of the events is not known to workers");
        }
    }

    pub(crate) async fn withdraw(&self, queue: &Queue) {
        let counters = [CLIENTS.to_owned()];
        let _ = queue.release_stream_slot(&counters, &self.member).await;
    }
}

fn parse_member(member: &str) -> Option<Client> {
    let (id, proof) = member.split_once('.')?;
    Some(Client {
        id: id.parse().ok()?,
        proof: hex::decode(proof).ok()?.try_into().ok()?,
    })
}

/// Both parts are random or long, but neither may run into the other.
fn proof(token: &SecretString, holder: &Holder) -> [u8; 32] {
    let token = token.expose_secret().as_bytes();
    let mut hasher = Sha256::new();
    hasher.update((token.len() as u64).to_be_bytes());
    hasher.update(token);
    hasher.update(holder.0.as_bytes());
    hasher.finalize().into()
}

impl App {
    /// For a worker that is about to hand over what stops Plimsoll itself: gives the operation its
    /// engine to itself, tells the clients, and waits until they have answered, at most
    /// [`ACK_TIMEOUT`]. Repeating it tells nobody again, and waits for what is left of that time.
    ///
    /// # Errors
    /// When the operation could not be marked. What goes wrong afterwards keeps nobody waiting.
    pub async fn begin_self_update(
        &self,
        lease: &Lease,
        operation: OperationId,
    ) -> Result<(), StoreError> {
        let asked = self.reachable_clients().await;
        let event = SelfUpdateEvent {
            op_id: operation,
            requires_ack: !asked.is_empty(),
            ack_timeout_ms: match asked.is_empty() {
                true => 0,
                false => ACK_TIMEOUT.as_millis() as u64,
            },
            started_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        };
        let event = serde_json::to_string(&event)
            .map_err(|error| StoreError::corrupt("event of a self-update", error))?;
        let told = self
            .store()
            .begin_self_update(lease, operation, &event, &asked, ACK_TIMEOUT)
            .await?;
        if told && let Err(error) = self.queue().announce_events().await {
            tracing::debug!(%error, "readers find the event themselves");
        }
        self.await_acknowledgments(operation).await;
        Ok(())
    }

    async fn reachable_clients(&self) -> Vec<Client> {
        match self.queue().stream_holders(CLIENTS, MAX_CLIENTS).await {
            Ok(members) => members.iter().filter_map(|m| parse_member(m)).collect(),
            Err(error) => {
                tracing::debug!(%error, "no client is asked to acknowledge");
                Vec::new()
            }
        }
    }

    async fn await_acknowledgments(&self, operation: OperationId) {
        let deadline = Instant::now() + ACK_TIMEOUT;
        while let Ok(Ok(true)) =
            tokio::time::timeout_at(deadline, self.store().awaits_acknowledgment(operation)).await
        {
            tokio::time::sleep(POLL).await;
        }
    }

    /// A client's answer to `dd:self-update`. Ids that cannot be ones are unknown ones.
    pub async fn acknowledge_self_update(
        &self,
        operation: &str,
        client: &str,
        token: &SecretString,
        holder: &Holder,
    ) -> Result<Acknowledgment, AppError> {
        let Ok(operation) = operation.parse::<OperationId>() else {
            return Ok(Acknowledgment::Ignored);
        };
        let by = Client {
            id: client.parse().unwrap_or(NOBODY),
            proof: proof(token, holder),
        };
        let answer = self.store().acknowledge_self_update(operation, &by).await?;
        Ok(answer)
    }

    /// How an operation on Plimsoll's own container stands.
    ///
    /// # Errors
    /// `NotFound`, also for an operation on another container.
    pub async fn self_update(&self, operation: OperationId) -> Result<SelfUpdate, AppError> {
        let found = self.store().self_update(operation).await?;
        found.ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))
    }
}

/// No client has this id.
const NOBODY: ClientId = ClientId::from_uuid(uuid::Uuid::nil());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_worth_nothing_with_another_credential() {
        let session = Holder::of(&Presented::session("one"), "ann");
        let (client, credentials) = Reachable::new(&session);
        let known = parse_member(&client.member).expect("it is well formed");
        assert_eq!(known.id, credentials.client);
        assert_eq!(known.proof, proof(&credentials.token, &session));
        for other in [
            Holder::of(&Presented::session("two"), "ann"),
            Holder::of(&Presented::Nothing, "ann"),
        ] {
            assert_ne!(known.proof, proof(&credentials.token, &other));
        }
        assert!(!client.member.contains(credentials.token.expose_secret()));
        assert_eq!(parse_member("x.y"), None);
    }

    #[test]
    fn the_event_has_the_contracts_fields_in_its_order() {
        let event = SelfUpdateEvent {
            op_id: OperationId::from_uuid(uuid::Uuid::nil()),
            requires_ack: true,
            ack_timeout_ms: 3000,
            started_at: String::new(),
        };
        let text = serde_json::to_string(&event).expect("JSON");
        let id = uuid::Uuid::nil();
        let expected =
            format!(r#"{{"opId":"{id}","requiresAck":true,"ackTimeoutMs":3000,"startedAt":""}}"#);
        assert_eq!(text, expected);
    }
}
