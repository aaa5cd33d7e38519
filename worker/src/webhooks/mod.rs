//! Outgoing webhooks: events on their way to endpoints. Signed as Standard Webhooks has it.
//!
//! Every look turns what happened into deliveries and gives each endpoint that something is due for a
//! lane of its own, so that one that is slow, broken or hostile delays nobody else.

mod lane;
mod sender;
mod signature;

use std::{collections::HashMap, sync::Arc, time::Duration};

use plimsoll_app::{App, store::StoreError};
use plimsoll_domain::ids::WebhookEndpointId;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use sender::Sender;

/// Between looks for events, and for deliveries that are due.
const LOOK: Duration = Duration::from_millis(500);

type Lanes = HashMap<WebhookEndpointId, AbortOnDropHandle<()>>;

/// Sends until `shutdown`; then what is under way may end.
pub async fn run(app: App, shutdown: CancellationToken) {
    let sender = Arc::new(Sender::new(app.settings().reach));
    let mut lanes = Lanes::new();
    while !shutdown.is_cancelled() {
        lanes.retain(|_, lane| !lane.is_finished());
        match look(&app, &sender, &mut lanes, &shutdown).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "webhooks are sent later"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    for (_, lane) in lanes {
        if let Err(error) = lane.await {
            tracing::error!(%error, "a webhook endpoint's deliveries ended badly");
        }
    }
}

/// Whether there is more to be queued.
async fn look(
    app: &App,
    sender: &Arc<Sender>,
    lanes: &mut Lanes,
    shutdown: &CancellationToken,
) -> Result<bool, StoreError> {
    let more = app.queue_webhooks().await?;
    for endpoint in app.store().waiting_webhook_endpoints().await? {
        lanes.entry(endpoint).or_insert_with(|| {
            let (app, sender) = (app.clone(), sender.clone());
            let lane: JoinHandle<()> =
                tokio::spawn(lane::run(app, sender, endpoint, shutdown.clone()));
            AbortOnDropHandle::new(lane)
        });
    }
    Ok(more)
}
