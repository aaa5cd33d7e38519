use std::collections::BTreeSet;

use super::*;

fn change(set: &[(&str, &str)], remove: &[&str]) -> LabelChange {
    let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let remove: BTreeSet<String> = remove.iter().map(|key| (*key).to_owned()).collect();
    LabelChange::new(set.collect(), remove).unwrap()
}

fn set(file: &str, value: &str) -> Result<String, LabelRefusal> {
    with_labels(file, "web", &change(&[("docksmith.ignore", value)], &[]))
}

fn remove(file: &str) -> Result<String, LabelRefusal> {
    with_labels(file, "web", &change(&[], &["docksmith.ignore"]))
}

#[test]
fn what_compose_reads_of_a_written_label() {
    for (written, read) in [
        ("true", Some("true")),
        ("", Some("")),
        ("^1$$", Some("^1$")),
        ("$$$$", Some("$$")),
        ("${A}", None),
        ("$$${A}", None),
        ("a$b$$", None),
    ] {
        assert_eq!(unescaped(written).as_deref(), read, "{written}");
    }
    for value in ["$", "a$b", "$$", ""] {
        assert_eq!(unescaped(&escaped(value)).as_deref(), Some(value));
    }
}

/// Each form with the label set to `true`, set to `false` (or `no`, to be told apart), and without
/// it. Whatever way leads from one to the other, the rest stays byte for byte.
#[test]
fn a_label_is_changed_and_taken_away_however_the_labels_are_written() {
    for (with, without) in [
        // A map of lines.
        (
            "services:\n  web:\n    image: a:1 # one\n    labels:\n      a.b: c   # why\n      docksmith.ignore: ~V~\n\n  db:\n    labels:\n      docksmith.ignore: \"true\"\n",
            "services:\n  web:\n    image: a:1 # one\n    labels:\n      a.b: c   # why\n\n  db:\n    labels:\n      docksmith.ignore: \"true\"\n",
        ),
        // With the ends of lines of another system, and none at the end.
        (
            "services:\r\n  web:\r\n    labels:\r\n      a: 'b'\r\n      docksmith.ignore: ~V~",
            "services:\r\n  web:\r\n    labels:\r\n      a: 'b'",
        ),
        // Each line as its neighbour.
        (
            "# a\r\nservices:\n  web:\n    labels:\n      a: b\n      docksmith.ignore: ~V~\n",
            "# a\r\nservices:\n  web:\n    labels:\n      a: b\n",
        ),
        // A list of lines, indented or not.
        (
            "services:\n  web:\n    labels:\n      - \"a=b\"\n      - docksmith.ignore=~V~\n    image: a:1\n",
            "services:\n  web:\n    labels:\n      - \"a=b\"\n    image: a:1\n",
        ),
        (
            "services:\n  web:\n    labels:\n    - a=b # größer\n    - docksmith.ignore=~V~\n    image: a:1\n",
            "services:\n  web:\n    labels:\n    - a=b # größer\n    image: a:1\n",
        ),
        // In brackets.
        (
            "services:\n  web: {image: a:1, labels: {docksmith.ignore: ~V~, a: b}}\n",
            "services:\n  web: {image: a:1, labels: {a: b}}\n",
        ),
        (
            "services:\n  web:\n    labels: [docksmith.ignore=~V~, \"a=b\"] # x\n",
            "services:\n  web:\n    labels: [\"a=b\"] # x\n",
        ),
        (
            "services:\n  web:\n    labels: {docksmith.ignore: ~V~} # x\n",
            "services:\n  web:\n    labels: {} # x\n",
        ),
        (
            "services:\n  web:\n    labels: [docksmith.ignore=~V~]\n",
            "services:\n  web:\n    labels: []\n",
        ),
    ] {
        let list = with.contains("docksmith.ignore=~V~");
        let (yes, no) = match list {
            true => (with.replace("~V~", "true"), with.replace("~V~", "false")),
            false => (
                with.replace("~V~", "'true'"),
                with.replace("~V~", "'false'"),
            ),
        };
        assert_eq!(set(without, "true").unwrap(), yes, "added");
        assert_eq!(set(&yes, "false").unwrap(), no, "changed");
        assert_eq!(set(&yes, "true").unwrap(), yes, "as it was");
        assert_eq!(remove(&yes).unwrap(), without, "removed");
        assert_eq!(remove(without).unwrap(), without, "not there");
    }
}

#[test]
fn the_first_label_of_a_service_gets_a_place() {
    for (without, with) in [
        (
            "services:\n  web:\n    image: a:1   # here\n    ports: ['80:80']\n",
            "services:\n  web:\n    image: a:1   # here\n    labels:\n      docksmith.ignore: 'true'\n    ports: ['80:80']\n",
        ),
        (
            "services:\r\n    web:\r\n        image: a:1",
            "services:\r\n    web:\r\n        image: a:1\r\n        labels:\r\n            docksmith.ignore: 'true'",
        ),
        (
            "services:\n  web:\n    build: .\n    restart: always\n",
            "services:\n  web:\n    labels:\n      docksmith.ignore: 'true'\n    build: .\n    restart: always\n",
        ),
        (
            "services: {web: {image: a:1}}\n",
            "services: {web: {labels: {docksmith.ignore: 'true'}, image: a:1}}\n",
        ),
        (
            "services:\n  web:\n    labels:   # none yet\n    image: a:1\n",
            "services:\n  web:\n    labels: {docksmith.ignore: 'true'}   # none yet\n    image: a:1\n",
        ),
        (
            "x-a: &a\n  restart: always\nservices:\n  web:\n    <<: *a\n    image: a:1\n    labels: {}\n",
            "x-a: &a\n  restart: always\nservices:\n  web:\n    <<: *a\n    image: a:1\n    labels: {docksmith.ignore: 'true'}\n",
        ),
    ] {
        assert_eq!(set(without, "true").unwrap(), with);
    }
}

