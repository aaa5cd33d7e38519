//! The event stream over HTTP (contract/drydock-app-api.md, "Server-Sent Events").

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use plimsoll_app::AppSettings;
use plimsoll_support::{postgres::Database, redis::Redis};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    reads::{container, observe},
    replica::{Replica, answer, api_settings, users},
};

const PATIENCE: Duration = plimsoll_support::wait::SOON;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
    /// Milliseconds.
    pub retry: Option<u64>,
    pub comment: Option<String>,
}

/// A client of the stream.
pub struct Client {
    headers: HeaderMap,
    chunks: Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>>>>,
    text: String,
}

impl Client {
    async fn connect(replica: &Replica, token: &str, last: Option<&str>) -> Self {
        let request = replica.request(Method::GET, "/api/v1/events/ui");
        Self::open(request.bearer_auth(token), last).await
    }

    pub async fn open(mut request: RequestBuilder, last: Option<&str>) -> Self {
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self {
            headers: response.headers().clone(),
            chunks: Box::pin(response.bytes_stream()),
            text: String::new(),
        }
    }

    /// The next event; `None` when the stream ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let mut event = Event::default();
                for line in frame.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event.name = name.to_owned(),
                        Some(("id", id)) => event.id = Some(id.to_owned()),
                        Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                        Some(("retry", wait)) => event.retry = wait.parse().ok(),
                        Some(("", words)) => event.comment = Some(words.to_owned()),
                        _ => panic!("not an event: {frame}"),
                    }
                }
                self.text = rest.to_owned();
                return Some(event);
            }
            let chunk = timeout(PATIENCE, self.chunks.next())
                .await
                .expect("the stream goes on")?;
            match chunk {
                Ok(chunk) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Err(_) => return None,
            }
        }
    }

    async fn named(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}

#[tokio::test]
async fn a_container_that_appears_is_told_on_every_replica_at_once() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replicas = [
        Replica::start(&database, &redis).await,
        Replica::start(&database, &redis).await,
    ];
    let token = replicas[0].owner_token(&database).await;
    let mut clients = Vec::new();
    for replica in &replicas {
        let mut client = Client::connect(replica, &token, None).await;
        assert_eq!(client.headers["content-type"], "text/event-stream");
        assert_eq!(client.headers["x-accel-buffering"], "no");
        let caching = client.headers["cache-control"].to_str().unwrap();
        assert!(caching.contains("no-cache"), "{caching}");
        let hello = client.named("dd:connected").await;
        assert!(hello.id.is_some());
        assert!(hello.data["clientId"].is_string());
        assert!(hello.data["clientToken"].as_str().unwrap().len() >= 32);
        clients.push(client);
    }
    let start = Instant::now();
    observe(&replicas[0].app, vec![container("app", 1)]).await;
    let mut told = Vec::new();
    for client in &mut clients {
        let event = client.named("dd:container-added").await;
        assert_eq!(event.data["name"], "app");
        told.push(event);
    }
    plimsoll_support::wait::took_at_most(start, Duration::from_secs(2));
    assert_eq!(told[0], told[1], "the same event, with the same id");
    let mut changed = container("app", 1);
    changed.status = "exited".to_owned();
    observe(&replicas[1].app, vec![changed]).await;
    for client in &mut clients {
        let event = client.named("dd:container-updated").await;
        assert_eq!(event.data["status"], "exited");
    }
}

#[tokio::test]
async fn a_client_takes_up_its_stream_on_another_replica() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let one = Replica::start(&database, &redis).await;
    let two = Replica::start(&database, &redis).await;
    let token = one.owner_token(&database).await;
    let mut client = Client::connect(&one, &token, None).await;
    let hello = client.named("dd:connected").await;
    observe(&one.app, vec![container("a", 1)]).await;
    let seen = client.named("dd:container-added").await;
    drop(client);
    observe(&one.app, vec![container("b", 2)]).await;
    observe(&two.app, vec![container("c", 3)]).await;

    let mut again = Client::connect(&two, &token, seen.id.as_deref()).await;
    assert_eq!(again.named("dd:connected").await.id, seen.id);
    assert_eq!(again.named("dd:container-added").await.data["name"], "b");
    assert_eq!(again.named("dd:container-added").await.data["name"], "c");

    // From before the first event: everything.
    let mut all = Client::connect(&two, &token, hello.id.as_deref()).await;
    all.named("dd:connected").await;
    for name in ["a", "b", "c"] {
        assert_eq!(all.named("dd:container-added").await.data["name"], name);
    }
    let mut lost = Client::connect(&two, &token, Some("boot-1:77")).await;
    lost.named("dd:connected").await;
    let resync = lost.named("dd:resync-required").await;
    assert_eq!(resync.data["reason"], "unknown-event-id");
}

#[tokio::test]
async fn the_eleventh_stream_of_an_address_is_refused_on_any_replica() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replicas = [
        Replica::start(&database, &redis).await,
        Replica::start(&database, &redis).await,
    ];
    let token = replicas[0].owner_token(&database).await;
    let mut clients = Vec::new();
    for n in 0..10 {
        clients.push(Client::connect(&replicas[n % 2], &token, None).await);
    }
    for replica in &replicas {
        let request = replica
            .request(Method::GET, "/api/v1/events/ui")
            .bearer_auth(&token);
        let refused = answer(request).await;
        assert_eq!(
            (refused.status, refused.error().as_str()),
            (429, "Too many event streams")
        );
        assert!(!refused.header("retry-after").is_empty());
    }
    drop(clients);
    plimsoll_support::wait::until_true("a stream is free again", PATIENCE, || async {
        let request = replicas[0]
            .request(Method::GET, "/api/v1/events/ui")
            .bearer_auth(&token);
        request.send().await.unwrap().status() == 200
    })
    .await;
}

#[tokio::test]
async fn a_replica_holds_as_many_streams_as_it_is_told_to() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let app = AppSettings {
        event_streams: 1,
        ..users()
    };
    let replica = Replica::start_with(database.url(), &redis.url(), app, api_settings()).await;
    let token = replica.owner_token(&database).await;
    let _held = Client::connect(&replica, &token, None).await;
    let request = replica.request(Method::GET, "/api/v1/events/ui");
    assert_eq!(answer(request.bearer_auth(&token)).await.status, 429);
}

#[tokio::test]
async fn streams_end_when_the_process_should() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica.owner_token(&database).await;
    let mut client = Client::connect(&replica, &token, None).await;
    client.named("dd:connected").await;
    let start = Instant::now();
    replica.stop();
    // No event: clients do what they do after any end, and know how soon.
    let last = client.next().await.unwrap();
    assert!(last.comment.unwrap().contains("connect again"));
    assert_eq!((last.name.as_str(), last.retry), ("", Some(2000)));
    assert_eq!(client.next().await, None);
    plimsoll_support::wait::took_at_most(start, Duration::from_secs(2));
}

#[tokio::test]
async fn a_stream_needs_a_credential() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let stranger = answer(replica.request(Method::GET, "/api/v1/events/ui")).await;
    assert_eq!(
        (stranger.status, stranger.error().as_str()),
        (401, "Unauthorized")
    );
}
