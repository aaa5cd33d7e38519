//! MQTT: the state of every container, retained under a topic of its own, and sensors for Home
//! Assistant. Besides the messages of the outbox it mirrors the inventory: what changes is published
//! within seconds, what goes is taken back, and after a failure, and now and then, everything is
//! published again.

mod hass;
mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use plimsoll_app::{App, inventory::Entry};
use plimsoll_outbound::{Reach, Wire};
use plimsoll_runtime::settings::notifiers as configured;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::{Failure, Notifier, Outgoing, Sent, address, flat::flatten, needed};
use hass::Hass;
use wire::{Broker, Publication, publish};

/// Between looks at the inventory.
const LOOK: Duration = Duration::from_secs(3);
/// After which everything is published again: a broker that was started anew has forgotten it, and
/// nobody tells us.
const EVERYTHING: Duration = Duration::from_secs(10 * 60);
/// After a broker that did not take what it was given.
const AGAIN: Duration = Duration::from_secs(30);

pub struct Mqtt {
    broker: Broker,
    reach: Reach,
    topic: String,
    exclude: Vec<String>,
    hass: Option<Hass>,
}

impl Mqtt {
    pub fn new(own: &configured::Mqtt, reach: Reach) -> Result<Self, String> {
        let url = address(own.url.as_deref())?;
        let (wire, over_web, usual) = match url.scheme() {
            "mqtt" | "tcp" => (Wire::Clear, false, 1883),
            "mqtts" | "tls" => (Wire::Tls, false, 8883),
            "ws" => (Wire::Clear, true, 80),
            "wss" => (Wire::Tls, true, 443),
            scheme => return Err(format!("{scheme}:// is not spoken")),
        };
        let host = url.host_str().ok_or("url names no host")?.to_owned();
        let decode = |text: &str| {
            url::form_urlencoded::parse(text.replace('+', "%2B").as_bytes())
                .next()
                .map(|(text, _)| text.into_owned())
        };
        let from_url = Some(url.username()).filter(|user| !user.is_empty());
        let password = own.password.as_ref().map(|password| password.0.clone());
        let in_url = url.password().and_then(decode).map(Into::into);
        Ok(Self {
            broker: Broker {
                host,
                port: url.port().unwrap_or(usual),
                wire,
                web: over_web.then(|| without_login(url.clone())),
                client: match &own.clientid {
                    Some(id) => needed(&Some(id.clone()), "clientid")?,
                    None => format!("plimsoll-{}", Uuid::new_v4().simple()),
                },
                user: own.user.clone().or_else(|| from_url.and_then(decode)),
                password: password.or(in_url),
            },
            reach,
            topic: own.topic.trim_end_matches('/').to_owned(),
            exclude: own
                .exclude
                .iter()
                .flat_map(|names| names.split(','))
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            hass: Hass::new(&own.hass),
        })
    }

    fn is_excluded(&self, container: &Value) -> bool {
        let name = container["name"].as_str().unwrap_or_default();
        self.exclude.iter().any(|excluded| excluded == name)
    }

    /// What is published about one container, by topic.
    fn about(&self, container: &Value) -> Vec<Publication> {
        let topic = self.topic_of(container);
        let mut flat = flatten(container);
        if let Some(hass) = &self.hass {
            hass.trim(&mut flat);
        }
        let mut all = vec![Publication {
            topic: topic.clone(),
            payload: Value::Object(flat).to_string().into_bytes(),
        }];
        if let Some(hass) = &self.hass {
            all.extend(hass.about(container, &topic));
        }
        all
    }

    /// `topic/watcher/name`; with the agent before the watcher, so that the same names on two hosts
    /// never mix.
    fn topic_of(&self, container: &Value) -> String {
        let part = |key: &str| {
            let text = container[key].as_str().unwrap_or_default();
            text.replace(['/', '+', '#', '\0'], "-")
        };
        let (agent, watcher, name) = (part("agent"), part("watcher"), part("name"));
        match agent.is_empty() {
            true => format!("{}/{watcher}/{name}", self.topic),
            false => format!("{}/{agent}/{watcher}/{name}", self.topic),
        }
    }

