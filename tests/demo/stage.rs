//! What the audience sees.

use std::process::Command;

use plimsoll_support::docker::{Docker, LABEL};

pub fn step(title: &str) {
    println!("\n=== {title}");
}

pub fn say(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

/// Says what was observed, or ends the demonstration.
pub fn ensure(what: &str, observed: bool) -> Result<(), String> {
    if !observed {
        return Err(format!("not observed: {what}"));
    }
    println!("  * {what}");
    Ok(())
}

/// `docker ps`, of the demonstration's containers.
pub fn show_containers(docker: &Docker) -> Result<(), String> {
    let filter = format!("label={LABEL}={}", docker.id());
    println!("    $ docker ps -a");
    let output = Command::new("docker")
        .args(["ps", "-a", "--filter", &filter])
        .args(["--format", "table {{.Names}}\t{{.Image}}\t{{.Status}}"])
        .output()
        .map_err(|error| format!("docker ps: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    say(&String::from_utf8_lossy(&output.stdout));
    Ok(())
}
