use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use plimsoll_app::{
    AppError,
    inventory::Entry,
    registry_webhooks::{Delivered, Delivery},
    webhook_signature::{Signatures, Standard},
};
use plimsoll_domain::access::{Principal, Scope};
use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi,
    payload::Json,
    registry::{
        MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, MetaSecurityScheme, Registry,
    },
    types::{Example, Type},
};
use serde_json::json;

use super::{
    Tag,
    described::{Body, Description},
    error::{ApiError, ErrorOf},
    operations::plain_caller,
    webhooks::{Called, WatchAll},
};
use crate::{ApiState, auth, choices, error_set, middleware::context::RequestContext};

/// `/api/v1/webhooks/registry`: pushes that registries and build systems tell of.
pub struct RegistryWebhooks;

error_set!(pub Delivering = 400, 413, 415, 422);

/// Containers that the answer names.
const NAMED: usize = 100;
const SCHEME: &str = "webhookSignature";

#[derive(Object)]
#[oai(example)]
pub struct RegistryWebhookAnswer {
    message: String,
    result: RegistryWebhookResult,
}

impl Example for RegistryWebhookAnswer {
    fn example() -> Self {
        let image = "registry.example.org/shop/web:1.2.0";
        Self {
            message: "Watch triggered for 1 container".to_owned(),
            result: RegistryWebhookResult {
                provider: "generic".to_owned().into(),
                images: vec![image.to_owned()],
                matched: vec![MatchedContainer {
                    container_id: "5f0c8b1e9a3d".to_owned(),
                    name: "web".to_owned(),
                    watcher: "local".to_owned(),
                    agent: String::new(),
                    image: "registry.example.org/shop/web:1.1.0".to_owned(),
                }],
                total: 1,
                checks: 1,
                duplicate: false,
            },
        }
    }
}

choices!(pub Provider as "RegistryWebhookProvider" =
    "dockerhub", "ghcr", "harbor", "quay", "distribution", "generic");

#[derive(Object)]
pub struct RegistryWebhookResult {
    /// Whose form the body has
    provider: super::described::Text<Provider>,
    /// What was pushed
    images: Vec<String>,
    /// The containers that look for versions there, by name; at most 100
    matched: Vec<MatchedContainer>,
    /// All of them
    total: usize,
    /// Checks that begin after this delivery: one for each engine and repository, however many
    /// deliveries there are
    checks: usize,
    /// The same delivery came before, so nothing was done
    duplicate: bool,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct MatchedContainer {
    container_id: String,
    name: String,
    watcher: String,
    /// Empty: none
    agent: String,
    /// As it runs
    image: String,
}

#[derive(ApiResponse)]
pub enum Answer {
    /// Nothing to do: no container matches, nothing was pushed, or the delivery came before
    #[oai(status = 200)]
    Nothing(Json<RegistryWebhookAnswer>),
    /// What matches is checked
    #[oai(status = 202)]
    Accepted(Json<RegistryWebhookAnswer>),
}

/// What may be sent.
pub enum Event {}

impl Description for Event {
    const NAME: Option<&'static str> = Some("RegistryWebhookEvent");

    fn schema() -> MetaSchema {
        let field = |kind, description| {
            let mut schema = MetaSchema::new(kind);
            schema.description = Some(description);
            MetaSchemaRef::Inline(Box::new(schema))
        };
        let mut schema = MetaSchema::new("object");
        schema.description = Some(
            "An event of Docker Hub, GitHub, Harbor, Quay or distribution as it is, or what was \
             pushed in these fields",
        );
        let mut repository = MetaSchema::ANY;
        repository.description = Some("In place of `image`: host and repository");
        schema.properties = vec![
            ("image", field("string", "`host/repository:tag`")),
            ("repository", MetaSchemaRef::Inline(Box::new(repository))),
            ("tag", field("string", "Beside `repository`")),
            ("digest", field("string", "Beside `repository`")),
        ];
        schema.example = Some(json!({"image": "registry.example.org/shop/web:1.2.0"}));
        schema
    }
}

/// A delivery whose credential is good. The body is looked at only after that.
pub struct Proven {
    principal: Principal,
    github_event: Option<String>,
    id: Option<String>,
    body: Bytes,
}

impl<'a> ApiExtractor<'a> for Proven {
    const TYPES: &'static [ApiExtractorType] = &[
        ApiExtractorType::SecurityScheme,
        ApiExtractorType::RequestObject,
    ];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Called::<WatchAll>::register(registry);
        Body::<Event>::register(registry);
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "apiKey",
                description: Some(
                    "`sha256=` and the HMAC-SHA256 of the body in hexadecimal, with \
                     DD_SERVER_WEBHOOK_SECRET as its key; also in X-Plimsoll-Signature-256, or as \
                     Standard Webhooks (webhook-id, webhook-timestamp, webhook-signature)",
                ),
                name: Some("X-Hub-Signature-256"),
                key_in: Some("header"),
                scheme: None,
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        let mut schemes = Called::<WatchAll>::security_schemes();
        schemes.push(SCHEME);
        schemes
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: Body::<Event>::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let (state, context) = auth::parts(request)?;
        let body = body.take()?.into_bytes().await?;
        let header = |name: &str| request.header(name);
        let standard = header("webhook-signature").map(|signatures| Standard {
            id: header("webhook-id").unwrap_or_default(),
            timestamp: header("webhook-timestamp").unwrap_or_default(),
            signatures,
        });
        let signatures = Signatures {
            hub: header("x-hub-signature-256").or(header("x-plimsoll-signature-256")),
            standard,
        };
        let authorization = header("authorization");
        let proven = state
            .app
            .authenticate_delivery(&signatures, authorization, &body, Utc::now());
        if let Err(error) = proven {
            return Err(refusal(state, context, error).await.into());
        }
        let id = ["x-github-delivery", "webhook-id"]
            .into_iter()
            .find_map(header);
        let scopes = [Scope::ContainersWatch];
        Ok(Self {
            principal: Principal::webhook(scopes.into_iter().collect()),
            github_event: header("x-github-event").map(str::to_owned),
            id: id.map(str::to_owned),
            body,
        })
    }
}

