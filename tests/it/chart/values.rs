//! Values that are refused, with words for people.

use super::{chart, file, rendered};

/// Values beside charts/plimsoll/ci/minimal.yaml, and what the refusal must say.
const REFUSED: &[(&str, &str)] = &[
    ("replicas: 3", "replicas"),
    ("api: {replicaCount: many}", "replicaCount"),
    ("api: {replicaCount: -1}", "replicaCount"),
    ("api: {image: {tag: 'a b'}}", "tag"),
    (
        "api: {image: {digest: 'sha256:abc', repository: x}}",
        "digest",
    ),
    ("api: {resources: {limit: {}}}", "limit"),
    ("api: {service: {type: ExternalName}}", "type"),
    ("api: {service: {port: 70000}}", "port"),
    ("api: {livenessProbe: {httpGet: {path: /}}}", "httpGet"),
    (
        "api: {preStopSleepSeconds: 20}",
        "api.terminationGracePeriodSeconds must be at least 32",
    ),
    (
        "api: {autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 2}}",
        "minReplicas is more than",
    ),
    (
        "api: {autoscaling: {enabled: true, targetCPUUtilizationPercentage: null}}",
        "api.autoscaling has no target",
    ),
    (
        "api: {podDisruptionBudget: {maxUnavailable: null}}",
        "api.podDisruptionBudget has neither",
    ),
    (
        "api: {extraEnv: [{name: DD_SESSION_SECRET, value: x}]}",
        "extraEnv",
    ),
    (
        "ingress: {enabled: true, hosts: [{host: d.example.org, docksmith: true}]}",
        "set api.docksmith.enabled",
    ),
    (
        "httpRoute: {enabled: true, parentRefs: [{name: g}], docksmithHostnames: [d.example.org]}",
        "set api.docksmith.enabled",
    ),
    ("api: {docksmith: {port: 3001}}", "port"),
    ("image: {registry: ''}", "image.registry is missing"),
    ("image: {pullPolicy: Sometimes}", "pullPolicy"),
    ("imagePullSecrets: [login]", "imagePullSecrets"),
    (
        "database: {existingSecret: ''}",
        "database.url or database.existingSecret is missing",
    ),
    (
        "database: {url: 'postgresql://h/d'}",
        "database.url and database.existingSecret are both set",
    ),
    (
        "database: {existingSecret: '', url: 'mysql://h/d'}",
        "database.url",
    ),
    (
        "redis: {existingSecret: ''}",
        "redis.url or redis.existingSecret is missing",
    ),
    ("redis: {existingSecret: '', url: 'http://h'}", "redis.url"),
    ("log: {level: loud}", "level"),
    ("settings: {PLIMSOLL_LISTEN: 3000}", "PLIMSOLL_LISTEN"),
    ("settings: {LD_PRELOAD: x.so}", "LD_PRELOAD"),
    ("podSecurityContext: {runAsUser: 0}", "runAsUser"),
    ("podSecurityContext: {privileged: true}", "privileged"),
    ("worker: {engines: {nas: {}}}", "host"),
    (
        "worker: {engines: {nas: {host: nas}}}",
        "worker.engines.nas.tls.existingSecret is missing",
    ),
    ("worker: {engines: {my_nas: {host: nas}}}", "my_nas"),
    (
        "worker: {keda: {enabled: true, minReplicas: 0}}",
        "minReplicas",
    ),
    (
        "worker: {engines: {nas: {host: nas, tls: {enabled: false}}}, \
         keda: {enabled: true, minReplicas: 9}}",
        "worker.keda.minReplicas is more than",
    ),
    ("nodeWorker: {enabled: true, socketGroup: 0}", "socketGroup"),
    ("ingress: {enabled: true}", "hosts"),
    ("httpRoute: {enabled: true}", "parentRefs"),
    (
        "metrics: {serviceMonitor: {enabled: true}}",
        "metrics.existingSecret is missing",
    ),
    (
        "auth: {oidc: {corp: {discovery: 'https://id.example.org', clientId: x}}}",
        "publicUrl is missing",
    ),
    (
        "auth: {basic: {ann: {password: x, existingSecret: y}}}",
        "password",
    ),
    (
        "migrations: {database: {url: 'postgresql://h/d', existingSecret: x}}",
        "migrations.database.url and migrations.database.existingSecret are both set",
    ),
    ("networkPolicy: {https: {cidrs: [everywhere]}}", "cidrs"),
];

#[test]
fn values_that_mean_nothing_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for (at, (values, expected)) in REFUSED.iter().enumerate() {
            let path = directory.path().join(format!("{at}.yaml"));
            scope.spawn(move || {
                std::fs::write(&path, values).unwrap();
                let refusal = match rendered(&chart(), &[&file("minimal"), &path]) {
                    Ok(_) => panic!("taken: {values}"),
                    Err(refusal) => refusal,
                };
                assert!(refusal.contains(expected), "{values}: {refusal}");
            });
        }
    });
}
