use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{ids::ContainerId, labels::UserLabels, testing};

/// `name` runs on the engine `local`; its id is made of `number`.
fn container(number: u64, name: &str, labels: &[(&str, &str)], host: Value) -> ContainerFacts {
    let mut facts = (*testing::container(name, "1.0.0").facts).clone();
    facts.id = ContainerId::parse(&format!("{number:064x}")).unwrap();
    let labels: BTreeMap<String, String> = labels
        .iter()
        .map(|(key, value)| {
            let key = match key.starts_with("d") && key.contains('.') {
                true => (*key).to_owned(),
                false => format!("com.docker.compose.{key}"),
            };
            (key, (*value).to_owned())
        })
        .collect();
    let none = BTreeMap::new();
    let user = UserLabels::new(&labels, &none);
    facts.compose = user.compose();
    facts.wiring = Wiring::read(&user, &json!({ "HostConfig": host }));
    facts
}

/// A container of the service that is called otherwise than the service.
fn service(number: u64, project: &str, service: &str, depends_on: &str) -> ContainerFacts {
    let labels = [
        ("project", project),
        ("service", service),
        ("depends_on", depends_on),
    ];
    let name = format!("zz-{}-{service}", 9 - number % 10);
    container(number, &name, &labels, json!({}))
}

fn survey(containers: &[ContainerFacts]) -> Survey {
    Survey::of(&containers.iter().collect::<Vec<_>>(), &[])
}

fn names(survey: &Survey, nodes: &[usize]) -> Vec<String> {
    let name = |node: &usize| survey.node(*node).name.clone();
    nodes.iter().map(name).collect()
}

fn order(containers: &[ContainerFacts]) -> Vec<String> {
    let survey = survey(containers);
    assert_eq!(survey.stacks().len(), 1);
    names(&survey, &survey.stacks()[0].order)
}

/// `a -depends-on,network-> b`
fn arrows(survey: &Survey, node: usize) -> Vec<String> {
    let node = survey.node(node);
    let arrow = |dependency: &Dependency| {
        let reasons: Vec<&str> = dependency.reasons.iter().map(|r| r.as_str()).collect();
        let on = match &dependency.on {
            Target::Node(on) => survey.node(*on).name.clone(),
            Target::Missing(name) => format!("({name})"),
        };
        format!("{} -{}-> {on}", node.name, reasons.join(","))
    };
    node.dependencies.iter().map(arrow).collect()
}

#[test]
fn labels_of_compose_are_read_whoever_wrote_them() {
    let read = |depends_on: &str| {
        let wiring = service(1, "p", "s", depends_on).wiring;
        let shown = wiring.depends_on.iter();
        shown
            .map(|d| format!("{} {} {}", d.service, d.condition.as_str(), d.restart))
            .collect::<Vec<_>>()
    };
    for (label, expected) in [
        ("", vec![]),
        (" , ,", vec![]),
        ("db", vec!["db service_started false"]),
        ("db:service_healthy", vec!["db service_healthy false"]),
        (
            "db:service_healthy:true,cache:service_started:false",
            vec!["cache service_started false", "db service_healthy true"],
        ),
        (
            "init:service_completed_successfully:false",
            vec!["init service_completed_successfully false"],
        ),
        ("db:service_to_come:true", vec!["db service_started true"]),
        (":service_healthy:true", vec![]),
        ("db,db", vec!["db service_started false"]),
    ] {
        assert_eq!(read(label), expected, "{label}");
    }
    let labels = [
        ("project", "p"),
        ("service", "web"),
        ("container-number", "2"),
        ("project.config_files", "/srv/compose.yaml,/srv/more.yaml"),
        ("project.working_dir", "/srv"),
    ];
    let wiring = container(1, "x", &labels, json!({})).wiring;
    assert_eq!(wiring.number, Some(2));
    assert_eq!(wiring.config_files, ["/srv/compose.yaml", "/srv/more.yaml"]);
    assert_eq!(wiring.working_directory.as_deref(), Some("/srv"));
    assert_eq!(wiring.one_off, None);
}

