//! The registry client on real registries, on a server that behaves as badly as it is told, and on
//! a real Redis.

mod credentials;
mod details;
mod hostile;
mod limits;
mod sharing;
mod tags;
mod weather;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::Utc;
use plimsoll_app::Queue;
use plimsoll_domain::image::ImageRef;
use plimsoll_support::redis::Redis;
use plimsoll_worker::registry::{
    Freshness, Registries, RegistryError, RegistrySettings, Repository, TagList,
};

/// Registries without any login of the machine that the tests run on.
fn registries(settings: Vec<RegistrySettings>, queue: Option<Queue>) -> Registries {
    plimsoll_support::init();
    Registries::with_docker_config(settings, queue, None).expect("the settings are usable")
}

fn queue(redis: &Redis) -> Queue {
    Queue::new(&redis.url().into()).expect("the address is well-formed")
}

fn image(text: &str) -> ImageRef {
    ImageRef::parse(text).expect("an image reference")
}

fn repository(text: &str) -> Repository {
    Repository::from(&image(text))
}

fn settings(kind: &str, name: &str, pairs: &[(&str, &str)]) -> RegistrySettings {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    RegistrySettings::from_pairs(kind, name, &pairs).expect("the settings are usable")
}

fn now() -> Freshness {
    Freshness::NotOlderThan(Utc::now())
}

fn cached(seconds: u64) -> Freshness {
    Freshness::Cached {
        max_age: Duration::from_secs(seconds),
    }
}

fn words(list: &TagList) -> Vec<&str> {
    list.iter().collect()
}

fn failures(
    results: &HashMap<Repository, Result<Arc<TagList>, RegistryError>>,
) -> Vec<&RegistryError> {
    results.values().filter_map(|r| r.as_ref().err()).collect()
}
