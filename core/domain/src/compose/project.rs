//! What the files of a project describe: its name, its services and what these need of each other,
//! as `docker compose` would read them. Nothing is expanded that the services do not use, so a file
//! of aliases to aliases costs no more than its size.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Environment, Refusal, includes,
    outline::{Map, Node, Outline, Quotes, parse},
    reader::{MAX_DEPTH, Reader},
    variables::filled,
};
use crate::stack::{Condition, DescribedService, Needs, Neighbour, Reason, ServiceDependency};

/// Those of which a directory's first is its project's file. Compose itself takes
/// `docker-compose.yml` before `docker-compose.yaml`, which DockUp does not
/// (reference/docksmith-dokploy-dockup.md 2.1); it says so where a directory has both.
pub const FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];
/// Those of which the first is read after it, whatever that one is called; in Compose's order.
pub const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What describes more is left alone.
const MAX_SERVICES: usize = 500;
/// Entries of one list.
const MAX_ENTRIES: usize = 100;
/// Bytes of one text.
const MAX_TEXT: usize = 4096;

/// What the files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    /// By name.
    pub services: Vec<DescribedService>,
    /// What Compose would not accept, or what is not known here, for people.
    pub notes: Vec<String>,
}

/// What the files of a project say together, a later one before an earlier one; `variables` is
/// what the `.env` beside them says, and `directory` the last part of their directory's path.
///
/// # Errors
/// The position of a file that is no Compose file, or that would cost too much, and why.
pub fn describe(
    files: &[&str],
    variables: Option<&str>,
    directory: &str,
) -> Result<Description, (usize, Refusal)> {
    let mut notes = Vec::new();
    let environment = Environment::parse(variables).unwrap_or_else(|refusal| {
        notes.push(refusal.to_string());
        Environment::default()
    });
    if environment.sets("COMPOSE_FILE") {
        notes.push("its .env names other files by COMPOSE_FILE, which are not read".to_owned());
    }
    let mut written = None;
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    let mut read = |file: &str| {
        let outline = parse(file)?;
        let text = Texts::new(&outline, &environment);
        if let Some(name) = outline.root.get("name")?
            && let Some(name) = text.text(name)?
            && !name.is_empty()
        {
            written = Some(name);
        }
        for (name, service) in text.services()? {
            let known = services.remove(&name).unwrap_or_default();
            services.insert(name, service.over(known));
        }
        if !includes(file)?.is_empty() {
            notes.push(
                "it includes other files, whose services are shown once they have containers"
                    .to_owned(),
            );
        }
        match services.len() > MAX_SERVICES {
            true => Err(too_many()),
            false => Ok(()),
        }
    };
    for (number, file) in files.iter().enumerate() {
        read(file).map_err(|refusal| (number, refusal))?;
    }
    let name = name(&environment, written, directory, &mut notes);
    let services = services.into_iter();
    Ok(Description {
        name,
        services: services
            .map(|(name, service)| service.described(name))
            .collect(),
        notes,
    })
}

/// What Compose calls the project: `COMPOSE_PROJECT_NAME` before what the files say, and else the
/// name of the directory.
fn name(
    environment: &Environment,
    written: Option<String>,
    directory: &str,
    notes: &mut Vec<String>,
) -> String {
    match environment.value("COMPOSE_PROJECT_NAME") {
        Ok(Some(name)) if !name.is_empty() => match normalised(name) == name {
            true => return name.to_owned(),
            false => notes.push(format!(
                "COMPOSE_PROJECT_NAME in its .env is `{}`, which is no name of a project",
                name.escape_debug()
            )),
        },
        Ok(_) => {}
        Err(refusal) => notes.push(refusal.to_string()),
    }
    if let Some(written) = written {
        match normalised(&written) {
            name if !name.is_empty() => return name,
            _ => notes.push(format!(
                "`{}` is no name of a project",
                written.escape_debug()
            )),
        }
    }
    name_of(directory).unwrap_or_else(|| {
        notes.push("the name of its directory is no name of a project".to_owned());
        directory.to_owned()
    })
}

/// What Compose calls a project in a directory of that name where nothing else names it.
pub fn name_of(directory: &str) -> Option<String> {
    Some(normalised(directory)).filter(|name| !name.is_empty())
}

fn normalised(name: &str) -> String {
    let name = name.to_lowercase();
    let known = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let name: String = name.chars().filter(known).collect();
    name.trim_start_matches(['_', '-']).to_owned()
}

/// What one file says of a service.
#[derive(Default)]
struct Service {
    image: Option<String>,
    is_built: bool,
    profiles: BTreeSet<String>,
    depends_on: BTreeMap<String, ServiceDependency>,
    modes: BTreeMap<Reason, String>,
    volumes_from: BTreeSet<Neighbour>,
    labels: BTreeMap<String, String>,
    scale: Option<String>,
}

