//! The images of the Dockerfile, on the real engine, through a local registry.
//! `scripts/images debug` builds them from the binaries that the other tests start.

use std::{process::Output, time::Duration};

use plimsoll_support::{docker::Docker, registry::Registry, server::target, wait};
use reqwest::Method;

use crate::{
    replica::{Answer, answer},
    world::password_in,
};

/// As in the Dockerfile: who runs in all three.
const USER: &str = "65532:65532";
const SOON: Duration = wait::SOON;

/// The id of an image that `scripts/images` built.
pub fn built(name: &str) -> String {
    let path = target().join(format!("images/{name}.id"));
    let id = std::fs::read_to_string(&path)
        .unwrap_or_else(|_| panic!("{path:?} is not there: run `scripts/images debug`"));
    id.trim().to_owned()
}

/// Pushes what was built, takes its name away and returns the name to pull it by.
pub async fn published(registry: &Registry, name: &str) -> String {
    let reference = registry.reference(name, "test");
    docker(&["tag", &built(name), &reference]).await;
    docker(&["push", "--quiet", &reference]).await;
    docker(&["rmi", "--force", "--no-prune", &reference]).await;
    reference
}

/// Docker's own command, as its users have it. The answer is its standard output.
pub async fn docker(arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new("docker");
    succeeded(command.args(arguments).output().await.unwrap(), arguments)
}

pub fn succeeded(output: Output, what: &[&str]) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {what:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn images_are_small_unprivileged_and_say_what_they_are() {
    for name in ["plimsoll", "plimsoll-api", "plimsoll-worker"] {
        let id = built(name);
        let image: serde_json::Value =
            serde_json::from_str(&docker(&["image", "inspect", &id]).await).unwrap();
        let config = &image[0]["Config"];
        assert_eq!(config["User"], USER, "{name}");
        assert_eq!(config["StopSignal"], "SIGTERM", "{name}");
        let check = config["Healthcheck"]["Test"][2].as_str();
        assert_eq!(check, Some("healthcheck"), "{name}: by the binary itself");
        assert_eq!(config["Labels"]["org.opencontainers.image.title"], name);
        let version = &config["Labels"]["org.opencontainers.image.version"];
        assert_eq!(version, env!("CARGO_PKG_VERSION"), "{name}");
    }
    // Nothing but the program is in it, so that the rest is a few libraries and certificates.
    let listed = docker(&["create", &built("plimsoll-api")]).await;
    let files = tokio::process::Command::new("docker")
        .args(["export", &listed])
        .output()
        .await
        .unwrap()
        .stdout;
    docker(&["rm", &listed]).await;
    let id = built("plimsoll-api");
    let size = docker(&["image", "inspect", "--format", "{{.Size}}", &id]).await;
    let size: usize = size.parse().unwrap();
    let stripped =
        size_in_tar(&files, "usr/bin/plimsoll-api").expect("the program is in the image");
    assert!(
        size - stripped < 6_000_000,
        "{size} bytes, of them {stripped} the program"
    );
    assert!(size_in_tar(&files, "bin/sh").is_none(), "no shell");
}

/// The size of a file in an uncompressed tarball.
fn size_in_tar(tar: &[u8], path: &str) -> Option<usize> {
    let header = tar
        .chunks_exact(512)
        .find(|block| block.starts_with(path.as_bytes()) && block[path.len()] == 0)?;
    let octal = std::str::from_utf8(&header[124..135]).ok()?;
    usize::from_str_radix(octal.trim_matches(['\0', ' ']), 8).ok()
}

#[tokio::test]
async fn one_image_is_a_whole_installation_that_survives_its_container() {
    let (engine, registry) = (Docker::connect().await, Registry::start().await);
    let image = published(&registry, "plimsoll").await;
    let name = engine.name("plimsoll");
    let volume = engine.name("data");
    let labels: Vec<String> = engine
        .labels()
        .iter()
        .map(|(key, value)| format!("--label={key}={value}"))
        .collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    docker(&[&["volume", "create"], labels.as_slice(), &[&volume]].concat()).await;
    let group = docker_group();
    let scope = format!(
        "--env=PLIMSOLL_WATCHER_LOCAL_SCOPE=plimsoll.test={}",
        engine.id()
    );
    let mount = format!("--volume={volume}:/var/lib/plimsoll");
    let run = [
        labels.as_slice(),
        &[
            "--read-only",
            "--tmpfs=/tmp",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--publish=127.0.0.1::3000",
            "--volume=/var/run/docker.sock:/var/run/docker.sock",
            &mount,
            &group,
            &scope,
        ],
    ]
    .concat();
    let start = || async {
        let arguments = [
            &["run", "--detach", "--name", &name],
            run.as_slice(),
            &[&image],
        ]
        .concat();
        docker(&arguments).await;
        wait::until_true("the container to be healthy", SOON, async || {
            let format = "--format={{.State.Health.Status}}";
            docker(&["inspect", format, &name]).await == "healthy"
        })
        .await;
        docker(&["port", &name, "3000/tcp"]).await
    };
    let address = start().await;
    let password = password_in(&docker_logs(&name).await).expect("the first start tells it");
    let me = engine.inspect(&name).await.unwrap().id.unwrap();
    let listed = |address: String, id: String| {
        let password = password.clone();
        async move {
            ask(&address, &password, &format!("/api/v1/containers/{id}"))
                .await
                .status
                == 200
        }
    };
    wait::until_true("it to list itself", SOON, || {
        listed(address.clone(), me.clone())
    })
    .await;

    docker(&["stop", "--time=30", &name]).await;
    let code = docker(&["inspect", "--format={{.State.ExitCode}}", &name]).await;
    assert_eq!(code, "0", "it ends in order: {}", docker_logs(&name).await);
    docker(&["rm", &name]).await;
    let address = start().await;
    let me = engine.inspect(&name).await.unwrap().id.unwrap();
    wait::until_true("the next one to know the user", SOON, || {
        listed(address.clone(), me.clone())
    })
    .await;
    docker(&["rm", "--force", &name]).await;
    docker(&["rmi", "--no-prune", &image]).await;
}

async fn ask(address: &str, password: &str, path: &str) -> Answer {
    let url = format!("http://{address}{path}");
    let request = reqwest::Client::new().request(Method::GET, url);
    answer(request.basic_auth("owner", Some(password))).await
}

async fn docker_logs(name: &str) -> String {
    let output = tokio::process::Command::new("docker")
        .args(["logs", name])
        .output()
        .await
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Whoever may use the engine's socket: its group.
fn docker_group() -> String {
    use std::os::unix::fs::MetadataExt;
    let socket = std::fs::metadata("/var/run/docker.sock").expect("the engine's socket is there");
    format!("--group-add={}", socket.gid())
}
