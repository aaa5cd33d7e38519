//! Network policies: everything is denied but what is listed.

use std::net::IpAddr;

use serde_json::Value;

use super::manifests::{Rendering, is_hook, items, selects, title};

pub fn is_denied_but_for_rules(rendering: &Rendering) {
    for pod in rendering.pods() {
        let policies: Vec<&Value> = rendering
            .of("NetworkPolicy")
            .filter(|policy| selects(&policy["spec"]["podSelector"]["matchLabels"], pod.labels))
            // Before the first installation only hooks are there.
            .filter(|policy| !pod.hook || is_hook(policy))
            .collect();
        assert!(!policies.is_empty(), "{} is in no policy", pod.owner);
        for policy in &policies {
            let types = ["Ingress", "Egress"];
            assert!(items(&policy["spec"]["policyTypes"]).eq(types), "{policy}");
        }
        let ingress = policies.iter().flat_map(|p| items(&p["spec"]["ingress"]));
        let called: Vec<&Value> = ingress.flat_map(|rule| items(&rule["ports"])).collect();
        match pod.component {
            "api" => {
                let opened = pod.containers().into_iter();
                let opened = opened.flat_map(|container| items(&container["ports"]));
                let opened = opened.map(|port| &port["name"]);
                assert!(called.iter().map(|port| &port["port"]).eq(opened));
            }
            other => assert!(called.is_empty(), "{other} is called by nobody"),
        }
        let egress = policies.iter().flat_map(|p| items(&p["spec"]["egress"]));
        let mut reached = 0;
        for rule in egress {
            reached += 1;
            assert!(items(&rule["ports"]).count() > 0, "to every port: {rule}");
            for port in items(&rule["ports"]) {
                assert!(port["port"].is_u64(), "{port}");
            }
            for block in items(&rule["to"]).map(|peer| &peer["ipBlock"]) {
                is_not_of_the_cloud(block);
            }
        }
        assert!(reached >= 2, "{}: no DNS or no database", pod.owner);
    }
    let denying = rendering.of("NetworkPolicy").filter(|policy| {
        let spec = &policy["spec"];
        spec["ingress"].is_null() && spec["egress"].is_null()
    });
    let denying: Vec<String> = denying.map(title).collect();
    assert_eq!(denying.len(), 1, "{denying:?}");
}

/// Where a block covers the addresses at which clouds hand out credentials, it leaves them out.
fn is_not_of_the_cloud(block: &Value) {
    let Some(cidr) = block["cidr"].as_str() else {
        return;
    };
    let (address, length) = cidr.split_once('/').unwrap();
    let address: IpAddr = address.parse().unwrap();
    let left_out: &[&str] = match address {
        _ if length != "0" => &[],
        IpAddr::V4(_) => &["169.254.0.0/16"],
        IpAddr::V6(_) => &["fe80::/10", "fd00:ec2::254/128"],
    };
    for range in left_out {
        assert!(
            items(&block["except"]).any(|found| found == range),
            "{block}"
        );
    }
}
