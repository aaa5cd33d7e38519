//! What Compose files say that containers run, for the inventory: each file is read when it has
//! changed, and looked at by its time and size otherwise.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use plimsoll_domain::{
    compose::{
        Refusal,
        labels::{LabelRefusal, labels_of, unescaped},
    },
    container::{ComposeFileImage, ComposeFileLabels},
    ids::ContainerId,
    labels::UserLabels,
};

use super::{Access, ComposeOptions, Project};

/// So many files are kept; where there are more, they are read again.
const MAX_FILES: usize = 128;

/// Tells two contents of a file apart: inode, size and time of the last change, of its mode too.
pub(super) type Stamp = Option<(u64, u64, i64, i64)>;

type Kept = HashMap<PathBuf, (Stamp, Arc<str>)>;

/// Texts of files, as long as they do not change.
#[derive(Debug, Default)]
pub struct Texts {
    kept: Mutex<Kept>,
}

impl Texts {
    /// # Errors
    /// Those of [`Access::read`].
    pub fn read(&self, access: &Access, path: &Path) -> Result<String, String> {
        let now = stamp(path);
        if let Some((then, text)) = self.kept().get(path)
            && now.is_some()
            && *then == now
        {
            return Ok(text.to_string());
        }
        // Only what was the same before and after is known to be of that time.
        let text = access.read(path)?;
        let is_known = now == stamp(path);
        let mut kept = self.kept();
        if kept.len() >= MAX_FILES {
            kept.clear();
        }
        if is_known {
            kept.insert(path.to_owned(), (now, text.as_str().into()));
        }
        Ok(text)
    }

    /// Never held while a file is read.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Compose files of one engine's containers.
#[derive(Debug)]
pub struct Observer {
    options: ComposeOptions,
    texts: Arc<Texts>,
    /// What was looked at for each container.
    seen: Mutex<HashMap<ContainerId, Vec<(PathBuf, Stamp)>>>,
}

/// What the files say of one container. `None` where none does, or it cannot be told.
#[derive(Debug, Default)]
pub struct Said {
    pub image: Option<ComposeFileImage>,
    pub labels: Option<ComposeFileLabels>,
}

impl Observer {
    /// `None` where no directory is named: then nobody's files are looked at.
    pub fn new(directories: &[PathBuf]) -> Option<Self> {
        let access = Access::Within(directories.to_vec());
        (!directories.is_empty()).then(|| Self {
            options: ComposeOptions::asked_for(access),
            texts: Arc::default(),
            seen: Mutex::default(),
        })
    }

    /// What the files of a container say that runs the image that the engine calls `running`.
    pub fn says(&self, id: &ContainerId, labels: &UserLabels<'_>, running: Option<&str>) -> Said {
        let Ok(mut project) = Project::locate(labels, &self.options) else {
            return Said::default();
        };
        project.texts = Some(Arc::clone(&self.texts));
        let mut paths: Vec<PathBuf> = project.files.clone();
        match project.environment_files.is_empty() {
            true => paths.push(project.directory.join(".env")),
            false => paths.extend(project.environment_files.iter().cloned()),
        }
        // The stamps are of before the look: what changes meanwhile is looked at again.
        let mut stamps: Vec<_> = paths
            .into_iter()
            .map(|path| {
                let stamp = stamp(&path);
                (path, stamp)
            })
            .collect();
        let found = project.find().ok();
        let written = written(&project);
        if let Some(found) = &found
            && !stamps.iter().any(|(path, _)| *path == found.path)
        {
            stamps.push((found.path.clone(), stamp(&found.path)));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(id.clone(), stamps);
        let image = found.zip(running).map(|(found, running)| ComposeFileImage {
            running: running.to_owned(),
            variable: found.resolved.variable().map(str::to_owned),
            specified: found.resolved.image,
        });
        Said {
            image,
            labels: written.map(|written| labels.beside(&written)),
        }
    }

    /// Those whose files are others than when they were looked at.
    pub fn changed(&self) -> Vec<ContainerId> {
        let seen = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut now: HashMap<&Path, Stamp> = HashMap::new();
        let mut changed = Vec::new();
        for (id, files) in &seen {
            let mut is_same = true;
            for (path, then) in files {
                is_same &= now.entry(path).or_insert_with(|| stamp(path)) == then;
            }
            if !is_same {
                changed.push(id.clone());
            }
        }
        changed
    }

    /// Forgets containers that are gone.
    pub fn keep_only(&self, present: &HashSet<&ContainerId>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|id, _| present.contains(id));
    }
}

/// The labels that the project's own files give the service: a later one's count.
fn written(project: &Project) -> Option<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let mut is_described = false;
    for path in &project.files {
        match labels_of(&project.read(path).ok()?, &project.service) {
            Ok(labels) => all.extend(labels.unwrap_or_default()),
            Err(LabelRefusal::File(Refusal::NoService(_))) => continue,
            Err(_) => return None,
        }
        is_described = true;
    }
    let read = |(key, value): (String, String)| Some((key, unescaped(&value)?));
    is_described
        .then(|| all.into_iter().map(read).collect())
        .flatten()
}

pub(super) fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}
