//! Amazon's registries: a signed `GetAuthorizationToken` brings a password for twelve hours
//! (ECR API reference).

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue, header};
use plimsoll_outbound::{Answer, Ask, Outbound, OutboundError};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{
    Credentials, Denied, MAX_ANSWER, denied,
    sigv4::{self, Scope},
};

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const BODY: &str = "{}";
/// What a token lasts for at most, whatever it says.
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// The public gallery has its service in one region.
const GALLERY: &str = "public.ecr.aws";
const GALLERY_REGION: &str = "us-east-1";

#[derive(Debug)]
pub(crate) struct Key {
    id: SecretString,
    secret: SecretString,
    region: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    authorization_data: OneOrMany,
}

/// The private registry's service sends a list, the gallery's an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Token),
    Many(Vec<Token>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    authorization_token: SecretString,
    /// Seconds since 1970, with a fraction.
    expires_at: Option<f64>,
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl Key {
    pub(super) fn new(
        id: SecretString,
        secret: SecretString,
        region: &str,
    ) -> Result<Self, &'static str> {
        let fit = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if region.is_empty() || !region.bytes().all(fit) {
            return Err("region must be a region's name, such as eu-west-1");
        }
        let usable =
            |text: &SecretString| text.expose_secret().bytes().all(|c| c.is_ascii_graphic());
        match (usable(&id), usable(&secret)) {
            (true, true) => Ok(Self {
                id,
                secret,
                region: region.to_owned(),
            }),
            (false, _) => Err("accesskeyid has characters that no access key has"),
            (_, false) => Err("secretaccesskey has characters that no access key has"),
        }
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// Who was asked, and what came of it.
    pub(super) async fn exchange(
        &self,
        out: &Outbound,
        service: Option<&Url>,
        registry: &str,
        at: DateTime<Utc>,
    ) -> Result<(String, Result<(Credentials, Duration), Denied>), OutboundError> {
        let gallery = registry == GALLERY;
        let region = match gallery {
            true => GALLERY_REGION,
            false => region_of(registry).unwrap_or(&self.region),
        };
        let name = if gallery { "ecr-public" } else { "ecr" };
        let target = match gallery {
            true => "SpencerFrontendService.GetAuthorizationToken",
            false => "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
        };
        let url = match service {
            Some(url) => url.clone(),
            None => own_service(name, region)?,
        };
        let host = super::super::host::of_url(&url);
        let scope = Scope {
            region,
            service: name,
            at,
        };
        let timestamp = scope.timestamp();
        let headers = [
            ("content-type", CONTENT_TYPE),
            ("host", &host),
            ("x-amz-date", &timestamp),
            ("x-amz-target", target),
        ];
        let authorization =
            sigv4::authorization(&scope, &self.id, &self.secret, &headers, BODY.as_bytes());
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| OutboundError::Misconfigured("the key cannot be sent".to_owned()))
        };
        let ask = Ask::post(url)
            .limit(MAX_ANSWER)
            .header(HeaderName::from_static("x-amz-date"), value(&timestamp)?)
            .header(
                HeaderName::from_static("x-amz-target"),
                HeaderValue::from_static(target),
            )
            .secret(header::AUTHORIZATION, value(&authorization)?)
            .body(CONTENT_TYPE, BODY);
        let answer = out.send(ask).await?;
        Ok((host, read(&answer, at)))
    }
}

fn read(answer: &Answer, at: DateTime<Utc>) -> Result<(Credentials, Duration), Denied> {
    if !answer.status.is_success() {
        return Err(complaint(answer));
    }
    let malformed = || Denied::Malformed("it holds no authorization token");
    let tokens: Tokens = answer.json().map_err(|_| malformed())?;
    let token = match tokens.authorization_data {
        OneOrMany::One(token) => Some(token),
        OneOrMany::Many(tokens) => tokens.into_iter().next(),
    };
    let token = token.ok_or_else(malformed)?;
    let pair = BASE64_STANDARD
        .decode(token.authorization_token.expose_secret())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(malformed)?;
    let (login, password) = pair.split_once(':').ok_or_else(malformed)?;
    let left = token.expires_at.map_or(LONGEST, |end| {
        // Milliseconds fit in both: the year 9999 does.
        #[allow(clippy::cast_precision_loss)]
        let left = end - at.timestamp() as f64;
        Duration::try_from_secs_f64(left).unwrap_or(Duration::ZERO)
    });
    Ok((Credentials::password(login, password), left.min(LONGEST)))
}

fn complaint(answer: &Answer) -> Denied {
    let Ok(complaint) = answer.json::<Complaint>() else {
        return denied(answer, None);
    };
    // `com.amazonaws.…#ThrottlingException`
    let kind = complaint.kind.rsplit('#').next().unwrap_or_default();
    if matches!(kind, "ThrottlingException" | "TooManyRequestsException") {
        return Denied::Limited;
    }
    denied(answer, Some(format!("{kind} {}", complaint.message)))
}

/// The region in a registry's name.
pub(super) fn region_of(registry: &str) -> Option<&str> {
    let mut labels = registry.split('.');
    match (labels.next(), labels.next(), labels.next(), labels.next()) {
        (Some(_), Some("dkr"), Some("ecr" | "ecr-fips"), Some(region)) => Some(region),
        _ => None,
    }
}

/// What the key must be allowed to do.
pub(super) fn action(registry: &str) -> &'static str {
    match registry {
        GALLERY => "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken",
        _ => "ecr:GetAuthorizationToken",
    }
}

fn own_service(name: &str, region: &str) -> Result<Url, OutboundError> {
    let end = if region.starts_with("cn-") { ".cn" } else { "" };
    Url::parse(&format!("https://api.{name}.{region}.amazonaws.com{end}/"))
        .map_err(|_| OutboundError::Misconfigured(format!("{region} is no region")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_that_of_the_registrys_region() {
        let cases = [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                Some("eu-west-1"),
                "https://api.ecr.eu-west-1.amazonaws.com/",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
                "https://api.ecr.cn-north-1.amazonaws.com.cn/",
            ),
            ("localhost:5000", None, "https://api.ecr.x.amazonaws.com/"),
        ];
        for (registry, region, service) in cases {
            assert_eq!(region_of(registry), region);
            let url = own_service("ecr", region.unwrap_or("x")).expect("a region");
            assert_eq!(url.as_str(), service);
        }
    }
}
