//! Waiting for something to become true: poll with a deadline, never a blind sleep.

use std::future::Future;
use std::time::{Duration, Instant};

/// Polls `probe` every 20 ms until it gives a value.
///
/// # Panics
/// After `limit`, naming `what` was awaited.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} for {what}, in vain"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
