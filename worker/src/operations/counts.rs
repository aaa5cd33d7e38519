//! What is counted of operations, for the metrics of the installation.

use plimsoll_app::{store::journal::Completion, totals::Total};
use plimsoll_domain::operation::Phase;

use super::program::Program;

impl Program<'_> {
    /// Counts what a phase that was written ended.
    pub(super) async fn count(&self, phase: Phase, completion: Completion) {
        self.count_rollback(phase, completion).await;
        if completion == Completion::Completed {
            self.count_end(phase).await;
        }
    }

    /// The end, and the time that each phase took, whichever worker it was on: the journal knows.
    async fn count_end(&self, phase: Phase) {
        let (app, operation) = (&self.world.app, &self.operation);
        let (tally, kind) = (app.tally(), operation.kind.as_str());
        tally.add(Total::OperationsEnded, &[kind, phase.as_str()], 1.0);
        // What cannot be read now is not counted: the operation is over all the same.
        let spent = app.store().seconds_spent(operation.id).await;
        for (phase, seconds) in spent.unwrap_or_default() {
            tally.add(Total::OperationPhases, &[kind, &phase], 1.0);
            tally.add(Total::OperationPhaseSeconds, &[kind, &phase], seconds);
        }
    }

    /// A way back that ended, for the metrics.
    async fn count_rollback(&self, phase: Phase, completion: Completion) {
        let outcome = match phase {
            Phase::RolledBack => "success",
            Phase::RollbackFailed if completion == Completion::Completed => "error",
            _ => return,
        };
        let operation = &self.operation;
        let trigger = operation.trigger_name.as_deref();
        let Some((type_, name)) = trigger.and_then(|trigger| trigger.split_once('.')) else {
            return;
        };
        let turned = self.world.app.store().turned_at(operation.id).await;
        let reason = turned.ok().flatten().map_or("other", Phase::turned_because);
        let labels = [type_, name, outcome, reason];
        let tally = self.world.app.tally();
        tally.add(Total::TriggerRollbacks, &labels, 1.0);
    }
}
