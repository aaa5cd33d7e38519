//! What the operating system knows of this process, under the names that every Prometheus client
//! uses. Read from /proc when somebody asks. The `prometheus` crate's own collector would bring
//! older versions of crates that are here already.

use std::fs;

use prometheus::{Counter, Gauge, Opts, Registry};

/// The kernel counts processor time in these, for programs, on every architecture that Rust has a
/// Linux target for.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) struct ProcessMetrics {
    cpu: Counter,
    resident: Gauge,
    virtual_memory: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    threads: Gauge,
    start: Gauge,
}

/// One look at /proc.
#[derive(Debug, PartialEq)]
struct Seen {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    threads: f64,
    start_seconds: f64,
}

impl ProcessMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| {
            super::register(registry, Gauge::with_opts(Opts::new(name, help)))
        };
        Self {
            cpu: super::register(
                registry,
                Counter::new(
                    "process_cpu_seconds_total",
                    "Total user and system CPU time spent in seconds",
                ),
            ),
            resident: gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes",
            ),
            virtual_memory: gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes",
            ),
            open_files: gauge("process_open_fds", "Number of open file descriptors"),
            max_files: gauge("process_max_fds", "Maximum number of open file descriptors"),
            threads: gauge("process_threads", "Number of threads"),
            start: gauge(
                "process_start_time_seconds",
                "Start time of the process since the Unix epoch in seconds",
            ),
        }
    }

    /// Looks again. What cannot be read stays as it was.
    pub(super) fn look(&self) {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let stat = read("/proc/self/stat");
        if let Some(seen) = seen(&stat, &read("/proc/self/status"), &read("/proc/stat")) {
            let more = seen.cpu_seconds - self.cpu.get();
            self.cpu.inc_by(more.max(0.0));
            self.resident.set(seen.resident_bytes);
            self.virtual_memory.set(seen.virtual_bytes);
            self.threads.set(seen.threads);
            self.start.set(seen.start_seconds);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The directory itself is open while it is read.
            self.open_files.set(open.count().saturating_sub(1) as f64);
        }
        if let Some(max) = max_files(&read("/proc/self/limits")) {
            self.max_files.set(max);
        }
    }
}

fn seen(stat: &str, status: &str, machine: &str) -> Option<Seen> {
    // The program's name, in parentheses, may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Counted from the state, which is field 3 of proc(5).
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let boot = machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    Some(Seen {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        threads: field(20)?,
        start_seconds: boot.trim().parse::<f64>().ok()? + field(22)? / TICKS_PER_SECOND,
        virtual_bytes: field(23)?,
        resident_bytes: kib("VmRSS:")? * 1024.0,
    })
}

fn max_files(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 7 0 3000 \
                    123456789 999 18446744073709551615";
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t7\n";
        let found = seen(stat, status, "cpu 1 2\nbtime 1000\n").unwrap();
        assert_eq!(
            found,
            Seen {
                cpu_seconds: 2.0,
                resident_bytes: 2_097_152.0,
                virtual_bytes: 123_456_789.0,
                threads: 7.0,
                start_seconds: 1030.0,
            }
        );
        assert_eq!(seen("", status, ""), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        assert_eq!(max_files(limits), Some(1024.0));
    }

    #[test]
    fn this_process_is_seen() {
        let registry = Registry::new();
        let metrics = ProcessMetrics::new(&registry);
        metrics.look();
        assert!(metrics.resident.get() > 1e6, "{}", metrics.resident.get());
        assert!(metrics.open_files.get() >= 3.0);
        // The kernel tells the time of its own start in whole seconds.
        let age = chrono::Utc::now().timestamp() as f64 - metrics.start.get();
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }
}
