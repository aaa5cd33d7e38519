//! What a container uses, computed as `docker stats` computes it
//! (contract/drydock-container-api.md, "Get container stats"; reference/drydock.md 1.5).

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// What a container used between two samples, and holds now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatsSnapshot {
    pub container_id: String,
    /// Of one processor: two that are busy are 200.
    pub cpu_percent: f64,
    /// Without what the kernel could give back at once.
    pub memory_usage_bytes: u64,
    pub memory_limit_bytes: u64,
    pub memory_percent: f64,
    /// Since the container started, over all its interfaces; so are the next three.
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    pub block_read_bytes: u64,
    pub block_write_bytes: u64,
    /// ISO 8601, by the engine's clock.
    pub timestamp: String,
}

/// One sample as an engine gives it. Everything may be absent: cgroup versions and engines differ.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawStats {
    read: Option<DateTime<Utc>>,
    cpu_stats: CpuStats,
    memory_stats: MemoryStats,
    networks: Option<BTreeMap<String, NetworkStats>>,
    blkio_stats: BlockStats,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CpuStats {
    cpu_usage: CpuUsage,
    /// Of the whole machine, in nanoseconds over all processors.
    system_cpu_usage: Option<u64>,
    online_cpus: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    /// Nanoseconds.
    total_usage: u64,
    percpu_usage: Option<Vec<u64>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryStats {
    usage: Option<u64>,
    limit: Option<u64>,
    stats: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NetworkStats {
    rx_bytes: u64,
    tx_bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct BlockStats {
    io_service_bytes_recursive: Option<Vec<BlockEntry>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct BlockEntry {
    op: String,
    value: u64,
}

impl RawStats {
    /// When the engine took the sample. It takes none of a container that does not run, and says
    /// the year 1.
    pub fn taken_at(&self) -> Option<DateTime<Utc>> {
        self.read.filter(|read| read.timestamp() > 0)
    }

    /// What was used since `earlier`; `None` of a container that does not run.
    pub fn since(&self, earlier: &Self, container: &str) -> Option<StatsSnapshot> {
        let taken_at = self.taken_at()?;
        let used = self.memory_used();
        let limit = self.memory_stats.limit.unwrap_or(0);
        let networks = self.networks.iter().flat_map(BTreeMap::values);
        let (received, sent) = networks.fold((0u64, 0u64), |(received, sent), network| {
            (
                received.saturating_add(network.rx_bytes),
                sent.saturating_add(network.tx_bytes),
            )
        });
        Some(StatsSnapshot {
            container_id: container.to_owned(),
            cpu_percent: self.cpu_percent(earlier),
            memory_usage_bytes: used,
            memory_limit_bytes: limit,
            memory_percent: percent(used as f64, limit as f64),
            network_rx_bytes: received,
            network_tx_bytes: sent,
            block_read_bytes: self.block_bytes('r'),
            block_write_bytes: self.block_bytes('w'),
            timestamp: taken_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        })
    }

    fn cpu_percent(&self, earlier: &Self) -> f64 {
        let (now, then) = (&self.cpu_stats, &earlier.cpu_stats);
        // Fewer than before: it was started again between the two.
        let used = now
            .cpu_usage
            .total_usage
            .saturating_sub(then.cpu_usage.total_usage);
        let (Some(system), Some(before)) = (now.system_cpu_usage, then.system_cpu_usage) else {
            return 0.0;
        };
        let listed = now.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len);
        let processors = match now.online_cpus {
            None | Some(0) => listed as f64,
            Some(online) => f64::from(online),
        };
        percent(used as f64, system.saturating_sub(before) as f64) * processors
    }

    /// Cached file pages that were not used lately do not count: `total_inactive_file` in cgroup
    /// v1, `inactive_file` in v2, where the former does not exist.
    fn memory_used(&self) -> u64 {
        let usage = self.memory_stats.usage.unwrap_or(0);
        let stat = |name: &str| self.memory_stats.stats.as_ref()?.get(name)?.as_u64();
        let inactive = stat("total_inactive_file").or_else(|| stat("inactive_file"));
        match inactive {
            Some(inactive) if inactive < usage => usage - inactive,
            _ => usage,
        }
    }

    fn block_bytes(&self, operation: char) -> u64 {
        let entries = self.blkio_stats.io_service_bytes_recursive.iter().flatten();
        entries
            .filter(|entry| {
                let first = entry.op.chars().next();
                first.is_some_and(|first| first.eq_ignore_ascii_case(&operation))
            })
            .fold(0, |sum, entry| sum.saturating_add(entry.value))
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    if part > 0.0 && whole > 0.0 {
        part / whole * 100.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn raw(value: Value) -> RawStats {
        serde_json::from_value(value).unwrap()
    }

    fn sample(total: u64, system: u64, more: Value) -> RawStats {
        let mut value = json!({
            "read": "2026-01-01T00:00:01.123456789Z",
            "cpu_stats": {
                "cpu_usage": { "total_usage": total, "percpu_usage": [1, 2] },
                "system_cpu_usage": system,
                "online_cpus": 4,
            },
        });
        for (key, member) in more.as_object().unwrap() {
            value[key] = member.clone();
        }
        raw(value)
    }

    #[test]
    fn processors_count_as_docker_counts_them() {
        let then = sample(1_000, 10_000, json!({}));
        let percent = |now: RawStats| now.since(&then, "c").unwrap().cpu_percent;
        assert_eq!(percent(sample(1_500, 12_000, json!({}))), 100.0);
        assert_eq!(percent(sample(1_000, 12_000, json!({}))), 0.0);
        // Started again, or no time has passed.
        assert_eq!(percent(sample(10, 12_000, json!({}))), 0.0);
        assert_eq!(percent(sample(1_500, 10_000, json!({}))), 0.0);
        // An older engine names no number, but lists them.
        let cpu = json!({"cpu_stats": {
            "cpu_usage": { "total_usage": 1_500, "percpu_usage": [1, 2] },
            "system_cpu_usage": 12_000,
        }});
        assert_eq!(percent(sample(0, 0, cpu)), 50.0);
    }

    #[test]
    fn memory_is_without_inactive_file_pages_in_both_cgroup_versions() {
        let of = |stats: Value| {
            let memory = json!({"memory_stats": {"usage": 1000, "limit": 4000, "stats": stats}});
            let now = sample(0, 0, memory);
            let snapshot = now.since(&now, "c").unwrap();
            (snapshot.memory_usage_bytes, snapshot.memory_percent)
        };
        assert_eq!(
            of(json!({"total_inactive_file": 200, "inactive_file": 1})),
            (800, 20.0)
        );
        assert_eq!(of(json!({"inactive_file": 500, "anon": 3})), (500, 12.5));
        assert_eq!(of(json!({"inactive_file": 2000})), (1000, 25.0));
        assert_eq!(of(json!({})), (1000, 25.0));
    }

    #[test]
    fn networks_and_block_devices_add_up() {
        let now = sample(
            0,
            0,
            json!({
                "networks": {
                    "eth0": {"rx_bytes": 10, "tx_bytes": 1},
                    "eth1": {"rx_bytes": 5, "tx_bytes": 2},
                },
                "blkio_stats": {"io_service_bytes_recursive": [
                    {"major": 8, "minor": 0, "op": "Read", "value": 7},
                    {"major": 8, "minor": 0, "op": "write", "value": 9},
                    {"major": 8, "minor": 16, "op": "read", "value": 1},
                    {"major": 8, "minor": 0, "op": "Total", "value": 100},
                ]},
            }),
        );
        let shown = serde_json::to_value(now.since(&now, "c").unwrap()).unwrap();
        assert_eq!(
            shown,
            json!({
                "containerId": "c", "cpuPercent": 0.0,
                "memoryUsageBytes": 0, "memoryLimitBytes": 0, "memoryPercent": 0.0,
                "networkRxBytes": 15, "networkTxBytes": 3,
                "blockReadBytes": 8, "blockWriteBytes": 9,
                "timestamp": "2026-01-01T00:00:01.123Z",
            })
        );
    }

    #[test]
    fn a_container_that_does_not_run_has_no_snapshot() {
        let stopped = raw(json!({
            "read": "0001-01-01T00:00:00Z",
            "cpu_stats": {"cpu_usage": {"total_usage": 0}},
            "memory_stats": {},
            "blkio_stats": {"io_service_bytes_recursive": null},
        }));
        assert_eq!(stopped.since(&stopped, "c"), None);
    }
}
