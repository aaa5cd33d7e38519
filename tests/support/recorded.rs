//! Programs that speak the command line of a real one and write down how they were called: stand-ins
//! for what no registry of packages has that tests can reach.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A shell script and its records, in a directory of its own. It writes each call's arguments as a
/// line of `calls` and its environment to `environment`, and fails with the words in `fail` where
/// that is there. Removed when dropped.
pub struct Recorded {
    directory: TempDir,
    name: &'static str,
}

impl Recorded {
    /// `DIR` in `script` stands for its directory.
    pub fn install(name: &'static str, script: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join(name);
        let text = script.replace("DIR", &directory.path().display().to_string());
        fs::write(&program, text).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
        Self { directory, name }
    }

    /// The program itself.
    pub fn command(&self) -> PathBuf {
        self.path(self.name)
    }

    /// It fails with these words from now on.
    pub fn fails(&self, words: &str) {
        fs::write(self.path("fail"), words).expect("a file");
    }

    pub fn works(&self) {
        let _ = fs::remove_file(self.path("fail"));
    }

    /// The arguments of every call.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// The environment of every call.
    pub fn environment(&self) -> String {
        fs::read_to_string(self.path("environment")).unwrap_or_default()
    }

    /// Writes a file that the program reads, in one step: it may be reading.
    pub(crate) fn put(&self, name: &str, content: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, content).expect("a file");
        fs::rename(new, self.path(name)).expect("a file");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }
}
