//! Compose projects of many shapes (`tests/compose/projects`), updated through their files by
//! workers that die on the way, and rolled back: of all files nothing changes but the image, and
//! Compose finds nothing left to do. A project with a file `refused` must be left alone, with that
//! as the reason; one with a file `edited` has that as its Compose file afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::wait;
use reqwest::Method;
use tempfile::TempDir;

use crate::fleet::{Fleet, PATIENCE, operation_of, text};
use crate::images::succeeded;
use crate::replica::answer;

/// They mostly wait for leases to run out.
const AT_A_TIME: usize = 6;
/// Those that every container passes, whatever its restart policy.
const POINTS: [&str; 14] = [
    "prepare",
    "rename-old",
    "renamed",
    "create-new",
    "new-created",
    "stop-old",
    "old-stopped",
    "start-new",
    "new-started",
    "health-gate",
    "health-gate-passed",
    "write-file",
    "remove-old",
    "succeeded",
];

struct Project<'a> {
    fleet: &'a Fleet,
    /// Of the case, also of its watcher.
    watcher: String,
    /// As Compose calls it.
    name: String,
    directory: TempDir,
    files: Vec<(PathBuf, String)>,
    refused: Option<String>,
    /// What the Compose file becomes, where more than the tag changes in it.
    edited: Option<String>,
    /// Where its worker dies.
    point: String,
}

