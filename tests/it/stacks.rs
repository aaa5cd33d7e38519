//! Compose stacks: what is shown of them, and what is done to them.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use plimsoll_app::{observations::Observed, store::stack_directories::StackDirectory};
use plimsoll_domain::{
    container::{ComposeRef, ContainerFacts},
    ids::WatcherRef,
    stack::{Condition, Described, DescribedService, ServiceDependency},
};
use plimsoll_support::{image::Image, postgres::Database, redis::Redis, wait};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    compose::compose,
    fleet::{Case, Fleet, PATIENCE, operation_of, text},
    reads::container,
    replica::{Answer, Replica, answer},
};

fn service(number: u64, project: &str, service: &str, depends_on: &[&str]) -> ContainerFacts {
    let mut facts = container(&format!("{project}-{service}-1"), number);
    facts.compose = Some(ComposeRef {
        project: project.to_owned(),
        service: service.to_owned(),
    });
    facts.wiring.depends_on = depends_on
        .iter()
        .map(|service| ServiceDependency {
            service: (*service).to_owned(),
            condition: Condition::Started,
            restart: false,
        })
        .collect();
    facts
}

/// A replica that knows containers of several engines, none of which exists.
struct Paper {
    replica: Replica,
    token: String,
    database: Database,
    _redis: Redis,
}

impl Paper {
    async fn new() -> Self {
        let (database, redis) = (Database::migrated().await, Redis::start().await);
        let replica = Replica::start(&database, &redis).await;
        Self {
            token: replica.owner_token(&database).await,
            replica,
            database,
            _redis: redis,
        }
    }

    async fn observe(&self, watcher: WatcherRef, mut present: Vec<ContainerFacts>) {
        for facts in &mut present {
            facts.watcher = watcher.clone();
        }
        let gone = Vec::new();
        let observed = Observed { present, gone };
        self.replica.app.observe(&watcher, &observed).await.unwrap();
    }

    async fn get(&self, path: &str) -> Answer {
        let path = format!("/api/v1{path}");
        self.replica.get(&path, &self.token).await
    }
}

fn names(list: &Value) -> Vec<String> {
    let all = list.as_array().unwrap_or_else(|| panic!("{list:#}"));
    all.iter().map(|one| text(one, "name")).collect()
}

#[tokio::test]
async fn one_name_on_two_engines_is_two_stacks() {
    let paper = Paper::new().await;
    let remote = WatcherRef {
        agent: "edge".to_owned(),
        name: "local".to_owned(),
    };
    let shop = |number, name: &str| service(number, "shop", name, &[]);
    paper
        .observe(
            WatcherRef::local("local"),
            vec![shop(1, "web"), container("alone", 2)],
        )
        .await;
    paper
        .observe(remote, vec![shop(3, "db"), service(4, "blog", "app", &[])])
        .await;

    let all = paper.get("/stacks").await.json();
    assert_eq!(names(&all["data"]), ["blog", "shop", "shop"]);
    assert_eq!(all["total"], 3);
    assert_eq!(all["data"][1].get("agent"), None, "the local one has none");
    assert_eq!(all["data"][2]["agent"], "edge");
    let page = paper.get("/stacks?limit=1&offset=1").await.json();
    assert_eq!(
        (&page["data"][0], &page["hasMore"]),
        (&all["data"][1], &json!(true))
    );
    assert_eq!(page["_links"]["next"], "/api/v1/stacks?limit=1&offset=2");
    let local = paper.get("/stacks?agent=").await.json();
    assert_eq!(names(&local["data"]), ["shop"]);

    let ambiguous = paper.get("/stacks/shop").await;
    assert_eq!(ambiguous.status, 409);
    assert_eq!(
        ambiguous.json()["details"]["candidates"],
        json!([{"watcher": "local", "agent": ""}, {"watcher": "local", "agent": "edge"}])
    );
    let edge = paper.get("/stacks/shop?agent=edge").await;
    assert_eq!(edge.json(), all["data"][2]);
    assert_eq!(
        paper.get("/stacks/shop?agent=&watcher=local").await.json(),
        all["data"][1]
    );
    let missing = paper.get("/stacks/shop?watcher=nas").await;
    assert_eq!(
        (missing.status, missing.error()),
        (404, "Stack not found".to_owned())
    );
    assert_eq!(paper.get("/stacks/alone").await.status, 404);
    let alone = paper.get("/containers/standalone").await.json();
    assert_eq!(
        (names(&alone["data"]), &alone["total"]),
        (vec!["alone".to_owned()], &json!(1))
    );
}

