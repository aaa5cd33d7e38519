//! The real `docker compose`, which alone knows how it hashes a configuration.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

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

    /// The hash of the service's configuration when the file at `path` has this text. It is the
    /// value of the label by which `docker compose up` tells whether to make a container anew.
    ///
    /// # Errors
    /// What `docker compose` says.
    pub async fn config_hash(
        &self,
        project: &Project,
        path: &Path,
        text: &str,
    ) -> Result<String, String> {
        let mut arguments = vec![
            format!("--project-name={}", project.name),
            format!("--project-directory={}", project.directory.display()),
            "--profile=*".to_owned(),
        ];
        for file in &project.environment_files {
            arguments.push(format!("--env-file={}", file.display()));
        }
        for file in &project.files {
            let from_us = file == path;
            let file = file.display().to_string();
            arguments.push(format!("--file={}", if from_us { "-" } else { &file }));
        }
        arguments.push("config".to_owned());
        arguments.push(format!("--hash={}", project.service));
        let answer = call(&self.program, &arguments, text.as_bytes()).await?;
        let line = answer.lines().next().unwrap_or_default();
        let hash = line.split_whitespace().nth(1).unwrap_or_default();
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        match is_hash {
            true => Ok(hash.to_owned()),
            false => Err(format!("docker compose named no hash: {line}")),
        }
    }
}

async fn call(program: &Path, arguments: &[String], input: &[u8]) -> Result<String, String> {
    let finished = run(Call {
        program,
        arguments,
        environment: &[("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned())],
        input,
        timeout: TIMEOUT,
    })
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
