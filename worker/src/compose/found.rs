//! The one place that says what a service runs, among all files of its project.

use std::path::{Path, PathBuf};

use plimsoll_domain::{
    compose::{self, Environment, Pinning, Place, Refusal, Resolved, ServiceImage},
    image::{Digest, ImageRef},
};

use super::{Project, refused};

/// How far `extends` is followed from file to file.
const MAX_FILES: usize = 8;

/// The file that says what the service runs.
#[derive(Debug)]
pub struct Found {
    pub path: PathBuf,
    pub text: String,
    /// As the file calls it: another one where the project's service extends it.
    pub service: String,
    pub image: ServiceImage,
    pub resolved: Resolved,
    environment: Environment,
    environment_files: Vec<(PathBuf, String)>,
}

/// What is to be written, and where.
#[derive(Debug)]
pub struct Edited {
    pub file: PathBuf,
    /// In a file of variables: which one.
    pub variable: Option<String>,
    /// What stands there before and after.
    pub before: String,
    pub after: String,
    /// The file's new text.
    pub text: String,
    /// The image afterwards, with its variables filled in.
    pub image: String,
}

impl Project {
    /// The file whose image counts: of several the last that names one.
    ///
    /// # Errors
    /// For people.
    pub fn find(&self) -> Result<Found, String> {
        let mut nothing = None;
        for (number, path) in self.files.iter().enumerate().rev() {
            let text = self.read(path)?;
            match compose::service_image(&text, &self.service) {
                Ok(image) => {
                    self.refuse_built(&self.files[..number])?;
                    return self.found(path.clone(), text, self.service.clone(), image);
                }
                Err(Refusal::ExtendsFile { file, base, .. }) => {
                    self.refuse_built(&self.files[..number])?;
                    return self.extended(path, &file, &base);
                }
                Err(refusal @ Refusal::Included(_)) => {
                    self.refuse_built(&self.files[..number])?;
                    return self.included(path, &refusal);
                }
                Err(refusal @ (Refusal::NoService(_) | Refusal::NoImage(_))) => {
                    nothing = Some(refused(path, &refusal));
                }
                Err(refusal) => return Err(refused(path, &refusal)),
            }
        }
        Err(nothing.unwrap_or_default())
    }

    /// Whether none of its files says which image the service has, or one says that it is built.
    pub fn names_no_image(&self) -> bool {
        let mut is_named = false;
        for path in &self.files {
            let Ok(text) = self.read(path) else {
                return false;
            };
            match compose::service_image(&text, &self.service) {
                Err(Refusal::Built(_)) => return true,
                Err(Refusal::NoImage(_) | Refusal::NoService(_)) => {}
                _ => is_named = true,
            }
        }
        !is_named
    }

    /// The image of a service that is also built is what was built.
    fn refuse_built(&self, earlier: &[PathBuf]) -> Result<(), String> {
        for path in earlier {
            let text = self.read(path)?;
            if let Err(refusal @ Refusal::Built(_)) = compose::service_image(&text, &self.service) {
                return Err(refused(path, &refusal));
            }
        }
        Ok(())
    }

    /// In a file that is none of the project's own: only what no other service of the project
    /// extends, and what is in the project's directory, so that it is no other project's.
    fn extended(&self, path: &Path, file: &str, base: &str) -> Result<Found, String> {
        let at = |path: &Path, file: &str| path.parent().unwrap_or(Path::new("/")).join(file);
        let (mut place, mut service) = (at(path, file), base.to_owned());
        let unclear = |service: &str| refused(path, &Refusal::Extends(service.to_owned()));
        for own in &self.files {
            let text = self.read(own)?;
            let others = compose::services(&text).map_err(|refusal| refused(own, &refusal))?;
            for other in others.iter().filter(|other| **other != self.service) {
                if let Err(Refusal::ExtendsFile { file, base, .. }) =
                    compose::service_image(&text, other)
                    && (at(own, &file), &base) == (place.clone(), &service)
                {
                    return Err(unclear(&self.service));
                }
            }
        }
        for _ in 0..MAX_FILES {
            if !self.is_own(&place) {
                return Err(format!(
                    "{}: {} is not in the project's directory",
                    unclear(&self.service),
                    place.display()
                ));
            }
            let text = self.read(&place)?;
            match compose::service_image(&text, &service) {
                Ok(image) => return self.found(place, text, service, image),
                Err(Refusal::ExtendsFile { file, base, .. }) => {
                    (place, service) = (at(&place, &file), base);
                }
                Err(refusal) => return Err(refused(&place, &refusal)),
            }
        }
        Err(unclear(&self.service))
    }

