//! What several workers share through Redis, and what happens when it is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use plimsoll_app::queue::registry_cache::Known;
use plimsoll_support::redis::Redis;

use crate::{
    cached, failures,
    hostile::{Answer, Hostile, tag_page},
    image, now, queue, registries, repository, words,
};

/// Answers each request with its number, after `delay`: long enough for others to come in between.
async fn counting(delay: Duration) -> Hostile {
    let count = Arc::new(AtomicUsize::new(0));
    Hostile::start(move |_| {
        std::thread::sleep(delay);
        let n = count.fetch_add(1, Ordering::SeqCst);
        tag_page([n.to_string().as_str()])
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_workers_ask_each_repository_once_between_them() {
    let redis = Redis::start().await;
    let server = counting(Duration::from_millis(5)).await;
    let one = registries(vec![], Some(queue(&redis)));
    let two = registries(vec![], Some(queue(&redis)));
    let all = || (0..100).map(|n| repository(&format!("{}/team/app{n}:1", server.host())));
    let (a, b) = tokio::join!(
        one.tags_many(all(), cached(60)),
        two.tags_many(all(), cached(60))
    );
    assert!(failures(&a).is_empty() && failures(&b).is_empty());
    assert_eq!(server.received().len(), 100);
    for (repository, list) in &a {
        let other = b[repository].as_ref().expect("a list of tags");
        assert_eq!(words(list.as_ref().expect("a list of tags")), words(other));
    }
    // A third one that comes later asks nothing.
    let three = registries(vec![], Some(queue(&redis)));
    let c = three.tags_many(all(), cached(60)).await;
    assert!(failures(&c).is_empty());
    assert_eq!(server.received().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_is_never_older_than_the_request() {
    let redis = Redis::start().await;
    let server = counting(Duration::from_millis(20)).await;
    let one = registries(vec![], Some(queue(&redis)));
    let two = registries(vec![], Some(queue(&redis)));
    let app = repository(&format!("{}/team/app:1", server.host()));
    let number = |list: Arc<plimsoll_worker::registry::TagList>| -> usize {
        words(&list)[0].parse().expect("a number")
    };
    for n in 0..5 {
        let registries = if n % 2 == 0 { &one } else { &two };
        let list = registries.tags(&app, now()).await.expect("a list of tags");
        assert_eq!(number(list), n);
    }
    // Ten at the same time on both workers: those who asked before a fetch began share it.
    let freshness = now();
    let lists = futures::future::join_all((0..10).map(|n| {
        let registries = if n % 2 == 0 { &one } else { &two };
        registries.tags(&app, freshness)
    }))
    .await;
    for list in lists {
        assert!(number(list.expect("a list of tags")) >= 5);
    }
    assert!(server.received().len() <= 7, "{}", server.received().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_in_one_worker_share_a_flight_without_redis() {
    let server = counting(Duration::from_millis(50)).await;
    let registries = registries(vec![], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let lists = futures::future::join_all((0..20).map(|_| registries.tags(&app, cached(60)))).await;
    assert!(lists.iter().all(Result::is_ok));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_not_remembered() {
    let redis = Redis::start().await;
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let server = Hostile::start(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::new(404, ""),
        _ => tag_page(["1"]),
    })
    .await;
    let one = registries(vec![], Some(queue(&redis)));
    let two = registries(vec![], Some(queue(&redis)));
    let app = repository(&format!("{}/team/app:1", server.host()));
    one.tags(&app, cached(60)).await.expect_err("not there yet");
    // The claim was given up with the failure: nobody waits for it to expire.
    let began = Instant::now();
    two.tags(&app, cached(60)).await.expect("there now");
    plimsoll_support::wait::took_at_most(began, Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_are_shared_like_tags() {
    let redis = Redis::start().await;
    let digest = format!("sha256:{}", "a".repeat(64));
    let said = digest.clone();
    let server =
        Hostile::start(move |_| Answer::new(200, "").with("docker-content-digest", &said)).await;
    let one = registries(vec![], Some(queue(&redis)));
    let two = registries(vec![], Some(queue(&redis)));
    let all = || (0..30).map(|n| image(&format!("{}/team/app:{n}", server.host())));
    one.digests_many(all(), cached(60)).await;
    let results = two.digests_many(all(), cached(60)).await;
    assert_eq!(results.len(), 30);
    assert!(results.values().flatten().all(|d| d.as_str() == digest));
    assert_eq!(server.received().len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_empty_redis_costs_requests_and_nothing_else() {
    let mut redis = Redis::start().await;
    let server = Hostile::start(|_| tag_page(["1"])).await;
    let registries = registries(vec![], Some(queue(&redis)));
    let all = |from: usize| {
        (from..from + 20).map(|n| repository(&format!("{}/team/app{n}:1", server.host())))
    };
    assert!(failures(&registries.tags_many(all(0), now()).await).is_empty());
    redis.flush_all().await;
    assert!(failures(&registries.tags_many(all(0), now()).await).is_empty());

    redis.stop();
    let began = Instant::now();
    assert!(failures(&registries.tags_many(all(20), now()).await).is_empty());
    plimsoll_support::wait::took_at_most(began, Duration::from_secs(3));

    redis.restart().await;
    assert!(failures(&registries.tags_many(all(40), now()).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_one_workers_until_it_stores_or_expires() {
    let redis = Redis::start().await;
    let queue = queue(&redis);
    let keys = ["a".to_owned()];
    let minute = Duration::from_secs(60);
    let look = async |claim_for: Duration| {
        let mut lookup = queue
            .registry_lookup("r", &keys, minute, claim_for)
            .await
            .expect("Redis answers");
        lookup.known.remove(0)
    };
    let Known::Claimed(lost) = look(Duration::from_millis(1)).await else {
        panic!("nobody knows yet");
    };
    let late = plimsoll_support::wait::until("the claim to expire", minute, || async {
        match look(minute).await {
            Known::Claimed(claim) => Some(claim),
            _ => None,
        }
    })
    .await;
    assert!(matches!(look(minute).await, Known::InFlight));
    queue
        .registry_store(&[(late, Some(b"new".to_vec()))], minute)
        .await
        .expect("Redis answers");
    // The one that lost its claim stores late: a younger answer stays.
    queue
        .registry_store(&[(lost, Some(b"old".to_vec()))], minute)
        .await
        .expect("Redis answers");
    let Known::Answer { body, age } = look(minute).await else {
        panic!("it was stored");
    };
    assert_eq!(body, b"new");
    assert!(age < minute);
}