#[test]
fn the_last_label_leaves_none_behind() {
    for (with, without) in [
        (
            "services:\n  web:\n    labels: # ours\n      docksmith.ignore: \"true\" # for now\n    image: a:1\n",
            "services:\n  web:\n    labels: {} # ours\n    image: a:1\n",
        ),
        (
            "services:\n  web:\n    labels:\n      # ours\n      - docksmith.ignore=true\n",
            "services:\n  web:\n    labels: []\n      # ours\n",
        ),
    ] {
        assert_eq!(remove(with).unwrap(), without);
    }
}

#[test]
fn values_are_written_so_that_compose_reads_them_as_they_were_meant() {
    let file = "services:\n  web:\n    labels:\n      a: b\n";
    for (value, written) in [
        ("true", "'true'"),
        ("", "''"),
        ("1.20", "'1.20'"),
        (r"^v\d+\.\d+$", r"'^v\d+\.\d+$$'"),
        ("${HOME}", "'$${HOME}'"),
        ("it's", "'it''s'"),
        ("a: b # c", "'a: b # c'"),
        ("*x", "'*x'"),
        ("  spaced ", "'  spaced '"),
    ] {
        let expected = format!("{file}      docksmith.ignore: {written}\n");
        assert_eq!(set(file, value).unwrap(), expected);
        let found = labels_of(&expected, "web").unwrap().unwrap();
        assert_eq!(found["docksmith.ignore"], escaped(value));
    }
    let list = "services:\n  web:\n    labels: [\"docksmith.ignore=x\"]\n";
    let expected = "services:\n  web:\n    labels: [\"docksmith.ignore=^1$$\"]\n";
    assert_eq!(set(list, "^1$").unwrap(), expected);
    let plain = "services:\n  web:\n    labels:\n      - docksmith.ignore=x\n";
    let expected = "services:\n  web:\n    labels:\n      - 'docksmith.ignore=^1$$'\n";
    assert_eq!(set(plain, "^1$").unwrap(), expected);
}

#[test]
fn several_labels_are_changed_at_once() {
    let file =
        "services:\n  web:\n    labels:\n      dd.watch: \"true\"\n      docksmith.ignore: x\n";
    let both = change(
        &[("dd.watch", "false"), ("docksmith.allow-latest", "true")],
        &["docksmith.ignore"],
    );
    assert_eq!(
        with_labels(file, "web", &both).unwrap(),
        "services:\n  web:\n    labels:\n      dd.watch: \"false\"\n      docksmith.allow-latest: 'true'\n"
    );
}

#[test]
fn what_is_not_this_services_alone_is_left_alone() {
    let reason = |file: &str| match (set(file, "true"), remove(file)) {
        (Err(refusal), _) => refusal.to_string(),
        (Ok(text), _) => panic!("{text}"),
    };
    for (file, expected) in [
        ("services:\n  db:\n    image: a\n", "has no service `web`"),
        (
            "include: [b.yml]\nservices:\n  db: {image: a}\n",
            "a file that it includes",
        ),
        (
            "services:\n  web: &w\n    image: a\n  db: *w\n",
            "also used elsewhere",
        ),
        (
            "services:\n  web:\n    labels: &l\n      a: b\n  db:\n    labels: *l\n",
            "also used elsewhere",
        ),
        (
            "x-l: &l {a: b}\nservices:\n  web:\n    labels: *l\n",
            "also used elsewhere",
        ),
        (
            "x-b: &b\n  labels: {a: b}\nservices:\n  web:\n    <<: *b\n    image: a\n",
            "what it merges or extends",
        ),
        (
            "services:\n  web:\n    image: a\n  db:\n    extends: web\n",
            "`db` extends `web`",
        ),
        (
            "services:\n  web:\n    labels:\n      docksmith.ignore: |\n        x\n",
            "not written in a form",
        ),
        (
            "services:\n  web:\n    labels:\n      docksmith.ignore: !!str x\n",
            "not written in a form",
        ),
        (
            "services:\n  web:\n    labels:\n      - docksmith.ignore=a\n      - docksmith.ignore=b\n",
            "more than once",
        ),
        (
            "services:\n  web:\n    labels: {docksmith.ignore: a, docksmith.ignore: b}\n",
            "",
        ),
        (
            "services:\n  web:\n    labels: nonsense\n",
            "not described in a form",
        ),
        ("services:\n  web:\n", "not described in a form"),
        ("a: b: c\n", "no YAML"),
        (
            "services: {web: {labels: {a: b}}}\n---\na: b\n",
            "several documents",
        ),
    ] {
        let found = reason(file);
        assert!(found.contains(expected), "{found}\n{file}");
    }
    let extending =
        "services:\n  web:\n    extends: {file: b.yml, service: web}\n    labels: {a: b}\n";
    assert!(remove(extending).is_err());
    assert!(set(extending, "true").is_ok());
    let merged =
        "x: &l {docksmith.ignore: 'x'}\nservices:\n  web:\n    labels:\n      <<: *l\n      a: b\n";
    assert!(
        remove(merged)
            .unwrap_err()
            .to_string()
            .contains("what it merges or extends")
    );
    assert!(
        set(merged, "true")
            .unwrap()
            .ends_with("a: b\n      docksmith.ignore: 'true'\n")
    );
}
