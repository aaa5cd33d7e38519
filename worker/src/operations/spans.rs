//! Spans of the phases, for collectors: from the moment that a phase is written to the next one.

use plimsoll_domain::operation::Phase;
use tracing::Span;

/// The phase in which the program is, within its job. Calls to the engine and to registries are
/// made in it.
pub(super) struct PhaseSpan {
    job: Span,
    current: Span,
}

impl PhaseSpan {
    /// In the span of the job.
    pub(super) fn begin(phase: Phase) -> Self {
        let job = Span::current();
        Self {
            current: of(&job, phase),
            job,
        }
    }

    pub(super) fn reached(&mut self, phase: Phase) {
        self.current = of(&self.job, phase);
    }

    pub(super) fn current(&self) -> Span {
        self.current.clone()
    }
}

fn of(job: &Span, phase: Phase) -> Span {
    tracing::info_span!(
        target: plimsoll_trace::TARGET,
        parent: job,
        "phase",
        otel.name = %format_args!("phase {phase}"),
    )
}
