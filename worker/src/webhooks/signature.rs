//! Standard Webhooks' symmetric signatures: `v1,` and the base64 of HMAC-SHA256 over
//! `id.timestamp.body`.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;

/// One signature for each key, separated by spaces: whoever knows one of the keys finds one that
/// fits.
pub(super) fn signatures<'a>(
    keys: impl Iterator<Item = &'a [u8]>,
    id: &str,
    timestamp: i64,
    body: &str,
) -> String {
    let all: Vec<String> = keys.map(|key| sign(key, id, timestamp, body)).collect();
    all.join(" ")
}

fn sign(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    /// The vector that Standard Webhooks' libraries are tested with.
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn key() -> Vec<u8> {
        BASE64_STANDARD
            .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .unwrap()
    }

    #[test]
    fn the_published_vector_comes_out() {
        assert_eq!(sign(&key(), ID, TIMESTAMP, BODY), SIGNATURE);
    }

    #[test]
    fn two_keys_sign_side_by_side() {
        let (old, new) = (key(), vec![7; 32]);
        let keys = [new.as_slice(), old.as_slice()];
        let both = signatures(keys.into_iter(), ID, TIMESTAMP, BODY);
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(first, sign(&new, ID, TIMESTAMP, BODY));
        assert_eq!(second, SIGNATURE);
    }

    #[test]
    fn whatever_is_signed_counts() {
        for other in [
            sign(&key(), "other", TIMESTAMP, BODY),
            sign(&key(), ID, TIMESTAMP + 1, BODY),
            sign(&key(), ID, TIMESTAMP, "{}"),
            sign(&[7; 32], ID, TIMESTAMP, BODY),
        ] {
            assert_ne!(other, SIGNATURE);
        }
    }
}