#[test]
fn namespaces_and_volumes_of_others_are_read_from_the_inspection() {
    let host = json!({
        "NetworkMode": "container:/vpn",
        "IpcMode": "container:0123",
        "PidMode": "host",
        "VolumesFrom": ["data:ro", "data", "/other"],
    });
    let wiring = container(1, "x", &[], host).wiring;
    assert_eq!(wiring.network.as_deref(), Some("vpn"));
    assert_eq!(wiring.ipc.as_deref(), Some("0123"));
    assert_eq!(wiring.pid, None);
    assert_eq!(wiring.volumes_from, ["data", "other"]);
    let plain = json!({ "NetworkMode": "bridge", "IpcMode": "private", "VolumesFrom": null });
    assert!(container(1, "x", &[], plain).wiring.is_empty());
}

#[test]
fn the_image_cannot_ask_for_restarts() {
    let key = "docksmith.restart-after".to_owned();
    let own = BTreeMap::from([(key.clone(), "a, /b".to_owned())]);
    let read = |image: &BTreeMap<String, String>| {
        let labels = UserLabels::new(&own, image);
        Wiring::read(&labels, &Value::Null).restart_after
    };
    assert_eq!(read(&BTreeMap::new()), ["a", "b"]);
    assert!(read(&own).is_empty());
    let ours = ["com.docker.compose.depends_on", "dd.depends_on"].map(str::to_owned);
    let own = BTreeMap::from(ours.clone().map(|key| (key, "db".to_owned())));
    let image = BTreeMap::from([(ours[1].clone(), "db".to_owned())]);
    let wiring = Wiring::read(&UserLabels::new(&own, &image), &Value::Null);
    assert_eq!(wiring.depends_on.len(), 1, "Compose's counts");
    assert!(wiring.comes_after.is_empty());
}

#[test]
fn drydocks_labels_say_what_comes_before_and_whether_that_is_followed_by_a_restart() {
    const ON: &str = "dd.depends_on";
    const ACTION: &str = "dd.depends_on.action";
    let compose = ("depends_on", "db:service_healthy:false");
    let (project, service) = (("project", "p"), ("service", "x"));
    let after = ("docksmith.restart-after", "b,a");
    for (labels, expected) in [
        (vec![], "db||"),
        (vec![(ACTION, "update")], "db||"),
        (vec![(ACTION, "restart")], "db restart||"),
        (vec![(ON, "db")], "|db|"),
        (vec![(ON, " db ,/cache,, db ")], "|cache,db|"),
        // Nothing at all, and Compose is not asked either.
        (vec![(ON, "")], "||"),
        (vec![(ON, "db"), (ACTION, "update")], "|db|"),
        (vec![(ON, "db"), (ACTION, "restart")], "||db"),
        (vec![(ON, "db"), (ACTION, " Restart ")], "||db"),
        // What is no action is `update`, as in Drydock.
        (vec![(ON, "db"), (ACTION, "recreate")], "|db|"),
        (vec![after], "db||a,b"),
        (vec![after, (ON, "db")], "|db|a,b"),
        (vec![after, (ON, "c,a"), (ACTION, "restart")], "||a,b,c"),
        (vec![after, (ACTION, "restart")], "db restart||a,b"),
    ] {
        let all = [&[project, service, compose], &labels[..]].concat();
        let wiring = container(1, "x", &all, json!({})).wiring;
        let services = wiring.depends_on.iter().map(|one| {
            let restart = if one.restart { " restart" } else { "" };
            format!("{}{restart}", one.service)
        });
        let services: Vec<String> = services.collect();
        let (before, follows) = (&wiring.comes_after, &wiring.restart_after);
        let shown = [services.join(","), before.join(","), follows.join(",")];
        assert_eq!(shown.join("|"), expected, "{labels:?}");
    }
}

