//! Which of the configured registries is used for a host.

use std::{cmp::Reverse, collections::HashMap};

use super::settings::{Login, RegistrySettings, SettingsError};

/// An instance that names the host by its `url` comes before those that serve all hosts of their
/// type; among equals one with credentials before an anonymous one, then by name.
pub(super) struct Chosen {
    by_host: HashMap<String, RegistrySettings>,
    by_kind: Vec<RegistrySettings>,
}

impl Chosen {
    /// `settings` are sorted.
    pub(super) fn new(settings: &[RegistrySettings]) -> Result<Self, SettingsError> {
        let mut by_host: HashMap<String, RegistrySettings> = HashMap::new();
        let mut by_kind = Vec::new();
        for one in settings {
            let Some(host) = one.host()? else {
                by_kind.push(one.clone());
                continue;
            };
            let keep = match by_host.get(&host) {
                Some(other) => other.is_anonymous() && !one.is_anonymous(),
                None => true,
            };
            if keep {
                by_host.insert(host, one.clone());
            }
        }
        Ok(Self { by_host, by_kind })
    }

    /// `registry`: a canonical host.
    pub(super) fn get(&self, registry: &str) -> Option<&RegistrySettings> {
        let named = self.by_host.get(registry);
        named.or_else(|| {
            let serving = self.by_kind.iter().filter(|one| one.kind.serves(registry));
            serving.min_by_key(|one| {
                let near = match one.credentials() {
                    Login::Exchanged(key) => key.is_nearest(registry),
                    Login::Anonymous | Login::Known(_) => false,
                };
                (one.is_anonymous(), Reverse(near))
            })
        })
    }
}
