//! What holds for every Pod: Pod Security `restricted`, but for the socket of a node's engine.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::manifests::{Pod, Rendering, is_hook, items, members, selects, title};

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>, and more.
pub fn are_restricted(rendering: &Rendering) {
    for pod in rendering.pods() {
        let Pod { owner, spec, .. } = &pod;
        for field in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
            assert!(spec[field].is_null(), "{owner}: {field}");
        }
        assert_eq!(spec["automountServiceAccountToken"], false, "{owner}");
        assert_eq!(
            spec["enableServiceLinks"], false,
            "{owner}: foreign settings"
        );
        let security = &spec["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{owner}");
        assert_ne!(security["runAsUser"], 0, "{owner}");
        let profile = &security["seccompProfile"]["type"];
        assert_eq!(profile, "RuntimeDefault", "{owner}");
        assert!(security["sysctls"].is_null(), "{owner}");
        assert!(!pod.containers().is_empty(), "{owner}");
        for container in pod.containers() {
            is_locked_down(owner, container);
        }
        for volume in items(&spec["volumes"]) {
            is_harmless(&pod, volume);
        }
    }
    for account in rendering.of("ServiceAccount") {
        assert_eq!(account["automountServiceAccountToken"], false);
    }
    for kind in ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"] {
        assert_eq!(rendering.of(kind).count(), 0, "nobody needs rights");
    }
}

fn is_locked_down(owner: &str, container: &Value) {
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "privileged": false,
        "capabilities": { "drop": ["ALL"] },
    });
    assert_eq!(container["securityContext"], expected, "{owner}");
    for port in items(&container["ports"]) {
        assert!(port["hostPort"].is_null(), "{owner}");
    }
    let resources = &container["resources"];
    assert!(resources["limits"]["memory"].is_string(), "{owner}");
    assert!(resources["requests"]["cpu"].is_string(), "{owner}");
    let image = container["image"].as_str().unwrap();
    assert!(image.starts_with("registry.example.org"), "{image}");
    assert!(!image.ends_with(":latest"), "{image}");
    let names: Vec<&str> = items(&container["env"])
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len(), "{owner}: twice in {names:?}");
}

/// The volumes that `restricted` allows, and the engine's socket for the workers on nodes.
fn is_harmless(pod: &Pod, volume: &Value) {
    let kinds = ["configMap", "emptyDir", "projected", "secret"];
    let (kind, source) = members(volume).find(|(name, _)| *name != "name").unwrap();
    if kind == "hostPath" {
        assert_eq!(pod.component, "node-worker");
        assert_eq!(source["type"], "Socket");
        let mounts = pod
            .containers()
            .into_iter()
            .flat_map(|c| items(&c["volumeMounts"]));
        for mount in mounts.filter(|mount| mount["name"] == volume["name"]) {
            assert_eq!(mount["readOnly"], true);
        }
        return;
    }
    assert!(kinds.contains(&kind), "{}: {kind}", pod.owner);
    if kind == "emptyDir" {
        assert!(source["sizeLimit"].is_string(), "{}", pod.owner);
    }
    if kind == "secret" {
        assert_eq!(source["defaultMode"], 0o440, "others may not read it");
    }
}

