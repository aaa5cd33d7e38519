//! The event stream (contract/drydock-app-api.md, "Server-Sent Events").

use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use plimsoll_app::{
    AppError,
    events::{Delivery, Slot, SlotLimits, Subscription},
    self_updates::{Credentials, Holder},
    store::events::StoredEvent,
};
use plimsoll_domain::access::Scope;
use poem::{Body, IntoResponse, Response};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::Header,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, Registry},
    types::Type,
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    Tag,
    described::{Description, Text, open},
    error::{ErrorOf, Reads},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
    sockets::still_allowed,
};

/// `GET /api/v1/events/ui`.
pub struct Events;

pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// What clients wait before they connect again, in milliseconds.
const RETRY_MS: u32 = 2000;

/// A body of server-sent events.
pub struct EventStream(Body);

impl EventStream {
    pub(crate) fn new(body: Body) -> Self {
        Self(body)
    }
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type("text/event-stream")
            .header("Cache-Control", "no-cache, no-transform")
            // Proxies that hold back what is small would hold back every event.
            .header("X-Accel-Buffering", "no")
            .body(self.0)
    }
}

/// One event, as `EventSource` hands it out.
enum ServerSentEvent {}

impl Description for ServerSentEvent {
    const NAME: Option<&'static str> = Some("ServerSentEvent");

    fn schema() -> MetaSchema {
        let text = || MetaSchema::new("string");
        let mut schema = open(vec![("event", text()), ("data", text()), ("id", text())]);
        schema.required = vec!["data"];
        schema.description = Some("One event of a stream. `data` is JSON.");
        schema
    }
}

impl ApiResponse for EventStream {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Server-sent events until the client or the server ends them",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "text/event-stream",
                    schema: Text::<ServerSentEvent>::schema_ref(),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        Text::<ServerSentEvent>::register(registry);
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Events {
    /// Follow what happens
    ///
    /// `dd:connected`, then `dd:container-added`, `dd:container-updated`, `dd:container-removed`,
    /// `dd:update-operation-changed`, `dd:update-operation-progress` (how far a pull is) and
    /// `dd:watch-progress` as they happen, and `dd:heartbeat` every 15 seconds. A container that is
    /// removed because another has its name now, as after an update, says whose: `replacedBy`.
    /// `dd:self-update` says that Plimsoll is about to replace its own container; where it has
    /// `requiresAck`, answer with what `dd:connected` gave.
    /// Events have ids: with `Last-Event-ID` the stream begins with what was missed, on any
    /// replica, or with `dd:resync-required` when that is not known any more. At most 10 streams
    /// for each address and for each session.
    #[oai(
        path = "/events/ui",
        method = "get",
        operation_id = "followEvents",
        tag = "Tag::Events"
    )]
    async fn follow(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        #[oai(name = "Last-Event-ID")] last_event_id: Header<Option<String>>,
    ) -> Result<EventStream, ErrorOf<Reads>> {
        let (mut slot, subscription) = listen(&state, &context, last_event_id.0.as_deref()).await?;
        let holder = Holder::of(&context.presented, who.name());
        let client = slot.introduce(&holder).await;
        let frames = frames(state, context, slot, subscription, Drydock(client));
        Ok(EventStream(Body::from_bytes_stream(frames)))
    }
}

/// How a dialect words its stream.
pub(crate) trait Wording: Send + Sync + 'static {
    fn hello(&self, position: &str) -> Bytes;
    fn heartbeat(&self) -> Bytes;
    /// Nothing where the dialect does not know such events.
    fn event(&self, event: &StoredEvent) -> Option<Bytes>;
    /// What was missed cannot be told any more.
    fn resync(&self, reason: &str) -> Bytes;
}

struct Drydock(Credentials);

impl Wording for Drydock {
    fn hello(&self, position: &str) -> Bytes {
        let hello = json!({
            "clientId": self.0.client,
            "clientToken": self.0.token.expose_secret(),
        });
        frame("dd:connected", &hello.to_string(), Some(position))
    }

    fn heartbeat(&self) -> Bytes {
        frame("dd:heartbeat", "{}", None)
    }

    fn event(&self, event: &StoredEvent) -> Option<Bytes> {
        let id = event.position.to_string();
        Some(frame(&event.kind, &event.payload, Some(&id)))
    }

    fn resync(&self, reason: &str) -> Bytes {
        let data = json!({"reason": reason}).to_string();
        frame("dd:resync-required", &data, None)
    }
}

/// One of the streams that a client may have, from behind `last_event_id` on.
pub(crate) async fn listen(
    state: &ApiState,
    context: &RequestContext,
    last_event_id: Option<&str>,
) -> Result<(Slot, Subscription), AppError> {
    let session = context.presented.digest().map(|digest| digest.short());
    let events = state.app.events();
    let limits = SlotLimits::of_process(state.app.settings().event_streams);
    let client = context.client.to_string();
    let slot = events
        .take_slot(&client, session.as_deref(), limits)
        .await?;
    let last = last_event_id.filter(|id| !id.trim().is_empty());
    Ok((slot, events.subscribe(last).await?))
}

/// The stream of one client, for as long as it may read.
pub(crate) fn frames(
    state: ApiState,
    context: RequestContext,
    slot: Slot,
    mut subscription: Subscription,
    wording: impl Wording,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    async_stream::stream! {
        yield Ok(wording.hello(&subscription.position().to_string()));
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
                    yield Ok(wording.heartbeat());
                    continue;
                }
                delivery = subscription.next() => delivery,
            };
            match delivery {
                Delivery::Event(event) => {
                    if let Some(frame) = wording.event(&event) {
                        yield Ok(frame);
                    }
                }
                Delivery::Resync { reason } => yield Ok(wording.resync(reason)),
                Delivery::CutOff => break,
            }
        }
    }
}

/// The last words of a stream that ends because the process does. A comment is no event, so that
/// clients do what they do after any end: connect again, with the last id that they saw.
pub(crate) fn farewell() -> Bytes {
    format!(": this replica is shutting down, connect again\nretry: {RETRY_MS}\n\n").into()
}

pub(super) fn frame(event: &str, data: &str, id: Option<&str>) -> Bytes {
    let mut text = String::with_capacity(event.len() + data.len() + 64);
    if event == "dd:connected" {
        text.push_str(&format!("retry: {RETRY_MS}\n"));
    }
    if let Some(id) = id {
        text.push_str("id: ");
        text.push_str(id);
        text.push('\n');
    }
    text.push_str("event: ");
    text.push_str(event);
    text.push('\n');
    // JSON has no raw line breaks unless somebody formatted it.
    for line in data.split(['\n', '\r']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_cannot_be_broken_by_its_data() {
        let frame = frame("t", "{\n\"a\": 1}\r\n", Some("1-2"));
        let text = std::str::from_utf8(&frame).unwrap();
        assert_eq!(
            text,
            "id: 1-2\nevent: t\ndata: {\ndata: \"a\": 1}\ndata: \ndata: \n\n"
        );
    }
}
