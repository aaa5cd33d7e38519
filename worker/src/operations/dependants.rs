//! The containers that live in the old container's namespaces (reliability.md S17) or have its
//! volumes (S18): stopped before it, and brought back when the operation has decided which container
//! they live with.
//!
//! All of it belongs to the operation of the container whose namespaces they are. Once that one was
//! made again there is no way back for them, so they need no health gate of their own: their image
//! and their configuration are what they were. Those with volumes could do without: they are made
//! again because they name the old container's id, by which Compose tells that they are outdated and
//! without which the engine would not make them again. Where that cannot be, they stay.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, TryStreamExt};
use plimsoll_app::store::reservations::Reservation;
use plimsoll_domain::{
    ids::{ContainerId, IdentityKey},
    image::ImageRef,
    labels::UserLabels,
    operation::Phase,
    recovery::{MAX_SETTLINGS, Prior, Run, SeenDependants},
    spec::{AutoRemove, NewSpec, dependants},
};
use serde_json::Value;

use super::{
    compose::CONFIG_HASH,
    crash_point::Side,
    effects::{gone_is_fine, never, required},
    error::StepError,
    observe::{ROLE_DEPENDANT, View, is_no, own_name, run_of},
    plan::{Snapshot, prior_of, temporary_name},
    program::{Program, Turn, id_of},
};
use crate::{
    docker::{EngineError, ListFilter},
    jobs::Outcome,
    json,
};

/// Inspections at a time when dependants are looked for.
const INSPECTIONS: usize = 8;
/// How long to wait for another operation that works on one of the containers.
const HELD_PAUSE: Duration = Duration::from_secs(1);
/// Between attempts to bring the dependants back; longer each time.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// One dependant, as the engine shows it.
pub(super) struct Kin {
    /// The one that was there before.
    old: Option<Value>,
    /// The one that this operation made.
    new: Option<Value>,
    /// Neither is there, and somebody else's container has the name (F-5).
    is_superseded: bool,
}

/// What became of a dependant, for the audit trail.
pub(super) struct DependantEnd {
    pub(super) name: String,
    pub(super) identity: IdentityKey,
    pub(super) image: String,
    /// `re-created` or `started again`.
    pub(super) what: &'static str,
    pub(super) trouble: Option<String>,
}

impl Kin {
    pub(super) fn has_drifted(&self, was: &Snapshot) -> bool {
        self.old
            .as_ref()
            .is_none_or(|old| !was.is_still_true_of(old))
    }

    fn is_quiet(&self) -> bool {
        self.old
            .as_ref()
            .is_none_or(|old| !run_of(old).is_alive() && is_no(&old["HostConfig"]["RestartPolicy"]))
    }

    /// Whether it is as it was. `home` tells whether its namespaces are still the recorded ones.
    fn is_back(&self, was: &Snapshot, home: Home) -> bool {
        let does_what_it_did = |one: &Value| match was.prior {
            Prior::Running => run_of(one).is_alive(),
            Prior::Paused => run_of(one) == Run::Paused,
            Prior::Stopped => true,
        };
        let is_named = |one: &Value| own_name(one) == was.name();
        let is_made = |new: &Value| is_named(new) && is_complete(was, new) && does_what_it_did(new);
        let is_untouched = |old: &Value| {
            let policy = &old["HostConfig"]["RestartPolicy"];
            let has_policy = policy["Name"] == was.restart_policy()["Name"]
                || (is_no(policy) && is_no(was.restart_policy()));
            home == Home::Same && is_named(old) && has_policy && does_what_it_did(old)
        };
        match (&self.old, &self.new) {
            (Some(old), None) => is_untouched(old),
            (None, Some(new)) => is_made(new),
            (None, None) => self.is_superseded,
            (Some(_), Some(_)) => false,
        }
    }
}

/// Whose namespaces the dependants go back to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// The recorded container's.
    Same,
    /// Those of one that was made in its stead.
    Other,
}

/// Whether it has all the networks that it had. One that shares a network namespace has none.
fn is_complete(was: &Snapshot, new: &Value) -> bool {
    let networks = |one: &Value| one["NetworkSettings"]["Networks"].as_object().cloned();
    let has = networks(new).unwrap_or_default();
    networks(&was.container)
        .unwrap_or_default()
        .keys()
        .all(|name| has.contains_key(name))
}

