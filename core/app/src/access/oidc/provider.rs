//! One identity provider: what it publishes, kept for a while, and the exchange of a code for a
//! person. Nothing is asked of it before somebody wants to sign in, so a provider that is away
//! keeps nobody else from doing so.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use futures::future::BoxFuture;
use openidconnect::{
    AccessTokenHash, AsyncHttpClient, AuthType, AuthorizationCode, ClaimsVerificationError,
    ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse, Nonce, OAuth2TokenResponse,
    PkceCodeChallenge, PkceCodeVerifier, ProviderMetadataWithLogout, RedirectUrl,
    RequestTokenError, Scope, SignatureVerificationError, TokenResponse,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreIdToken, CoreIdTokenVerifier,
        CoreJsonWebKeySet, CoreJwsSigningAlgorithm, CoreTokenResponse,
    },
};
use plimsoll_domain::identity::name_of;
use plimsoll_outbound::{Ask, Outbound, OutboundError};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::settings::OidcSettings;

/// How long what a provider publishes is used.
const FRESH: Duration = Duration::from_secs(3600);
/// After a failure the provider is not asked again for this long: those who wait in line hear the
/// same answer at once.
const PAUSE: Duration = Duration::from_secs(2);
/// Tokens signed with an unknown key make us look for new ones, but not more often than this.
const KEYS_PAUSE: Duration = Duration::from_secs(10);
/// How far the provider's clock may be from ours, in seconds.
const SKEW: i64 = 60;
/// Of a document that a provider publishes.
const DOCUMENT: usize = 256 * 1024;

/// Signatures that only the provider can make. No `none`, and none that our own secret could make.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Why a provider's word does not count.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer, or not sensibly.
    #[error("{0}")]
    Away(String),
    /// It answered, and the sign-in is not valid.
    #[error("{0}")]
    Refused(String),
}

/// A person whom the provider vouches for.
#[derive(Clone, Debug)]
pub struct Person {
    pub subject: String,
    /// What they are called. Says nothing about who they are.
    pub name: String,
    /// Of the ID token, and of the provider's user information.
    pub claims: Value,
}

pub struct Provider {
    pub settings: OidcSettings,
    outbound: Outbound,
    published: Mutex<Published>,
}

#[derive(Default)]
struct Published {
    metadata: Option<(Instant, ProviderMetadataWithLogout)>,
    failure: Option<(Instant, ProviderError)>,
    keys_renewed: Option<Instant>,
}

/// What a browser is sent to the provider with.
pub struct Secrets {
    pub state: CsrfToken,
    pub nonce: Nonce,
    pub verifier: PkceCodeVerifier,
}

impl Provider {
    pub fn new(settings: OidcSettings) -> Self {
        let outbound = Outbound::new(settings.reach, settings.timeout, settings.tls.clone());
        Self {
            settings,
            outbound,
            published: Mutex::default(),
        }
    }

