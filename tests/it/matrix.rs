//! The authorisation matrix: every operation of the OpenAPI document, asked by everyone
//! (reliability.md S-10, S-13). A new operation needs a row here.

use std::{collections::BTreeMap, time::Duration};

use plimsoll_app::WebhookTokens;
use plimsoll_domain::access::{Role, Scope};
use plimsoll_support::{postgres::Database, redis::Redis};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::replica::{PASSWORD, Replica, api_settings, users};

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Anyone, also without a credential.
    Everyone,
    /// Any user, any token.
    SignedIn,
    /// This role and those above it; tokens with this scope whose owner is one of them.
    From(Role, &'static str),
    /// The webhook token and nothing else.
    Webhook,
}
use Role::{Admin, Operator, Viewer};
use Who::{Everyone, From, SignedIn, Webhook};

const MATRIX: &[(&str, Who)] = &[
    (
        "acknowledgeUpdateOperation",
        From(Operator, "containers:update"),
    ),
    ("changeSettings", From(Admin, "settings:write")),
    ("createToken", From(Operator, "tokens:write")),
    ("deleteContainer", From(Admin, "containers:delete")),
    ("followEvents", From(Viewer, "containers:read")),
    ("getAgentRegistry", From(Viewer, "system:read")),
    ("getAgentTrigger", From(Viewer, "system:read")),
    ("getAgentWatcher", From(Viewer, "system:read")),
    ("getApp", SignedIn),
    ("getContainer", From(Viewer, "containers:read")),
    ("getContainerReleaseNotes", From(Viewer, "containers:read")),
    ("getContainerSummary", From(Viewer, "containers:read")),
    ("getCurrentUser", SignedIn),
    ("getHealth", Everyone),
    ("getMetrics", SignedIn),
    ("getOpenApiDocument", Everyone),
    ("getRecentContainerStatus", From(Viewer, "containers:read")),
    ("getRegistry", From(Viewer, "system:read")),
    ("getServer", From(Viewer, "system:read")),
    ("getSettings", From(Viewer, "system:read")),
    ("getStore", From(Viewer, "system:read")),
    ("getTrigger", From(Viewer, "system:read")),
    ("getUpdateOperation", From(Viewer, "containers:read")),
    ("getWatcher", From(Viewer, "system:read")),
    ("listAgents", From(Viewer, "system:read")),
    ("listAuditEntries", From(Operator, "audit:read")),
    ("listAuthMethods", Everyone),
    ("listAuthStrategies", Everyone),
    ("listBackups", From(Viewer, "containers:read")),
    ("listContainerBackups", From(Viewer, "containers:read")),
    ("listContainerGroups", From(Viewer, "containers:read")),
    ("listContainerTriggers", From(Viewer, "containers:read")),
    ("listContainers", From(Viewer, "containers:read")),
    ("listRegistries", From(Viewer, "system:read")),
    ("listTokens", From(Operator, "tokens:write")),
    ("listTriggers", From(Viewer, "system:read")),
    ("listUpdateOperations", From(Viewer, "containers:read")),
    ("listWatchers", From(Viewer, "system:read")),
    ("login", Everyone),
    ("logout", SignedIn),
    (
        "previewContainerUpdate",
        From(Operator, "containers:update"),
    ),
    ("putSettings", From(Admin, "settings:write")),
    ("rememberSession", SignedIn),
    ("restartContainer", From(Operator, "containers:actions")),
    ("revokeToken", From(Operator, "tokens:write")),
    ("rollbackContainer", From(Operator, "containers:rollback")),
    ("runAgentContainerTrigger", From(Operator, "triggers:run")),
    ("runContainerTrigger", From(Operator, "triggers:run")),
    ("startContainer", From(Operator, "containers:actions")),
    ("stopContainer", From(Operator, "containers:actions")),
    ("updateContainer", From(Operator, "containers:update")),
    ("updateContainerPolicy", From(Operator, "policy:write")),
    ("updateContainers", From(Operator, "containers:update")),
    ("watchContainer", From(Operator, "containers:watch")),
    ("watchContainers", From(Operator, "containers:watch")),
    ("webhookUpdateContainer", Webhook),
    ("webhookWatchAll", Webhook),
    ("webhookWatchContainer", Webhook),
];

/// The columns.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Caller {
    Nobody,
    BadToken,
    User(Role),
    /// An owner's token with this scope only.
    OwnersToken(Scope),
    /// A viewer's token with every scope there is.
    ViewersToken,
    WebhookToken,
}

const WEBHOOK_TOKEN: &str = "the token of the webhooks";

