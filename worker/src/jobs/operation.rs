//! Running an update or rollback.

use plimsoll_domain::job::JobSpec;

use super::{JobContext, Outcome};
use crate::operations::Operations;

/// The kind of these jobs, `JobSpec::kind`.
pub const KIND: &str = "operation";

/// Runs the operation that the job names.
pub async fn run(operations: Operations, context: JobContext) -> Outcome {
    match &context.job.spec {
        JobSpec::Operation { operation } => {
            let operation = *operation;
            operations.run(operation, &context).await
        }
        other => Outcome::Failed(format!("a job of kind {} is no operation", other.kind())),
    }
}
