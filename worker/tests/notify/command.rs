use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use plimsoll_support::wait;
use tempfile::TempDir;

use super::*;

const SOON: Duration = wait::SOON;

/// A program of this test's.
fn program(directory: &TempDir, text: &str) -> String {
    let path = directory.path().join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn trigger(command: &str, timeout: &str) -> Trigger {
    configured(&[
        ("DD_TRIGGER_COMMAND_X_CMD", command),
        ("DD_TRIGGER_COMMAND_X_TIMEOUT", timeout),
    ])
}

#[tokio::test]
async fn a_program_gets_its_arguments_as_they_stand_and_the_container() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let text = format!("printf '%s|' \"$@\" > {0}; env >> {0}", out.display());
    let command = format!("{} 'a b' \"$HOME;id\" '' `x`", program(&directory, &text));
    send(&trigger(&command, "10000"), &outgoing("Title", "Text"))
        .await
        .unwrap();
    let written = std::fs::read_to_string(&out).unwrap();
    assert!(written.starts_with("a b|$HOME;id||`x`|"), "{written}");
    for line in [
        "name=web",
        "update_kind_local_value=1.0.0",
        "update_kind_remote_value=1.1.0",
        "update_available=true",
        "image_tag_value=1.0.0",
        "result_tag=1.1.0",
        "event=update-available",
        "message_title=Title",
    ] {
        assert!(
            written.lines().any(|found| found == line),
            "{line}: {written}"
        );
    }
    assert!(written.contains("container_json={"), "{written}");
    let foreign = ["CARGO", "DATABASE_URL", "NEXTEST"];
    assert!(
        !foreign.iter().any(|name| written.contains(name)),
        "{written}"
    );
}

#[tokio::test]
async fn a_program_that_fails_is_a_failure_without_its_words() {
    let directory = TempDir::new().unwrap();
    let command = program(&directory, "echo hunter2; echo hunter2 >&2; exit 3");
    let said = failure(&trigger(&command, "10000")).await.why;
    assert!(said.contains('3') && !said.contains("hunter2"), "{said}");
    let said = failure(&trigger("/nowhere/at/all", "10000")).await.why;
    assert!(said.contains("cannot be started"), "{said}");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_with_what_it_started() {
    let directory = TempDir::new().unwrap();
    let pid = directory.path().join("pid");
    let text = format!("sleep 1000 & echo $! > {}; wait", pid.display());
    let said = failure(&trigger(&program(&directory, &text), "300"))
        .await
        .why;
    assert!(said.contains("killed"), "{said}");
    let child = std::fs::read_to_string(&pid).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    wait::until_true("the child to be gone", SOON, async || {
        let state = std::fs::read_to_string(Path::new(&stat)).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    })
    .await;
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let directory = TempDir::new().unwrap();
    let pid = directory.path().join("pid");
    let text = format!("sleep 1000 & echo $! > {}", pid.display());
    send(
        &trigger(&program(&directory, &text), "10000"),
        &outgoing("t", "b"),
    )
    .await
    .unwrap();
    let child = std::fs::read_to_string(&pid).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    wait::until_true("the child to be gone", SOON, async || {
        let state = std::fs::read_to_string(Path::new(&stat)).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    })
    .await;
}
