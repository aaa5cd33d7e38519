//! Two API processes and two workers over one Postgres and one Redis: each request is one
//! operation, whoever gets it, and Redis may go at any time.

use std::time::{Duration, Instant};

use futures::future::join_all;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::{End, completed};
use plimsoll_support::wait;
use reqwest::Method;
use uuid::Uuid;

use crate::fleet::{Case, Fleet, PATIENCE, operation_of, text};
use crate::replica::answer;
use crate::stream;

const TAKEOVERS: &str = "SELECT takeovers::int8 FROM jobs WHERE operation_id = $1";

/// Deploys so many containers of `app:1.0.0` with 1.1.0 found for each; answers their ids.
async fn updatable(fleet: &Fleet, number: usize, stability: u32) -> Vec<String> {
    let mut names = Vec::new();
    for n in 0..number {
        let case = Case {
            stability,
            ..Case::app()
        };
        names.push(fleet.deploy(&format!("app{n}"), case).await);
    }
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let mut ids = Vec::new();
    for name in &names {
        ids.push(fleet.watched(name).await);
    }
    ids
}

#[tokio::test]
async fn of_two_requests_at_once_one_is_refused_and_names_the_other() {
    let fleet = Fleet::start(2).await;
    let _workers = [fleet.worker("local").spawn(), fleet.worker("local").spawn()];
    let ids = updatable(&fleet, 3, 1).await;
    for id in &ids {
        let (one, two) = futures::join!(
            answer(fleet.update(0, id)),
            answer(fleet.update(1, id).header("prefer", "respond-async"))
        );
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert!(
            matches!(statuses, [200 | 202, 409]),
            "{} {}",
            one.text,
            two.text
        );
        let operation = operation_of(&one);
        assert_eq!(operation, operation_of(&two), "the refusal names it");
        assert_eq!(fleet.judged(operation).await.0, End::Succeeded);
        assert_eq!(fleet.count(TAKEOVERS, operation).await, 0);
        // Exactly the calls of one program run once.
        let calls = wait::until("the engine to tell of the end", PATIENCE, async || {
            let calls = fleet.oracle.mutations(&fleet.rows, operation).await;
            calls
                .last()
                .is_some_and(|call| call == "destroy old")
                .then_some(calls)
        })
        .await;
        let program = "rename old, create new, update old, kill old, die old, stop old, start new, \
                       destroy old";
        assert_eq!(calls.join(", "), program);
    }
}

#[tokio::test]
async fn redis_that_forgets_everything_all_the_time_loses_and_doubles_nothing() {
    let fleet = Fleet::start(2).await;
    let _workers = [fleet.worker("local").spawn(), fleet.worker("local").spawn()];
    let ids = updatable(&fleet, 6, 1).await;
    let updates = async {
        let mut operations = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            operations.push(fleet.begin_update(n % 2, id).await);
        }
        join_all(operations.iter().map(|id| completed(&fleet.rows, *id))).await;
        operations
    };
    let amnesia = async {
        loop {
            fleet.redis.flush_all().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let operations = tokio::select! {
        operations = updates => operations,
        () = amnesia => unreachable!("it goes on for ever"),
    };
    for operation in operations {
        assert_eq!(fleet.judged(operation).await.0, End::Succeeded);
        assert_eq!(fleet.count(TAKEOVERS, operation).await, 0);
    }
    let all = "SELECT count(*) FROM update_operations WHERE id <> $1";
    assert_eq!(fleet.count(all, Uuid::nil()).await, 6);
}

#[tokio::test]
async fn updates_are_accepted_and_run_while_redis_is_away_and_after_it_is_back() {
    let mut fleet = Fleet::start(2).await;
    let _worker = fleet.worker("local").spawn();
    let ids = updatable(&fleet, 3, 1).await;
    let under_way = fleet.begin_update(0, &ids[0]).await;
    fleet.redis.stop();
    let asked = Instant::now();
    let accepted = fleet.begin_update(1, &ids[1]).await;
    wait::took_at_most(asked, Duration::from_secs(3));
    let started = "SELECT count(*) FROM operation_journal WHERE operation_id = $1";
    wait::until_true("a worker to find it by itself", PATIENCE, async || {
        fleet.count(started, accepted).await > 0
    })
    .await;
    wait::took_at_most(asked, Duration::from_secs(10));
    for operation in [under_way, accepted] {
        assert_eq!(fleet.judged(operation).await.0, End::Succeeded);
    }
    fleet.redis.restart().await;
    let done = answer(fleet.update(0, &ids[2])).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(fleet.judged(operation_of(&done)).await.0, End::Succeeded);
}

#[tokio::test]
async fn a_stream_that_breaks_in_an_update_goes_on_at_the_other_replica() {
    let fleet = Fleet::start(2).await;
    let _worker = fleet.worker("local").spawn();
    let ids = updatable(&fleet, 1, 2).await;
    let open = async |api: usize, last: Option<&str>| {
        let request = fleet.request(api, Method::GET, "/events/ui");
        stream::Client::open(request, last).await
    };
    let mut first = open(0, None).await;
    let operation = fleet.begin_update(0, &ids[0]).await;
    let mut seen = Vec::new();
    let mut last = None;
    let is_ours = |event: &stream::Event| {
        event.name == "dd:update-operation-changed"
            && event.data["operationId"] == operation.to_string()
    };
    while seen.last().is_none_or(|phase| phase != "new-created") {
        let event = first.next().await.expect("the stream goes on");
        last = event.id.clone().or(last);
        if is_ours(&event) {
            seen.push(text(&event.data, "phase"));
        }
    }
    drop(first);
    completed(&fleet.rows, operation).await;
    let mut second = open(1, last.as_deref()).await;
    while seen.last().is_none_or(|phase| phase != "succeeded") {
        let event = second.next().await.expect("the stream goes on");
        assert_ne!(event.name, "dd:resync-required");
        if is_ours(&event) {
            seen.push(text(&event.data, "phase"));
        }
    }
    let query = "SELECT payload::jsonb ->> 'phase' FROM events
                  WHERE type = 'dd:update-operation-changed'
                    AND payload::jsonb ->> 'operationId' = $1::uuid::text
                  ORDER BY xid, id";
    let rows = fleet.rows.query(query, &[&operation]).await.unwrap();
    let written: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, written, "every one, once, in order");
}

