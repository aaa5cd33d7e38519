//! Failed sign-ins, counted across replicas and through a loss of Redis (reliability.md S-3).

use std::time::Duration;

use crate::{Store, StoreError};

statements! {
    /// Seconds until the last of the locks on these subjects ends.
    LOCKED = "SELECT max(extract(epoch FROM locked_until - now()))::float8 FROM login_failures
               WHERE subject = ANY ($1) AND locked_until > now()";
    /// One more failure. The window begins anew when it is over, and so does it after a lock.
    FAIL = "INSERT INTO login_failures AS f (subject, failures, window_start, locked_until)
            VALUES ($1, 1, now(),
                    CASE WHEN $2 <= 1 THEN now() + make_interval(secs => $4) END)
            ON CONFLICT (subject) DO UPDATE SET
               failures = CASE WHEN f.window_start < now() - make_interval(secs => $3)
                               THEN 1 ELSE f.failures + 1 END,
               window_start = CASE WHEN f.window_start < now() - make_interval(secs => $3)
                                   THEN now() ELSE f.window_start END,
               locked_until = CASE
                   WHEN f.window_start < now() - make_interval(secs => $3) THEN NULL
                   WHEN f.failures + 1 >= $2 THEN now() + make_interval(secs => $4)
                   ELSE f.locked_until END";
    CLEAR = "DELETE FROM login_failures WHERE subject = $1";
    SWEEP = "DELETE FROM login_failures
              WHERE window_start < now() - interval '1 day'
                AND (locked_until IS NULL OR locked_until < now())";
}

/// When failures become a lock.
#[derive(Clone, Copy, Debug)]
pub struct LockoutRule {
    pub failures: i32,
    /// Failures older than this do not count.
    pub window: Duration,
    pub lock: Duration,
}

impl Store {
    /// How much longer any of `subjects` is locked.
    pub async fn locked_for(&self, subjects: &[&str]) -> Result<Option<Duration>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LOCKED).await?;
        let row = client.query_one(&statement, &[&subjects]).await?;
        let seconds: Option<f64> = row.get(0);
        Ok(seconds.map(|s| Duration::from_secs_f64(s.max(0.0))))
    }

    /// Counts one failure of `subject`, and locks it when that was one too many.
    pub async fn record_login_failure(
        &self,
        subject: &str,
        rule: LockoutRule,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FAIL).await?;
        let window = rule.window.as_secs_f64();
        let lock = rule.lock.as_secs_f64();
        client
            .execute(&statement, &[&subject, &rule.failures, &window, &lock])
            .await?;
        Ok(())
    }

    /// Forgets a subject's failures: after a success, for that subject only.
    pub async fn clear_login_failures(&self, subject: &str) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(CLEAR).await?;
        client.execute(&statement, &[&subject]).await?;
        Ok(())
    }

    /// Removes what counts for nothing any more.
    pub async fn sweep_login_failures(&self) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(SWEEP).await?;
        Ok(client.execute(&statement, &[]).await?)
    }
}