#[test]
fn services_are_ordered_by_what_they_need_and_then_by_name() {
    let s = |n, name, needs| service(n, "shop", name, needs);
    for (containers, expected) in [
        (vec![s(1, "b", ""), s(2, "a", "")], "a b"),
        // The names of the containers say the opposite, and are not what is ordered.
        (
            vec![s(1, "app", "db"), s(2, "db", ""), s(3, "web", "app")],
            "db app web",
        ),
        (
            vec![s(1, "a", "z:service_healthy:true"), s(2, "z", "")],
            "z a",
        ),
        (vec![s(1, "a", "c"), s(2, "b", ""), s(3, "c", "")], "b c a"),
        // A diamond.
        (
            vec![
                s(1, "top", "left,right"),
                s(2, "right", "base"),
                s(3, "left", "base"),
                s(4, "base", ""),
            ],
            "base left right top",
        ),
        // What is not there is waited for by nobody.
        (vec![s(1, "b", "gone"), s(2, "c", "b")], "b c"),
        // Two containers of one service are one place.
        (
            vec![s(1, "web", "db"), s(2, "web", "db"), s(3, "db", "")],
            "db web",
        ),
        (vec![s(1, "a", "a")], "a"),
    ] {
        let mut reversed = containers.clone();
        reversed.reverse();
        assert_eq!(order(&containers).join(" "), expected);
        assert_eq!(order(&reversed).join(" "), expected, "whatever came first");
    }
}

#[test]
fn one_thing_is_found_by_service_by_name_and_by_id() {
    let vpn = service(0xabc, "media", "vpn", "");
    let id = vpn.id.to_string();
    let in_stack = |n: u64, service: &str, host: Value, restart_after: &str| {
        let labels = [
            ("project", "media"),
            ("service", service),
            ("docksmith.restart-after", restart_after),
        ];
        container(n, &format!("c{n}"), &labels, host)
    };
    let containers = [
        in_stack(
            1,
            "a",
            json!({ "NetworkMode": format!("container:{id}") }),
            "",
        ),
        in_stack(
            2,
            "b",
            json!({ "PidMode": format!("container:{}", vpn.name) }),
            "",
        ),
        in_stack(3, "c", json!({}), "vpn"),
        in_stack(4, "d", json!({}), &vpn.name),
        service(5, "media", "e", "vpn"),
        in_stack(6, "f", json!({ "VolumesFrom": [&id[..63]] }), ""),
        // The beginning of more than one id means none of them.
        in_stack(
            7,
            "g",
            json!({ "IpcMode": format!("container:{}", &id[..12]) }),
            "",
        ),
        vpn,
    ];
    let survey = survey(&containers);
    let stack = &survey.stacks()[0];
    assert_eq!(
        names(&survey, &stack.services),
        ["a", "b", "c", "d", "e", "f", "g", "vpn"]
    );
    let all: Vec<String> = stack
        .services
        .iter()
        .flat_map(|node| arrows(&survey, *node))
        .collect();
    assert_eq!(
        all,
        [
            "a -network-> vpn",
            "b -pid-> vpn",
            "c -restart-after-> vpn",
            "d -restart-after-> vpn",
            "e -depends-on-> vpn",
            "f -volumes-from-> vpn",
            "g -ipc-> (000000000000)",
        ]
    );
    assert_eq!(
        names(&survey, &stack.order),
        ["g", "vpn", "a", "b", "c", "d", "e", "f"]
    );
}

#[test]
fn many_reasons_are_one_dependency_with_the_strictest_condition() {
    let labels = [
        ("project", "p"),
        ("service", "app"),
        ("depends_on", "vpn:service_healthy:true"),
        ("docksmith.restart-after", "vpn"),
    ];
    let host = json!({ "NetworkMode": "container:tunnel" });
    let mut vpn = service(2, "p", "vpn", "");
    vpn.name = "tunnel".to_owned();
    let survey = survey(&[container(1, "app", &labels, host), vpn]);
    let [app, vpn] = survey.stacks()[0].services[..] else {
        panic!("two services");
    };
    let [dependency] = &survey.node(app).dependencies[..] else {
        panic!("one dependency");
    };
    assert_eq!(dependency.on, Target::Node(vpn));
    let expected = [Reason::DependsOn, Reason::Network, Reason::RestartAfter];
    assert_eq!(dependency.reasons, expected);
    assert_eq!(dependency.condition, Condition::Healthy);
    assert!(dependency.restart && dependency.is_hard());
}

