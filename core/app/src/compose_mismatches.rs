//! Making a container run what its Compose file says (reference/docksmith-dokploy-dockup.md 1.2).

use std::time::Duration;

use plimsoll_domain::{
    access::Scope, check_status::ComposeImage, compose::FileUse, ids::OperationId, image::ImageRef,
    operation::OperationKind,
};
use plimsoll_queue::rpc::RpcError;
use serde::{Deserialize, Serialize};

use crate::{
    App, AppError, live,
    requests::{Caller, Request},
    update_triggers::trigger_of,
    updates::{Refused, UpdateOrigin, refuse_without_file},
};

/// The kind of live read that workers answer with what a file says.
pub const COMPOSE_IMAGE: &str = "compose-image";
/// The code of its error for a service that has no image in its files; the message is its name.
pub const NO_IMAGE: &str = "no-image";
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComposeImageQuestion {
    pub container_id: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComposeImageAnswer {
    /// As the engine shows it for the container.
    pub running: String,
    /// With its variables filled in.
    pub specified: String,
    pub file: String,
}

impl App {
    /// Accepts an operation that pulls what the container's Compose file says and makes the
    /// container again from it, with the gate and the way back of any update. The file stays as it
    /// is.
    ///
    /// # Errors
    /// In this order: `Forbidden` when actions are off, `NotFound`; `Conflict` for what no update
    /// would touch, for a container that Compose did not make and for a file that must not be read
    /// or does not say; `Failed`, in the contract's words, for a service without an image;
    /// `Unavailable` when no worker answers; `Invalid` where the two agree.
    pub async fn request_compose_fix(
        &self,
        container: &str,
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
        let triggers = self.update_triggers(&facts.watcher.agent).await?;
        self.refuse_hard(state, &triggers, Refused::AnyTarget)?;
        refuse_without_file(state)?;
        let trigger = trigger_of(state, &triggers)?;
        let ask = async {
            let question = live::payload(&ComposeImageQuestion {
                container_id: facts.id.to_string(),
            })?;
            self.ask_worker(&facts.watcher, COMPOSE_IMAGE, &question, PATIENCE)
                .await
        };
        let answer = ask.await.map_err(|error| match error {
            RpcError::Remote(error) if error.code == NO_IMAGE => AppError::Failed(format!(
                "failed to extract image from compose file: no image key found for service {}",
                error.message
            )),
            RpcError::Remote(error) if error.code == "refused" => AppError::conflict(error.message),
            error => live::refusal("The container's Compose file is", error),
        })?;
        let answer: ComposeImageAnswer = serde_json::from_value(answer)
            .map_err(|_| AppError::Failed("The worker's answer cannot be read".to_owned()))?;
        let image = ComposeImage {
            running: &answer.running,
            specified: &answer.specified,
        };
        if !image.differs() {
            return Err(AppError::Invalid(format!(
                "The container runs what {} says",
                answer.file
            )));
        }
        let target = ImageRef::parse(&answer.specified).map_err(|error| {
            AppError::conflict(format!("{} in {}: {error}", answer.specified, answer.file))
        })?;
        let request = Request {
            kind: OperationKind::Update,
            state,
            trigger_name: &trigger,
            from_version: Some(&facts.image.tag.value),
            to_version: Some(target.tag_name()),
            target_image: &target.familiar_tagged(),
            target_digest: target.digest().map(|digest| digest.as_str()),
            backup: None,
            compose_file: Some(FileUse::Apply),
            rollback_reason: None,
            audit_action: UpdateOrigin::Container.audit_action(),
        };
        self.accept(request, caller).await
    }
}
