//! `Prefer: wait=N` and `Prefer: respond-async` (RFC 7240) on requests that start an operation.

use std::time::Duration;

/// How long an answer waits for the operation where the client does not say: long enough that the
/// contract's synchronous 200 holds for most updates.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// Proxies give up sooner or later; the operation does not.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How the client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    /// How long to wait for the operation's end.
    pub patience: Duration,
    applied: Option<Applied>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    Wait(u64),
    Async,
}

impl Preference {
    /// Reads the header; what is not understood is ignored, as the RFC demands. `respond-async`
    /// together with `wait=N` waits that long and then answers 202, as the RFC says.
    pub fn parse(header: Option<&str>) -> Self {
        let mut wait = None;
        let mut asynchronous = false;
        for preference in header.unwrap_or_default().split(',') {
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            if name.trim().eq_ignore_ascii_case("respond-async") {
                asynchronous = true;
            } else if name.trim().eq_ignore_ascii_case("wait") && wait.is_none() {
                wait = value.trim().trim_matches('"').parse::<u64>().ok();
            }
        }
        match (wait, asynchronous) {
            (Some(seconds), _) => {
                let seconds = seconds.min(LONGEST_WAIT.as_secs());
                Self {
                    patience: Duration::from_secs(seconds),
                    applied: Some(Applied::Wait(seconds)),
                }
            }
            (None, true) => Self {
                patience: Duration::ZERO,
                applied: Some(Applied::Async),
            },
            (None, false) => Self {
                patience: DEFAULT_WAIT,
                applied: None,
            },
        }
    }

    /// The `Preference-Applied` header of the answer.
    pub fn applied(&self) -> Option<String> {
        self.applied.map(|applied| match applied {
            Applied::Wait(seconds) => format!("wait={seconds}"),
            Applied::Async => "respond-async".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_the_rfc_says() {
        let patience = |header| Preference::parse(header).patience.as_secs();
        assert_eq!(patience(None), 60);
        assert_eq!(patience(Some("wait=5")), 5);
        assert_eq!(patience(Some("respond-async")), 0);
        assert_eq!(patience(Some("respond-async, wait=10")), 10);
        assert_eq!(patience(Some("return=minimal; foo, WAIT = \"7\"")), 7);
        assert_eq!(patience(Some("wait=soon")), 60);
        assert_eq!(patience(Some("wait=999999999")), 600);
    }

    #[test]
    fn the_answer_says_what_was_heeded() {
        let applied = |header| Preference::parse(header).applied();
        assert_eq!(applied(None), None);
        assert_eq!(applied(Some("wait=5")).as_deref(), Some("wait=5"));
        assert_eq!(
            applied(Some("respond-async")).as_deref(),
            Some("respond-async")
        );
    }
}
