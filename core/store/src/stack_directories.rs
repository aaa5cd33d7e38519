//! What configured directories on the hosts of workers describe: Compose projects, whether or not
//! they were ever started.

use plimsoll_domain::{ids::WatcherRef, stack::Described};

use crate::{Client, Store, StoreError};

statements! {
    /// What a directory that cannot be read held is kept.
    WRITE = "WITH gone AS (DELETE FROM stack_directories
                            WHERE agent = $1 AND watcher = $2 AND directory <> ALL($3))
             INSERT INTO stack_directories (agent, watcher, directory, stacks, problem)
             SELECT $1, $2, found.* FROM unnest($3::text[], $4::jsonb[], $5::text[]) found
             ON CONFLICT (agent, watcher, directory) DO UPDATE
                SET stacks = coalesce(excluded.stacks, stack_directories.stacks),
                    problem = excluded.problem, updated_at = now()
              WHERE stack_directories.problem IS DISTINCT FROM excluded.problem
                 OR stack_directories.stacks
                    IS DISTINCT FROM coalesce(excluded.stacks, stack_directories.stacks)";
    READ = "SELECT v.version, d.agent, d.watcher, d.directory, d.stacks::text AS stacks, d.problem
              FROM stack_directories_version v LEFT JOIN stack_directories d ON d.stacks IS NOT NULL
             ORDER BY d.agent, d.watcher, d.directory";
}

/// One configured directory, as a worker found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackDirectory {
    pub path: String,
    /// What it holds; or why it cannot be read, for people.
    pub found: Result<Vec<Described>, String>,
}

/// Everything that directories describe, as of this version.
#[derive(Debug)]
pub struct DescribedStacks {
    pub version: i64,
    /// By agent, watcher, configured directory and place in it.
    pub stacks: Vec<(WatcherRef, Described)>,
}

impl Store {
    /// These are the watcher's directories, and there are no others.
    pub async fn write_stack_directories(
        &self,
        watcher: &WatcherRef,
        directories: &[StackDirectory],
    ) -> Result<(), StoreError> {
        let paths: Vec<&str> = directories.iter().map(|one| one.path.as_str()).collect();
        let stacks: Vec<_> = directories
            .iter()
            .map(|one| one.found.as_ref().ok().map(tokio_postgres::types::Json))
            .collect();
        let problems: Vec<_> = directories
            .iter()
            .map(|one| one.found.as_ref().err())
            .collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(WRITE).await?;
        client
            .execute(
                &statement,
                &[&watcher.agent, &watcher.name, &paths, &stacks, &problems],
            )
            .await?;
        Ok(())
    }
}

/// What replicas keep until `Mark::stacks_version` says that it has changed. Where a directory
/// cannot be read, each of its projects says so.
pub async fn read(client: &Client) -> Result<DescribedStacks, StoreError> {
    let statement = client.prepare_cached(READ).await?;
    let mut all = DescribedStacks {
        version: 0,
        stacks: Vec::new(),
    };
    for row in client.query(&statement, &[]).await? {
        all.version = row.get("version");
        let Some(stacks) = row.get::<_, Option<&str>>("stacks") else {
            continue;
        };
        let watcher = WatcherRef {
            agent: row.get("agent"),
            name: row.get("watcher"),
        };
        let directory: &str = row.get("directory");
        let stacks: Vec<Described> = match serde_json::from_str(stacks) {
            Ok(stacks) => stacks,
            // One row that this version cannot read must not take the others away.
            Err(error) => {
                tracing::error!(%watcher, directory, %error, "left a directory of stacks out");
                continue;
            }
        };
        let problem: Option<&str> = row.get("problem");
        all.stacks.extend(stacks.into_iter().map(|mut stack| {
            if let Some(problem) = problem {
                stack.problem = Some(problem.to_owned());
            }
            (watcher.clone(), stack)
        }));
    }
    Ok(all)
}
