//! Updates and rollbacks against the real engine, registry and database.

use bollard::models::RestartPolicyNameEnum as Restart;
use plimsoll_app::store::update_operations::ACTIVE;
use plimsoll_domain::operation::OperationKind;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;

use crate::world::World;

#[tokio::test]
async fn a_good_image_replaces_the_old_one() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    assert_eq!(row["evidence"]["by"], "stability");
    let now = world.docker.inspect(&app.name).await.unwrap();
    assert_ne!(now.id.as_deref(), Some(app.id.as_str()));
    assert_eq!(now.config.unwrap().image.as_deref(), Some(target.as_str()));

    let app = world.survivor(&app).await;
    let again = world.request_update(&app, &target).await;
    let (end, row) = world.judged(again).await;
    assert_eq!(end, End::Succeeded);
    assert_eq!(row["evidence"]["by"], "already current");
    assert_eq!(world.survivor(&app).await.id, app.id, "nothing was touched");
}

async fn is_rolled_back(image: Image, restart: Restart, expected: &str) {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world.deploy("1.0.0", Image::app("1.0.0"), restart).await;
    let target = world.push("1.1.0", image).await;
    let operation = world.request_update(&app, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::RolledBack);
    let reason = row["rollback_reason"].as_str().unwrap();
    assert!(reason.contains(expected), "{reason}");
    assert_eq!(world.survivor(&app).await.id, app.id);
    let blocked = world
        .app
        .store()
        .rolled_back_target(&world.identity(&app))
        .await
        .unwrap();
    assert_eq!(blocked.unwrap().target, target);
}

#[tokio::test]
async fn an_image_that_exits_at_once_is_rolled_back_with_its_last_words() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let bad = Image::exits("1.1.0", 7, "no configuration found");
    let target = world.push("1.1.0", bad).await;
    let operation = world.request_update(&app, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::RolledBack);
    assert_eq!(row["exit_code"], 7);
    let log = row["last_log"].as_str().unwrap();
    assert!(log.contains("no configuration found"), "{log}");
}

#[tokio::test]
async fn an_image_that_exits_at_once_with_0_is_rolled_back() {
    is_rolled_back(Image::exits("1.1.0", 0, "bye"), Restart::NO, "code 0").await;
}

#[tokio::test]
async fn an_image_that_exits_within_the_window_is_rolled_back() {
    let bad = Image::app("1.1.0")
        .label("irrelevant", "x")
        .shell("sleep 0.6; exit 3");
    is_rolled_back(bad, Restart::UNLESS_STOPPED, "").await;
}

#[tokio::test]
async fn a_crash_loop_is_rolled_back_although_it_runs_now_and_then() {
    let bad = Image::app("1.1.0").shell("sleep 0.3; exit 1");
    is_rolled_back(bad, Restart::ALWAYS, "keeps exiting").await;
}

#[tokio::test]
async fn an_unhealthy_image_is_rolled_back() {
    let bad = Image::app("1.1.0").healthcheck("echo no database; exit 1");
    is_rolled_back(bad, Restart::ALWAYS, "no database").await;
}

#[tokio::test]
async fn an_image_whose_command_does_not_exist_is_rolled_back() {
    let bad = Image::app("1.1.0").cmd(["/no/such/command"]);
    is_rolled_back(bad, Restart::ALWAYS, "/no/such/command").await;
}

#[tokio::test]
async fn a_healthy_image_passes_by_its_healthcheck() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let target = world
        .push("1.1.0", Image::app("1.1.0").healthcheck("exit 0"))
        .await;
    let operation = world.request_update(&app, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    assert_eq!(row["evidence"]["by"], "healthcheck");
}

