//! Streams between workers and replicas over a real Redis (DESIGN.md 7).

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::join_all;
use plimsoll_app::{
    Queue,
    queue::rpc::{RemoteError, RemoteStream, RpcError, StreamError, StreamHost, StreamRequest},
};
use plimsoll_domain::ids::WatcherRef;
use plimsoll_support::{
    proxy::{Fault, Proxy, Upstream},
    redis::Redis,
    wait,
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

const SOON: Duration = wait::SOON;

fn queue(url: &str) -> Queue {
    Queue::new(&url.to_owned().into()).expect("the address is valid")
}

static WATCHER: LazyLock<WatcherRef> = LazyLock::new(|| WatcherRef::local("local"));

/// A worker that counts up, one number per frame, until it is not heard any more; `count` ends
/// after so many, `quiet` says nothing, `fail` fails, `flood` sends large frames. `ping` is an
/// ordinary read.
struct Worker {
    host: StreamHost,
    frames: Arc<AtomicUsize>,
    _stop: DropGuard,
}

impl Worker {
    fn start(url: &str) -> Self {
        let queue = queue(url);
        let host = queue.stream_host(256).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(host.clone().run(stop.clone()));
        let frames = Arc::new(AtomicUsize::new(0));
        let (answering, counting) = (host.clone(), frames.clone());
        let serve =
            queue
                .rpc_server(std::slice::from_ref(&*WATCHER))
                .serve(4, move |kind, payload| {
                    let (host, frames) = (answering.clone(), counting.clone());
                    async move { answer(&host, &frames, &kind, payload) }
                });
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                never = serve => match never {},
            }
        });
        Self {
            host,
            frames,
            _stop: stop.drop_guard(),
        }
    }

    async fn has_streams(&self, count: usize) {
        let what = format!("{count} streams at the worker");
        wait::until_true(&what, SOON, async || self.host.len() == count).await;
    }
}

fn answer(
    host: &StreamHost,
    frames: &Arc<AtomicUsize>,
    kind: &str,
    payload: Value,
) -> Result<Value, RemoteError> {
    if kind == "ping" {
        return Ok(json!("pong"));
    }
    let request = StreamRequest::parse(payload)?;
    let count = request.request["count"].as_u64().unwrap_or(0);
    let (kind, frames) = (kind.to_owned(), frames.clone());
    if kind == "refuse" {
        return Err(RemoteError::new("not-found", "There is no such thing"));
    }
    host.start(&request, json!({"kind": &kind}), |mut sink| async move {
        match kind.as_str() {
            "count" => {
                for number in 0..count {
                    sink.send(Bytes::from(format!("{number}\n"))).await?;
                }
                Ok(())
            }
            "fail" => {
                sink.send(Bytes::from_static(b"before")).await?;
                Err(RemoteError::new("engine", "The engine is away"))
            }
            "flood" => loop {
                sink.send(Bytes::from(vec![b'x'; 10_000])).await?;
                frames.fetch_add(1, Ordering::SeqCst);
            },
            _ => std::future::pending().await,
        }
    })
}

async fn open(queue: &Queue, kind: &str, count: u64) -> RemoteStream {
    let request = json!({"count": count});
    let opened = queue.open_stream(&WATCHER, kind, request, SOON).await;
    opened.unwrap_or_else(|error| panic!("{kind} opens: {error}"))
}

async fn rest(mut stream: RemoteStream) -> (Vec<u8>, Option<StreamError>) {
    let mut bytes = Vec::new();
    loop {
        let next = tokio::time::timeout(SOON, stream.next());
        match next.await.expect("it goes on or ends") {
            Some(Ok(more)) => bytes.extend_from_slice(&more),
            Some(Err(error)) => return (bytes, Some(error)),
            None => return (bytes, None),
        }
    }
}