    /// Where the browser is sent: the provider's own page, and the request in its query.
    pub async fn authorization_url(&self, secrets: &Secrets) -> Result<Url, ProviderError> {
        let metadata = self.metadata().await?;
        let client = client(&self.settings, &metadata);
        let (state, nonce) = (secrets.state.clone(), secrets.nonce.clone());
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || state,
                move || nonce,
            )
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(
                &secrets.verifier,
            ));
        for scope in &self.settings.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        Ok(request.url().0)
    }

    /// Exchanges the code that the browser brought back, and checks everything about the answer.
    pub async fn person(&self, code: String, secrets: Secrets) -> Result<Person, ProviderError> {
        let metadata = self.metadata().await?;
        let tokens = self.exchange(&metadata, code, secrets.verifier).await?;
        let token = tokens
            .id_token()
            .ok_or_else(|| ProviderError::Refused("there is no ID token".to_owned()))?;
        match self.check(&metadata, token, &tokens, &secrets.nonce) {
            Err(Check::UnknownKey) => {
                let renewed = self.renew_keys().await?;
                self.check(&renewed, token, &tokens, &secrets.nonce)
            }
            checked => checked,
        }
        .map_err(|check| ProviderError::Refused(check.to_string()))?;
        let mut claims = claims(token)?;
        if self.lacks(&claims) {
            self.add_user_info(&metadata, &tokens, &mut claims).await?;
        }
        let subject = claims.get("sub").and_then(Value::as_str);
        let (Some(subject), Some(name)) = (subject, name_of(&claims)) else {
            return Err(ProviderError::Refused(
                "the ID token names nobody".to_owned(),
            ));
        };
        Ok(Person {
            subject: subject.to_owned(),
            name,
            claims,
        })
    }

    /// Where the provider ends its own session.
    pub async fn logout_url(&self) -> Option<Url> {
        if let Some(configured) = &self.settings.logout_url {
            return Some(configured.clone());
        }
        let metadata = self.metadata().await.ok()?;
        end_session(&metadata, &self.settings.client_id)
    }

    /// The same, and the last failure, as far as they are known without asking.
    pub fn known(&self) -> (Option<Url>, Option<ProviderError>) {
        let configured = self.settings.logout_url.clone();
        let Ok(published) = self.published.try_lock() else {
            return (configured, None);
        };
        let metadata = published.metadata.as_ref().map(|(_, metadata)| metadata);
        let announced = metadata.and_then(|m| end_session(m, &self.settings.client_id));
        let failure = published.failure.as_ref().map(|(_, error)| error.clone());
        (configured.or(announced), failure)
    }

    /// Where browsers are sent to, without its query.
    pub async fn authorization_endpoint(&self) -> Result<Url, ProviderError> {
        Ok(self
            .metadata()
            .await?
            .authorization_endpoint()
            .url()
            .clone())
    }

    async fn metadata(&self) -> Result<ProviderMetadataWithLogout, ProviderError> {
        // One asks, the others wait for what it learns.
        let mut published = self.published.lock().await;
        if let Some((at, metadata)) = &published.metadata
            && at.elapsed() < FRESH
        {
            return Ok(metadata.clone());
        }
        if let Some((at, failure)) = &published.failure
            && at.elapsed() < PAUSE
        {
            return Err(failure.clone());
        }
        match self.discover().await {
            Ok(metadata) => {
                published.metadata = Some((Instant::now(), metadata.clone()));
                published.failure = None;
                Ok(metadata)
            }
            Err(error) => {
                tracing::warn!(provider = self.settings.name, %error, "identity provider");
                published.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn renew_keys(&self) -> Result<ProviderMetadataWithLogout, ProviderError> {
        let mut published = self.published.lock().await;
        if let Some(at) = published.keys_renewed
            && at.elapsed() < KEYS_PAUSE
        {
            // Somebody else may just have fetched them.
            if let Some((_, metadata)) = &published.metadata {
                return Ok(metadata.clone());
            }
        }
        published.keys_renewed = Some(Instant::now());
        let metadata = self.discover().await?;
        published.metadata = Some((Instant::now(), metadata.clone()));
        Ok(metadata)
    }

    async fn discover(&self) -> Result<ProviderMetadataWithLogout, ProviderError> {
        let issuer = &self.settings.issuer;
        let document = format!(
            "{}/.well-known/openid-configuration",
            issuer.as_str().trim_end_matches('/')
        );
        let metadata: ProviderMetadataWithLogout = self.document(&document).await?;
        let announced = metadata.issuer().url().as_str().trim_end_matches('/');
        if announced != issuer.as_str().trim_end_matches('/') {
            return Err(away(format!(
                "it calls itself {announced}, which is not where its settings were read"
            )));
        }
        let endpoints = [
            Some(metadata.authorization_endpoint().url()),
            metadata.token_endpoint().map(|endpoint| endpoint.url()),
            metadata.userinfo_endpoint().map(|endpoint| endpoint.url()),
            Some(metadata.jwks_uri().url()),
        ];
        let secure = issuer.scheme() == "https";
        if secure
            && endpoints
                .into_iter()
                .flatten()
                .any(|url| url.scheme() != "https")
        {
            return Err(away("one of its addresses is without https".to_owned()));
        }
        let keys: CoreJsonWebKeySet = self.document(metadata.jwks_uri().as_str()).await?;
        Ok(metadata.set_jwks(keys))
    }

    async fn document<T: serde::de::DeserializeOwned>(
        &self,
        address: &str,
    ) -> Result<T, ProviderError> {
        let url = Url::parse(address).map_err(|error| away(error.to_string()))?;
        let path = url.path().to_owned();
        let answer = self.outbound.send(Ask::get(url).limit(DOCUMENT)).await;
        let answer = answer.map_err(|error| away(error.to_string()))?;
        if !answer.status.is_success() {
            return Err(away(format!("{path} answers {}", answer.status.as_u16())));
        }
        answer
            .json()
            .map_err(|error| away(format!("{path} is not what it should be: {error}")))
    }

    async fn exchange(
        &self,
        metadata: &ProviderMetadataWithLogout,
        code: String,
        verifier: PkceCodeVerifier,
    ) -> Result<CoreTokenResponse, ProviderError> {
        let client = client(&self.settings, metadata);
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| away("it has no token endpoint".to_owned()))?
            .set_pkce_verifier(verifier);
        let answer = request.request_async(self).await;
        answer.map_err(|error| match error {
            RequestTokenError::ServerResponse(refusal) => {
                ProviderError::Refused(format!("the code is not accepted: {}", refusal.error()))
            }
            RequestTokenError::Request(error) => away(error.to_string()),
            RequestTokenError::Parse(error, _) => {
                ProviderError::Refused(format!("the answer to the code is malformed: {error}"))
            }
            RequestTokenError::Other(error) => {
                ProviderError::Refused(format!("the answer to the code: {error}"))
            }
        })
    }

    fn check(
        &self,
        metadata: &ProviderMetadataWithLogout,
        token: &CoreIdToken,
        tokens: &CoreTokenResponse,
        nonce: &Nonce,
    ) -> Result<(), Check> {
        let now = Utc::now();
        let skew = TimeDelta::seconds(SKEW);
        let client_id = ClientId::new(self.settings.client_id.clone());
        let verifier = CoreIdTokenVerifier::new_public_client(
            client_id.clone(),
            metadata.issuer().clone(),
            metadata.jwks().clone(),
        )
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || now - skew)
        .set_issue_time_verifier_fn(move |at| match at <= now + skew {
            true => Ok(()),
            false => Err("it is from the future".to_owned()),
        });
        let claims = token
            .claims(&verifier, nonce)
            .map_err(|error| match error {
                ClaimsVerificationError::SignatureVerification(
                    SignatureVerificationError::NoMatchingKey,
                ) => Check::UnknownKey,
                error => Check::Bad(chain(&error)),
            })?;
        // The library leaves this one to its users.
        if claims
            .authorized_party()
            .is_some_and(|party| *party != client_id)
        {
            return Err(Check::Bad("it was made for another application".to_owned()));
        }
        if let Some(expected) = claims.access_token_hash() {
            let key = token
                .signing_key(&verifier)
                .map_err(|e| Check::Bad(chain(&e)))?;
            let alg = token.signing_alg().map_err(|e| Check::Bad(chain(&e)))?;
            let actual = AccessTokenHash::from_token(tokens.access_token(), alg, key)
                .map_err(|e| Check::Bad(chain(&e)))?;
            if actual != *expected {
                return Err(Check::Bad("the access token is another one's".to_owned()));
            }
        }
        Ok(())
    }

    /// Whether the ID token leaves out what we need to know of a person.
    fn lacks(&self, claims: &Value) -> bool {
        claims.get("email").is_none() || !self.settings.roles.is_answered_by(claims)
    }

    async fn add_user_info(
        &self,
        metadata: &ProviderMetadataWithLogout,
        tokens: &CoreTokenResponse,
        claims: &mut Value,
    ) -> Result<(), ProviderError> {
        let Some(endpoint) = metadata.userinfo_endpoint() else {
            return Ok(());
        };
        let bearer = format!("Bearer {}", tokens.access_token().secret());
        let bearer = http::HeaderValue::try_from(bearer)
            .map_err(|_| ProviderError::Refused("the access token is malformed".to_owned()))?;
        let ask = Ask::get(endpoint.url().clone())
            .limit(DOCUMENT)
            .secret(http::header::AUTHORIZATION, bearer);
        let answer = self.outbound.send(ask).await;
        let answer = answer.map_err(|error| away(error.to_string()))?;
        if !answer.status.is_success() {
            return Err(away(format!(
                "the user information answers {}",
                answer.status.as_u16()
            )));
        }
        let info: Value = answer
            .json()
            .map_err(|_| away("the user information is not JSON".to_owned()))?;
        // Another person's would make this one somebody else.
        if info.get("sub") != claims.get("sub") {
            return Err(ProviderError::Refused(
                "the user information is another person's".to_owned(),
            ));
        }
        if let (Value::Object(claims), Value::Object(info)) = (claims, info) {
            for (name, value) in info {
                claims.entry(name).or_insert(value);
            }
        }
        Ok(())
    }
}

