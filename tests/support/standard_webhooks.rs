//! A receiver's side of Standard Webhooks.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;
use serde_json::Value;

use crate::hostile::Received;

/// The body, if one of the signatures is by `secret` (`whsec_…`) and not older than five minutes.
pub fn verify(secret: &str, request: &Received) -> Result<Value, String> {
    let header = |name: &str| request.header(name).ok_or(format!("no {name}"));
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let sent: i64 = timestamp.parse().map_err(|_| "no timestamp".to_owned())?;
    if (chrono::Utc::now().timestamp() - sent).abs() > 300 {
        return Err(format!("sent at {timestamp}"));
    }
    let key = secret.strip_prefix("whsec_").ok_or("no secret")?;
    let key = BASE64_STANDARD.decode(key).map_err(|e| e.to_string())?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = format!("{id}.{timestamp}.{}", request.body);
    let fits = |signature: &str| {
        let signature = signature.strip_prefix("v1,").unwrap_or_default();
        let signature = BASE64_STANDARD.decode(signature).unwrap_or_default();
        hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
    };
    if !header("webhook-signature")?.split(' ').any(fits) {
        return Err("no signature fits".to_owned());
    }
    serde_json::from_str(&request.body).map_err(|e| e.to_string())
}
