//! What the chart puts into Pods' environments: settings that exist, and no secret as text.

use std::collections::BTreeMap;

use plimsoll_runtime::{CommonArgs, Settings, settings::Notice};
use serde_json::Value;

use super::{
    file,
    manifests::{Pod, Rendering, items, members},
    rendered, root,
};

/// A setting of docs/settings.md, as words of its name in the environment; `None` is a chosen one.
pub struct Documented {
    words: Vec<Option<String>>,
    secret: bool,
}

impl Documented {
    pub fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(root().join("docs/settings.md")).unwrap();
        let rows = text.lines().filter_map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            let name = cells.get(1)?.trim_matches('`');
            let rest = name.strip_prefix("PLIMSOLL_")?;
            Some(Self {
                words: rest
                    .split('_')
                    .map(|word| (!word.starts_with('<')).then(|| word.to_owned()))
                    .collect(),
                secret: cells.get(2)?.contains("secret"),
            })
        });
        let all: Vec<Self> = rows.collect();
        assert!(all.len() > 100, "docs/settings.md has another form");
        all
    }

    /// With names instead of what is chosen.
    fn example(&self) -> String {
        let words = self.words.iter();
        let words: Vec<&str> = words.map(|word| word.as_deref().unwrap_or("X")).collect();
        format!("PLIMSOLL_{}", words.join("_"))
    }

    fn is(&self, name: &str) -> bool {
        let prefixes = ["PLIMSOLL_", "DD_"];
        let Some(rest) = prefixes.iter().find_map(|p| name.strip_prefix(p)) else {
            return false;
        };
        let words: Vec<&str> = rest.split('_').collect();
        words.len() == self.words.len()
            && words
                .iter()
                .zip(&self.words)
                .all(|(word, known)| known.as_ref().is_none_or(|known| known == word))
    }
}

/// Whoever may read Pods and ConfigMaps is told no secret.
pub fn hold_no_secrets(rendering: &Rendering) {
    let documented = Documented::all();
    let is_secret = |name: &str| {
        let plain = ["DATABASE_URL", "REDIS_URL"].contains(&name);
        plain || documented.iter().any(|d| d.secret && d.is(name))
    };
    for pod in rendering.pods() {
        for variable in pod.containers().iter().flat_map(|c| items(&c["env"])) {
            let name = variable["name"].as_str().unwrap();
            assert!(
                !(is_secret(name) && variable["value"].is_string()),
                "{name}"
            );
        }
    }
    for document in rendering.of("ConfigMap") {
        for (name, _) in members(&document["data"]) {
            assert!(!is_secret(name), "{name} in a ConfigMap");
        }
    }
    // The values of the secrets in charts/plimsoll/ci say that they are none.
    for document in rendering.documents.iter().filter(|d| d["kind"] != "Secret") {
        let text = document.to_string();
        assert!(!text.contains("not-secret") && !text.contains("not%20secret"));
    }
}

/// The programs take each Pod's environment as it is: no unknown name, no contradiction.
pub fn can_be_loaded(rendering: &Rendering) {
    for pod in rendering.pods() {
        let environment = environment(rendering, &pod);
        let loaded = Settings::load(&CommonArgs::default(), environment.clone())
            .unwrap_or_else(|error| panic!("{}: {error}\n{environment:#?}", pod.owner));
        for notice in &loaded.notices {
            let fine = !matches!(notice, Notice::Unknown { .. } | Notice::Ignored { .. });
            assert!(fine, "{}: {notice}", pod.owner);
        }
        let settings = loaded.settings;
        assert!(settings.database.url.is_some(), "{}", pod.owner);
        match pod.component {
            "api" => assert!(settings.listen.ip().is_unspecified()),
            "worker" => assert!(!settings.watcher.is_empty()),
            "node-worker" => assert_eq!(settings.worker.agent, "x"),
            _ => {}
        }
    }
}

/// What a Pod would find. Secrets are stood in for by values of their form.
fn environment(rendering: &Rendering, pod: &Pod) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let container = pod.containers()[0];
    for source in items(&container["envFrom"]) {
        let name = &source["configMapRef"]["name"];
        let maps = rendering.of("ConfigMap");
        for map in maps.filter(|map| map["metadata"]["name"] == *name) {
            for (name, value) in members(&map["data"]) {
                found.insert(name.to_owned(), value.as_str().unwrap().to_owned());
            }
        }
    }
    for variable in items(&container["env"]) {
        let name = variable["name"].as_str().unwrap();
        let value = match variable["value"].as_str() {
            Some(value) => value.to_owned(),
            None => stand_in(name, &variable["valueFrom"]),
        };
        found.insert(name.to_owned(), value);
    }
    // The files are not here.
    let files: Vec<String> = found
        .keys()
        .filter(|n| n.ends_with("__FILE"))
        .cloned()
        .collect();
    for name in files {
        found.remove(&name);
        found.insert(name.trim_end_matches("__FILE").to_owned(), "secret".into());
    }
    found
}

fn stand_in(name: &str, from: &Value) -> String {
    if from["fieldRef"].is_object() {
        return "x".to_owned();
    }
    let value = match name {
        "DATABASE_URL" => "postgresql://user:password@host/plimsoll",
        "REDIS_URL" => "redis://host:6379",
        name if name.ends_with("_HASH") => {
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$\
             Zm9yIHRoZSBmb3JtIG9ubHksIHRoaXMgaXMgbm8gaGFzaA"
        }
        _ => "0123456789abcdef0123456789abcdef",
    };
    value.to_owned()
}

#[test]
fn settings_that_are_secret_are_refused_and_all_others_taken() {
    let documented = Documented::all();
    let values = |secret: bool| {
        let names = documented.iter().filter(|d| d.secret == secret);
        let lines = names.flat_map(|setting| {
            let example = setting.example();
            let alias = example.replacen("PLIMSOLL_", "DD_", 1);
            [example, alias].map(|name| format!("  {name}: \"\"\n"))
        });
        format!("settings:\n{}", lines.collect::<String>())
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("values.yaml");
    std::fs::write(&path, values(false)).unwrap();
    rendered(&super::chart(), &[&file("minimal"), &path]).unwrap();

    std::fs::write(&path, values(true)).unwrap();
    let refusal = rendered(&super::chart(), &[&file("minimal"), &path]).unwrap_err();
    for setting in documented.iter().filter(|d| d.secret) {
        let example = setting.example();
        let alias = example.replacen("PLIMSOLL_", "DD_", 1);
        for name in [example, alias] {
            assert!(refusal.contains(&format!("{name:?}")), "{name}: {refusal}");
        }
    }
}