#[tokio::test]
async fn a_stream_arrives_whole_and_in_order_and_ends() {
    let redis = Redis::start().await;
    let worker = Worker::start(&redis.url());
    let queue = queue(&redis.url());
    let stream = open(&queue, "count", 20_000).await;
    assert_eq!(stream.head, json!({"kind": "count"}));
    let (bytes, error) = rest(stream).await;
    assert_eq!(error, None);
    let expected: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    assert!(bytes == expected.as_bytes());
    worker.has_streams(0).await;

    let (bytes, error) = rest(open(&queue, "fail", 0).await).await;
    assert_eq!(bytes, b"before");
    let away = RemoteError::new("engine", "The engine is away");
    assert_eq!(error, Some(StreamError::Remote(away)));

    let refused = queue.open_stream(&WATCHER, "refuse", json!({}), SOON);
    let Err(RpcError::Remote(error)) = refused.await else {
        panic!("refused by the worker");
    };
    assert_eq!(error.code, "not-found");
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_its_writer_and_nobody_else() {
    let redis = Redis::start().await;
    let worker = Worker::start(&redis.url());
    let queue = queue(&redis.url());
    let mut slow = open(&queue, "flood", 0).await;
    let before = wait::until("the writer to stand still", SOON, async || {
        let before = worker.frames.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let after = worker.frames.load(Ordering::SeqCst);
        (before > 0 && before == after).then_some(after)
    })
    .await;
    assert!(before < 20, "{before} frames of 10 kB are under way");
    // Others are not held up by it.
    let (bytes, error) = rest(open(&queue, "count", 1000).await).await;
    assert_eq!((bytes.len(), error), (3890, None));
    // Reading goes on where it stood.
    for _ in 0..100 {
        let next = slow.next().await.unwrap().unwrap();
        assert_eq!(next.len(), 10_000);
    }
    drop(slow);
    worker.has_streams(0).await;
}

#[tokio::test]
async fn two_hundred_streams_take_two_connections_and_starve_no_read() {
    let redis = Redis::start().await;
    let worker = Worker::start(&redis.url());
    let queue = queue(&redis.url());
    let opening = (0..200).map(|_| open(&queue, "quiet", 0));
    let streams = join_all(opening).await;
    worker.has_streams(200).await;
    let mut connection = redis.connection().await;
    let clients: String = redis::cmd("CLIENT")
        .arg("LIST")
        .query_async(&mut connection)
        .await
        .unwrap();
    let clients = clients.lines().count();
    assert!(clients < 12, "{clients} connections for both sides");
    let began = Instant::now();
    let answer = queue.call(&WATCHER, "ping", &Value::Null, SOON).await;
    assert_eq!(answer.unwrap(), "pong");
    wait::took_at_most(began, Duration::from_secs(1));
    drop(streams);
    worker.has_streams(0).await;
}

#[tokio::test]
async fn a_silent_worker_ends_the_stream_within_ten_seconds() {
    let redis = Redis::start().await;
    let proxy = Proxy::tcp(Upstream::Unix(redis.socket())).await;
    let worker = Worker::start(&format!("redis://127.0.0.1:{}", proxy.port()));
    let queue = queue(&redis.url());
    let stream = open(&queue, "quiet", 0).await;
    worker.has_streams(1).await;
    // As a frozen machine is: nothing comes through, and no connection is closed.
    proxy.set(Fault::Blackhole);
    let began = Instant::now();
    let (_, error) = rest(stream).await;
    assert!(matches!(error, Some(StreamError::Lost(_))), "{error:?}");
    wait::took_at_most(began, Duration::from_secs(10));
    // And the worker, for its part, notices that nobody asks any more.
    worker.has_streams(0).await;
}

#[tokio::test]
async fn a_worker_that_ends_in_order_says_so_at_once() {
    let redis = Redis::start().await;
    let worker = Worker::start(&redis.url());
    let queue = queue(&redis.url());
    let stream = open(&queue, "quiet", 0).await;
    let began = Instant::now();
    drop(worker);
    let (_, error) = rest(stream).await;
    let Some(StreamError::Remote(error)) = error else {
        panic!("told by the worker: {error:?}");
    };
    assert_eq!(error.code, "gone");
    wait::took_at_most(began, Duration::from_secs(2));
}

#[tokio::test]
async fn a_replica_that_dies_ends_its_streams_on_the_worker() {
    let redis = Redis::start().await;
    let worker = Worker::start(&redis.url());
    let proxy = Proxy::tcp(Upstream::Unix(redis.socket())).await;
    let dying = queue(&format!("redis://127.0.0.1:{}", proxy.port()));
    let _quiet = open(&dying, "quiet", 0).await;
    let _flood = open(&dying, "flood", 0).await;
    let living = queue(&redis.url());
    let _other = open(&living, "quiet", 0).await;
    worker.has_streams(3).await;
    proxy.set(Fault::Refuse);
    worker.has_streams(1).await;
}

#[tokio::test]
async fn what_redis_loses_is_an_error_and_never_a_gap() {
    let mut redis = Redis::start().await;
    let worker = Worker::start(&redis.url());
    let queue = queue(&redis.url());
    let mut stream = open(&queue, "flood", 0).await;
    let mut read = 0;
    while read < 50 {
        stream.next().await.unwrap().unwrap();
        read += 1;
    }
    redis.restart().await;
    let (_, error) = rest(stream).await;
    assert!(error.is_some());
    worker.has_streams(0).await;
    // Both sides find each other again.
    let (bytes, error) = rest(open(&queue, "count", 3).await).await;
    assert_eq!((&bytes[..], error), (&b"0\n1\n2\n"[..], None));
}