/// Deliveries are not counted, because a registry tells of all its pushes from one address. Those
/// that prove nothing are.
async fn refusal(state: &ApiState, context: &RequestContext, error: AppError) -> ApiError {
    let unproven = matches!(error, AppError::Unauthenticated(_));
    let limiter = &state.limiter;
    let address = context.client.to_string();
    let verdict = match unproven {
        true => limiter.take(limiter.unproven, &address).await,
        false => None,
    };
    match verdict.filter(|verdict| !verdict.allowed) {
        Some(refused) => refused.refusal(),
        None => error.into(),
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl RegistryWebhooks {
    /// Tell of a push to a registry
    ///
    /// Finds the containers whose versions are looked up in the repository that the event names, and
    /// checks them at once; triggers with `auto` then update them. Understands the events of Docker
    /// Hub, GitHub (`package`, `registry_package`), Harbor (its own and CloudEvents), Quay and
    /// distribution, and `{"image": "host/repository:tag"}` or `{"repository", "tag", "digest"}` of
    /// anybody. At most 256 KiB. The answer does not wait for the checks.
    #[oai(
        path = "/webhooks/registry",
        method = "post",
        operation_id = "webhookRegistry",
        tag = "Tag::Webhooks"
    )]
    async fn registry(
        &self,
        delivery: Proven,
        state: ApiState,
        context: RequestContext,
    ) -> Result<Answer, ErrorOf<Delivering>> {
        let caller = plain_caller(&delivery.principal, &context);
        let delivery = Delivery {
            github_event: delivery.github_event.as_deref(),
            id: delivery.id.as_deref(),
            body: &delivery.body,
        };
        let delivered = state.app.registry_webhook(&delivery, &caller).await?;
        let answer = Json(RegistryWebhookAnswer::from(&delivered));
        Ok(match delivered.checks {
            0 => Answer::Nothing(answer),
            _ => Answer::Accepted(answer),
        })
    }
}

impl From<&Delivered> for RegistryWebhookAnswer {
    fn from(delivered: &Delivered) -> Self {
        let total = delivered.matched.len();
        let message = match (delivered.images.len(), total, delivered.duplicate) {
            (_, _, true) => "The delivery came before".to_owned(),
            (0, ..) => "Nothing was pushed".to_owned(),
            (_, 0, _) => "No container matches".to_owned(),
            (_, 1, _) => "Watch triggered for 1 container".to_owned(),
            (_, many, _) => format!("Watch triggered for {many} containers"),
        };
        let matched = delivered.matched.iter().take(NAMED);
        Self {
            message,
            result: RegistryWebhookResult {
                provider: delivered.source.as_str().to_owned().into(),
                images: delivered.images.clone(),
                matched: matched.map(MatchedContainer::from).collect(),
                total,
                checks: delivered.checks,
                duplicate: delivered.duplicate,
            },
        }
    }
}

impl From<&Arc<Entry>> for MatchedContainer {
    fn from(entry: &Arc<Entry>) -> Self {
        let facts = &entry.state.facts;
        let image = facts.image.repository();
        let tag = &facts.image.tag.value;
        Self {
            container_id: entry.id().to_owned(),
            name: facts.name.clone(),
            watcher: facts.watcher.name.clone(),
            agent: facts.watcher.agent.clone(),
            image: image.map_or_else(String::new, |i| format!("{}:{tag}", i.familiar_name())),
        }
    }
}
