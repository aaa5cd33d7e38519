//! What is to be done around an update, in the words of Docksmith's labels (`docksmith.*`).

use serde::{Deserialize, Serialize};

/// Names and paths in labels; what is longer is refused.
const MAX_TEXT: usize = 255;
/// More containers than anyone restarts after one update.
const MAX_NAMES: usize = 32;

/// Steps around an update. Only what the user set: scripts run on the worker's host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepRules {
    /// A program whose failure bars the update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<ScriptPath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<PostUpdate>,
    /// Containers after whose update or restart this one is restarted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restart_after: Vec<String>,
    /// Steps that cannot be read, as messages for people. Whoever runs steps must refuse these: a
    /// check that is passed over protects nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// A script inside of the configured directory: relative, without a way out of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScriptPath(String);

impl ScriptPath {
    /// The directory of scripts as Docksmith's users write it, wherever it really is.
    const WRITTEN: &str = "/scripts/";

    /// Reads `/scripts/check.sh`, `./check.sh` or `check.sh`. `None` for a path elsewhere, one that
    /// leads out of the directory, and one with arguments or anything else that a shell would read.
    pub fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix(Self::WRITTEN).unwrap_or(text);
        let path = path.strip_prefix("./").unwrap_or(path);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let is_part =
            |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain);
        let ok = path.len() <= MAX_TEXT && path.split('/').all(is_part);
        ok.then(|| Self(path.to_owned()))
    }

    /// Relative to the directory of scripts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ScriptPath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("no path inside of the directory of scripts")
    }
}

impl From<ScriptPath> for String {
    fn from(path: ScriptPath) -> Self {
        path.0
    }
}

/// What follows a good update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PostUpdate {
    /// Containers to restart, in this order.
    Restart(Vec<String>),
    /// Services of the same Compose project to restart, in this order.
    RestartServices(Vec<String>),
    Script(ScriptPath),
}

impl PostUpdate {
    /// Reads `restart:a,b`, `compose-restart:service` or `script:path`. Docksmith's fourth form,
    /// `exec:command`, is a line for a shell and is refused.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let listed = || names(rest).ok_or("names a container or service that cannot exist");
        match kind.trim() {
            "restart" => Ok(Self::Restart(listed()?)),
            "compose-restart" => Ok(Self::RestartServices(listed()?)),
            "script" => ScriptPath::parse(rest.trim())
                .map(Self::Script)
                .ok_or("is no script inside of the directory of scripts"),
            "exec" => Err("is a line for a shell, which is never started; use script:"),
            _ => Err("is none of restart:, compose-restart:, script:"),
        }
    }
}

/// A comma-separated list of names of containers or services, each once. `None` if it is empty or
/// one of them cannot be a name.
pub(super) fn names(text: &str) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let ok = name.len() <= MAX_TEXT
            && name.bytes().all(word)
            && name.as_bytes()[0].is_ascii_alphanumeric();
        if !ok || names.len() == MAX_NAMES {
            return None;
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    (!names.is_empty()).then_some(names)
}
