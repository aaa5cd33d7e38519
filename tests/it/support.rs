//! The test parts themselves: if one of these fails, look here first.

use std::time::{Duration, Instant};

use plimsoll_support::docker::Docker;
use plimsoll_support::image::Image;
use plimsoll_support::postgres::Database;
use plimsoll_support::proxy::{Fault, Proxy, Upstream};
use plimsoll_support::redis::Redis;
use plimsoll_support::registry::Registry;

#[tokio::test]
async fn each_test_has_a_migrated_database_of_its_own() {
    let (one, other) = (Database::migrated().await, Database::migrated().await);
    assert_ne!(one.name(), other.name());
    let count = "SELECT count(*) FROM watchers";
    one.client()
        .await
        .execute(
            "INSERT INTO watchers (name, configuration) VALUES ('x', '{}')",
            &[],
        )
        .await
        .unwrap();
    let rows: i64 = one
        .client()
        .await
        .query_one(count, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(rows, 1);
    let rows: i64 = other
        .client()
        .await
        .query_one(count, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn redis_forgets_everything_when_restarted() {
    let mut server = Redis::start().await;
    let mut connection = server.connection().await;
    let _: () = redis::cmd("SET")
        .arg("a")
        .arg("1")
        .query_async(&mut connection)
        .await
        .unwrap();
    server.restart().await;
    let mut connection = server.connection().await;
    let value: Option<String> = redis::cmd("GET")
        .arg("a")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(value, None);
}

#[tokio::test]
async fn docker_runs_an_image_that_was_pushed_and_the_guard_removes_it() {
    let registry = Registry::start().await;
    let docker = Docker::connect().await;
    let image = Image::app("1.0.0").label("plimsoll.test", docker.id());
    let digest = registry
        .push_tags("app", &["1.0.0", "latest"], &image)
        .await;
    let reference = registry.reference("app", "1.0.0");
    docker.pull(&reference).await;
    let name = docker.name("app");
    let id = docker.run(&name, &reference).await;
    let found = docker.inspect(&name).await.unwrap();
    assert_eq!(found.id.as_deref(), Some(id.as_str()));
    assert!(found.state.unwrap().running.unwrap());
    let local = docker.client().inspect_image(&reference).await.unwrap();
    assert_eq!(
        local.repo_digests.unwrap(),
        [format!("{}/app@{digest}", registry.host())]
    );
    assert_eq!(local.id.unwrap(), image.build().image_id);
    assert!(registry.requests().iter().any(|request| {
        request.method == "GET" && request.path.starts_with("/v2/app/manifests/")
    }));

    docker.clean().await;
    assert!(docker.inspect(&id).await.is_none());
    assert!(docker.client().inspect_image(&reference).await.is_err());
}

#[tokio::test]
async fn a_registry_with_a_password_refuses_strangers() {
    let registry = Registry::start_with_basic_auth().await;
    registry.push("app", "1.0.0", &Image::app("1.0.0")).await;
    let url = format!("http://{}/v2/app/tags/list", registry.host());
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn a_proxy_delays_swallows_cuts_and_recovers() {
    let redis = Redis::start().await;
    let proxy = Proxy::tcp(Upstream::Unix(redis.socket())).await;
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", proxy.port())).unwrap();
    let ping = async || {
        let attempt = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("PING")
                .query_async::<String>(&mut connection)
                .await
        };
        tokio::time::timeout(Duration::from_millis(400), attempt).await
    };
    assert_eq!(ping().await.unwrap().unwrap(), "PONG");

    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let start = Instant::now();
    assert_eq!(ping().await.unwrap().unwrap(), "PONG");
    assert!(start.elapsed() >= Duration::from_millis(40));

    proxy.set(Fault::Blackhole);
    assert!(!matches!(ping().await, Ok(Ok(_))), "nothing comes through");

    proxy.set(Fault::Refuse);
    assert!(matches!(ping().await, Ok(Err(_))), "refused at once");

    proxy.set(Fault::ResetAfter(3));
    assert!(matches!(ping().await, Ok(Err(_))), "cut in the middle");

    proxy.set(Fault::None);
    assert_eq!(ping().await.unwrap().unwrap(), "PONG");
    assert!(proxy.accepted() >= 6);
}
