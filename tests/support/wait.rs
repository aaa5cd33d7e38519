//! Waiting for something to become true: poll with a deadline, never a blind sleep.

use std::future::Future;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// What happens within moments, on a machine that is busy with everything else: a limit that nobody
/// waits for but where something is wrong.
pub const SOON: Duration = Duration::from_secs(60);

/// Polls `probe` until it gives a value: after 10 ms at first, then less and less often, so that
/// those who wait leave the machine to those who work, but at least every 100 ms.
///
/// # Panics
/// After `limit`, naming `what` was awaited.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let pauses = Duration::from_millis(10)..=Duration::from_millis(100);
    poll(what, limit, pauses, probe).await
}

/// Polls a condition like [`until`].
pub async fn until_true<F, Fut>(what: &str, limit: Duration, mut probe: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    until(what, limit, || {
        let probe = probe();
        async move { probe.await.then_some(()) }
    })
    .await;
}

/// Polls like [`until_true`] for what may be over soon: ever again after five milliseconds.
pub async fn glimpse<F, Fut>(what: &str, limit: Duration, mut probe: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let pauses = Duration::from_millis(5)..=Duration::from_millis(5);
    poll(what, limit, pauses, || {
        let probe = probe();
        async move { probe.await.then_some(()) }
    })
    .await;
}

/// Pauses are a quarter longer each time.
async fn poll<T, F, Fut>(
    what: &str,
    limit: Duration,
    pauses: RangeInclusive<Duration>,
    mut probe: F,
) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    let mut pause = *pauses.start();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} for {what}, in vain"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(*pauses.end());
    }
}

/// What began at `began` should have taken less than `limit`. On a machine that is busy with other
/// tests it may take three times that: choose limits that a broken mechanism exceeds by more.
///
/// # Panics
/// Where it took longer.
#[track_caller]
pub fn took_at_most(began: Instant, limit: Duration) {
    let took = began.elapsed();
    assert!(took < limit * 3, "{took:?}, expected {limit:?}");
}
