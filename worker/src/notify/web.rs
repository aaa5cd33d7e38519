//! What notifiers that speak HTTP share.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderValue, header};
use plimsoll_outbound::{Answer, Ask, Outbound, Reach, Tls};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::Failure;

/// One request from start to end.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A service does not make us wait longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// Of an answer: more than any service has to say.
const ANSWER: usize = 64 * 1024;

/// A way to one service, and what must never appear in what is said about it.
pub struct Web {
    outbound: Outbound,
    secrets: Hidden,
}

/// What a hostile or careless service might send back.
#[derive(Default)]
pub struct Hidden(Vec<SecretString>);

impl Web {
    pub fn new(reach: Reach) -> Self {
        Self {
            outbound: Outbound::new(reach, TIMEOUT, Tls::default()),
            secrets: Hidden::default(),
        }
    }

    pub fn through(self, proxy: Url) -> Self {
        Self {
            outbound: self.outbound.through(proxy),
            ..self
        }
    }

    /// With a secret that a hostile or careless service might send back.
    pub fn hiding(mut self, secret: &str) -> Self {
        self.secrets.add(secret);
        self
    }

    /// With an address that is a secret itself: its path and query.
    pub fn hiding_path(mut self, url: &Url) -> Self {
        self.secrets.add_path(url);
        self
    }

    /// Sends, and takes nothing but success for it.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Failure> {
        send(&self.outbound, &self.secrets, ask).await
    }

    /// For a service that says no with a 200.
    pub fn refused(&self, why: &str) -> Failure {
        Failure::new(self.secrets.clean(&format!("it refused: {why}")))
    }
}

impl Hidden {
    pub fn add(&mut self, secret: &str) {
        if secret.len() >= 4 {
            self.0.push(secret.into());
        }
    }

    /// The path and query of an address that is a secret itself.
    pub fn add_path(&mut self, url: &Url) {
        let segments = url.path_segments().into_iter().flatten();
        let values = url.query_pairs().map(|(_, value)| value.into_owned());
        let parts = segments.map(str::to_owned).chain(values);
        for part in parts.filter(|part| part.len() >= 8) {
            self.add(&part);
        }
    }

    fn clean(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.expose_secret(), "***")
        })
    }
}

/// Sends, and takes nothing but success for it. What went wrong is told without what is hidden.
pub async fn send(outbound: &Outbound, hidden: &Hidden, ask: Ask) -> Result<Answer, Failure> {
    let answer = outbound
        .send(ask.limit(ANSWER))
        .await
        .map_err(|error| Failure::new(hidden.clean(&error.to_string())))?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let mut why = format!("it answered {}", answer.status);
    let excerpt = answer.excerpt();
    if !excerpt.is_empty() {
        why = format!("{why}: {excerpt}");
    }
    Err(Failure {
        again_after: again_after(&answer, Utc::now()),
        status: Some(answer.status),
        ..Failure::new(hidden.clean(&why))
    })
}

/// How long the service asks to be left alone: `Retry-After`, or what Telegram and Discord say in
/// the body.
fn again_after(answer: &Answer, now: DateTime<Utc>) -> Option<Duration> {
    let header = answer.headers.get(header::RETRY_AFTER);
    let header = header
        .and_then(|value| value.to_str().ok())
        .and_then(|text| {
            let seconds = text.trim().parse::<f64>().ok();
            seconds.or_else(|| {
                let at = DateTime::parse_from_rfc2822(text).ok()?;
                Some((at.to_utc() - now).num_milliseconds() as f64 / 1000.0)
            })
        });
    let said = header.or_else(|| {
        let body: Value = answer.json().ok()?;
        let seconds = &body["retry_after"];
        seconds
            .as_f64()
            .or_else(|| body["parameters"]["retry_after"].as_f64())
    })?;
    let wait = Duration::try_from_secs_f64(said.max(0.0)).ok()?;
    Some(wait.min(LONGEST_WAIT))
}

/// An address below that of the service: `base` may have a path of its own.
pub fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// `Authorization: Bearer …`.
pub fn bearer(token: &SecretString) -> Result<HeaderValue, String> {
    header_value(&format!("Bearer {}", token.expose_secret()))
}

/// `Authorization: Basic …`.
pub fn basic(user: &str, password: &SecretString) -> Result<HeaderValue, String> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let pair = format!("{user}:{}", password.expose_secret());
    header_value(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

pub fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text)
        .map_err(|_| "a credential has characters that no header may have".to_owned())
}

/// At most so many characters, with an ellipsis where something is left out.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

/// The same in bytes.
pub fn cut_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_a_characters_boundary() {
        assert_eq!(cut("ééé", 3), "ééé");
        assert_eq!(cut("éééé", 3), "éé…");
        assert_eq!(cut_bytes("éééé", 8), "éééé");
        assert_eq!(cut_bytes("ééééé", 8), "éé…");
    }

    #[test]
    fn a_base_may_have_a_path() {
        for (base, expected) in [
            ("https://h", "https://h/a/b%2Fc"),
            ("https://h/", "https://h/a/b%2Fc"),
            ("https://h/sub", "https://h/sub/a/b%2Fc"),
            ("https://h/sub/", "https://h/sub/a/b%2Fc"),
        ] {
            let url = below(&Url::parse(base).unwrap(), &["a", "b/c"]);
            assert_eq!(url.as_str(), expected);
        }
    }
}