impl Who {
    /// The statuses that mean "no", or `None` for "yes".
    fn refusal(self, caller: &Caller) -> Option<u16> {
        let stranger = matches!(
            caller,
            Caller::Nobody | Caller::BadToken | Caller::WebhookToken
        );
        let may = match (self, caller) {
            (Everyone, _) => return None,
            (Webhook, Caller::WebhookToken) => return None,
            (Webhook, _) => return Some(401),
            _ if stranger => return Some(401),
            (SignedIn, _) => true,
            (From(least, _), Caller::User(role)) => *role >= least,
            (From(_, needed), Caller::OwnersToken(scope)) => scope.as_str() == needed,
            (From(least, _), _) => least == Viewer,
        };
        (!may).then_some(403)
    }
}

/// Method and path of every operation, with its parameters filled in.
fn operations() -> BTreeMap<String, (Method, String)> {
    let document: Value = serde_json::from_str(&plimsoll_api::drydock::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut operations = BTreeMap::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path: Vec<&str> = path
                .split('/')
                .map(|part| {
                    if part.starts_with('{') {
                        "unknown"
                    } else {
                        part
                    }
                })
                .collect();
            operations.insert(id, (method, path.join("/")));
        }
    }
    operations
}

#[test]
fn every_operation_has_a_row_and_every_row_an_operation() {
    let documented: Vec<String> = operations().into_keys().collect();
    let rows: Vec<String> = MATRIX.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(documented, rows, "the rows are sorted by operation id");
}

struct Callers {
    tokens: BTreeMap<Scope, String>,
    viewers_token: String,
}

impl Callers {
    async fn new(replica: &Replica, database: &Database) -> Self {
        let mut tokens = BTreeMap::new();
        let mut all = Vec::new();
        for scope in Scope::ALL {
            let token = replica
                .token(database, Role::Owner, &[scope.as_str()])
                .await;
            tokens.insert(*scope, token);
            all.push(scope.as_str());
        }
        Self {
            tokens,
            viewers_token: replica.token(database, Viewer, &all).await,
        }
    }

    fn authorise(&self, request: RequestBuilder, caller: &Caller) -> RequestBuilder {
        match caller {
            Caller::Nobody => request,
            Caller::BadToken => request.bearer_auth("plim_no-such-token"),
            Caller::User(role) => request.basic_auth(role.as_str(), Some(PASSWORD)),
            Caller::OwnersToken(scope) => request.bearer_auth(&self.tokens[scope]),
            Caller::ViewersToken => request.bearer_auth(&self.viewers_token),
            Caller::WebhookToken => request.bearer_auth(WEBHOOK_TOKEN),
        }
    }
}

#[tokio::test]
async fn everyone_may_exactly_what_the_matrix_says() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let mut settings = users();
    settings.webhooks = WebhookTokens::One(WEBHOOK_TOKEN.to_owned().into());
    let replica = Replica::start_with(database.url(), &redis.url(), settings, api_settings()).await;
    let callers = Callers::new(&replica, &database).await;
    // One password check at a time: more would be refused for their number.
    for role in Role::ALL {
        let request = replica.request(Method::GET, "/api/v1/app");
        let request = callers.authorise(request, &Caller::User(*role));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let mut columns = vec![
        Caller::Nobody,
        Caller::BadToken,
        Caller::ViewersToken,
        Caller::WebhookToken,
    ];
    columns.extend(Role::ALL.iter().map(|role| Caller::User(*role)));
    columns.extend(Scope::ALL.iter().map(|scope| Caller::OwnersToken(*scope)));

    let operations = operations();
    let mut wrong = Vec::new();
    for (id, who) in MATRIX {
        let (method, path) = &operations[*id];
        for caller in &columns {
            let refused = ask(&replica, &callers, method, path, caller).await;
            let expected = who.refusal(caller);
            if refused != expected {
                wrong.push(format!("{id} by {caller:?}: {refused:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// 401 or 403, or `None` for any other answer. Streams and waits are answers.
async fn ask(
    replica: &Replica,
    callers: &Callers,
    method: &Method,
    path: &str,
    caller: &Caller,
) -> Option<u16> {
    let request = replica
        .request(method.clone(), path)
        .header("prefer", "respond-async")
        .timeout(Duration::from_secs(2));
    let request = match *method {
        Method::GET | Method::DELETE => request,
        _ => request.json(&json!({})),
    };
    match callers.authorise(request, caller).send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            [401, 403].contains(&status).then_some(status)
        }
        // Who may not is told at once.
        Err(error) if error.is_timeout() => None,
        Err(error) => panic!("{method} {path}: {error}"),
    }
}
