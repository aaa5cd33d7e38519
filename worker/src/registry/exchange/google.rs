//! Google's registries: a service account's signed assertion brings an access token for an hour
//! (RFC 7523; Google, "Using OAuth 2.0 for server to server applications").

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use plimsoll_outbound::{Answer, Ask, Outbound, OutboundError};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{Credentials, Denied, MAX_ANSWER, denied};

const SERVICE: &str = "https://oauth2.googleapis.com/token";
/// Reading is all that is asked for: of the registries, and of the buckets behind older ones.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform.read-only \
                     https://www.googleapis.com/auth/devstorage.read_only";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The login name that says that the password is an access token.
const LOGIN: &str = "oauth2accesstoken";
/// How long an assertion may be used: an hour is the most that Google takes.
const ASSERTION: i64 = 3600;
const LONGEST: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
pub(crate) struct Key {
    email: String,
    pair: RsaKeyPair,
}

#[derive(Deserialize)]
struct Token {
    access_token: SecretString,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Complaint {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Key {
    /// `private_key` as in the JSON file of a service account, its line ends as `\n` or as such.
    pub(super) fn new(email: &str, private_key: &SecretString) -> Result<Self, &'static str> {
        if !email.contains('@') {
            return Err("clientemail must be the address of a service account");
        }
        let no_key = "privatekey must be an RSA key in PEM form, as `private_key` in the JSON file \
                      of the service account";
        let pem = private_key.expose_secret().replace("\\n", "\n");
        let der = PrivateKeyDer::from_pem_slice(pem.trim().as_bytes()).map_err(|_| no_key)?;
        let pair = match &der {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(no_key),
        };
        Ok(Self {
            email: email.to_owned(),
            pair: pair.map_err(|_| no_key)?,
        })
    }

    /// Who was asked, and what came of it.
    pub(super) async fn exchange(
        &self,
        out: &Outbound,
        service: Option<&Url>,
        at: DateTime<Utc>,
    ) -> Result<(String, Result<(Credentials, Duration), Denied>), OutboundError> {
        let misconfigured = |what: &str| OutboundError::Misconfigured(what.to_owned());
        let url = match service {
            Some(url) => url.join("/token"),
            None => Url::parse(SERVICE),
        };
        let url = url.map_err(|_| misconfigured("authurl is no address"))?;
        let host = super::super::host::of_url(&url);
        let assertion = self
            .assertion(at)
            .ok_or_else(|| misconfigured("the private key cannot sign"))?;
        let form = [("grant_type", GRANT), ("assertion", &assertion)];
        let ask = Ask::post(url).limit(MAX_ANSWER).form(&form);
        let answer = out.send(ask).await?;
        Ok((host, read(&answer)))
    }

    fn assertion(&self, at: DateTime<Utc>) -> Option<String> {
        let now = at.timestamp();
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": SERVICE,
            "iat": now,
            "exp": now + ASSERTION,
        });
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let head = encode(br#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", encode(claims.to_string().as_bytes()));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .ok()?;
        Some(format!("{signed}.{}", encode(&signature)))
    }
}

fn read(answer: &Answer) -> Result<(Credentials, Duration), Denied> {
    if !answer.status.is_success() {
        let said = answer.json::<Complaint>().ok();
        let said = said.map(|c| format!("{} {}", c.error, c.error_description));
        return Err(denied(answer, said));
    }
    let token: Token = answer
        .json()
        .map_err(|_| Denied::Malformed("it holds no access token"))?;
    let lasts = token.expires_in.map_or(LONGEST, Duration::from_secs);
    let credentials = Credentials::Password {
        login: LOGIN.to_owned(),
        password: token.access_token,
    };
    Ok((credentials, lasts.min(LONGEST)))
}
