//! Labels of containers, and changing them. The container is made anew by the program of updates,
//! with the same image, gate and way back; one of a Compose service keeps its file in step.

use std::collections::HashMap;

use plimsoll_domain::{
    access::Scope,
    container::ComposeRef,
    ids::OperationId,
    labels::{LabelChange, LabelReach, LabelRequest},
    operation::OperationKind,
    target::is_rollback_name,
};
use plimsoll_store::operation_inputs::OperationInput;

use crate::{
    App, AppError,
    actions::shown_image,
    requests::{Caller, Request},
};

/// All labels of a container, those of its image included.
#[derive(Clone, Debug)]
pub struct ContainerLabels {
    pub container_id: String,
    pub container_name: String,
    pub labels: HashMap<String, String>,
    /// Where it is of one: its file has labels too.
    pub compose: Option<ComposeRef>,
}

impl App {
    /// # Errors
    /// `NotFound`.
    pub async fn container_labels(&self, container: &str) -> Result<ContainerLabels, AppError> {
        let entry = self.get_container(container).await?;
        let facts = &entry.state.facts;
        Ok(ContainerLabels {
            container_id: facts.id.as_str().to_owned(),
            container_name: facts.name.clone(),
            labels: facts
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            compose: facts.compose.clone(),
        })
    }

    /// Accepts a change of the container's labels.
    ///
    /// # Errors
    /// In this order: `Forbidden` when actions are off, `NotFound` container, `Invalid` for the file
    /// of a container that is of none, `NotFound` trigger; then `Conflict` for a temporary rollback
    /// container, one that another controller owns, and while another operation is active.
    pub async fn request_label_change(
        &self,
        container: &str,
        change: LabelChange,
        reach: LabelReach,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        self.container_actions_allowed()?;
        if let Some(operation) = self.replayed(caller).await? {
            return Ok(operation);
        }
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let facts = &state.facts;
        if reach == LabelReach::File && facts.compose.is_none() {
            return Err(AppError::Invalid(
                "The container is of no Compose service, so its labels are in no file: it has to \
                 be made anew"
                    .to_owned(),
            ));
        }
        let trigger = self.trigger_name(state).await?;
        if is_rollback_name(&facts.name) {
            return Err(AppError::conflict(
                "Cannot change the labels of a temporary rollback container renamed with \
                 -old-{timestamp}",
            ));
        }
        if let Some(manager) = facts.manager {
            return Err(AppError::conflict(format!(
                "The container is managed by {}, which would undo the change",
                manager.as_str()
            )));
        }
        let image = shown_image(state);
        let request = Request {
            kind: OperationKind::LabelChange,
            state,
            trigger_name: &trigger,
            from_version: None,
            to_version: None,
            target_image: &image,
            target_digest: None,
            backup: None,
            compose_file: None,
            rollback_reason: None,
            audit_action: "label-change",
        };
        let labels = LabelRequest { change, reach };
        let input = OperationInput {
            labels: Some(&labels),
            ..OperationInput::default()
        };
        self.accept_with(request, input, caller).await
    }
}
