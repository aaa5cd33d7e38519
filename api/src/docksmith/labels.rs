//! Labels (reference/docksmith-dokploy-dockup.md 1.2, "Labels").

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use plimsoll_app::{AppError, names::named, outcomes::Outcome};
use plimsoll_domain::labels::{LabelChange, LabelReach};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};

use super::{
    Tag,
    body::Required,
    envelope::{Envelope, ok},
    error::{Changes, ErrorOf, ReadsOne},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::operations::{failed, plain_caller},
    middleware::context::RequestContext,
};

/// `GET /api/labels/{container}`, `POST /api/labels/set` and `/remove`.
pub struct Labels;

/// How long an answer waits for the change to be done.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Object)]
struct LabelsShown {
    container: String,
    labels: HashMap<String, String>,
    /// `compose` where a Compose file has them too, else `container`.
    source: String,
}

/// The labels as the contract writes them, or Docksmith's own fields; of those, `false` and the empty
/// text take a label away.
#[derive(Object)]
struct SetLabelsRequest {
    container: String,
    labels: Option<HashMap<String, String>>,
    ignore: Option<bool>,
    allow_latest: Option<bool>,
    allow_prerelease: Option<bool>,
    version_pin_major: Option<bool>,
    version_pin_minor: Option<bool>,
    version_pin_patch: Option<bool>,
    tag_regex: Option<String>,
    version_min: Option<String>,
    version_max: Option<String>,
    script: Option<String>,
    restart_after: Option<String>,
    /// Changes the Compose file only.
    no_restart: Option<bool>,
    /// No check stands in the way of other labels, so there is nothing to force.
    force: Option<bool>,
}

#[derive(Object)]
struct RemoveLabelsRequest {
    container: String,
    labels: Option<Vec<String>>,
    /// Docksmith's own name of `labels`.
    label_names: Option<Vec<String>>,
    /// Changes the Compose file only.
    no_restart: Option<bool>,
    /// No check stands in the way of other labels, so there is nothing to force.
    force: Option<bool>,
}

#[derive(Object)]
struct LabelsChanged {
    success: bool,
    container: String,
    /// `set` or `remove`
    operation: String,
    operation_id: String,
    labels_modified: Vec<String>,
    /// Whether the container was observed to have been made anew.
    restarted: bool,
    /// Checks are asked before updates only.
    pre_check_ran: bool,
    message: String,
}

impl SetLabelsRequest {
    /// What is to be set and what is to go.
    fn wanted(self) -> (HashMap<String, String>, BTreeSet<String>) {
        let flags = [
            ("ignore", self.ignore),
            ("allow-latest", self.allow_latest),
            ("allow-prerelease", self.allow_prerelease),
            ("version-pin-major", self.version_pin_major),
            ("version-pin-minor", self.version_pin_minor),
            ("version-pin-patch", self.version_pin_patch),
        ];
        let texts = [
            ("tag-regex", self.tag_regex),
            ("version-min", self.version_min),
            ("version-max", self.version_max),
            ("pre-update-check", self.script),
            ("restart-after", self.restart_after),
        ];
        let flags = flags.into_iter().filter_map(|(name, flag)| {
            let text = if flag? { "true" } else { "" };
            Some((name, text.to_owned()))
        });
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?)));
        let mut set = self.labels.unwrap_or_default();
        let mut remove = BTreeSet::new();
        for (name, text) in flags.chain(texts) {
            let key = format!("docksmith.{name}");
            match text.as_str() {
                "" => drop(remove.insert(key)),
                _ => drop(set.insert(key, text)),
            }
        }
        (set, remove)
    }
}

/// What both changes share.
struct Asked<'a> {
    who: &'a Authorized<perm::ContainersUpdate>,
    state: &'a ApiState,
    context: &'a RequestContext,
    container: &'a str,
    no_restart: Option<bool>,
    operation: &'static str,
}

