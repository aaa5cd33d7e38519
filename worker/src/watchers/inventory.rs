//! The inventory of one engine: what it shows is brought to the store, and nothing else is.
//!
//! A failed listing is not an empty listing (DESIGN.md 3.10): every error leaves what is known as
//! it is.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use plimsoll_app::{
    App, AppError,
    observations::{Changes, KnownContainer, KnownFacts, Observed},
    store::stack_directories::StackDirectory,
    totals::LegacySource,
};
use plimsoll_domain::{
    container::{ContainerFacts, RegistryFacts},
    ids::{ContainerId, WatcherRef},
    image::ImageRef,
    labels::UserLabels,
    spec::OPERATION_LABEL,
    target::is_rollback_name,
};

use serde_json::Value;

use super::{
    facts::{self, ImageInfo},
    settings::WatcherSettings,
};
use crate::{
    compose::{Observer, Said, StackDirectories},
    docker::{ContainerSummary, Engine, EngineError, ListFilter},
    operations::is_helper,
    registry::Registries,
};

/// Inspections of one engine at a time.
const PARALLEL: usize = 10;
/// Containers that are inspected and written at once: live changes wait for no more than this.
const CHUNK: usize = 40;
/// An image's digests change when it is pushed or pulled again, its id does not.
const IMAGE_TTL: Duration = Duration::from_secs(20);
/// How long directories of stacks are waited for, which may be on another machine.
const STACKS_PATIENCE: Duration = Duration::from_secs(5);

/// How much of a listing is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What is new or looks different from what is known, and containers of images whose digests are not the known ones.
    ListedWithImages,
    /// Everything: after events were missed, or when this version may read facts differently.
    Everything,
}

#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("what the engine showed could not be stored: {0}")]
    Store(#[from] AppError),
}

/// One engine's containers, as this worker brings them to the store.
pub struct Inventory {
    app: App,
    settings: WatcherSettings,
    engine: Engine,
    registries: Registries,
    images: Mutex<HashMap<String, (Instant, Arc<ImageInfo>)>>,
    /// `None` where no Compose file may be read.
    compose: Option<Arc<Observer>>,
    /// `None` where no directory is configured.
    stacks: Option<Arc<StackDirectories>>,
    /// What the store was told of them last.
    stacks_told: Mutex<Option<Vec<StackDirectory>>>,
    /// What the last cycle read of the containers that it checked.
    read: Mutex<Arc<KnownFacts>>,
    /// An observation is written before the next one of the same engine is made, so that an older
    /// look never overwrites a newer one.
    looking: tokio::sync::Mutex<()>,
}