    /// In a file that one of the project's own includes: where only one of them describes the
    /// service, and it is in the project's directory, so that it is no other project's.
    fn included(&self, path: &Path, refusal: &Refusal) -> Result<Found, String> {
        let unclear = |why: &str| format!("{}: {why}", refused(path, refusal));
        let mut open = vec![path.to_owned()];
        let mut seen = 0;
        let mut found = None;
        while let Some(including) = open.pop() {
            let text = self.read(&including)?;
            let all = compose::includes(&text).map_err(|refusal| refused(&including, &refusal))?;
            for file in all {
                seen += 1;
                let file = file.filter(|_| seen <= MAX_FILES).ok_or_else(|| {
                    unclear("it is included in a way that only Compose understands")
                })?;
                let place = including.parent().unwrap_or(Path::new("/")).join(file);
                if !self.is_own(&place) {
                    let place = place.display();
                    return Err(unclear(&format!(
                        "{place} is not in the project's directory"
                    )));
                }
                let text = self.read(&place)?;
                match compose::service_image(&text, &self.service) {
                    Err(Refusal::NoService(_) | Refusal::Included(_)) => {}
                    Err(refusal) => return Err(refused(&place, &refusal)),
                    Ok(_) if found.is_some() => {
                        return Err(unclear("several of them describe it"));
                    }
                    Ok(image) => found = Some((place.clone(), text, image)),
                }
                open.push(place);
            }
        }
        let (place, text, image) =
            found.ok_or_else(|| unclear("none of them says what it runs"))?;
        if image.text.contains('$') {
            return Err(unclear("its image is computed from variables"));
        }
        for own in &self.files {
            let text = self.read(own)?;
            let services = compose::services(&text).map_err(|refusal| refused(own, &refusal))?;
            for other in services {
                if let Err(Refusal::ExtendsFile { file, base, .. }) =
                    compose::service_image(&text, &other)
                    && base == self.service
                    && same(&own.parent().unwrap_or(Path::new("/")).join(file), &place)
                {
                    return Err(unclear(&format!("`{other}` extends it")));
                }
            }
        }
        self.found(place, text, self.service.clone(), image)
    }

    fn is_own(&self, place: &Path) -> bool {
        std::fs::canonicalize(place).is_ok_and(|place| {
            std::fs::canonicalize(&self.directory).is_ok_and(|own| place.starts_with(own))
        })
    }

    fn found(
        &self,
        path: PathBuf,
        text: String,
        service: String,
        image: ServiceImage,
    ) -> Result<Found, String> {
        let environment_files = match image.text.contains('$') {
            true => self.variables()?,
            false => Vec::new(),
        };
        let texts = environment_files.iter().map(|(_, text)| text.as_str());
        let environment = Environment::parse(texts);
        let environment = environment.map_err(|refusal| refused(&path, &refusal))?;
        let resolved = compose::resolve(&image.text, &environment);
        let resolved = resolved.map_err(|refusal| refused(&path, &refusal))?;
        Ok(Found {
            path,
            text,
            service,
            image,
            resolved,
            environment,
            environment_files,
        })
    }

    /// The files that Compose takes variables from.
    fn variables(&self) -> Result<Vec<(PathBuf, String)>, String> {
        if self.environment_files.is_empty() {
            let usual = self.directory.join(".env");
            if !usual.exists() {
                return Ok(Vec::new());
            }
            let text = self.read(&usual)?;
            return Ok(vec![(usual, text)]);
        }
        let read = |path: &PathBuf| Ok((path.clone(), self.read(path)?));
        self.environment_files.iter().map(read).collect()
    }
}

fn same(one: &Path, other: &Path) -> bool {
    match (std::fs::canonicalize(one), std::fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

impl Found {
    /// # Errors
    /// For people.
    pub fn edit(
        &self,
        project: &Project,
        target: &ImageRef,
        digest: Option<&Digest>,
        pinning: Pinning,
    ) -> Result<Edited, String> {
        let refuse = |refusal: Refusal| refused(&self.path, &refusal);
        let image = &self.image.text;
        let change = compose::change(image, &self.environment, target, digest, pinning);
        let change = change.map_err(refuse)?;
        let name = match change.place {
            Place::Image => {
                let edit = compose::with_text(&self.text, &self.service, &change.after);
                return Ok(Edited {
                    file: self.path.clone(),
                    variable: None,
                    text: edit.map_err(refuse)?.text,
                    before: change.before,
                    after: change.after,
                    image: change.image,
                });
            }
            Place::Variable(name) => name,
        };
        let number = self.environment.file_of(&name);
        let Some((file, text)) = number.and_then(|number| self.environment_files.get(number))
        else {
            return Err(refuse(Refusal::VariableForm(name)));
        };
        let known_as = file.file_name().unwrap_or_default().to_string_lossy();
        for path in project.files.iter().chain([&self.path]) {
            let text = project.read(path)?;
            compose::only_use(&text, &project.service, &name, &known_as)
                .map_err(|refusal| refused(path, &refusal))?;
        }
        let edited = compose::with_variable(text, &name, &change.after);
        Ok(Edited {
            file: file.clone(),
            text: edited.map_err(|refusal| refused(file, &refusal))?,
            variable: Some(name),
            before: change.before,
            after: change.after,
            image: change.image,
        })
    }
}
