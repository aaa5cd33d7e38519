//! The authorisation matrix: every operation of the OpenAPI document, asked by everyone
//! (reliability.md S-10, S-13, S-14). What should come out follows from the permission that the
//! operation names there, so a new operation is tested without a line here.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use plimsoll_app::{AppSettings, WebhookTokens, access::AnonymousAccess};
use plimsoll_domain::access::{Role, Scope};
use plimsoll_support::{postgres::Database, redis::Redis};
use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::{Answer, Replica, answer, api_settings, users};

/// Who may call an operation, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    SignedIn,
    Permission(Scope),
    /// A credential of a kind of its own, by the name of that kind.
    Own(String),
}

impl Needs {
    fn parse(name: &str) -> Self {
        match (name, Scope::parse(name)) {
            (_, Some(scope)) => Self::Permission(scope),
            ("public", _) => Self::Nothing,
            ("signed-in", _) => Self::SignedIn,
            (own, _) => Self::Own(own.to_owned()),
        }
    }
}

/// The columns.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Caller {
    Nobody,
    BadToken,
    BadSession,
    UnreadableCredential,
    /// The token of the webhooks.
    Webhook,
    Session(Role),
    /// A token with one scope, of somebody with this role now.
    Token(Role, Scope),
    /// A token with every scope there is.
    Everything(Role),
}

const WEBHOOK_TOKEN: &str = "the token of the webhooks";

impl Caller {
    fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Nobody,
            Self::BadToken,
            Self::BadSession,
            Self::UnreadableCredential,
            Self::Webhook,
        ];
        for role in Role::ALL {
            all.push(Self::Session(*role));
            all.push(Self::Everything(*role));
            all.extend(Scope::ALL.iter().map(|scope| Self::Token(*role, *scope)));
        }
        all
    }

    /// The status that means "no", or `None` for "yes".
    fn refusal(&self, needs: &Needs) -> Option<u16> {
        let known = match self {
            Self::Session(role) | Self::Token(role, _) | Self::Everything(role) => Some(*role),
            _ => None,
        };
        match (needs, known) {
            (Needs::Nothing, _) => None,
            (Needs::Own(kind), _) if kind == "webhook" && *self == Self::Webhook => None,
            (Needs::Own(_), _) | (_, None) => Some(401),
            (Needs::SignedIn, Some(_)) => None,
            (Needs::Permission(scope), Some(role)) => {
                let held = match self {
                    Self::Token(_, held) => held == scope,
                    _ => true,
                };
                (!(held && role.allows(*scope))).then_some(403)
            }
        }
    }
}

struct Operation {
    id: String,
    method: Method,
    /// With its parameters filled in.
    path: String,
    needs: Needs,
}

/// Of all dialects, at the main listener.
fn operations() -> Vec<Operation> {
    let mut operations = operations_of("", &plimsoll_api::drydock::document());
    let docksmith = plimsoll_api::docksmith::document();
    operations.extend(operations_of("/docksmith", &docksmith));
    operations
}

fn operations_of(prefix: &str, document: &str) -> Vec<Operation> {
    let document: Value = serde_json::from_str(document).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let permission = operation["x-permission"].as_str();
            let permission = permission.unwrap_or_else(|| panic!("{id} names no permission"));
            let filled: Vec<&str> = path
                .split('/')
                .map(|part| match part.starts_with('{') {
                    true => "unknown",
                    false => part,
                })
                .collect();
            operations.push(Operation {
                method: Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                path: format!("{prefix}{}", filled.join("/")),
                needs: Needs::parse(permission),
                id,
            });
        }
    }
    operations
}

struct World {
    replica: Replica,
    sessions: BTreeMap<Role, String>,
    /// That may end in the middle.
    leaving: BTreeMap<Role, String>,
    /// By role, and by scope or all.
    tokens: BTreeMap<(Role, Option<Scope>), String>,
}

impl World {
    async fn new(database: &Database, redis: &Redis) -> Self {
        let mut settings = users();
        settings.webhooks = WebhookTokens::One(WEBHOOK_TOKEN.to_owned().into());
        let replica =
            Replica::start_with(database.url(), &redis.url(), settings, api_settings()).await;
        let every: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        let (mut sessions, mut leaving) = (BTreeMap::new(), BTreeMap::new());
        let mut tokens = BTreeMap::new();
        for role in Role::ALL {
            sessions.insert(*role, replica.session(role.as_str()).await);
            leaving.insert(*role, replica.session(role.as_str()).await);
            let token = replica.token(database, *role, &every).await;
            tokens.insert((*role, None), token);
            for scope in Scope::ALL {
                let token = replica.token(database, *role, &[scope.as_str()]).await;
                tokens.insert((*role, Some(*scope)), token);
            }
        }
        Self {
            replica,
            sessions,
            leaving,
            tokens,
        }
    }

