//! Which environment variables are secret, by the key patterns of reference/drydock.md 1.7.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;
use serde::{Deserialize, Serialize};

/// What stands in the place of a secret value, in configurations and in texts.
pub const REDACTED: &str = "[REDACTED]";
/// The same of an environment variable, in the words of contract/drydock-container-api.md ("Reveal
/// container environment variables").
const HIDDEN: &str = "***";

const PATTERNS: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "CREDENTIAL",
    "AUTH",
    "ACCESS_KEY",
];

/// Whether the variable's value must not be shown. Besides the key patterns, a value that is a URL
/// with a password in it (`postgres://user:password@host/`) is secret under any key.
pub fn is_sensitive(key: &str, value: &str) -> bool {
    let key = key.to_ascii_uppercase();
    PATTERNS.iter().any(|pattern| key.contains(pattern))
        || key
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|segment| segment == "PASS")
        || has_url_password(value)
}

fn has_url_password(value: &str) -> bool {
    value.split("://").skip(1).any(|rest| {
        let authority = rest
            .split(['/', '?', '#', ' ', '"', '\''])
            .next()
            .unwrap_or_default();
        authority
            .rsplit_once('@')
            .and_then(|(userinfo, _)| userinfo.split_once(':'))
            .is_some_and(|(_, password)| !password.is_empty())
    })
}

/// A text for people without the secrets that can be told by their form: passwords in URLs,
/// credentials of `Authorization`, our own tokens, and values after names that look secret.
/// Harmless words after such a name are lost too.
pub fn redact_text(text: &str) -> Cow<'_, str> {
    static FORMS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r#"(://[^\s/:@"']*):[^\s/"']+@"#, "$1:[REDACTED]@"),
            (r"(?i)\b(bearer\s+)[a-z0-9._~+/=-]{8,}", "$1[REDACTED]"),
            (r"(?i)\b(basic\s+)[a-z0-9+/=]{16,}", "$1[REDACTED]"),
            (r"\bplim_[A-Za-z0-9_-]+", "[REDACTED]"),
            (
                r#"(?i)([a-z0-9_.-]*(?:password|passwd|secret|token|api_?key|private_key|credential|access_key)[a-z0-9_.-]*["']?\s*[=:]\s*["']?)[^\s"',;&}]+"#,
                "$1[REDACTED]",
            ),
        ]
        .into_iter()
        .filter_map(|(form, shown)| Some((Regex::new(form).ok()?, shown)))
        .collect()
    });
    let mut text = Cow::Borrowed(text);
    for (form, shown) in &*FORMS {
        if let Cow::Owned(redacted) = form.replace_all(&text, *shown) {
            text = Cow::Owned(redacted);
        }
    }
    text
}

/// One environment variable as it may be stored and shown: the value of a sensitive one is gone
/// from the moment it is observed, also when it comes from a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Observed")]
pub struct EnvVar {
    key: String,
    value: String,
    sensitive: bool,
}

#[derive(Deserialize)]
struct Observed {
    key: String,
    value: String,
    #[serde(default)]
    sensitive: bool,
}

impl From<Observed> for EnvVar {
    fn from(observed: Observed) -> Self {
        let sensitive = observed.sensitive || is_sensitive(&observed.key, &observed.value);
        Self {
            value: if sensitive {
                HIDDEN.to_owned()
            } else {
                observed.value
            },
            key: observed.key,
            sensitive,
        }
    }
}

impl EnvVar {
    pub fn observed(key: impl Into<String>, value: impl Into<String>) -> Self {
        Observed {
            key: key.into(),
            value: value.into(),
            sensitive: false,
        }
        .into()
    }

    /// From Docker's `KEY=value`. A text without `=` is a variable without a value.
    pub fn from_docker(text: &str) -> Self {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Self::observed(key, value)
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    pub fn is_sensitive(&self) -> bool {
        self.sensitive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_look_secret_are_redacted() {
        for key in [
            "DB_PASSWORD",
            "db_password",
            "MYSQL_PASS",
            "pass",
            "GITHUB_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "STRIPE_API_KEY",
            "APIKEY",
            "TLS_PRIVATE_KEY",
            "GCP_CREDENTIALS",
            "BASIC_AUTH",
            "ROOT.PASS",
        ] {
            let var = EnvVar::observed(key, "hunter2");
            assert!(var.is_sensitive(), "{key}");
            assert_eq!(var.value(), HIDDEN, "{key}");
        }
    }

    #[test]
    fn ordinary_keys_are_shown() {
        for key in [
            "TZ",
            "PATH",
            "PASSENGERS",
            "COMPASS",
            "BYPASS_CACHE",
            "KEYBOARD",
        ] {
            assert!(!EnvVar::observed(key, "x").is_sensitive(), "{key}");
        }
        assert_eq!(EnvVar::from_docker("A=b=c").value(), "b=c");
        assert_eq!(EnvVar::from_docker("FLAG").value(), "");
    }

    #[test]
    fn a_password_in_a_url_is_redacted_under_any_key() {
        for value in [
            "postgres://app:s3cret@db/app",
            "a,redis://:pw@r:6379/0",
            "http://u:p@ss@h",
        ] {
            assert!(EnvVar::observed("DSN", value).is_sensitive(), "{value}");
        }
        for value in [
            "postgres://app@db/app",
            "https://example.org/a:b@c",
            "http://h:80",
        ] {
            assert!(!EnvVar::observed("DSN", value).is_sensitive(), "{value}");
        }
    }

    #[test]
    fn secrets_in_a_text_are_told_by_their_form() {
        for text in [
            "redis://:hunter2@h:6379 is away",
            "GET http://u:hunter2@x@h/ failed",
            "Authorization: Bearer hunter2.hunter2",
            "sent Basic aHVudGVyMmh1bnRlcjI= to it",
            "the token plim_hunter2 was refused",
            r#"{"dbPassword": "hunter2", "a": 1}"#,
            "API_KEY=hunter2&x=1",
        ] {
            let shown = redact_text(text);
            let hidden = !shown.contains("hunter2") && !shown.contains("aHVudGVy");
            assert!(hidden && shown.contains(REDACTED), "{shown}");
        }
        for text in [
            "https://h:80/a is away",
            "basic settings",
            "3 tokens",
            "user@host",
        ] {
            assert_eq!(redact_text(text), text);
        }
    }

    #[test]
    fn a_peer_cannot_bring_a_secret_in() {
        let var: EnvVar =
            serde_json::from_str(r#"{"key":"TOKEN","value":"abc","sensitive":false}"#).unwrap();
        assert_eq!(var, EnvVar::observed("TOKEN", "xyz"));
    }
}
