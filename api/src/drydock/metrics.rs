use std::time::Duration;

use plimsoll_app::access::Presented;
use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, OpenApi,
    payload::{PlainText, Response},
};

use super::{
    Tag,
    error::{ErrorOf, Reads},
};
use crate::{
    ApiState, MetricsAccess,
    auth::{self, perm, perm::Needs},
};

/// Prometheus gives up after ten seconds, and what this replica counts is there at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /metrics`.
pub struct MetricsPage;

/// Whoever may read the metrics, as the settings say.
struct Reader;

impl<'a> ApiExtractor<'a> for Reader {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn security_schemes() -> Vec<&'static str> {
        vec![perm::SignedIn::MARK]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let (state, context) = auth::parts(request)?;
        match (&state.settings.metrics, &context.presented) {
            (MetricsAccess::Open, _) => Ok(Self),
            (MetricsAccess::Token(expected), Presented::Token(given)) if given.is_of(expected) => {
                Ok(Self)
            }
            _ => {
                auth::authenticate(request).await?;
                Ok(Self)
            }
        }
    }
}

#[OpenApi]
impl MetricsPage {
    /// Get metrics
    ///
    /// Prometheus' text format. What begins with `dd_`, and the digest cache, is about the whole
    /// installation and the same on every replica; the rest is about this one. While the database
    /// does not answer, `plimsoll_fleet_metrics_up` is 0 and what is about the installation is
    /// missing. Needs a credential or the token of `DD_SERVER_METRICS_TOKEN`, unless
    /// `DD_SERVER_METRICS_AUTH` is false.
    #[oai(
        path = "/metrics",
        method = "get",
        operation_id = "getMetrics",
        tag = "Tag::Health"
    )]
    async fn get(
        &self,
        _reader: Reader,
        state: ApiState,
    ) -> Result<Response<PlainText<String>>, ErrorOf<Reads>> {
        let fleet = tokio::time::timeout(PATIENCE, state.app.fleet_metrics()).await;
        let fleet = match fleet {
            Ok(Ok(fleet)) => Some(fleet),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the installation's metrics could not be read");
                None
            }
            Err(_) => None,
        };
        let text = state.metrics.render(fleet.as_deref());
        Ok(Response::new(PlainText(text))
            .header("Content-Type", "text/plain; version=0.0.4; charset=utf-8"))
    }
}
