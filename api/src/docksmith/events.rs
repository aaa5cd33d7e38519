//! The event stream (contract/docksmith-api.md, "Event format"): the events of Drydock's stream, in
//! Docksmith's words.

use bytes::Bytes;
use futures::Stream;
use plimsoll_app::events::{Delivery, Slot, SlotLimits, Subscription};
use plimsoll_domain::access::Scope;
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
    drydock::events::{EventStream, HEARTBEAT, farewell},
    middleware::context::RequestContext,
    sockets::still_allowed,
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
        let session = context.presented.digest().map(|digest| digest.short());
        let events = state.app.events();
        let limits = SlotLimits::of_process(state.app.settings().event_streams);
        let client = context.client.to_string();
        let slot = events
            .take_slot(&client, session.as_deref(), limits)
            .await?;
        let last = last_event_id.0.as_deref();
        let last = last.filter(|id| !id.trim().is_empty());
        let subscription = events.subscribe(last).await?;
        let frames = frames(state, context, slot, subscription, naming);
        Ok(EventStream::new(Body::from_bytes_stream(frames)))
    }
}

fn frames(
    state: ApiState,
    context: RequestContext,
    slot: Slot,
    mut subscription: Subscription,
    naming: Naming,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    async_stream::stream! {
        let hello = Told {
            kind: "connected",
            payload: json!({"status": "connected"}),
        };
        yield Ok(frame(&hello, Some(&subscription.position().to_string()), naming));
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.tick().await;
        loop {
            let delivery = tokio::select! {
                // An open stream must not hold up the end of the process.
                () = state.shutdown.cancelled() => {
                    yield Ok(farewell());
                    break;
                }
                _ = heartbeat.tick() => {
                    if !still_allowed(&state, &context, Scope::ContainersRead).await {
                        break;
                    }
                    slot.renew().await;
                    yield Ok(Bytes::from_static(b": keepalive\n\n"));
                    continue;
                }
                delivery = subscription.next() => delivery,
            };
            match delivery {
                Delivery::Event(event) => {
                    let all = told(&event.kind, &event.payload);
                    let id = event.position.to_string();
                    for (at, one) in all.iter().enumerate() {
                        // With the last of them: whoever breaks off before it gets all again.
                        let last = at + 1 == all.len();
                        yield Ok(frame(one, last.then_some(id.as_str()), naming));
                    }
                }
                Delivery::Resync { reason } => {
                    let dropped = Told {
                        kind: "system.events_dropped",
                        payload: json!({"reason": reason}),
                    };
                    yield Ok(frame(&dropped, None, naming));
                }
                Delivery::CutOff => break,
            }
        }
    }
}

fn frame(told: &Told, id: Option<&str>, naming: Naming) -> Bytes {
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
    text.into()
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
        let text = |naming| String::from_utf8(frame(&told, Some("1-2"), naming).to_vec()).unwrap();
        assert_eq!(
            text(Naming::Unnamed),
            "id: 1-2\ndata: {\"payload\":{\"container\":\"a\\nb\"},\"type\":\"container.stopped\"}\n\n"
        );
        assert!(text(Naming::Named).contains("\nevent: container.stopped\n"));
    }
}