#[test]
fn nothing_reaches_from_one_engine_to_another() {
    let mut remote = service(3, "shop", "db", "");
    remote.watcher = WatcherRef::local("remote");
    let here = service(1, "shop", "web", "db");
    let survey = survey(&[here, service(2, "other", "db", ""), remote]);
    let stacks: Vec<String> = survey
        .stacks()
        .iter()
        .map(|stack| format!("{}@{}", stack.name, stack.watcher))
        .collect();
    assert_eq!(stacks, ["other@local", "shop@local", "shop@remote"]);
    let web = survey.stacks()[1].services[0];
    assert_eq!(arrows(&survey, web), ["web -depends-on-> (db)"]);
}

#[test]
fn order_goes_through_what_is_outside_of_the_stack() {
    let host = |name: &str| json!({ "NetworkMode": format!("container:{name}") });
    let mut b = service(1, "p", "b", "");
    b.name = "b-1".to_owned();
    let labels = [("project", "p"), ("service", "a")];
    let containers = [
        container(2, "a-1", &labels, host("between")),
        container(3, "between", &[("dd.depends_on", "b-1")], json!({})),
        b,
    ];
    assert_eq!(order(&containers), ["b", "a"]);
    let survey = survey(&containers);
    assert_eq!(names(&survey, survey.standalone()), ["between"]);
}

#[test]
fn a_circle_is_named_and_everybody_keeps_a_place() {
    let s = |n, name, needs| service(n, "p", name, needs);
    let containers = [
        s(1, "web", "app"),
        s(2, "app", "queue"),
        s(3, "queue", "app,db"),
        s(4, "db", ""),
    ];
    let survey = survey(&containers);
    let stack = &survey.stacks()[0];
    assert_eq!(names(&survey, &stack.order), ["db", "app", "queue", "web"]);
    let cycles: Vec<_> = stack.cycles.iter().map(|c| names(&survey, c)).collect();
    assert_eq!(cycles, [["app", "queue"]]);
    let needs = |node: usize| survey.needs(stack.services[node], &stack.services).count();
    // app, db, queue, web: what goes against the order is nothing to wait for.
    assert_eq!([0, 1, 2, 3].map(needs), [0, 0, 2, 1]);
}

#[test]
fn within_a_circle_what_lives_in_a_namespace_comes_after_its_owner() {
    let labels = |service, after| {
        [
            ("project", "p"),
            ("service", service),
            ("docksmith.restart-after", after),
        ]
    };
    let host = json!({ "NetworkMode": "container:z" });
    let containers = [
        container(1, "a", &labels("a", ""), host),
        container(2, "z", &labels("z", "a"), json!({})),
    ];
    assert_eq!(order(&containers), ["z", "a"]);
}

#[test]
fn one_off_runs_are_shown_and_are_no_part_of_the_order() {
    let labels = [("project", "p"), ("service", "web"), ("oneoff", "True")];
    let survey = survey(&[
        container(1, "p-web-run-1", &labels, json!({})),
        service(2, "p", "web", ""),
    ]);
    let stack = &survey.stacks()[0];
    assert_eq!((stack.services.len(), &stack.one_offs[..]), (1, &[0][..]));
    assert!(survey.standalone().is_empty());
    assert_eq!(survey.node_of(0), None);
}

