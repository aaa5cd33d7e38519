//! Event fan-out: a published message says "there are new rows in the event table", so that every
//! API replica reads them at once instead of at its next poll. Losing one costs latency.

use futures::{Stream, StreamExt};

use crate::{Queue, QueueError};

const CHANNEL: &str = "plimsoll:events";

impl Queue {
    /// Wakes every replica's event reader. Callers log a failure and go on.
    pub async fn announce_events(&self) -> Result<(), QueueError> {
        let mut connection = self.manager();
        let mut command = redis::cmd("PUBLISH");
        command.arg(CHANNEL).arg("");
        Ok(command.query_async(&mut connection).await?)
    }

    /// Yields once per announcement and ends when the connection does: subscribe again then.
    pub async fn event_announcements(
        &self,
    ) -> Result<impl Stream<Item = ()> + Send + Unpin + use<>, QueueError> {
        let mut subscription = self.client().get_async_pubsub().await?;
        subscription.subscribe(CHANNEL).await?;
        Ok(subscription.into_on_message().map(|_| ()))
    }
}
