//! Preparation: everything that is slow or may fail, while nothing is touched. What may be touched
//! later is in the database when this ends.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use plimsoll_app::store::journal::{Changes, Completion};
use plimsoll_domain::{
    gate::{Lifetime, MIN_STABILITY},
    image::{Digest, ImageRef},
    labels::UserLabels,
    operation::{OperationKind, Phase},
    recovery::{Prepared, Prior},
    spec::{AutoRemove, EngineFacts, NewSpec, SpecInput, plan, repo_digest},
};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    compose::CONFIG_HASH,
    error::StepError,
    observe::{ROLE_NEW, View},
    pin_tag,
    plan::{GateRules, Plan, Snapshot, already_current, temporary_name},
    program::{Program, Turn, id_of, json},
};
use crate::{
    docker::{EngineError, PullProgress, PullRequest, RegistryAuth},
    jobs::Outcome,
    json,
    registry::{Freshness, PullAuth},
};

/// A configuration that changes this often under our hands is somebody's work in progress (F-7).
const MAX_PREPARATIONS: u32 = 3;

/// How often those who look on are told how far a pull is.
const PULL_TOLD: Duration = Duration::from_secs(1);

/// The image to go to.
struct Target {
    image: Value,
    /// `None` for an image that never came from a registry.
    digest: Option<String>,
}

/// What the new container is to be.
pub(super) struct Wanted<'a> {
    /// The old one as inspected, with whatever is to be different.
    pub(super) container: &'a Value,
    /// Its image, as inspected.
    pub(super) image: &'a Value,
    pub(super) image_id: String,
    /// What `docker ps` will call the image.
    pub(super) reference: String,
    /// By which Compose knows it again.
    pub(super) config_hash: Option<String>,
}

