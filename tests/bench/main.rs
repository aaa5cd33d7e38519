//! `make bench`: what Plimsoll costs, against floors measured in the same run.
//!
//! Every section starts its own services, prints its lines, and is independent of the others:
//! `make bench SECTIONS="reads watch"` runs some of them.

mod engine;
mod enqueue;
mod fleet;
mod idle;
mod live;
mod load;
mod reads;
mod report;
mod setting;
mod start;
mod updates;
mod watch;

use report::Report;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    plimsoll_support::init();
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|c| c == name);
    let mut report = Report::default();
    if wanted("start") {
        start::run(&mut report).await?;
    }
    if wanted("reads") {
        reads::run(&mut report).await?;
    }
    if wanted("enqueue") {
        enqueue::run(&mut report).await?;
    }
    if wanted("watch") {
        watch::run(&mut report).await?;
    }
    if wanted("live") {
        live::run(&mut report).await?;
    }
    if wanted("updates") {
        updates::run(&mut report).await?;
    }
    if wanted("idle") {
        idle::run(&mut report).await?;
    }
    let path = report.write()?;
    println!("written to {}", path.display());
    Ok(())
}