#[tokio::test]
async fn a_rollback_to_a_backup_undoes_a_moved_tag_without_the_registry() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("stable", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let first = world.docker.inspect(&app.id).await.unwrap().image.unwrap();
    let target = world.push("stable", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    assert_eq!(world.judged(operation).await.0, End::Succeeded);
    let app = world.survivor(&app).await;
    let second = world.docker.inspect(&app.id).await.unwrap().image.unwrap();
    assert_ne!(first, second);

    let store = world.app.store();
    let backups = store.backups_of(&world.identity(&app)).await.unwrap();
    assert_eq!(backups.len(), 1);
    let requests = world.registry.requests().len();
    let back = world
        .request(&app, OperationKind::Rollback, &target, Some(backups[0].id))
        .await
        .unwrap();
    let (end, row) = world.judged(back).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    let now = world.docker.inspect(&app.name).await.unwrap();
    assert_eq!(now.image.unwrap(), first);
    assert_eq!(now.config.unwrap().image.unwrap(), target);
    assert_eq!(
        world.registry.requests().len(),
        requests,
        "no registry (I-8)"
    );
    let tag = world.docker.client().inspect_image(&target).await.unwrap();
    assert_eq!(tag.id.unwrap(), first, "the tag went back too");
}

#[tokio::test]
async fn a_stopped_container_is_replaced_and_left_stopped() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    world
        .docker
        .client()
        .stop_container(&app.id, None)
        .await
        .unwrap();
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    let (end, _) = world.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    let now = world.docker.inspect(&app.name).await.unwrap();
    assert_eq!(now.config.unwrap().image.unwrap(), target);
    assert!(!now.state.unwrap().running.unwrap());
}

#[tokio::test]
async fn a_paused_container_is_replaced_and_left_paused() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    world
        .docker
        .client()
        .pause_container(&app.id)
        .await
        .unwrap();
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    let (end, _) = world.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    let now = world.docker.inspect(&app.name).await.unwrap();
    assert!(now.state.unwrap().paused.unwrap());
}

#[tokio::test]
async fn a_missing_image_fails_before_anything_is_touched() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let missing = world.registry.reference("app", "9.9.9");
    let operation = world.request_update(&app, &missing).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::Failed);
    assert!(
        row["last_error"].as_str().unwrap().contains("9.9.9"),
        "{row:#}"
    );
    assert_eq!(world.survivor(&app).await.id, app.id);
}

#[tokio::test]
async fn an_image_for_another_platform_fails_before_anything_is_touched() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let other = Image::app("1.1.0").platform("linux", "s390x");
    let target = world.push("1.1.0", other).await;
    let operation = world.request_update(&app, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::Failed);
    let error = row["last_error"].as_str().unwrap();
    assert!(
        error.contains("s390x") || error.contains("platform"),
        "{error}"
    );
}

#[tokio::test]
async fn every_network_is_attached_again() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let network = world.docker.network(&world.docker.name("extra")).await;
    let request = bollard::models::NetworkConnectRequest {
        container: app.id.clone(),
        ..Default::default()
    };
    world
        .docker
        .client()
        .connect_network(&network, request)
        .await
        .unwrap();
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    let (end, _) = world.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    let now = world.docker.inspect(&app.name).await.unwrap();
    let networks = now.network_settings.unwrap().networks.unwrap();
    assert_eq!(networks.len(), 2, "{networks:?}");
}

#[tokio::test]
async fn a_network_that_is_gone_fails_before_anything_is_touched() {
    let world = World::new().await;
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let client = world.docker.client();
    let network = world.docker.network(&world.docker.name("extra")).await;
    let request = bollard::models::NetworkConnectRequest {
        container: app.id.clone(),
        ..Default::default()
    };
    client.connect_network(&network, request).await.unwrap();
    client.stop_container(&app.id, None).await.unwrap();
    client.remove_network(&network).await.unwrap();
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::Failed);
    let error = row["last_error"].as_str().unwrap();
    assert!(error.contains("extra does not exist"), "{error}");
}

#[tokio::test]
async fn a_second_request_for_a_container_is_refused() {
    let world = World::new().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let first = world.request_update(&app, &target).await;
    let second = world
        .request(&app, OperationKind::Update, &target, None)
        .await;
    assert!(second.unwrap_err().is_constraint(ACTIVE));
    let active = world
        .app
        .store()
        .active_operation(&world.watcher, &app.name)
        .await;
    assert_eq!(active.unwrap(), Some(first));
}