#[tokio::test]
async fn a_thousand_containers_in_a_hundred_stacks_are_shown_at_once() {
    let paper = Paper::new().await;
    let facts = (0..1000).map(|n| {
        let needs: Vec<String> = (n % 10 + 1..10).map(|m| format!("s{m}")).collect();
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        service(
            n,
            &format!("p{:02}", n / 10),
            &format!("s{}", n % 10),
            &needs,
        )
    });
    paper
        .observe(WatcherRef::local("local"), facts.collect())
        .await;
    let first = paper.get("/stacks").await;
    let begun = Instant::now();
    let again = paper.get("/stacks").await;
    println!("{} bytes in {:?}", again.text.len(), begun.elapsed());
    assert_eq!(first.text, again.text);
    let all = again.json();
    assert_eq!(all["total"], 100);
    for stack in all["data"].as_array().unwrap() {
        let order = ["s9", "s8", "s7", "s6", "s5", "s4", "s3", "s2", "s1", "s0"];
        assert_eq!(stack["order"], json!(order));
        assert_eq!(stack["containerCount"], 10);
    }
    let etag = again.header("etag").to_owned();
    let known = paper.replica.request(Method::GET, "/api/v1/stacks");
    let known = known
        .bearer_auth(&paper.token)
        .header("if-none-match", etag);
    assert_eq!(answer(known).await.status, 304);
}

fn described(name: &str, services: &[&str]) -> Described {
    let service = |name: &&str| DescribedService {
        name: (*name).to_owned(),
        ..DescribedService::default()
    };
    Described {
        name: name.to_owned(),
        directory: format!("/stacks/{name}"),
        files: vec![format!("/stacks/{name}/compose.yaml")],
        problem: None,
        services: services.iter().map(service).collect(),
    }
}

#[tokio::test]
async fn what_directories_describe_is_shown_at_once_and_only_its_own_worker_changes_it() {
    let paper = Paper::new().await;
    let store = paper.replica.app.store();
    let (local, edge) = (
        WatcherRef::local("local"),
        WatcherRef {
            agent: "edge".to_owned(),
            name: "local".to_owned(),
        },
    );
    for watcher in [&local, &edge] {
        store.register_watcher(watcher, &json!({})).await.unwrap();
    }
    let tell = async |watcher: &WatcherRef, directories: &[StackDirectory]| {
        let told = store.write_stack_directories(watcher, directories).await;
        told.unwrap();
    };
    let directory = |path: &str, found: Result<Vec<Described>, &str>| StackDirectory {
        path: path.to_owned(),
        found: found.map_err(str::to_owned),
    };
    let shown = async || {
        let all = paper.get("/stacks").await.json();
        let shown = |one: &Value| {
            let services = names(&one["services"]).join(",");
            let problem = one["directory"]["problem"].as_str().unwrap_or_default();
            format!("{}: {services} {problem}", text(one, "name"))
        };
        let all: Vec<String> = all["data"].as_array().unwrap().iter().map(shown).collect();
        all
    };
    let web = service(1, "shop", "web", &[]);
    paper.observe(local.clone(), vec![web]).await;
    assert_eq!(shown().await, ["shop: web "]);
    let a = || directory("/a", Ok(vec![described("shop", &["db", "web"])]));
    let b = || directory("/b", Ok(vec![described("blog", &["app"])]));
    tell(&local, &[a(), b()]).await;
    assert_eq!(shown().await, ["blog: app ", "shop: db,web "]);
    // That of another engine has directories of its own, or none.
    tell(
        &edge,
        &[directory("/a", Ok(vec![described("wiki", &["app"])]))],
    )
    .await;
    tell(&edge, &[]).await;
    assert_eq!(shown().await, ["blog: app ", "shop: db,web "]);
    // A failed listing is not an empty listing.
    tell(&local, &[a(), directory("/b", Err("it is away"))]).await;
    assert_eq!(shown().await, ["blog: app it is away", "shop: db,web "]);
    tell(&local, &[directory("/c", Err("it is away"))]).await;
    assert_eq!(shown().await, ["shop: web "]);
    tell(&local, &[]).await;
    let left = paper.database.client().await;
    let left = left.query_one("SELECT count(*) FROM stack_directories", &[]);
    assert_eq!(left.await.unwrap().get::<_, i64>(0), 0);
}

