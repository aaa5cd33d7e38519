//! From exec to the first 200.

use std::time::{Duration, Instant};

use crate::{
    report::{Report, median},
    setting::{Setting, owned},
};
use plimsoll_support::server::Server;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let setting = Setting::start().await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut api = setting.api();
        times.push(first_answer(&mut api).await?);
    }
    report.at_most(
        "plimsoll-api: exec to first 200 (median of 5)",
        median(times),
        "ms",
        60.0,
    );

    let mut plimsoll = owned(Server::all_in_one());
    let cold = first_answer(&mut plimsoll).await?;
    let mut warm = Vec::new();
    for _ in 0..3 {
        plimsoll.terminate(Duration::from_secs(20)).await;
        warm.push(first_answer(&mut plimsoll).await?);
    }
    report
        .at_most(
            "plimsoll: exec to first 200, warm data (median of 3)",
            median(warm),
            "ms",
            500.0,
        )
        .note(format!(
            "first start with an empty data directory: {cold:.0} ms"
        ));
    plimsoll.terminate(Duration::from_secs(20)).await;
    Ok(())
}

async fn first_answer(server: &mut Server) -> anyhow::Result<f64> {
    let started = Instant::now();
    server.start();
    loop {
        if matches!(health(server.port()).await, Ok(200)) {
            return Ok(started.elapsed().as_secs_f64() * 1000.0);
        }
        anyhow::ensure!(
            started.elapsed() < Duration::from_secs(60),
            "no answer within a minute:\n{}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn health(port: u16) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(std::str::from_utf8(answer.get(9..12).unwrap_or_default())?.parse()?)
}
