//! The main job to look at: watch, update, and roll back by itself, on a registry and containers of
//! its own. Exit status 0 only if everything that it announces was observed.

mod app;
mod stage;

use std::process::ExitCode;

use app::{App, Outcome};
use plimsoll_support::docker::Docker;
use plimsoll_support::image::Image;
use plimsoll_support::registry::Registry;
use plimsoll_support::server::Server;
use stage::{ensure, say, show_containers, step};

/// What the bad image says before it ends, to be found again in the reason of the rollback.
const LAST_WORDS: &str = "fatal: cannot read /etc/app.conf";
const REPOSITORY: &str = "demo/app";

#[tokio::main]
async fn main() -> ExitCode {
    match demonstrate().await {
        Ok(()) => {
            say("Everything was observed. Cleaning up.");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("\nThe demonstration failed: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate() -> Result<(), String> {
    step("A registry of its own, with the application at 1.0.0");
    let registry = Registry::start().await;
    let docker = Docker::connect().await;
    let publish = async |version: &str, image: Image| {
        let image = image.label("plimsoll.test", docker.id());
        registry.push(REPOSITORY, version, &image).await;
        say(&format!(
            "published {}",
            registry.reference(REPOSITORY, version)
        ));
    };
    publish("1.0.0", Image::app("1.0.0")).await;
    let reference = registry.reference(REPOSITORY, "1.0.0");
    docker.pull(&reference).await;
    let name = docker.name("app");
    docker
        .run_labelled(
            &name,
            &reference,
            &[("dd.watch", "true"), ("dd.update.stability", "3")],
        )
        .await;
    show_containers(&docker)?;

    step("Plimsoll, all in one, with a database and a queue of its own");
    let server = Server::all_in_one()
        .env("PLIMSOLL_ANONYMOUS_AUTH_CONFIRM", "true")
        // This host's other containers are none of the demonstration's business.
        .env("PLIMSOLL_WATCHER_LOCAL_WATCHBYDEFAULT", "false")
        .env("PLIMSOLL_WATCHER_LOCAL_WATCHATSTART", "false")
        .ready()
        .await;
    say(&format!("it serves at {}", server.url("/api/v1")));
    let app = App::new(&server, &name);

    step("1.1.0 is published; the watch finds it");
    publish("1.1.0", Image::app("1.1.0")).await;
    let found = app.watch().await?;
    ensure("the watch finds 1.1.0", found.as_deref() == Some("1.1.0"))?;

    step("The update to 1.1.0, with its phases");
    let outcome = app.update().await?;
    ensure("the update succeeds", outcome.status == "succeeded")?;
    ensure("1.1.0 runs", runs(&docker, &name, "1.1.0").await)?;
    show_containers(&docker)?;

    step("1.2.0 is published: it ends as soon as it is started");
    publish("1.2.0", Image::exits("1.2.0", 3, LAST_WORDS)).await;
    let found = app.watch().await?;
    ensure("the watch finds 1.2.0", found.as_deref() == Some("1.2.0"))?;

    step("The attempt at 1.2.0, which rolls back by itself");
    let outcome = app.update().await?;
    let Outcome {
        status,
        phases,
        reason,
        last_log,
    } = &outcome;
    say(&format!("reason:          {reason}"));
    say(&format!("last log lines:  {last_log}"));
    ensure("the update is rolled back", status == "rolled-back")?;
    ensure(
        "the rollback shows in the phases",
        phases.iter().any(|phase| phase == "rollback-started"),
    )?;
    ensure("there is a reason", !reason.is_empty())?;
    ensure("the last log lines are kept", last_log.contains(LAST_WORDS))?;
    ensure("1.1.0 runs again", runs(&docker, &name, "1.1.0").await)?;
    ensure("nothing else is left", docker.containers().await.len() == 1)?;
    show_containers(&docker)
}

/// Whether the container of that name runs, from that version.
async fn runs(docker: &Docker, name: &str, version: &str) -> bool {
    let Some(found) = docker.inspect(name).await else {
        return false;
    };
    let running = found.state.and_then(|state| state.running).unwrap_or(false);
    let image = found
        .config
        .and_then(|config| config.image)
        .unwrap_or_default();
    running && image.ends_with(&format!(":{version}"))
}