    async fn ask(&self, operation: &Operation, caller: &Caller) -> Option<u16> {
        let request = self
            .replica
            .request(operation.method.clone(), &operation.path);
        let request = match caller {
            Caller::Nobody => request,
            Caller::BadToken => request.bearer_auth("plim_no-such-token"),
            Caller::BadSession => request
                .header("cookie", "drydock.sid=no-such-session")
                .header("origin", self.replica.origin()),
            Caller::UnreadableCredential => request.header("authorization", "Negotiate abc"),
            Caller::Webhook => request.bearer_auth(WEBHOOK_TOKEN),
            Caller::Session(role) => {
                let cookie = match operation.id.as_str() {
                    "logout" => &self.leaving[role],
                    _ => &self.sessions[role],
                };
                request
                    .header("cookie", cookie)
                    .header("origin", self.replica.origin())
            }
            Caller::Token(role, scope) => request.bearer_auth(&self.tokens[&(*role, Some(*scope))]),
            Caller::Everything(role) => request.bearer_auth(&self.tokens[&(*role, None)]),
        };
        refused(request, &operation.method).await
    }
}

/// 401, or 403 for the lack of a permission, or `None` for any other answer. Waits are answers:
/// who may not is told at once.
async fn refused(request: reqwest::RequestBuilder, method: &Method) -> Option<u16> {
    let request = request
        .header("prefer", "respond-async")
        .timeout(Duration::from_secs(5));
    let request = match *method {
        Method::GET | Method::DELETE => request,
        _ => request.json(&json!({})),
    };
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() => return None,
        Err(error) => panic!("{error}"),
    };
    match response.status().as_u16() {
        401 => Some(401),
        // A feature that is switched off is another matter.
        403 => {
            let answer = Answer::of(response).await;
            answer
                .refusal()
                .starts_with("This needs the permission ")
                .then_some(403)
        }
        _ => None,
    }
}

#[tokio::test]
async fn everyone_may_exactly_what_the_document_says() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let world = World::new(&database, &redis).await;
    let operations = operations();
    assert!(operations.len() > 50);
    let callers = Caller::all();
    let cells = operations
        .iter()
        .flat_map(|operation| callers.iter().map(move |caller| (operation, caller)));
    let wrong: Vec<String> = futures::stream::iter(cells)
        .map(|(operation, caller)| {
            let world = &world;
            async move {
                let refused = world.ask(operation, caller).await;
                let expected = caller.refusal(&operation.needs);
                (refused != expected).then(|| {
                    let (id, needs) = (&operation.id, &operation.needs);
                    format!("{id} ({needs:?}) by {caller:?}: {refused:?}, not {expected:?}")
                })
            }
        })
        .buffer_unordered(8)
        .filter_map(|wrong| async { wrong })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn without_authentication_everybody_is_let_in_but_no_credential_is_good() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let mut settings = AppSettings::default();
    settings.access.anonymous = AnonymousAccess::Confirmed;
    settings.webhooks = WebhookTokens::One(WEBHOOK_TOKEN.to_owned().into());
    let replica = Replica::start_with(database.url(), &redis.url(), settings, api_settings()).await;
    for operation in operations() {
        let own = matches!(operation.needs, Needs::Own(_));
        let ask = || replica.request(operation.method.clone(), &operation.path);
        let anonymous = refused(ask(), &operation.method).await;
        assert_eq!(anonymous, own.then_some(401), "{}", operation.id);
        let public = operation.needs == Needs::Nothing;
        let bad = refused(ask().bearer_auth("plim_no-such-token"), &operation.method).await;
        assert_eq!(bad, (!public).then_some(401), "{}", operation.id);
    }
}

#[tokio::test]
async fn a_webhook_token_is_of_a_kind_of_its_own() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let world = World::new(&database, &redis).await;
    let path = "/api/v1/webhook/update/unknown";
    let ask = |token: &str| answer(world.replica.request(Method::POST, path).bearer_auth(token));
    assert_eq!(ask(WEBHOOK_TOKEN).await.status, 404);
    assert_eq!(ask(&world.tokens[&(Role::Owner, None)]).await.status, 401);
}
