//! Lists, with 1,000 containers of about 2.5 kB each, at 16 connections.

use std::{sync::Arc, time::Duration};

use plimsoll_app::App;
use plimsoll_domain::ids::WatcherRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    fleet, load,
    report::Report,
    setting::{Client, Setting},
};

const CONNECTIONS: usize = 16;
const DURATION: Duration = Duration::from_secs(4);

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let setting = Setting::start().await;
    let api = setting.api().ready().await;
    let client = Client::sign_in(&api).await?;
    let headers = [("authorization", client.authorization())];
    let app = setting.app()?;
    let watcher = WatcherRef::local("bench");
    fleet::write(&app, &watcher, 1000).await?;

    let list = "/api/v1/containers?limit=0";
    let answer = client
        .get("/containers?limit=0")
        .send()
        .await?
        .error_for_status()?;
    let etag = answer
        .headers()
        .get("etag")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = answer.bytes().await?;
    let conditional = [
        ("authorization", client.authorization()),
        ("if-none-match", etag.as_str()),
    ];

    // First what a client has already: the first watch changes the list.
    let cases = [
        (
            "GET /containers?limit=0 If-None-Match",
            load::get(list, &conditional),
            3_000.0,
            true,
        ),
        ("GET /health", load::get("/health", &[]), 30_000.0, true),
        (
            "GET /containers/summary",
            load::get("/api/v1/containers/summary", &headers),
            5_000.0,
            true,
        ),
        ("GET /metrics", load::get("/metrics", &headers), 500.0, true),
        (
            "GET /containers?limit=25",
            load::get("/api/v1/containers?limit=25", &headers),
            3_000.0,
            true,
        ),
        (
            "GET /containers?limit=0",
            load::get(list, &headers),
            300.0,
            false,
        ),
    ];
    let small = floor(b"{}".to_vec()).await?;
    let large = floor(body.to_vec()).await?;
    report.floor("floor: a bare loop that answers 2 bytes", small, "req/s");
    report.floor(
        "floor: a bare loop that answers the full list",
        large,
        "req/s",
    );
    for (name, request, target, quick) in &cases {
        let quiet = measure(api.port(), request).await?;
        let floor = if *quick { small } else { large };
        report
            .at_least(name, quiet.per_second(), "req/s", *target)
            .with_floor(floor)
            .note(format!("{:?}, p50 {:.2} ms", quiet.statuses, quiet.p50()));
        if *quick {
            report.at_most(&format!("{name}: p99"), quiet.p99(), "ms", 20.0);
        }
        if name.ends_with("If-None-Match") {
            continue;
        }
        // Right after each other: what else the machine does changes less than in a minute.
        let watching = Watching::start(&app, &watcher);
        let load = measure(api.port(), request).await?;
        watching.stop().await?;
        report
            .at_least(
                &format!("{name} during a watch, share of quiet"),
                load.per_second() / quiet.per_second(),
                "",
                0.67,
            )
            .note(format!("{:.0} req/s", load.per_second()));
    }
    report.at_most(
        "plimsoll-api: resident memory after load",
        resident_mib(api.pid())?,
        "MiB",
        40.0,
    );
    Ok(())
}

/// A watch that goes on writing new results for all 1,000 containers.
struct Watching {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Watching {
    fn start(app: &App, watcher: &WatcherRef) -> Self {
        let stop = CancellationToken::new();
        let (app, watcher, stopped) = (app.clone(), watcher.clone(), stop.clone());
        let task = tokio::spawn(async move {
            for round in 1.. {
                fleet::watch_again(&app, &watcher, 1000, round).await?;
                // A cycle over 1,000 containers is bounded by the registry; this is one a second.
                let pause = tokio::time::sleep(Duration::from_secs(1));
                if stopped.run_until_cancelled(pause).await.is_none() {
                    break;
                }
            }
            Ok(())
        });
        Self { stop, task }
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.task.await?
    }
}

async fn measure(port: u16, request: &[u8]) -> anyhow::Result<load::Load> {
    let request = request.to_vec();
    let send = move |_| request.clone();
    load::run(
        port,
        CONNECTIONS,
        Duration::from_millis(500),
        usize::MAX,
        send.clone(),
    )
    .await?;
    load::run(port, CONNECTIONS, DURATION, usize::MAX, send).await
}

/// Requests per second of a server that does nothing but write `body`.
async fn floor(body: Vec<u8>) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    let answer: Arc<[u8]> = answer.into();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut buffer = [0; 4096];
                while matches!(stream.read(&mut buffer).await, Ok(n) if n > 0) {
                    if stream.write_all(&answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let load = measure(port, &load::get("/", &[])).await?;
    server.abort();
    Ok(load.per_second())
}

/// Resident memory of a process.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or_else(|| anyhow::anyhow!("no VmRSS in /proc/{pid}/status"))?
        .parse::<f64>()?;
    Ok(kib / 1024.0)
}
