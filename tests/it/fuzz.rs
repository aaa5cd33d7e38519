//! schemathesis against the document: thousands of generated requests, and no answer but those that
//! it describes. A short run is part of every test run; `make fuzz` asks for at least 10,000 cases
//! of Drydock's API and 5,000 of Docksmith's (`PLIMSOLL_FUZZ_EXAMPLES`: generated examples per
//! operation, `PLIMSOLL_FUZZ_CASES` and `PLIMSOLL_FUZZ_DOCKSMITH_CASES`: the least number of cases).

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use plimsoll_app::{Feature, WebhookTokens};
use plimsoll_domain::access::Role;
use plimsoll_support::{docker::Docker, image::Image, postgres::Database, redis::Redis};
use plimsoll_support::{registry::Registry, syft, wait};
use tokio::process::Command;

use crate::replica::{Replica, api_settings, scopes_of, users};
use crate::world::{SOON, worker};

const WEBHOOK: &str = "the token of all webhooks";
/// What a container's own state refuses is no schema's business, so nothing is asked about that.
const TRUTHFUL: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                        response_schema_conformance,response_headers_conformance";

/// `make services` puts it there.
fn schemathesis() -> PathBuf {
    let program = plimsoll_support::server::target().join("tools/schemathesis/bin/schemathesis");
    assert!(
        program.exists(),
        "{program:?} is missing: run `make services`"
    );
    program
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

struct Fuzz<'a> {
    replica: &'a Replica,
    token: &'a str,
    /// Where the document is.
    document: &'a str,
}

