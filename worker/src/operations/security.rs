//! The security gate: an update's image is scanned before anything is touched
//! (reference/drydock.md 2.2 step 7; label `dd.security.gate`).

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use plimsoll_domain::{
    ids::ContainerId,
    image::ImageRef,
    labels::UserLabels,
    operation::OperationKind,
    security::{ScanReport, ScanStatus, Subject},
};
use serde_json::Value;

use super::{error::StepError, program::Program};
use crate::{jobs::scan::look, scan::OnFailure};

/// A scan of the very same image that is this young needs no repetition.
const RECENT: Duration = Duration::from_secs(3600);

impl Program<'_> {
    /// Refuses an update to an image in which the scanner finds what blocks. A way back is never
    /// barred.
    pub(super) async fn security_gate(
        &self,
        reference: &ImageRef,
        container: &Value,
        image: &Value,
    ) -> Result<(), StepError> {
        let (Some(scanner), OperationKind::Update) = (&self.world.scanner, self.operation.kind)
        else {
            return Ok(());
        };
        let labels = |inspect: &Value| -> BTreeMap<String, String> {
            serde_json::from_value(inspect["Config"]["Labels"].clone()).unwrap_or_default()
        };
        let (own, default) = (labels(container), labels(image));
        if UserLabels::new(&own, &default).rules().security_gate == Some(false) {
            return Ok(());
        }
        let tag = reference.tag().map_or("latest", |tag| tag.as_str());
        let subject = Subject {
            image: format!("{}:{tag}", reference.familiar_name()),
            digest: self.operation.target_digest.clone(),
            image_id: None,
        };
        match self.scanned(&subject).await? {
            Ok(report) if report.status == ScanStatus::Blocked => Err(StepError::Refused(format!(
                "the security scan of {} found {} blocking vulnerabilities; \
                     GET /api/v1/containers/{{id}}/vulnerabilities lists them, and the label \
                     dd.security.gate=off lets the update pass",
                subject.image, report.blocking_count
            ))),
            Ok(_) => Ok(()),
            Err(why) if scanner.settings().on_failure == OnFailure::Allow => {
                tracing::warn!(operation = %self.operation.id, why, "updating without a scan");
                Ok(())
            }
            Err(why) => Err(StepError::Refused(format!(
                "{} could not be scanned: {why}",
                subject.image
            ))),
        }
    }

    async fn scanned(&self, subject: &Subject) -> Result<Result<ScanReport, String>, StepError> {
        let Some(scanner) = &self.world.scanner else {
            return Ok(Err("there is no scanner".to_owned()));
        };
        let app = &self.world.app;
        let since = Utc::now() - RECENT;
        let known = app
            .store()
            .scan_since(&self.operation.identity, subject.key(), since);
        if let Some(report) = known.await?
            && report.status != ScanStatus::Error
            && report.block_severities == scanner.settings().block
        {
            return Ok(Ok(report));
        }
        let Some(id) = &ContainerId::parse(&self.operation.container_id) else {
            return Ok(Err("the container's id cannot be read".to_owned()));
        };
        let Some(state) = app.state_of(id).await.map_err(refused)? else {
            return Ok(Err("the container is not known any more".to_owned()));
        };
        let engine = self.engine.address().to_string();
        app.scan_started(id).await.map_err(refused)?;
        look(app, scanner, &state, subject, &engine)
            .await
            .map_err(refused)
    }
}

fn refused(error: plimsoll_app::AppError) -> StepError {
    StepError::Refused(format!("the security scan could not be kept: {error}"))
}
