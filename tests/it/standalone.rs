//! The all-in-one process and the servers it looks after.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll_support::server::Server;
use plimsoll_support::wait;

const LIMIT: Duration = Duration::from_secs(60);

/// Without a watcher: the engine's containers belong to other tests.
fn plimsoll() -> Server {
    Server::all_in_one().env("PLIMSOLL_LOCAL_WATCHER", "false")
}

async fn started() -> Server {
    let server = plimsoll().spawn();
    server.wait_for_log("Plimsoll is ready", LIMIT).await;
    server
}

/// The processes that work in a directory below `data`, by their first number in a pid file.
fn child(data: &Path, pid_file: &str) -> Option<i32> {
    let text = std::fs::read_to_string(data.join(pid_file)).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Every process that works below `data`, whatever started it.
fn processes_below(data: &Path) -> Vec<i32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let home = std::fs::read_link(entry.path().join("cwd")).ok()?;
            home.starts_with(data).then_some(pid)
        })
        .collect()
}

#[tokio::test]
async fn a_killed_parent_leaves_no_server_behind() {
    let mut server = started().await;
    let data = server.data_dir();
    assert!(processes_below(&data).len() >= 2);
    server.kill();
    wait::until_true("the children's end", LIMIT, || async {
        processes_below(&data).is_empty()
    })
    .await;
}

#[tokio::test]
async fn it_starts_again_at_once_after_being_killed() {
    let mut server = started().await;
    server.kill();
    server.start();
    wait::until_true("the second start", LIMIT, || async {
        server.log().matches("Plimsoll is ready").count() == 2
    })
    .await;
}

#[tokio::test]
async fn a_second_instance_on_the_same_data_is_refused_by_name() {
    let first = started().await;
    let mut second = plimsoll()
        .env("PLIMSOLL_DATA_DIR", first.data_dir().display())
        .spawn();
    let status = wait::until("the refusal", LIMIT, || {
        let status = second.exited();
        async move { status }
    })
    .await;
    assert!(!status.success());
    let log = second.log();
    assert!(
        log.contains("another plimsoll") && log.contains(&first.pid().to_string()),
        "{log}"
    );
}

#[tokio::test]
async fn a_crashed_server_is_started_again() {
    let server = started().await;
    let data = server.data_dir();
    for pid_file in ["postgres/postmaster.pid", "redis/redis.pid"] {
        let crashed = child(&data, pid_file).unwrap();
        kill(Pid::from_raw(crashed), Signal::SIGKILL).unwrap();
        wait::until_true(pid_file, LIMIT, || async {
            child(&data, pid_file).is_some_and(|pid| pid != crashed)
        })
        .await;
    }
}

#[tokio::test]
async fn it_stops_in_order_when_asked() {
    let mut server = started().await;
    let data = server.data_dir();
    let status = server.terminate(LIMIT).await;
    assert!(status.success(), "{}", server.log());
    assert!(processes_below(&data).is_empty());
    let log = std::fs::read_to_string(data.join("postgres.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = started().await;
    let mut second = plimsoll()
        .env("PLIMSOLL_LISTEN", format!("127.0.0.1:{}", first.port()))
        .spawn();
    let status = wait::until("the refusal", LIMIT, || {
        let status = second.exited();
        async move { status }
    })
    .await;
    assert!(!status.success());
    let address = format!("127.0.0.1:{}", first.port());
    assert!(second.log().contains(&address), "{}", second.log());
}

#[tokio::test]
async fn an_unknown_setting_ends_the_start_and_is_named() {
    let mut server = plimsoll().env("PLIMSOLL_SERVER_PROT", "1").spawn();
    let status = wait::until("the refusal", LIMIT, || {
        let status = server.exited();
        async move { status }
    })
    .await;
    assert!(!status.success());
    let log = server.log();
    assert!(
        log.contains("PLIMSOLL_SERVER_PROT") && log.contains("PLIMSOLL_SERVER_PORT"),
        "{log}"
    );
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_crash_and_the_password_is_shown_once() {
    let mut server = started().await;
    server.wait_for_log("password", LIMIT).await;
    server.wait_healthy(LIMIT).await;
    server.kill();
    server.start();
    server.wait_healthy(LIMIT).await;
    // The owner is known again: nothing is generated a second time, before it is ready or after.
    wait::until_true("the second start", LIMIT, || async {
        server.log().matches("Plimsoll is ready").count() == 2
    })
    .await;
    let client = reqwest::Client::new();
    let url = server.url("/auth/user");
    wait::until_true("the accounts", LIMIT, || async {
        let answer = client.get(&url).send().await;
        answer.is_ok_and(|answer| answer.status() == 401)
    })
    .await;
    assert_eq!(
        server.log().matches("is shown this once").count(),
        1,
        "{}",
        server.log()
    );
}
