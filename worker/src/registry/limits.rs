//! What a registry says about its limits: `Retry-After`, `RateLimit-*`, `X-RateLimit-*`, the
//! structured `RateLimit` of the IETF drafts, and Docker Hub's `ratelimit-remaining: 0;w=21600`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, StatusCode};

/// A registry cannot silence itself for longer than this.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Where only the length of the window is known: the time in which one request is earned back, but
/// not more than this.
const LONGEST_GUESS: Duration = Duration::from_secs(300);
/// Numbers above this are times, not distances (the year 2001).
const EPOCH_FROM: u64 = 1_000_000_000;

/// What an answer means for the requests after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// Refused, or nothing left; with the pause asked for, if any.
    Limited(Option<Duration>),
}

pub(crate) fn verdict(
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
    now: DateTime<Utc>,
) -> Verdict {
    let retry_after = || text(headers, "retry-after").and_then(|value| delay(value, now));
    if status == StatusCode::TOO_MANY_REQUESTS {
        let pause = retry_after()
            .or_else(|| text(headers, "x-ratelimit-retry-after").and_then(|v| delay(v, now)))
            .or_else(|| reset(headers, now));
        return Verdict::Limited(pause);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return match retry_after() {
            Some(pause) => Verdict::Limited(Some(pause)),
            None => Verdict::Fine,
        };
    }
    // Docker Hub reports on HEAD, too, and does not count it: "nothing left" holds for GET only.
    if !status.is_success() || method == Method::HEAD || remaining(headers) != Some(0) {
        return Verdict::Fine;
    }
    match reset(headers, now).or_else(|| earned_back(headers)) {
        Some(pause) if !pause.is_zero() => Verdict::Limited(Some(pause)),
        _ => Verdict::Fine,
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Seconds, seconds since 1970, or an HTTP date.
fn delay(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let until = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let delay = match value.parse::<u64>() {
        Ok(seconds) if seconds >= EPOCH_FROM => {
            until(i64::try_from(seconds).ok()?.saturating_sub(now.timestamp()))
        }
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => match value.parse::<f64>() {
            Ok(seconds) if seconds >= 0.0 => Duration::try_from_secs_f64(seconds).ok()?,
            _ => {
                let date = DateTime::parse_from_rfc2822(value).ok()?;
                until((date.to_utc() - now).num_seconds())
            }
        },
    };
    Some(delay.min(LONGEST))
}

/// The number before the parameters: `0;w=21600` is 0.
fn leading(value: &str) -> Option<u64> {
    value.split([';', ',']).next()?.trim().parse().ok()
}

/// A parameter of the drafts' `RateLimit`: `limit=100, remaining=0, reset=5` or `"p";r=0;t=5`.
fn parameter(value: &str, names: &[&str]) -> Option<u64> {
    value.split([',', ';']).find_map(|part| {
        let (name, number) = part.split_once('=')?;
        names
            .contains(&name.trim())
            .then(|| number.trim().parse().ok())?
    })
}

fn remaining(headers: &HeaderMap) -> Option<u64> {
    ["ratelimit-remaining", "x-ratelimit-remaining"]
        .iter()
        .find_map(|name| leading(text(headers, name)?))
        .or_else(|| parameter(text(headers, "ratelimit")?, &["remaining", "r"]))
}

fn reset(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    ["ratelimit-reset", "x-ratelimit-reset"]
        .iter()
        .find_map(|name| delay(text(headers, name)?, now))
        .or_else(|| {
            let seconds = parameter(text(headers, "ratelimit")?, &["reset", "t"])?;
            Some(Duration::from_secs(seconds).min(LONGEST))
        })
}

fn earned_back(headers: &HeaderMap) -> Option<Duration> {
    let limit = text(headers, "ratelimit-limit").or_else(|| text(headers, "x-ratelimit-limit"))?;
    let window = parameter(limit, &["w"])?;
    let per_request = window / leading(limit)?.max(1);
    Some(Duration::from_secs(per_request).min(LONGEST_GUESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, status: u16, pairs: &[(&str, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            headers.insert(name, value.parse().expect("a header value"));
        }
        let now = DateTime::parse_from_rfc3339("2026-11-21T12:00:00Z")
            .expect("a time")
            .to_utc();
        let status = StatusCode::from_u16(status).expect("a status");
        verdict(&method, status, &headers, now)
    }

    fn pause(seconds: u64) -> Verdict {
        Verdict::Limited(Some(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_refusal_lasts_as_long_as_the_registry_says() {
        let get = |pairs: &[(&str, &str)]| check(Method::GET, 429, pairs);
        assert_eq!(get(&[]), Verdict::Limited(None));
        assert_eq!(get(&[("Retry-After", "7")]), pause(7));
        assert_eq!(
            get(&[("Retry-After", "1.5")]),
            Verdict::Limited(Some(Duration::from_millis(1500)))
        );
        assert_eq!(
            get(&[("Retry-After", "Sat, 21 Nov 2026 12:00:30 GMT")]),
            pause(30)
        );
        assert_eq!(
            get(&[("Retry-After", "Sat, 21 Nov 2020 12:00:30 GMT")]),
            pause(0)
        );
        assert_eq!(get(&[("Retry-After", "soon")]), Verdict::Limited(None));
        assert_eq!(get(&[("Retry-After", "99999999")]), pause(86400));
        assert_eq!(get(&[("X-RateLimit-Reset", "1795262460")]), pause(60));
        assert_eq!(get(&[("RateLimit-Reset", "12")]), pause(12));
        assert_eq!(
            get(&[("RateLimit", "limit=10, remaining=0, reset=9")]),
            pause(9)
        );
        assert_eq!(get(&[("RateLimit", "\"default\";r=0;t=8")]), pause(8));
    }

    #[test]
    fn nothing_left_is_a_pause_before_the_refusal() {
        let hub = [
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "0;w=21600"),
        ];
        assert_eq!(check(Method::GET, 200, &hub), pause(216));
        assert_eq!(check(Method::HEAD, 200, &hub), Verdict::Fine);
        let left = [
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "76;w=21600"),
        ];
        assert_eq!(check(Method::GET, 200, &left), Verdict::Fine);
        let reset = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "30")];
        assert_eq!(check(Method::GET, 200, &reset), pause(30));
        assert_eq!(
            check(Method::GET, 200, &[("RateLimit-Remaining", "0")]),
            Verdict::Fine
        );
    }

    #[test]
    fn an_overloaded_registry_that_names_a_time_is_given_it() {
        assert_eq!(check(Method::GET, 503, &[("Retry-After", "20")]), pause(20));
        assert_eq!(check(Method::GET, 503, &[]), Verdict::Fine);
    }
}
