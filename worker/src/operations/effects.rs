//! What each action does to the engine. Each can be repeated: what is already so is success, and
//! what is unclear is looked at in the next turn (reliability.md D4).

use std::collections::BTreeMap;

use plimsoll_app::store::journal::{Changes, Completion};
use plimsoll_domain::{
    ids::ContainerId,
    image::ImageRef,
    operation::OperationKind,
    recovery::{Action, Prior, Run},
    spec::{
        AutoRemove, EPOCH_LABEL, EngineFacts, NewSpec, OPERATION_LABEL, ROLE_LABEL, SpecInput,
        plan, stop_grace,
    },
};
use serde_json::{Value, json};

use super::{
    error::StepError,
    observe::{ROLE_RESTORED, View, run_of},
    plan::Snapshot,
    program::{Program, Turn, id_of},
};
use crate::docker::{Disconnect, EngineError};

impl Program<'_> {
    pub(super) async fn effect(&mut self, action: Action, view: &View) -> Result<Turn, StepError> {
        let old = || required(view.old.as_ref(), "the old container");
        let new = || required(view.new.as_ref(), "the new container");
        match action {
            // Boxed, like what it calls: the largest future by far would be in all others' way.
            Action::Prepare => return Box::pin(self.prepare(view)).await,
            Action::RenameOld => {
                let name = self.temp_name()?;
                self.engine.rename(&old()?, &name).await?;
            }
            Action::CreateNew => self.create_new().await?,
            Action::RemoveNew => self.remove_new(new()?, view).await?,
            Action::NeutraliseOld => {
                self.engine.set_restart_policy(&old()?, &never()).await?;
            }
            Action::StopDependants => self.stop_dependants(view).await?,
            Action::StopOld => self.stop_old(&old()?, view).await?,
            Action::StartNew => {
                self.engine.start(&new()?).await?;
                self.pause_if_it_was(&new()?, self.prior()).await?;
            }
            Action::SettleDependants => self.settle_dependants(view).await?,
            Action::WriteFile => self.write_file().await?,
            Action::RemoveOld => gone_is_fine(self.engine.remove(&old()?).await)?,
            Action::RenameBack => {
                self.engine
                    .rename(&old()?, &self.operation.container_name)
                    .await?;
            }
            Action::RestorePolicy => {
                if let Some(snapshot) = &self.snapshot {
                    let policy = snapshot.restart_policy();
                    self.engine.set_restart_policy(&old()?, policy).await?;
                }
                self.restore_tag().await;
            }
            Action::StartOld => {
                self.restarts += 1;
                self.restore_tag().await;
                self.engine.start(&old()?).await?;
                self.pause_if_it_was(&old()?, self.prior()).await?;
                self.old_started = Some(self.now());
            }
            Action::RecreateOld => self.recreate_old().await?,
        }
        Ok(Turn::Next)
    }

    fn temp_name(&self) -> Result<String, StepError> {
        let name = self.operation.temp_name.clone();
        name.ok_or_else(|| StepError::Refused("the operation is not prepared".to_owned()))
    }

    async fn create_new(&mut self) -> Result<(), StepError> {
        self.creations += 1;
        let Some(plan) = &self.plan else {
            return Err(StepError::Refused(
                "the operation is not prepared".to_owned(),
            ));
        };
        let name = &self.operation.container_name;
        self.create(name, &plan.spec).await.map(drop)
    }

    /// Creates a container with all its networks or not at all (S14).
    pub(super) async fn create(
        &self,
        name: &str,
        spec: &NewSpec,
    ) -> Result<ContainerId, StepError> {
        let created = self.engine.create(name, &spec.create_body).await?;
        for warning in created.warnings {
            tracing::warn!(operation = %self.operation.id, warning, "the engine remarks");
        }
        for network in &spec.extra_networks {
            if let Err(error) = self
                .connect(&created.id, network.target(), &network.endpoint)
                .await
            {
                // If this fails too, the next look finds it incomplete and removes it.
                gone_is_fine(self.engine.remove(&created.id).await)?;
                return Err(error.into());
            }
        }
        Ok(created.id)
    }

    /// A stale endpoint of a container that is ours is taken away once (reliability.md D8).
    async fn connect(
        &self,
        id: &ContainerId,
        network: &str,
        endpoint: &Value,
    ) -> Result<(), EngineError> {
        match self.engine.connect_network(network, id, endpoint).await {
            Err(error) if error.to_string().contains("already exists in network") => {
                self.engine
                    .disconnect_network(network, id, Disconnect::Forced)
                    .await?;
                self.engine.connect_network(network, id, endpoint).await
            }
            other => other,
        }
    }

    async fn remove_new(&self, id: ContainerId, view: &View) -> Result<(), StepError> {
        if let Some(new) = &view.new {
            self.stop(&id, new).await?;
        }
        gone_is_fine(self.engine.remove(&id).await)?;
        Ok(())
    }

    /// Whether it worked is seen in the next turn (reliability.md D6).
    async fn stop_old(&mut self, id: &ContainerId, view: &View) -> Result<(), StepError> {
        self.stops += 1;
        match &view.old {
            Some(old) => self.stop(id, old).await,
            None => Ok(()),
        }
    }

    /// Asks, then kills. What does not run is left alone.
    pub(super) async fn stop(&self, id: &ContainerId, inspect: &Value) -> Result<(), StepError> {
        if !run_of(inspect).is_alive() {
            return Ok(());
        }
        gone_is_fine(self.engine.stop(id, stop_grace(inspect)).await)?;
        if self.is_alive(id).await? {
            tracing::warn!(
                operation = %self.operation.id,
                container = %id.short(),
                "it does not stop and is killed"
            );
            gone_or_stopped_is_fine(self.engine.kill(id).await)?;
        }
        Ok(())
    }

    async fn is_alive(&self, id: &ContainerId) -> Result<bool, EngineError> {
        match self.engine.inspect(id).await {
            Ok(inspect) => Ok(run_of(&inspect).is_alive()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn pause_if_it_was(
        &self,
        id: &ContainerId,
        prior: Prior,
    ) -> Result<(), StepError> {
        if prior != Prior::Paused {
            return Ok(());
        }
        match self.engine.pause(id).await {
            Err(error) => {
                let inspect = self.engine.inspect(id).await?;
                if run_of(&inspect) == Run::Paused {
                    return Ok(());
                }
                Err(error.into())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The one step that may be taken before it could be written: the intent was written with the
    /// stop, the lease is ours, and the service is down (reliability.md P2). The next turn finds
    /// the container started.
    pub(super) async fn start_ahead(&mut self) {
        if self.started_ahead || !self.lease.is_held() || !self.is_to_run() {
            return;
        }
        self.started_ahead = true;
        let id = self.operation.new_container_id.as_deref();
        let Some(id) = id.and_then(ContainerId::parse) else {
            return;
        };
        tracing::warn!(operation = %self.operation.id, "starting the new container while the database is away");
        if let Err(error) = self.engine.start(&id).await {
            tracing::warn!(%error, "it could not be started");
        }
    }

    /// The tag that the new image was given goes back to the old one, so that `repository:tag` is
    /// again what the container runs.
    async fn restore_tag(&self) {
        let (Some(snapshot), Some(plan)) = (&self.snapshot, &self.plan) else {
            return;
        };
        // With other labels no tag was moved.
        let moved_none = self.operation.kind == OperationKind::LabelChange;
        if moved_none || snapshot.reference() != plan.reference {
            return;
        }
        let Ok(reference) = ImageRef::parse(&plan.reference) else {
            return;
        };
        let moved = self
            .engine
            .tag_image(
                snapshot.image_id(),
                &reference.familiar_name(),
                reference.tag_name(),
            )
            .await;
        if let Err(error) = moved {
            tracing::warn!(%error, operation = %self.operation.id, "a tag could not be moved back");
        }
    }

    /// Makes the old container again from the snapshot (reliability.md R-4).
    async fn recreate_old(&mut self) -> Result<(), StepError> {
        let Some(snapshot) = self.snapshot.clone() else {
            return Err(StepError::Refused(
                "the old container is gone and was never recorded".to_owned(),
            ));
        };
        let spec = self
            .as_it_was(
                &snapshot,
                ROLE_RESTORED,
                &BTreeMap::new(),
                AutoRemove::Accept,
                &[],
            )
            .await?;
        self.restore_tag().await;
        let id = self.create(&self.operation.container_name, &spec).await?;
        let changes = Changes {
            old_container: Some(id),
            ..Changes::default()
        };
        self.write(
            None,
            Some(Action::RecreateOld.as_str()),
            changes,
            Completion::Open,
        )
        .await
    }

    /// A container as recorded, from the image that it ran. The rest as in [`SpecInput`].
    pub(super) async fn as_it_was(
        &self,
        was: &Snapshot,
        role: &str,
        remaps: &BTreeMap<String, String>,
        auto_remove: AutoRemove,
        changed_paths: &[String],
    ) -> Result<NewSpec, StepError> {
        let facts = self.engine_facts().await?;
        let mut image = was.image.clone();
        if image["Id"].as_str().is_none() {
            image["Id"] = json!(was.image_id());
        }
        plan(&SpecInput {
            container: &was.container,
            old_image: &was.image,
            new_image: &image,
            image_reference: match was.reference() {
                "" => was.image_id(),
                reference => reference,
            },
            engine: &facts,
            remaps,
            labels: &self.labels(role),
            auto_remove,
            changed_paths,
        })
        .map_err(|refusal| StepError::Refused(refusal.to_string()))
    }

    pub(super) fn labels(&self, role: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (OPERATION_LABEL.to_owned(), self.operation.id.to_string()),
            (EPOCH_LABEL.to_owned(), self.lease.lease().epoch.to_string()),
            (ROLE_LABEL.to_owned(), role.to_owned()),
        ])
    }

    pub(super) async fn engine_facts(&self) -> Result<EngineFacts, EngineError> {
        let version = self.engine.api_version().await?;
        Ok(EngineFacts::from_info(version, &self.engine.info().await?))
    }
}

/// The restart policy of what must not come back by itself (reliability.md R-6).
pub(super) fn never() -> Value {
    json!({ "Name": "no", "MaximumRetryCount": 0 })
}

pub(super) fn required(inspect: Option<&Value>, what: &str) -> Result<ContainerId, StepError> {
    inspect
        .and_then(id_of)
        .ok_or_else(|| StepError::Refused(format!("{what} is gone")))
}

/// Removing what is gone, or is just going, is success.
pub(super) fn gone_is_fine(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) if error.is_conflict() && error.to_string().contains("already in progress") => {
            Ok(())
        }
        other => other,
    }
}

fn gone_or_stopped_is_fine(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        other => other,
    }
}
