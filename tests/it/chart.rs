//! The Helm chart, with the real Helm and the schemas of the real resources.
//!
//! One test for each file in `charts/plimsoll/ci`: the strict lint, the rendering as it is committed
//! (`PLIMSOLL_WRITE_SNAPSHOTS=1` writes it anew), its schemas, and what must hold for every
//! rendering. There is no Kubernetes here; what only an API server knows is not tested.

mod manifests;
mod monitoring;
mod network;
mod pods;
mod settings;
mod values;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use manifests::{Query, Rendering};
use serde::Deserialize;

/// Releases of Kubernetes whose schemas manifests must fit: the oldest that the chart supports, the
/// newest with a schema here, and one between them.
const KUBERNETES: [&str; 3] = ["1.30", "1.34", "1.37"];
const RELEASE: &str = "fleet";
const NAMESPACE: &str = "plimsoll";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn chart() -> PathBuf {
    root().join("charts/plimsoll")
}

/// `make services` puts Helm and the schemas there.
fn tools() -> PathBuf {
    let tools = plimsoll_support::server::target().join("tools/chart");
    assert!(
        tools.join("requirements.txt").exists(),
        "{tools:?} is missing: run `make services`"
    );
    tools
}

/// Helm, without this user's own settings, repositories and cluster.
fn helm(chart: &Path, command: &[&str], values: &[&Path]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(tools().join("bin/helm"))
        .args(command)
        .arg(chart)
        .args(["--namespace", NAMESPACE, "--kube-version", KUBERNETES[1]])
        .args(values.iter().flat_map(|file| [Path::new("--values"), file]))
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn rendered(chart: &Path, values: &[&Path]) -> Result<String, String> {
    let output = helm(chart, &["template", RELEASE], values);
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn file(name: &str) -> PathBuf {
    chart().join("ci").join(name).with_extension("yaml")
}

/// What tests/chart/check.py says of manifests.
#[derive(Deserialize)]
struct Checked {
    documents: Vec<serde_json::Value>,
    problems: Vec<String>,
    queries: Vec<Query>,
}

fn checked(manifests: &str) -> Checked {
    let mut check = Command::new(tools().join("bin/python"))
        .arg(root().join("tests/chart/check.py"))
        .arg(tools().join("node_modules"))
        .args(KUBERNETES)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = check.stdin.take().unwrap();
    input.write_all(manifests.as_bytes()).unwrap();
    drop(input);
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "check.py failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The manifests of one file of values, whose schemas were checked.
fn rendering(name: &str) -> Rendering {
    let text = rendered(&chart(), &[&file(name)]).unwrap_or_else(|error| panic!("{error}"));
    let checked = checked(&text);
    assert!(
        checked.problems.is_empty(),
        "{name}: {:#?}",
        checked.problems
    );
    Rendering::new(text, checked.documents, checked.queries)
}

/// `text` is what is committed as `name`, or becomes it.
fn compare(name: &str, text: &str) {
    let path = root().join("tests/chart/snapshots").join(name);
    if std::env::var_os("PLIMSOLL_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = || text.lines().zip(committed.lines()).zip(1..);
    let different = lines().find(|((new, old), _)| new != old);
    assert!(
        committed == text,
        "{path:?} is not what the chart renders; PLIMSOLL_WRITE_SNAPSHOTS=1 writes it anew. \
         The first line that differs, rendered and committed: {different:?}"
    );
}

/// Whether a file of values asks for network policies.
enum Policies {
    Rendered,
    Off,
}

fn is_sound(name: &str, policies: Policies) -> Rendering {
    let lint = helm(&chart(), &["lint", "--strict"], &[&file(name)]);
    let said = String::from_utf8_lossy(&lint.stdout);
    assert!(lint.status.success(), "{name}: {said}");
    let rendering = rendering(name);
    compare(&format!("{name}.yaml"), &rendering.text);
    rendering.names_are_unique();
    pods::are_restricted(&rendering);
    pods::are_found(&rendering);
    pods::of_hooks_stand_alone(&rendering);
    settings::hold_no_secrets(&rendering);
    settings::can_be_loaded(&rendering);
    match policies {
        Policies::Rendered => network::is_denied_but_for_rules(&rendering),
        Policies::Off => assert_eq!(rendering.of("NetworkPolicy").count(), 0),
    }
    rendering
}

#[test]
fn an_api_alone_is_sound() {
    let rendering = is_sound("minimal", Policies::Rendered);
    assert_eq!(rendering.of("Secret").count(), 0, "secrets are the user's");
}

#[test]
fn addresses_in_values_are_sound() {
    let rendering = is_sound("urls", Policies::Rendered);
    assert_eq!(rendering.of("Secret").count(), 2, "the hook has its own");
}

#[test]
fn workers_for_remote_engines_are_sound() {
    let rendering = is_sound("remote-engines", Policies::Rendered);
    assert_eq!(rendering.of("ScaledObject").count(), 1);
}

#[test]
fn workers_on_nodes_are_sound() {
    let rendering = is_sound("node-sockets", Policies::Rendered);
    assert_eq!(rendering.of("DaemonSet").count(), 1);
}

#[test]
fn a_busy_installation_is_sound() {
    let rendering = is_sound("production", Policies::Rendered);
    for kind in [
        "HorizontalPodAutoscaler",
        "Ingress",
        "ServiceMonitor",
        "PrometheusRule",
    ] {
        assert_eq!(rendering.of(kind).count(), 1, "{kind}");
    }
    monitoring::reads_what_there_is(&rendering);
}

#[test]
fn the_gateway_api_is_sound() {
    let rendering = is_sound("gateway", Policies::Rendered);
    // One to each of the API's ports.
    assert_eq!(rendering.of("HTTPRoute").count(), 2);
}

#[test]
fn an_installation_without_hooks_is_sound() {
    let rendering = is_sound("without-hooks", Policies::Off);
    assert_eq!(rendering.of("Job").count(), 0);
}

#[test]
fn the_chart_is_of_this_version() {
    let text = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let line = format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.lines().any(|found| found == line), "{line} in {text}");
}

#[test]
fn the_check_finds_what_kubernetes_would_refuse() {
    let manifests = "
apiVersion: v1
kind: Service
metadata: {name: typo}
spec: {portz: []}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: incomplete}
spec: {replicas: many}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: scaled}
spec: {scaleTargetRef: {name: x}, triggers: [{type: postgresql}], minReplicas: 1}
---
apiVersion: example.org/v1
kind: Unknown
metadata: {name: unknown}
";
    let problems = checked(manifests).problems.join("\n");
    for part in [
        "portz",
        "'many' is not",
        "minReplicas",
        "'metadata' is a required",
        "example.org/v1",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
}

/// NOTES.txt is no manifest; a copy of the chart shows it as one.
fn notes(name: &str) -> String {
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .args(["-r", "--"])
        .arg(chart())
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(copied.success());
    let chart = copy.path().join("plimsoll");
    std::fs::rename(chart.join("templates/NOTES.txt"), chart.join("notes")).unwrap();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes-of-it}\n\
                    data: {notes: {{ tpl (.Files.Get \"notes\") . | toJson }}}\n";
    std::fs::write(chart.join("templates/notes.yaml"), template).unwrap();
    let text = rendered(&chart, &[&file(name)]).unwrap_or_else(|error| panic!("{error}"));
    let document = checked(&text)
        .documents
        .into_iter()
        .find(|document| document["metadata"]["name"] == "notes-of-it");
    let notes = document.unwrap();
    format!("{}\n", notes["data"]["notes"].as_str().unwrap().trim())
}

#[test]
fn the_notes_say_what_is_next() {
    for name in ["minimal", "production", "without-hooks"] {
        compare(&format!("{name}.notes.txt"), &notes(name));
    }
}
