//! Containers that exist only in the database, as large as real ones, written through the same use
//! case as a worker's.

use std::collections::BTreeMap;

use plimsoll_app::{
    App,
    observations::{Observed, WatchOutcome},
};
use plimsoll_domain::{
    container::{
        ContainerFacts, Details, DigestFacts, ImageFacts, RegistryFacts, SemverDiff, TagFacts,
        TagPrecision, WatchResult,
    },
    ids::{ContainerId, WatcherRef},
    redact::EnvVar,
};

/// Containers that one transaction writes: no statement may take longer than five seconds.
const AT_ONCE: usize = 500;

/// Writes `count` running containers, each with an update available.
pub async fn write(
    app: &App,
    watcher: &WatcherRef,
    count: usize,
) -> anyhow::Result<Vec<ContainerId>> {
    let fleet: Vec<ContainerFacts> = (0..count).map(|n| facts(watcher, n)).collect();
    for part in fleet.chunks(AT_ONCE) {
        let observed = Observed {
            present: part.to_vec(),
            gone: Vec::new(),
        };
        app.observe(watcher, &observed).await?;
        let outcomes: Vec<WatchOutcome> = part.iter().cloned().map(outcome).collect();
        app.record_watch(&outcomes, &[]).await?;
    }
    let ids = fleet.into_iter().map(|facts| facts.id).collect();
    Ok(ids)
}

fn outcome(facts: ContainerFacts) -> WatchOutcome {
    WatchOutcome {
        facts,
        result: WatchResult {
            tag: Some("1.1.0".to_owned()),
            semver_diff: Some(SemverDiff::Minor),
            ..WatchResult::default()
        },
        observed_at: chrono::Utc::now(),
    }
}

fn facts(watcher: &WatcherRef, n: usize) -> ContainerFacts {
    let id = format!("{n:064x}");
    let labels: BTreeMap<String, String> = (0..12)
        .map(|i| {
            (
                format!("org.example.team.label-{i}"),
                format!("a value as long as such values tend to be, number {n}-{i}"),
            )
        })
        .collect();
    let env = (0..12)
        .map(|i| EnvVar::observed(format!("SETTING_{i}"), format!("/srv/data/{n}/{i}/path")))
        .collect();
    ContainerFacts {
        id: ContainerId::parse(&id).expect("64 hexadecimal digits"),
        name: format!("service-{n:04}"),
        watcher: watcher.clone(),
        status: "running".to_owned(),
        health: None,
        created: Some(chrono::Utc::now()),
        image: ImageFacts {
            id: format!("sha256:{n:064x}"),
            registry: RegistryFacts {
                name: "custom".to_owned(),
                url: "http://localhost:5000/v2".to_owned(),
                lookup_image: None,
            },
            name: format!("bench/service-{n:04}"),
            tag: TagFacts {
                value: "1.0.0".to_owned(),
                semver: true,
                tag_precision: TagPrecision::Specific,
            },
            digest: DigestFacts {
                repo: Some(format!("sha256:{n:064x}")),
                ..DigestFacts::default()
            },
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            variant: None,
            created: Some(chrono::Utc::now()),
            is_local_image: false,
        },
        rules: Default::default(),
        labels,
        source_repo: None,
        details: Details {
            ports: vec!["0.0.0.0:8080->80/tcp".to_owned()],
            volumes: vec![format!("/srv/{n}:/data:rw")],
            env,
            started_at: Some(chrono::Utc::now()),
        },
        compose: None,
        wiring: Default::default(),
        compose_image: None,
        compose_labels: None,
        auto_remove: false,
        manager: None,
    }
}

/// What one watch cycle writes when it finds something new for every container.
pub async fn watch_again(
    app: &App,
    watcher: &WatcherRef,
    count: usize,
    round: usize,
) -> anyhow::Result<()> {
    let outcomes: Vec<WatchOutcome> = (0..count)
        .map(|n| {
            let mut found = outcome(facts(watcher, n));
            found.result.tag = Some(format!("1.1.{round}"));
            found
        })
        .collect();
    app.record_watch(&outcomes, &[]).await?;
    Ok(())
}
