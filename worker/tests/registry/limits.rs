//! What a registry's limits do to a fleet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use plimsoll_app::queue::budget::{Admission, Rate};
use plimsoll_support::{redis::Redis, wait};
use plimsoll_worker::registry::RegistryError;

use crate::{
    cached, failures,
    hostile::{Answer, Hostile, tag_page},
    now, queue, registries, repository,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_stops_the_whole_fleet_until_it_is_over_and_one_probe_ends_it() {
    let redis = Redis::start().await;
    let refusing = Arc::new(AtomicBool::new(true));
    let switch = refusing.clone();
    let server = Hostile::start(move |_| {
        if switch.load(Ordering::SeqCst) {
            Answer::new(429, "slow down").with("retry-after", "2")
        } else {
            tag_page(["1"])
        }
    })
    .await;
    let (one, two) = (
        registries(vec![], Some(queue(&redis))),
        registries(vec![], Some(queue(&redis))),
    );
    let app = |n: usize| repository(&format!("{}/team/app{n}:1", server.host()));
    let error = one.tags(&app(0), now()).await.expect_err("a refusal");
    let RegistryError::RateLimited { until, .. } = &error else {
        panic!("{error}");
    };
    let left = *until - Utc::now();
    assert!(
        left.num_milliseconds() > 500 && left.num_milliseconds() <= 2000,
        "{left}"
    );
    assert_eq!(error.retry_at(), Some(*until));
    assert_eq!(server.received().len(), 1);

    // Nobody asks while it lasts, on either worker.
    for registries in [&one, &two] {
        let results = registries.tags_many((0..50).map(app), cached(60)).await;
        assert_eq!(results.len(), 50);
        assert!(
            failures(&results)
                .iter()
                .all(|e| e.kind() == "rate-limited")
        );
        assert_eq!(failures(&results).len(), 50);
    }
    assert_eq!(server.received().len(), 1);

    // It is over, but the registry goes on refusing: one request per window.
    tokio::time::sleep((*until - Utc::now()).to_std().unwrap_or_default()).await;
    let (a, b) = tokio::join!(
        one.tags_many((0..50).map(app), cached(60)),
        two.tags_many((50..100).map(app), cached(60))
    );
    assert_eq!(failures(&a).len() + failures(&b).len(), 100);
    assert_eq!(server.received().len(), 2);

    // It is over for good: the probe opens the way for all.
    refusing.store(false, Ordering::SeqCst);
    let again = failures(&a)[0].retry_at().expect("a time");
    tokio::time::sleep((again - Utc::now()).to_std().unwrap_or_default()).await;
    let results = wait::until("the pause to end", wait::SOON, || async {
        let (a, b) = tokio::join!(
            one.tags_many((0..50).map(app), cached(60)),
            two.tags_many((50..100).map(app), cached(60))
        );
        (failures(&a).is_empty() && failures(&b).is_empty()).then_some((a, b))
    })
    .await;
    assert_eq!(results.0.len() + results.1.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_refusal_still_stops_this_worker() {
    let server = Hostile::start(|_| Answer::new(429, "")).await;
    let registries = registries(vec![], None);
    let all = (0..50).map(|n| repository(&format!("{}/team/app{n}:1", server.host())));
    let results = registries.tags_many(all, cached(60)).await;
    assert!(
        failures(&results)
            .iter()
            .all(|e| e.kind() == "rate-limited")
    );
    assert_eq!(failures(&results).len(), 50);
    // The first request learns what the registry wants, alone.
    assert_eq!(server.received().len(), 1);
    let until = failures(&results)[0].retry_at().expect("a time");
    assert!(
        (until - Utc::now()).num_seconds() > 45,
        "a minute without a word"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_left_pauses_before_the_refusal() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let server = Hostile::start(move |_| {
        let left = 2_usize.saturating_sub(seen.fetch_add(1, Ordering::SeqCst));
        tag_page(["1"])
            .with("ratelimit-remaining", &left.to_string())
            .with("ratelimit-reset", "30")
    })
    .await;
    let registries = registries(vec![], None);
    for n in 0..5 {
        let app = repository(&format!("{}/team/app{n}:1", server.host()));
        let result = registries.tags(&app, now()).await;
        assert_eq!(result.is_ok(), n < 3, "{n}: {result:?}");
    }
    assert_eq!(server.received().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_one_for_all_workers() {
    let redis = Redis::start().await;
    let (one, two) = (queue(&redis), queue(&redis));
    let rate = Some(Rate {
        per_second: 2.0,
        burst: 10,
    });
    let mut waits = Vec::new();
    for n in 0..14 {
        let queue = if n % 2 == 0 { &one } else { &two };
        match queue.registry_admit("docker.io", rate).await {
            Ok(Admission::Go(wait)) => waits.push(wait),
            other => panic!("{other:?}"),
        }
    }
    assert!(waits[..10].iter().all(Duration::is_zero), "{waits:?}");
    // Two per second after the burst, less what passed meanwhile.
    assert!(waits[13] > Duration::from_millis(1200), "{waits:?}");
    assert!(waits[13] <= Duration::from_millis(2000), "{waits:?}");
    // Another registry has a budget of its own.
    let other = one.registry_admit("ghcr.io", rate).await;
    assert!(
        matches!(other, Ok(Admission::Go(Duration::ZERO))),
        "{other:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_without_a_time_pause_longer_each_window() {
    let redis = Redis::start().await;
    let queue = queue(&redis);
    let first = queue.registry_limited("r", None).await.expect("Redis");
    // Under way when the pause began: the same window.
    let same = queue.registry_limited("r", None).await.expect("Redis");
    assert!(first <= Duration::from_secs(60) && same <= Duration::from_secs(60));
    assert!(matches!(
        queue.registry_admit("r", None).await,
        Ok(Admission::Paused(_))
    ));
    queue.registry_lifted("r").await.expect("Redis");
    assert_eq!(
        queue.registry_admit("r", None).await.expect("Redis"),
        Admission::Go(Duration::ZERO)
    );
    // Two windows in a row, the first a short one.
    let short = Some(Duration::from_millis(1));
    queue.registry_limited("r", short).await.expect("Redis");
    let began = Instant::now();
    let probe = wait::until("the window to end", Duration::from_secs(5), || async {
        let admission = queue.registry_admit("r", None).await.expect("Redis");
        (!matches!(admission, Admission::Paused(_))).then_some(admission)
    })
    .await;
    assert_eq!(
        probe,
        Admission::Probe(Duration::ZERO),
        "{:?}",
        began.elapsed()
    );
    assert!(matches!(
        queue.registry_admit("r", None).await,
        Ok(Admission::AskAgain(_))
    ));
    let second = queue.registry_limited("r", None).await.expect("Redis");
    assert!(second > Duration::from_secs(110), "{second:?}");
}
