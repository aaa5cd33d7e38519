//! The programs that docs/automation.md shows, as it shows them, against a live server.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use plimsoll_support::image::Image;
use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use tokio::process::Command;

use crate::world::{SOON, World};

const PAGE: &str = include_str!("../../docs/automation.md");
const SECRET: &str = "the secret of build systems";
const PATIENCE: Duration = Duration::from_secs(120);

/// The shell programs of the page, in its order.
fn programs() -> Vec<&'static str> {
    let fenced = PAGE.split("```").skip(1).step_by(2);
    fenced
        .filter_map(|block| block.strip_prefix("sh\n"))
        .collect()
}

async fn run(world: &World, program: &Path, arguments: &[&str]) -> Output {
    let run = Command::new("sh")
        .arg(program)
        .args(arguments)
        .env("PLIMSOLL_URL", world.api.url(""))
        .env("PLIMSOLL_TOKEN", &world.token)
        .env("PLIMSOLL_WEBHOOK_SECRET", SECRET)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(PATIENCE, run).await;
    run.expect("it ends").expect("it can be started")
}

fn shown(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn the_pages_programs_update_a_container_and_know_the_verdict() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url())
        .env("DD_SERVER_WEBHOOK_ENABLED", "true")
        .env("DD_SERVER_WEBHOOK_SECRET", SECRET);
    let world = World::with(database, redis, api, |worker| worker).await;
    let directory = tempfile::tempdir().unwrap();
    let [update, tell] = programs().try_into().expect("two programs");
    let image = world.publish("app", &["1.0.0"]).await;
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let labels = [("dd.update.stability", "1")];
    let id = world.run("app", &image, &labels).await;
    let name = world.docker.name("app");
    let update = file("plimsoll-update", update);
    let update = async |arguments: &[&str]| shown(&run(&world, &update, arguments).await);

    let (code, _, errors) = update(&["no-such-container"]).await;
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("there is no container"), "{errors}");
    let (code, text, errors) = update(&[&name]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(text, format!("{name} runs what is newest\n"));

    // Somebody pushes.
    let push = async |version: &str, image: Image| {
        let image = image.label("plimsoll.test", world.docker.id());
        world.registry.push("app", version, &image).await;
    };
    push("1.1.0", Image::app("1.1.0")).await;
    let pushed = world.registry.reference("app", "1.1.0");
    let tell = tell.replace("registry.example.org/shop/web:1.2.0", &pushed);
    assert!(tell.contains(&pushed));
    let (code, text, errors) = shown(&run(&world, &file("tell", &tell), &[]).await);
    assert_eq!(code, Some(0), "{text} {errors}");
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["result"]["total"], 1, "{answer:#}");
    wait::until_true("the check that was told of", SOON, async || {
        let path = format!("/api/v1/containers/{id}");
        world.get(&path).await.json()["updateAvailable"] == true
    })
    .await;
    let (code, text, errors) = update(&[&name, "run-1"]).await;
    assert_eq!(code, Some(0), "{text} {errors}");
    assert!(
        text.ends_with(&format!("{name}: 1.0.0 -> 1.1.0\n")),
        "{text}"
    );

    push("1.2.0", Image::exits("1.2.0", 3, "cannot start")).await;
    let (code, text, errors) = update(&[&name, "run-2"]).await;
    assert_eq!(code, Some(1), "{text} {errors}");
    assert!(errors.contains(": rolled-back: "), "{errors}");
    assert!(errors.contains("cannot start"), "{errors}");
}