/// A directory of projects, some of which were started.
struct Directory {
    fleet: Fleet,
    root: TempDir,
    image: String,
    /// The beginning of their names.
    prefix: String,
}

impl Directory {
    async fn new() -> Self {
        let fleet = Fleet::start(1).await;
        Self {
            image: fleet.publish("app", "1.0.0", Image::app("1.0.0")).await,
            prefix: fleet.docker.name("dirs").to_lowercase(),
            root: tempfile::tempdir().unwrap(),
            fleet,
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// `rest` of each service, after its image and labels.
    fn write(&self, project: &str, file: &str, top: &str, services: &[(&str, &str)]) -> PathBuf {
        let id = self.fleet.docker.id();
        let mut text = format!("{top}\nservices:\n");
        for (name, rest) in services {
            text += &format!(
                "  {name}:\n    image: {}\n    labels: {{plimsoll.test: \"{id}\", \
                 plimsoll.test.case: \"{id}-local\"}}\n    {rest}\n",
                self.image
            );
        }
        text += &format!("networks:\n  default:\n    labels:\n      plimsoll.test: \"{id}\"\n");
        let directory = self.root.path().join(self.name(project));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join(file);
        std::fs::write(&file, text).unwrap();
        file
    }

    async fn stack(&self, project: &str) -> Answer {
        let path = format!("/stacks/{}", self.name(project));
        answer(self.fleet.request(0, Method::GET, &path)).await
    }

    async fn post(&self, project: &str, what: &str) -> Answer {
        let path = format!("/stacks/{}/{what}", self.name(project));
        answer(self.fleet.request(0, Method::POST, &path)).await
    }

    /// After another look of the worker.
    async fn looked(&self) {
        let watch = self.fleet.request(0, Method::POST, "/containers/watch");
        let watched = answer(watch).await;
        assert_eq!(watched.status, 200, "{}", watched.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_of_a_directory_are_stacks_whether_or_not_they_were_started() {
    let place = Directory::new().await;
    let fleet = &place.fleet;
    let needs = "depends_on: {web: {condition: service_started}}";
    let started = [("web", ""), ("db", needs)];
    let started = place.write("started", "compose.yaml", "", &started);
    compose(&started, &["up", "--detach", "web"]).await;
    place.write(
        "never",
        "compose.yml",
        "",
        &[("a", "depends_on: [b]"), ("b", "")],
    );
    let name = format!("name: {}", place.name("other"));
    let named = place.write("dir", "docker-compose.yml", &name, &[("web", "")]);
    compose(&named, &["up", "--detach"]).await;
    place.write("broken", "compose.yaml", "services: [", &[]);
    let running = fleet.worker("local");
    let running = running
        .env("STACKS_DIR", place.root.path().display())
        .spawn();
    wait::until_true("the stacks to be listed", PATIENCE, async || {
        let all = fleet.get(0, "/stacks").await;
        let all = all["data"].as_array().unwrap().clone();
        let has_containers = |name: &str| {
            let mut all = all.iter();
            all.any(|one| one["name"] == place.name(name).as_str() && one["containerCount"] == 1)
        };
        all.len() == 4 && has_containers("started") && has_containers("other")
    })
    .await;

    let shop = place.stack("started").await.json();
    assert_eq!(shop["status"], "partial", "{shop:#}");
    assert_eq!(shop["order"], json!(["web", "db"]));
    assert_eq!(names(&shop["services"]), ["db", "web"]);
    let [db, web] = &shop["services"].as_array().unwrap()[..] else {
        panic!("{shop:#}");
    };
    assert_eq!(
        (&db["containers"], &db["described"]["image"]),
        (&json!([]), &json!(place.image))
    );
    assert_eq!(names(&db["dependencies"]), ["web"]);
    assert_eq!(
        names(&web["containers"]),
        [format!("{}-web-1", place.name("started"))]
    );
    let file = started.display().to_string();
    assert_eq!(
        shop["directory"],
        json!({"path": started.parent().unwrap(), "files": [file], "problem": null})
    );
    let never = place.stack("never").await.json();
    assert_eq!(
        (&never["status"], &never["containerCount"]),
        (&json!("inactive"), &json!(0))
    );
    assert_eq!(never["order"], json!(["b", "a"]));
    assert_eq!(never["configFiles"], never["directory"]["files"]);
    let other = place.stack("other").await.json();
    assert_eq!(
        (&other["status"], &other["updatesAvailable"]),
        (&json!("running"), &json!(0))
    );
    assert_eq!(other["directory"]["files"], json!([named]));
    let broken = place.stack("broken").await.json();
    let problem = text(&broken["directory"], "problem");
    assert!(problem.starts_with("compose.yaml: "), "{problem}");
    assert_eq!(
        (&broken["status"], &broken["services"]),
        (&json!("inactive"), &json!([]))
    );

    // Nothing is done to what is not there, and it is said.
    for stack in ["never", "broken"] {
        let refused = place.post(stack, "restart").await;
        assert_eq!(refused.status, 409, "{}", refused.text);
        assert_eq!(refused.error(), "There is no container to restart");
        let refused = place.post(stack, "update").await;
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
    let restarted = place.post("started", "restart").await;
    assert_eq!(restarted.status, 200, "{}", restarted.text);
    let restarted = restarted.json();
    assert_eq!(
        restarted["message"],
        "Stack restarted successfully; without containers: db"
    );
    assert_eq!(members(&restarted["members"]), names(&web["containers"]));
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    fleet
        .watched(&format!("{}-web-1", place.name("started")))
        .await;
    let updated = place.post("started", "update").await;
    assert_eq!(updated.status, 202, "{}", updated.text);
    let updated = updated.json();
    assert_eq!(
        updated["message"],
        "Stack update accepted; without containers: db"
    );
    assert_eq!(members(&updated["operations"]), names(&web["containers"]));
    let path = format!("/operation-groups/{}", text(&updated, "operationId"));
    wait::until_true("the update to be over", PATIENCE, async || {
        fleet.get(0, &path).await["status"] == "succeeded"
    })
    .await;

    // Docksmith's clients see them among the others.
    let docksmith = async |method: Method, path: &str| {
        let url = fleet.apis[0].url(&format!("/docksmith/api{path}"));
        answer(reqwest::Client::new().request(method, url)).await
    };
    let status = docksmith(Method::GET, "/status").await.json();
    let empty = json!({"name": place.name("never"), "containers": [], "has_updates": false,
                       "all_updatable": true, "update_priority": "none"});
    assert_eq!(status["data"]["stacks"][place.name("never")], empty);
    let explorer = docksmith(Method::GET, "/explorer").await.json();
    let stacks = &explorer["data"]["container_stacks"];
    assert_eq!(stacks[place.name("never")], json!([]));
    assert_eq!(names(&stacks[place.name("other")]).len(), 1);
    let path = format!("/restart/stack/{}", place.name("never"));
    let refused = docksmith(Method::POST, &path).await;
    assert_eq!(refused.status, 409, "{}", refused.text);

    std::fs::remove_dir_all(place.root.path().join(place.name("never"))).unwrap();
    place.write("broken", "compose.yaml", "", &[("mended", "")]);
    place.looked().await;
    assert_eq!(place.stack("never").await.status, 404);
    let mended = place.stack("broken").await.json();
    assert_eq!(names(&mended["services"]), ["mended"]);
    assert_eq!(mended["directory"]["problem"], Value::Null);
    // A worker of another engine knows nothing of them, and takes none away.
    let another = fleet.worker("elsewhere").spawn();
    wait::until_true("the other worker to watch", PATIENCE, async || {
        let all = fleet.get(0, "/watchers").await;
        let all = all["data"].as_array().unwrap();
        all.iter()
            .any(|one| one["name"] == "elsewhere" && one["metadata"]["connected"] == true)
    })
    .await;
    drop(another);
    assert_eq!(place.stack("broken").await.json(), mended);
    // Without the setting only what has containers is left.
    drop(running);
    let _worker = fleet.worker("local").spawn();
    wait::until_true("the directories to be forgotten", PATIENCE, async || {
        fleet.get(0, "/stacks").await["total"] == 2
    })
    .await;
    let shop = place.stack("started").await.json();
    assert_eq!(
        (&shop["status"], &shop["directory"]),
        (&json!("running"), &Value::Null)
    );
}

/// Services that are named otherwise than their containers, one of them in the network of another,
/// and a container outside that asks to be restarted after one of them.
struct Media {
    fleet: Fleet,
    project: String,
    outside: String,
    _directory: TempDir,
}

impl Media {
    async fn up() -> Self {
        let fleet = Fleet::start(1).await;
        let reference = fleet.publish("app", "1.0.0", Image::app("1.0.0")).await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("compose.yaml");
        let project = fleet.docker.name("media").to_lowercase();
        let id = fleet.docker.id();
        let service = |name: &str, rest: &str| {
            format!(
                "  {name}:\n    image: {reference}\n    labels:\n      plimsoll.test: \"{id}\"\n      \
                 plimsoll.test.case: \"{id}-local\"\n{rest}"
            )
        };
        let text = format!(
            "name: {project}\nservices:\n{}{}{}{}networks:\n  default:\n    labels:\n      \
             plimsoll.test: \"{id}\"\n",
            service(
                "a-web",
                "    depends_on: {b-torrent: {condition: service_started, restart: true}}\n"
            ),
            service("b-torrent", "    network_mode: service:c-vpn\n"),
            service(
                "c-vpn",
                &format!("    container_name: {project}-a-tunnel\n")
            ),
            service("d-cache", "    scale: 2\n"),
        );
        std::fs::write(&file, text).unwrap();
        compose(&file, &["up", "--detach"]).await;
        let tunnel = format!("{project}-a-tunnel");
        let outside = Case {
            labels: &[("docksmith.restart-after", &tunnel)],
            ..Case::app()
        };
        let outside = fleet.deploy("outside", outside).await;
        Self {
            fleet,
            project,
            outside,
            _directory: directory,
        }
    }

    /// When each container was started, by its name without the project's.
    async fn starts(&self) -> BTreeMap<String, String> {
        let mut starts = BTreeMap::new();
        for (name, service) in self.names() {
            let found = self.fleet.docker.inspect(&name).await;
            let state = found.and_then(|found| found.state);
            let at = state.and_then(|state| state.started_at).unwrap_or_default();
            starts.insert(service, at);
        }
        starts
    }

    /// Each container and what it is called in the tests.
    fn names(&self) -> Vec<(String, String)> {
        let all = [
            ("a-web-1", "web"),
            ("b-torrent-1", "torrent"),
            ("a-tunnel", "vpn"),
            ("d-cache-1", "cache-1"),
            ("d-cache-2", "cache-2"),
        ];
        let own = all.map(|(name, short)| (format!("{}-{name}", self.project), short.to_owned()));
        let mut names = own.to_vec();
        names.push((self.outside.clone(), "outside".to_owned()));
        names
    }

    /// Until the API shows all of it.
    async fn listed(&self) {
        self.fleet.listed(&self.outside).await;
        wait::until_true("all of the stack to be listed", PATIENCE, async || {
            let stacks = self.fleet.get(0, "/stacks").await;
            stacks["data"][0]["containerCount"] == 5
        })
        .await;
    }

    async fn stack(&self) -> Value {
        self.fleet
            .get(0, &format!("/stacks/{}", self.project))
            .await
    }
}

#[tokio::test]
async fn what_compose_made_is_shown_as_a_stack_with_its_order() {
    let media = Media::up().await;
    let fleet = &media.fleet;
    let _worker = fleet.worker("local").spawn();
    media.listed().await;
    let stack = media.stack().await;
    assert_eq!(stack["status"], "running");
    assert_eq!(
        stack["order"],
        json!(["c-vpn", "b-torrent", "a-web", "d-cache"])
    );
    assert_eq!(stack["cycles"], json!([]));
    assert_eq!(
        names(&stack["services"]),
        ["a-web", "b-torrent", "c-vpn", "d-cache"]
    );
    let needs = |service: usize| stack["services"][service]["dependencies"].clone();
    let need = |on: &str, reasons: &[&str]| {
        json!([{
            "name": on, "kind": "service", "stack": media.project, "reasons": reasons,
            "condition": "service_started", "restart": true,
        }])
    };
    assert_eq!(needs(0), need("b-torrent", &["depends-on"]));
    assert_eq!(needs(1), need("c-vpn", &["depends-on", "network"]));
    assert_eq!(needs(2), json!([]));
    let tunnel = format!("{}-a-tunnel", media.project);
    assert_eq!(names(&stack["services"][2]["containers"]), [tunnel]);
    let copies = names(&stack["services"][3]["containers"]);
    let copy = |n: u32| format!("{}-d-cache-{n}", media.project);
    assert_eq!(copies, [copy(1), copy(2)]);
    let file = stack["configFiles"][0].as_str().unwrap();
    assert!(file.ends_with("/compose.yaml"), "{file}");
    let directory = stack["workingDirectory"].as_str().unwrap();
    assert!(file.starts_with(directory), "{directory}");

    let alone = fleet.get(0, "/containers/standalone").await;
    assert_eq!(names(&alone["data"])[0], media.outside);
    assert_eq!(
        alone["data"][0]["dependencies"],
        need("c-vpn", &["restart-after"])
    );

    fleet
        .docker
        .client()
        .stop_container(
            &copy(2),
            None::<bollard::query_parameters::StopContainerOptions>,
        )
        .await
        .unwrap();
    wait::until_true("the stop to be shown", PATIENCE, async || {
        media.stack().await["status"] == "partial"
    })
    .await;
}

impl Media {
    fn restart(&self) -> reqwest::RequestBuilder {
        let path = format!("/stacks/{}/restart", self.project);
        self.fleet.request(0, Method::POST, &path)
    }

    /// The group once all of its members are over.
    async fn ended(&self, group: &str) -> Value {
        let path = format!("/operation-groups/{group}");
        wait::until("the group to be over", PATIENCE, async || {
            let group = self.fleet.get(0, &path).await;
            (group["status"] != "in-progress").then_some(group)
        })
        .await
    }

    /// How each member ended, by the container's name in these tests.
    fn ends(&self, group: &Value) -> BTreeMap<String, String> {
        let names: BTreeMap<String, String> = self.names().into_iter().collect();
        let members = group["members"].as_array().unwrap();
        members
            .iter()
            .map(|member| {
                let name = names[&text(member, "containerName")].clone();
                (name, text(member, "status"))
            })
            .collect()
    }
}

fn members(list: &Value) -> Vec<String> {
    let all = list.as_array().unwrap_or_else(|| panic!("{list:#}"));
    all.iter().map(|one| text(one, "containerName")).collect()
}

#[tokio::test]
async fn a_stack_is_restarted_in_its_order_and_what_follows_it_too() {
    let media = Media::up().await;
    let fleet = &media.fleet;
    let _worker = fleet.worker("local").spawn();
    media.listed().await;
    let before = media.starts().await;
    let done = answer(media.restart()).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let json = done.json();
    assert_eq!(json["message"], "Stack restarted successfully");
    let name = |service: &str| format!("{}-{service}", media.project);
    let expected = [
        name("a-tunnel"),
        name("b-torrent-1"),
        name("a-web-1"),
        name("d-cache-1"),
        name("d-cache-2"),
        media.outside.clone(),
    ];
    let mut shown = members(&json["members"]);
    assert_eq!(shown[0], expected[0], "what all others need");
    let place = |name: &str| shown.iter().position(|one| one == name).unwrap();
    assert!(place(&expected[1]) < place(&expected[2]), "{shown:?}");
    shown.sort();
    let mut all = expected.clone();
    all.sort();
    assert_eq!(shown, all);

    let after = media.starts().await;
    for (service, start) in &before {
        assert_ne!(*start, after[service], "{service} was started anew");
    }
    // Docker's times are all of the same form.
    assert!(after["vpn"] < after["torrent"], "{after:?}");
    assert!(after["torrent"] < after["web"], "{after:?}");
    assert!(after["vpn"] < after["outside"], "{after:?}");

    // One container, and what follows it: the cache and what it needs itself are left alone.
    let tunnel = text(&fleet.listed(&name("b-torrent-1")).await, "id");
    let path = format!("/containers/{tunnel}/restart?dependents=true");
    let some = fleet
        .request(0, Method::POST, &path)
        .header("prefer", "respond-async")
        .header("idempotency-key", "once");
    let accepted = answer(some.try_clone().unwrap()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let group = text(&accepted.json(), "operationId");
    let location = format!("/api/v1/operation-groups/{group}");
    assert_eq!(accepted.header("location"), location);
    let again = answer(some).await;
    assert_eq!(text(&again.json(), "operationId"), group);
    let ended = media.ended(&group).await;
    assert_eq!(
        (&ended["status"], &ended["kind"]),
        (&json!("succeeded"), &json!("restart-container"))
    );
    assert_eq!(
        members(&ended["members"]),
        [expected[1].clone(), expected[2].clone()]
    );
    let last = media.starts().await;
    assert!(
        after["web"] < last["torrent"] && last["torrent"] < last["web"],
        "{last:?}"
    );
    for left in ["vpn", "cache-1", "outside"] {
        assert_eq!(last[left], after[left], "{left}");
    }
    let audit = fleet
        .get(0, "/audit?action=container-restart&limit=200")
        .await;
    let details = format!("with the stack {}", media.project);
    let entries = audit["data"].as_array().unwrap();
    let is_it = |entry: &&Value| entry["details"] == details.as_str();
    assert_eq!(entries.iter().filter(is_it).count(), 6);
}

#[tokio::test]
async fn a_restart_of_a_stack_goes_on_when_a_worker_dies_in_it() {
    let media = Media::up().await;
    let fleet = &media.fleet;
    let mut mortal = fleet
        .worker("local")
        .env("PLIMSOLL_TEST_CRASH_AT", "restart:after")
        .spawn();
    media.listed().await;
    let before = media.starts().await;
    let accepted = answer(media.restart().header("prefer", "respond-async")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let group = text(&accepted.json(), "operationId");
    wait::until_true("the worker to die", PATIENCE, || {
        let is_dead = mortal.exited().is_some();
        async move { is_dead }
    })
    .await;
    let _worker = fleet.worker("local").spawn();
    let ended = media.ended(&group).await;
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["name"], media.project.as_str());
    let after = media.starts().await;
    for (service, start) in &before {
        assert_ne!(*start, after[service], "{service} was started anew");
    }
    assert!(after["vpn"] < after["torrent"] && after["torrent"] < after["web"]);
    let calls = fleet
        .rows
        .query_one(
            "SELECT count(*) FROM operation_journal
              WHERE entry = 'intent' AND note ->> 'step' = 'restart'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(calls.get::<_, i64>(0), 6, "nothing was restarted twice");
}

#[tokio::test]
async fn what_comes_after_a_container_that_cannot_be_restarted_is_left_as_it_is() {
    let media = Media::up().await;
    let fleet = &media.fleet;
    let worker = fleet.worker("local").spawn();
    media.listed().await;
    drop(worker);
    let missing = answer(fleet.request(0, Method::POST, "/stacks/none/restart")).await;
    assert_eq!(
        (missing.status, missing.error()),
        (404, "Stack not found".to_owned())
    );
    let before = media.starts().await;
    let accepted = answer(media.restart().header("prefer", "respond-async")).await;
    let group = text(&accepted.json(), "operationId");
    let second = answer(media.restart()).await;
    assert_eq!(second.status, 409, "{}", second.text);
    let active = operation_of(&second).to_string();
    let shown = fleet.get(0, &format!("/operation-groups/{group}")).await;
    let members = shown["members"].as_array().unwrap();
    assert!(members.iter().any(|member| member["id"] == active.as_str()));
    assert!(
        members
            .iter()
            .all(|member| member["status"] == "in-progress")
    );

    fleet
        .docker
        .remove(&format!("{}-b-torrent-1", media.project))
        .await;
    let _worker = fleet.worker("local").spawn();
    let ended = media.ended(&group).await;
    assert_eq!(ended["status"], "failed");
    let expected = [
        ("cache-1", "succeeded"),
        ("cache-2", "succeeded"),
        ("outside", "succeeded"),
        ("torrent", "failed"),
        ("vpn", "succeeded"),
        ("web", "failed"),
    ];
    let expected = expected.map(|(name, end)| (name.to_owned(), end.to_owned()));
    assert_eq!(media.ends(&ended), BTreeMap::from(expected));
    let web = ended["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|member| text(member, "containerName").ends_with("a-web-1"))
        .unwrap();
    let why = text(web, "lastError");
    assert!(why.contains("b-torrent-1"), "{why}");
    assert_eq!(media.starts().await["web"], before["web"], "it runs on");
}
