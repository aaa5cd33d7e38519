//! Containers that an operation made and that did not survive it (I-11).
//!
//! Never by name or label alone: an operation that the database does not know may be known to the
//! database that this one was restored from (reliability.md P3, P4), and a label may have come
//! along with an image that somebody made from one of our containers.

use chrono::{DateTime, Duration, Utc};
use plimsoll_app::{App, store::update_operations::Operation};
use plimsoll_domain::{
    ids::{OperationId, WatcherRef},
    operation::Phase,
    spec::{OPERATION_LABEL, ROLE_LABEL, stop_grace},
};

use super::ReconcileError;
use crate::{
    docker::{ContainerSummary, Engine, ListFilter},
    operations::{ROLE_DEPENDANT, is_helper, run_of},
};

/// What was made later than this after the end was not made by the operation.
const LATE: Duration = Duration::minutes(2);
/// A worker that ended the operation may be cleaning up itself.
const SETTLE: Duration = Duration::seconds(5);

pub(super) async fn tend(
    app: &App,
    watcher: &WatcherRef,
    engine: &Engine,
) -> Result<(), ReconcileError> {
    for container in engine
        .list(ListFilter::label(OPERATION_LABEL, None))
        .await?
    {
        let label = container.labels.get(OPERATION_LABEL);
        let Some(id) = label.and_then(|id| id.parse::<OperationId>().ok()) else {
            continue;
        };
        match app.store().operation(id).await? {
            Some(operation) if operation.watcher != *watcher => {}
            Some(operation) if is_leftover(&operation, &container, Utc::now()) => {
                remove(engine, &container, &operation).await?;
            }
            Some(_) => {}
            None => tracing::debug!(
                container = %container.id.short(),
                operation = %id,
                "a container of an operation that is not known here; it is left alone"
            ),
        }
    }
    Ok(())
}

/// Whether the operation made the container, is over, and another one is its survivor.
fn is_leftover(operation: &Operation, container: &ContainerSummary, now: DateTime<Utc>) -> bool {
    let Some(ended) = operation.completed_at else {
        return false;
    };
    let name = container.names.first().map_or("", String::as_str);
    let label = container.labels.get(OPERATION_LABEL);
    let helps = is_helper(name, label.map(String::as_str));
    let survivor = match operation.phase {
        _ if helps => None,
        Phase::Succeeded => operation.new_container_id.as_deref(),
        Phase::RolledBack => operation.old_container_id.as_deref(),
        // Nothing was made, or an operator has taken over.
        _ => return false,
    };
    let made = DateTime::from_timestamp(container.created, 0);
    let in_its_time =
        made.is_some_and(|made| made >= operation.created_at - LATE && made <= ended + LATE);
    // One that lives in the namespaces of the survivor has a life of its own (S17).
    let is_dependant = container
        .labels
        .get(ROLE_LABEL)
        .is_some_and(|role| role == ROLE_DEPENDANT);
    let survives =
        !helps && (is_dependant || survivor.is_none_or(|id| id == container.id.as_str()));
    in_its_time && !survives && now > ended + SETTLE
}

async fn remove(
    engine: &Engine,
    container: &ContainerSummary,
    operation: &Operation,
) -> Result<(), ReconcileError> {
    tracing::warn!(
        container = %container.id.short(),
        operation = %operation.id,
        "removing a container that an operation left over"
    );
    match engine.inspect(&container.id).await {
        Ok(inspect) if run_of(&inspect).is_alive() => {
            engine.stop(&container.id, stop_grace(&inspect)).await?;
        }
        Ok(_) => {}
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match engine.remove(&container.id).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use plimsoll_domain::{
        ids::{ContainerId, IdentityKey},
        operation::OperationKind,
    };

    use super::*;

    fn id(digit: &str) -> String {
        digit.repeat(64)
    }

    fn operation(phase: Phase, now: DateTime<Utc>) -> Operation {
        let watcher = WatcherRef::local("w");
        Operation {
            id: OperationId::generate(),
            kind: OperationKind::Update,
            identity: IdentityKey::new(&watcher, "app", None),
            watcher,
            container_id: id("a"),
            container_name: "app".to_owned(),
            phase,
            intent: None,
            seq: 9,
            trigger_name: None,
            from_version: None,
            to_version: None,
            target_image: "app:2".to_owned(),
            target_digest: None,
            backup: None,
            old_container_id: Some(id("a")),
            old_name: None,
            temp_name: None,
            new_container_id: Some(id("b")),
            old_was_running: Some(true),
            snapshot: None,
            new_spec: None,
            gate: None,
            evidence: None,
            rollback_reason: None,
            last_error: None,
            exit_code: None,
            last_log: None,
            actor: "x".to_owned(),
            request_id: None,
            created_at: now - Duration::minutes(1),
            updated_at: now,
            completed_at: phase.is_terminal().then_some(now - Duration::seconds(30)),
            acknowledged_at: None,
            group: None,
            compose_file: None,
        }
    }

    fn container(digit: &str, created: DateTime<Utc>) -> ContainerSummary {
        ContainerSummary {
            id: ContainerId::parse(&id(digit)).unwrap(),
            names: vec!["whatever".to_owned()],
            image: String::new(),
            image_id: String::new(),
            labels: BTreeMap::new(),
            state: "exited".to_owned(),
            status: String::new(),
            created: created.timestamp(),
            networks: Vec::new(),
        }
    }

    #[test]
    fn only_what_did_not_survive_an_operation_that_is_over_goes() {
        let now = Utc::now();
        let made = now - Duration::seconds(50);
        for (phase, digit, goes) in [
            (Phase::Succeeded, "b", false),
            (Phase::Succeeded, "c", true),
            (Phase::RolledBack, "b", true),
            (Phase::RolledBack, "a", false),
            (Phase::HealthGate, "c", false),
            (Phase::RollbackFailed, "b", false),
            (Phase::Failed, "b", false),
        ] {
            let leftover = is_leftover(&operation(phase, now), &container(digit, made), now);
            assert_eq!(leftover, goes, "{phase} {digit}");
        }
    }

    #[test]
    fn a_dependant_that_was_made_again_stays() {
        let now = Utc::now();
        let made = now - Duration::seconds(50);
        let mut dependant = container("c", made);
        let role = (ROLE_LABEL.to_owned(), ROLE_DEPENDANT.to_owned());
        dependant.labels.extend([role]);
        let operation = operation(Phase::Succeeded, now);
        assert!(!is_leftover(&operation, &dependant, now));
    }

    #[test]
    fn what_was_made_at_another_time_is_somebody_elses() {
        let now = Utc::now();
        let operation = operation(Phase::RolledBack, now);
        for made in [now - Duration::days(1), now + Duration::minutes(10)] {
            let later = now + Duration::hours(1);
            assert!(!is_leftover(&operation, &container("c", made), later));
        }
    }
}