impl Program<'_> {
    pub(super) async fn prepare(&mut self, view: &View) -> Result<Turn, StepError> {
        self.preparations += 1;
        if self.preparations > MAX_PREPARATIONS {
            return Err(StepError::Refused(
                "its configuration keeps changing while the update is prepared".to_owned(),
            ));
        }
        let Some(container) = view.old.clone() else {
            return Ok(Turn::Next);
        };
        if let Some(turn) = self.take_turn().await? {
            return Ok(turn);
        }
        self.refuse_barred_actor().await?;
        self.refuse_own_container(&container)?;
        if self.operation.kind == OperationKind::LabelChange {
            return Box::pin(self.prepare_labels(container)).await;
        }
        let reference = self.target_reference()?;
        let shown = reference.familiar_tagged();
        let old_image = self.image_of(&container).await?;
        if let Some(turn) = self.infrastructure(&container, &old_image).await? {
            return Ok(turn);
        }
        let own_digest = repo_digest(&old_image, &reference.familiar_name()).map(str::to_owned);
        let calls_itself = container["Config"]["Image"].as_str() == Some(shown.as_str());
        if self.operation.kind == OperationKind::Update {
            let digest = self.fix_digest(&reference).await?;
            if calls_itself && own_digest.as_deref() == Some(digest.as_str()) {
                let id = container["Image"].as_str().unwrap_or_default();
                return self.is_current(id).await;
            }
        }
        Box::pin(self.update_check(&container, &old_image)).await?;
        self.signature_gate(&reference).await?;
        self.security_gate(&reference, &container, &old_image)
            .await?;
        let (target, dependants, facts) = tokio::join!(
            self.fetch(&reference),
            self.dependants_of(&container),
            self.engine_facts(),
        );
        let (target, dependants, facts) = (target?, dependants?, facts?);
        let image_id = text(&target.image, "Id").to_owned();
        if calls_itself && container["Image"] == image_id.as_str() {
            return self.is_current(&image_id).await;
        }
        refuse_other_platform(&old_image, &target.image)?;
        if let Some(turn) = Box::pin(self.hold(&container, &dependants)).await? {
            return Ok(turn);
        }
        let digest = target.digest.as_deref();
        let compose = self.compose_step(&container, &old_image, &reference, digest);
        let compose = Box::pin(compose).await?;
        self.pin(&container).await?;
        self.engine
            .tag_image(&image_id, &reference.familiar_name(), reference.tag_name())
            .await?;

        let snapshot = Snapshot::of(container, old_image, dependants);
        let wanted = Wanted {
            container: &snapshot.container,
            image: &target.image,
            image_id,
            reference: shown,
            config_hash: compose.as_ref().and_then(|step| step.config_hash.clone()),
        };
        let plan = Plan {
            compose: compose.and_then(|step| step.plan),
            ..Box::pin(self.plan_for(&snapshot, wanted, &facts)).await?
        };
        let (container, image) = (snapshot.container.clone(), snapshot.image.clone());
        self.run_pre_hook(&container, &image).await?;
        self.keep(snapshot, plan, target.digest).await
    }

    /// Plans the container that takes the place of the old one. Of what is to be written into a
    /// Compose file it says nothing.
    pub(super) async fn plan_for(
        &self,
        old: &Snapshot,
        wanted: Wanted<'_>,
        facts: &EngineFacts,
    ) -> Result<Plan, StepError> {
        let (gate, auto_remove) = self.rules(&old.container, &old.image);
        let changed_paths = self.changed_paths(&old.container).await?;
        let mut labels = self.labels(ROLE_NEW);
        if let Some(hash) = wanted.config_hash {
            labels.insert(CONFIG_HASH.to_owned(), hash);
        }
        let spec = plan(&SpecInput {
            container: wanted.container,
            old_image: &old.image,
            new_image: wanted.image,
            image_reference: &wanted.reference,
            engine: facts,
            remaps: &BTreeMap::new(),
            labels: &labels,
            auto_remove,
            changed_paths: &changed_paths,
        })
        .map_err(|refusal| StepError::Refused(refusal.to_string()))?;
        self.refuse_missing_networks(&spec).await?;
        Ok(Plan {
            reference: wanted.reference,
            image_id: wanted.image_id,
            gate,
            spec,
            compose: None,
            labels: None,
        })
    }

    /// Writes snapshot and plan; the way is free for the first change.
    pub(super) async fn keep(
        &mut self,
        snapshot: Snapshot,
        plan: Plan,
        digest: Option<String>,
    ) -> Result<Turn, StepError> {
        let operation = &self.operation;
        let name = operation.container_name.clone();
        let changes = Changes {
            target_digest: digest,
            old_container: id_of(&snapshot.container),
            temp_name: Some(temporary_name(&name, operation.id, operation.created_at)),
            old_name: Some(name),
            old_was_running: Some(snapshot.prior != Prior::Stopped),
            snapshot: json(&snapshot),
            new_spec: json(&plan),
            ..Changes::default()
        };
        self.snapshot = Some(snapshot);
        self.plan = Some(plan);
        self.write(None, Some("prepared"), changes, Completion::Open)
            .await?;
        self.prepared = Prepared::Yes;
        Ok(Turn::Next)
    }

    /// Nothing to do, and nothing done (reliability.md F-14).
    pub(super) async fn is_current(&mut self, image_id: &str) -> Result<Turn, StepError> {
        let changes = Changes {
            evidence: Some(already_current(image_id, self.now())),
            ..Changes::default()
        };
        self.write(Some(Phase::Succeeded), None, changes, Completion::Completed)
            .await?;
        Ok(Turn::End(Outcome::Done))
    }

    fn target_reference(&self) -> Result<ImageRef, StepError> {
        let image = &self.operation.target_image;
        ImageRef::parse(image).map_err(|error| StepError::Refused(format!("{image}: {error}")))
    }

    pub(super) async fn image_of(&self, container: &Value) -> Result<Value, EngineError> {
        match self.engine.inspect_image(text(container, "Image")).await {
            Ok(image) => Ok(image),
            Err(error) if error.is_not_found() => Ok(Value::Null),
            Err(error) => Err(error),
        }
    }

    /// The digest that is pulled, created from and judged by, whatever the tag does from here on
    /// (reliability.md G10).
    async fn fix_digest(&mut self, reference: &ImageRef) -> Result<String, StepError> {
        if let Some(digest) = &self.operation.target_digest {
            return Ok(digest.clone());
        }
        let digest = self
            .world
            .registries
            .digest(reference, Freshness::NotOlderThan(Utc::now()))
            .await
            .map_err(|error| {
                StepError::Refused(format!("the digest of {reference} is not known: {error}"))
            })?;
        let digest = digest.as_str().to_owned();
        let changes = Changes {
            target_digest: Some(digest.clone()),
            ..Changes::default()
        };
        self.write(None, Some("pull"), changes, Completion::Open)
            .await?;
        Ok(digest)
    }

    /// Brings the target image here.
    async fn fetch(&self, reference: &ImageRef) -> Result<Target, StepError> {
        match self.operation.kind {
            OperationKind::Update => {
                let digest = self.operation.target_digest.clone().unwrap_or_default();
                let image = self.pull(reference, &digest).await?;
                Ok(Target {
                    image,
                    digest: Some(digest),
                })
            }
            OperationKind::Rollback => self.fetch_backup(reference).await,
            other => Err(StepError::Refused(format!("a {other} needs no image"))),
        }
    }

    /// The image of a backup: the one that was kept here, which needs no registry (I-8), or else
    /// by its digest, which a moved tag cannot change.
    async fn fetch_backup(&self, reference: &ImageRef) -> Result<Target, StepError> {
        let gone = || StepError::Refused("its backup does not exist any more".to_owned());
        let id = self.operation.backup.ok_or_else(gone)?;
        let store = self.world.app.store();
        let backup = store.backup(id).await?.ok_or_else(gone)?;
        match self.engine.inspect_image(&backup.image_id).await {
            Ok(image) => Ok(Target {
                image,
                digest: backup.image_digest,
            }),
            Err(error) if error.is_not_found() => {
                let Some(digest) = backup.image_digest else {
                    return Err(StepError::Refused(format!(
                        "the image {} of the backup is gone, and it came from no registry",
                        backup.image_id
                    )));
                };
                let image = self.pull(reference, &digest).await?;
                Ok(Target {
                    image,
                    digest: Some(digest),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn pull(&self, reference: &ImageRef, digest: &str) -> Result<Value, StepError> {
        let parsed = Digest::parse(digest)
            .ok_or_else(|| StepError::Refused(format!("{digest} is not a digest")))?;
        let by_digest = format!("{}@{}", reference.familiar_name(), parsed.as_str());
        if let Ok(image) = self.engine.inspect_image(&by_digest).await {
            return Ok(image);
        }
        let auth = self.world.registries.pull_auth(reference).await;
        let auth = auth.map_err(|error| {
            StepError::Refused(format!("{reference} cannot be pulled: {error}"))
        })?;
        let request = PullRequest {
            reference: by_digest.clone(),
            auth: auth.and_then(registry_auth),
            platform: None,
        };
        // Ends with this future: the lease is watched outside.
        let (told, seen) = watch::channel(PullProgress::default());
        let cancel = CancellationToken::new();
        let pull = self.engine.pull(&request, &cancel, |progress| {
            told.send_replace(progress);
        });
        tokio::select! {
            pulled = pull => pulled?,
            () = self.tell_pull(seen) => {}
        }
        Ok(self.engine.inspect_image(&by_digest).await?)
    }

    /// Tells how far the pull is, every second. Does not end.
    async fn tell_pull(&self, mut seen: watch::Receiver<PullProgress>) {
        while seen.changed().await.is_ok() {
            let PullProgress {
                bytes_done,
                bytes_total,
            } = *seen.borrow_and_update();
            let app = &self.world.app;
            app.tell_pull(&self.operation, bytes_done, bytes_total)
                .await;
            tokio::time::sleep(PULL_TOLD).await;
        }
        std::future::pending().await
    }

    /// Keeps the old image from every prune until nothing can need it (R-5, I-8).
    async fn pin(&self, container: &Value) -> Result<(), StepError> {
        let (repository, tag) = pin_tag(&self.operation.identity, self.operation.id);
        let image = text(container, "Image");
        match self.engine.tag_image(image, &repository, &tag).await {
            // The container still runs, so the snapshot is its only way back.
            Err(error) if error.is_not_found() => {
                tracing::warn!(operation = %self.operation.id, "the image that the container runs is gone");
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Only Compose copies files into containers, and only then is it worth asking (S26).
    pub(super) async fn changed_paths(&self, container: &Value) -> Result<Vec<String>, StepError> {
        let labels = &container["Config"]["Labels"];
        match (labels.get("com.docker.compose.project"), id_of(container)) {
            (Some(_), Some(id)) => Ok(self.engine.changed_paths(&id).await?),
            _ => Ok(Vec::new()),
        }
    }

    pub(super) fn rules(&self, container: &Value, image: &Value) -> (GateRules, AutoRemove) {
        let (own, default) = (json::labels(container), json::labels(image));
        let labels = UserLabels::new(&own, &default);
        let rules = labels.rules();
        let settings = &self.world.settings;
        let stability = rules
            .stability_secs
            .map_or(settings.stability, |secs| Duration::from_secs(secs.into()));
        let deadline = settings.health_deadline.map(|d| d.as_secs());
        let gate = GateRules {
            stability_secs: stability.max(MIN_STABILITY).as_secs(),
            health_deadline_secs: rules
                .rollback
                .window_ms
                .map(|ms| u64::from(ms).div_ceil(1_000))
                .or(deadline),
            lifetime: Lifetime::chosen(&labels),
        };
        (gate, AutoRemove::chosen(&labels))
    }

    /// The engine accepts a network that does not exist, until the container is to be started.
    pub(super) async fn refuse_missing_networks(&self, spec: &NewSpec) -> Result<(), StepError> {
        for network in &spec.extra_networks {
            match self.engine.inspect_network(network.target()).await {
                Err(error) if error.is_not_found() => {
                    return Err(StepError::Refused(format!(
                        "its network {} does not exist any more",
                        network.name
                    )));
                }
                other => other.map(drop)?,
            }
        }
        Ok(())
    }

    /// Who asked for it may have lost the right to since.
    pub(super) async fn refuse_barred_actor(&self) -> Result<(), StepError> {
        let actor = &self.operation.actor;
        if self.world.app.store().actor_is_barred(actor).await? {
            return Err(StepError::Refused(format!(
                "no longer permitted: {actor} may not change containers any more"
            )));
        }
        Ok(())
    }

    /// A worker that stops itself cannot start its successor (reliability.md U1). Reached where no
    /// helper can do it.
    pub(super) fn refuse_own_container(&self, container: &Value) -> Result<(), StepError> {
        if !self.world.own.lives_in(container) {
            return Ok(());
        }
        let why = match &self.world.helper {
            Some(_) => "Plimsoll's worker runs in it and cannot do this to itself",
            None => {
                "Plimsoll runs in it together with its database, which would stop with it: replace \
                 the container by hand and keep its data directory, or set DATABASE_URL and \
                 REDIS_URL to servers that run elsewhere, and Plimsoll updates itself"
            }
        };
        Err(StepError::Refused(why.to_owned()))
    }
}

/// The engine pulls whatever platform a digest is of; one that cannot run here is found out only
/// at the start otherwise (reliability.md G8).
fn refuse_other_platform(old: &Value, new: &Value) -> Result<(), StepError> {
    for key in ["Os", "Architecture"] {
        let (had, has) = (text(old, key), text(new, key));
        if !had.is_empty() && !has.is_empty() && had != has {
            return Err(StepError::Refused(format!(
                "there is no image for {}/{}: the target is for {}/{}",
                text(old, "Os"),
                text(old, "Architecture"),
                text(new, "Os"),
                text(new, "Architecture"),
            )));
        }
    }
    Ok(())
}

/// The digest the old image was pulled by, from the repository that the container names.
pub(super) fn own_repo_digest(container: &Value, image: &Value) -> Option<String> {
    let reference = container["Config"]["Image"].as_str()?;
    let name = ImageRef::parse(reference).ok()?.familiar_name();
    repo_digest(image, &name).map(str::to_owned)
}

fn registry_auth(auth: PullAuth) -> Option<RegistryAuth> {
    let server = auth.server_address;
    match auth {
        PullAuth {
            identity_token: Some(token),
            ..
        } => Some(RegistryAuth::IdentityToken { token, server }),
        PullAuth {
            username: Some(username),
            password: Some(password),
            ..
        } => Some(RegistryAuth::Password {
            username,
            password,
            server,
        }),
        _ => None,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