impl Asked<'_> {
    async fn answer(
        self,
        set: HashMap<String, String>,
        remove: BTreeSet<String>,
    ) -> Result<Json<Envelope<LabelsChanged>>, ErrorOf<Changes>> {
        let entry = named(&self.who.snapshot().inventory, self.container)?;
        let labels_modified = set.keys().chain(&remove).cloned().collect();
        let change = LabelChange::new(set.into_iter().collect(), remove)
            .map_err(|refused| AppError::Invalid(refused.to_string()))?;
        let reach = match self.no_restart {
            Some(true) => LabelReach::File,
            _ => LabelReach::Container,
        };
        let caller = plain_caller(self.who.principal(), self.context);
        let app = &self.state.app;
        let id = app
            .request_label_change(entry.id(), change, reach, &caller)
            .await?;
        let (restarted, message) = match self.state.outcome(id, PATIENCE).await? {
            Outcome::Succeeded { operation, .. } => (
                operation.new_container_id.is_some(),
                "Labels changed successfully",
            ),
            Outcome::Ended(operation) => {
                let why = operation.last_error.as_ref();
                let why = why.or(operation.rollback_reason.as_ref());
                let message = format!(
                    "Labels could not be changed: {}",
                    why.map_or("the operation says why", String::as_str)
                );
                return Err(failed(message, &operation).into());
            }
            Outcome::Running => (false, "The labels are being changed"),
        };
        Ok(ok(LabelsChanged {
            success: true,
            container: entry.state.facts.name.clone(),
            operation: self.operation.to_owned(),
            operation_id: id.to_string(),
            labels_modified,
            restarted,
            pre_check_ran: false,
            message: message.to_owned(),
        }))
    }
}

#[OpenApi(prefix_path = "/api")]
impl Labels {
    /// Show a container's labels
    #[oai(
        path = "/labels/:container",
        method = "get",
        operation_id = "getLabels",
        tag = "Tag::Labels"
    )]
    async fn show(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        container: Path<String>,
    ) -> Result<Json<Envelope<LabelsShown>>, ErrorOf<ReadsOne>> {
        let entry = named(&who.snapshot().inventory, &container)?;
        let found = state.app.container_labels(entry.id()).await?;
        Ok(ok(LabelsShown {
            container: found.container_name,
            labels: found.labels,
            source: match found.compose {
                Some(_) => "compose".to_owned(),
                None => "container".to_owned(),
            },
        }))
    }

    /// Set labels of a container
    ///
    /// In its Compose file too, where it came from one. The container is made anew, with the
    /// guarantees of an update.
    #[oai(
        path = "/labels/set",
        method = "post",
        operation_id = "setLabels",
        tag = "Tag::Labels"
    )]
    async fn set(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        body: Required<SetLabelsRequest>,
    ) -> Result<Json<Envelope<LabelsChanged>>, ErrorOf<Changes>> {
        let (container, no_restart) = (body.0.container.clone(), body.0.no_restart);
        let (set, remove) = body.0.wanted();
        let asked = Asked {
            who: &who,
            state: &state,
            context: &context,
            container: &container,
            no_restart,
            operation: "set",
        };
        asked.answer(set, remove).await
    }

    /// Remove labels of a container
    ///
    /// As they are set.
    #[oai(
        path = "/labels/remove",
        method = "post",
        operation_id = "removeLabels",
        tag = "Tag::Labels"
    )]
    async fn remove(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        body: Required<RemoveLabelsRequest>,
    ) -> Result<Json<Envelope<LabelsChanged>>, ErrorOf<Changes>> {
        let body = body.0;
        let named = [body.labels, body.label_names];
        let remove = named.into_iter().flatten().flatten().collect();
        let asked = Asked {
            who: &who,
            state: &state,
            context: &context,
            container: &body.container,
            no_restart: body.no_restart,
            operation: "remove",
        };
        asked.answer(HashMap::new(), remove).await
    }
}