impl Inventory {
    pub fn new(
        app: App,
        settings: WatcherSettings,
        engine: Engine,
        registries: Registries,
    ) -> Self {
        Self {
            compose: Observer::new(&settings.compose_directories).map(Arc::new),
            stacks: StackDirectories::new(&settings.stack_directories).map(Arc::new),
            stacks_told: Mutex::default(),
            app,
            settings,
            engine,
            registries,
            images: Mutex::default(),
            read: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    fn watcher(&self) -> &WatcherRef {
        &self.settings.reference
    }

    /// What the store has of the containers that a cycle checks.
    pub async fn checked(&self) -> Result<Arc<KnownFacts>, AppError> {
        let before = Arc::clone(&self.read.lock().unwrap_or_else(PoisonError::into_inner));
        let store = self.app.store();
        let read = store
            .container_facts(self.watcher(), self.settings.checked_statuses(), &before)
            .await?;
        let read = Arc::new(read);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&read);
        Ok(read)
    }

    /// Looks at these containers now. Those that the engine does not know are gone.
    pub async fn refresh(&self, ids: &[ContainerId]) -> Result<Changes, InventoryError> {
        self.look(ids, &[]).await
    }

    /// These containers are gone: the engine said so.
    pub async fn forget(&self, ids: &[ContainerId]) -> Result<Changes, InventoryError> {
        self.look(&[], ids).await
    }

    /// Both at once, in one transaction.
    pub async fn look(
        &self,
        ids: &[ContainerId],
        gone: &[ContainerId],
    ) -> Result<Changes, InventoryError> {
        let _order = self.looking.lock().await;
        let mut observed = Observed {
            present: Vec::with_capacity(ids.len()),
            gone: gone.to_vec(),
        };
        let looks = ids.iter().cloned().map(|id| self.inspect(id));
        let mut looks = stream::iter(looks).buffer_unordered(PARALLEL);
        while let Some(seen) = looks.next().await {
            match seen? {
                Seen::Present(facts) => observed.present.push(*facts),
                Seen::Gone(id) => observed.gone.push(id),
                Seen::Hidden => {}
            }
        }
        Ok(self.app.observe(self.watcher(), &observed).await?)
    }

    /// Compares a complete listing with what is known and looks at the difference. Containers that
    /// were known before the listing and are not in it are gone.
    pub async fn resync(&self, depth: Depth) -> Result<Changes, InventoryError> {
        let known = self
            .app
            .store()
            .known_containers(self.watcher())
            .await
            .map_err(AppError::from)?;
        let (listed, images) = match depth {
            Depth::ListedWithImages => tokio::try_join!(self.list(None), self.image_digests())?,
            Depth::Everything => {
                self.forget_images();
                (self.list(None).await?, HashMap::new())
            }
        };
        let mut difference = compare(&known, &listed, &images, depth);
        let present: HashSet<&ContainerId> = listed.iter().map(|one| &one.id).collect();
        if let Some(compose) = &self.compose {
            compose.keep_only(&present);
        }
        add_new(&mut difference.look, self.of_other_files(&present).await);
        let mut all = self.refresh_all(&difference.look).await?;
        if !difference.missing.is_empty() {
            add(&mut all, self.forget(&difference.missing).await?);
        }
        if depth == Depth::Everything {
            // Another worker may have told the store otherwise, or the settings are others now.
            *self.stacks_told() = None;
        }
        self.look_for_stacks().await;
        Ok(all)
    }

    /// The same for the containers that a watch checks; `known` is what the store had of them. The
    /// engine takes as long to list a thousand stopped containers as a thousand running ones, and
    /// events tell of those.
    ///
    /// Whether the store has something else now: what was looked at may have been written a moment
    /// before, by another look, so that this one changed nothing.
    pub async fn recheck(&self, known: &[KnownContainer]) -> Result<bool, InventoryError> {
        let listed = self.list(self.settings.checked_statuses()).await?;
        let images = HashMap::new();
        let Difference { mut look, missing } =
            compare(known, &listed, &images, Depth::ListedWithImages);
        // They are in another state now, or gone: only a look can tell.
        look.extend(missing);
        let present: HashSet<&ContainerId> = listed.iter().map(|one| &one.id).collect();
        add_new(&mut look, self.of_other_files(&present).await);
        self.refresh_all(&look).await?;
        self.look_for_stacks().await;
        Ok(!look.is_empty())
    }

    /// Brings what the configured directories describe to the store, where that has changed. What
    /// goes wrong there costs nothing else.
    async fn look_for_stacks(&self) {
        let found = match self.stacks.clone() {
            Some(stacks) => {
                let look = tokio::task::spawn_blocking(move || stacks.look());
                match tokio::time::timeout(STACKS_PATIENCE, look).await {
                    Ok(Ok(Some(found))) => found,
                    Ok(_) => return,
                    Err(_) => {
                        tracing::warn!(watcher = %self.watcher(), "the directories of stacks do not answer");
                        return;
                    }
                }
            }
            None => Vec::new(),
        };
        if self.stacks_told().as_ref() == Some(&found) {
            return;
        }
        let store = self.app.store();
        match store.write_stack_directories(self.watcher(), &found).await {
            Ok(()) => *self.stacks_told() = Some(found),
            Err(error) => {
                tracing::warn!(watcher = %self.watcher(), %error, "stacks are written at the next look");
            }
        }
    }

    fn stacks_told(&self) -> MutexGuard<'_, Option<Vec<StackDirectory>>> {
        self.stacks_told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh_all(&self, ids: &[ContainerId]) -> Result<Changes, InventoryError> {
        let mut all = Changes::default();
        for chunk in ids.chunks(CHUNK) {
            add(&mut all, self.refresh(chunk).await?);
        }
        Ok(all)
    }

    /// Every container of the watcher's scope, in one of these states.
    async fn list(&self, statuses: Option<&[&str]>) -> Result<Vec<ContainerSummary>, EngineError> {
        let scope = self.settings.scope.as_ref();
        let label = scope.map(|scope| (scope.key.as_str(), scope.value.as_deref()));
        let mut listed = self.engine.list(ListFilter { statuses, label }).await?;
        listed.retain(|container| {
            let name = container.names.first().map(String::as_str);
            let label = container.labels.get(OPERATION_LABEL).map(String::as_str);
            !is_helper(name.unwrap_or_default(), label)
        });
        Ok(listed)
    }

    /// Images may have got other digests.
    pub fn forget_images(&self) {
        self.images
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    async fn inspect(&self, id: ContainerId) -> Result<Seen, InventoryError> {
        let inspect = match self.engine.inspect(&id).await {
            Ok(inspect) => inspect,
            Err(error) if error.is_not_found() => return Ok(Seen::Gone(id)),
            Err(error) if error.is_engine_away() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(watcher = %self.watcher(), container = %id, %error, "container left out");
                return Ok(Seen::Hidden);
            }
        };
        let scope = self.settings.scope.as_ref();
        if scope.is_some_and(|scope| !scope.holds(&inspect)) {
            return Ok(Seen::Hidden);
        }
        let label = inspect["Config"]["Labels"][OPERATION_LABEL].as_str();
        let of_ours = |name: String| is_rollback_name(&name) || is_helper(&name, label);
        if facts::container_name(&inspect).is_some_and(of_ours) {
            return Ok(Seen::Hidden);
        }
        let image_id = inspect["Image"].as_str().unwrap_or_default();
        let mut image = self.image(image_id).await?;
        let reference = facts::image_reference(&inspect, &image);
        // It may have been pulled from one more repository since somebody looked.
        let lacks = |reference| image.digest_in(reference).is_none();
        if !image.repo_digests.is_empty() && reference.as_ref().is_some_and(lacks) {
            image = self.image_anew(image_id).await?;
        }
        let registry = reference
            .as_ref()
            .map(|reference| registry_facts(&self.registries, reference));
        match facts::container_facts(
            &inspect,
            &image,
            reference.as_ref(),
            registry,
            &self.settings,
        ) {
            Ok(mut facts) => {
                let said = self.compose_files(&inspect, &facts, &image).await;
                (facts.compose_image, facts.compose_labels) = (said.image, said.labels);
                for key in UserLabels::new(&facts.labels, &image.labels).legacy() {
                    self.app.tally().legacy(LegacySource::Label, key);
                }
                Ok(Seen::Present(Box::new(facts)))
            }
            Err(error) => {
                tracing::warn!(watcher = %self.watcher(), container = %id, %error, "container left out");
                Ok(Seen::Hidden)
            }
        }
    }

    /// What the container's Compose files say.
    async fn compose_files(
        &self,
        inspect: &Value,
        facts: &ContainerFacts,
        image: &Arc<ImageInfo>,
    ) -> Said {
        let Some(compose) = self.compose.clone().filter(|_| facts.compose.is_some()) else {
            return Said::default();
        };
        let (id, labels) = (facts.id.clone(), facts.labels.clone());
        let image = Arc::clone(image);
        let running = inspect["Config"]["Image"].as_str().map(str::to_owned);
        let look = move || {
            let labels = UserLabels::new(&labels, &image.labels);
            compose.says(&id, &labels, running.as_deref())
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// Of those that are there, the ones whose Compose files have changed.
    async fn of_other_files(&self, present: &HashSet<&ContainerId>) -> Vec<ContainerId> {
        let Some(compose) = self.compose.clone() else {
            return Vec::new();
        };
        let changed = tokio::task::spawn_blocking(move || compose.changed()).await;
        let mut changed = changed.unwrap_or_default();
        changed.retain(|id| present.contains(id));
        changed
    }

    async fn image(&self, id: &str) -> Result<Arc<ImageInfo>, InventoryError> {
        let cached = self
            .images
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .filter(|(at, _)| at.elapsed() < IMAGE_TTL)
            .map(|(_, image)| Arc::clone(image));
        match cached {
            Some(image) => Ok(image),
            None => self.image_anew(id).await,
        }
    }

    async fn image_anew(&self, id: &str) -> Result<Arc<ImageInfo>, InventoryError> {
        let image = match self.engine.inspect_image(id).await {
            Ok(document) => ImageInfo::read(document),
            Err(error) if error.is_engine_away() => return Err(error.into()),
            Err(error) => {
                tracing::debug!(watcher = %self.watcher(), image = id, %error, "image unknown");
                ImageInfo::missing(id)
            }
        };
        let image = Arc::new(image);
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.retain(|_, (at, _)| at.elapsed() < IMAGE_TTL);
        images.insert(id.to_owned(), (Instant::now(), Arc::clone(&image)));
        Ok(image)
    }

    /// Digests by image id.
    async fn image_digests(&self) -> Result<HashMap<String, HashSet<String>>, EngineError> {
        let images = self.engine.list_images().await?;
        Ok(images
            .iter()
            .filter_map(|image| {
                let digests = image["RepoDigests"]
                    .as_array()
                    .map(|digests| {
                        digests
                            .iter()
                            .filter_map(|digest| digest.as_str())
                            // What Docker says of an image without a name.
                            .filter(|digest| !digest.starts_with("<none>"))
                            .map(str::to_owned)
                            .collect()
                    })
                    .unwrap_or_default();
                Some((image["Id"].as_str()?.to_owned(), digests))
            })
            .collect())
    }
}

enum Seen {
    Present(Box<ContainerFacts>),
    Gone(ContainerId),
    /// Not for the inventory, or not to be understood: what is known of it stays.
    Hidden,
}

fn add(all: &mut Changes, more: Changes) {
    all.added.extend(more.added);
    all.updated.extend(more.updated);
    all.removed.extend(more.removed);
}

fn add_new(all: &mut Vec<ContainerId>, more: Vec<ContainerId>) {
    for id in more {
        if !all.contains(&id) {
            all.push(id);
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    look: Vec<ContainerId>,
    /// Known, and not listed.
    missing: Vec<ContainerId>,
}

fn compare(
    known: &[KnownContainer],
    listed: &[ContainerSummary],
    images: &HashMap<String, HashSet<String>>,
    depth: Depth,
) -> Difference {
    let by_id: HashMap<&ContainerId, &KnownContainer> = known.iter().map(|k| (&k.id, k)).collect();
    let present: HashSet<&ContainerId> = listed.iter().map(|l| &l.id).collect();
    let look = listed
        .iter()
        .filter(|listed| {
            if listed.names.iter().any(|name| is_rollback_name(name)) {
                return false;
            }
            depth == Depth::Everything
                || by_id
                    .get(&listed.id)
                    .is_none_or(|known| looks_different(known, listed, images))
        })
        .map(|listed| listed.id.clone())
        .collect();
    let missing = known
        .iter()
        .filter(|known| !present.contains(&known.id))
        .map(|known| known.id.clone())
        .collect();
    Difference { look, missing }
}

fn looks_different(
    known: &KnownContainer,
    listed: &ContainerSummary,
    images: &HashMap<String, HashSet<String>>,
) -> bool {
    let health = if listed.status.contains("(healthy)") {
        Some("healthy")
    } else if listed.status.contains("(unhealthy)") {
        Some("unhealthy")
    } else if listed.status.contains("(health: starting)") {
        Some("starting")
    } else {
        None
    };
    let running = listed.state == "running";
    !listed.names.contains(&known.name)
        || listed.state != known.status
        || listed.image_id != known.image_id
        // A container that does not run keeps its last health, and the listing does not tell it.
        || (running && health != known.health.as_deref())
        || images.get(&known.image_id).is_some_and(|digests| {
            digests.len() != known.repo_digests.len()
                || known.repo_digests.iter().any(|d| !digests.contains(d))
        })
}

fn registry_facts(registries: &Registries, image: &ImageRef) -> RegistryFacts {
    let (name, url) = registries.configured(image.registry()).unwrap_or_else(|| {
        (
            image.default_registry_name().to_owned(),
            registries.default_url(image),
        )
    });
    RegistryFacts {
        name,
        url,
        lookup_image: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ContainerId {
        ContainerId::parse(&format!("{n:064x}")).unwrap()
    }

    fn known(n: u64) -> KnownContainer {
        KnownContainer {
            id: id(n),
            name: format!("app{n}"),
            status: "running".to_owned(),
            health: Some("healthy".to_owned()),
            image_id: "sha256:1".to_owned(),
            repo_digests: vec!["app@sha256:a".to_owned()],
        }
    }

    fn listed(n: u64) -> ContainerSummary {
        ContainerSummary {
            id: id(n),
            names: vec![format!("app{n}")],
            image: "app:1".to_owned(),
            image_id: "sha256:1".to_owned(),
            labels: Default::default(),
            state: "running".to_owned(),
            status: "Up 2 hours (healthy)".to_owned(),
            created: 0,
            networks: Vec::new(),
        }
    }

    fn difference(listed: ContainerSummary) -> Difference {
        let images = HashMap::new();
        compare(&[known(1)], &[listed], &images, Depth::ListedWithImages)
    }

    #[test]
    fn a_listing_that_shows_nothing_new_asks_for_no_inspection() {
        assert_eq!(difference(listed(1)), Difference::default());
    }

    #[test]
    fn what_looks_different_is_looked_at() {
        let change = |change: fn(&mut ContainerSummary)| {
            let mut listed = listed(1);
            change(&mut listed);
            difference(listed).look
        };
        assert_eq!(change(|l| l.names = vec!["other".to_owned()]), [id(1)]);
        assert_eq!(change(|l| l.state = "paused".to_owned()), [id(1)]);
        assert_eq!(change(|l| l.image_id = "sha256:2".to_owned()), [id(1)]);
        assert_eq!(change(|l| l.status = "Up (unhealthy)".to_owned()), [id(1)]);
        assert!(change(|l| l.names.push("parent/alias".to_owned())).is_empty());
        assert!(change(|l| l.names = vec!["app1-old-1733047200000".to_owned()]).is_empty());
    }

    #[test]
    fn what_is_not_listed_is_missing_and_what_is_new_is_looked_at() {
        let Difference { look, missing } = difference(listed(2));
        assert_eq!((look, missing), (vec![id(2)], vec![id(1)]));
    }

    #[test]
    fn an_image_that_got_a_digest_calls_for_a_look_at_its_containers() {
        let with = |digests: &[&str]| {
            let digests = digests.iter().map(|d| (*d).to_owned()).collect();
            let images = HashMap::from([("sha256:1".to_owned(), digests)]);
            compare(&[known(1)], &[listed(1)], &images, Depth::ListedWithImages).look
        };
        assert!(with(&["app@sha256:a"]).is_empty());
        assert_eq!(with(&["app@sha256:a", "mirror/app@sha256:b"]), [id(1)]);
    }
}
