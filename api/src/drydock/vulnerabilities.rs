use plimsoll_domain::security::{Counts, Vulnerability};
use poem::http::Uri;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Tag,
    error::{ErrorOf, Reads, ReadsOne},
    instant::Instant,
    operations::plain_caller,
    page::{Links, Page, PageNumber},
    raw::RawJson,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `GET /api/v1/containers/{id}/vulnerabilities` and
/// `GET /api/v1/containers/security/vulnerabilities`.
pub struct Vulnerabilities;

const PATH: &str = "/api/v1/containers/security/vulnerabilities";

/// Vulnerabilities by severity
#[derive(Object)]
pub struct SeverityCounts {
    unknown: u32,
    low: u32,
    medium: u32,
    high: u32,
    critical: u32,
}

impl From<Counts> for SeverityCounts {
    fn from(counts: Counts) -> Self {
        Self {
            unknown: counts.unknown,
            low: counts.low,
            medium: counts.medium,
            high: counts.high,
            critical: counts.critical,
        }
    }
}

/// The latest scan of a container.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ScanResult {
    /// `null` before any scan
    #[oai(nullable)]
    scanner: Option<String>,
    /// What was scanned
    #[oai(skip_serializing_if_is_none)]
    image: Option<String>,
    #[oai(skip_serializing_if_is_none)]
    image_digest: Option<String>,
    #[oai(skip_serializing_if_is_none)]
    image_id: Option<String>,
    /// `null` before any scan
    #[oai(nullable)]
    scanned_at: Option<Instant>,
    /// `passed`, `blocked`, `error` or `not-scanned`
    status: String,
    block_severities: Vec<String>,
    blocking_count: u32,
    summary: SeverityCounts,
    vulnerabilities: Vec<Finding>,
    #[oai(skip_serializing_if_is_none)]
    error: Option<String>,
}

/// One vulnerability in one package
#[derive(Object)]
#[oai(
    rename = "Vulnerability",
    rename_all = "camelCase",
    skip_serializing_if_is_none
)]
pub struct Finding {
    id: String,
    target: String,
    package_name: String,
    installed_version: String,
    fixed_version: Option<String>,
    severity: String,
    title: String,
    primary_url: String,
    published_date: Option<String>,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct VulnerabilityOverview {
    total_containers: u64,
    scanned_containers: u64,
    /// `null` before any scan
    #[oai(nullable)]
    latest_scanned_at: Option<Instant>,
    /// Vulnerabilities of all pages
    total: u64,
    limit: u64,
    offset: u64,
    has_more: bool,
    #[oai(rename = "_links", skip_serializing_if_is_none)]
    links: Option<Links>,
    images: Vec<ImageVulnerabilities>,
}

/// What is known to be wrong with an image, as far as it is on this page
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ImageVulnerabilities {
    image: String,
    container_ids: Vec<String>,
    /// Of the image that an update goes to
    #[oai(skip_serializing_if_is_none)]
    update_summary: Option<SeverityCounts>,
    vulnerabilities: Vec<OverviewFinding>,
}

#[derive(Object)]
#[oai(rename = "ImageVulnerability", rename_all = "camelCase")]
pub struct OverviewFinding {
    id: String,
    severity: String,
    package: String,
    version: String,
    #[oai(nullable)]
    fixed_in: Option<String>,
    title: String,
    target: String,
    primary_url: String,
    #[oai(nullable)]
    published_date: Option<String>,
}

impl From<Vulnerability> for OverviewFinding {
    fn from(found: Vulnerability) -> Self {
        Self {
            id: found.id,
            severity: found.severity.as_str().to_owned(),
            package: found.package_name,
            version: found.installed_version,
            fixed_in: found.fixed_version,
            title: found.title,
            target: found.target,
            primary_url: found.primary_url,
            published_date: found.published_date,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Vulnerabilities {
    /// Get a container's latest scan
    ///
    /// `not-scanned` before any.
    #[oai(
        path = "/containers/:id/vulnerabilities",
        method = "get",
        operation_id = "getContainerVulnerabilities",
        tag = "Tag::Security"
    )]
    async fn one(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<RawJson<ScanResult>, ErrorOf<ReadsOne>> {
        let caller = plain_caller(who.principal(), &context);
        Ok(RawJson::new(state.app.vulnerabilities(&id, &caller).await?))
    }

    /// Get what is known to be wrong with all images
    ///
    /// Grouped by image; pages go over the vulnerabilities.
    #[oai(
        path = "/containers/security/vulnerabilities",
        method = "get",
        operation_id = "getSecurityVulnerabilities",
        tag = "Tag::Security"
    )]
    async fn all(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        request: &poem::Request,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<VulnerabilityOverview>, ErrorOf<Reads>> {
        let page = Page::all(limit.0, offset.0);
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let found = state
            .app
            .vulnerability_overview(who.snapshot(), whole(page.offset), whole(page.limit))
            .await?;
        let uri: &Uri = request.uri();
        let (shown, total) = (found.shown as u64, found.total as u64);
        Ok(Json(VulnerabilityOverview {
            total_containers: found.total_containers as u64,
            scanned_containers: found.scanned_containers as u64,
            latest_scanned_at: found.latest_scanned_at.map(Instant),
            total,
            limit: page.limit,
            offset: page.offset,
            has_more: page.has_more(shown, total),
            links: page.links(PATH, uri.query().unwrap_or(""), shown, total),
            images: found
                .images
                .into_iter()
                .map(|image| ImageVulnerabilities {
                    image: image.image,
                    container_ids: image.container_ids,
                    update_summary: image.update_summary.map(Into::into),
                    vulnerabilities: image.vulnerabilities.into_iter().map(Into::into).collect(),
                })
                .collect(),
        }))
    }
}
