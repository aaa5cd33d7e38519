//! One trigger's deliveries, one after the other.

use std::{collections::HashSet, time::Duration};

use plimsoll_app::{
    App,
    store::{
        StoreError,
        notifications::{Message, TAKE_BACK},
    },
    totals::Total,
};
use plimsoll_domain::{
    message::{combined, simple},
    notification::{Form, Rule, backoff},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Failure, Outgoing, Sent, Trigger};

/// Between looks for messages that are due.
const LOOK: Duration = Duration::from_millis(500);
/// A claim outlives what it is for by this much.
const MARGIN: Duration = Duration::from_secs(20);
/// How long a delivery that is under way may go on when the process is asked to end.
const GRACE: Duration = Duration::from_secs(8);
/// Characters of an error that are kept.
const MAX_ERROR: usize = 500;

pub(super) async fn run(app: App, trigger: Trigger, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let delivered = deliver_next(&app, &trigger, &shutdown).await;
        match delivered {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "messages are delivered later"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Whether there was something to deliver.
async fn deliver_next(
    app: &App,
    trigger: &Trigger,
    shutdown: &CancellationToken,
) -> Result<bool, StoreError> {
    let claim = Uuid::now_v7();
    let key = (&*trigger.agent, trigger.type_, &*trigger.name);
    let time = trigger.notifier.patience() + MARGIN;
    let mut messages = app.store().claim_messages(key, claim, time).await?;
    if messages.is_empty() {
        return Ok(false);
    }
    withdraw_untrue(app, claim, &mut messages).await?;
    if messages.is_empty() {
        return Ok(true);
    }
    let sent = tokio::select! {
        sent = send(trigger, &messages) => sent,
        () = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        } => {
            app.store().return_messages(claim).await?;
            return Ok(false);
        }
    };
    let status = if sent.is_ok() { "success" } else { "error" };
    let labels = [trigger.type_, &trigger.name, status];
    app.tally().add(Total::TriggerRuns, &labels, 1.0);
    match sent {
        Ok(receipt) => {
            let receipt = receipt.filter(|_| trigger.takes_back);
            app.store()
                .messages_delivered(claim, receipt.as_ref())
                .await?;
        }
        Err(failure) => {
            let attempts = messages.iter().map(|m| m.attempts).max().unwrap_or(1);
            let chance = rand::random::<f64>();
            let wait = backoff(u32::try_from(attempts).unwrap_or(1), chance);
            let wait = failure.again_after.map_or(wait, |asked| asked.max(wait));
            let why: String = failure.why.chars().take(MAX_ERROR).collect();
            let last = failure.is_final;
            let is_dead = app.store().messages_failed(claim, &why, wait, last).await?;
            let trigger = format!("{}.{}", trigger.type_, trigger.name);
            match is_dead {
                true => tracing::warn!(trigger, why, "a message was given up"),
                false => tracing::info!(trigger, why, "a message is sent again later"),
            }
        }
    }
    Ok(true)
}

/// A digest tells what is true when it is read, and so does what a service would not take for a
/// while: updates that were applied in the meantime are left out.
async fn withdraw_untrue(
    app: &App,
    claim: Uuid,
    messages: &mut Vec<Message>,
) -> Result<(), StoreError> {
    let may_be_old = messages.first().is_some_and(|m| {
        let is_late = m.form == Form::Digest || m.attempts > 1;
        is_late && m.rule == Rule::UpdateAvailable.as_str()
    });
    if !may_be_old {
        return Ok(());
    }
    let told: Vec<(&str, &str)> = messages
        .iter()
        .map(|m| {
            let candidate = m.payload["candidate"].as_str().unwrap_or_default();
            (m.identity.as_str(), candidate)
        })
        .collect();
    let true_still = app.still_available(&told).await?;
    let untrue: Vec<Uuid> = messages
        .iter()
        .zip(&true_still)
        .filter(|(_, is_true)| !**is_true)
        .map(|(message, _)| message.id)
        .collect();
    if untrue.is_empty() {
        return Ok(());
    }
    let why = "The update is not available any more";
    app.store().withdraw_messages(claim, &untrue, why).await?;
    let untrue: HashSet<Uuid> = untrue.into_iter().collect();
    messages.retain(|message| !untrue.contains(&message.id));
    Ok(())
}

/// A notifier that panics or does not end has failed, and nothing else.
async fn send(trigger: &Trigger, messages: &[Message]) -> Sent {
    let Some(first) = messages.first() else {
        return Ok(None);
    };
    let notifier = trigger.notifier.clone();
    let patience = notifier.patience();
    let attempt = if first.rule == TAKE_BACK {
        let receipt = first.payload["receipt"].clone();
        tokio::spawn(async move { notifier.take_back(&receipt).await })
    } else {
        let outgoing = worded(trigger, messages, first);
        tokio::spawn(async move { notifier.send(&outgoing).await })
    };
    let abort = attempt.abort_handle();
    // Also when the lane itself is dropped.
    let _guard = AbortOnDrop(abort);
    match tokio::time::timeout(patience, attempt).await {
        Ok(Ok(sent)) => sent,
        Ok(Err(_)) => Err(Failure::new("the notifier broke down")),
        Err(_) => Err(Failure::new(format!(
            "it did not end within {} s",
            patience.as_secs()
        ))),
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn worded(trigger: &Trigger, messages: &[Message], first: &Message) -> Outgoing {
    let payloads: Vec<&Value> = messages.iter().map(|m| &m.payload).collect();
    let many = first.form != Form::Simple;
    let text = match many {
        true => combined(&first.rule, &trigger.templates, &payloads),
        false => simple(&first.rule, &trigger.templates, &first.payload),
    };
    let subjects = payloads.into_iter().map(|payload| {
        let container = &payload["container"];
        if container.is_object() {
            container
        } else {
            payload
        }
    });
    Outgoing {
        id: first.id,
        event: first.rule.clone(),
        text,
        subjects: subjects.cloned().collect(),
        many,
    }
}
