use std::sync::Arc;

use plimsoll_app::{inventory::Entry, watches::WatchAnswer};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path},
    payload::Json,
    registry::{MetaSchema, MetaSchemaRef},
};
use serde_json::Value;

use super::{
    Tag,
    body::LenientJson,
    containers::whole_list,
    described::{Body, Description, closed},
    error::{ApiError, Changes, ErrorOf},
    model::Container,
    operations::plain_caller,
    page::List,
    prefer::Preference,
    raw::RawPayload,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/watch` and `POST /api/v1/containers/{id}/watch`.
pub struct Watches;

#[derive(Object)]
pub struct WatchAccepted {
    message: String,
}

#[derive(ApiResponse)]
pub enum WatchedList {
    /// Watched: the containers as they are now
    #[oai(status = 200)]
    Done(
        RawPayload<List<Container>>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
    /// Durable and running
    #[oai(status = 202)]
    Accepted(
        Json<WatchAccepted>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
}

#[derive(ApiResponse)]
pub enum WatchedOne {
    /// Watched: the container as it is now
    #[oai(status = 200)]
    Done(
        RawPayload<Container>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
    /// Durable and running
    #[oai(status = 202)]
    Accepted(
        Json<WatchAccepted>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
}

#[OpenApi(prefix_path = "/api/v1")]
impl Watches {
    /// Watch all containers, or some
    ///
    /// Asks the engines and the registries anew, and answers with the containers once that is
    /// done; 202 after 60 seconds, or as `Prefer` says.
    #[oai(
        path = "/containers/watch",
        method = "post",
        operation_id = "watchContainers",
        tag = "Tag::Containers"
    )]
    async fn watch_all(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        body: LenientJson<Body<SomeContainers>>,
    ) -> Result<WatchedList, ErrorOf<Changes>> {
        let preference = Preference::parse(prefer.as_deref());
        let ids = container_ids(body.0.map(|body| body.0))?;
        let caller = plain_caller(who.principal(), &context);
        let answer = state
            .app
            .watch(ids.as_deref(), preference.patience, &caller)
            .await?;
        if let Some(accepted) = unfinished(answer, "watching images")? {
            return Ok(WatchedList::Accepted(accepted, preference.applied()));
        }
        let snapshot = state.app.snapshot().await?;
        let inventory = &snapshot.inventory;
        let some: Vec<Arc<Entry>>;
        let entries = match &ids {
            None => inventory.entries(),
            Some(ids) => {
                some = ids
                    .iter()
                    .filter_map(|id| inventory.get(id))
                    .cloned()
                    .collect();
                &some
            }
        };
        Ok(WatchedList::Done(
            RawPayload::new(whole_list(entries)),
            preference.applied(),
        ))
    }

    /// Watch a container
    #[oai(
        path = "/containers/:id/watch",
        method = "post",
        operation_id = "watchContainer",
        tag = "Tag::Containers"
    )]
    async fn watch_one(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<WatchedOne, ErrorOf<Changes>> {
        let preference = Preference::parse(prefer.as_deref());
        let caller = plain_caller(who.principal(), &context);
        let name = state.app.get_container(&id).await?.state.facts.name.clone();
        let ids = [id.0];
        let answer = state
            .app
            .watch(Some(&ids), preference.patience, &caller)
            .await?;
        if let Some(accepted) = unfinished(answer, &format!("watching container {name}"))? {
            return Ok(WatchedOne::Accepted(accepted, preference.applied()));
        }
        // Gone from the engine meanwhile: the watch has noticed.
        let entry = state.app.get_container(&ids[0]).await?;
        Ok(WatchedOne::Done(
            RawPayload::new(entry.json.clone()),
            preference.applied(),
        ))
    }
}

/// `None` when the watch is done; a failure in Drydock's words.
fn unfinished(answer: WatchAnswer, what: &str) -> Result<Option<Json<WatchAccepted>>, ApiError> {
    match answer {
        WatchAnswer::Done { .. } => Ok(None),
        WatchAnswer::Running { .. } => Ok(Some(Json(WatchAccepted {
            message: "Watch accepted".to_owned(),
        }))),
        WatchAnswer::Failed { message } => Err(ApiError::new(
            poem::http::StatusCode::INTERNAL_SERVER_ERROR,
            format!("Error when {what} ({message})"),
        )),
    }
}

/// More containers than this are a watch of all.
const MOST_IDS: usize = 200;

/// Reads the optional body `{"containerIds": [...]}`. The texts are Drydock's
/// (reference/drydock.md 1.9).
/// `{containerIds?}`.
enum SomeContainers {}

impl Description for SomeContainers {
    const NAME: Option<&'static str> = Some("WatchContainersRequest");

    fn schema() -> MetaSchema {
        closed(vec![("containerIds", ids_schema())])
    }
}

/// 1 to 200 container ids.
pub(super) fn ids_schema() -> MetaSchema {
    let mut id = MetaSchema::new("string");
    id.min_length = Some(1);
    let mut ids = MetaSchema::new("array");
    ids.items = Some(Box::new(MetaSchemaRef::Inline(Box::new(id))));
    ids.min_items = Some(1);
    ids.max_items = Some(MOST_IDS);
    ids
}

pub(super) fn container_ids(body: Option<Value>) -> Result<Option<Vec<String>>, ApiError> {
    let Some(body) = body else {
        return Ok(None);
    };
    let bad = |text: &'static str| Err(ApiError::bad_request(text));
    let Value::Object(fields) = body else {
        return bad("Request body must be an object");
    };
    let unknown: Vec<&str> = fields
        .keys()
        .map(String::as_str)
        .filter(|key| *key != "containerIds")
        .collect();
    if !unknown.is_empty() {
        let text = format!("Unknown request properties: {}", unknown.join(", "));
        return Err(ApiError::bad_request(text));
    }
    let Some(ids) = fields.get("containerIds") else {
        return Ok(None);
    };
    let ids: Option<Vec<String>> = ids.as_array().and_then(|ids| {
        ids.iter()
            .map(|id| id.as_str().filter(|id| !id.is_empty()).map(str::to_owned))
            .collect()
    });
    match ids {
        None => bad("containerIds must be an array of non-empty strings"),
        Some(ids) if ids.is_empty() => bad("containerIds must not be empty"),
        Some(ids) if ids.len() > MOST_IDS => bad("containerIds must contain at most 200 entries"),
        Some(ids) => Ok(Some(ids)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_body_is_optional_and_strict() {
        let error = |body: Value| container_ids(Some(body)).unwrap_err().message.into_owned();
        assert_eq!(container_ids(None).unwrap(), None);
        assert_eq!(container_ids(Some(json!({}))).unwrap(), None);
        assert_eq!(
            container_ids(Some(json!({"containerIds": ["a"]}))).unwrap(),
            Some(vec!["a".to_owned()])
        );
        assert_eq!(error(json!([])), "Request body must be an object");
        assert_eq!(
            error(json!({"b": 1, "a": 2})),
            "Unknown request properties: a, b"
        );
        let not_strings = "containerIds must be an array of non-empty strings";
        assert_eq!(error(json!({"containerIds": "a"})), not_strings);
        assert_eq!(error(json!({"containerIds": [""]})), not_strings);
        assert_eq!(
            error(json!({"containerIds": []})),
            "containerIds must not be empty"
        );
        let many: Vec<String> = (0..201).map(|n| n.to_string()).collect();
        assert_eq!(
            error(json!({"containerIds": many})),
            "containerIds must contain at most 200 entries"
        );
    }
}