#[test]
fn the_status_counts_what_should_run() {
    let status = |states: &[(&str, &str, &str)]| {
        let containers: Vec<_> = states
            .iter()
            .zip(1..)
            .map(|((name, state, needs), n)| {
                let mut facts = service(n, "p", name, needs);
                facts.status = (*state).to_owned();
                facts
            })
            .collect();
        survey(&containers).stacks()[0].status.as_str()
    };
    let waits = "init:service_completed_successfully:false";
    for (states, expected) in [
        (&[("a", "running", ""), ("b", "running", "")][..], "running"),
        (&[("a", "running", ""), ("b", "exited", "")], "partial"),
        (&[("a", "running", ""), ("b", "restarting", "")], "partial"),
        (&[("a", "paused", ""), ("b", "exited", "")], "stopped"),
        (
            &[("a", "running", waits), ("init", "exited", "")],
            "running",
        ),
        (
            &[("a", "running", waits), ("init", "created", "")],
            "partial",
        ),
        (&[("a", "exited", waits), ("init", "exited", "")], "stopped"),
    ] {
        assert_eq!(status(states), expected, "{states:?}");
    }
}

#[test]
fn restarts_are_followed_by_those_that_ask_for_it() {
    let s = |n, name, needs| service(n, "p", name, needs);
    let mut vpn = s(1, "vpn", "");
    vpn.name = "tunnel".to_owned();
    let containers = [
        vpn,
        s(2, "torrent", "vpn:service_started:true"),
        s(3, "reads", "vpn:service_started:false"),
        s(4, "index", "torrent:service_started:true"),
        container(5, "away", &[], json!({ "NetworkMode": "container:tunnel" })),
        container(6, "asks", &[("docksmith.restart-after", "away")], json!({})),
    ];
    let survey = survey(&containers);
    let vpn = survey.node_of(0).unwrap();
    let followers = names(&survey, &survey.with_followers(&[vpn]));
    assert_eq!(followers, ["vpn", "away", "asks", "torrent", "index"]);
}

#[test]
fn a_long_chain_is_ordered_without_a_deep_stack() {
    let edges: Vec<Vec<Edge>> = (0..200_000)
        .map(|n: usize| {
            let on = n.checked_add(1).filter(|on| *on < 200_000);
            on.map(|on| Edge { on, is_hard: false })
                .into_iter()
                .collect()
        })
        .collect();
    let found = ordered(&edges);
    assert!(found.order.iter().rev().copied().eq(0..200_000));
}

#[test]
fn a_thousand_containers_in_a_hundred_stacks_are_all_there() {
    let containers: Vec<_> = (0..1000)
        .map(|n| {
            let (project, name) = (format!("p{:03}", n / 10), format!("s{}", n % 10));
            let needs = (n % 10 + 1..10)
                .map(|m| format!("s{m}"))
                .collect::<Vec<_>>();
            service(n, &project, &name, &needs.join(","))
        })
        .collect();
    let survey = survey(&containers);
    assert_eq!(survey.stacks().len(), 100);
    for stack in survey.stacks() {
        let expected: Vec<String> = (0..10).rev().map(|n| format!("s{n}")).collect();
        assert_eq!(names(&survey, &stack.order), expected);
    }
}

/// What each node reaches, by one step or more.
fn reachable(edges: &[Vec<Edge>]) -> Vec<BTreeSet<usize>> {
    let mut reached: Vec<BTreeSet<usize>> = edges
        .iter()
        .map(|needs| needs.iter().map(|edge| edge.on).collect())
        .collect();
    for _ in edges {
        for node in 0..edges.len() {
            let further: Vec<usize> = reached[node]
                .iter()
                .flat_map(|on| reached[*on].iter().copied())
                .collect();
            reached[node].extend(further);
        }
    }
    reached
}

