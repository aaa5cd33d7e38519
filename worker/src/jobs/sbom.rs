//! The sbom job: make a bill of materials of what a container runs.

use chrono::Utc;
use plimsoll_app::{App, AppError};
use plimsoll_domain::{
    container::ContainerState,
    job::JobSpec,
    security::{SbomFormat, SbomReport, Subject},
};

use super::{JobContext, Outcome};
use crate::{
    scan::{SbomMaker, ScanPlace},
    watchers::Watcher,
};

/// The kind of these jobs, `JobSpec::kind`.
pub const KIND: &str = "sbom";

/// Makes the document that the job asks for, unless it is there by now.
pub async fn run(watcher: Watcher, maker: Option<SbomMaker>, context: JobContext) -> Outcome {
    let JobSpec::Sbom { container, format } = &context.job.spec else {
        let kind = context.job.spec.kind();
        return Outcome::Failed(format!(
            "a job of kind {kind} asks for no bill of materials"
        ));
    };
    let Some(maker) = maker else {
        return Outcome::Failed(
            "this worker makes no bills of materials: set DD_SECURITY_SBOM_ENABLED for it, too"
                .to_owned(),
        );
    };
    let work = async {
        let app = watcher.app();
        let Some(state) = app.state_of(container).await? else {
            return Ok(Err("the container is not known any more".to_owned()));
        };
        let subject = Subject::running(&state.facts);
        let engine = watcher.engine().address().to_string();
        make(app, &maker, &state, &subject, &engine, &[*format]).await
    };
    tokio::select! {
        made = work => match made {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(why)) => Outcome::Failed(why),
            Err(error) => Outcome::Failed(error.to_string()),
        },
        // It can be begun again by anyone; the program ends with it.
        () = context.shutdown.cancelled() => Outcome::HandedOver,
    }
}

/// What the settings want made of each image that is scanned. Without one, the scan still counts.
pub(crate) async fn with_scan(
    app: &App,
    maker: &SbomMaker,
    state: &ContainerState,
    subject: &Subject,
    engine: &str,
) -> Result<(), AppError> {
    let wanted = &maker.settings().with_scans;
    if let Err(why) = make(app, maker, state, subject, engine, wanted).await? {
        tracing::warn!(image = subject.image, why, "no bill of materials was made");
    }
    Ok(())
}

/// Makes what is not there yet of `subject`, which is an image of the container, and keeps it. The
/// inner error says why there is none.
async fn make(
    app: &App,
    maker: &SbomMaker,
    state: &ContainerState,
    subject: &Subject,
    engine: &str,
    formats: &[SbomFormat],
) -> Result<Result<(), String>, AppError> {
    if formats.is_empty() {
        return Ok(Ok(()));
    }
    let known = app.store().sbom_formats(&state.identity_key, subject.key());
    let known = known.await?;
    let platform = state.facts.image.platform();
    let runs = *subject == Subject::running(&state.facts);
    let place = ScanPlace {
        platform: &platform,
        engine,
        image_id: runs.then_some(state.facts.image.id.as_str()),
    };
    let generator = maker.settings().generator();
    for format in formats.iter().filter(|format| !known.contains(format)) {
        let made = maker.make(generator, *format, subject, &place).await;
        let now = Utc::now();
        match made {
            Ok(document) => {
                let report = SbomReport::generated(subject, generator.name(), &[*format], now);
                app.record_sbom(state, &report, &[(*format, document)])
                    .await?;
            }
            Err(error) => {
                let why = error.to_string();
                let report = SbomReport::failed(subject, generator.name(), &why, now);
                app.record_sbom(state, &report, &[]).await?;
                return Ok(Err(why));
            }
        }
    }
    Ok(Ok(()))
}
