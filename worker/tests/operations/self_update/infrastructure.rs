//! Containers that Plimsoll stands on, `dd.update.mode=infrastructure`.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, RestartPolicyNameEnum as Restart};
use plimsoll_support::{contained, image::Image, oracle::End, ports::free_port, wait};
use plimsoll_worker::docker::{Engine, EngineAddress};

use super::{Own, TIDY};
use crate::world::{Deployed, World};

const LABEL: (&str, &str) = ("dd.update.mode", "infrastructure");

/// Passes everything on to the engine's socket, as the socket proxies that people run do.
const PROXY: &str = r"
use strict; use IO::Socket::INET; use IO::Socket::UNIX; use IO::Select;
$SIG{TERM} = sub { exit 0 }; $SIG{CHLD} = 'IGNORE';
my $door = IO::Socket::INET->new(
    LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 64, ReuseAddr => 1) or die $!;
while (1) {
    my $client = $door->accept or next;
    next if fork;
    my $engine = IO::Socket::UNIX->new(Peer => '/var/run/docker.sock') or die $!;
    my $both = IO::Select->new($client, $engine);
    while (my @ready = $both->can_read) {
        for my $from (@ready) {
            my $size = sysread($from, my $data, 65536) or exit 0;
            my $to = $from == $client ? $engine : $client;
            for (my $sent = 0; $sent < $size;) {
                $sent += syswrite($to, $data, $size - $sent, $sent) // exit 0;
            }
        }
    }
}";

fn proxy_image(version: &str) -> Image {
    Image::app(version).entrypoint(["/usr/bin/perl", "-e", PROXY])
}

/// A proxy to the engine, on this port.
async fn proxy(world: &World, port: u16) -> Deployed {
    let reference = world.push("proxy-1.0.0", proxy_image("1.0.0")).await;
    world.docker.pull(&reference).await;
    let name = world.docker.name("proxy");
    let body = ContainerCreateBody {
        image: Some(reference),
        cmd: Some(vec![port.to_string()]),
        labels: Some(HashMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
        host_config: Some(contained::host_config([contained::engine_socket()])),
        ..ContainerCreateBody::default()
    };
    let id = world.docker.run_with(&name, body).await;
    Deployed { name, id }
}

async fn told(world: &World) -> i64 {
    let sql = "SELECT count(*) FROM events WHERE type = 'dd:self-update'";
    let row = world.rows.query_one(sql, &[]).await;
    row.expect("events").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_the_engine_is_replaced_by_a_helper_that_has_another() {
    let port = free_port();
    let engine = format!("DOCKER_HOST=tcp://127.0.0.1:{port}");
    let own = Own::reaching([], &[engine]).await;
    let world = &own.world;
    let proxy = proxy(world, port).await;
    let target = world.push("proxy-1.1.0", proxy_image("1.1.0")).await;
    let operation = world.request_update(&proxy, &target).await;
    assert_eq!(world.judged(operation).await.0, End::Succeeded);
    assert_eq!(told(world).await, 1);
    // By the worker, through the new proxy.
    wait::until_true("the helper to be removed", TIDY, async || {
        let all = world.docker.containers().await;
        !all.iter()
            .any(|(name, ..)| name.starts_with("plimsoll-helper-"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_way_to_the_engine_is_not_cut() {
    let world = World::new().await;
    let port = free_port();
    let proxy = proxy(&world, port).await;
    let address = EngineAddress::Http {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let engine = Engine::new(address).expect("an address");
    let _worker = world.worker_on(&world.app, engine, None);
    let target = world.push("proxy-1.1.0", proxy_image("1.1.0")).await;
    let operation = world.request_update(&proxy, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::Failed);
    let why = row["last_error"].as_str().expect("it says why");
    assert!(why.contains("may reach the engine through it"), "{why}");
    assert_eq!(told(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_user_makes_a_container_infrastructure() {
    for (from_user, events) in [(true, 1), (false, 0)] {
        let world = World::new().await;
        let _worker = world.worker();
        let mut image = Image::app("1.0.0");
        let mut labels = HashMap::new();
        if from_user {
            labels.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
        } else {
            image = image.label(LABEL.0, LABEL.1);
        }
        let app = world
            .deploy_labelled("1.0.0", image, Restart::ALWAYS, labels)
            .await;
        let target = world.push("1.1.0", Image::app("1.1.0")).await;
        let operation = world.request_update(&app, &target).await;
        assert_eq!(world.judged(operation).await.0, End::Succeeded);
        assert_eq!(told(&world).await, events, "from the user: {from_user}");
    }
}
