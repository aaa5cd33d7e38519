//! The container that this process runs in, if it runs in one: what it must not stop itself.

use serde_json::Value;

/// What this process can see of its container without asking an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Containers whose files are mounted here: its own, or the one whose network it shares.
    ids: Vec<String>,
    /// The writable layer of the root file system, where the storage driver shows it.
    upper_dir: Option<String>,
}

impl Own {
    /// Of this process. Nothing, where it runs in no container.
    pub fn here() -> Self {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::read(&text)
    }

    /// From `/proc/self/mountinfo` (proc(5)). Engines mount `/etc/hostname`, `/etc/hosts` and
    /// `/etc/resolv.conf` from a directory that is named after the container, whatever its host
    /// name is.
    fn read(mountinfo: &str) -> Self {
        let mut own = Self::default();
        for line in mountinfo.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (Some(root), Some(place)) = (fields.get(3), fields.get(4)) else {
                continue;
            };
            match *place {
                "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf" => {
                    let id = root.split('/').find(|part| is_id(part));
                    own.ids.extend(id.map(str::to_owned));
                }
                "/" => {
                    let options = fields.last().copied().unwrap_or_default().split(',');
                    let upper = options.filter_map(|option| option.strip_prefix("upperdir="));
                    own.upper_dir = upper.map(str::to_owned).next();
                }
                _ => {}
            }
        }
        own.ids.sort();
        own.ids.dedup();
        own
    }

    /// Ids of containers that may be this process' own, for an engine to say.
    pub(crate) fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Whether this process runs in the inspected container, or may: one too many is refused
    /// rather than one too few.
    pub(super) fn lives_in(&self, inspect: &Value) -> bool {
        if self.ids.is_empty() {
            return false;
        }
        let id = inspect["Id"].as_str().unwrap_or_default();
        if self.ids.iter().any(|own| own == id) {
            return true;
        }
        match (
            &self.upper_dir,
            inspect["GraphDriver"]["Data"]["UpperDir"].as_str(),
        ) {
            (Some(own), Some(its)) => own == its,
            _ => {
                let network = inspect["HostConfig"]["NetworkMode"].as_str();
                let shared = network.and_then(|mode| mode.strip_prefix("container:"));
                shared.is_some_and(|id| self.ids.iter().any(|own| own == id))
            }
        }
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mountinfo(id: &str) -> String {
        format!(
            "612 540 0:57 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/var/lib/docker/overlay2/abc/diff,workdir=/w\n\
             620 612 8:1 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n\
             621 612 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n\
             622 612 8:1 /srv/data /data rw - ext4 /dev/sda1 rw\n"
        )
    }

    #[test]
    fn a_container_is_known_by_what_its_engine_mounts_into_it() {
        let id = "a".repeat(64);
        let own = Own::read(&mountinfo(&id));
        assert_eq!(own.ids(), std::slice::from_ref(&id));
        assert!(own.lives_in(&json!({"Id": id})));
        assert!(!own.lives_in(&json!({"Id": "b".repeat(64)})));
    }

    #[test]
    fn a_container_that_shares_anothers_network_is_known_by_its_layer() {
        let network = "a".repeat(64);
        let own = Own::read(&mountinfo(&network));
        let sharing = |upper: Option<&str>| {
            json!({
                "Id": "b".repeat(64),
                "HostConfig": {"NetworkMode": format!("container:{network}")},
                "GraphDriver": {"Data": {"UpperDir": upper}},
            })
        };
        assert!(own.lives_in(&sharing(Some("/var/lib/docker/overlay2/abc/diff"))));
        assert!(!own.lives_in(&sharing(Some("/var/lib/docker/overlay2/other/diff"))));
        assert!(own.lives_in(&sharing(None)), "it may be");
    }

    #[test]
    fn outside_of_containers_nothing_is_our_own() {
        let own = Own::read("24 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n");
        assert_eq!(own, Own::default());
        assert!(!own.lives_in(&json!({"Id": "", "HostConfig": {"NetworkMode": "container:"}})));
    }
}
