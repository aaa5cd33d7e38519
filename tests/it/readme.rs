//! What the README says, done in its smallest form.

use std::time::Duration;

use plimsoll_support::docker::Docker;
use plimsoll_support::image::Image;
use plimsoll_support::registry::Registry;
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::fleet::{PATIENCE, text};
use crate::replica::{Answer, answer};

const README: &str = include_str!("../../README.md");

/// The README's code blocks, as lines.
fn blocks() -> Vec<Vec<&'static str>> {
    let fenced = README.split("```").skip(1).step_by(2);
    fenced.map(|block| block.trim().lines().collect()).collect()
}

/// What the README promises of the first start, with `…` for what is different each time.
fn greeting() -> Vec<&'static str> {
    let is_greeting = |block: &Vec<&str>| block.iter().any(|line| line.contains("is ready"));
    blocks()
        .into_iter()
        .find(is_greeting)
        .expect("it says what is printed")
}

/// The lines of the README that are requests.
fn requests() -> Vec<&'static str> {
    let all = blocks().into_iter().flatten();
    all.filter(|line| line.starts_with("curl ")).collect()
}

/// What `line` of the README does, with its placeholders filled in.
async fn curl(line: &str, server: &Server, password: &str, id: &str) -> Answer {
    let line = line
        .replace("http://127.0.0.1:3000", &server.url(""))
        .replace("PASSWORD", password)
        .replace("/ID/", &format!("/{id}/"));
    let (mut method, mut url, mut user) = (Method::GET, String::new(), None);
    let mut words = line.split_whitespace().skip(1);
    while let Some(word) = words.next() {
        match word {
            "-X" => method = words.next().unwrap().parse().unwrap(),
            "-u" => user = words.next().unwrap().split_once(':'),
            _ if word.starts_with("http") => url = word.to_owned(),
            _ => panic!("the README uses an option that this test does not know: {line}"),
        }
    }
    let (name, password) = user.expect("the README signs in");
    answer(
        Client::new()
            .request(method, url)
            .basic_auth(name, Some(password)),
    )
    .await
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list["data"]
        .as_array()?
        .iter()
        .find(|one| one["name"] == name)
}

#[tokio::test]
async fn the_readmes_commands_lead_from_an_empty_directory_to_an_update() {
    let (docker, registry) = (Docker::connect().await, Registry::start().await);
    for version in ["1.0.0", "1.1.0"] {
        let image = Image::app(version).label("plimsoll.test", docker.id());
        registry.push("app", version, &image).await;
    }
    let reference = registry.reference("app", "1.0.0");
    docker.pull(&reference).await;
    let name = docker.name("app");
    let labels = [("dd.update.stability", "1")];
    docker.run_labelled(&name, &reference, &labels).await;

    let mut server = Server::all_in_one()
        .env(
            "PLIMSOLL_WATCHER_LOCAL_SCOPE",
            format!("plimsoll.test={}", docker.id()),
        )
        .env("PLIMSOLL_WATCHER_LOCAL_CRON", "0 0 1 1 *")
        .env("PLIMSOLL_WATCHER_LOCAL_WATCHATSTART", "false")
        .ready()
        .await;
    server.wait_for_log("password  ", PATIENCE).await;
    let log = server.log();
    let greeting = greeting();
    let ready = greeting[0].replace("http://127.0.0.1:3000", &server.url(""));
    assert!(log.contains(&ready), "{ready} is not in\n{log}");
    let mut password = String::new();
    for line in &greeting[1..] {
        let (before, left_out) = line
            .split_once('…')
            .map_or((*line, false), |(b, _)| (b, true));
        let found = log.split_once(before);
        let (_, rest) = found.unwrap_or_else(|| panic!("no `{before}` in\n{log}"));
        if left_out {
            password = rest.split_whitespace().next().unwrap().to_owned();
        }
    }
    assert!(
        !password.is_empty(),
        "the README shows where the password is told"
    );

    let [list, watch, update] = requests().try_into().expect("three requests");
    let id = wait::until("the container to be listed", PATIENCE, async || {
        let listed = curl(list, &server, &password, "").await;
        assert_eq!(listed.status, 200, "{}", listed.text);
        Some(text(named(&listed.json(), &name)?, "id"))
    })
    .await;
    let watched = curl(watch, &server, &password, &id).await;
    assert_eq!(watched.status, 200, "{}", watched.text);
    let listed = curl(list, &server, &password, "").await.json();
    assert_eq!(
        named(&listed, &name).unwrap()["updateAvailable"],
        true,
        "{listed:#}"
    );
    let updated = curl(update, &server, &password, &id).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    let runs = docker.inspect(&name).await.unwrap().config.unwrap().image;
    assert_eq!(runs.unwrap(), registry.reference("app", "1.1.0"));
    let docs = answer(Client::new().get(server.url("/api/v1/docs"))).await;
    assert!(docs.status == 200 || docs.status == 401, "{}", docs.text);

    assert!(server.terminate(Duration::from_secs(30)).await.success());
    server.start();
    server.wait_healthy(PATIENCE).await;
    let log = server.log();
    assert_eq!(log.matches(&ready).count(), 2, "{log}");
    assert_eq!(
        log.matches(&password).count(),
        1,
        "the password is told once"
    );
    let listed = curl(list, &server, &password, "").await;
    assert_eq!(listed.status, 200, "it is still the password");
    assert!(named(&listed.json(), &name).is_some());
}
