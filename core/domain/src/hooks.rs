//! Commands before and after an update (labels `dd.hook.pre` and `dd.hook.post`; reference/drydock.md
//! 2.2): how a label is read, what may be run, and what it is told.

use std::time::Duration;

use thiserror::Error;

use crate::labels::HookRules;

/// How long a hook may take where the label `dd.hook.timeout` (milliseconds) does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longer values are cut off before a hook sees them.
const MAX_VALUE: usize = 512;

/// The programs that hooks may run, by their absolute paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedCommands(Vec<String>);

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCommand {
    pub program: String,
    pub arguments: Vec<String>,
}

/// Why a hook is not run. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HookError {
    #[error("`{0}` is no absolute path")]
    NotAbsolute(String),
    #[error("it has a quote that does not end")]
    OpenQuote,
    #[error("it is empty")]
    Empty,
    #[error("DD_HOOKS_ALLOWED_COMMANDS does not name `{0}`")]
    NotAllowed(String),
}

impl AllowedCommands {
    /// Reads a list of absolute paths that are separated by commas.
    pub fn parse(list: &str) -> Result<Self, HookError> {
        let paths = list
            .split(',')
            .map(str::trim)
            .filter(|path| !path.is_empty());
        paths
            .map(|path| match path.starts_with('/') {
                true => Ok(path.to_owned()),
                false => Err(HookError::NotAbsolute(path.to_owned())),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What a label asks for, if it may be run. A program is named by its path, or by its last
    /// part where that is clear. What a shell would do (variables, pipes, patterns) is not done.
    pub fn command(&self, label: &str) -> Result<HookCommand, HookError> {
        let mut words = words(label)?.into_iter();
        let named = words.next().ok_or(HookError::Empty)?;
        let is_it = |path: &&String| {
            **path == named || (!named.contains('/') && path.rsplit('/').next() == Some(&named))
        };
        let mut allowed = self.0.iter().filter(is_it);
        let program = match (allowed.next(), allowed.next()) {
            (Some(program), None) => program.clone(),
            _ => return Err(HookError::NotAllowed(named)),
        };
        Ok(HookCommand {
            program,
            arguments: words.collect(),
        })
    }
}

/// Splits at blanks; single and double quotes keep what is between them together.
fn words(text: &str) -> Result<Vec<String>, HookError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(HookError::OpenQuote);
    }
    words.extend(word);
    Ok(words)
}

/// Whether a failing hook ends the update.
pub fn aborts(rules: &HookRules) -> bool {
    rules.pre_abort.unwrap_or(true)
}

pub fn timeout(rules: &HookRules) -> Duration {
    rules
        .timeout_ms
        .map_or(DEFAULT_TIMEOUT, |ms| Duration::from_millis(ms.into()))
}

/// What a hook is told of the update.
#[derive(Clone, Copy, Debug)]
pub struct HookFacts<'a> {
    pub container_name: &'a str,
    pub container_id: &'a str,
    pub image_name: &'a str,
    pub image_tag: &'a str,
    pub from: &'a str,
    pub to: &'a str,
}

/// The whole environment of a hook. Names and versions come from registries and from labels, so
/// what could mean something to a program that is careless with them is taken out.
pub fn environment(facts: &HookFacts<'_>) -> [(&'static str, String); 7] {
    let kind = match facts.to.contains("sha256:") || facts.from == facts.to {
        true => "digest",
        false => "tag",
    };
    [
        ("DD_CONTAINER_NAME", sanitised(facts.container_name)),
        ("DD_CONTAINER_ID", sanitised(facts.container_id)),
        ("DD_IMAGE_NAME", sanitised(facts.image_name)),
        ("DD_IMAGE_TAG", sanitised(facts.image_tag)),
        ("DD_UPDATE_KIND", kind.to_owned()),
        ("DD_UPDATE_FROM", sanitised(facts.from)),
        ("DD_UPDATE_TO", sanitised(facts.to)),
    ]
}

fn sanitised(value: &str) -> String {
    value
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "._-:/@+".contains(*c))
        .take(MAX_VALUE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(allowed: &str, label: &str) -> Result<Vec<String>, HookError> {
        let command = AllowedCommands::parse(allowed)?.command(label)?;
        Ok([vec![command.program], command.arguments].concat())
    }

    #[test]
    fn a_label_is_read_as_words_and_not_as_a_script() {
        let allowed = "/opt/dump, /bin/echo";
        for (label, expected) in [
            ("/opt/dump", vec!["/opt/dump"]),
            ("dump  --all\t-v", vec!["/opt/dump", "--all", "-v"]),
            (
                "dump 'a b' \"c d\"e ''",
                vec!["/opt/dump", "a b", "c de", ""],
            ),
            (
                "echo $HOME; rm -rf / | x `id` *",
                vec![
                    "/bin/echo",
                    "$HOME;",
                    "rm",
                    "-rf",
                    "/",
                    "|",
                    "x",
                    "`id`",
                    "*",
                ],
            ),
        ] {
            assert_eq!(run(allowed, label).unwrap(), expected, "{label}");
        }
    }

    #[test]
    fn what_is_not_on_the_list_is_not_run() {
        for (allowed, label) in [
            ("", "dump"),
            ("/opt/dump", "/bin/sh -c dump"),
            ("/opt/dump", "/opt/../opt/dump"),
            ("/opt/dump", "opt/dump"),
            ("/opt/dump", "dumps"),
            ("/opt/dump, /usr/dump", "dump"),
        ] {
            let refused = run(allowed, label).unwrap_err();
            assert!(
                matches!(refused, HookError::NotAllowed(_)),
                "{allowed} {label}"
            );
        }
        assert_eq!(run("/opt/dump", "  ").unwrap_err(), HookError::Empty);
        assert_eq!(
            run("/opt/dump", "dump 'a").unwrap_err(),
            HookError::OpenQuote
        );
        assert!(AllowedCommands::parse("dump").is_err());
    }

    #[test]
    fn a_hook_is_told_only_what_it_may_rely_on() {
        let facts = HookFacts {
            container_name: "web",
            container_id: "abc",
            image_name: "ghcr.io/owner/app",
            image_tag: "1.1.0\n$(reboot);\u{1b}[0m",
            from: "1.0.0",
            to: "1.1.0 && x",
        };
        let environment = environment(&facts);
        let of = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_str()).unwrap()
        };
        assert_eq!(of("DD_IMAGE_TAG"), "1.1.0reboot0m");
        assert_eq!(of("DD_UPDATE_TO"), "1.1.0x");
        assert_eq!(of("DD_UPDATE_KIND"), "tag");
        assert_eq!(of("DD_IMAGE_NAME"), "ghcr.io/owner/app");
    }
}
