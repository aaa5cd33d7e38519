//! A container as clients see it: the fields and names of reference/drydock.md 1.7. Borrowed from
//! the state, so that rendering a thousand costs no copies. Absent values are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::assessment::{
    Assessment, MaturityLevel, MaturityScale, TimeState, UpdateKind, assess_with, effective_policy,
};
use crate::check_status::ComposeImage;
use crate::container::{
    ContainerFacts, ContainerState, Details, Health, ImageFacts, OperationSummary,
    RolledBackTarget, WatchError, WatchResult,
};
use crate::eligibility::{AdmissionFacts, Eligibility, evaluate_assessed};
use crate::iso;
use crate::labels::TagFamily;
use crate::link;
use crate::pattern::Transform;
use crate::policy::UpdatePolicy;
use crate::security::SecurityView;

const DEFAULT_ICON: &str = "mdi:docker";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub display_name: &'a str,
    pub display_icon: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_picture: Option<&'a str>,
    pub status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    pub watcher: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<&'a str>,
    pub identity_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_tags: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_tags: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform_tags: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_family: Option<TagFamily>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_template: Option<&'a str>,
    /// The template filled in for the tag that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_include: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_exclude: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_trigger_include: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_trigger_exclude: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_trigger_auto: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_trigger_include: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_trigger_exclude: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_policy: Option<Cow<'a, UpdatePolicy>>,
    pub image: &'a ImageFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a WatchError>,
    pub update_available: bool,
    pub update_kind: UpdateKind<'a>,
    #[serde(with = "iso")]
    pub first_seen_at: DateTime<Utc>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub update_detected_at: Option<DateTime<Utc>>,
    /// Milliseconds, in whole minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_age: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_maturity_level: Option<MaturityLevel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_rollback: Option<&'a RolledBackTarget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_operation: Option<&'a OperationSummary>,
    pub update_eligibility: Eligibility,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compose_mismatch: Option<ComposeMismatch<'a>>,
    #[serde(skip_serializing_if = "SecurityView::is_empty")]
    pub security: SecurityView<'a>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    pub labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repo: Option<&'a str>,
    pub details: &'a Details,
}

/// The Compose file names another image than the one that runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComposeMismatch<'a> {
    pub compose_image: &'a str,
    pub error: String,
}

impl<'a> ComposeMismatch<'a> {
    fn of(facts: &'a ContainerFacts) -> Option<Self> {
        let image = ComposeImage::of(facts).filter(ComposeImage::differs)?;
        Some(Self {
            compose_image: image.specified,
            error: image.message(),
        })
    }
}

/// The contract's `result`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<&'a str>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub published_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at_trusted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_update_reason: Option<&'a str>,
}

impl<'a> ResultView<'a> {
    /// `None` when the watch found nothing to say (it failed).
    fn of(result: &'a WatchResult) -> Option<Self> {
        let view = Self {
            tag: result.tag.as_deref(),
            suggested_tag: result.suggested_tag.as_deref(),
            recommended_tag: result.recommended_tag.as_deref(),
            digest: result.digest.as_deref(),
            created: result.created,
            published_at: result.published_at,
            published_at_trusted: result.published_at_trusted,
            link: result.link.as_deref(),
            no_update_reason: result.no_update_reason.as_deref(),
        };
        let says_something = view.tag.is_some()
            || view.digest.is_some()
            || view.suggested_tag.is_some()
            || view.created.is_some()
            || view.no_update_reason.is_some();
        (says_something || result.error.is_none()).then_some(view)
    }
}

/// What the view depends on besides the container.
#[derive(Clone, Debug, Default)]
pub struct ViewContext {
    pub maturity: MaturityScale,
    /// For `updateEligibility`.
    pub admission: AdmissionFacts,
}

/// Renders a container at `now`.
pub fn view<'a>(
    state: &'a ContainerState,
    context: &ViewContext,
    now: DateTime<Utc>,
) -> ContainerView<'a> {
    let policy = effective_policy(state);
    let assessment = assess_with(state, policy.as_deref(), &context.maturity, now);
    let facts = &state.facts;
    let rules = &facts.rules;
    let result = state.current_result();
    let shown = assessment.available();
    ContainerView {
        id: facts.id.as_str(),
        name: &facts.name,
        display_name: facts.display_name(),
        display_icon: rules.display_icon.as_deref().unwrap_or(DEFAULT_ICON),
        display_picture: rules.display_picture.as_deref(),
        status: &facts.status,
        health: facts.health,
        watcher: &facts.watcher.name,
        agent: facts.watcher.agent_name(),
        identity_key: state.identity_key.as_str(),
        include_tags: rules.include_tags.as_deref(),
        exclude_tags: rules.exclude_tags.as_deref(),
        transform_tags: rules.transform_tags.as_deref(),
        tag_family: rules.tag_family,
        link_template: rules.link_template.as_deref(),
        link: current_link(state),
        trigger_include: rules.trigger_include.as_deref(),
        trigger_exclude: rules.trigger_exclude.as_deref(),
        action_trigger_include: rules.action_include.as_deref(),
        action_trigger_exclude: rules.action_exclude.as_deref(),
        action_trigger_auto: rules.action_auto.as_deref(),
        notification_trigger_include: rules.notification_include.as_deref(),
        notification_trigger_exclude: rules.notification_exclude.as_deref(),
        update_policy: policy,
        image: &facts.image,
        result: result.and_then(ResultView::of),
        error: result.and_then(|result| result.error.as_ref()),
        update_available: shown,
        update_kind: assessment.kind,
        first_seen_at: state.first_seen_at,
        update_detected_at: state.update_detected_at.filter(|_| assessment.raw),
        update_age: assessment
            .age
            .filter(|_| shown)
            .map(|age| age.num_milliseconds()),
        update_maturity_level: assessment.maturity.filter(|_| shown),
        update_rollback: state.rolled_back.as_ref(),
        update_operation: state.operation.as_ref(),
        update_eligibility: evaluate_assessed(state, &assessment, &context.admission),
        compose_mismatch: ComposeMismatch::of(facts),
        security: SecurityView::of(&state.reports, facts, result.filter(|_| assessment.raw)),
        created: facts.created,
        labels: &facts.labels,
        source_repo: facts
            .rules
            .source_repo
            .as_deref()
            .or(facts.source_repo.as_deref()),
        details: &facts.details,
    }
}

/// The link for the running tag. Templates are rare, and transforms with them rarer still, so that
/// compiling one here costs less than carrying one more text through every layer.
fn current_link(state: &ContainerState) -> Option<String> {
    let rules = &state.facts.rules;
    let template = rules.link_template.as_deref()?;
    let tag = state.facts.image.tag.value.as_str();
    let transform = rules
        .transform_tags
        .as_deref()
        .and_then(|formula| Transform::compile("dd.tag.transform", formula).ok());
    let transformed = transform.map_or(Cow::Borrowed(tag), |transform| transform.apply(tag));
    link::render(template, tag, &transformed)
}

/// The parts of `view` that the clock changes, without rendering.
pub fn time_state(state: &ContainerState, context: &ViewContext, now: DateTime<Utc>) -> TimeState {
    let policy = effective_policy(state);
    let assessment: Assessment<'_> = assess_with(state, policy.as_deref(), &context.maturity, now);
    assessment.time_state()
}

#[cfg(test)]
mod tests;
