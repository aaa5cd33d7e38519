//! Says in the log what it would send.

use futures::future::BoxFuture;

use super::{Notifier, Outgoing, Sent};

pub struct Mock;

impl Notifier for Mock {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        tracing::info!(
            event = message.event,
            title = message.text.title,
            body = message.text.body,
            "a mock trigger was told"
        );
        Box::pin(async { Ok(None) })
    }
}