proptest! {
    #[test]
    fn every_order_keeps_what_can_be_kept(
        size in 1usize..12,
        pairs in proptest::collection::vec((0usize..12, 0usize..12, any::<bool>()), 0..30),
    ) {
        let mut edges: Vec<Vec<Edge>> = vec![Vec::new(); size];
        for (node, on, is_hard) in pairs {
            edges[node % size].push(Edge { on: on % size, is_hard });
        }
        let reached = reachable(&edges);
        let in_circle = |a: usize, b: usize| reached[a].contains(&b) && reached[b].contains(&a);
        let Ordered { order, cycles } = ordered(&edges);
        let everybody: BTreeSet<usize> = (0..size).collect();
        prop_assert_eq!(order.len(), size);
        prop_assert_eq!(&order.iter().copied().collect::<BTreeSet<_>>(), &everybody);
        let place = |node: usize| order.iter().position(|n| *n == node).unwrap();
        for (node, needs) in edges.iter().enumerate() {
            for edge in needs {
                prop_assert!(
                    node == edge.on || in_circle(node, edge.on) || place(edge.on) < place(node),
                    "{} needs {} in {:?}", node, edge.on, order
                );
            }
        }
        // A cycle is exactly those that reach each other.
        for node in 0..size {
            let mut mates: Vec<usize> = (0..size).filter(|n| in_circle(node, *n)).collect();
            mates.retain(|mate| *mate != node);
            let own = cycles.iter().filter(|cycle| cycle.contains(&node)).collect::<Vec<_>>();
            prop_assert_eq!(own.len(), usize::from(!mates.is_empty()));
            if let Some(cycle) = own.first() {
                mates.push(node);
                mates.sort_unstable();
                prop_assert_eq!(*cycle, &mates);
            }
        }
        // The lowest of those that may come next does, where there is no circle.
        if cycles.is_empty() {
            for (at, node) in order.iter().enumerate() {
                let placed = &order[..at];
                let may_come = |n: &usize| {
                    !placed.contains(n)
                        && edges[*n].iter().all(|e| e.on == *n || placed.contains(&e.on))
                };
                prop_assert_eq!((0..size).find(may_come), Some(*node));
            }
        }
    }
}

fn described(name: &str, services: Vec<DescribedService>) -> Described {
    Described {
        name: name.to_owned(),
        directory: format!("/stacks/{name}"),
        files: vec![format!("/stacks/{name}/compose.yaml")],
        problem: None,
        services,
    }
}

fn in_file(name: &str, depends_on: &[&str]) -> DescribedService {
    let need = |service: &&str| ServiceDependency {
        service: (*service).to_owned(),
        condition: Condition::Started,
        restart: false,
    };
    DescribedService {
        name: name.to_owned(),
        depends_on: depends_on.iter().map(need).collect(),
        ..DescribedService::default()
    }
}

fn survey_beside(containers: &[ContainerFacts], stacks: Vec<Described>) -> Survey {
    let local = containers
        .first()
        .map_or_else(|| WatcherRef::local("local"), |one| one.watcher.clone());
    let stacks: Vec<_> = stacks.into_iter().map(|one| (local.clone(), one)).collect();
    Survey::of(&containers.iter().collect::<Vec<_>>(), &stacks)
}

#[test]
fn a_stack_that_was_never_started_has_its_services_in_order() {
    let mut web = in_file("a-web", &["b-db"]);
    web.restart_after = vec!["outside".to_owned(), "nobody".to_owned()];
    let mut db = in_file("b-db", &[]);
    db.shares = vec![
        (Reason::Network, Neighbour::Service("c-vpn".to_owned())),
        (
            Reason::VolumesFrom,
            Neighbour::Container("outside".to_owned()),
        ),
    ];
    let stacks = vec![described(
        "shop",
        vec![web, db, in_file("c-vpn", &["a-web"])],
    )];
    let outside = container(1, "outside", &[], json!({}));
    let survey = survey_beside(&[outside], stacks);
    let [stack] = survey.stacks() else { panic!() };
    assert_eq!(stack.status, StackStatus::Inactive);
    assert_eq!(names(&survey, &stack.services), ["a-web", "b-db", "c-vpn"]);
    assert_eq!(stack.cycles.len(), 1, "what needs each other is told");
    assert_eq!(stack.config_files, ["/stacks/shop/compose.yaml"]);
    assert_eq!(stack.working_directory.as_deref(), Some("/stacks/shop"));
    let all: Vec<Vec<String>> = stack.services.iter().map(|n| arrows(&survey, *n)).collect();
    let mut web = all[0].clone();
    web.sort();
    assert_eq!(
        web,
        [
            "a-web -depends-on-> b-db",
            "a-web -restart-after-> (nobody)",
            "a-web -restart-after-> outside",
        ]
    );
    assert!(
        all[1].contains(&"b-db -network-> c-vpn".to_owned()),
        "{all:?}"
    );
    assert!(
        all[1].contains(&"b-db -volumes-from-> outside".to_owned()),
        "{all:?}"
    );
    assert_eq!(names(&survey, survey.standalone()), ["outside"]);
}

