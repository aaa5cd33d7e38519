use poem_openapi::{
    OpenApi,
    param::Path,
    payload::Json,
    registry::{MetaSchema, Registry},
    types::Type,
};
use serde_json::Value;

use super::{
    Tag,
    body::RequiredJson,
    described::{Body, Description, Text, open},
    error::{Changes, ErrorOf},
    model::Container,
    operations::plain_caller,
    raw::Shown,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices,
    middleware::context::RequestContext,
};

/// `PATCH /api/v1/containers/{id}/update-policy`.
pub struct UpdatePolicies;

choices!(
    PolicyAction as "UpdatePolicyAction" = "skip-current",
    "remove-skip",
    "clear-skips",
    "snooze",
    "unsnooze",
    "set-maturity-policy",
    "clear-maturity-policy",
    "clear"
);

/// One action, with what it needs. One object and not one for each action: that is what clients
/// can be generated from, and what the other fields are for is said at each.
enum PolicyChange {}

impl Description for PolicyChange {
    const NAME: Option<&'static str> = Some("UpdateContainerPolicyRequest");

    fn schema() -> MetaSchema {
        let described = |mut schema: MetaSchema, description| {
            schema.description = Some(description);
            schema
        };
        let one_of = |words: &[&str]| {
            let mut schema = MetaSchema::new("string");
            schema.enum_items = words.iter().map(|word| (*word).into()).collect();
            schema
        };
        let between = |kind, least, most| {
            let mut schema = MetaSchema::new(kind);
            (schema.minimum, schema.maximum) = (Some(least), Some(most));
            schema
        };
        let mut value = MetaSchema::new("string");
        value.min_length = Some(1);
        let mut schema = open(vec![
            (
                "kind",
                described(one_of(&["tag", "digest"]), "Of what `remove-skip` removes."),
            ),
            (
                "value",
                described(value, "The tag or digest that `remove-skip` removes."),
            ),
            (
                "days",
                described(
                    between("number", 0.0, 365.0),
                    "How long `snooze` lasts; or say `snoozeUntil`.",
                ),
            ),
            (
                "snoozeUntil",
                described(
                    MetaSchema::new_with_format("string", "date-time"),
                    "When `snooze` ends.",
                ),
            ),
            (
                "mode",
                described(one_of(&["all", "mature"]), "For `set-maturity-policy`."),
            ),
            (
                "minAgeDays",
                described(between("integer", 1.0, 365.0), "For `set-maturity-policy`."),
            ),
        ]);
        schema
            .properties
            .insert(0, ("action", Text::<PolicyAction>::schema_ref()));
        schema.required = vec!["action"];
        schema
    }

    fn register(registry: &mut Registry) {
        Text::<PolicyAction>::register(registry);
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl UpdatePolicies {
    /// Skip, snooze or hold back a container's updates
    ///
    /// `action` is one of `skip-current`, `remove-skip` (with `kind` and `value`), `clear-skips`,
    /// `snooze` (with `days` or `snoozeUntil`), `unsnooze`, `clear`, `set-maturity-policy` (with
    /// `mode` and `minAgeDays`) and `clear-maturity-policy`.
    #[oai(
        path = "/containers/:id/update-policy",
        method = "patch",
        operation_id = "updateContainerPolicy",
        tag = "Tag::Containers"
    )]
    async fn change(
        &self,
        who: Authorized<perm::PolicyWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        body: RequiredJson<Body<PolicyChange>>,
    ) -> Result<Json<Shown<Container>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        let body = body.0.map_or(Value::Null, |body| body.0);
        let entry = state.app.change_update_policy(&id, &body, &caller).await?;
        Ok(Json(Shown::new(entry.to_value())))
    }
}