/// The library's way to the provider.
impl<'c> AsyncHttpClient<'c> for Provider {
    type Error = OutboundError;
    type Future = BoxFuture<'c, Result<HttpResponse, OutboundError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let url = Url::parse(&head.uri.to_string())
                .map_err(|error| OutboundError::Misconfigured(error.to_string()))?;
            let mut ask = Ask::new(head.method, url).limit(DOCUMENT);
            if !body.is_empty() {
                ask = ask.body("application/x-www-form-urlencoded", body);
            }
            for (name, value) in &head.headers {
                ask = ask.secret(name.clone(), value.clone());
            }
            let answer = self.outbound.send(ask).await?;
            let mut response = HttpResponse::new(answer.body.to_vec());
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

enum Check {
    UnknownKey,
    Bad(String),
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownKey => f.write_str("the ID token is signed with an unknown key"),
            Self::Bad(why) => write!(f, "the ID token is not valid: {why}"),
        }
    }
}

type Client = CoreClient<
    openidconnect::EndpointSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointMaybeSet,
    openidconnect::EndpointMaybeSet,
>;

fn client(settings: &OidcSettings, metadata: &ProviderMetadataWithLogout) -> Client {
    let secret = settings
        .client_secret
        .as_ref()
        .map(|secret| ClientSecret::new(secret.expose_secret().to_owned()));
    let methods = metadata.token_endpoint_auth_methods_supported();
    // Basic is what everybody must understand; some say that they do not.
    let in_body = methods.is_some_and(|methods| {
        methods.contains(&CoreClientAuthMethod::ClientSecretPost)
            && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
    });
    let client_id = ClientId::new(settings.client_id.clone());
    CoreClient::from_provider_metadata(metadata.clone(), client_id, secret)
        .set_redirect_uri(RedirectUrl::from_url(settings.callback.clone()))
        .set_auth_type(match in_body {
            true => AuthType::RequestBody,
            false => AuthType::BasicAuth,
        })
}

fn end_session(metadata: &ProviderMetadataWithLogout, client_id: &str) -> Option<Url> {
    let endpoint = metadata
        .additional_metadata()
        .end_session_endpoint
        .as_ref()?;
    let mut url = endpoint.url().clone();
    url.query_pairs_mut().append_pair("client_id", client_id);
    Some(url)
}

/// All claims of a token that was checked.
fn claims(token: &CoreIdToken) -> Result<Value, ProviderError> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let text = token.to_string();
    let payload = text.split('.').nth(1).unwrap_or_default();
    URL_SAFE_NO_PAD
        .decode(payload)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| ProviderError::Refused("the ID token is malformed".to_owned()))
}

fn away(why: String) -> ProviderError {
    ProviderError::Away(why)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
