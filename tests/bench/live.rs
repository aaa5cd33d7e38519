//! From an event on the host to the API and to an SSE client.

use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use plimsoll_support::{docker::Docker, image::Image, registry::Registry};

use crate::{
    engine,
    report::{Report, worst},
    setting::{Client, Setting},
};

const ROUNDS: usize = 7;

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let docker = Docker::connect().await;
    let measured = measure(report, &docker).await;
    engine::remove_all(&docker).await;
    measured
}

async fn measure(report: &mut Report, docker: &Docker) -> anyhow::Result<()> {
    let registry = Registry::start().await;
    registry
        .push("bench/live", "1.0.0", &Image::app("1.0.0"))
        .await;
    let reference = registry.reference("bench/live", "1.0.0");
    docker.pull(&reference).await;
    let setting = Setting::start().await;
    let api = setting.api().ready().await;
    let client = Client::sign_in(&api).await?;
    let _worker = setting.worker(docker).spawn();
    // A first container tells when the worker follows the engine.
    docker
        .create(&docker.name("live-first"), engine::idle(&reference))
        .await;
    client.knows(1).await?;

    let answer = client.get("/events/ui").send().await?.error_for_status()?;
    let mut events = Events {
        stream: answer.bytes_stream(),
        seen: String::new(),
    };
    let engine = docker.client();
    let (mut created, mut shown) = (Vec::new(), Vec::new());
    let (mut stopped, mut started) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = docker.name(&format!("live-{round}"));
        let mut body = engine::idle(&reference);
        // The image's own command ends as soon as it is told to.
        body.cmd = None;
        let begin = Instant::now();
        let id = docker.create(&name, body).await;
        let added = ["dd:container-added", id.as_str()];
        created.push(events.until(&added, begin).await?);
        let found = client.get(&format!("/containers/{id}")).send().await?;
        anyhow::ensure!(found.status() == 200, "told of but not shown");
        shown.push(begin.elapsed().as_secs_f64() * 1000.0);

        let running = [id.as_str(), r#""status":"running""#];
        let exited = [id.as_str(), r#""status":"exited""#];
        engine.start_container(&id, None).await?;
        started.push(events.until(&running, Instant::now()).await?);
        engine.stop_container(&id, None).await?;
        stopped.push(events.until(&exited, Instant::now()).await?);
    }
    let lines = [
        ("a container created on the host is on SSE", created, 1000.0),
        (
            "a container created on the host is in the API",
            shown,
            1000.0,
        ),
        ("a start is on SSE", started, 200.0),
        ("a stop is on SSE", stopped, 200.0),
    ];
    for (name, times, target) in lines {
        report.at_most(
            &format!("{name} (worst of {ROUNDS})"),
            worst(times),
            "ms",
            target,
        );
    }
    Ok(())
}

struct Events<S> {
    stream: S,
    seen: String,
}

impl<S: Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin> Events<S> {
    /// Milliseconds from `begin` until an event holds all of `texts`.
    async fn until(&mut self, texts: &[&str], begin: Instant) -> anyhow::Result<f64> {
        loop {
            while let Some(end) = self.seen.find("\n\n") {
                let event: String = self.seen.drain(..end + 2).collect();
                if texts.iter().all(|text| event.contains(text)) {
                    return Ok(begin.elapsed().as_secs_f64() * 1000.0);
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.stream.next()).await?;
            let chunk = chunk.ok_or_else(|| anyhow::anyhow!("the event stream ended"))??;
            self.seen.push_str(std::str::from_utf8(&chunk)?);
        }
    }
}
