//! Alerts, dashboards and the autoscaler ask for what there is.

use plimsoll_support::postgres::Database;

use super::{manifests::Rendering, rendering, root};

/// Every metric that a query reads is one that the API writes.
pub fn reads_what_there_is(rendering: &Rendering) {
    let source = source_of_metrics();
    assert!(rendering.queries.len() > 20, "{}", rendering.queries.len());
    for query in &rendering.queries {
        assert!(!query.metrics.is_empty(), "{} reads nothing", query.title);
        for metric in &query.metrics {
            let parts = ["_bucket", "_sum", "_count"];
            let name = parts
                .iter()
                .find_map(|part| metric.strip_suffix(part))
                .unwrap_or(metric);
            // Prometheus' own.
            let known = name == "up"
                || source.contains(&format!("\"{metric}\""))
                || source.contains(&format!("\"{name}\""));
            assert!(known, "{}: nobody writes {metric}", query.title);
        }
    }
    let document = plimsoll_api::drydock::spec::COMMITTED;
    for operation in ["getHealth", "listContainers", "getContainer"] {
        assert!(document.contains(&format!("\"{operation}\"")));
    }
}

/// The API's own source: what counts nothing yet is not on its page.
fn source_of_metrics() -> String {
    let mut text = String::new();
    let mut folders = vec![root().join("api/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

#[tokio::test]
async fn the_autoscaler_counts_jobs_that_wait_or_run() {
    let rendering = rendering("remote-engines");
    let scaled = rendering.of("ScaledObject").next().unwrap();
    let trigger = &scaled["spec"]["triggers"][0];
    let query = trigger["metadata"]["query"].as_str().unwrap();

    let database = Database::migrated().await;
    let client = database.client().await;
    let insert = "INSERT INTO jobs (id, kind, agent, watcher, spec, state, run_after)
                  SELECT gen_random_uuid(), 'watch', agent, watcher, '{}', state,
                         now() + make_interval(hours => later)
                    FROM (VALUES ('', 'nas', 'queued', 0), ('', 'shop-1', 'running', 0),
                                 ('', 'nas', 'queued', 1), ('', 'nas', 'done', 0),
                                 ('', 'another', 'queued', 0), ('node', 'nas', 'queued', 0))
                      AS jobs (agent, watcher, state, later)";
    client.execute(insert, &[]).await.unwrap();
    let row = client.query_one(query, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
}
