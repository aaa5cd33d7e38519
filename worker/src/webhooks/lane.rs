//! One endpoint's deliveries, one after the other.

use std::{sync::Arc, time::Duration};

use plimsoll_app::{App, AppError, webhook_deliveries::Attempt};
use plimsoll_domain::ids::WebhookEndpointId;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::sender::{PATIENCE, Sender};

/// A claim outlives what it is for by this much.
const MARGIN: Duration = Duration::from_secs(15);
/// How long a delivery that is under way may go on when the process is asked to end.
const GRACE: Duration = Duration::from_secs(8);

/// Sends what is due.
pub(super) async fn run(
    app: App,
    sender: Arc<Sender>,
    endpoint: WebhookEndpointId,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        match deliver_next(&app, &sender, endpoint, &shutdown).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::debug!(%error, %endpoint, "webhooks are sent later");
                return;
            }
        }
    }
}

/// Whether there was something to deliver. No connection to the database is held meanwhile.
async fn deliver_next(
    app: &App,
    sender: &Sender,
    endpoint: WebhookEndpointId,
    shutdown: &CancellationToken,
) -> Result<bool, AppError> {
    let claim = Uuid::now_v7();
    let store = app.store();
    let time = PATIENCE + MARGIN;
    let Some(delivery) = store.claim_webhook_delivery(endpoint, claim, time).await? else {
        return Ok(false);
    };
    let attempt = Attempt {
        endpoint,
        claim,
        delivery: delivery.id,
    };
    let sent = tokio::select! {
        sent = sender.send(&delivery) => sent,
        () = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        } => {
            store.return_webhook(attempt).await?;
            return Ok(false);
        }
    };
    match sent {
        Ok(status) => app.webhook_delivered(attempt, status.as_u16()).await?,
        Err(failure) => {
            tracing::debug!(%endpoint, why = failure.why, "a webhook was not taken");
            let chance = rand::random();
            app.webhook_failed(attempt, delivery.attempts, &failure, chance)
                .await?;
        }
    }
    Ok(true)
}