    async fn publish(&self, all: &[Publication]) -> Result<(), Failure> {
        publish(&self.broker, self.reach, all)
            .await
            .map_err(|error| Failure::new(format!("{}: {error}", self.broker.host)))
    }

    /// Everything that the broker should hold now.
    fn wanted(&self, entries: &[Arc<Entry>], agent: &str) -> BTreeMap<String, Vec<u8>> {
        let shown: Vec<&Arc<Entry>> = entries
            .iter()
            .filter(|entry| agent.is_empty() || entry.state.facts.watcher.agent == agent)
            .collect();
        let mut wanted = BTreeMap::new();
        for entry in &shown {
            let container = entry.to_value();
            if !self.is_excluded(&container) {
                let about = self.about(&container).into_iter();
                wanted.extend(about.map(|one| (one.topic, one.payload)));
            }
        }
        if let Some(hass) = &self.hass {
            let updates = shown.iter().filter(|entry| entry.update_available).count();
            let counts = hass.counts(&self.topic, shown.len(), updates);
            wanted.extend(counts.into_iter().map(|one| (one.topic, one.payload)));
        }
        wanted
    }

    async fn keep_mirroring(&self, app: App, agent: String) {
        // What the broker holds of us, by topic; only digests are kept.
        let mut held: HashMap<String, u64> = HashMap::new();
        let mut seen: Option<Vec<[u8; 16]>> = None;
        let mut whole = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            if whole.elapsed() >= EVERYTHING {
                (seen, whole) = (None, Instant::now());
                forget(&mut held);
            }
            let Ok(snapshot) = app.snapshot().await else {
                continue;
            };
            let entries = snapshot.inventory.entries();
            let hashes: Vec<[u8; 16]> = entries.iter().map(|entry| entry.hash).collect();
            if seen.as_ref() == Some(&hashes) {
                continue;
            }
            let wanted = self.wanted(entries, &agent);
            let mut changes: Vec<Publication> = held
                .keys()
                .filter(|topic| !wanted.contains_key(*topic))
                .map(|topic| Publication {
                    topic: topic.clone(),
                    payload: Vec::new(),
                })
                .collect();
            let new: HashMap<String, u64> = wanted
                .iter()
                .map(|(topic, payload)| (topic.clone(), digest(payload)))
                .collect();
            let changed = wanted
                .into_iter()
                .filter(|(topic, _)| held.get(topic) != new.get(topic));
            changes.extend(changed.map(|(topic, payload)| Publication { topic, payload }));
            if !changes.is_empty()
                && let Err(failure) = self.publish(&changes).await
            {
                tracing::info!(why = failure.why, "the MQTT broker is told again later");
                // It may have forgotten everything. What is to be taken back stays known.
                forget(&mut held);
                seen = None;
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            (held, seen) = (new, Some(hashes));
        }
    }
}

impl Notifier for Mqtt {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let containers = message.subjects.iter();
            let all: Vec<Publication> = containers
                // An agent that is gone has no topic.
                .filter(|one| one["name"].is_string() && !self.is_excluded(one))
                .flat_map(|one| self.about(one))
                .collect();
            if !all.is_empty() {
                self.publish(&all).await?;
            }
            Ok(None)
        })
    }

    fn mirror(self: Arc<Self>, app: App, agent: String) -> Option<BoxFuture<'static, ()>> {
        Some(Box::pin(
            async move { self.keep_mirroring(app, agent).await },
        ))
    }
}

/// What the broker held, without what it was: it is published again, or taken back.
fn forget(held: &mut HashMap<String, u64>) {
    held.values_mut().for_each(|digest| *digest = 0);
}

/// The login is said to the broker, not in the address.
fn without_login(mut url: Url) -> Url {
    // These fail for addresses without a host only.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

fn digest(payload: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}