impl Service {
    /// With what `base` says and this does not.
    fn over(mut self, mut base: Self) -> Self {
        base.profiles.append(&mut self.profiles);
        base.depends_on.append(&mut self.depends_on);
        base.modes.append(&mut self.modes);
        base.volumes_from.append(&mut self.volumes_from);
        base.labels.append(&mut self.labels);
        Self {
            image: self.image.or(base.image),
            is_built: self.is_built || base.is_built,
            scale: self.scale.or(base.scale),
            ..base
        }
    }

    fn described(self, name: String) -> DescribedService {
        let label = |key: &str| self.labels.get(key).map(|value| value.trim());
        let needs = Needs::read(label, self.depends_on.into_values().collect());
        let modes = self.modes.into_iter();
        let modes = modes.filter_map(|(reason, mode)| Some((reason, neighbour(&mode)?)));
        let volumes = self.volumes_from.into_iter();
        let volumes = volumes.map(|of| (Reason::VolumesFrom, of));
        DescribedService {
            image: self.image,
            is_built: self.is_built,
            is_optional: !self.profiles.is_empty() || self.scale.as_deref() == Some("0"),
            profiles: self.profiles.into_iter().collect(),
            depends_on: needs.services,
            shares: modes.chain(volumes).collect(),
            comes_after: needs.comes_after,
            restart_after: needs.restart_after,
            name,
        }
    }
}

/// `service:NAME` or `container:NAME`.
fn neighbour(mode: &str) -> Option<Neighbour> {
    let (kind, name) = mode.split_once(':')?;
    let name = name.to_owned();
    match kind {
        "service" => Some(Neighbour::Service(name)),
        "container" => Some(Neighbour::Container(name)),
        _ => None,
    }
}

/// The texts of one file, with their variables filled in.
struct Texts<'a> {
    outline: &'a Outline,
    reader: Reader<'a>,
    environment: &'a Environment,
}

impl<'a> Texts<'a> {
    fn new(outline: &'a Outline, environment: &'a Environment) -> Self {
        Self {
            reader: Reader::new(outline),
            outline,
            environment,
        }
    }

    fn services(&self) -> Result<Vec<(String, Service)>, Refusal> {
        let Some(services) = self.outline.root.get("services")? else {
            return Ok(Vec::new());
        };
        let Some(services) = self.map(services)? else {
            return Err(Refusal::Malformed("its services are no mapping".to_owned()));
        };
        let all = self.reader.entries(services, MAX_DEPTH)?;
        if all.len() > MAX_SERVICES {
            return Err(too_many());
        }
        let mut found = Vec::with_capacity(all.len());
        for (name, _) in &all {
            let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if name.is_empty() || name.len() > MAX_TEXT || !name.chars().all(is_known) {
                return Err(Refusal::Malformed(format!(
                    "`{}` is no name of a service",
                    name.escape_debug()
                )));
            }
            found.push(((*name).to_owned(), self.service(&all, name, MAX_DEPTH)?));
        }
        Ok(found)
    }

