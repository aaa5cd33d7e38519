use super::*;

fn described(files: &[&str]) -> Vec<DescribedService> {
    describe(files, None, "shop").unwrap().services
}

#[test]
fn a_project_is_called_what_compose_calls_it() {
    // As Compose 2.26 says with `docker compose config`.
    for (names, variables, directory, expected, noted) in [
        (&[""][..], "", "shop", "shop", false),
        (&[""], "", "My App.2", "myapp2", false),
        (&[""], "", "-_Shop", "shop", false),
        (&[""], "", "Ärzte", "rzte", false),
        (&[""], "", "...", "...", true),
        (&["name: other"], "", "shop", "other", false),
        (&["name: \"Top_Name\""], "", "shop", "top_name", false),
        (&["name: ov.er 2"], "", "shop", "over2", false),
        (&["name: ''"], "", "shop", "shop", false),
        (&["name: a", "name: b"], "", "shop", "b", false),
        (&["name: a", "name: ''"], "", "shop", "a", false),
        (&["name: ${STACK:-usual}"], "", "shop", "usual", false),
        (
            &["name: ${STACK:-usual}"],
            "STACK=set",
            "shop",
            "set",
            false,
        ),
        (&[""], "COMPOSE_PROJECT_NAME=env", "shop", "env", false),
        (
            &["name: a"],
            "COMPOSE_PROJECT_NAME=env",
            "shop",
            "env",
            false,
        ),
        (&["name: a"], "COMPOSE_PROJECT_NAME=", "shop", "a", false),
        (&["name: a"], "COMPOSE_PROJECT_NAME=Env", "shop", "a", true),
        (&["name: a"], "COMPOSE_PROJECT_NAME=$X", "shop", "a", true),
        (&["name: a"], "no variable", "shop", "a", true),
        (&["name: a"], "COMPOSE_FILE=b.yml", "shop", "a", true),
    ] {
        let files: Vec<String> = names
            .iter()
            .map(|name| format!("{name}\nservices: {{a: {{image: x}}}}\n"))
            .collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let found = describe(&files, Some(variables), directory).unwrap();
        let case = format!("{names:?} {variables:?} {directory:?}: {:?}", found.notes);
        assert_eq!(found.name, expected, "{case}");
        assert_eq!(!found.notes.is_empty(), noted, "{case}");
        assert_eq!(found.services.len(), 1, "{case}");
    }
}

#[test]
fn dependencies_are_read_in_both_forms() {
    let (started, healthy, done) = (
        Condition::Started,
        Condition::Healthy,
        Condition::CompletedSuccessfully,
    );
    for (text, expected) in [
        ("[]", vec![]),
        ("[b, c]", vec![("b", started, false), ("c", started, false)]),
        (
            "{b: {condition: service_healthy}}",
            vec![("b", healthy, false)],
        ),
        (
            "{b: {condition: service_completed_successfully, required: false}}",
            vec![("b", done, false)],
        ),
        (
            "{b: {condition: service_started, restart: true}}",
            vec![("b", started, true)],
        ),
        ("{b: }", vec![("b", started, false)]),
        ("{b: {condition: unheard_of}}", vec![("b", started, false)]),
        ("*needs", vec![("b", healthy, false)]),
        (
            "{<<: *needs, c: {restart: \"true\"}}",
            vec![("b", healthy, false), ("c", started, true)],
        ),
    ] {
        let file = format!(
            "x-needs: &needs {{b: {{condition: service_healthy}}}}\n\
             services: {{a: {{image: x, depends_on: {text}}}}}\n"
        );
        let expected: Vec<ServiceDependency> = expected
            .into_iter()
            .map(|(service, condition, restart)| ServiceDependency {
                service: service.to_owned(),
                condition,
                restart,
            })
            .collect();
        assert_eq!(described(&[&file])[0].depends_on, expected, "{text}");
    }
}

