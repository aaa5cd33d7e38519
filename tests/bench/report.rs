//! The table that a run prints, and `target/bench.json`.

use serde::Serialize;

/// One measured line. `target` says what it should be; whether it was met is printed, and decides
/// nothing: machines differ, and a benchmark is read by people.
#[derive(Debug, Serialize)]
pub struct Line {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// The same thing done without Plimsoll, in the same run.
    pub floor: Option<f64>,
    pub target: String,
    pub met: bool,
    pub note: String,
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub lines: Vec<Line>,
}

impl Report {
    /// A line whose value must be at least `target`.
    pub fn at_least(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        target: f64,
    ) -> &mut Line {
        self.push(name, value, unit, format!(">= {target}"), value >= target)
    }

    /// A line whose value must be at most `target`.
    pub fn at_most(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        target: f64,
    ) -> &mut Line {
        self.push(name, value, unit, format!("<= {target}"), value <= target)
    }

    /// A line that states a floor for others.
    pub fn floor(&mut self, name: &str, value: f64, unit: &'static str) -> &mut Line {
        self.push(name, value, unit, "floor".to_owned(), true)
    }

    fn push(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        target: String,
        met: bool,
    ) -> &mut Line {
        let index = self.lines.len();
        println!(
            "{name:<58} {value:>10.2} {unit:<7} {target:<12} {}",
            if met { "" } else { "MISSED" }
        );
        self.lines.push(Line {
            name: name.to_owned(),
            value,
            unit,
            floor: None,
            target,
            met,
            note: String::new(),
        });
        &mut self.lines[index]
    }

    /// Writes the report where the build puts its results.
    pub fn write(&self) -> anyhow::Result<std::path::PathBuf> {
        let path = plimsoll_support::services::workspace_root().join("target/bench.json");
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)?;
        Ok(path)
    }
}

impl Line {
    pub fn with_floor(&mut self, floor: f64) -> &mut Self {
        self.floor = Some(floor);
        self
    }

    pub fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.note = note.into();
        self
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn worst(values: Vec<f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}
