//! The scan job: look into the images of some containers, one after the other: vulnerabilities, and
//! signatures and a bill of materials where the settings say so.

use chrono::Utc;
use plimsoll_app::{
    AppError,
    scans::{ScanTarget, scan_target},
};
use plimsoll_domain::{
    container::ContainerState,
    job::JobSpec,
    security::{ScanReport, Subject},
};

use super::{JobContext, Outcome, sbom};
use crate::{
    registry::{Freshness, Registries},
    scan::{ScanPlace, Scanner, Tools},
    watchers::Watcher,
};

/// The kind of these jobs, `JobSpec::kind`.
pub const KIND: &str = "scan";
/// What a job ends with on a worker whose settings name no scanner.
pub const NO_SCANNER: &str =
    "this worker has no security scanner: set DD_SECURITY_SCANNER for it, too";

/// Runs the scans that the job asks for. A job for one container fails with its scan.
pub async fn run(watcher: Watcher, tools: Tools, context: JobContext) -> Outcome {
    let Some(scanner) = &tools.scanner else {
        return Outcome::Failed(NO_SCANNER.to_owned());
    };
    let JobSpec::Scan { containers } = &context.job.spec else {
        let kind = context.job.spec.kind();
        return Outcome::Failed(format!("a job of kind {kind} is no scan"));
    };
    let work = async {
        let mut failed = None;
        for id in containers {
            let Some(state) = watcher.app().state_of(id).await? else {
                continue;
            };
            if let Err(why) = scan(&watcher, scanner, &tools, &state).await? {
                tracing::warn!(container = state.facts.name, why, "a scan failed");
                failed = Some(why);
            }
        }
        Ok::<_, AppError>(failed.filter(|_| containers.len() == 1))
    };
    tokio::select! {
        scanned = work => match scanned {
            Ok(None) => Outcome::Done,
            Ok(Some(why)) => Outcome::Failed(why),
            Err(error) => Outcome::Failed(error.to_string()),
        },
        // A scan can be begun again by anyone; the program ends with it.
        () = context.shutdown.cancelled() => Outcome::HandedOver,
    }
}

/// Scans one container's image and keeps what is found. The inner error says why there is no
/// result.
async fn scan(
    watcher: &Watcher,
    scanner: &Scanner,
    tools: &Tools,
    state: &ContainerState,
) -> Result<Result<(), String>, AppError> {
    let app = watcher.app();
    app.scan_started(&state.facts.id).await?;
    let target = scan_target(state, Utc::now());
    let subject = match resolved(watcher.registries(), target).await {
        Ok(subject) => subject,
        Err((subject, why)) => {
            let block = &scanner.settings().block;
            let report = ScanReport::failed(&subject, scanner.name(), block, &why, Utc::now());
            app.record_scan(state, &report, &[]).await?;
            return Ok(Err(why));
        }
    };
    let engine = watcher.engine().address().to_string();
    if let Some(verifier) = &tools.verifier {
        let report = verifier.verify(&subject).await;
        app.record_signature(state, &report).await?;
    }
    let looked = look(app, scanner, state, &subject, &engine).await?;
    if let Some(maker) = &tools.sbom {
        sbom::with_scan(app, maker, state, &subject, &engine).await?;
    }
    Ok(looked.map(drop))
}

/// Scans `subject`, which is an image of the container, and keeps the report.
pub(crate) async fn look(
    app: &plimsoll_app::App,
    scanner: &Scanner,
    state: &ContainerState,
    subject: &Subject,
    engine: &str,
) -> Result<Result<ScanReport, String>, AppError> {
    let platform = state.facts.image.platform();
    let place = ScanPlace {
        platform: &platform,
        engine,
        image_id: None,
    };
    let block = &scanner.settings().block;
    let scanned = scanner.scan(subject, &place).await;
    let now = Utc::now();
    match scanned {
        Ok(found) => {
            let report = ScanReport::judged(subject, scanner.name(), &found, block, now);
            let kept = &found[..found
                .len()
                .min(plimsoll_domain::security::MOST_VULNERABILITIES)];
            app.record_scan(state, &report, kept).await?;
            Ok(Ok(report))
        }
        Err(error) => {
            let why = error.to_string();
            let report = ScanReport::failed(subject, scanner.name(), block, &why, now);
            app.record_scan(state, &report, &[]).await?;
            Ok(Err(why))
        }
    }
}

/// With the digest that the candidate's tag means now, where the watch did not learn it.
async fn resolved(
    registries: &Registries,
    target: ScanTarget,
) -> Result<Subject, (Subject, String)> {
    match target {
        ScanTarget::Running(subject) => Ok(subject),
        ScanTarget::Candidate(image, Some(digest)) => Ok(Subject::of(&image, Some(digest))),
        ScanTarget::Candidate(image, None) => {
            let digest = registries
                .digest(&image, Freshness::NotOlderThan(Utc::now()))
                .await;
            match digest {
                Ok(digest) => Ok(Subject::of(&image, Some(digest.as_str().to_owned()))),
                Err(error) => Err((Subject::of(&image, None), error.to_string())),
            }
        }
    }
}
