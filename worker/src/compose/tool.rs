//! The real `docker compose`, which alone knows how it hashes a configuration.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::Project;
use crate::command::{Call, run};

/// Where distributions and Docker put it. It is a program of its own that also works without the
/// `docker` command.
const PLACES: [&str; 6] = [
    "/usr/local/lib/docker/cli-plugins/docker-compose",
    "/usr/local/libexec/docker/cli-plugins/docker-compose",
    "/usr/lib/docker/cli-plugins/docker-compose",
    "/usr/libexec/docker/cli-plugins/docker-compose",
    "/usr/local/bin/docker-compose",
    "/usr/bin/docker-compose",
];
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of a project with everything filled in, in bytes.
const MAX_CONFIGURATION: u64 = 16 << 20;

/// `docker compose`, version 2 or later, where there is one.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
}

impl Tool {
    /// Version 1 hashes in another way and is not used.
    pub async fn find() -> Option<Self> {
        for place in PLACES {
            let program = PathBuf::from(place);
            if !program.is_file() {
                continue;
            }
            let arguments = ["version".to_owned(), "--short".to_owned()];
            let Ok(answer) = call(&program, &arguments, b"").await else {
                continue;
            };
            let version = answer.trim().trim_start_matches('v');
            if version.split('.').next().and_then(|n| n.parse().ok()) >= Some(2) {
                return Some(Self { program });
            }
        }
        None
    }

    /// The hash of each service's configuration. It is the value of the label by which `docker
    /// compose up` tells whether to make a container anew.
    ///
    /// `up` hashes what `config` shows, with the files of variables read and with what the
    /// container has of others in its place; `config --hash` alone knows nothing of either. So it
    /// is asked about what `config` has shown.
    ///
    /// # Errors
    /// What `docker compose` says.
    pub async fn hashes(
        &self,
        project: &Project,
        with: Substitute<'_>,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut arguments = about(project);
        let mut input = String::new();
        let mut kept = None;
        let mut environment: Vec<&Path> = project.environment_files.iter().map(|f| &**f).collect();
        if let Substitute::Environment(path, text) = with {
            let own = Kept::write(text).map_err(|error| error.to_string())?;
            let own: &Path = &kept.insert(own).path;
            match environment.iter_mut().find(|file| **file == path) {
                Some(file) => *file = own,
                // The one that Compose reads without being told.
                None => environment.push(own),
            }
        }
        let environment: Vec<String> = environment
            .into_iter()
            .map(|file| format!("--env-file={}", file.display()))
            .collect();
        arguments.extend(environment.iter().cloned());
        for file in &project.files {
            match with {
                Substitute::File(path, text) if path == file => {
                    arguments.push("--file=-".to_owned());
                    input = text.to_owned();
                }
                _ => arguments.push(format!("--file={}", file.display())),
            }
        }
        if let Substitute::Image(image) = with {
            arguments.push("--file=-".to_owned());
            let service = &project.service;
            input = serde_json::json!({ "services": { service: { "image": image } } }).to_string();
        }
        let resolved = self.resolved(project, arguments.clone(), &input).await;
        let answer = match resolved {
            Ok(all) => {
                let mut arguments = about(project);
                arguments.extend(environment);
                // It is normal already, and ids are no names of services.
                let options = ["--no-normalize", "--no-consistency", "--hash=*"];
                arguments.extend(["--file=-", "config"].map(str::to_owned));
                arguments.extend(options.map(str::to_owned));
                call(&self.program, &arguments, all.to_string().as_bytes()).await?
            }
            // A file of variables that is not here, and it may be of another service.
            Err(_) if project.borrowed.is_empty() => {
                arguments.extend(["config", "--hash=*"].map(str::to_owned));
                call(&self.program, &arguments, input.as_bytes()).await?
            }
            Err(why) => return Err(why),
        };
        drop(kept);
        let mut hashes = BTreeMap::new();
        for line in answer.lines() {
            let mut words = line.split_whitespace();
            let (service, hash) = (words.next(), words.next().unwrap_or_default());
            let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            match service.filter(|_| is_hash) {
                Some(service) => hashes.insert(service.to_owned(), hash.to_owned()),
                None => return Err(format!("docker compose named no hash: {line}")),
            };
        }
        match hashes.contains_key(&project.service) {
            true => Ok(hashes),
            false => Err(format!(
                "docker compose knows no service {}",
                project.service
            )),
        }
    }

    /// The whole project with everything filled in, also what the container has of others.
    async fn resolved(
        &self,
        project: &Project,
        mut arguments: Vec<String>,
        input: &str,
    ) -> Result<Value, String> {
        let kept = Kept::write("").map_err(|error| error.to_string())?;
        arguments.extend(["config", "--format=json"].map(str::to_owned));
        arguments.push(format!("--output={}", kept.path.display()));
        call(&self.program, &arguments, input.as_bytes()).await?;
        let mut all = kept.read()?;
        if let Some(service) = all["services"].get_mut(&project.service) {
            project.borrowed.put_into(service);
        }
        Ok(all)
    }
}

fn about(project: &Project) -> Vec<String> {
    vec![
        format!("--project-name={}", project.name),
        format!("--project-directory={}", project.directory.display()),
        "--profile=*".to_owned(),
    ]
}

/// What is to be taken as if it were written.
#[derive(Clone, Copy, Debug)]
pub enum Substitute<'a> {
    Nothing,
    /// This text of one of the project's files.
    File(&'a Path, &'a str),
    /// This text of one of its files of variables.
    Environment(&'a Path, &'a str),
    /// This image of the service.
    Image(&'a str),
}

/// A file that only we read, until it is dropped.
struct Kept {
    path: PathBuf,
}

impl Kept {
    fn write(text: &str) -> io::Result<Self> {
        let name = format!("plimsoll-{}", uuid::Uuid::new_v4().simple());
        let kept = Self {
            path: std::env::temp_dir().join(name),
        };
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(&kept.path)?.write_all(text.as_bytes())?;
        Ok(kept)
    }

    /// What a program has written there.
    fn read(&self) -> Result<Value, String> {
        let trouble = |why: String| format!("docker compose named no configuration: {why}");
        let file = fs::File::open(&self.path).map_err(|error| trouble(error.to_string()))?;
        let mut text = Vec::new();
        let read = file.take(MAX_CONFIGURATION).read_to_end(&mut text);
        read.map_err(|error| trouble(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| trouble(error.to_string()))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn call(program: &Path, arguments: &[String], input: &[u8]) -> Result<String, String> {
    let environment = [("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned())];
    // Boxed: what it holds is large, and its callers are deep in an operation.
    let finished = Box::pin(run(Call {
        program,
        arguments,
        environment: &environment,
        input,
        timeout: TIMEOUT,
    }))
    .await
    .map_err(|error| error.to_string())?;
    match finished.code {
        Some(0) => Ok(finished.output),
        _ => {
            let why = finished.errors.lines().last().unwrap_or_default();
            let why: String = why.chars().take(300).collect();
            Err(format!("docker compose does not accept it: {why}"))
        }
    }
}
