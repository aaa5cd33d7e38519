//! Compose files on this host: which one a container came from, what it says the container runs,
//! and writing the new image into it; and the projects of configured directories. The rules are
//! `domain::compose`.

mod access;
mod borrowed;
pub mod file;
mod found;
mod observed;
mod stack_directories;
mod tool;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use plimsoll_domain::{
    compose::{Pinning, Refusal},
    labels::UserLabels,
};

pub use access::Access;
pub use borrowed::Borrowed;
pub use found::{Edited, Found};
pub use observed::{Observer, Said, Texts};
pub use stack_directories::StackDirectories;
pub use tool::{Substitute, Tool};

/// What happens when file and container do not agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reconciliation {
    #[default]
    Warn,
    Block,
    Off,
}

/// How a dockercompose trigger works.
#[derive(Clone, Debug)]
pub struct ComposeOptions {
    /// For containers that do not name their own.
    pub file: Option<PathBuf>,
    /// The label that names one.
    pub label: String,
    pub keep: file::Keep,
    pub reconciliation: Reconciliation,
    pub pinning: Pinning,
    pub access: Access,
}

impl ComposeOptions {
    /// For updates through a file that somebody asks for, whatever trigger there is.
    pub fn asked_for(access: Access) -> Self {
        Self {
            file: None,
            label: "dd.compose.file".to_owned(),
            keep: file::Keep::Backup,
            reconciliation: Reconciliation::Warn,
            pinning: Pinning::AsItIs,
            access,
        }
    }
}

/// The service that a container is of, and where it is described. Everything is from labels that
/// Compose or the user set, never the image.
#[derive(Clone, Debug)]
pub struct Project {
    pub name: String,
    pub service: String,
    pub directory: PathBuf,
    pub files: Vec<PathBuf>,
    /// As `--env-file` named them.
    pub environment_files: Vec<PathBuf>,
    pub access: Access,
    /// Where files that have not changed need not be read again.
    pub texts: Option<Arc<Texts>>,
    /// The configuration that the container was made from, as Compose hashes it.
    pub config_hash: Option<String>,
    /// What the container has of others.
    pub borrowed: Borrowed,
}

impl Project {
    /// # Errors
    /// For people.
    pub fn locate(labels: &UserLabels<'_>, options: &ComposeOptions) -> Result<Self, String> {
        let of = labels
            .compose()
            .ok_or("no label of Compose says which service it is of")?;
        let directory = labels.get("com.docker.compose.project.working_dir");
        let directory = directory.map(PathBuf::from);
        let own = labels.get(&options.label).or_else(|| {
            labels
                .get("wud.compose.file")
                .filter(|_| options.label == "dd.compose.file")
        });
        let named: Vec<PathBuf> = match (own, &options.file) {
            (Some(own), _) => vec![PathBuf::from(own)],
            (None, Some(file)) => vec![file.clone()],
            (None, None) => {
                let files = labels.get("com.docker.compose.project.config_files");
                list(files)
            }
        };
        let absolute = |path: PathBuf| match (&directory, path.is_absolute()) {
            (_, true) => Ok(path),
            (Some(directory), false) => Ok(directory.join(path)),
            (None, false) => Err(format!(
                "its Compose file {} has no directory",
                path.display()
            )),
        };
        let files = named
            .into_iter()
            .map(absolute)
            .collect::<Result<Vec<_>, _>>()?;
        let Some(first) = files.first() else {
            return Err("no label names its Compose file, and its trigger has none".to_owned());
        };
        let environment = labels.get("com.docker.compose.project.environment_file");
        let directory =
            directory.unwrap_or_else(|| first.parent().unwrap_or(Path::new("/")).to_path_buf());
        let environment = list(environment).into_iter();
        Ok(Self {
            environment_files: environment.map(|file| directory.join(file)).collect(),
            access: options.access.clone(),
            texts: None,
            borrowed: Borrowed::default(),
            directory,
            config_hash: labels
                .get("com.docker.compose.config-hash")
                .map(str::to_owned),
            name: of.project,
            service: of.service,
            files,
        })
    }
}

impl Project {
    /// # Errors
    /// Those of [`Access::read`].
    fn read(&self, path: &Path) -> Result<String, String> {
        match &self.texts {
            Some(texts) => texts.read(&self.access, path),
            None => self.access.read(path),
        }
    }
}

pub fn refused(path: &Path, refusal: &Refusal) -> String {
    format!(
        "its Compose file {} is left alone: {refusal}",
        path.display()
    )
}

fn list(paths: Option<&str>) -> Vec<PathBuf> {
    paths
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn options(file: Option<&str>) -> ComposeOptions {
        ComposeOptions {
            file: file.map(PathBuf::from),
            label: "dd.compose.file".to_owned(),
            keep: file::Keep::Nothing,
            reconciliation: Reconciliation::Warn,
            pinning: Pinning::AsItIs,
            access: Access::Anywhere,
        }
    }

    fn labels(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = [
            ("com.docker.compose.project", "shop"),
            ("com.docker.compose.service", "web"),
        ];
        let all = own.iter().chain(more);
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn files(labels: &BTreeMap<String, String>, file: Option<&str>) -> Result<Vec<String>, String> {
        let image = BTreeMap::from([("dd.compose.file".to_owned(), "/of/the/image".to_owned())]);
        let labels = UserLabels::new(labels, &image);
        let project = Project::locate(&labels, &options(file))?;
        Ok(project
            .files
            .iter()
            .map(|path| path.display().to_string())
            .collect())
    }

    #[test]
    fn labels_come_before_the_trigger_and_that_before_what_compose_wrote() {
        let working = ("com.docker.compose.project.working_dir", "/srv/shop");
        let written = (
            "com.docker.compose.project.config_files",
            "/srv/shop/a.yml,b.yml",
        );
        let own = ("dd.compose.file", "own.yml");
        assert_eq!(
            files(&labels(&[working, written]), None).unwrap(),
            ["/srv/shop/a.yml", "/srv/shop/b.yml"]
        );
        assert_eq!(
            files(&labels(&[working, written]), Some("/t.yml")).unwrap(),
            ["/t.yml"]
        );
        assert_eq!(
            files(&labels(&[working, written, own]), Some("/t.yml")).unwrap(),
            ["/srv/shop/own.yml"]
        );
        // One that the image brought along names nothing.
        let image = ("dd.compose.file", "/of/the/image");
        assert_eq!(
            files(&labels(&[working, written, image]), Some("/t.yml")).unwrap(),
            ["/t.yml"]
        );
        assert!(
            files(&labels(&[]), None)
                .unwrap_err()
                .contains("no label names")
        );
        assert!(
            files(&labels(&[own]), None)
                .unwrap_err()
                .contains("no directory")
        );
        assert!(files(&BTreeMap::new(), Some("/t.yml")).is_err());
    }
}
