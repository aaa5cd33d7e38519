//! The security gate: an update's signature is verified and its image scanned before anything is
//! touched (reference/drydock.md 2.2 steps 2 and 7; label `dd.security.gate`).

use std::time::Duration;

use chrono::Utc;
use plimsoll_domain::{
    ids::ContainerId,
    image::ImageRef,
    labels::UserLabels,
    operation::OperationKind,
    security::{ScanReport, ScanStatus, SignatureStatus, Subject},
};
use serde_json::Value;

use super::{error::StepError, program::Program};
use crate::{
    jobs::{sbom::with_scan, scan::look},
    json,
    scan::OnFailure,
};

/// A scan of the very same image that is this young needs no repetition.
const RECENT: Duration = Duration::from_secs(3600);

impl Program<'_> {
    /// Refuses an update to an image that is not signed by whom it has to be. No label opens this
    /// gate, and what cannot be verified does not pass. A way back is never barred.
    pub(super) async fn signature_gate(&self, reference: &ImageRef) -> Result<(), StepError> {
        let (Some(verifier), OperationKind::Update) =
            (&self.world.tools.verifier, self.operation.kind)
        else {
            return Ok(());
        };
        let subject = self.subject(reference);
        let report = verifier.verify(&subject).await;
        let app = &self.world.app;
        let id = ContainerId::parse(&self.operation.container_id);
        if let Some(id) = id
            && let Some(state) = app.state_of(&id).await.map_err(refused)?
        {
            app.record_signature(&state, &report)
                .await
                .map_err(refused)?;
        }
        let why = report.error.unwrap_or_default();
        let image = subject.image;
        match report.status {
            SignatureStatus::Verified => Ok(()),
            SignatureStatus::Unverified => Err(StepError::Refused(format!(
                "{image} is not signed by whom DD_SECURITY_COSIGN_… demands: {why}"
            ))),
            SignatureStatus::Error => Err(StepError::Refused(format!(
                "the signature of {image} could not be verified: {why}"
            ))),
        }
    }

    /// The image that the update goes to.
    fn subject(&self, reference: &ImageRef) -> Subject {
        Subject::of(reference, self.operation.target_digest.clone())
    }

    /// Refuses an update to an image in which the scanner finds what blocks. A way back is never
    /// barred.
    pub(super) async fn security_gate(
        &self,
        reference: &ImageRef,
        container: &Value,
        image: &Value,
    ) -> Result<(), StepError> {
        let (Some(scanner), OperationKind::Update) =
            (&self.world.tools.scanner, self.operation.kind)
        else {
            return Ok(());
        };
        let (own, default) = (json::labels(container), json::labels(image));
        if UserLabels::new(&own, &default).rules().security_gate == Some(false) {
            return Ok(());
        }
        let subject = self.subject(reference);
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
        let Some(scanner) = &self.world.tools.scanner else {
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
        let looked = look(app, scanner, &state, subject, &engine).await;
        let looked = looked.map_err(refused)?;
        if let (Ok(_), Some(maker)) = (&looked, &self.world.tools.sbom) {
            with_scan(app, maker, &state, subject, &engine)
                .await
                .map_err(refused)?;
        }
        Ok(looked)
    }
}

fn refused(error: plimsoll_app::AppError) -> StepError {
    StepError::Refused(format!("what was found out could not be kept: {error}"))
}