impl Program<'_> {
    /// Those that live in a namespace of the container or have its volumes, in the order they start
    /// in.
    pub(super) async fn dependants_of(
        &self,
        container: &Value,
    ) -> Result<Vec<Snapshot>, StepError> {
        let own = container["Id"].as_str().unwrap_or_default();
        let listed = self.engine.list(ListFilter::default()).await?;
        let others: Vec<ContainerId> = listed
            .into_iter()
            .map(|summary| summary.id)
            .filter(|id| id.as_str() != own)
            .collect();
        let inspections: Vec<Option<Value>> = futures::stream::iter(others)
            .map(|id| async move { self.inspect(&id).await })
            .buffer_unordered(INSPECTIONS)
            .try_collect()
            .await?;
        let mut others: Vec<Value> = inspections.into_iter().flatten().collect();
        loop {
            let mut found = Vec::new();
            let mut stays = None;
            for dependant in dependants(container, &others) {
                let is_it = |one: &&Value| one["Id"] == dependant.id.as_str();
                let Some(inspect) = others.iter().find(is_it) else {
                    continue;
                };
                let image = self.image_of(inspect).await?;
                let was = Snapshot::of(inspect.clone(), image, Vec::new());
                if dependant.runs_without()
                    && let Err(StepError::Refused(why)) = self.check_dependant(&was).await
                {
                    tracing::warn!(
                        operation = %self.operation.id,
                        container = dependant.name,
                        why,
                        "a container with volumes of another keeps naming the old one"
                    );
                    stays = Some(dependant.id);
                    break;
                }
                found.push(was);
            }
            // What depends on it alone stays with it.
            match stays {
                Some(id) => others.retain(|one| one["Id"] != id.as_str()),
                None => return Ok(found),
            }
        }
    }

    /// What cannot be made again must not lose its namespaces.
    async fn refuse_dependants(&self, found: &[Snapshot]) -> Result<(), StepError> {
        for was in found {
            self.check_dependant(was)
                .await
                .map_err(|error| match error {
                    StepError::Refused(why) => StepError::Refused(format!(
                        "{} cannot be replaced, because {} lives in its namespaces and cannot be \
                     re-created: {why}",
                        self.operation.container_name,
                        was.name(),
                    )),
                    other => other,
                })?;
        }
        Ok(())
    }

    async fn check_dependant(&self, was: &Snapshot) -> Result<(), StepError> {
        self.refuse_own_container(&was.container)?;
        if was.image.is_null() {
            let gone = format!("its image {} is gone", was.image_id());
            return Err(StepError::Refused(gone));
        }
        let changed = self.changed_paths(&was.container).await?;
        let none = BTreeMap::new();
        let spec = self
            .as_it_was(was, ROLE_DEPENDANT, &none, AutoRemove::Refuse, &changed)
            .await?;
        self.refuse_missing_networks(&spec).await
    }

    /// Waits for its turn and for others that work on the container, or says how the turn ends
    /// without it.
    pub(super) async fn claim(&mut self) -> Result<Option<Turn>, StepError> {
        let claimed = match self.take_turn().await {
            Ok(None) => self.reserve(&[]).await,
            other => other,
        };
        match claimed {
            Err(StepError::Refused(why)) => Ok(Some(self.fail(&why).await?)),
            other => other,
        }
    }

    /// Takes the container and its dependants for this operation, as they were seen, or says how
    /// the turn ends without them: with another look where something has changed until then.
    pub(super) async fn hold(
        &mut self,
        container: &Value,
        dependants: &[Snapshot],
    ) -> Result<Option<Turn>, StepError> {
        self.refuse_dependants(dependants).await?;
        if let Some(turn) = self.reserve(dependants).await? {
            return Ok(Some(turn));
        }
        let is_so = self.is_still_so(container, dependants).await?;
        Ok((!is_so).then_some(Turn::Next))
    }

    /// Reserves the container and its dependants, or says how the turn ends without them.
    async fn reserve(&mut self, found: &[Snapshot]) -> Result<Option<Turn>, StepError> {
        let names: Vec<String> = found.iter().map(|was| was.name().to_owned()).collect();
        let store = self.world.app.store();
        let reserved = store
            .reserve_containers(self.lease.lease(), &self.operation, &names)
            .await?;
        let why = match reserved {
            Reservation::Held => {
                self.is_reserved = true;
                return Ok(None);
            }
            Reservation::Outdated => "its container was made again".to_owned(),
            Reservation::HeldBy {
                operation,
                container_name,
                phase: Phase::RollbackFailed,
            } => {
                return Err(StepError::Refused(format!(
                    "the operation {operation} of {container_name}, for which it would have to \
                     wait, could not be rolled back yet"
                )));
            }
            Reservation::HeldBy {
                operation,
                container_name,
                ..
            } => format!("waiting for the operation {operation} of {container_name}"),
            Reservation::HeldByRemoval {
                removal,
                container_name,
            } => format!("waiting for the removal {removal} of {container_name}"),
        };
        Ok(Some(Turn::End(Outcome::Later {
            after: HELD_PAUSE,
            why,
        })))
    }

    /// Whether they do what they did when they were looked at. Before the reservation, another
    /// operation may have stopped one of them for a while.
    async fn is_still_so(
        &self,
        container: &Value,
        dependants: &[Snapshot],
    ) -> Result<bool, StepError> {
        let all = dependants.iter().map(|was| &was.container);
        for was in all.chain([container]) {
            let now = match id_of(was) {
                Some(id) => self.inspect(&id).await?,
                None => None,
            };
            let is_so =
                |now: Value| own_name(&now) == own_name(was) && prior_of(&now) == prior_of(was);
            if !now.is_some_and(is_so) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn recorded(&self) -> &[Snapshot] {
        self.snapshot.as_ref().map_or(&[], |s| &s.dependants)
    }

    pub(super) async fn observe_dependants(&self) -> Result<Vec<Kin>, EngineError> {
        let recorded = self.recorded();
        if recorded.is_empty() {
            return Ok(Vec::new());
        }
        let mut made = Vec::new();
        let may_have_made_some = matches!(
            self.operation.phase,
            Phase::HealthGatePassed | Phase::RollbackStarted | Phase::RollbackFailed
        );
        if may_have_made_some {
            for (id, role) in self.labelled().await? {
                if role == ROLE_DEPENDANT {
                    made.extend(self.inspect(&id).await?);
                }
            }
        }
        let mut kin = Vec::with_capacity(recorded.len());
        for was in recorded {
            let old = match id_of(&was.container) {
                Some(id) => self.inspect(&id).await?,
                None => None,
            };
            let new = made.iter().find(|new| own_name(new) == was.name()).cloned();
            let is_superseded = old.is_none()
                && new.is_none()
                && self.engine.find_by_name(was.name()).await?.is_some();
            kin.push(Kin {
                old,
                new,
                is_superseded,
            });
        }
        Ok(kin)
    }

    pub(super) fn seen_dependants(
        &self,
        kin: &[Kin],
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> SeenDependants {
        let are_back = |parent: Option<&Value>| match parent {
            None => kin.is_empty(),
            Some(parent) => {
                let home = self.home(parent);
                let mut all = self.recorded().iter().zip(kin);
                all.all(|(was, kin)| kin.is_back(was, home))
            }
        };
        SeenDependants {
            quiet: kin.iter().all(Kin::is_quiet),
            on_old: are_back(old),
            on_new: are_back(new),
        }
    }

    fn home(&self, parent: &Value) -> Home {
        match &self.snapshot {
            Some(snapshot) if snapshot.container["Id"] == parent["Id"] => Home::Same,
            _ => Home::Other,
        }
    }

    /// None is revived while the others are still being stopped; the last to start stops first.
    pub(super) async fn stop_dependants(&self, view: &View) -> Result<(), StepError> {
        let olds: Vec<&Value> = view
            .dependants
            .iter()
            .filter_map(|kin| kin.old.as_ref())
            .collect();
        for old in &olds {
            self.neutralise(old).await?;
        }
        for old in olds.iter().rev() {
            self.stop(&dependant_id(old)?, old).await?;
        }
        Ok(())
    }

    async fn neutralise(&self, one: &Value) -> Result<(), StepError> {
        if is_no(&one["HostConfig"]["RestartPolicy"]) {
            return Ok(());
        }
        let id = dependant_id(one)?;
        Ok(self.engine.set_restart_policy(&id, &never()).await?)
    }

    /// Brings all of them back, in the order they start in. What cannot be brought back is noted,
    /// and keeps none of the others from it.
    pub(super) async fn settle_dependants(&mut self, view: &View) -> Result<(), StepError> {
        self.settlings += 1;
        let Some(snapshot) = self.snapshot.clone() else {
            return Ok(());
        };
        let parent = parent(self.operation.phase, view);
        let parent = required(parent, "the container whose namespaces they share")?;
        let was_parent = snapshot.container["Id"].as_str().unwrap_or_default();
        let mut remaps = BTreeMap::new();
        if was_parent != parent.as_str() {
            remaps.insert(was_parent.to_owned(), parent.as_str().to_owned());
        }
        self.unsettled.clear();
        for (was, kin) in snapshot.dependants.iter().zip(&view.dependants) {
            if !self.lease.is_held() {
                return Err(StepError::LeaseLost);
            }
            match self.settle(was, kin, &remaps).await {
                Ok(None) => {}
                Ok(Some(new)) => {
                    let old = was.container["Id"].as_str().unwrap_or_default();
                    remaps.insert(old.to_owned(), new.as_str().to_owned());
                }
                Err(StepError::Engine(error)) if error.is_engine_away() => {
                    return Err(error.into());
                }
                Err(StepError::Engine(error)) => self.note(was, error.to_string()),
                Err(StepError::Refused(why)) => self.note(was, why),
                Err(error) => return Err(error),
            }
            let is_given_up = self.settlings >= MAX_SETTLINGS;
            if is_given_up && self.unsettled.contains_key(was.name()) && self.runs_without(was) {
                self.put_back(was).await?;
            }
        }
        if !self.unsettled.is_empty() && self.settlings < MAX_SETTLINGS {
            self.pause(SETTLE_PAUSE * self.settlings).await;
        }
        Ok(())
    }

    fn note(&mut self, was: &Snapshot, why: String) {
        tracing::error!(
            operation = %self.operation.id,
            container = was.name(),
            why,
            "a container that lives in the namespaces of another is not back"
        );
        self.unsettled.insert(was.name().to_owned(), why);
    }

    /// Brings one back; answers what was made in its stead.
    async fn settle(
        &self,
        was: &Snapshot,
        kin: &Kin,
        remaps: &BTreeMap<String, String>,
    ) -> Result<Option<ContainerId>, StepError> {
        if kin.is_superseded {
            return Ok(None);
        }
        if let (Some(old), true) = (&kin.old, remaps.is_empty()) {
            self.start_again(was, old).await?;
            return Ok(None);
        }
        if let Some(old) = &kin.old {
            self.neutralise(old).await?;
            self.stop(&dependant_id(old)?, old).await?;
        }
        let made = match &kin.new {
            Some(new) if is_complete(was, new) => dependant_id(new)?,
            other => {
                if let Some(incomplete) = other {
                    let id = dependant_id(incomplete)?;
                    self.stop(&id, incomplete).await?;
                    gone_is_fine(self.engine.remove(&id).await)?;
                }
                self.make_again(was, kin.old.as_ref(), remaps).await?
            }
        };
        let old = id_of(&was.container);
        if let Some(old) = &old {
            let store = self.world.app.store();
            store
                .follow_container(&self.operation.watcher, old, &made)
                .await?;
        }
        let runs = kin.new.as_ref().is_some_and(|new| run_of(new).is_alive());
        let started = self.start_as_it_was(was.prior, &made, runs).await;
        // Where its namespaces are gone it could not be started any more.
        let is_given_up = self.settlings >= MAX_SETTLINGS && !self.runs_without(was);
        if let (Some(_), Some(old)) = (&kin.old, &old)
            && (started.is_ok() || is_given_up)
        {
            gone_is_fine(self.engine.remove(old).await)?;
        }
        started?;
        Ok(Some(made))
    }

    /// Whether it can run as it is though the others were made again.
    fn runs_without(&self, was: &Snapshot) -> bool {
        let Some(snapshot) = &self.snapshot else {
            return false;
        };
        let recorded = snapshot.dependants.iter().map(|one| &one.container);
        dependants(&snapshot.container, recorded)
            .iter()
            .any(|one| was.container["Id"] == one.id.as_str() && one.runs_without())
    }

    /// One that could not be made again, and need not be.
    async fn put_back(&self, was: &Snapshot) -> Result<(), StepError> {
        let Some(id) = id_of(&was.container) else {
            return Ok(());
        };
        let Some(old) = self.inspect(&id).await? else {
            return Ok(());
        };
        let done = async {
            for (made, role) in self.labelled().await? {
                let new = match role == ROLE_DEPENDANT {
                    true => self.inspect(&made).await?,
                    false => None,
                };
                let Some(new) = new.filter(|new| own_name(new) == was.name()) else {
                    continue;
                };
                self.stop(&made, &new).await?;
                gone_is_fine(self.engine.remove(&made).await)?;
                let store = self.world.app.store();
                let watcher = &self.operation.watcher;
                store.follow_container(watcher, &made, &id).await?;
            }
            if own_name(&old) != was.name() {
                self.engine.rename(&id, was.name()).await?;
            }
            self.start_again(was, &old).await
        };
        match done.await {
            Err(StepError::Engine(error)) if !error.is_engine_away() => {
                tracing::error!(container = was.name(), %error, "it could not be put back");
                Ok(())
            }
            other => other,
        }
    }

    /// Its namespaces never changed.
    async fn start_again(&self, was: &Snapshot, old: &Value) -> Result<(), StepError> {
        let id = dependant_id(old)?;
        let policy = was.restart_policy();
        if old["HostConfig"]["RestartPolicy"] != *policy {
            self.engine.set_restart_policy(&id, policy).await?;
        }
        let runs = run_of(old).is_alive();
        self.start_as_it_was(was.prior, &id, runs).await
    }

    async fn start_as_it_was(
        &self,
        prior: Prior,
        id: &ContainerId,
        runs: bool,
    ) -> Result<(), StepError> {
        if prior == Prior::Stopped {
            return Ok(());
        }
        if !runs {
            self.engine.start(id).await?;
        }
        self.pause_if_it_was(id, prior).await
    }

    async fn make_again(
        &self,
        was: &Snapshot,
        old: Option<&Value>,
        remaps: &BTreeMap<String, String>,
    ) -> Result<ContainerId, StepError> {
        let mut was = was.clone();
        // So that Compose knows it again in its new home.
        if let Some(hash) = Box::pin(self.moved_hash(&was, remaps)).await {
            was.container["Config"]["Labels"][CONFIG_HASH] = hash.into();
        }
        let was = &was;
        let spec = self
            .as_it_was(was, ROLE_DEPENDANT, remaps, AutoRemove::Accept, &[])
            .await?;
        if let Some(old) = old.filter(|old| own_name(old) == was.name()) {
            let operation = &self.operation;
            let aside = temporary_name(was.name(), operation.id, operation.created_at);
            self.engine.rename(&dependant_id(old)?, &aside).await?;
        }
        self.crash_point("re-create-dependant", Side::Before);
        let made = self.create_from_its_image(was, spec).await;
        self.crash_point("re-create-dependant", Side::After);
        if let (Err(_), Some(old)) = (&made, old) {
            // It bears its name until the next attempt, or for good.
            self.engine.rename(&dependant_id(old)?, was.name()).await?;
        }
        made
    }

    /// From the image that it ran, whatever its tag says now, and without moving the tag: the
    /// container goes on under it, and whoever pulled a newer image keeps that.
    async fn create_from_its_image(
        &self,
        was: &Snapshot,
        mut spec: NewSpec,
    ) -> Result<ContainerId, StepError> {
        let held = match self.engine.inspect_image(was.reference()).await {
            Ok(image) => image["Id"].as_str().map(str::to_owned),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        if held.as_deref() == Some(was.image_id()) {
            return self.create(was.name(), &spec).await;
        }
        let by_tag = !was.reference().contains('@');
        let reference = ImageRef::parse(was.reference()).ok().filter(|_| by_tag);
        let Some(reference) = reference else {
            spec.create_body["Image"] = was.image_id().into();
            return self.create(was.name(), &spec).await;
        };
        let repository = reference.familiar_name();
        let tag = reference.tag().map_or("latest", |tag| tag.as_str());
        self.engine
            .tag_image(was.image_id(), &repository, tag)
            .await?;
        let made = self.create(was.name(), &spec).await;
        if let Some(held) = held {
            self.engine.tag_image(&held, &repository, tag).await?;
        }
        made
    }

    /// What became of them, as the engine shows it.
    pub(super) fn ends_of(&self, view: &View, phase: Phase) -> Vec<DependantEnd> {
        let home = parent(phase, view).map(|parent| self.home(parent));
        let all = self.recorded().iter().zip(&view.dependants);
        all.map(|(was, kin)| {
            let is_back = home.is_some_and(|home| kin.is_back(was, home));
            let why = self.unsettled.get(was.name()).cloned();
            let why = why.unwrap_or_else(|| "it does not do what it did before".to_owned());
            DependantEnd {
                name: was.name().to_owned(),
                identity: self.identity_of(was),
                image: was.reference().to_owned(),
                what: match home {
                    Some(Home::Same) => "started again",
                    _ => "re-created",
                },
                trouble: (!is_back).then_some(why),
            }
        })
        .collect()
    }

    fn identity_of(&self, was: &Snapshot) -> IdentityKey {
        let (own, default) = (json::labels(&was.container), json::labels(&was.image));
        let compose = UserLabels::new(&own, &default).compose();
        let compose = compose
            .as_ref()
            .map(|compose| (compose.project.as_str(), compose.service.as_str()));
        IdentityKey::new(&self.operation.watcher, was.name(), compose)
    }
}

/// The container whose namespaces the dependants go to.
fn parent(phase: Phase, view: &View) -> Option<&Value> {
    match phase {
        Phase::HealthGatePassed | Phase::Succeeded => view.new.as_ref(),
        _ => view.old.as_ref(),
    }
}

fn dependant_id(one: &Value) -> Result<ContainerId, StepError> {
    required(Some(one), "a dependant")
}