impl Fuzz<'_> {
    /// Runs it and answers how many cases there were. Anything that it found ends the test.
    async fn run(&self, parameters: &str, arguments: &[&str]) -> u32 {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let configuration = include_str!("../fuzz/schemathesis.toml")
            .replace("{parameters}", parameters)
            .replace("{token}", self.token)
            .replace("{webhook}", WEBHOOK);
        let file = directory.path().join("schemathesis.toml");
        std::fs::write(&file, configuration).expect("it can be written to");
        let run = Command::new(schemathesis())
            .arg("--config-file")
            .arg(&file)
            .args(["run", &self.replica.url(self.document)])
            .args(["--workers", "2", "--request-timeout", "90", "--no-color"])
            .args(arguments)
            .current_dir(directory.path())
            .env_clear()
            .env("HOME", directory.path())
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let limit = Duration::from_secs(60 * 60);
        let output = tokio::time::timeout(limit, run).await.expect("it ends");
        let output = output.expect("it can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        let cases = text
            .lines()
            .find_map(|line| line.trim().split_once(" generated,"));
        let cases = cases.unwrap_or_else(|| panic!("{text}{errors}")).0;
        println!("{cases} cases {arguments:?}");
        cases.parse().expect("a number")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_requests_are_answered_as_documented() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let (docker, registry) = (Docker::connect().await, Registry::start().await);
    let mut app = users();
    app.webhooks = WebhookTokens::One(WEBHOOK.to_owned().into());
    // Wrong passwords are a part of what is generated: no account is to be locked for it.
    app.access.account_failures = u32::MAX;
    app.access.address_failures = u32::MAX;
    // Otherwise the answer is a 503, as the contract has it, and no answer is to be one.
    app.sbom = Feature::Enabled;
    let replica = Replica::start_with(database.url(), &redis.url(), app, api_settings()).await;
    let _worker = worker(database.url(), &redis.url(), &docker)
        .env("PLIMSOLL_SECURITY_SBOM_ENABLED", "true")
        .env("PLIMSOLL_SECURITY_SYFT_COMMAND", syft::command().display())
        .spawn();
    let token = replica
        .token(&database, Role::Admin, &scopes_of(Role::Admin))
        .await;

    for version in ["1.0.0", "1.1.0"] {
        let image = Image::app(version).label("plimsoll.test", docker.id());
        registry.push("app", version, &image).await;
    }
    let reference = registry.reference("app", "1.0.0");
    docker.pull(&reference).await;
    let id = docker.run(&docker.name("app"), &reference).await;
    let path = format!("/api/v1/containers/{id}");
    wait::until_true("the container to be listed", SOON, async || {
        replica.get(&path, &token).await.status == 200
    })
    .await;

    let examples = number("PLIMSOLL_FUZZ_EXAMPLES", 4).to_string();
    // The token that it has is among those that it finds and would revoke, and the container among
    // those that it would remove while others ask for it.
    let all = [
        "--max-examples",
        &examples,
        "--exclude-operation-id",
        "revokeToken",
        "--exclude-operation-id",
        "removeContainer",
        "--exclude-operation-id",
        "prune",
    ];
    let fuzz = Fuzz {
        replica: &replica,
        token: &token,
        document: "/api/v1/openapi.json",
    };
    // Another machine's registry is none of this.
    let known = format!("[parameters]\n\"query.image\" = \"{reference}\"");
    let mut cases = fuzz.run(&known, &all).await;
    let real = format!("[parameters]\n\"path.id\" = \"{id}\"");
    let of_containers = r"^/api/v1/containers/\{id\}";
    let some = [
        "--max-examples",
        &examples,
        "--phases",
        "fuzzing",
        "--checks",
        TRUTHFUL,
        "--include-path-regex",
        of_containers,
        "--exclude-operation-id",
        "deleteContainer",
        "--exclude-operation-id",
        "removeContainer",
    ];
    cases += fuzz.run(&real, &some).await;
    let least = number("PLIMSOLL_FUZZ_CASES", 500);
    assert!(cases >= least, "{cases} cases, not {least}");
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_requests_of_docksmiths_clients_are_answered_as_documented() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let docker = Docker::connect().await;
    let mut app = users();
    // Wrong passwords are a part of what is generated.
    app.access.account_failures = u32::MAX;
    app.access.address_failures = u32::MAX;
    let replica = Replica::start_with(database.url(), &redis.url(), app, api_settings()).await;
    let registry = Registry::start().await;
    // With a scope: nothing but what this test made is ever removed, whatever is asked for.
    let _worker = worker(database.url(), &redis.url(), &docker).spawn();
    let token = replica
        .token(&database, Role::Admin, &scopes_of(Role::Admin))
        .await;
    let image = Image::app("1.0.0").label("plimsoll.test", docker.id());
    registry.push("app", "1.0.0", &image).await;
    let reference = registry.reference("app", "1.0.0");
    docker.pull(&reference).await;
    let name = docker.name("app");
    docker.run(&name, &reference).await;
    let recheck = format!("/docksmith/api/container/{name}/recheck");
    wait::until_true("the container to be listed", SOON, async || {
        replica.get(&recheck, &token).await.status == 200
    })
    .await;
    let fuzz = Fuzz {
        replica: &replica,
        token: &token,
        document: "/docksmith/api/openapi.json",
    };
    let examples = number("PLIMSOLL_FUZZ_EXAMPLES", 3);
    // A real container first, while it is there: names that answers tell are used in requests. Few,
    // because an operation takes its time. A log that is followed does not end.
    let real = format!("[parameters]\n\"path.name\" = \"{name}\"");
    let few = (examples / 10).max(2).to_string();
    let some = [
        "--max-examples",
        &few,
        "--phases",
        "fuzzing",
        "--checks",
        TRUTHFUL,
        "--include-path-regex",
        r"^/api/(containers?|restart|fix-compose-mismatch)/.*\{name\}",
        "--exclude-operation-id",
        "removeContainer",
        "--exclude-operation-id",
        "getContainerLogs",
        "--exclude-operation-id",
        "restartStack",
    ];
    let mut cases = fuzz.run(&real, &some).await;
    // Of two spellings one must be there, and a name may be any scalar, which the document cannot
    // say.
    let all = [
        "--max-examples",
        &examples.to_string(),
        "--exclude-checks",
        "positive_data_acceptance,negative_data_rejection",
    ];
    // Another machine's registry is none of this.
    let known = format!("[parameters]\n\"path.image\" = \"{reference}\"");
    cases += fuzz.run(&known, &all).await;
    let least = number("PLIMSOLL_FUZZ_DOCKSMITH_CASES", 200);
    assert!(cases >= least, "{cases} cases, not {least}");
}
