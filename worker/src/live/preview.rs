//! The dry run of an update: the same merge as the update's own, with the new image's
//! configuration from the registry, so that nothing is pulled (contract/drydock-container-api.md,
//! "Preview an update"; reference/drydock.md 1.3).

use std::collections::BTreeMap;

use plimsoll_app::queue::rpc::RemoteError;
use plimsoll_domain::{
    ids::ContainerId,
    image::ImageRef,
    labels::UserLabels,
    redact::{REDACTED, is_sensitive},
    spec::{AutoRemove, EngineFacts, FieldReport, PriorState, SpecInput, plan, prior_state},
};
use serde_json::{Value, json};

use super::engine_failed;
use crate::{
    docker::Engine,
    json,
    registry::{Platform, Registries},
};

/// What to preview. The payload of the read, as `plimsoll_app::previews` sends it.
#[derive(Clone, Debug)]
pub struct PreviewRequest {
    pub container: ContainerId,
    /// Repository and tag to go to.
    pub target: ImageRef,
    /// The contract's `updateKind`, which the watch has found; passed on.
    pub update_kind: Value,
}

impl PreviewRequest {
    /// A payload that cannot be read is `bad-request`.
    pub fn parse(payload: &Value) -> Result<Self, RemoteError> {
        let text = |key: &str| payload[key].as_str().unwrap_or_default();
        let bad = |what: String| RemoteError::new("bad-request", what);
        Ok(Self {
            container: ContainerId::parse(text("containerId"))
                .ok_or_else(|| bad("containerId is not a container id".to_owned()))?,
            target: ImageRef::parse(text("targetImage"))
                .map_err(|error| bad(format!("targetImage: {error}")))?,
            update_kind: payload["updateKind"].clone(),
        })
    }
}

/// `{containerName,currentImage,newImage,updateKind,isRunning,networks[]}`, and beyond the contract
/// `fields[]` (`path`, `old`, `new`, `source`, `changed`) and `warnings[]`.
///
/// Sensitive values are replaced; whether they change still shows. A container that must not be
/// updated is `refused`, with the reason.
pub async fn preview(
    engine: &Engine,
    registries: &Registries,
    request: &PreviewRequest,
) -> Result<Value, RemoteError> {
    let container = engine
        .inspect(&request.container)
        .await
        .map_err(engine_failed)?;
    let image_id = container["Image"].as_str().unwrap_or_default();
    let old_image = match engine.inspect_image(image_id).await {
        Ok(image) => image,
        Err(error) if error.is_not_found() => Value::Null,
        Err(error) => return Err(engine_failed(error)),
    };
    let facts = engine_facts(engine).await?;
    let platform = platform(engine, &old_image).await?;
    let details = registries
        .details(&request.target, &platform)
        .await
        .map_err(|error| RemoteError::new("registry", error.to_string()))?;
    let new_image = json!({
        "Id": details.config_digest.as_str(),
        "Os": platform.os,
        "Architecture": platform.architecture,
        "Config": details.config["config"],
    });
    let changed_paths = changed_paths(engine, &container, &request.container).await?;
    document(
        request,
        &container,
        &old_image,
        &new_image,
        &facts,
        &changed_paths,
    )
}

fn document(
    request: &PreviewRequest,
    container: &Value,
    old_image: &Value,
    new_image: &Value,
    facts: &EngineFacts,
    changed_paths: &[String],
) -> Result<Value, RemoteError> {
    let tag = request.target.tag().map_or("latest", |tag| tag.as_str());
    let reference = format!("{}:{tag}", request.target.familiar_name());
    let (own, default) = (json::labels(container), json::labels(old_image));
    let spec = plan(&SpecInput {
        container,
        old_image,
        new_image,
        image_reference: &reference,
        engine: facts,
        remaps: &BTreeMap::new(),
        labels: &BTreeMap::new(),
        auto_remove: AutoRemove::chosen(&UserLabels::new(&own, &default)),
        changed_paths,
    })
    .map_err(|refusal| RemoteError::new("refused", refusal.to_string()))?;
    let name = container["Name"].as_str().unwrap_or_default();
    let networks = container["NetworkSettings"]["Networks"].as_object();
    let networks: Vec<&String> = networks
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    Ok(json!({
        "containerName": name.trim_start_matches('/'),
        "currentImage": container["Config"]["Image"],
        "newImage": reference,
        "updateKind": request.update_kind,
        "isRunning": prior_state(container) != PriorState::Stopped,
        "networks": networks,
        "fields": spec.report.iter().map(shown).collect::<Vec<_>>(),
        "warnings": spec.warnings,
    }))
}

