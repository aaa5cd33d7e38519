//! The event stream (contract/docksmith-api.md, "Event format"): the events of Drydock's stream, in
//! Docksmith's words.

use bytes::Bytes;
use plimsoll_app::store::events::StoredEvent;
use poem::Body;
use poem_openapi::{
    OpenApi,
    param::{Header, Query},
};
use serde_json::json;

use super::{
    Tag,
    error::{ErrorOf, Reads},
    told::{Told, told},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::events::{EventStream, Wording, frames, listen},
    middleware::context::RequestContext,
};

/// `GET /api/events`.
pub struct Events;

/// Whether events have names. `EventSource.onmessage` hears only those without; Docksmith's own
/// pages listen for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    Unnamed,
    Named,
}

#[OpenApi(prefix_path = "/api")]
impl Events {
    /// Follow what happens
    ///
    /// `data: {"type","payload"}` for `update.progress`, `container.updated`, `check.progress`,
    /// `restart.progress`, `container.stopped` and `container.removed`; after a gap
    /// `system.events_dropped`. Events have ids: with `Last-Event-ID` the stream begins with what
    /// was missed, on any replica.
    #[oai(
        path = "/events",
        method = "get",
        operation_id = "followEvents",
        tag = "Tag::Events"
    )]
    async fn follow(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        /// `1`: `event:` has the type, as Docksmith's own pages expect
        named: Query<Option<String>>,
        #[oai(name = "Last-Event-ID")] last_event_id: Header<Option<String>>,
    ) -> Result<EventStream, ErrorOf<Reads>> {
        let naming = match named.0.as_deref() {
            Some("1" | "true") => Naming::Named,
            _ => Naming::Unnamed,
        };
        let (slot, subscription) = listen(&state, &context, last_event_id.0.as_deref()).await?;
        let frames = frames(state, context, slot, subscription, naming);
        Ok(EventStream::new(Body::from_bytes_stream(frames)))
    }
}

impl Wording for Naming {
    fn hello(&self, position: &str) -> Bytes {
        let hello = Told {
            kind: "connected",
            payload: json!({"status": "connected"}),
        };
        frame(&hello, Some(position), *self).into()
    }

    fn heartbeat(&self) -> Bytes {
        Bytes::from_static(b": keepalive\n\n")
    }

    fn event(&self, event: &StoredEvent) -> Option<Bytes> {
        let all = told(&event.kind, &event.payload, event.at);
        let id = event.position.to_string();
        let (last, before) = all.split_last()?;
        let mut text: String = before.iter().map(|one| frame(one, None, *self)).collect();
        // With the last of them: whoever breaks off before it gets all again.
        text.push_str(&frame(last, Some(&id), *self));
        Some(text.into())
    }

    fn resync(&self, reason: &str) -> Bytes {
        let dropped = Told {
            kind: "system.events_dropped",
            payload: json!({"reason": reason}),
        };
        frame(&dropped, None, *self).into()
    }
}

fn frame(told: &Told, id: Option<&str>, naming: Naming) -> String {
    let mut text = String::new();
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    let data = match (naming, told.kind) {
        // Docksmith's own greeting has no type inside.
        (Naming::Named, "connected") => told.payload.clone(),
        (_, kind) => json!({"type": kind, "payload": told.payload}),
    };
    if naming == Naming::Named {
        text.push_str(&format!("event: {}\n", told.kind));
    }
    // JSON as it is written here has no raw line breaks.
    text.push_str(&format!("data: {data}\n\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_written_from_the_document_hears_unnamed_events() {
        let told = Told {
            kind: "container.stopped",
            payload: json!({"container": "a\nb"}),
        };
        let text = |naming| frame(&told, Some("1-2"), naming);
        assert_eq!(
            text(Naming::Unnamed),
            "id: 1-2\ndata: {\"payload\":{\"container\":\"a\\nb\"},\"type\":\"container.stopped\"}\n\n"
        );
        assert!(text(Naming::Named).contains("\nevent: container.stopped\n"));
    }
}
