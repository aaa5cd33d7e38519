//! The engine client against the real engine.

use std::time::Duration;

use futures::StreamExt;
use plimsoll_domain::ids::ContainerId;
use plimsoll_support::docker::LABEL;
use plimsoll_worker::docker::{
    Engine, EngineAddress, EngineError, EventKind, ListFilter, PullRequest,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::host::Host;

#[tokio::test]
async fn a_container_lives_and_dies_by_its_id() {
    let host = Host::connect().await;
    let engine = &host.engine;
    let reference = format!("{}:1", host.tag);
    let image = host
        .image(
            &reference,
            &[r#"CMD ["/bin/sh","-c","echo out; echo err >&2; exec sleep 600"]"#],
        )
        .await;
    let (name, renamed) = (host.name("c"), host.name("c"));
    let mut events = std::pin::pin!(
        engine
            .events(None, &[EventKind::Container])
            .await
            .expect("events")
    );
    let body = json!({ "Image": image, "HostConfig": { "RestartPolicy": {"Name": "always"} } });
    let id = host.create(&name, body.clone()).await;

    let taken = engine.create(&name, &body).await.unwrap_err();
    assert!(taken.is_conflict(), "{taken}");
    assert!(taken.to_string().contains(&name), "{taken}");

    engine.start(&id).await.expect("start");
    engine.start(&id).await.expect("already started");
    let inspect = engine.inspect(&id).await.expect("inspect");
    assert_eq!(inspect["State"]["Running"], true);
    assert_eq!(inspect["Image"], image.as_str());

    engine.rename(&id, &renamed).await.expect("rename");
    assert_eq!(engine.find_by_name(&name).await.expect("find"), None);
    let found = engine
        .find_by_name(&renamed)
        .await
        .expect("find")
        .expect("found");
    assert_eq!(found["Id"], id.as_str());
    assert_eq!(engine.find_by_name(id.short()).await.expect("find"), None);

    let listed = engine
        .list(ListFilter::label(LABEL, Some(&host.tag)))
        .await
        .expect("list");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, id);
    assert_eq!(listed[0].names, [renamed]);
    assert_eq!(listed[0].image_id, image);
    assert_eq!(listed[0].state, "running");
    assert_eq!(listed[0].networks[0].name, "bridge");
    let running = ListFilter {
        statuses: Some(&["running"]),
        ..ListFilter::label(LABEL, Some(&host.tag))
    };
    let running = engine.list(running).await.expect("list");
    assert!(running.iter().any(|summary| summary.id == id));

    let policy = json!({ "Name": "no", "MaximumRetryCount": 0 });
    engine
        .set_restart_policy(&id, &policy)
        .await
        .expect("policy");
    engine.pause(&id).await.expect("pause");
    engine.unpause(&id).await.expect("unpause");

    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let text = loop {
        let text = engine.logs_tail(&id, 200, 1 << 20).await.expect("logs");
        if text.contains("out\n") && text.contains("err\n") {
            break text;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text:?}");
    };
    assert_eq!(text.len(), "out\nerr\n".len());

    let still_running = engine.remove(&id).await.unwrap_err();
    assert!(still_running.is_conflict(), "{still_running}");
    engine
        .stop(&id, Duration::from_secs(0))
        .await
        .expect("stop");
    engine
        .stop(&id, Duration::from_secs(0))
        .await
        .expect("already stopped");
    engine.remove(&id).await.expect("remove");
    assert!(engine.inspect(&id).await.unwrap_err().is_not_found());

    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("destroy") {
        let next = tokio::time::timeout(Duration::from_secs(10), events.next());
        let event = next.await.expect("in time").expect("open").expect("event");
        if event.id == id.as_str() {
            seen.push(event.action);
        }
    }
    for action in ["create", "start", "rename", "pause", "die", "destroy"] {
        assert!(seen.iter().any(|a| a == action), "{action} in {seen:?}");
    }
}

#[tokio::test]
async fn a_pull_that_fails_inside_its_stream_is_an_error() {
    let host = Host::connect().await;
    let request = PullRequest {
        reference: "127.0.0.1:1/nothing:1".to_owned(),
        auth: None,
        platform: None,
    };
    let never = CancellationToken::new();
    let error = host.engine.pull(&request, &never, drop).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1/nothing"), "{error}");
}

#[tokio::test]
async fn a_stalled_pull_is_cancelled_at_once() {
    let host = Host::connect().await;
    // A registry that accepts and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let reference = format!("{}/nothing:1", listener.local_addr().expect("address"));
    let cancel = CancellationToken::new();
    let request = PullRequest {
        reference,
        auth: None,
        platform: None,
    };
    let pull = host.engine.pull(&request, &cancel, drop);
    let stop = async {
        let _held = listener.accept().await.expect("the engine connects");
        cancel.cancel();
        std::future::pending::<()>().await;
    };
    let within = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! { result = pull => result, () = stop => unreachable!() }
    });
    let error = within.await.expect("in time").unwrap_err();
    assert!(matches!(error, EngineError::Cancelled { .. }), "{error}");
}

#[tokio::test]
async fn images_are_tagged_and_untagged_without_force() {
    let host = Host::connect().await;
    let engine = &host.engine;
    let reference = format!("{}:1", host.tag);
    let image = host.image(&reference, &[]).await;
    engine
        .tag_image(&image, &host.tag, "pin")
        .await
        .expect("tag");
    let pin = format!("{}:pin", host.tag);
    assert_eq!(
        engine.inspect_image(&pin).await.expect("pin")["Id"],
        image.as_str()
    );
    engine.remove_image(&pin).await.expect("untag");
    assert!(engine.inspect_image(&pin).await.unwrap_err().is_not_found());
    let body = json!({ "Image": image, "Cmd": ["/bin/true"] });
    host.create(&host.name("c"), body).await;
    let in_use = engine.remove_image(&image).await.unwrap_err();
    assert!(in_use.is_conflict(), "{in_use}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_named() {
    let address = EngineAddress::Unix {
        socket: "/nonexistent/docker.sock".into(),
    };
    let engine = Engine::new(address).expect("engine");
    let id = ContainerId::parse(&"0".repeat(64)).expect("id");
    let error = engine.stop(&id, Duration::from_secs(1)).await.unwrap_err();
    assert!(error.is_retriable() && error.is_engine_away() && !error.is_ambiguous());
    assert!(
        error.to_string().contains("/nonexistent/docker.sock"),
        "{error}"
    );
}

#[tokio::test]
async fn the_typed_client_speaks_the_negotiated_version() {
    let host = Host::connect().await;
    let version = host.engine.api_version().await.expect("version");
    let docker = host.engine.docker().await.expect("docker");
    let theirs = docker.version().await.expect("version").api_version;
    assert!(theirs.is_some());
    assert!(docker.client_version().minor_version == usize::from(version.minor));
    host.engine.ping().await.expect("ping");
    assert_eq!(host.engine.info().await.expect("info")["OSType"], "linux");
}
