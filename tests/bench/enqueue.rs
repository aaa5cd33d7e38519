//! Durable update requests, each for another container. They are made to `plimsoll` with its own
//! Postgres, which syncs every commit to the disk; its worker has no watcher, so what is measured
//! is accepting.

use std::{path::Path, time::Duration};

use plimsoll_app::store::components::{self, Component, ComponentKind};
use plimsoll_domain::ids::WatcherRef;
use plimsoll_support::server::Server;
use tokio_postgres::NoTls;

use crate::{
    fleet, load,
    report::Report,
    setting::{self, Client},
};

const CONTAINERS: usize = 8000;
const CONNECTIONS: usize = 32;
/// For the floor.
const WRITERS: usize = 16;
const ROWS: usize = 250;

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let plimsoll = setting::owned(Server::all_in_one())
        .env("PLIMSOLL_LOCAL_WATCHER", false)
        .ready()
        .await;
    let client = Client::sign_in(&plimsoll).await?;
    let data = plimsoll.data_dir();
    let database = database_url(&data);
    let redis = format!("redis+unix://{}", data.join("redis/redis.sock").display());
    let app = setting::app(&database, &redis)?;
    let connection = app.store().client().await?;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let value: String = connection
            .query_one(&format!("SHOW {setting}"), &[])
            .await?
            .get(0);
        anyhow::ensure!(value == "on", "{setting} is {value}: nothing is durable");
    }
    let trigger = Component {
        agent: String::new(),
        type_: "docker".to_owned(),
        name: "local".to_owned(),
        configuration: serde_json::json!({ "threshold": "all" }),
    };
    components::replace(&connection, ComponentKind::Trigger, "", &[trigger]).await?;
    let ids = fleet::write(&app, &WatcherRef::local("bench"), CONTAINERS).await?;
    let floor = inserts(&database).await?;

    let headers = [
        ("authorization", client.authorization()),
        ("prefer", "respond-async"),
    ];
    let requests: Vec<Vec<u8>> = ids
        .iter()
        .map(|id| load::post(&format!("/api/v1/containers/{id}/update"), &headers))
        .collect();
    let load = load::run(
        plimsoll.port(),
        CONNECTIONS,
        Duration::from_secs(60),
        CONTAINERS,
        move |n| requests[n].clone(),
    )
    .await?;
    let accepted = load.statuses.get(&202).copied().unwrap_or_default();
    anyhow::ensure!(
        accepted == CONTAINERS,
        "only {accepted} were accepted: {:?}",
        load.statuses
    );
    let rows: i64 = connection
        .query_one(
            "SELECT count(*) FROM jobs WHERE operation_id IS NOT NULL",
            &[],
        )
        .await?
        .get(0);
    anyhow::ensure!(rows as usize == CONTAINERS, "only {rows} jobs are durable");
    report.floor(
        "floor: one-row transactions on the same Postgres",
        floor,
        "tx/s",
    );
    report
        .at_least(
            "durable update requests accepted",
            load.per_second(),
            "req/s",
            1000.0,
        )
        .with_floor(floor)
        .note(format!(
            "p50 {:.1} ms, p99 {:.1} ms, {CONNECTIONS} connections",
            load.p50(),
            load.p99()
        ));
    Ok(())
}

fn database_url(data: &Path) -> String {
    format!(
        "postgresql:///postgres?user=plimsoll&host={}",
        data.join("postgres").display()
    )
}

/// Transactions per second that insert one small row each.
async fn inserts(database: &str) -> anyhow::Result<f64> {
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
        tokio::spawn(connection);
        writers.push(client);
    }
    writers[0]
        .batch_execute("CREATE TABLE floor (id bigserial PRIMARY KEY, text text)")
        .await?;
    let started = std::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in writers {
        tasks.spawn(async move {
            let statement = client
                .prepare("INSERT INTO floor (text) VALUES ($1)")
                .await?;
            for _ in 0..ROWS {
                client.execute(&statement, &[&"some text"]).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok((WRITERS * ROWS) as f64 / started.elapsed().as_secs_f64())
}
