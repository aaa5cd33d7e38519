//! Bills of materials of what containers run (contract/drydock-container-api.md, "Get SBOM for a
//! container"; reference/drydock.md 1.3): made by a worker, kept, and made once for each image.

use std::{sync::Arc, time::Duration};

use plimsoll_domain::{
    access::Scope,
    container::ContainerState,
    ids::{ContainerId, JobId, WatcherRef},
    job::JobSpec,
    security::{SbomFormat, SbomReport, Subject},
};
pub use plimsoll_store::image_documents::ImageDocument;
use plimsoll_store::{
    begin, commit,
    image_documents::{self, ONE_SBOM},
    jobs::{self, NewJob},
    retrying,
};
use tracing::Instrument;

use crate::{App, AppError, inventory::Entry, requests::Caller, watches::WatchAnswer};

/// How asking for one ended.
#[derive(Clone, Debug)]
pub enum SbomAnswer {
    Ready(ImageDocument),
    /// Nothing is there that could make it. The text says what is missing, where something was
    /// switched on.
    NotConfigured(Option<String>),
    Failed(String),
    /// It is still being made.
    Running,
}

/// A document that was made before, or what has to be there to make it.
enum Found {
    Ready(ImageDocument),
    Makeable(Arc<Entry>),
    NotConfigured(Option<String>),
}

impl App {
    /// The document that is there already. Otherwise `None`, and [`App::make_sbom`] would make it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn known_sbom(
        &self,
        container: &str,
        format: SbomFormat,
        caller: &Caller<'_>,
    ) -> Result<Option<SbomAnswer>, AppError> {
        caller.authorise(Scope::ContainersRead)?;
        Ok(match self.find_sbom(container, format).await? {
            Found::Ready(document) => Some(SbomAnswer::Ready(document)),
            Found::NotConfigured(why) => Some(SbomAnswer::NotConfigured(why)),
            Found::Makeable(_) => None,
        })
    }

    /// The document, which is made if it is not there: waits up to `patience`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn make_sbom(
        &self,
        container: &str,
        format: SbomFormat,
        patience: Duration,
        caller: &Caller<'_>,
    ) -> Result<SbomAnswer, AppError> {
        caller.authorise(Scope::ContainersRead)?;
        let entry = match self.find_sbom(container, format).await? {
            Found::Ready(document) => return Ok(SbomAnswer::Ready(document)),
            Found::NotConfigured(why) => return Ok(SbomAnswer::NotConfigured(why)),
            Found::Makeable(entry) => entry,
        };
        let facts = &entry.state.facts;
        let job = self.ask_for_sbom(&facts.watcher, &facts.id, format).await?;
        if let Some(job) = job {
            match self.wait_for_jobs(&[job], patience).await? {
                WatchAnswer::Failed { message } => return Ok(SbomAnswer::Failed(message)),
                WatchAnswer::Running { .. } => return Ok(SbomAnswer::Running),
                WatchAnswer::Done { .. } => {}
            }
        }
        Ok(match self.find_sbom(container, format).await? {
            Found::Ready(document) => SbomAnswer::Ready(document),
            // The container runs another image by now.
            _ => SbomAnswer::Running,
        })
    }

    async fn find_sbom(&self, container: &str, format: SbomFormat) -> Result<Found, AppError> {
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let subject = Subject::running(&state.facts);
        let known = self
            .store()
            .sbom(&state.identity_key, subject.key(), format)
            .await?;
        if let Some(document) = known {
            return Ok(Found::Ready(document));
        }
        if !self.settings().sbom.is_enabled() {
            return Ok(Found::NotConfigured(None));
        }
        let agent = &state.facts.watcher.agent;
        let workers = self.worker_tools().await?;
        let of_agent = workers.iter().filter(|worker| worker.agent == *agent);
        let tools: Vec<_> = of_agent.map(|worker| &worker.tools.sbom).collect();
        // Any worker may take the job; without one that is there it waits.
        let missing = !tools.is_empty() && tools.iter().all(|tool| tool.available != Some(true));
        if missing {
            let command = tools.iter().find(|tool| tool.enabled).map(|t| &t.command);
            let why = command
                .map(|command| format!("{command} is not installed where the worker runs"))
                .unwrap_or_else(|| "the worker's settings name nothing that makes one".to_owned());
            return Ok(Found::NotConfigured(Some(why)));
        }
        Ok(Found::Makeable(entry))
    }

    /// `None` where somebody else's job has just ended.
    async fn ask_for_sbom(
        &self,
        watcher: &WatcherRef,
        container: &ContainerId,
        format: SbomFormat,
    ) -> Result<Option<JobId>, AppError> {
        let spec = JobSpec::Sbom {
            container: container.clone(),
            format,
        };
        let job = NewJob::now(watcher.clone(), spec);
        let client = self.store().client().await?;
        let span = plimsoll_trace::producing(format_args!("accept sbom"));
        let written = jobs::insert(&client, &job).instrument(span).await;
        drop(client);
        match written {
            Ok(_) => {}
            Err(error) if error.is_constraint(ONE_SBOM) => {
                return Ok(self.store().sbom_job(container, format).await?);
            }
            Err(error) => return Err(error.into()),
        }
        self.wake(std::iter::once((watcher, job.id))).await;
        Ok(Some(job.id))
    }

    /// Keeps what was made, each document compressed with gzip, or why nothing was.
    pub async fn record_sbom(
        &self,
        state: &ContainerState,
        report: &SbomReport,
        documents: &[(SbomFormat, Vec<u8>)],
    ) -> Result<(), AppError> {
        retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            let identity = &state.identity_key;
            if image_documents::write_sbom(&tx, identity, report, documents).await? {
                self.tell_of_change(&tx, state.facts.id.as_str()).await?;
            }
            commit(tx).await?;
            Ok::<_, AppError>(())
        })
        .await?;
        self.announce().await;
        Ok(())
    }
}
