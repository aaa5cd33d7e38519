//! `plimsoll-api` as people run it.

use std::{
    process::{Command, Output},
    time::Duration,
};

use plimsoll_support::{
    postgres::Database,
    redis::Redis,
    server::{Server, binary},
};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    Command::new(binary("plimsoll-api"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(directory.path())
        .output()
        .unwrap()
}

#[tokio::test]
async fn an_empty_database_is_migrated_once() {
    let database = Database::empty().await;
    let environment = [("DATABASE_URL", database.url())];
    let first = run(&["migrate"], &environment);
    assert!(first.status.success(), "{first:?}");
    assert!(String::from_utf8_lossy(&first.stdout).contains("applied"));
    let again = run(&["migrate"], &environment);
    assert!(String::from_utf8_lossy(&again.stdout).contains("the schema is up to date"));
}

#[tokio::test]
async fn it_serves_tells_the_owners_password_once_and_stops_on_sigterm() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let mut server = Server::api(database.url(), &redis.url()).ready().await;
    let limit = Duration::from_secs(20);
    server.wait_for_log("password  ", limit).await;

    let address = format!("127.0.0.1:{}", server.port());
    let probe = ["healthcheck", "--listen", &address];
    assert!(run(&probe, &[]).status.success());
    assert!(server.terminate(limit).await.success());
    assert!(!run(&probe, &[]).status.success());

    server.start();
    server.wait_healthy(limit).await;
    assert_eq!(server.log().matches("password  ").count(), 1);
}

#[test]
fn the_document_it_prints_is_the_committed_one() {
    let printed = run(&["openapi"], &[]);
    assert!(printed.stdout == plimsoll_api::drydock::spec::COMMITTED.as_bytes());
}

#[test]
fn a_configuration_that_cannot_be_used_is_named() {
    let missing = run(&["serve", "--listen", "127.0.0.1:0"], &[]);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("DATABASE_URL"));
    let refused = run(
        &["serve", "--listen", "127.0.0.1:0"],
        &[
            ("DATABASE_URL", "postgresql://localhost/x"),
            ("REDIS_URL", "redis://localhost"),
            ("DD_AUTH_BASIC_ANN_USER", "ann"),
            (
                "DD_AUTH_BASIC_ANN_HASH",
                "$2y$10$W6ph5Mm5Pz8GgiULbPgzG.37mj9gW6ph5Mm5Pz8GgiULbPgzG37mj",
            ),
        ],
    );
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        text.contains("auth.basic.ann") && text.contains("argon2id"),
        "{text}"
    );
    assert!(!text.contains("W6ph5"), "{text}");
}

#[test]
fn help_names_every_command_and_the_settings() {
    let help = run(&["--help"], &[]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in ["serve", "migrate", "openapi", "healthcheck", "DATABASE_URL"] {
        assert!(text.contains(word), "{word}");
    }
}
