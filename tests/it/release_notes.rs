//! Release notes, from a recorded GitHub.

use plimsoll_support::{
    hostile::{Answer, Hostile},
    image::Image,
    postgres::Database,
    redis::Redis,
    server::Server,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{replica, world::World};

const SOURCE: &str = "org.opencontainers.image.source";

/// A release as GitHub's API shows it.
fn release(tag: &str) -> Value {
    json!({
        "url": "https://api.github.com/repos/acme/app/releases/1",
        "html_url": format!("https://github.com/acme/app/releases/tag/{tag}"),
        "id": 1, "tag_name": tag, "name": format!("App {tag}"), "draft": false,
        "prerelease": false, "published_at": "2026-05-01T10:00:00Z",
        "body": "## Fixed\r\n* <script>alert(1)</script>",
        "assets": [], "author": {"login": "octocat"},
    })
}

async fn world(github: &Hostile) -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url());
    let base = format!("http://{}", github.host());
    World::with(database, redis, api, |worker| {
        worker
            .env("DD_RELEASE_NOTES_GITHUB_URL", base)
            .env("DD_RELEASE_NOTES_GITHUB_TOKEN", "a-token-of-github")
    })
    .await
}

/// A watched container of `repository` with an update to `to`, whose image names its source.
async fn container(
    world: &World,
    repository: &str,
    to: &str,
    source: &str,
    labels: &[(&str, &str)],
) -> String {
    for version in ["1.0.0", to] {
        let image = Image::app(version)
            .label("plimsoll.test", world.docker.id())
            .label(
                SOURCE,
                if version == to {
                    source
                } else {
                    "https://github.com/old/old"
                },
            );
        world.registry.push(repository, version, &image).await;
    }
    let reference = world.registry.reference(repository, "1.0.0");
    world.docker.pull(&reference).await;
    let id = world.run(repository, &reference, labels).await;
    world.watch(&id).await;
    id
}

async fn notes(world: &World, id: &str) -> replica::Answer {
    world
        .get(&format!("/api/v1/containers/{id}/release-notes"))
        .await
}

#[tokio::test]
async fn the_notes_of_an_update_are_those_of_its_sources_release() {
    let github = Hostile::start(|asked| match asked.path.as_str() {
        "/repos/acme/app/releases/tags/v1.1.0" => {
            Answer::json(release("v1.1.0").to_string()).with("etag", "\"one\"")
        }
        "/repos/mine/fork/releases/tags/fork-1.1.0" => {
            Answer::json(release("fork-1.1.0").to_string())
        }
        _ => Answer::new(404, r#"{"message":"Not Found"}"#),
    })
    .await;
    let world = world(&github).await;
    let id = container(
        &world,
        "app",
        "1.1.0",
        "https://github.com/acme/app.git",
        &[],
    )
    .await;
    let found = notes(&world, &id).await;
    assert_eq!(found.status, 200, "{}", found.text);
    assert_eq!(
        found.json(),
        json!({
            "title": "App v1.1.0",
            "body": "## Fixed\n* <script>alert(1)</script>",
            "url": "https://github.com/acme/app/releases/tag/v1.1.0",
            "publishedAt": "2026-05-01T10:00:00Z",
            "provider": "github",
        })
    );
    let asked = github.received();
    assert!(
        asked
            .iter()
            .all(|r| r.header("authorization") == Some("Bearer a-token-of-github")),
        "{asked:?}"
    );
    // Everyone who looks at it within the hour costs GitHub nothing.
    let times = asked.len();
    let path = format!("/api/v1/containers/{id}/release-notes");
    let many = (0..10).map(|_| world.get(&path));
    for again in futures::future::join_all(many).await {
        assert_eq!(again.json(), found.json());
    }
    assert_eq!(github.received().len(), times);

    // What the user says counts before what the image says.
    let labels = [("dd.source.repo", "mine/fork")];
    let mine = container(
        &world,
        "other",
        "1.1.0",
        "https://github.com/acme/app",
        &labels,
    )
    .await;
    assert_eq!(notes(&world, &mine).await.json()["title"], "App fork-1.1.0");

    for source in [
        "https://evil.example/acme/app",
        "https://github.com/acme/../secret",
    ] {
        let before = github.received().len();
        let stem = if source.contains("evil") {
            "evil"
        } else {
            "dots"
        };
        let id = container(&world, stem, "1.1.0", source, &[]).await;
        let none = notes(&world, &id).await;
        assert_eq!(
            (none.status, none.error()),
            (404, "Release notes not available".into())
        );
        assert_eq!(github.received().len(), before, "{source}");
    }

    let settings = world
        .authorised(Method::PATCH, "/api/v1/settings")
        .json(&json!({"internetlessMode": true}));
    assert_eq!(replica::answer(settings).await.status, 200);
    let offline = notes(&world, &id).await;
    assert_eq!(offline.status, 404, "{}", offline.text);

    let unknown = notes(&world, &"0".repeat(64)).await;
    assert_eq!(
        (unknown.status, unknown.error()),
        (404, "Container not found".into())
    );
}

#[tokio::test]
async fn the_pause_that_github_asks_for_holds_for_everyone() {
    let github = Hostile::start(|_| {
        Answer::new(403, r#"{"message":"API rate limit exceeded"}"#)
            .with("x-ratelimit-remaining", "0")
            .with("retry-after", "600")
    })
    .await;
    let world = world(&github).await;
    for (stem, times) in [("one", 1), ("two", 1)] {
        let id = container(&world, stem, "1.1.0", "acme/app", &[]).await;
        let limited = notes(&world, &id).await;
        assert_eq!(limited.status, 500, "{}", limited.text);
        assert!(
            limited
                .error()
                .starts_with("Error retrieving release notes (GitHub allows no more"),
            "{}",
            limited.text
        );
        assert_eq!(github.received().len(), times, "{stem}");
    }
}
