//! docker-compose.yml as it is, on the real engine: two replicas behind a load balancer, a worker
//! behind the socket proxy. Only the images come from elsewhere (`images.rs`), and ports are added
//! so that the test can look at each part.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use plimsoll_domain::access::Role;
use plimsoll_support::{docker::Docker, image::Image, registry::Registry, wait};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::{TcpStream, UnixListener},
    sync::Semaphore,
    time::{Instant, interval},
};

use crate::{
    images::{built, docker, published, succeeded},
    replica::{answer, scopes_of},
    stream,
    world::password_in,
};

const SOON: Duration = Duration::from_secs(90);
/// The figure, while both replicas are restarted one after the other.
const REQUESTS_PER_SECOND: u64 = 200;
/// Requests under way, those that wait to be tried again among them. Where this machine has other
/// things to do and answers more slowly than it is asked, it is asked more slowly, and what was
/// measured is printed.
const AT_ONCE: usize = 400;

struct Stack {
    engine: Docker,
    registry: Registry,
    project: String,
    directory: TempDir,
    images: Vec<String>,
    client: reqwest::Client,
    token: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

impl Stack {
    async fn up() -> Self {
        let (engine, registry) = (Docker::connect().await, Registry::start().await);
        let images = vec![
            published(&registry, "plimsoll-api").await,
            published(&registry, "plimsoll-worker").await,
        ];
        let mut stack = Self {
            project: engine.name("stack"),
            directory: tempfile::tempdir().unwrap(),
            images,
            client: reqwest::Client::builder().no_gzip().build().unwrap(),
            token: String::new(),
            engine,
            registry,
        };
        stack.write();
        stack.lead_to_the_registry();
        stack.compose(&["up", "--detach", "--quiet-pull"]).await;
        stack.sign_in().await;
        stack
    }

    /// What the machine lacks, and what the test wants to see, beside the file itself.
    fn write(&self) {
        let services = built("stand-in-services");
        let environment = format!(
            "POSTGRES_PASSWORD=a-long-secret\nCOMPOSE_PROFILES=nginx,caddy\n\
             PLIMSOLL_API_IMAGE={}\nPLIMSOLL_WORKER_IMAGE={}\nPOSTGRES_IMAGE={}\n\
             SOCKET_PROXY_IMAGE={}\nREDIS_IMAGE={services}\nNGINX_IMAGE={services}\n\
             CADDY_IMAGE={services}\n",
            self.images[0],
            self.images[1],
            built("stand-in-postgres"),
            built("stand-in-haproxy"),
        );
        std::fs::write(self.directory.path().join(".env"), environment).unwrap();

        let labels = json!(self.engine.labels());
        let labelled = |mut value: Value| {
            value["labels"] = labels.clone();
            value
        };
        let settings = json!({"PLIMSOLL_SERVER_RATELIMIT_MAX": "0"});
        let scope = format!("plimsoll.test={}", self.engine.id());
        let way = self.directory.path().join("way");
        std::fs::create_dir(&way).unwrap();
        let forward = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen registry\n  bind 127.0.0.1:{}\n  server registry unix@/way/socket\n",
            self.registry.port()
        );
        std::fs::write(way.join("haproxy.cfg"), forward).unwrap();
        let open = |port: u16| json!({"ports": [format!("127.0.0.1::{port}")]});
        let balancer = || json!({"ports": Value::Null});
        let mut services = json!({
            "api-1": open(3000), "api-2": open(3000),
            "migrate": {}, "redis": {}, "postgres": {},
            "socket-proxy": {"ports": ["127.0.0.1::2375"], "networks": ["docker", "outside"]},
            "nginx": balancer(), "caddy": balancer(),
            "worker": {"environment": {
                "PLIMSOLL_WATCHER_LOCAL_SCOPE": scope,
                "PLIMSOLL_UPDATE_POST_START_LIVENESS_GRACE_MS": "1000",
            }},
            "way": {
                "image": built("stand-in-services"),
                "command": ["haproxy", "-db", "-f", "/way/haproxy.cfg"],
                "network_mode": "service:worker",
                "volumes": [format!("{}:/way", way.display())],
            },
        });
        for name in ["api-1", "api-2"] {
            services[name]["environment"] = settings.clone();
        }
        for service in services.as_object_mut().unwrap().values_mut() {
            *service = labelled(service.take());
        }
        let mut networks = json!({});
        for name in ["front", "edge", "data", "docker", "outside"] {
            networks[name] = labelled(json!({}));
        }
        let file = json!({
            "services": services, "networks": networks,
            "volumes": {"postgres": labelled(json!({}))},
        });
        // A load balancer's port is another one for each test: the list is replaced, not extended,
        // which JSON cannot say.
        let file = file.to_string().replace(
            "\"ports\":null",
            "\"ports\": !override [\"127.0.0.1::8080\"]",
        );
        std::fs::write(self.directory.path().join("test.yml"), file).unwrap();
    }