async fn engine_facts(engine: &Engine) -> Result<EngineFacts, RemoteError> {
    let version = engine.api_version().await.map_err(engine_failed)?;
    let info = engine.info().await.map_err(engine_failed)?;
    Ok(EngineFacts::from_info(version, &info))
}

/// The old image's platform; the engine's, when that image is gone.
async fn platform(engine: &Engine, old_image: &Value) -> Result<Platform, RemoteError> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    if old_image.is_null() {
        let info = engine.info().await.map_err(engine_failed)?;
        return Ok(Platform::new(
            &text(&info, "OSType"),
            &text(&info, "Architecture"),
            None,
        ));
    }
    Ok(Platform::new(
        &text(old_image, "Os"),
        &text(old_image, "Architecture"),
        old_image["Variant"].as_str(),
    ))
}

async fn changed_paths(
    engine: &Engine,
    container: &Value,
    id: &ContainerId,
) -> Result<Vec<String>, RemoteError> {
    match json::labels(container).contains_key("com.docker.compose.project") {
        true => engine.changed_paths(id).await.map_err(engine_failed),
        false => Ok(Vec::new()),
    }
}

fn shown(field: &FieldReport) -> Value {
    let (_, key) = field.path.split_once('.').unwrap_or(("", &field.path));
    json!({
        "path": field.path,
        "old": redacted(key, &field.old),
        "new": redacted(key, &field.new),
        "source": field.source,
        "changed": field.is_change(),
    })
}

fn redacted(key: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_sensitive(key, text) => Value::from(REDACTED),
        Value::Array(list) => list.iter().map(|value| redacted(key, value)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key.clone(), redacted(key, value)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_domain::spec::{ApiVersion, Source};

    use super::*;

    fn request() -> PreviewRequest {
        PreviewRequest::parse(&json!({
            "containerId": "a".repeat(64),
            "targetImage": "docker.io/library/app:2",
            "updateKind": { "kind": "tag" },
        }))
        .expect("request")
    }

    fn preview_of(container: Value) -> Result<Value, RemoteError> {
        let facts = EngineFacts {
            api_version: ApiVersion::new(1, 41),
            default_runtime: None,
            host_name: None,
        };
        let old = json!({ "Config": { "Env": ["V=1", "TOKEN_URL=x"] } });
        let new = json!({ "Config": { "Env": ["V=2"] } });
        document(&request(), &container, &old, &new, &facts, &[])
    }

    #[test]
    fn a_preview_shows_each_field_and_hides_secrets() {
        let document = preview_of(json!({
            "Name": "/web",
            "State": { "Running": true },
            "Config": { "Image": "app:1", "Env": ["DB_PASSWORD=hunter2", "V=1",
                "DSN=postgres://u:hunter2@h/"] },
            "HostConfig": { "NetworkMode": "default" },
            "NetworkSettings": { "Networks": { "bridge": {} } },
        }))
        .expect("preview");
        assert_eq!(document["containerName"], "web");
        assert_eq!(document["currentImage"], "app:1");
        assert_eq!(document["newImage"], "app:2");
        assert_eq!(document["updateKind"]["kind"], "tag");
        assert_eq!(document["isRunning"], true);
        assert_eq!(document["networks"], json!(["bridge"]));
        assert!(!document.to_string().contains("hunter2"));
        let fields = document["fields"].as_array().expect("fields");
        let field = |path: &str| {
            let found = fields.iter().find(|field| field["path"] == path);
            found.expect("reported").clone()
        };
        assert_eq!(
            field("Env.V"),
            json!({ "path": "Env.V", "old": "1", "new": "2", "source": "new-image", "changed": true })
        );
        assert_eq!(field("Env.DB_PASSWORD")["source"], json!(Source::User));
        assert_eq!(field("Env.DB_PASSWORD")["new"], REDACTED);
    }

    #[test]
    fn a_container_that_must_not_be_updated_says_why() {
        let error = preview_of(json!({
            "Name": "/web",
            "Config": { "Labels": { "com.docker.swarm.task.id": "t" } },
            "HostConfig": {},
        }))
        .unwrap_err();
        assert_eq!(error.code, "refused");
        assert!(error.message.contains("Swarm"), "{error}");
    }

    #[test]
    fn a_payload_from_elsewhere_is_an_error() {
        for payload in [json!(null), json!({ "containerId": "x" }), json!([1])] {
            let error = PreviewRequest::parse(&payload).unwrap_err();
            assert_eq!(error.code, "bad-request");
        }
    }
}
