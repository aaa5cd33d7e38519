//! A watch cycle against the bare registry requests it cannot do without.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use plimsoll_support::{docker::Docker, image::Image, registry::Registry, server::Server};

use crate::{
    engine::{self, Wanted},
    report::{Report, median},
    setting::{Client, Setting},
};

const CONTAINERS: usize = 100;
const CREATED: usize = 1000;
const ROUNDS: usize = 15;

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let docker = Docker::connect().await;
    let registry = Registry::start().await;
    let measured = measure(report, &docker, &registry).await;
    engine::remove_all(&docker).await;
    measured
}

async fn measure(report: &mut Report, docker: &Docker, registry: &Registry) -> anyhow::Result<()> {
    let image = Image::app("1.0.0");
    let tags = ["1.0.0", "1.1.0"];
    for n in 0..CONTAINERS {
        registry
            .push_tags(&format!("bench/app-{n}"), &tags, &image)
            .await;
    }
    registry.push_tags("bench/one", &tags, &image).await;
    let many = || (0..CONTAINERS).map(|n| registry.reference(&format!("bench/app-{n}"), "1.0.0"));
    engine::pull(docker, many()).await;
    engine::make(docker, "many", Wanted::Running, many()).await?;

    let fleet = Fleet::start(docker, registry, CONTAINERS).await?;
    let (time, floor, requests) = fleet.cycles().await?;
    report.floor(
        "floor: 100 bare tag requests over 10 connections",
        floor,
        "ms",
    );
    report
        .at_most(
            "watch of 100 containers, 100 repositories / floor",
            time / floor,
            "x",
            1.5,
        )
        .with_floor(floor)
        .note(format!("{time:.1} ms"));
    report.at_most("  its registry requests", requests, "req", 100.0);

    let first = registry.reference("bench/app-0", "1.0.0");
    let idle = std::iter::repeat_n(first, CREATED);
    engine::make(docker, "idle", Wanted::Created, idle).await?;
    fleet.settled(CONTAINERS + CREATED).await?;
    let (crowded, _, requests) = fleet.cycles().await?;
    report
        .at_most(
            "the same with 1,000 created containers / without",
            crowded / time,
            "x",
            2.0,
        )
        .with_floor(time)
        .note(format!("{crowded:.1} ms"));
    report.at_most("  its registry requests", requests, "req", 100.0);
    drop(fleet);
    engine::remove_all(docker).await;

    let one = registry.reference("bench/one", "1.0.0");
    engine::pull(docker, [one.clone()]).await;
    let images = std::iter::repeat_n(one, CONTAINERS);
    engine::make(docker, "one", Wanted::Running, images).await?;
    let fleet = Fleet::start(docker, registry, CONTAINERS).await?;
    let (time, _, requests) = fleet.cycles().await?;
    report
        .at_most(
            "watch of 100 containers of one repository: requests",
            requests,
            "req",
            1.0,
        )
        .note(format!("{time:.1} ms"));
    Ok(())
}

/// A worker that watches the run's containers, and an API.
struct Fleet<'a> {
    client: Client,
    registry: &'a Registry,
    // Ended in this order.
    _worker: Server,
    _api: Server,
    _setting: Setting,
}

impl<'a> Fleet<'a> {
    async fn start(
        docker: &Docker,
        registry: &'a Registry,
        containers: usize,
    ) -> anyhow::Result<Self> {
        let setting = Setting::start().await;
        let api = setting.api().ready().await;
        let client = Client::sign_in(&api).await?;
        let fleet = Self {
            client,
            registry,
            _worker: setting.worker(docker).spawn(),
            _api: api,
            _setting: setting,
        };
        fleet.settled(containers).await?;
        Ok(fleet)
    }

    /// Waits until the inventory holds `count` containers, everything is known about their
    /// candidates, and no check of what was discovered is under way.
    async fn settled(&self, count: usize) -> anyhow::Result<()> {
        self.client.knows(count).await?;
        self.client.watch().await?;
        self.requests(Duration::from_secs(3)).await;
        Ok(())
    }

    /// The number of registry requests so far, once there has been none for as long as `quiet`.
    async fn requests(&self, quiet: Duration) -> usize {
        let mut known = self.registry.requests().len();
        loop {
            tokio::time::sleep(quiet).await;
            let now = self.registry.requests().len();
            if now == known {
                return now;
            }
            known = now;
        }
    }

    /// The median times of a cycle and of the bare requests in milliseconds, measured in turn, and
    /// the registry requests of one cycle.
    async fn cycles(&self) -> anyhow::Result<(f64, f64, f64)> {
        let quiet = Duration::from_millis(100);
        let before = self.requests(quiet).await;
        let (mut times, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            floors.push(self.bare_requests().await?);
            let started = Instant::now();
            self.client.watch().await?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        let bare = CONTAINERS * ROUNDS;
        let requests = self.requests(quiet).await - before - bare;
        Ok((
            median(times),
            median(floors),
            requests as f64 / ROUNDS as f64,
        ))
    }

    /// Milliseconds that the tag requests alone take over ten connections.
    async fn bare_requests(&self) -> anyhow::Result<f64> {
        let client = reqwest::Client::new();
        let host = format!("http://127.0.0.1:{}", self.registry.port());
        let started = Instant::now();
        stream::iter(0..CONTAINERS)
            .map(async |n| {
                let url = format!("{host}/v2/bench/app-{n}/tags/list?n=1000");
                let answer = client.get(url).send().await?.error_for_status()?;
                answer.bytes().await?;
                anyhow::Ok(())
            })
            .buffer_unordered(10)
            .try_collect::<()>()
            .await?;
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    }
}
