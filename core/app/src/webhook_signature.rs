//! Signatures of webhooks, over the raw body, checked before anything of it is read: GitHub's form
//! (`sha256=<hex>`), and Standard Webhooks (`v1,<base64>` over id, time and body).

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

/// How far the time in a Standard Webhooks delivery may be from ours.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);
/// In front of a Standard Webhooks secret, which is base64 then.
const PREFIX: &str = "whsec_";

/// What a delivery is signed with. Headers that are not there are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signatures<'a> {
    /// `X-Hub-Signature-256`, or `X-Plimsoll-Signature-256`.
    pub hub: Option<&'a str>,
    pub standard: Option<Standard<'a>>,
}

/// `webhook-id`, `webhook-timestamp` and `webhook-signature`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard<'a> {
    pub id: &'a str,
    pub timestamp: &'a str,
    pub signatures: &'a str,
}

impl Signatures<'_> {
    pub const fn is_signed(&self) -> bool {
        self.hub.is_some() || self.standard.is_some()
    }

    /// Whether one of `secrets` made a signature that is there. The comparison takes the same time
    /// whatever the signature is.
    pub fn verify(&self, body: &[u8], secrets: &[SecretString], now: DateTime<Utc>) -> bool {
        let hub = self.hub.and_then(of_hub);
        let standard = self.standard.filter(|standard| standard.is_timely(now));
        secrets.iter().any(|secret| {
            let of_hub = hub.as_ref().is_some_and(|signature| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
                hmac::verify(&key, body, signature).is_ok()
            });
            of_hub || standard.is_some_and(|standard| standard.is_by(secret, body))
        })
    }
}

impl Standard<'_> {
    fn is_timely(&self, now: DateTime<Utc>) -> bool {
        let at = self.timestamp.parse().ok();
        at.and_then(|at| DateTime::from_timestamp(at, 0))
            .is_some_and(|at| (now - at).abs() <= TOLERANCE)
    }

    fn is_by(&self, secret: &SecretString, body: &[u8]) -> bool {
        let secret = secret.expose_secret();
        let decoded = secret
            .strip_prefix(PREFIX)
            .and_then(|rest| BASE64_STANDARD.decode(rest).ok());
        let key = decoded.unwrap_or_else(|| secret.as_bytes().to_vec());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let mut signed = format!("{}.{}.", self.id, self.timestamp).into_bytes();
        signed.extend_from_slice(body);
        // Several, where the sender is changing its secret.
        self.signatures
            .split(' ')
            .filter_map(|one| BASE64_STANDARD.decode(one.strip_prefix("v1,")?).ok())
            .any(|signature| hmac::verify(&key, &signed, &signature).is_ok())
    }
}

fn of_hub(header: &str) -> Option<Vec<u8>> {
    hex::decode(header.strip_prefix("sha256=")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of some length";
    const BODY: &[u8] = br#"{"image":"nginx"}"#;
    const AT: &str = "1772000000";

    fn signed(key: &[u8], text: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text).as_ref().to_vec()
    }

    fn verify(signatures: Signatures<'_>, secrets: &[&str], seconds_late: i64) -> bool {
        let secrets: Vec<_> = secrets.iter().map(|s| SecretString::from(*s)).collect();
        let now = DateTime::from_timestamp(1_772_000_000 + seconds_late, 0).unwrap();
        signatures.verify(BODY, &secrets, now)
    }

    #[test]
    fn githubs_form_is_hex_over_the_body() {
        let good = format!("sha256={}", hex::encode(signed(SECRET.as_bytes(), BODY)));
        let check = |header: &str, secrets: &[&str]| {
            let hub = Some(header);
            verify(
                Signatures {
                    hub,
                    standard: None,
                },
                secrets,
                0,
            )
        };
        assert!(check(&good, &[SECRET]));
        assert!(check(&good, &["the next secret", SECRET]));
        assert!(check(
            &good.to_uppercase().replace("SHA256", "sha256"),
            &[SECRET]
        ));
        assert!(!check(&good, &["another secret"]));
        assert!(!check(&good, &[]));
        for bad in [
            "",
            "sha256=",
            "sha256=zz",
            &good[..good.len() - 2],
            &good[7..],
        ] {
            assert!(!check(bad, &[SECRET]), "{bad:?}");
        }
        // The first form that GitHub had.
        assert!(!check(&good.replace("sha256", "sha1"), &[SECRET]));
    }

    #[test]
    fn standard_webhooks_sign_id_and_time_too() {
        let text = [b"msg_1.1772000000.".as_slice(), BODY].concat();
        let prefixed = format!("whsec_{}", BASE64_STANDARD.encode(SECRET));
        let header = format!(
            "v1a,AAAA v1,{} v1,{}",
            BASE64_STANDARD.encode(signed(b"another", &text)),
            BASE64_STANDARD.encode(signed(SECRET.as_bytes(), &text)),
        );
        let check = |id, timestamp, secret: &str, late| {
            let standard = Standard {
                id,
                timestamp,
                signatures: &header,
            };
            let signatures = Signatures {
                hub: None,
                standard: Some(standard),
            };
            verify(signatures, &[secret], late)
        };
        assert!(check("msg_1", AT, &prefixed, 0));
        assert!(check("msg_1", AT, SECRET, 300));
        assert!(check("msg_1", AT, SECRET, -300));
        assert!(!check("msg_1", AT, SECRET, 301));
        assert!(!check("msg_2", AT, SECRET, 0));
        assert!(!check("msg_1", "1772000001", SECRET, 0));
        assert!(!check("msg_1", "soon", SECRET, 0));
        assert!(!check("msg_1", AT, "whsec_bm90", 0));
    }
}
