//! The Compose projects in configured directories: each directory in one of them that has a file of
//! Compose's is one. Files are read when they have changed, and looked at by their time and size
//! otherwise; nothing outside of the configured directory is read, wherever links lead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, TryLockError},
};

use plimsoll_app::store::stack_directories::StackDirectory;
use plimsoll_domain::{
    compose::project::{self, FILES, OVERRIDES},
    stack::Described,
};

use super::{
    file,
    observed::{Stamp, stamp},
};

/// Entries of a configured directory that are looked at, and projects that are read.
const MAX_ENTRIES: usize = 10_000;
const MAX_PROJECTS: usize = 500;
/// Characters of a problem.
const MAX_PROBLEM: usize = 500;

#[derive(Debug)]
pub struct StackDirectories {
    directories: Vec<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the directory of the project.
    known: BTreeMap<PathBuf, Known>,
    /// What the log says already: directories, and what is wrong with them.
    told: BTreeSet<(PathBuf, String)>,
}

#[derive(Debug)]
struct Known {
    /// Of the files before they were read: what changes meanwhile is read again.
    stamps: Vec<(PathBuf, Stamp)>,
    stack: Described,
}

impl StackDirectories {
    /// `None` where no directory is named.
    pub fn new(directories: &[PathBuf]) -> Option<Self> {
        (!directories.is_empty()).then(|| Self {
            directories: directories.to_vec(),
            state: Mutex::default(),
        })
    }

    /// What is there now; `None` while another look waits for a file system that does not answer.
    pub fn look(&self) -> Option<Vec<StackDirectory>> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let mut known = std::mem::take(&mut state.known);
        let mut wrong = BTreeSet::new();
        let mut found = Vec::with_capacity(self.directories.len());
        for directory in &self.directories {
            let projects = projects(directory, &mut known, &mut wrong);
            if let Ok(projects) = &projects {
                for (path, project) in projects {
                    let problem = project.stack.problem.iter().cloned();
                    wrong.extend(problem.map(|problem| (path.clone(), problem)));
                }
            }
            found.push(StackDirectory {
                path: directory.display().to_string(),
                found: match projects {
                    Ok(projects) => {
                        let stacks = projects.iter().map(|(_, one)| one.stack.clone()).collect();
                        state.known.extend(projects);
                        Ok(stacks)
                    }
                    Err(error) => {
                        // What could not be looked at is known as it was.
                        let is_in =
                            |path: &PathBuf, _: &mut Known| path.parent() == Some(directory);
                        state.known.extend(known.extract_if(.., is_in));
                        let problem = format!(
                            "the directory of stacks {} cannot be read: {error}",
                            directory.display()
                        );
                        let problem = told(&problem);
                        wrong.insert((directory.clone(), problem.clone()));
                        Err(problem)
                    }
                },
            });
        }
        for (path, problem) in wrong.difference(&state.told) {
            tracing::warn!(directory = %path.display(), problem, "stacks cannot be read whole");
        }
        state.told = wrong;
        Some(found)
    }
}

/// The projects of one configured directory, by their place in it.
fn projects(
    directory: &Path,
    known: &mut BTreeMap<PathBuf, Known>,
    wrong: &mut BTreeSet<(PathBuf, String)>,
) -> io::Result<Vec<(PathBuf, Known)>> {
    let listed = fs::canonicalize(directory).and_then(|root| Ok((fs::read_dir(&root)?, root)));
    let (entries, root) = match listed {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            wrong.insert((directory.to_owned(), "it is not there".to_owned()));
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        paths.push(directory.join(entry?.file_name()));
    }
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let Some(files) = files(&path) else { continue };
        if found.len() == MAX_PROJECTS {
            let most = format!("only the first {MAX_PROJECTS} of its projects are read");
            wrong.insert((directory.to_owned(), most));
            break;
        }
        let before = known.remove(&path);
        let project = project(&root, &path, files, before);
        found.push((path, project));
    }
    Ok(found)
}

/// The files of the project in this directory, or why that cannot be told; `None` for what is no
/// directory, or one without any.
fn files(directory: &Path) -> Option<io::Result<Vec<PathBuf>>> {
    if !fs::metadata(directory).is_ok_and(|found| found.is_dir()) {
        return None;
    }
    let first = |names: &[&str]| {
        for name in names {
            let path = directory.join(name);
            match fs::symlink_metadata(&path) {
                Ok(_) => return Ok(Some(path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    };
    let own = match first(&FILES) {
        Ok(own) => own?,
        Err(error) => return Some(Err(error)),
    };
    let over = first(&OVERRIDES);
    Some(over.map(|over| [own].into_iter().chain(over).collect()))
}

fn project(
    root: &Path,
    directory: &Path,
    files: io::Result<Vec<PathBuf>>,
    before: Option<Known>,
) -> Known {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let files = files.map_err(|error| format!("its directory cannot be read: {error}"));
    let variables = directory.join(".env");
    let stamps: Vec<(PathBuf, Stamp)> = match &files {
        Ok(files) => files
            .iter()
            .chain([&variables])
            .map(|path| (path.clone(), stamp(path)))
            .collect(),
        Err(_) => Vec::new(),
    };
    let before = match before {
        Some(before) if files.is_ok() && before.stamps == stamps => return before,
        other => other,
    };
    let shown = files.iter().flatten();
    let shown: Vec<String> = shown.map(|path| path.display().to_string()).collect();
    let read = files.and_then(|files| described(root, &files, &variables, &name));
    let stack = match (read, before) {
        (Ok(found), _) => Described {
            name: found.name,
            directory: directory.display().to_string(),
            files: shown,
            problem: (!found.notes.is_empty()).then(|| told(&found.notes.join("; "))),
            services: found.services,
        },
        // It is somebody's who edits it, perhaps: the project is what it was.
        (Err(problem), Some(before)) => Described {
            problem: Some(told(&problem)),
            ..before.stack
        },
        (Err(problem), None) => Described {
            name: project::name_of(&name).unwrap_or_else(|| told(&name)),
            directory: directory.display().to_string(),
            files: shown,
            problem: Some(told(&problem)),
            services: Vec::new(),
        },
    };
    Known { stamps, stack }
}

fn described(
    root: &Path,
    files: &[PathBuf],
    variables: &Path,
    directory: &str,
) -> Result<project::Description, String> {
    let texts: Vec<String> = files
        .iter()
        .map(|path| text(root, path))
        .collect::<Result<_, _>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (environment, problem) = match fs::symlink_metadata(variables).is_ok() {
        true => match text(root, variables) {
            Ok(environment) => (Some(environment), None),
            Err(problem) => (None, Some(problem)),
        },
        false => (None, None),
    };
    let mut found = project::describe(&texts, environment.as_deref(), directory)
        .map_err(|(number, refusal)| format!("{}: {refusal}", named(&files[number])))?;
    found.notes.extend(problem);
    Ok(found)
}

/// The text of a file that is in the configured directory, wherever links lead.
fn text(root: &Path, path: &Path) -> Result<String, String> {
    let unread = |error: io::Error| format!("{} cannot be read: {error}", named(path));
    let real = fs::canonicalize(path).map_err(unread)?;
    match real.starts_with(root) {
        true => file::read(&real).map_err(unread),
        false => Err(format!(
            "{} leads out of the directory of stacks",
            named(path)
        )),
    }
}

fn named(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What is for people, in a form that can be stored and shown.
fn told(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_PROBLEM).map(plain).collect()
}

#[cfg(test)]
mod tests;