impl<'a> Project<'a> {
    /// `number` makes the case one of its own.
    fn of(fleet: &'a Fleet, source: &Path, number: usize, point: String) -> Self {
        let stem = source.file_name().unwrap().to_string_lossy().into_owned();
        let watcher = format!("{}{number}", stem.replace('-', ""));
        let name = fleet.docker.name(&watcher).to_lowercase();
        let id = fleet.docker.id();
        let labels = serde_json::json!({
            "plimsoll.test": id,
            "plimsoll.test.case": format!("{id}-{watcher}"),
            "dd.update.stability": "1",
        });
        let app = fleet.registry.reference("app", "1.0.0");
        let registry = app.strip_suffix("/app:1.0.0").unwrap();
        let subnet = format!("10.213.{}", number % 250);
        let directory = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        let mut refused = None;
        let mut edited = None;
        for path in walk(source) {
            let within = path.strip_prefix(source).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            if within == Path::new("refused") {
                refused = Some(text);
                continue;
            }
            let text = text
                .replace("{labels}", &labels.to_string())
                .replace("{registry}", registry)
                .replace("{project}", &name)
                .replace("{subnet}", &subnet);
            if within == Path::new("edited") {
                edited = Some(text);
                continue;
            }
            let place = directory.path().join(within);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, &text).unwrap();
            files.push((place, text));
        }
        Self {
            fleet,
            watcher,
            name,
            directory,
            files,
            refused,
            edited,
            point,
        }
    }

    async fn compose(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new("docker");
        command.args(["compose", "--project-name", &self.name]);
        if self.directory.path().join("production.env").exists() {
            command.args(["--env-file", "production.env"]);
        }
        command.args(arguments).current_dir(self.directory.path());
        let output = command.output().await.expect("docker is there");
        succeeded(output, arguments)
    }

    /// Of all its containers.
    async fn ids(&self) -> String {
        let all = self.compose(&["ps", "--all", "--quiet", "--no-trunc"]);
        let all = all.await;
        let mut ids: Vec<&str> = all.lines().collect();
        ids.sort_unstable();
        ids.join("\n")
    }

    /// Compose has nothing to do.
    async fn is_settled(&self, after: &str) {
        let before = self.ids().await;
        self.compose(&["up", "--detach"]).await;
        assert_eq!(self.ids().await, before, "{} after {after}", self.watcher);
    }

    fn now(&self) -> Vec<(PathBuf, String)> {
        let read = |(path, _): &(PathBuf, String)| {
            (path.clone(), fs::read_to_string(path).expect("it is there"))
        };
        self.files.iter().map(read).collect()
    }

    /// Of all bytes of all files one has changed: 1.0.0 became 1.1.0.
    fn is_edited(&self) {
        if let Some(edited) = &self.edited {
            let is_it = self.now().iter().all(|(_, text)| text == edited);
            assert!(is_it, "{}: {:?}", self.watcher, self.now());
            return;
        }
        let mut changed = 0;
        for ((path, old), (_, new)) in self.files.iter().zip(self.now()) {
            assert_eq!(old.len(), new.len(), "{}", path.display());
            let bytes = old.bytes().zip(new.bytes()).enumerate();
            for (at, _) in bytes.filter(|(_, (old, new))| old != new) {
                assert_eq!(&old[at - 2..at + 3], "1.0.0", "{}: {new}", self.watcher);
                assert_eq!(&new[at - 2..at + 3], "1.1.0", "{}: {new}", self.watcher);
                changed += 1;
            }
        }
        assert_eq!(changed, 1, "{}", self.watcher);
    }

    fn worker(&self) -> plimsoll_support::server::Server {
        let directory = self.directory.path().display().to_string();
        let worker = self.fleet.worker(&self.watcher);
        worker.env("PLIMSOLL_COMPOSE_DIRECTORIES", directory)
    }

    async fn run(self) {
        let fleet = self.fleet;
        self.compose(&["up", "--detach"]).await;
        let web = format!("{}-web-1", self.name);
        let mut doomed = match &self.refused {
            None => self.worker().env("PLIMSOLL_TEST_CRASH_AT", &self.point),
            Some(_) => self.worker(),
        }
        .spawn();
        let id = fleet.watched(&web).await;
        let path = format!("/containers/{id}/update?composeFile=edit");
        let update = fleet.request(0, Method::POST, &path);
        if let Some(reason) = &self.refused {
            let before = self.ids().await;
            let refused = answer(update).await;
            assert_eq!(refused.status, 500, "{}: {}", self.watcher, refused.text);
            let why = text(&refused.json()["details"], "lastError");
            assert!(why.contains(reason), "{}: {why}", self.watcher);
            assert_eq!(self.now(), self.files);
            assert_eq!(self.ids().await, before);
            return;
        }
        let accepted = answer(update.header("prefer", "respond-async")).await;
        assert_eq!(accepted.status, 202, "{}: {}", self.watcher, accepted.text);
        let operation = operation_of(&accepted);
        let what = format!("{} to die at {}", self.watcher, self.point);
        let dies = || std::future::ready(doomed.exited().is_some());
        wait::until_true(&what, PATIENCE, dies).await;
        let _saviour = self.worker().spawn();
        let (end, row) = fleet.judged(operation).await;
        assert_eq!(end, End::Succeeded, "{what}: {row:#}");
        self.is_edited();
        self.is_settled("the update").await;

        let found = fleet.listed(&web).await;
        let back = answer(fleet.rollback(0, &text(&found, "id"))).await;
        assert_eq!(back.status, 200, "{what}: {}", back.text);
        let mut before = self.files.clone();
        for (_, text) in &mut before {
            // What the service was given of its own stays its own.
            if let Some(edited) = &self.edited {
                *text = edited.replace("1.1.0", "1.0.0");
            }
        }
        assert_eq!(self.now(), before, "{what}");
        self.is_settled("the rollback").await;
        self.compose(&["down", "--volumes", "--timeout", "1"]).await;
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Every second project. Each dies at one point; as `make chaos` has it, at all of them.
async fn every_second(part: usize) {
    let fleet = Fleet::start(1).await;
    for version in ["1.0.0", "1.1.0"] {
        fleet.publish("app", version, Image::app(version)).await;
    }
    let projects = concat!(env!("CARGO_MANIFEST_DIR"), "/compose/projects");
    let entries = fs::read_dir(projects).unwrap();
    let mut sources: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    sources.sort();
    assert!(sources.len() >= 20, "there are {}", sources.len());
    let points = match std::env::var("PLIMSOLL_CHAOS_DEATHS") {
        Ok(_) => POINTS.len(),
        Err(_) => 1,
    };
    let mut cases = Vec::new();
    for (number, source) in sources.iter().enumerate().skip(part).step_by(2) {
        for turn in 0..points {
            let place = number + turn;
            let side = ["before", "after"][(place / POINTS.len() + turn) % 2];
            let point = format!("{}:{side}", POINTS[place % POINTS.len()]);
            let case = turn * sources.len() + number;
            let project = Project::of(&fleet, source, case, point);
            let is_of_use = turn == 0 || project.refused.is_none();
            cases.extend(is_of_use.then_some(project));
        }
    }
    futures::stream::iter(cases)
        .for_each_concurrent(AT_A_TIME, Project::run)
        .await;
}

#[tokio::test]
async fn projects_are_updated_and_rolled_back_in_their_files_whoever_dies() {
    every_second(0).await;
}

#[tokio::test]
async fn others_are_too() {
    every_second(1).await;
}
