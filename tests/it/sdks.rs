//! The clients that are generated from `openapi/drydock.json`, each with the program of its README:
//! it signs in with a token, lists, updates, and follows events to the end. In between its
//! connection is cut, as a rolling restart does. A second program reads what is large (bytes), what
//! is text (logs) and what is nothing at all (the answer to a deletion).

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use plimsoll_support::proxy::{Proxy, Upstream};
use plimsoll_support::services::workspace_root;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::world::World;

/// Compiling a client for the first time takes a while.
const PATIENCE: Duration = Duration::from_secs(600);

fn target() -> &'static Path {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().expect("it lies in the target directory")
}

/// Makes the client of `language`, unless it is there already and fresh.
async fn client(language: &str) -> PathBuf {
    let made = Command::new(workspace_root().join("scripts/sdks"))
        .arg(language)
        .env("CARGO_TARGET_DIR", target())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let made = tokio::time::timeout(PATIENCE, made).await;
    let made = made
        .expect("it is made in time")
        .expect("it can be started");
    let log = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{log}");
    target().join("sdks").join(language)
}

/// A program and its arguments, to be told where Plimsoll is.
fn program(line: &[&str], name: &str, url: &str, token: &str) -> Command {
    let mut command = Command::new(line[0]);
    command
        .args(&line[1..])
        .arg(name)
        .env("PLIMSOLL_URL", url)
        .env("PLIMSOLL_TOKEN", token)
        // Python's client is not installed for this.
        .env("PYTHONPATH", target().join("sdks/python"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Nothing is in flight when a program that prints each answer has been silent for so long.
const QUIET: Duration = Duration::from_secs(1);

/// Runs it to its end; `after` is called once it has printed a line that ends like this, and waits.
async fn run(mut command: Command, (line, after): (&str, impl FnOnce())) -> Output {
    let mut child = command.spawn().expect("the program can be started");
    let mut errors = child.stderr.take().expect("it is piped");
    let errors = tokio::spawn(async move {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text).await;
        text
    });
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let (mut text, mut after) = (String::new(), Some(after));
    let read = async {
        loop {
            let is_there = text.trim_end().ends_with(line) && after.is_some();
            let patience = if is_there { QUIET } else { PATIENCE };
            match tokio::time::timeout(patience, lines.next_line()).await {
                Ok(Ok(Some(next))) => text += &format!("{next}\n"),
                Ok(_) => return child.wait().await,
                Err(_) => {
                    if let Some(after) = after.take() {
                        after();
                    }
                }
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(120), read).await;
    let errors = errors.await.unwrap_or_default();
    Output {
        status: ended.expect("it ends").expect("it has a status"),
        stdout: text.into_bytes(),
        stderr: errors,
    }
}

/// What starts the two programs; the container's name comes last.
async fn check(update: &[&str], look: &[&str]) {
    let world = World::start().await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    // Long enough at the gate that the connection can be cut there.
    let labels = [("dd.update.stability", "4")];
    let id = world.run("app", &image, &labels).await;
    let container = world.watch(&id).await;
    assert_eq!(container["updateAvailable"], true, "{container:#}");
    let name = container["name"].as_str().expect("it has a name");

    let refused = program(update, name, &world.api.url(""), "not-a-token");
    let refused = run(refused, ("", || {})).await;
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{errors}");
    assert!(errors.contains("401"), "{errors}");

    let address = world.api.url("").replace("http://", "");
    let upstream = Upstream::Tcp(address.parse().expect("an address"));
    let proxy = Proxy::tcp(upstream).await;
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let updated = program(update, name, &url, &world.token);
    let updated = run(updated, (": health-gate", || proxy.cut())).await;
    let text = String::from_utf8_lossy(&updated.stdout);
    let errors = String::from_utf8_lossy(&updated.stderr);
    assert!(updated.status.success(), "{text}{errors}");
    assert!(text.starts_with("signed in as owner\n"), "{text}");
    assert!(
        text.contains(&format!("{name}: 1.0.0 -> 1.1.0\n")),
        "{text}"
    );
    assert!(text.contains("in-progress: health-gate\n"), "{text}");
    assert!(text.ends_with("succeeded: succeeded\n"), "{text}");
    let running = world.docker.inspect(name).await.expect("it is there");
    let image = running.config.and_then(|config| config.image);
    assert_eq!(image, Some(world.registry.reference("app", "1.1.0")));

    let looked = program(look, name, &world.api.url(""), &world.token);
    let looked = run(looked, ("", || {})).await;
    let text = String::from_utf8_lossy(&looked.stdout);
    let errors = String::from_utf8_lossy(&looked.stderr);
    assert!(looked.status.success(), "{text}{errors}");
    assert!(text.ends_with(" bytes\nstarted\n"), "{text}");
    let tokens = world.get("/api/v1/tokens").await;
    assert!(!tokens.text.contains("\"look\""), "{}", tokens.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client_updates_a_container() {
    let examples = client("typescript").await.join("examples");
    let path = |name: &str| examples.join(name).display().to_string();
    check(&["node", &path("update.js")], &["node", &path("look.js")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_updates_a_container() {
    let examples = client("python").await.join("examples");
    let path = |name: &str| examples.join(name).display().to_string();
    let python = target().join("tools/sdks/python/bin/python");
    let python = python.to_str().expect("UTF-8");
    let update = [python, "-u", &path("update.py")];
    check(&update, &[python, &path("look.py")]).await;
}

/// Both programs of a client whose programs are compiled.
async fn check_compiled(language: &str) {
    let bin = client(language).await.join("bin");
    let path = |name: &str| bin.join(name).display().to_string();
    check(&[&path("update")], &[&path("look")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_client_updates_a_container() {
    check_compiled("go").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_updates_a_container() {
    check_compiled("rust").await;
}

/// The README of each shows the program that is tested.
#[test]
fn each_readme_shows_the_program() {
    for (language, program) in [
        ("typescript", "examples/update.ts"),
        ("python", "examples/update.py"),
        ("go", "examples/update/main.go"),
        ("rust", "examples/update.rs"),
    ] {
        let read = |file: &str| {
            let path = workspace_root().join("sdks").join(language).join(file);
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
        };
        let (readme, program) = (read("README.md"), read(program));
        assert!(
            readme.contains(&program),
            "sdks/{language}/README.md shows another program"
        );
    }
}
