//! What a worker costs while nothing happens: it follows the engine's events, asks for jobs, and
//! lists everything once a minute.

use std::time::{Duration, Instant};

use plimsoll_support::{docker::Docker, image::Image, registry::Registry};

use crate::{
    engine::{self, Wanted},
    report::Report,
    setting::{Client, Setting},
};

const CONTAINERS: usize = 200;
/// Long enough for a complete listing.
const SPAN: Duration = Duration::from_secs(75);

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let docker = Docker::connect().await;
    let measured = measure(report, &docker).await;
    engine::remove_all(&docker).await;
    measured
}

async fn measure(report: &mut Report, docker: &Docker) -> anyhow::Result<()> {
    let registry = Registry::start().await;
    let image = Image::app("1.0.0").label(plimsoll_support::docker::LABEL, docker.id());
    registry.push("bench/idle", "1.0.0", &image).await;
    let reference = registry.reference("bench/idle", "1.0.0");
    engine::pull(docker, [reference.clone()]).await;
    let images = std::iter::repeat_n(reference, CONTAINERS);
    engine::make(docker, "idle", Wanted::Running, images).await?;

    let setting = Setting::start().await;
    let api = setting.api().ready().await;
    let client = Client::sign_in(&api).await?;
    let worker = setting.worker(docker).spawn();
    client.knows(CONTAINERS).await?;
    client.watch().await?;
    let (began, before) = (Instant::now(), processor_seconds(worker.pid())?);
    tokio::time::sleep(SPAN).await;
    let used = processor_seconds(worker.pid())? - before;
    report.at_most(
        "idle worker with 200 running containers",
        used / began.elapsed().as_secs_f64() * 100.0,
        "% core",
        1.0,
    );
    Ok(())
}

/// What the process has computed so far, in itself and for itself in the kernel (proc(5)).
fn processor_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or_default())
        .sum();
    // The same on every Linux that we run on.
    Ok(ticks as f64 / 100.0)
}