#[test]
fn a_service_is_described_with_what_it_shares_and_follows() {
    let file = "
x-usual: &usual
  network_mode: service:vpn
services:
  app:
    <<: *usual
    image: registry.example.org/app:${TAG:-1.0}
    pid: container:tunnel
    ipc: shareable
    volumes_from: [data:ro, \"container:files:ro\"]
    links: [\"db:database\"]
    labels: [\"notes=two\\nlines\", \"docksmith.restart-after=x, /cache\"]
    profiles: [debug]
  built: {build: ., labels: {docksmith.restart-after: app}}
  child: {extends: {service: app}, network_mode: bridge, scale: 2}
  none: {image: x, scale: 0}
  later: {image: x, deploy: {replicas: 0}}
  elsewhere: {extends: {file: other.yaml, service: base}}
  empty:
  ordered: {image: x, depends_on: [app], labels: {dd.depends_on: \"db, /cache\"}}
  follower: {image: x, depends_on: [app], labels: {dd.depends_on.action: restart}}
";
    let all = describe(&[file], Some("TAG=2.0"), "shop").unwrap().services;
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "app",
            "built",
            "child",
            "elsewhere",
            "empty",
            "follower",
            "later",
            "none",
            "ordered"
        ]
    );
    let app = &all[0];
    assert_eq!(app.image.as_deref(), Some("registry.example.org/app:2.0"));
    assert_eq!(app.profiles, ["debug"]);
    assert!(app.is_optional && !app.is_built);
    let service = |name: &str| Neighbour::Service(name.to_owned());
    let container = |name: &str| Neighbour::Container(name.to_owned());
    assert_eq!(
        app.shares,
        [
            (Reason::Network, service("vpn")),
            (Reason::Pid, container("tunnel")),
            (Reason::VolumesFrom, service("data")),
            (Reason::VolumesFrom, container("files")),
        ]
    );
    assert_eq!(app.depends_on[0].service, "db");
    assert_eq!(app.restart_after, ["cache", "x"]);
    assert!(all[1].is_built && all[1].image.is_none());
    assert_eq!(all[1].restart_after, ["app"]);
    let of = |name: &str| all.iter().find(|one| one.name == name).unwrap();
    let ordered = of("ordered");
    assert_eq!(ordered.comes_after, ["cache", "db"]);
    assert!(ordered.depends_on.is_empty() && ordered.restart_after.is_empty());
    let follower = of("follower");
    assert!(follower.comes_after.is_empty() && follower.depends_on[0].restart);
    let child = &all[2];
    assert_eq!(child.image, app.image);
    assert_eq!(child.depends_on, app.depends_on);
    assert_eq!(child.shares, app.shares[1..], "its own network");
    assert_eq!((&all[3].image, all[3].is_optional), (&None, false));
    assert!(of("later").is_optional && of("none").is_optional);
}

#[test]
fn an_override_counts_before_the_file() {
    let file = "services:
  a: {image: x:1, depends_on: [b], network_mode: service:b, labels: {docksmith.restart-after: b}}
  b: {image: y}
";
    let over = "services:
  a: {image: x:2, depends_on: {b: {condition: service_healthy}, c: {}}, network_mode: host,
      labels: [docksmith.restart-after=c], profiles: [extra]}
  c: {build: .}
";
    let all = described(&[file, over]);
    let a = &all[0];
    assert_eq!(a.image.as_deref(), Some("x:2"));
    let needs: Vec<_> = a
        .depends_on
        .iter()
        .map(|d| (&*d.service, d.condition))
        .collect();
    assert_eq!(
        needs,
        [("b", Condition::Healthy), ("c", Condition::Started)]
    );
    assert_eq!(
        (a.shares.len(), &a.restart_after[..]),
        (0, &["c".to_owned()][..])
    );
    assert!(a.is_optional);
    assert_eq!(all.len(), 3);
}

#[test]
fn what_is_included_is_noted() {
    let found = describe(&["include: [parts/web.yaml]\n"], None, "shop").unwrap();
    assert!(found.services.is_empty());
    assert!(found.notes[0].contains("includes"), "{:?}", found.notes);
}

#[test]
fn what_is_no_compose_file_is_refused() {
    let bomb = || {
        let mut text = String::from("x0: &x0 {a: b}\n");
        for n in 1..60 {
            text += &format!("x{n}: &x{n} {{<<: [*x{0}, *x{0}]}}\n", n - 1);
        }
        text + "services: {a: *x59}\n"
    };
    let keys = |count: usize| {
        let keys: Vec<String> = (0..count).map(|n| format!("k{n}: 1")).collect();
        let mut text = format!("x: &x {{{}}}\nservices:\n", keys.join(", "));
        for n in 0..400 {
            text += &format!("  s{n}: *x\n");
        }
        text
    };
    let many: String = (0..501)
        .map(|n| format!("  s{n}: {{image: x}}\n"))
        .collect();
    for text in [
        "services: [a\n".to_owned(),
        "services: 5\n".to_owned(),
        "- a\n".to_owned(),
        "a: 1\n---\nb: 2\n".to_owned(),
        "services: {a: {image: x}, a: {image: y}}\n".to_owned(),
        "services: {\"we b\": {image: x}}\n".to_owned(),
        "services: {a: {image: \"x\\0y\"}}\n".to_owned(),
        "services: {a: {image: x, depends_on: {\"b\\0\": }}}\n".to_owned(),
        format!("services: {{a: {{image: {}}}}}\n", "x".repeat(5000)),
        "services: {a: {extends: {service: b}}, b: {extends: {service: a}}}\n".to_owned(),
        "services: {a: {extends: {service: none}}}\n".to_owned(),
        format!("services:\n{many}"),
        bomb(),
        keys(20_000),
        "a".repeat(super::super::MAX_BYTES + 1),
    ] {
        let shown: String = text.chars().take(60).collect();
        assert!(describe(&[&text], None, "shop").is_err(), "{shown}");
    }
}