    /// The registry listens on this machine's loopback, as the engine wants it; the worker reaches
    /// it on its own, by a socket that is mounted beside it.
    fn lead_to_the_registry(&self) {
        let listener = UnixListener::bind(self.directory.path().join("way/socket")).unwrap();
        let port = self.registry.port();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(("127.0.0.1", port)).await?;
                    tokio::io::copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
    }

    async fn compose(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new("docker");
        let directory = self.directory.path();
        command
            .arg("compose")
            .arg("--project-name")
            .arg(&self.project)
            .arg("--env-file")
            .arg(directory.join(".env"))
            .arg("--file")
            .arg(root().join("docker-compose.yml"))
            .arg("--file")
            .arg(directory.join("test.yml"))
            .args(arguments);
        succeeded(command.output().await.unwrap(), arguments)
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.project)
    }

    async fn address(&self, service: &str, port: u16) -> String {
        docker(&["port", &self.container(service), &format!("{port}/tcp")]).await
    }

    async fn sign_in(&mut self) {
        let log = self
            .compose(&["logs", "--no-log-prefix", "api-1", "api-2"])
            .await;
        let password = password_in(&log).expect("a replica tells the first password");
        let url = format!("http://{}/api/v1/tokens", self.address("nginx", 8080).await);
        let request = self
            .client
            .post(url)
            .basic_auth("owner", Some(password))
            .json(&json!({"name": "test", "scopes": scopes_of(Role::Owner)}));
        let created = answer(request).await;
        assert_eq!(created.status, 201, "{}", created.text);
        created.json()["token"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.token);
    }

    fn request(&self, method: Method, address: &str, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{address}{path}"))
            .bearer_auth(&self.token)
    }

    /// An app at 1.0.0 with 1.1.0 beside it in the registry, as the API of `address` lists it.
    async fn outdated(&self, address: &str, stem: &str) -> String {
        for version in ["1.0.0", "1.1.0"] {
            let image = Image::app(version).label("plimsoll.test", self.engine.id());
            self.registry.push(stem, version, &image).await;
        }
        let reference = self.registry.reference(stem, "1.0.0");
        self.engine.pull(&reference).await;
        let name = self.engine.name(stem);
        let labels = [("dd.update.stability", "1")];
        let id = self.engine.run_labelled(&name, &reference, &labels).await;
        let path = format!("/api/v1/containers/{id}");
        wait::until_true("the container to be listed", SOON, async || {
            answer(self.request(Method::GET, address, &path))
                .await
                .status
                == 200
        })
        .await;
        let watch = self.request(Method::POST, address, &format!("{path}/watch"));
        let watched = answer(watch).await;
        assert_eq!(watched.status, 200, "{}", watched.text);
        assert_eq!(watched.json()["updateAvailable"], true, "{}", watched.text);
        id
    }

    async fn down(&self) {
        self.compose(&["down", "--volumes", "--timeout", "5"]).await;
        for image in &self.images {
            docker(&["rmi", "--no-prune", image]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stack_updates_through_the_proxy_and_restarts_without_losing_a_request() {
    let stack = Stack::up().await;
    an_update_on_one_replica_is_followed_on_the_other(&stack).await;
    the_engine_is_asked_for_nothing_else(&stack).await;
    for balancer in ["nginx", "caddy"] {
        a_rolling_restart_loses_nothing(&stack, balancer).await;
    }
    stack.down().await;
}

async fn an_update_on_one_replica_is_followed_on_the_other(stack: &Stack) {
    let one = stack.address("api-1", 3000).await;
    let other = stack.address("api-2", 3000).await;
    let id = stack.outdated(&one, "followed").await;
    let events = stack.request(Method::GET, &other, "/api/v1/events/ui");
    let mut events = stream::Client::open(events, None).await;
    let update = stack
        .request(
            Method::POST,
            &one,
            &format!("/api/v1/containers/{id}/update"),
        )
        .header("prefer", "respond-async");
    let accepted = answer(update).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let operation = accepted.json()["operationId"].clone();
    let mut phases = Vec::new();
    let status = loop {
        let event = events.next().await.expect("the stream goes on");
        if event.name != "dd:update-operation-changed" || event.data["operationId"] != operation {
            continue;
        }
        phases.push(event.data["phase"].clone());
        if let Some(status @ ("succeeded" | "failed" | "rolled-back")) =
            event.data["status"].as_str()
        {
            break status.to_owned();
        }
    };
    assert_eq!(status, "succeeded", "{phases:?}");
    let name = stack.engine.name("followed");
    let image = docker(&["inspect", "--format={{.Config.Image}}", &name]).await;
    assert!(image.ends_with(":1.1.0"), "{image}");
}

/// The allow-list has what an update needs, as was just seen; this is what it has not.
async fn the_engine_is_asked_for_nothing_else(stack: &Stack) {
    let proxy = stack.address("socket-proxy", 2375).await;
    let id = docker(&[
        "inspect",
        "--format={{.Id}}",
        &stack.engine.name("followed"),
    ])
    .await;
    let refused = [
        (Method::POST, format!("/v1.41/containers/{id}/exec")),
        (
            Method::POST,
            format!("/v1.41/containers/{id}/attach?stream=1"),
        ),
        (Method::GET, format!("/v1.41/containers/{id}/attach/ws")),
        (
            Method::GET,
            format!("/v1.41/containers/{id}/archive?path=/etc"),
        ),
        (
            Method::PUT,
            format!("/v1.41/containers/{id}/archive?path=/"),
        ),
        (Method::GET, format!("/v1.41/containers/{id}/export")),
        (Method::GET, format!("/v1.41/containers/{id}/top")),
        (
            Method::DELETE,
            format!("/v1.41/containers/{}", stack.engine.name("followed")),
        ),
        (Method::POST, "/v1.41/containers/prune".to_owned()),
        (Method::POST, "/v1.41/images/prune".to_owned()),
        (Method::POST, "/v1.41/images/load".to_owned()),
        (Method::POST, "/v1.41/images/a/push".to_owned()),
        (
            Method::POST,
            "/v1.41/images/create?fromSrc=-&repo=a".to_owned(),
        ),
        (Method::POST, "/v1.41/build".to_owned()),
        (Method::POST, "/v1.41/commit".to_owned()),
        (Method::POST, "/v1.41/auth".to_owned()),
        (Method::GET, "/v1.41/volumes/data".to_owned()),
        (Method::POST, "/v1.41/volumes/prune".to_owned()),
        (Method::DELETE, "/v1.41/volumes/..%2fimages".to_owned()),
        (Method::POST, "/v1.41/volumes/create".to_owned()),
        (Method::POST, "/v1.41/networks/create".to_owned()),
        (Method::DELETE, "/v1.41/networks/bridge".to_owned()),
        (Method::POST, "/v1.41/swarm/init".to_owned()),
        (Method::GET, "/v1.41/secrets".to_owned()),
        (Method::GET, "/v1.41/plugins".to_owned()),
        (Method::POST, "/v1.41/networks/prune".to_owned()),
        (Method::POST, "/v1.41/session".to_owned()),
        (Method::POST, "/grpc".to_owned()),
        (
            Method::POST,
            format!("/v1.41/images/../containers/{id}/exec/tag"),
        ),
        (
            Method::POST,
            format!("/v1.41/images/%2e%2e/containers/{id}/exec"),
        ),
        (
            Method::GET,
            "/v1.41/containers/..%2fvolumes/json".to_owned(),
        ),
        (Method::CONNECT, "/_ping".to_owned()),
    ];
    for (method, path) in refused {
        let status = raw(&proxy, &method, &path).await;
        assert!(matches!(status, 400 | 403), "{method} {path}: {status}");
    }
    for allowed in ["/_ping", "/v1.41/containers/json", "/v1.41/volumes"] {
        assert_eq!(raw(&proxy, &Method::GET, allowed).await, 200, "{allowed}");
    }
}

/// The status of a request that goes out as it is written: clients tidy paths up.
async fn raw(address: &str, method: &Method, path: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}

/// Reads, and one update that is asked for again and again with the same key.
async fn a_rolling_restart_loses_nothing(stack: &Stack, balancer: &str) {
    let address = stack.address(balancer, 8080).await;
    let stem = format!("through-{balancer}");
    let id = stack.outdated(&address, &stem).await;
    let over = tokio_util::sync::CancellationToken::new();
    let tried_again = Arc::new(AtomicU32::new(0));
    let load = {
        let (client, token) = (stack.client.clone(), stack.token.clone());
        let (address, over, tried_again) = (address.clone(), over.clone(), tried_again.clone());
        let path = format!("/api/v1/containers/{id}/update");
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(1000 / REQUESTS_PER_SECOND));
            let places = Arc::new(Semaphore::new(AT_ONCE));
            let mut asked = tokio::task::JoinSet::new();
            let mut number = 0_u64;
            while !over.is_cancelled() {
                ticks.tick().await;
                let place = places.clone().acquire_owned().await.unwrap();
                number += 1;
                let request = match number % 50 {
                    0 => client
                        .post(format!("http://{address}{path}"))
                        .header("idempotency-key", format!("{path}-once"))
                        .header("prefer", "respond-async"),
                    _ => client.get(format!("http://{address}/api/v1/containers?limit=1")),
                };
                let answered = persistent(request.bearer_auth(&token), tried_again.clone());
                asked.spawn(async move {
                    let answered = answered.await;
                    drop(place);
                    answered
                });
            }
            asked.join_all().await
        })
    };
    let begun = Instant::now();
    for replica in ["api-1", "api-2"] {
        let name = stack.container(replica);
        docker(&["restart", "--time", "30", &name]).await;
        wait::until_true("the replica to serve again", SOON, async || {
            // Another port for each start.
            let replica = stack.address(replica, 3000).await;
            let health = stack
                .client
                .get(format!("http://{replica}/health"))
                .send()
                .await;
            health.is_ok_and(|health| health.status() == 200)
        })
        .await;
    }
    over.cancel();
    let took = begun.elapsed();
    let answers = load.await.unwrap();
    let lost: Vec<&String> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
    assert!(
        lost.is_empty(),
        "{balancer}: {} of {} were lost: {:?}",
        lost.len(),
        answers.len(),
        lost.first()
    );
    eprintln!(
        "{balancer}: {} requests, {:.0} a second, {} tried again, none lost",
        answers.len(),
        answers.len() as f64 / took.as_secs_f64(),
        tried_again.load(Ordering::Relaxed)
    );
    // However often it was asked for, and of whichever replica: one operation, which succeeds.
    let operations: BTreeSet<String> = answers
        .iter()
        .flatten()
        .filter_map(|answer| Some(answer["operationId"].as_str()?.to_owned()))
        .collect();
    let [operation] = operations.iter().collect::<Vec<_>>()[..] else {
        panic!("{balancer}: {operations:?}");
    };
    let path = format!("/api/v1/update-operations/{operation}");
    wait::until_true("the one update to succeed", SOON, async || {
        let operation = answer(stack.request(Method::GET, &address, &path)).await;
        operation.json()["status"] == "succeeded"
    })
    .await;
}

/// What a client with idempotent retries does: no connection, or a 502 to 504, is tried again, later
/// each time, so that many who try again do not keep busy what is to come back.
async fn persistent(request: RequestBuilder, tried_again: Arc<AtomicU32>) -> Result<Value, String> {
    let deadline = Instant::now() + SOON;
    let mut pause = Duration::from_millis(50);
    loop {
        let why = match request.try_clone().unwrap().send().await {
            Ok(answer) => match answer.status() {
                status if status.is_success() => match answer.json().await {
                    Ok(value) => return Ok(value),
                    Err(error) => error.to_string(),
                },
                status @ (StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT) => status.to_string(),
                status => return Err(format!("{status}: {:?}", answer.text().await)),
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(why);
        }
        tried_again.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}
