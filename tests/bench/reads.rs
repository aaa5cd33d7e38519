//! Lists, with 1,000 containers of about 2.5 kB each, at 16 connections.

use std::{sync::Arc, time::Duration};

use plimsoll_domain::ids::WatcherRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

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

    let cases = [
        ("GET /health", load::get("/health", &[]), 30_000.0, true),
        (
            "GET /containers/summary",
            load::get("/api/v1/containers/summary", &headers),
            5_000.0,
            true,
        ),
        (
            "GET /containers?limit=25",
            load::get("/api/v1/containers?limit=25", &headers),
            3_000.0,
            true,
        ),
        (
            "GET /containers?limit=0 If-None-Match",
            load::get(list, &conditional),
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
    let mut quiet = Vec::new();
    for (name, request, target, quick) in &cases {
        let load = measure(api.port(), request).await?;
        let floor = if *quick { small } else { large };
        report
            .at_least(name, load.per_second(), "req/s", *target)
            .with_floor(floor)
            .note(format!("{:?}, p50 {:.2} ms", load.statuses, load.p50()));
        if *quick {
            report.at_most(&format!("{name}: p99"), load.p99(), "ms", 20.0);
        }
        quiet.push(load.per_second());
    }

    // The same while a watch keeps writing results for all 1,000 containers.
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (app, stop) = (app.clone(), stop.clone());
        let watcher = watcher.clone();
        tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                round += 1;
                fleet::watch_again(&app, &watcher, 1000, round).await?;
                // A cycle over 1,000 containers is bounded by the registry; this is one a second.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            anyhow::Ok(round)
        })
    };
    for ((name, request, _, _), quiet) in cases.iter().zip(quiet) {
        if name.ends_with("If-None-Match") {
            // The watch changes the list, so the answer is the list and no longer 304.
            continue;
        }
        let load = measure(api.port(), request).await?;
        report
            .at_least(
                &format!("{name} during a watch, share of quiet"),
                load.per_second() / quiet,
                "",
                0.67,
            )
            .note(format!("{:.0} req/s", load.per_second()));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.await??;
    report.at_most(
        "plimsoll-api: resident memory after load",
        resident_mib(api.pid())?,
        "MiB",
        40.0,
    );
    Ok(())
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