#[tokio::test]
async fn a_key_names_one_operation_on_every_replica() {
    let fleet = Fleet::start(2).await;
    let _worker = fleet.worker("local").spawn();
    let ids = updatable(&fleet, 2, 1).await;
    let key = "idempotency-key";
    let requests = (0..12).map(|n| {
        let request = fleet.update(n % 2, &ids[0]).header(key, "one");
        answer(request.header("prefer", "respond-async"))
    });
    let answers = join_all(requests).await;
    let operation = operation_of(&answers[0]);
    for answer in &answers {
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(operation_of(answer), operation);
    }
    for api in 0..2 {
        let other = answer(fleet.update(api, &ids[1]).header(key, "one")).await;
        assert_eq!(other.status, 422, "{}", other.text);
    }
    assert_eq!(fleet.judged(operation).await.0, End::Succeeded);
    for api in 0..2 {
        let late = answer(fleet.update(api, &ids[0]).header(key, "one")).await;
        assert_eq!(late.status, 200, "{}", late.text);
        assert_eq!(operation_of(&late), operation);
    }
    let all = "SELECT count(*) FROM update_operations WHERE id <> $1";
    assert_eq!(fleet.count(all, Uuid::nil()).await, 1);
}

#[tokio::test]
async fn an_answer_waits_as_long_as_its_client_prefers() {
    let fleet = Fleet::start(2).await;
    let _worker = fleet.worker("local").spawn();
    let ids = updatable(&fleet, 2, 4).await;
    let prefer = |id: &str, how: &str| fleet.update(0, id).header("prefer", how);

    let accepted = answer(prefer(&ids[0], "respond-async")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert_eq!(accepted.header("preference-applied"), "respond-async");
    let operation = operation_of(&accepted);
    let location = accepted.header("location").to_owned();
    assert_eq!(location, format!("/api/v1/update-operations/{operation}"));
    let url = fleet.apis[1].url(&location);
    let shown = answer(reqwest::Client::new().get(&url)).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert_eq!(shown.json()["status"], "in-progress");
    assert_eq!(fleet.judged(operation).await.0, End::Succeeded);
    let shown = answer(reqwest::Client::new().get(&url)).await;
    assert_eq!(shown.json()["status"], "succeeded");

    let asked = Instant::now();
    let accepted = answer(prefer(&ids[1], "wait=1")).await;
    let waited = asked.elapsed();
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert_eq!(accepted.header("preference-applied"), "wait=1");
    let second = Duration::from_secs(1);
    assert!(waited >= second && waited < 4 * second, "{waited:?}");
    let operation = operation_of(&accepted);
    assert_eq!(fleet.judged(operation).await.0, End::Succeeded);
}
