//! The registry client on real registries, on a server that behaves as badly as it is told, and on
//! a real Redis.

mod credentials;
mod details;
mod exchange;
mod limits;
mod sharing;
mod tags;
mod tools;
mod weather;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::Utc;
use plimsoll_app::Queue;
use plimsoll_domain::image::ImageRef;
use plimsoll_support::{hostile, redis::Redis};
use plimsoll_worker::registry::{
    Freshness, Options, Registries, RegistryError, RegistrySettings, Repository, SettingsError,
    TagList,
};

/// Registries without any login of the machine that the tests run on.
fn registries(settings: Vec<RegistrySettings>, queue: Option<Queue>) -> Registries {
    plimsoll_support::init();
    Registries::with_options(settings, queue, Options::without_logins())
        .expect("the settings are usable")
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

/// Settings as they come from the environment: `DD_REGISTRY_<KIND>_<NAME>_<KEY>`.
fn parsed(
    kind: &str,
    name: &str,
    pairs: &[(&str, &str)],
) -> Result<RegistrySettings, SettingsError> {
    let mut section = plimsoll_runtime::settings::Registry::default();
    for (key, value) in pairs {
        let text = || Some((*value).to_owned());
        let secret = || Some(plimsoll_runtime::Secret((*value).into()));
        match *key {
            "url" => section.url = text(),
            "login" => section.login = text(),
            "username" => section.username = text(),
            "password" => section.password = secret(),
            "token" => section.token = secret(),
            "auth" => section.auth = secret(),
            "namespace" => section.namespace = text(),
            "account" => section.account = text(),
            "authurl" => section.authurl = text(),
            "apikey" => section.apikey = secret(),
            "clientid" => section.clientid = text(),
            "clientsecret" => section.clientsecret = secret(),
            "accesskeyid" => section.accesskeyid = secret(),
            "secretaccesskey" => section.secretaccesskey = secret(),
            "region" => section.region = text(),
            "clientemail" => section.clientemail = text(),
            "privatekey" => section.privatekey = secret(),
            "cafile" => section.cafile = Some((*value).into()),
            "insecure" => section.insecure = *value == "true",
            _ => panic!("no such key: {key}"),
        }
    }
    RegistrySettings::from_configuration(kind, name, &section)
}

fn settings(kind: &str, name: &str, pairs: &[(&str, &str)]) -> RegistrySettings {
    parsed(kind, name, pairs).expect("the settings are usable")
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