/// What refers to Pods, or to what makes them, finds them.
pub fn are_found(rendering: &Rendering) {
    for document in &rendering.documents {
        let spec = &document["spec"];
        let (selector, makers) = match document["kind"].as_str().unwrap() {
            "Deployment" | "DaemonSet" => {
                let labels = &spec["template"]["metadata"]["labels"];
                assert!(selects(&spec["selector"]["matchLabels"], labels));
                continue;
            }
            "Service" => (&spec["selector"], 1),
            "PodDisruptionBudget" => (&spec["selector"]["matchLabels"], 1),
            "HorizontalPodAutoscaler" | "ScaledObject" => {
                let name = &spec["scaleTargetRef"]["name"];
                let mut targets = rendering.of("Deployment");
                let target = targets.find(|target| target["metadata"]["name"] == *name);
                let target = target.unwrap_or_else(|| panic!("{name}"));
                assert!(target["spec"]["replicas"].is_null(), "{name}: two masters");
                continue;
            }
            "ServiceMonitor" => {
                let selector = &spec["selector"]["matchLabels"];
                let services = rendering.of("Service");
                let found = services.filter(|s| selects(selector, &s["metadata"]["labels"]));
                assert_eq!(found.count(), 1);
                continue;
            }
            _ => continue,
        };
        let found = rendering.pods().filter(|pod| selects(selector, pod.labels));
        assert_eq!(found.count(), makers, "{}", title(document));
    }
    for pod in rendering.pods().filter(|pod| pod.component == "api") {
        is_probed_and_drained(&pod);
    }
    for pod in rendering
        .pods()
        .filter(|pod| pod.component.ends_with("worker"))
    {
        let container = pod.containers()[0];
        for probe in ["readinessProbe", "livenessProbe"] {
            let asked = &container[probe]["exec"]["command"];
            assert_eq!(*asked, json!(["/usr/bin/plimsoll-worker", "healthcheck"]));
        }
        // Longer than a restart of Postgres takes.
        let patience = |key: &str| container["livenessProbe"][key].as_u64().unwrap();
        assert!(patience("periodSeconds") * patience("failureThreshold") >= 300);
    }
}

/// As `api/` does it: ten seconds for requests under way, after the endpoints are gone.
fn is_probed_and_drained(pod: &Pod) {
    let container = pod.containers()[0];
    let path = &container["readinessProbe"]["httpGet"]["path"];
    let document = plimsoll_api::drydock::spec::COMMITTED;
    let document: Value = serde_json::from_str(document).unwrap();
    assert!(document["paths"][path.as_str().unwrap()]["get"].is_object());
    for probe in ["startupProbe", "livenessProbe"] {
        assert_eq!(container[probe]["tcpSocket"]["port"], "http");
    }
    let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        .as_u64()
        .unwrap();
    let grace = pod.spec["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > sleep + 10, "{grace} {sleep}");
}

/// Before the first installation there is nothing else of the release.
pub fn of_hooks_stand_alone(rendering: &Rendering) {
    let titles = |hooks: bool| -> BTreeSet<String> {
        let documents = rendering.documents.iter();
        let chosen = documents.filter(|document| is_hook(document) == hooks);
        chosen.map(title).collect()
    };
    let (owned, hooks) = (titles(false), titles(true));
    for pod in rendering.pods() {
        for reference in references(&pod) {
            let made = owned.contains(&reference);
            assert!(
                !(pod.hook && made),
                "{}: {reference} is not there yet",
                pod.owner
            );
            // What is named after the release is the release's.
            let ours = ["ConfigMap/", "Secret/fleet"];
            if ours.iter().any(|start| reference.starts_with(start)) {
                let there = made || (pod.hook && hooks.contains(&reference));
                assert!(there, "{}: {reference} is missing", pod.owner);
            }
        }
    }
}

/// What a Pod cannot start without, as `kind/name`.
fn references(pod: &Pod) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |kind: &str, name: &Value| {
        if let Some(name) = name.as_str() {
            found.insert(format!("{kind}/{name}"));
        }
    };
    add("ServiceAccount", &pod.spec["serviceAccountName"]);
    for container in pod.containers() {
        for variable in items(&container["env"]) {
            let from = &variable["valueFrom"];
            add("Secret", &from["secretKeyRef"]["name"]);
            add("ConfigMap", &from["configMapKeyRef"]["name"]);
        }
        for from in items(&container["envFrom"]) {
            add("Secret", &from["secretRef"]["name"]);
            add("ConfigMap", &from["configMapRef"]["name"]);
        }
    }
    for volume in items(&pod.spec["volumes"]) {
        add("Secret", &volume["secret"]["secretName"]);
        add("ConfigMap", &volume["configMap"]["name"]);
    }
    found
}
