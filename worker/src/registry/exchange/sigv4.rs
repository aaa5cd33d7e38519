//! Signatures of AWS, version 4 ("Signing AWS API requests", IAM user guide), for a POST to `/`
//! without a query, which is all that we ask of AWS.

use chrono::{DateTime, Utc};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};

/// Where a signature counts.
pub(super) struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
    pub at: DateTime<Utc>,
}

impl Scope<'_> {
    /// The value of `X-Amz-Date`.
    pub(super) fn timestamp(&self) -> String {
        self.at.format("%Y%m%dT%H%M%SZ").to_string()
    }

    fn date(&self) -> String {
        self.at.format("%Y%m%d").to_string()
    }

    fn credential(&self) -> String {
        let date = self.date();
        format!("{date}/{}/{}/aws4_request", self.region, self.service)
    }
}

/// The value of `Authorization`. `headers`: all that are signed, names in lower case and in order,
/// `host` and `x-amz-date` among them, values trimmed.
pub(super) fn authorization(
    scope: &Scope<'_>,
    id: &SecretString,
    secret: &SecretString,
    headers: &[(&str, &str)],
    body: &[u8],
) -> String {
    debug_assert!(headers.is_sorted());
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
    let request = format!("POST\n/\n\n{lines}\n{names}\n{}", sha256(body));
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{}\n{}",
        scope.timestamp(),
        scope.credential(),
        sha256(request.as_bytes())
    );
    let mut key = format!("AWS4{}", secret.expose_secret()).into_bytes();
    for part in [&scope.date(), scope.region, scope.service, "aws4_request"] {
        key = sign(&key, part).as_ref().to_vec();
    }
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={names}, Signature={}",
        id.expose_secret(),
        scope.credential(),
        hex::encode(sign(&key, &text))
    )
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's published test suite for version 4: key, time and scope are the same in all of it.
    fn check(headers: &[(&str, &str)], body: &str, signature: &str) {
        let scope = Scope {
            region: "us-east-1",
            service: "service",
            at: DateTime::parse_from_rfc3339("2015-08-30T12:36:00Z")
                .expect("a time")
                .to_utc(),
        };
        let value = authorization(
            &scope,
            &"AKIDEXAMPLE".into(),
            &"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            headers,
            body.as_bytes(),
        );
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders={}, Signature={signature}",
            names.join(";")
        );
        assert_eq!(value, expected);
    }

    #[test]
    fn post_vanilla() {
        check(
            &[
                ("host", "example.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ],
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
    }

    #[test]
    fn post_x_www_form_urlencoded() {
        check(
            &[
                ("content-type", "application/x-www-form-urlencoded"),
                ("host", "example.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
    }

    #[test]
    fn post_header_value_case() {
        check(
            &[
                ("host", "example.amazonaws.com"),
                ("my-header1", "VALUE1"),
                ("x-amz-date", "20150830T123600Z"),
            ],
            "",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        );
    }
}
