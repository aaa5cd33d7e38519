//! WebSockets: texts to a client until they end, with what every socket needs around that.

use std::time::Duration;

use futures::{Sink, SinkExt, Stream, StreamExt};
use plimsoll_app::AppError;
use plimsoll_domain::access::Scope;
use poem::{
    FromRequest, Request, RequestBody,
    web::websocket::{
        BoxWebSocketUpgraded, CloseCode, Message, WebSocket, WebSocketConfig, WebSocketStream,
    },
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{ApiState, drydock::error::ApiError, middleware::context::RequestContext};

/// How often the client is asked whether it is there, and its credential checked.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that has not answered for this long is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// A client that takes nothing for this long is slow: what it misses is not kept.
const SLOW: Duration = Duration::from_secs(10);
/// How long the close may take to be answered.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of a message from a client; none of ours takes more than a word.
const MAX_MESSAGE: usize = 4096;

/// Why the server closes a socket (RFC 6455, 7.4; contract/drydock-container-api.md, "Close
/// codes").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    code: u16,
    reason: String,
}

impl Close {
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        // A close frame has room for 123 bytes.
        let mut end = reason.len().min(120);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        Self { code, reason }
    }

    pub fn normal() -> Self {
        Self::new(1000, "")
    }

    /// 1013: what the client misses is not kept.
    pub fn slow() -> Self {
        Self::new(1013, "The client reads too slowly")
    }
}

/// A request to speak WebSocket. Take it after the principal, so that strangers hear 401.
pub struct Upgrade(WebSocket);

impl<'a> FromRequest<'a> for Upgrade {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> poem::Result<Self> {
        match WebSocket::from_request(request, body).await {
            Ok(socket) => Ok(Self(socket)),
            Err(_) => {
                Err(ApiError::bad_request("This is a WebSocket: connect to it as such").into())
            }
        }
    }
}

impl Upgrade {
    /// Sends the texts that `open` gives, then closes as it says. Each batch is sent at once. The
    /// socket outlives neither the credential nor the process.
    pub fn serve<F, S>(
        self,
        state: ApiState,
        context: RequestContext,
        scope: Scope,
        open: impl FnOnce() -> F + Send + Sync + 'static,
    ) -> BoxWebSocketUpgraded
    where
        F: Future<Output = Result<S, Close>> + Send,
        S: Stream<Item = Result<Vec<String>, Close>> + Send,
    {
        let config = WebSocketConfig::default()
            .read_buffer_size(MAX_MESSAGE)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        self.0
            .config(config)
            .on_upgrade(move |mut socket| async move {
                let close = match open().await {
                    Ok(texts) => send_all(&mut socket, &state, &context, scope, texts).await,
                    Err(close) => Some(close),
                };
                if let Some(close) = close {
                    say_goodbye(socket, close).await;
                }
            })
            .boxed()
    }
}

/// `None` when the client has left.
async fn send_all(
    socket: &mut WebSocketStream,
    state: &ApiState,
    context: &RequestContext,
    scope: Scope,
    texts: impl Stream<Item = Result<Vec<String>, Close>>,
) -> Option<Close> {
    let mut texts = std::pin::pin!(texts);
    let (mut out, mut incoming) = socket.split();
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.tick().await;
    let mut heard = Instant::now();
    loop {
        let batch = tokio::select! {
            () = state.shutdown.cancelled() => {
                return Some(Close::new(1001, "The server is shutting down"));
            }
            message = incoming.next() => match message {
                None | Some(Err(_) | Ok(Message::Close(_))) => return None,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            _ = heartbeat.tick() => {
                if heard.elapsed() > SILENCE {
                    return None;
                }
                if !still_allowed(state, context, scope).await {
                    return Some(Close::new(1008, "The credential is not valid any more"));
                }
                vec![Message::Ping(Vec::new())]
            }
            batch = texts.next() => match batch {
                None => return Some(Close::normal()),
                Some(Err(close)) => return Some(close),
                Some(Ok(batch)) => batch.into_iter().map(Message::Text).collect(),
            },
        };
        match timeout(SLOW, send(&mut out, batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(Close::slow()),
        }
    }
}

async fn send(
    out: &mut (impl Sink<Message, Error = std::io::Error> + Unpin),
    batch: Vec<Message>,
) -> std::io::Result<()> {
    for message in batch {
        out.feed(message).await?;
    }
    out.flush().await
}

/// Sends the close, and waits a little for the client's: a socket that is shut with something
/// unread would take the close back from the client.
async fn say_goodbye(mut socket: WebSocketStream, close: Close) {
    let message = Message::Close(Some((CloseCode::from(close.code), close.reason)));
    if let Ok(Ok(())) = timeout(SLOW, socket.send(message)).await {
        let _ = timeout(FAREWELL, async {
            while let Some(Ok(_)) = socket.next().await {}
        })
        .await;
    }
}

/// Whether the credential still holds: a stream outlives neither its session nor its token.
pub async fn still_allowed(state: &ApiState, context: &RequestContext, scope: Scope) -> bool {
    let authenticated = state.app.authenticate(&context.presented, context.client);
    match authenticated.await {
        Ok(authenticated) => authenticated.principal.may(scope),
        Err(AppError::Unavailable { .. }) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        let close = Close::new(1011, "\u{20ac}".repeat(100));
        assert_eq!(close.reason.len(), 120);
        assert_eq!(Close::new(1000, "x").reason, "x");
    }
}
