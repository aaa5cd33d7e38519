//! Events, live reads and waiting, below HTTP: order, replay, bounds, with and without Redis.

use std::time::Duration;

use plimsoll_app::{
    App,
    events::{Delivery, SlotLimits, Subscription},
    queue::rpc::{RemoteError, RpcError},
};
use plimsoll_domain::ids::{OperationId, WatcherRef};
use plimsoll_support::{postgres::Database, redis::Redis, wait};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::reads::{NO_REDIS, replica};

const PATIENCE: Duration = plimsoll_support::wait::SOON;

async fn append(client: &tokio_postgres::Client, kind: &str, payload: &str) {
    client
        .execute(
            "INSERT INTO events (type, payload) VALUES ($1, $2)",
            &[&kind, &payload],
        )
        .await
        .unwrap();
}

async fn next(subscription: &mut Subscription) -> Delivery {
    timeout(PATIENCE, subscription.next())
        .await
        .expect("something is delivered")
}

/// The payload of the next delivery, which must be an event, and its id.
async fn event(subscription: &mut Subscription) -> (String, String) {
    match next(subscription).await {
        Delivery::Event(event) => (event.payload.clone(), event.position.to_string()),
        other => panic!("{other:?} instead of an event"),
    }
}

async fn payloads(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        found.push(event(subscription).await.0);
    }
    found
}

#[tokio::test]
async fn a_slow_transaction_delays_events_and_loses_none() {
    let database = Database::migrated().await;
    let redis = Redis::start().await;
    let app = replica(database.url(), &redis.url());
    let mut listener = app.events().subscribe(None).await.unwrap();

    let mut slow = database.client().await;
    let tx = slow.transaction().await.unwrap();
    tx.execute(
        "INSERT INTO events (type, payload) VALUES ('t', '\"slow\"')",
        &[],
    )
    .await
    .unwrap();
    let fast = database.client().await;
    for n in 0..20 {
        append(&fast, "t", &n.to_string()).await;
    }
    app.queue().announce_events().await.unwrap();
    let early = timeout(Duration::from_millis(300), listener.next()).await;
    assert!(early.is_err(), "nothing overtakes the open transaction");
    tx.commit().await.unwrap();

    let mut all = payloads(&mut listener, 21).await;
    assert_eq!(all[0], "\"slow\"", "it began first");
    let rest: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(all.split_off(1), rest);
}

#[tokio::test]
async fn many_writers_with_pauses_lose_nothing_and_keep_one_order() {
    let database = Database::migrated().await;
    let redis = Redis::start().await;
    let replicas = [
        replica(database.url(), &redis.url()),
        replica(database.url(), NO_REDIS),
    ];
    let mut listeners = Vec::new();
    for app in &replicas {
        listeners.push(app.events().subscribe(None).await.unwrap());
    }
    let writers = (0..8).map(|writer| {
        let database = &database;
        let app = &replicas[0];
        async move {
            let mut client = database.client().await;
            for n in 0..25u64 {
                let tx = client.transaction().await.unwrap();
                append_in(&tx, &format!("\"{writer}-{n}\"")).await;
                tokio::time::sleep(Duration::from_millis((writer * 7 + n * 3) % 11)).await;
                tx.commit().await.unwrap();
                app.queue().announce_events().await.unwrap();
            }
        }
    });
    let mut orders = Vec::new();
    let reading = async {
        for listener in &mut listeners {
            orders.push(payloads(listener, 200).await);
        }
    };
    tokio::join!(futures::future::join_all(writers), reading);
    assert_eq!(orders[0], orders[1]);
    let mut distinct = orders.remove(0);
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 200);
}