#[test]
fn what_runs_and_what_is_described_are_one_stack() {
    let optional = DescribedService {
        is_optional: true,
        ..in_file("z-debug", &[])
    };
    let done = |number| {
        let mut web = service(
            number,
            "shop",
            "web",
            "init:service_completed_successfully:false",
        );
        web.wiring.working_directory = Some("/elsewhere".to_owned());
        web
    };
    // What the files say of a service with containers is left out.
    let file = || in_file("web", &["gone"]);
    for (services, expected) in [
        (vec![file()], StackStatus::Running),
        (vec![file(), optional.clone()], StackStatus::Running),
        (vec![file(), in_file("init", &[])], StackStatus::Running),
        (vec![file(), in_file("db", &[])], StackStatus::Partial),
    ] {
        let all = services.len();
        let mut broken = described("shop", services);
        broken.problem = Some("why".to_owned());
        let survey = survey_beside(&[done(1)], vec![broken]);
        let [stack] = survey.stacks() else { panic!() };
        assert_eq!(stack.status, expected);
        assert_eq!(stack.services.len(), all);
        let web = survey.node_of(0).unwrap();
        assert_eq!(survey.node(web).containers, [0]);
        assert!(
            !arrows(&survey, web)
                .iter()
                .any(|arrow| arrow.contains("gone"))
        );
        assert_eq!(stack.working_directory.as_deref(), Some("/elsewhere"));
        let directory = stack.directory.as_ref().unwrap();
        assert_eq!(
            (&*directory.path, directory.problem.as_deref()),
            ("/stacks/shop", Some("why"))
        );
    }
}

#[test]
fn two_directories_of_one_project_are_one_stack_that_says_so() {
    let one = described("shop", vec![in_file("web", &[])]);
    let other = Described {
        directory: "/stacks/other".to_owned(),
        ..described("shop", vec![in_file("web", &["db"]), in_file("db", &[])])
    };
    let survey = survey_beside(&[], vec![one, other]);
    let [stack] = survey.stacks() else { panic!() };
    assert_eq!(names(&survey, &stack.order).len(), 2);
    assert!(
        survey.node(stack.services[1]).dependencies.is_empty(),
        "the first counts"
    );
    let directory = stack.directory.as_ref().unwrap();
    assert_eq!(directory.path, "/stacks/shop");
    assert!(
        directory
            .problem
            .as_ref()
            .unwrap()
            .contains("/stacks/other")
    );
}

#[test]
fn a_description_is_of_its_engine_alone() {
    let elsewhere = WatcherRef {
        agent: "edge".to_owned(),
        name: "local".to_owned(),
    };
    let web = service(1, "shop", "web", "");
    let stacks = vec![(elsewhere, described("shop", vec![in_file("db", &[])]))];
    let survey = Survey::of(&[&web], &stacks);
    let found: Vec<_> = survey
        .stacks()
        .iter()
        .map(|stack| {
            (
                stack.watcher.agent.as_str(),
                stack.status,
                stack.directory.is_some(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("", StackStatus::Running, false),
            ("edge", StackStatus::Inactive, true)
        ]
    );
}
