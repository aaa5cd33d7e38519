//! Which scalar of a file says what a service runs, followed through aliases, merge keys and
//! `extends`, and who else would be changed with it.

use super::{
    Refusal,
    outline::{Map, Node, Outline, Scalar},
    reader::{MAX_DEPTH, Reader},
};

pub(super) struct Lookup<'a> {
    outline: &'a Outline,
    reader: Reader<'a>,
    services: &'a Map,
}

/// The scalar that decides.
#[derive(Clone, Copy)]
pub(super) struct Located<'a> {
    pub scalar: &'a Scalar,
    /// Where others use the scalar too, and the service says by an alias of its own that it does:
    /// where that begins.
    pub alias: Option<usize>,
}

/// Where a service's image is written.
#[derive(Clone, Copy)]
struct Written<'a> {
    scalar: &'a Scalar,
    by_alias: bool,
    by_extending: bool,
}

impl<'a> Lookup<'a> {
    pub fn new(outline: &'a Outline, service: &str) -> Result<Self, Refusal> {
        let root = &outline.root;
        let named = || service.to_owned();
        let services = match root.get("services")? {
            Some(Node::Map(services)) => services,
            Some(Node::Alias(_)) => return Err(Refusal::Shared(named())),
            _ if root.get("include")?.is_some() => return Err(Refusal::Included(named())),
            _ => return Err(Refusal::NoService(named())),
        };
        if outline.aliases_of(services.anchor) > 0 {
            return Err(Refusal::Shared(named()));
        }
        Ok(Self {
            outline,
            reader: Reader::new(outline),
            services,
        })
    }

    /// The scalar that decides, and nothing else's; or an alias of the service alone.
    pub fn image(&self, service: &str) -> Result<Located<'a>, Refusal> {
        let found = self.written(service, MAX_DEPTH)?;
        let shared = || Refusal::Shared(service.to_owned());
        let alias = self.own_alias(service)?;
        let aliases = self.outline.aliases_of(found.scalar.anchor);
        let mut is_shared = aliases > usize::from(found.by_alias);
        if is_shared && alias.is_none() {
            return Err(shared());
        }
        for (other, _) in &self.services.entries {
            if other == service {
                continue;
            }
            let theirs = match self.written(other, MAX_DEPTH) {
                Ok(theirs) if theirs.scalar.start == found.scalar.start => theirs,
                Err(refusal @ Refusal::Malformed(_)) => return Err(refusal),
                _ => continue,
            };
            return Err(match (found.by_extending, theirs.by_extending) {
                (true, _) => Refusal::Extends(service.to_owned()),
                (false, true) => Refusal::Extended {
                    service: service.to_owned(),
                    by: other.clone(),
                },
                (false, false) if alias.is_some() => {
                    is_shared = true;
                    continue;
                }
                (false, false) => shared(),
            });
        }
        Ok(Located {
            scalar: found.scalar,
            alias: alias.filter(|_| is_shared),
        })
    }

    /// Where `image` is an alias in a mapping that is this service's and nothing else's.
    fn own_alias(&self, service: &str) -> Result<Option<usize>, Refusal> {
        let Some(Node::Map(own)) = self.services.get(service)? else {
            return Ok(None);
        };
        match own.get("image")? {
            Some(Node::Alias(alias)) if self.outline.aliases_of(own.anchor) == 0 => {
                Ok(Some(alias.start))
            }
            _ => Ok(None),
        }
    }

    fn written(&self, service: &str, depth: usize) -> Result<Written<'a>, Refusal> {
        let named = || service.to_owned();
        self.reader.step(depth)?;
        let own = match self.services.get(service)? {
            Some(own) => match self.reader.follow(own)?.0 {
                Node::Map(own) => own,
                _ => return Err(Refusal::NoImage(named())),
            },
            None if self.outline.root.get("include")?.is_some() => {
                return Err(Refusal::Included(named()));
            }
            None if self.services.has("<<") => return Err(Refusal::Merges(named())),
            None => return Err(Refusal::NoService(named())),
        };
        if self.reader.value(own, "build", depth)?.is_some() {
            return Err(Refusal::Built(named()));
        }
        if let Some(image) = self.reader.value(own, "image", depth)? {
            let (node, by_alias) = self.reader.follow(image)?;
            return match node {
                Node::Scalar(scalar) => Ok(Written {
                    scalar,
                    by_alias,
                    by_extending: false,
                }),
                _ => Err(Refusal::Form(named())),
            };
        }
        match self.reader.value(own, "extends", depth)? {
            Some(extends) => self.extended(service, extends, depth),
            None => Err(Refusal::NoImage(named())),
        }
    }

    fn extended(
        &self,
        service: &str,
        extends: &'a Node,
        depth: usize,
    ) -> Result<Written<'a>, Refusal> {
        let unclear = || Refusal::Extends(service.to_owned());
        let text = |node: &'a Node| match self.reader.follow(node) {
            Ok((Node::Scalar(scalar), _)) => Ok(scalar.value.as_str()),
            _ => Err(unclear()),
        };
        let base = match self.reader.follow(extends)?.0 {
            Node::Scalar(name) => name.value.as_str(),
            Node::Map(of) => {
                let base = of.get("service")?.map(text).transpose()?;
                let base = base.ok_or_else(unclear)?;
                if let Some(file) = of.get("file")? {
                    return Err(Refusal::ExtendsFile {
                        service: service.to_owned(),
                        file: text(file)?.to_owned(),
                        base: base.to_owned(),
                    });
                }
                base
            }
            _ => return Err(unclear()),
        };
        match self.written(base, depth - 1) {
            Ok(found) => Ok(Written {
                by_extending: true,
                ..found
            }),
            Err(Refusal::Built(_)) => Err(Refusal::Built(service.to_owned())),
            Err(refusal @ (Refusal::Malformed(_) | Refusal::ExtendsFile { .. })) => Err(refusal),
            Err(_) => Err(unclear()),
        }
    }
}

/// Whether something else than the scalar at `except` depends on the variable, as far as this file
/// tells; in the words of [`Refusal::VariableUsed`].
pub(super) fn use_of(
    outline: &Outline,
    name: &str,
    except: Option<usize>,
    environment_file: &str,
) -> Option<&'static str> {
    if outline.root.has("include") {
        return Some("a file that is included may use it too");
    }
    let mut open: Vec<(&str, &Node)> = Vec::new();
    for (key, node) in &outline.root.entries {
        open.push((key, node));
    }
    while let Some((key, node)) = open.pop() {
        let is_use = |text: &str| text == name || super::variables::mentions(text, name);
        match node {
            Node::Scalar(scalar) => {
                if except != Some(scalar.start) && is_use(&scalar.value) {
                    return Some("something else uses it too");
                }
                let path = scalar.value.rsplit('/').next().unwrap_or_default();
                if key == "env_file" && path == environment_file {
                    return Some("its file is also the `env_file` of a service");
                }
            }
            Node::Alias(_) => {}
            Node::Map(map) => {
                if key == "extends" && map.has("file") {
                    return Some("a file that is extended may use it too");
                }
                for (inner, node) in &map.entries {
                    if is_use(inner) {
                        return Some("something else uses it too");
                    }
                    // `env_file: [{path: …}]`
                    let key = if key == "env_file" { key } else { inner };
                    open.push((key, node));
                }
            }
            Node::Sequence(sequence) => {
                open.extend(sequence.items.iter().map(|item| (key, item)));
            }
        }
    }
    None
}
