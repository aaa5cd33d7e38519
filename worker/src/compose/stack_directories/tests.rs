use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const FILE: &str = "services: {web: {image: x}}\n";

/// A configured directory, and one beside it.
struct Place {
    directory: tempfile::TempDir,
    stacks: StackDirectories,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("stacks");
        fs::create_dir(&root).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        Self {
            stacks: StackDirectories::new(&[root]).unwrap(),
            directory,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// `path` begins with the project's directory.
    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path("stacks").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn found(&self) -> Vec<Described> {
        let mut found = self.stacks.look().unwrap();
        found.remove(0).found.unwrap()
    }

    /// Name, services and whether there is a problem, of each.
    fn shown(&self) -> Vec<String> {
        let shown = |stack: &Described| {
            let services: Vec<&str> = stack.services.iter().map(|one| &*one.name).collect();
            let problem = if stack.problem.is_some() { " !" } else { "" };
            format!("{}: {}{problem}", stack.name, services.join(","))
        };
        self.found().iter().map(shown).collect()
    }

    fn problem(&self, name: &str) -> String {
        let found = self.found();
        let stack = found.iter().find(|stack| stack.name == name).unwrap();
        stack.problem.clone().unwrap_or_default()
    }
}

#[test]
fn each_directory_with_a_compose_file_is_a_stack() {
    let place = Place::new();
    place.write("a Shop/compose.yml", "services: {b: {}}\n");
    place.write("a Shop/compose.yaml", "services: {a: {}}\n");
    place.write("a Shop/docker-compose.override.yaml", "services: {c: {}}\n");
    place.write("a Shop/docker-compose.override.yml", "services: {d: {}}\n");
    place.write("a Shop/deeper/compose.yaml", FILE);
    place.write("b/docker-compose.yml", "name: named\nservices: {a: {}}\n");
    place.write("c/docker-compose.yaml", FILE);
    place.write("c/.env", "COMPOSE_PROJECT_NAME=of-env\n");
    place.write("notes/readme.md", "");
    place.write("compose.yaml", FILE);
    assert_eq!(place.shown(), ["ashop: a,d", "named: a", "of-env: web"]);
    let files: Vec<String> = ["compose.yaml", "docker-compose.override.yml"]
        .iter()
        .map(|name| place.path("stacks/a Shop").join(name).display().to_string())
        .collect();
    assert_eq!(place.found()[0].files, files);
}

#[test]
fn what_changes_is_read_again_and_what_goes_is_gone() {
    let place = Place::new();
    place.write("a/compose.yaml", FILE);
    place.write("b/compose.yaml", FILE);
    assert_eq!(place.shown(), ["a: web", "b: web"]);
    place.write("a/compose.yaml", "services: {db: {image: x}}\n");
    place.write("b/compose.override.yaml", "services: {more: {}}\n");
    assert_eq!(place.shown(), ["a: db", "b: more,web"]);
    place.write("a/.env", "COMPOSE_PROJECT_NAME=other\n");
    fs::remove_file(place.path("stacks/b/compose.override.yaml")).unwrap();
    assert_eq!(place.shown(), ["other: db", "b: web"]);
    // Somebody is in the middle of it: the project is what it was.
    place.write("a/compose.yaml", "services: [");
    assert_eq!(place.shown(), ["other: db !", "b: web"]);
    place.write("a/compose.yaml", FILE);
    assert_eq!(place.shown(), ["other: web", "b: web"]);
    fs::remove_dir_all(place.path("stacks/a")).unwrap();
    fs::rename(place.path("stacks/b"), place.path("stacks/c")).unwrap();
    assert_eq!(place.shown(), ["c: web"]);
    fs::remove_dir_all(place.path("stacks")).unwrap();
    assert!(place.shown().is_empty());
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let place = Place::new();
    place.write("a/compose.yaml", FILE);
    assert_eq!(place.shown(), ["a: web"]);
    let path = place.path("stacks/a");
    let mut state = place.stacks.state.lock().unwrap();
    state.known.get_mut(&path).unwrap().stack.name = "kept".to_owned();
    drop(state);
    assert_eq!(place.shown(), ["kept: web"]);
    place.write("a/compose.yaml", FILE);
    assert_eq!(place.shown(), ["a: web"]);
}

#[test]
fn one_that_cannot_be_read_says_why_and_costs_no_other() {
    let place = Place::new();
    fs::write(place.path("outside/compose.yaml"), FILE).unwrap();
    fs::write(place.path("outside/.env"), "COMPOSE_PROJECT_NAME=stolen\n").unwrap();
    place.write("good/compose.yaml", FILE);
    symlink(place.path("outside"), place.path("stacks/linked")).unwrap();
    fs::create_dir(place.path("stacks/file")).unwrap();
    symlink(
        place.path("outside/compose.yaml"),
        place.path("stacks/file/compose.yaml"),
    )
    .unwrap();
    place.write("variables/compose.yaml", FILE);
    symlink(
        place.path("outside/.env"),
        place.path("stacks/variables/.env"),
    )
    .unwrap();
    fs::create_dir(place.path("stacks/dangling")).unwrap();
    symlink("none", place.path("stacks/dangling/compose.yaml")).unwrap();
    fs::create_dir_all(place.path("stacks/folder/compose.yaml")).unwrap();
    fs::create_dir(place.path("stacks/pipe")).unwrap();
    let mode = nix::sys::stat::Mode::S_IRUSR;
    nix::unistd::mkfifo(&place.path("stacks/pipe/compose.yaml"), mode).unwrap();
    place.write("huge/compose.yaml", " ".repeat(2 << 20));
    place.write("binary/compose.yaml", b"services: \xff\n");
    place.write("broken/compose.yaml", "services: [\n");
    let mut bomb = String::from("x0: &x0 {a: b}\n");
    for n in 1..60 {
        bomb += &format!("x{n}: &x{n} {{<<: [*x{0}, *x{0}]}}\n", n - 1);
    }
    place.write("bomb/compose.yaml", bomb + "services: {a: *x59}\n");
    assert_eq!(
        place.shown(),
        [
            "binary:  !",
            "bomb:  !",
            "broken:  !",
            "dangling:  !",
            "file:  !",
            "folder:  !",
            "good: web",
            "huge:  !",
            "linked:  !",
            "pipe:  !",
            "variables: web !",
        ]
    );
    for (name, why) in [
        ("file", "leads out of the directory of stacks"),
        ("linked", "leads out of the directory of stacks"),
        ("variables", ".env leads out"),
        ("huge", "larger than"),
        ("folder", "no regular file"),
        ("pipe", "no regular file"),
        ("bomb", "nested too deeply"),
        ("broken", "compose.yaml: it is no YAML"),
        ("dangling", "cannot be read"),
    ] {
        let problem = place.problem(name);
        assert!(problem.contains(why), "{name}: {problem}");
    }
}

#[test]
fn a_directory_that_may_not_be_read_is_known_as_it_was() {
    let place = Place::new();
    place.write("a/compose.yaml", FILE);
    place.write("b/compose.yaml", FILE);
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let known = place.found();
    let as_somebody = || {
        mode("", 0o755);
        as_nobody(|| place.stacks.look().unwrap().remove(0).found)
    };
    mode("stacks/a/compose.yaml", 0o000);
    mode("stacks/b", 0o000);
    let found = as_somebody().unwrap();
    let services = |found: &[Described]| -> Vec<usize> {
        found.iter().map(|one| one.services.len()).collect()
    };
    assert_eq!(services(&found), [1, 1]);
    for stack in &found {
        let problem = stack.problem.as_deref().unwrap();
        assert!(problem.contains("Permission denied"), "{problem}");
    }
    mode("stacks/a/compose.yaml", 0o644);
    mode("stacks/b", 0o755);
    assert_eq!(as_somebody().unwrap(), known);
    mode("stacks", 0o000);
    let problem = as_somebody().unwrap_err();
    assert!(problem.contains("Permission denied"), "{problem}");
    mode("stacks", 0o755);
    assert_eq!(as_somebody().unwrap(), known);
}

/// Root may read everything: what is read here is read by a thread of another user.
fn as_nobody<T: Send>(look: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
            }
            look()
        });
        thread.join().unwrap()
    })
}