async fn append_in(tx: &tokio_postgres::Transaction<'_>, payload: &str) {
    tx.execute(
        "INSERT INTO events (type, payload) VALUES ('t', $1)",
        &[&payload],
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn what_one_replica_left_off_another_replays() {
    let database = Database::migrated().await;
    let (one, two) = (
        replica(database.url(), NO_REDIS),
        replica(database.url(), NO_REDIS),
    );
    let client = database.client().await;
    let mut first = one.events().subscribe(None).await.unwrap();
    for n in 0..5 {
        append(&client, "t", &n.to_string()).await;
    }
    let mut last = String::new();
    for n in 0..3 {
        let (payload, id) = event(&mut first).await;
        assert_eq!(payload, n.to_string());
        last = id;
    }
    drop(first);
    // More than one page of a replay.
    client
        .execute(
            "INSERT INTO events (type, payload) SELECT 't', n::text FROM generate_series(5, 604) n",
            &[],
        )
        .await
        .unwrap();
    // Other tests' transactions hold events back, and what comes live may be too much at once.
    wait::until_true("the events to be settled", PATIENCE, async || {
        !two.store().has_unsettled_events().await.unwrap()
    })
    .await;
    let mut second = two.events().subscribe(Some(&last)).await.unwrap();
    for n in 3..605 {
        assert_eq!(event(&mut second).await.0, n.to_string());
    }
    append(&client, "t", "605").await;
    assert_eq!(event(&mut second).await.0, "605");
}

#[tokio::test]
async fn a_replica_that_lags_behind_repeats_nothing() {
    let database = Database::migrated().await;
    let (one, two) = (
        replica(database.url(), NO_REDIS),
        replica(database.url(), NO_REDIS),
    );
    let client = database.client().await;
    // Its reader runs, and stands before the events that the other one hands out at once.
    let _keeps_it_running = two.events().subscribe(None).await.unwrap();
    append(&client, "t", "0").await;
    append(&client, "t", "1").await;
    let mut ahead = one.events().subscribe(Some("0-0")).await.unwrap();
    let (_, _) = event(&mut ahead).await;
    let (_, last) = event(&mut ahead).await;
    let mut behind = two.events().subscribe(Some(&last)).await.unwrap();
    append(&client, "t", "2").await;
    assert_eq!(event(&mut behind).await.0, "2");
}

#[tokio::test]
async fn what_cannot_be_replayed_is_said() {
    let database = Database::migrated().await;
    let app = replica(database.url(), NO_REDIS);
    let client = database.client().await;
    for n in 0..10 {
        append(&client, "t", &n.to_string()).await;
    }
    let mut all = app.events().subscribe(Some("0-0")).await.unwrap();
    let (_, first) = event(&mut all).await;
    let (_, second) = event(&mut all).await;
    app.store().expire_events(3600.0, 8).await.unwrap();
    for (id, reason) in [
        (first.as_str(), "too-old"),
        ("x", "unknown-event-id"),
        ("9-9", "too-old"),
    ] {
        let mut late = app.events().subscribe(Some(id)).await.unwrap();
        match next(&mut late).await {
            Delivery::Resync { reason: given } => assert_eq!(given, reason, "{id}"),
            other => panic!("{id}: {other:?}"),
        }
        // And from there on it is live.
        append(&client, "t", "\"live\"").await;
        assert_eq!(event(&mut late).await.0, "\"live\"");
    }
    let mut kept = app.events().subscribe(Some(&second)).await.unwrap();
    assert_eq!(event(&mut kept).await.0, "2");
}

#[tokio::test]
async fn the_last_event_stays_however_old_it_is() {
    let database = Database::migrated().await;
    let app = replica(database.url(), NO_REDIS);
    let client = database.client().await;
    append(&client, "t", "0").await;
    append(&client, "t", "1").await;
    client
        .execute(
            "UPDATE events SET created_at = now() - interval '1 day'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(app.store().expire_events(3600.0, 100).await.unwrap(), 1);
    // Transactions of other tests' databases on the same server hold it back.
    let tail = wait::until("the event is settled", PATIENCE, async || {
        let tail = app.events().subscribe(None).await.unwrap().position();
        (tail.id == 2).then_some(tail)
    })
    .await;
    let mut again = app
        .events()
        .subscribe(Some(&tail.to_string()))
        .await
        .unwrap();
    append(&client, "t", "2").await;
    assert_eq!(
        event(&mut again).await.0,
        "2",
        "no resync: nothing was missed"
    );
}

#[tokio::test]
async fn a_listener_that_does_not_keep_up_is_cut_off_alone() {
    let database = Database::migrated().await;
    let app = replica(database.url(), NO_REDIS);
    let client = database.client().await;
    let mut slow = app.events().subscribe(None).await.unwrap();
    let mut quick = app.events().subscribe(None).await.unwrap();
    for batch in 0..3 {
        for n in 0..100 {
            append(&client, "t", &(batch * 100 + n).to_string()).await;
        }
        payloads(&mut quick, 100).await;
    }
    assert!(matches!(next(&mut slow).await, Delivery::CutOff));
}

#[tokio::test]
async fn streams_are_limited_over_all_replicas_and_given_back() {
    let database = Database::migrated().await;
    let redis = Redis::start().await;
    let replicas: Vec<App> = (0..2)
        .map(|_| replica(database.url(), &redis.url()))
        .collect();
    let limits = SlotLimits {
        each: 4,
        total: 100,
    };
    let take = async |n: usize, session| {
        replicas[n % 2]
            .events()
            .take_slot("10.0.0.1", session, limits)
            .await
    };
    let mut held = Vec::new();
    for n in 0..4 {
        held.push(take(n, None).await.unwrap());
    }
    assert!(take(0, None).await.is_err());
    assert!(take(1, None).await.is_err());
    held.pop();
    plimsoll_support::wait::until_true("a slot is free again", PATIENCE, || async {
        take(0, None).await.is_ok()
    })
    .await;
    drop(held);

    // One session from many addresses.
    let events = replicas[0].events();
    let mut held = Vec::new();
    for n in 0..4 {
        let address = format!("10.0.1.{n}");
        held.push(events.take_slot(&address, Some("s"), limits).await.unwrap());
    }
    assert!(
        events
            .take_slot("10.0.1.9", Some("s"), limits)
            .await
            .is_err()
    );
    assert!(
        events
            .take_slot("10.0.1.9", Some("other"), limits)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn without_redis_each_replica_limits_streams_for_itself() {
    let database = Database::migrated().await;
    let app = replica(database.url(), NO_REDIS);
    let limits = SlotLimits { each: 2, total: 3 };
    let take = |address: &'static str| app.events().take_slot(address, None, limits);
    let (a, b) = (take("a").await.unwrap(), take("a").await.unwrap());
    assert!(take("a").await.is_err());
    let c = take("b").await.unwrap();
    assert!(take("c").await.is_err(), "the process is full");
    drop((a, b));
    assert!(take("c").await.is_ok());
    c.renew().await;
}

async fn operation(client: &tokio_postgres::Client) -> OperationId {
    let id = OperationId::generate();
    client
        .execute(
            "INSERT INTO update_operations (id, kind, agent, watcher, container_id, container_name,
                                            identity_key, target_image, actor)
             VALUES ($1, 'update', '', 'local', 'c', 'app', '::local::app', 'app:2', 'test')",
            &[&id.as_uuid()],
        )
        .await
        .unwrap();
    id
}

async fn finish(client: &tokio_postgres::Client, id: OperationId) {
    client
        .execute(
            "WITH done AS (UPDATE update_operations SET phase = 'succeeded', completed_at = now()
                            WHERE id = $1)
             INSERT INTO events (type, payload) VALUES ('dd:update-operation-changed', $2)",
            &[&id.as_uuid(), &json!({"operationId": id}).to_string()],
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn waiting_for_an_operation_ends_with_it_on_any_replica() {
    let database = Database::migrated().await;
    let redis = Redis::start().await;
    let (one, two) = (
        replica(database.url(), &redis.url()),
        replica(database.url(), NO_REDIS),
    );
    let client = database.client().await;
    let id = operation(&client).await;
    let deadline = Instant::now() + PATIENCE;
    let events = [one.events().clone(), two.events().clone()];
    let waits = events
        .map(|events| tokio::spawn(async move { events.wait_for_operation(id, deadline).await }));
    let soon = Instant::now() + Duration::from_millis(200);
    assert!(
        one.events()
            .wait_for_operation(id, soon)
            .await
            .unwrap()
            .is_none()
    );
    finish(&client, id).await;
    one.queue().announce_events().await.unwrap();
    for wait in waits {
        let operation = wait
            .await
            .unwrap()
            .unwrap()
            .expect("it ended before the deadline");
        assert_eq!(operation.id, id);
    }
    let ended = one
        .events()
        .wait_for_operation(id, Instant::now())
        .await
        .unwrap();
    assert!(ended.is_some(), "an operation that is over needs no wait");
    let unknown = OperationId::generate();
    assert!(
        one.events()
            .wait_for_operation(unknown, deadline)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_live_read_is_answered_by_a_worker_or_not_at_all() {
    let database = Database::migrated().await;
    let redis = Redis::start().await;
    let app = replica(database.url(), &redis.url());
    let watcher = WatcherRef::local("local");
    let call = async |kind: &str, timeout: u64| {
        app.queue()
            .call(
                &watcher,
                kind,
                &json!({"n": 1}),
                Duration::from_millis(timeout),
            )
            .await
    };
    assert!(matches!(
        call("echo", 150).await,
        Err(RpcError::Timeout { .. })
    ));

    let server = app
        .queue()
        .rpc_server(&[WatcherRef::local("other"), watcher.clone()]);
    let serving = tokio::spawn(server.serve(4, |kind, payload| async move {
        match kind.as_str() {
            "echo" => Ok(payload),
            "slow" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(payload)
            }
            "large" => Ok(json!("x".repeat(9 * 1024 * 1024))),
            _ => Err(RemoteError::new("unknown-read", "no such read")),
        }
    }));
    let answers = futures::future::join_all((0..20).map(|_| call("echo", 5000))).await;
    for answer in answers {
        assert_eq!(answer.unwrap(), json!({"n": 1}));
    }
    for (kind, code) in [("nothing", "unknown-read"), ("large", "too-large")] {
        match call(kind, 5000).await {
            Err(RpcError::Remote(error)) => assert_eq!(error.code, code),
            other => panic!("{kind}: {other:?}"),
        }
    }
    // Slow reads are stopped with their callers, so they do not block the ones after them.
    for _ in 0..6 {
        assert!(matches!(
            call("slow", 100).await,
            Err(RpcError::Timeout { .. })
        ));
    }
    assert!(call("echo", 5000).await.is_ok());
    redis.flush_all().await;
    assert!(call("echo", 5000).await.is_ok());
    serving.abort();

    let start = std::time::Instant::now();
    let away = replica(database.url(), NO_REDIS);
    let refused = away
        .queue()
        .call(&watcher, "echo", &json!({}), PATIENCE)
        .await;
    assert!(matches!(refused, Err(RpcError::Unavailable(_))));
    wait::took_at_most(start, Duration::from_secs(1));
}
