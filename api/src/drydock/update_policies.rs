use poem_openapi::{
    OpenApi,
    param::Path,
    payload::Json,
    registry::{MetaSchema, MetaSchemaRef},
    types::Any,
};
use serde_json::Value;

use super::{
    Tag,
    body::RequiredJson,
    described::{Body, Description, open},
    error::{Changes, ErrorOf},
    operations::plain_caller,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `PATCH /api/v1/containers/{id}/update-policy`.
pub struct UpdatePolicies;

/// One action, with what it needs.
enum PolicyChange {}

impl Description for PolicyChange {
    fn schema() -> MetaSchema {
        let one_of = |words: &[&str]| {
            let mut schema = MetaSchema::new("string");
            schema.enum_items = words.iter().map(|word| (*word).into()).collect();
            schema
        };
        let between = |kind, least, most| {
            let mut schema = MetaSchema::new(kind);
            (schema.minimum, schema.maximum) = (Some(least), Some(most));
            schema.nullable = true;
            schema
        };
        let mut value = MetaSchema::new("string");
        value.min_length = Some(1);
        let kind = one_of(&["tag", "digest"]);
        let mut until = MetaSchema::new_with_format("string", "date-time");
        until.nullable = true;
        let simple = [
            "skip-current",
            "clear-skips",
            "unsnooze",
            "clear",
            "clear-maturity-policy",
        ];
        let variants = [
            (&simple[..], vec![], &["action"][..]),
            (
                &["remove-skip"],
                vec![("kind", kind), ("value", value)],
                &["action", "kind", "value"],
            ),
            (
                &["snooze"],
                vec![
                    ("days", between("number", 0.0, 365.0)),
                    ("snoozeUntil", until),
                ],
                &["action"],
            ),
            (
                &["set-maturity-policy"],
                vec![
                    ("mode", one_of(&["all", "mature"])),
                    ("minAgeDays", between("integer", 1.0, 365.0)),
                ],
                &["action", "mode"],
            ),
        ];
        let mut schema = MetaSchema::ANY;
        for (actions, mut fields, required) in variants {
            fields.insert(0, ("action", one_of(actions)));
            let mut variant = open(fields);
            variant.required = required.to_vec();
            schema.any_of.push(MetaSchemaRef::Inline(Box::new(variant)));
        }
        schema
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
    ) -> Result<Json<Any<Value>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        let body = body.0.map_or(Value::Null, |body| body.0);
        let entry = state.app.change_update_policy(&id, &body, &caller).await?;
        Ok(Json(Any(entry.to_value())))
    }
}