    fn service(
        &self,
        all: &[(&str, &'a Node)],
        name: &str,
        depth: usize,
    ) -> Result<Service, Refusal> {
        self.reader.step(depth)?;
        let Some((_, node)) = all.iter().find(|(known, _)| *known == name) else {
            return Err(Refusal::NoService(name.to_owned()));
        };
        let Some(map) = self.map(node)? else {
            return Ok(Service::default());
        };
        let value = |key| self.reader.value(map, key, depth);
        let text = |key| match value(key)? {
            Some(node) => self.text(node),
            None => Ok(None),
        };
        let list = |key| match value(key)? {
            Some(node) => self.list(node),
            None => Ok(Vec::new()),
        };
        let mut own = Service {
            image: text("image")?,
            is_built: match value("build")? {
                Some(node) => self.map(node)?.is_some() || self.text(node)?.is_some(),
                None => false,
            },
            profiles: list("profiles")?.into_iter().collect(),
            scale: text("scale")?,
            ..Service::default()
        };
        if own.scale.is_none()
            && let Some(deploy) = value("deploy")?
            && let Some(deploy) = self.map(deploy)?
            && let Some(replicas) = self.reader.value(deploy, "replicas", depth)?
        {
            own.scale = self.text(replicas)?;
        }
        let modes = [
            (Reason::Network, "network_mode"),
            (Reason::Ipc, "ipc"),
            (Reason::Pid, "pid"),
        ];
        for (reason, key) in modes {
            own.modes.extend(text(key)?.map(|mode| (reason, mode)));
        }
        for entry in list("volumes_from")? {
            let of = match entry.strip_prefix("container:") {
                Some(rest) => Neighbour::Container(before_colon(rest)),
                None => Neighbour::Service(before_colon(&entry)),
            };
            own.volumes_from.insert(of);
        }
        // Compose starts what a service is linked to before it.
        for link in list("links")? {
            let service = before_colon(&link);
            own.depends_on.insert(service.clone(), plain(service));
        }
        if let Some(node) = value("depends_on")? {
            for dependency in self.depends_on(node, depth)? {
                own.depends_on
                    .insert(dependency.service.clone(), dependency);
            }
        }
        if let Some(node) = value("labels")? {
            own.labels = self.labels(node, depth)?;
        }
        // What another file describes is not known here.
        let base = match value("extends")? {
            Some(node) => match self.map(node)? {
                Some(of) if of.has("file") => None,
                Some(of) => of.get("service")?.map(|name| self.text(name)).transpose()?,
                None => Some(self.text(node)?),
            },
            None => None,
        };
        match base.flatten() {
            Some(base) => Ok(own.over(self.service(all, &base, depth - 1)?)),
            None => Ok(own),
        }
    }

    /// Both forms: a list of names, and a mapping of them to conditions.
    fn depends_on(&self, node: &'a Node, depth: usize) -> Result<Vec<ServiceDependency>, Refusal> {
        let Some(map) = self.map(node)? else {
            return Ok(self.list(node)?.into_iter().map(plain).collect());
        };
        let mut found = Vec::new();
        let entries = self.reader.entries(map, depth)?;
        for (service, how) in entries.into_iter().take(MAX_ENTRIES) {
            let mut dependency = plain(self.checked(service.to_owned())?);
            if let Some(how) = self.map(how)? {
                let text = |key| match self.reader.value(how, key, depth)? {
                    Some(node) => self.text(node),
                    None => Ok(None),
                };
                let condition = text("condition")?;
                let is_it = |c: &Condition| condition.as_deref() == Some(c.as_str());
                dependency.condition = Condition::ALL.into_iter().find(is_it).unwrap_or_default();
                dependency.restart = text("restart")?.as_deref() == Some("true");
            }
            found.push(dependency);
        }
        Ok(found)
    }

    /// Those that count here, in both forms: a list of `KEY=VALUE`, and a mapping.
    fn labels(&self, node: &'a Node, depth: usize) -> Result<BTreeMap<String, String>, Refusal> {
        let mut found = BTreeMap::new();
        if let Some(map) = self.map(node)? {
            for key in Needs::LABELS {
                if let Some(node) = self.reader.value(map, key, depth)?
                    && let Some(value) = self.text(node)?
                {
                    found.insert(key.to_owned(), value);
                }
            }
            return Ok(found);
        }
        for item in self.reader.items(node)? {
            if let Node::Scalar(entry) = self.reader.follow(item)?.0
                && let Some((key, value)) = entry.value.split_once('=')
                && Needs::LABELS.contains(&key)
            {
                let value = self.checked(filled(value, self.environment))?;
                found.insert(key.to_owned(), value);
            }
        }
        Ok(found)
    }

    fn map(&self, node: &'a Node) -> Result<Option<&'a Map>, Refusal> {
        Ok(match self.reader.follow(node)?.0 {
            Node::Map(map) => Some(map),
            _ => None,
        })
    }

    fn list(&self, node: &'a Node) -> Result<Vec<String>, Refusal> {
        let mut found = Vec::new();
        for item in self.reader.items(node)?.iter().take(MAX_ENTRIES) {
            found.extend(self.text(item)?);
        }
        Ok(found)
    }

    /// `None` for what is no text, and for null.
    fn text(&self, node: &'a Node) -> Result<Option<String>, Refusal> {
        let Node::Scalar(scalar) = self.reader.follow(node)?.0 else {
            return Ok(None);
        };
        if scalar.quotes == Some(Quotes::None)
            && matches!(&*scalar.value, "" | "~" | "null" | "Null" | "NULL")
        {
            return Ok(None);
        }
        let text = filled(&scalar.value, self.environment);
        self.checked(text).map(Some)
    }

    /// Whatever is written down of the file is text that any program can show and store.
    fn checked(&self, text: String) -> Result<String, Refusal> {
        match text.len() > MAX_TEXT || text.contains(char::is_control) {
            true => Err(Refusal::Malformed(
                "it has a text that is too long or holds control characters".to_owned(),
            )),
            false => Ok(text),
        }
    }
}

fn too_many() -> Refusal {
    Refusal::Malformed(format!("it has more than {MAX_SERVICES} services"))
}

fn plain(service: String) -> ServiceDependency {
    ServiceDependency {
        service,
        condition: Condition::default(),
        restart: false,
    }
}

/// `NAME[:…]`
fn before_colon(text: &str) -> String {
    text.split(':').next().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests;
