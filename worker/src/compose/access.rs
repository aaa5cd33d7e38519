//! Which files on the host may be read and written for Compose projects: labels name them, and
//! whoever may create containers writes labels.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::file;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whatever labels name: a dockercompose trigger was configured, and no directories.
    Anywhere,
    /// What is in these directories (`compose.directories`), symbolic links followed.
    Within(Vec<PathBuf>),
}

impl Access {
    /// The text of a file.
    ///
    /// # Errors
    /// For people, and the same for a file that is not there and one that may not be read, unless
    /// it is in a permitted directory.
    pub fn read(&self, path: &Path) -> Result<String, String> {
        let shown = path.display();
        self.permits(path)?;
        file::read(path).map_err(|error| {
            format!(
                "its Compose file {shown} cannot be read: {error}; the worker needs it under the \
                 same path"
            )
        })
    }

    /// # Errors
    /// For people.
    pub fn permits(&self, path: &Path) -> Result<(), String> {
        let Self::Within(directories) = self else {
            return Ok(());
        };
        // Without the link that the file itself may be: what it leads to is what is read.
        let real = fs::canonicalize(path).or_else(|_| {
            let parent = path.parent().unwrap_or(Path::new("/"));
            fs::canonicalize(parent).map(|parent| parent.join(path.file_name().unwrap_or_default()))
        });
        let real = real.unwrap_or_else(|_| PathBuf::new());
        let is_within = directories.iter().any(|directory| {
            let directory = fs::canonicalize(directory);
            directory.is_ok_and(|directory| real.starts_with(directory))
        });
        match is_within {
            true => Ok(()),
            false => Err(format!(
                "its Compose file {} is in no directory that the worker may use: name one in \
                 compose.directories (PLIMSOLL_COMPOSE_DIRECTORIES), under the path that Compose \
                 has for it",
                path.display()
            )),
        }
    }
}
