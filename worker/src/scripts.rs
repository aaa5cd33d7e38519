//! Scripts that check updates: programs in one configured directory, and nothing outside of it.
//!
//! A path is resolved by the file system, links and all, and what it leads to must be within the
//! directory. No shell is started: what is in the file says itself what runs it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use nix::unistd::{AccessFlags, access};
use plimsoll_app::scripts::{Script, ScriptList};
use plimsoll_domain::labels::ScriptPath;

use crate::command::{Call, Finished, run};

/// How long a script may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Directories within directories that are listed.
const MAX_DEPTH: usize = 4;
/// Entries of the directory that are looked at for a list.
const MAX_ENTRIES: usize = 5_000;
/// A script names the programs that it needs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What of a script's last words goes into errors and the audit trail.
const LAST_WORDS: usize = 300;

/// The directory of scripts.
#[derive(Clone, Debug)]
pub struct Scripts {
    directory: Arc<Path>,
}

impl Scripts {
    /// # Errors
    /// A path that is not absolute. That it is missing is said when it is used.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(
            directory.is_absolute(),
            "scripts.dir must be an absolute path, and {} is not",
            directory.display()
        );
        Ok(Self {
            directory: directory.into(),
        })
    }

    /// The program that a path names.
    ///
    /// # Errors
    /// For people: it is not there, leads out of the directory, or may not be executed.
    pub fn resolve(&self, script: &ScriptPath) -> Result<PathBuf, String> {
        let shown = script.as_str();
        let root = fs::canonicalize(&self.directory).map_err(|error| {
            format!(
                "the directory of scripts {} cannot be read: {error}",
                self.directory.display()
            )
        })?;
        let path = fs::canonicalize(root.join(shown))
            .map_err(|error| format!("the script {shown} cannot be used: {error}"))?;
        if !path.starts_with(&root) {
            return Err(format!(
                "the script {shown} leads out of the directory of scripts"
            ));
        }
        if !path.is_file() {
            return Err(format!("the script {shown} is no file"));
        }
        match is_executable(&path) {
            true => Ok(path),
            false => Err(format!("the script {shown} is not executable")),
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Why it did not end with 0, for people.
    pub async fn run(
        &self,
        script: &ScriptPath,
        arguments: &[String],
        environment: &[(&'static str, String)],
    ) -> Result<(), String> {
        let (scripts, wanted) = (self.clone(), script.clone());
        let resolved = tokio::task::spawn_blocking(move || scripts.resolve(&wanted)).await;
        let program = resolved.map_err(|error| error.to_string())??;
        let mut environment = environment.to_vec();
        environment.push(("PATH", PATH.to_owned()));
        let finished = run(Call {
            program: &program,
            arguments,
            environment: &environment,
            input: b"",
            timeout: TIMEOUT,
        })
        .await
        .map_err(|error| error.to_string())?;
        ended_well(&finished)
    }

    /// What is there. What leads out of the directory is left out, and so is what has a name that
    /// could not be asked for.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(&self) -> io::Result<ScriptList> {
        let root = fs::canonicalize(&self.directory)?;
        let mut found = BTreeMap::new();
        let mut left = MAX_ENTRIES;
        collect(&root, &root, 0, &mut left, &mut found)?;
        Ok(ScriptList {
            directory: Some(self.directory.display().to_string()),
            scripts: found.into_values().collect(),
        })
    }
}

/// How a program ended, in words; `Ok` for 0.
///
/// # Errors
/// The code or that there is none, and what the program said last.
pub fn ended_well(finished: &Finished) -> Result<(), String> {
    let end = match finished.code {
        Some(0) => return Ok(()),
        Some(code) => format!("it ended with code {code}"),
        None => "a signal ended it".to_owned(),
    };
    let said = match finished.errors.trim_end() {
        "" => finished.output.trim_end(),
        errors => errors,
    };
    let last: String = said
        .lines()
        .last()
        .unwrap_or_default()
        .chars()
        .take(LAST_WORDS)
        .collect();
    Err(match last.is_empty() {
        true => end,
        false => format!("{end}: {last}"),
    })
}

fn collect(
    root: &Path,
    directory: &Path,
    depth: usize,
    left: &mut usize,
    found: &mut BTreeMap<String, Script>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        let path = entry?.path();
        let Some(relative) = path.strip_prefix(root).ok().and_then(Path::to_str) else {
            continue;
        };
        let Some(script) = ScriptPath::parse(relative) else {
            continue;
        };
        // What somebody takes away meanwhile is not there.
        let Ok(real) = fs::canonicalize(&path) else {
            continue;
        };
        let Ok(metadata) = fs::metadata(&real) else {
            continue;
        };
        if metadata.is_dir() && !path.is_symlink() && depth < MAX_DEPTH {
            // One that may not be read hides what is in it, and nothing else.
            let _ = collect(root, &path, depth + 1, left, found);
        }
        let is_script = metadata.mode() & 0o111 != 0 || relative.ends_with(".sh");
        if metadata.is_file() && is_script && real.starts_with(root) {
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.insert(
                relative.to_owned(),
                Script {
                    path: script,
                    executable: is_executable(&real),
                    size: metadata.len(),
                    modified_at: DateTime::<Utc>::from(modified),
                },
            );
        }
    }
    Ok(())
}

/// By this process. (Who is root may execute what anybody may.)
fn is_executable(path: &Path) -> bool {
    let marked = fs::metadata(path).is_ok_and(|of| of.permissions().mode() & 0o111 != 0);
    marked && access(path, AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// `in/` is the directory of scripts.
    fn directory() -> (tempfile::TempDir, Scripts) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("in");
        fs::create_dir_all(inner.join("sub")).unwrap();
        let write = |path: PathBuf, mode: u32, text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let good = "#!/bin/sh\necho $# $1 $WHO ${HOME:-none} >&2\nexit ${2:-0}\n";
        write(inner.join("good.sh"), 0o755, good);
        write(inner.join("sub/deep"), 0o755, good);
        write(inner.join("plain.sh"), 0o644, good);
        write(inner.join("notes.txt"), 0o644, "no program");
        write(outer.path().join("evil.sh"), 0o755, good);
        symlink(outer.path().join("evil.sh"), inner.join("out.sh")).unwrap();
        symlink("/bin/sh", inner.join("shell")).unwrap();
        symlink(outer.path(), inner.join("up")).unwrap();
        symlink("good.sh", inner.join("link.sh")).unwrap();
        symlink("nowhere", inner.join("broken.sh")).unwrap();
        let scripts = Scripts::new(&inner).unwrap();
        (outer, scripts)
    }

    #[test]
    fn nothing_outside_of_the_directory_can_be_named() {
        let (outer, scripts) = directory();
        let inner = outer.path().join("in");
        for path in [
            "../evil.sh",
            "sub/../../evil.sh",
            "/bin/sh",
            "/scripts/../evil.sh",
            "/scripts//bin/sh",
            "//bin/sh",
            "./../evil.sh",
            "..",
            ".",
            "",
            "/scripts/",
            "good.sh ",
            "good.sh;id",
            "good.sh\n",
            "good.sh\0",
            "$(id)",
            "good.sh|sh",
            "~/evil.sh",
            "sub\\deep",
            &inner.join("good.sh").display().to_string(),
            &"a/".repeat(200),
        ] {
            assert_eq!(ScriptPath::parse(path), None, "{path:?}");
        }
        for (path, why) in [
            ("out.sh", "leads out"),
            ("shell", "leads out"),
            ("up/evil.sh", "leads out"),
            ("sub", "is no file"),
            ("plain.sh", "is not executable"),
            ("broken.sh", "cannot be used"),
            ("missing.sh", "cannot be used"),
        ] {
            let refused = scripts.resolve(&ScriptPath::parse(path).unwrap());
            let refused = refused.unwrap_err();
            assert!(refused.contains(why), "{path}: {refused}");
        }
        for path in ["good.sh", "/scripts/good.sh", "./sub/deep", "link.sh"] {
            assert!(
                scripts.resolve(&ScriptPath::parse(path).unwrap()).is_ok(),
                "{path}"
            );
        }
        assert!(Scripts::new(Path::new("scripts")).is_err());
    }

    #[test]
    fn the_list_has_what_could_be_run_and_what_is_meant_to_be() {
        let (_outer, scripts) = directory();
        let list = scripts.list().unwrap();
        let shown: Vec<(&str, bool)> = list
            .scripts
            .iter()
            .map(|script| (script.path.as_str(), script.executable))
            .collect();
        assert_eq!(
            shown,
            [
                ("good.sh", true),
                ("link.sh", true),
                ("plain.sh", false),
                ("sub/deep", true)
            ]
        );
    }

    #[tokio::test]
    async fn a_script_gets_its_arguments_and_says_why_it_refuses() {
        let (_outer, scripts) = directory();
        let run = async |script: &str, arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
            let script = ScriptPath::parse(script).unwrap();
            let environment = [("WHO", "me".to_owned())];
            scripts.run(&script, &arguments, &environment).await
        };
        assert_eq!(run("good.sh", &["a; id"]).await, Ok(()));
        assert_eq!(
            run("sub/deep", &["x", "3"]).await,
            Err("it ended with code 3: 2 x me none".to_owned())
        );
        assert!(run("out.sh", &[]).await.unwrap_err().contains("leads out"));
    }
}
