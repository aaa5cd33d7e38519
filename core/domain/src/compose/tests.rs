use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// `web` of this file to this tag of its own repository.
fn to_tag(file: &str, tag: &str, digest: Option<&str>, pinning: Pinning) -> Result<Edit, Refusal> {
    let (found, none) = (service_image(file, "web")?, Environment::default());
    let target = resolve(&found.text, &none)?.reference;
    let target = target.with_tag(Tag::parse(tag).unwrap());
    let digest = digest.map(|digest| Digest::parse(digest).unwrap());
    let change = change(&found.text, &none, &target, digest.as_ref(), pinning)?;
    assert_eq!(change.place, Place::Image);
    with_text(file, "web", &change.after)
}

fn edited(file: &str) -> String {
    to_tag(file, "1.1.0", Some(DIGEST), Pinning::AsItIs)
        .unwrap_or_else(|refusal| panic!("{refusal}\n{file}"))
        .text
}

#[test]
fn only_the_image_changes_however_the_file_is_written() {
    for file in [
        "services:\n  web:\n    image: app:1.0.0\n",
        "services:\n  web:\n    image: app:1.0.0",
        "services:\r\n  web:\r\n    image: app:1.0.0   # keep: app:1.0.0\r\n    restart: always\r\n",
        "\u{feff}services:\n  web:\n    image: app:1.0.0\n",
        "# größer → 1.0.0\nservices:\n  db: {image: 'app:1.0.0'}\n  web:\n    image: \"app:1.0.0\"\n",
        "services:\n  web:\n    # image: app:0.9\n    image:   'app:1.0.0' # why\n\n\n",
        "services: {web: {image: app:1.0.0, ports: [\"80:80\"]}, db: {image: db:1}}\n",
        "services: {\"web\": {\"image\": \"app:1.0.0\"}}",
        "---\nversion: '3'\nservices:\n    web:\n        environment:\n            - IMAGE=app:1.0.0\n        image: app:1.0.0\n...\n",
        "x-log: &log\n  driver: local\nservices:\n  web:\n    logging: *log\n    image: app:1.0.0\n  db:\n    logging: *log\n    image: app:1.0.0x\n",
        "x-base: &base\n  restart: always\nservices:\n  web:\n    <<: *base\n    image: app:1.0.0\n",
        "services:\n  web: &web\n    image: app:1.0.0\n",
        "services:\n  web:\n    extends: {file: base.yml, service: web}\n    image: app:1.0.0\n",
        "services:\n  web:\n    image:\n      app:1.0.0\n    command: |\n      echo app:1.0.0\n",
        "include: [other.yml]\nservices:\n  web:\n    image: app:1.0.0\n",
        "services:\n  web:\n    image: localhost:5000/team/app:1.0.0\n",
        "services:\n\t\n  web:\n    image: app:1.0.0\n",
        "services:\n  web:\n    image: app:${TAG:-1.0.0}\n  db:\n    image: app:${TAG:-1.0.0}\n",
        "services:\n  web:\n    image: \"${REGISTRY-localhost:5000}/app:1.0.0\"\n",
        "services:\n  web:\n    image: ${IMAGE:-app:1.0.0}\n",
        "x-i: &i app:2\nx-web: &web\n  image: app:1.0.0\nservices:\n  db:\n    image: *i\n  web:\n    <<: *web\n",
        "x-web: &web\n  image: app:1.0.0\nx-log: &log {restart: always}\nservices:\n  web:\n    <<: [*log, *web]\n  db:\n    <<: *web\n    image: db:1\n",
        "x-web: &web\n  image: &i app:1.0.0\nservices:\n  web: *web\n",
    ] {
        // The last place where the tag stands on its own is the image's, or else the one that
        // follows `image`.
        let at = position(file);
        let mut expected = file.to_owned();
        expected.replace_range(at..at + 5, "1.1.0");
        assert_eq!(edited(file), expected, "{file}");
    }
}

/// Where the tag of `web`'s image stands, found without a parser.
fn position(file: &str) -> usize {
    let web = file.find("web").unwrap();
    let mut from = web;
    loop {
        let line = file[from..].find("image").unwrap() + from;
        let comment = file[..line].rfind('\n').map_or(0, |at| at + 1);
        from = line + 5;
        if !file[comment..line].contains('#') {
            return file[from..].find("1.0.0").unwrap() + from;
        }
    }
}

#[test]
fn a_service_that_shares_a_scalar_gets_a_text_of_its_own() {
    for (file, after) in [
        (
            "x-i: &i app:1.0.0\nservices:\n  web:\n    image: *i # ours\n  db:\n    image: *i\n",
            "x-i: &i app:1.0.0\nservices:\n  web:\n    image: app:1.1.0 # ours\n  db:\n    image: *i\n",
        ),
        (
            "services:\r\n  db:\r\n    image: &i 'app:1.0.0'\r\n  web: {image: *i, restart: always}\r\n",
            "services:\r\n  db:\r\n    image: &i 'app:1.0.0'\r\n  web: {image: 'app:1.1.0', restart: always}\r\n",
        ),
        (
            "x-i: &i \"app:${T:-1.0.0}\"\nservices:\n  web: {image: *i}\n  db: {image: *i}",
            "x-i: &i \"app:${T:-1.0.0}\"\nservices:\n  web: {image: \"app:${T:-1.1.0}\"}\n  db: {image: *i}",
        ),
        (
            "x-i: &i app:1.0.0\nservices:\n  web:\n    image: *i\n    command: *i",
            "x-i: &i app:1.0.0\nservices:\n  web:\n    image: app:1.1.0\n    command: *i",
        ),
        (
            "x-b: &b\n  image: &i app:1.0.0\nservices:\n  db:\n    <<: *b\n  web:\n    <<: *b\n    image: *i\n",
            "x-b: &b\n  image: &i app:1.0.0\nservices:\n  db:\n    <<: *b\n  web:\n    <<: *b\n    image: app:1.1.0\n",
        ),
    ] {
        assert_eq!(edited(file), after, "{file}");
        // Back again, and what is so already.
        let back = to_tag(after, "1.0.0", None, Pinning::AsItIs).unwrap().text;
        assert_eq!(back, after.replace("1.1.0", "1.0.0"));
        let same = to_tag(file, "1.0.0", None, Pinning::AsItIs).unwrap();
        assert!(same.changes_nothing() && same.text == file);
    }
    let shared = "x-i: &i app:${T}\nservices:\n  web:\n    image: *i\n  db:\n    image: *i\n";
    let refusal = only_use(shared, "web", "T", ".env").unwrap_err();
    assert!(
        refusal.to_string().contains("something else uses it"),
        "{refusal}"
    );
}

#[test]
fn files_are_included_as_the_project_or_not_at_all() {
    let file = "include: [a.yml, {path: b/c.yml}, {path: [d.yml]}, {path: [e.yml, f.yml]}, \
                {path: g.yml, env_file: g.env}, oci://h/i, $J]\n";
    let some = |path: &str| Some(path.to_owned());
    assert_eq!(
        includes(file).unwrap(),
        [
            some("a.yml"),
            some("b/c.yml"),
            some("d.yml"),
            None,
            None,
            None,
            None
        ]
    );
    assert!(includes("services: {}\n").unwrap().is_empty());
}

#[test]
fn tags_and_digests_are_written_as_they_were() {
    let cases = [
        (
            "app:1.0.0",
            "1.1.0",
            Pinning::AsItIs,
            "app:1.1.0".to_owned(),
        ),
        (
            "app:1.0.0",
            "1.1.0",
            Pinning::Always,
            format!("app:1.1.0@{DIGEST}"),
        ),
        (
            "docker.io/library/app:1",
            "2",
            Pinning::AsItIs,
            "docker.io/library/app:2".to_owned(),
        ),
        ("app", "latest", Pinning::AsItIs, "app".to_owned()),
        (
            "app:latest",
            "latest",
            Pinning::AsItIs,
            "app:latest".to_owned(),
        ),
        ("app", "latest", Pinning::Always, format!("app@{DIGEST}")),
        (
            "reg:5000/app",
            "2",
            Pinning::AsItIs,
            "reg:5000/app:2".to_owned(),
        ),
    ];
    for (before, tag, pinning, after) in cases {
        let file = format!("services:\n  web:\n    image: {before}\n");
        let edit = to_tag(&file, tag, Some(DIGEST), pinning).unwrap();
        assert_eq!(edit.after, after);
        assert_eq!(edit.changes_nothing(), before == after, "{before}");
        assert_eq!(
            edit.text,
            format!("services:\n  web:\n    image: {after}\n")
        );
    }
    // A digest decides what runs, so it may not stay behind.
    let pinned = format!("services:\n  web:\n    image: app:1.0.0@{OTHER}\n");
    let edit = to_tag(&pinned, "1.1.0", Some(DIGEST), Pinning::AsItIs).unwrap();
    assert_eq!(edit.after, format!("app:1.1.0@{DIGEST}"));
}

#[test]
fn what_cannot_be_changed_safely_is_refused_with_its_reason() {
    let long = format!(
        "services:\n  web:\n    image: app:1\n#{}",
        "x".repeat(MAX_BYTES)
    );
    let deep = format!("services: {}{}", "[".repeat(100), "]".repeat(100));
    for (file, part) in [
        ("services:\n  web:\n    image: app:${TAG}\n", "variables"),
        ("services:\n  web:\n    image: $IMAGE\n", "variables"),
        (
            "services:\n  web:\n    build: .\n    image: app:1\n",
            "built",
        ),
        (
            "services:\n  web:\n    extends: {service: base}\n  base:\n    image: app:1\n",
            "extends",
        ),
        (
            "services:\n  web:\n    extends: {file: b.yml, service: base}\n",
            "`base` in b.yml",
        ),
        (
            "x-b: &b\n  image: app:1\nservices:\n  web:\n    <<: *b\n  db:\n    <<: *b\n",
            "alias",
        ),
        ("services:\n  web:\n    extends: web\n", "deeply"),
        (
            "x-b: &b {build: .}\nservices:\n  web:\n    <<: *b\n    image: app:1\n",
            "built",
        ),
        (
            "x-i: &i app:1\nservices:\n  web: &w\n    image: *i\n  db:\n    <<: *w\n",
            "alias",
        ),
        (
            "x-i: &i app:1\nservices:\n  web:\n    image: *i\n  db:\n    extends: web\n",
            "`db` extends",
        ),
        (
            "services:\n  web:\n    image: app:${A:-1}.${B:-0}-${A:-1}\n",
            "more than one",
        ),
        (
            "services:\n  web:\n    image: app:${A:-${B:-1}}\n",
            "variables",
        ),
        ("services:\n  web:\n    image: app:${A:+1}\n", "variables"),
        (
            "services:\n  web:\n    image: &i app:1\n  db:\n    image: *i\n",
            "alias",
        ),
        (
            "services:\n  web: &w\n    image: app:1\n  db:\n    <<: *w\n",
            "alias",
        ),
        (
            "services:\n  web:\n    image: app:1\n  db:\n    extends: web\n",
            "`db` extends",
        ),
        (
            "services:\n  web:\n    image: app:1\n  db:\n    extends: {service: web}\n",
            "`db` extends",
        ),
        ("services:\n  db:\n    image: app:1\n", "no service"),
        (
            "include: [a.yml]\nservices:\n  db:\n    image: app:1\n",
            "includes",
        ),
        ("include: [a.yml]\n", "includes"),
        ("services:\n  web:\n    restart: always\n", "no image"),
        ("services:\n  web:\n    image: |\n      app:1\n", "one line"),
        ("services:\n  web:\n    image: !!str app:1\n", "one line"),
        ("services:\n  web:\n    image: \"app\\x3a1\"\n", "one line"),
        ("services:\n  web:\n    image: [app]\n", "one line"),
        (
            "services:\n  web:\n    image: 'UPPER CASE'\n",
            "not an image",
        ),
        (
            "services:\n  web:\n    image: a:1\n    image: a:2\n",
            "more than once",
        ),
        (
            "services:\n  web:\n    image: a:1\n  web:\n    image: a:2\n",
            "more than once",
        ),
        (
            "services:\n  web:\n    image: a:1\n---\nservices: {}\n",
            "several",
        ),
        ("services:\n  web:\n   image: a:1\n  - x\n", "no YAML"),
        ("- a\n", "no mapping"),
        ("", "no mapping"),
        (long.as_str(), "larger"),
        (deep.as_str(), "deeply"),
    ] {
        let refusal = to_tag(file, "1.1.0", None, Pinning::AsItIs);
        let refusal = refusal.expect_err(file).to_string();
        assert!(
            refusal.contains(part),
            "{refusal}\n{}",
            &file[..file.len().min(200)]
        );
    }
    let target = ImageRef::parse("other:1.1.0").unwrap();
    let none = Environment::default();
    let refusal = change("app:1", &none, &target, None, Pinning::AsItIs).unwrap_err();
    assert!(
        refusal.to_string().contains("not of the repository other"),
        "{refusal}"
    );
}

#[test]
fn variables_are_changed_where_they_are_set() {
    let file =
        "# TAG\r\nOTHER='x # y'\nexport TAG = \"1.0.0\" # the app's\r\nEMPTY=\nLAST=a b#c # d";
    let environment = Environment::parse([file]).unwrap();
    for (image, place, after) in [
        ("app:${TAG}", Place::Variable("TAG".to_owned()), "1.1.0"),
        ("app:$TAG", Place::Variable("TAG".to_owned()), "1.1.0"),
        ("app:${TAG:-9}", Place::Variable("TAG".to_owned()), "1.1.0"),
        ("app:${EMPTY:-1.0.0}", Place::Image, "app:${EMPTY:-1.1.0}"),
        (
            "${EMPTY:-localhost}/app:1.0.0",
            Place::Image,
            "${EMPTY:-localhost}/app:1.1.0",
        ),
        ("app:${EMPTY}1.0.0", Place::Image, "app:${EMPTY}1.1.0"),
        ("app:1.0.${PATCH:-0}", Place::Image, "app:1.1.${PATCH:-0}"),
    ] {
        let found = resolve(image, &environment).unwrap();
        let target = found.reference.with_tag(Tag::parse("1.1.0").unwrap());
        let changed = change(image, &environment, &target, None, Pinning::AsItIs);
        let changed = changed.unwrap_or_else(|refusal| panic!("{refusal} {image}"));
        let named = found
            .variable()
            .map(|name| Place::Variable(name.to_owned()));
        assert_eq!(named.unwrap_or(Place::Image), place, "{image}");
        assert_eq!(
            (changed.place, changed.after.as_str()),
            (place, after),
            "{image}"
        );
    }
    assert_eq!(variable(file, "TAG").unwrap(), "1.0.0");
    let edited = with_variable(file, "TAG", "1.1.0").unwrap();
    assert_eq!(edited, file.replace("\"1.0.0\"", "\"1.1.0\""));
    assert_eq!(variable(file, "LAST").unwrap(), "a b#c");
    assert_eq!(variable(file, "OTHER").unwrap(), "x # y");
    for (file, part) in [
        ("TAG=1\nTAG=2\n", "more than once"),
        ("TAG=1\nB=${TAG}-x\n", "uses it too"),
        ("TAG=${A}\n", "not set to a plain text"),
        ("TAG=\"1\nB=2\n", "cannot be read"),
        ("TAG: 1\n", "cannot be read"),
        ("A=1\n", "not set"),
    ] {
        let refusal = with_variable(file, "TAG", "3").expect_err(file).to_string();
        assert!(refusal.contains(part), "{refusal} {file}");
    }
    assert!(
        with_variable("TAG=1\n", "TAG", "a b # c").is_err(),
        "it reads otherwise"
    );
}

#[test]
fn a_variable_that_something_else_uses_is_not_changed() {
    let own = "services:\n  web:\n    image: app:${TAG}\n";
    let check = |more: &str| only_use(&format!("{own}{more}"), "web", "TAG", ".env");
    for fine in [
        "    command: echo TAG\n",
        "    environment: [\"OTHER=${TAGS}\"]\n",
        "    env_file: web.env\n",
        "# ${TAG}\n",
    ] {
        check(fine).unwrap_or_else(|refusal| panic!("{refusal}\n{fine}"));
    }
    for used in [
        "  db:\n    image: db:${TAG}\n",
        "    environment: [TAG]\n",
        "    environment: {TAG: }\n",
        "    labels: {version: '${TAG:-x}'}\n",
        "    env_file: .env\n",
        "    env_file: [a.env, ./.env]\n",
        "    env_file:\n      - path: ./.env\n",
        "  db:\n    extends: {file: a.yml, service: db}\n",
        "include: [a.yml]\n",
    ] {
        let refusal = check(used).expect_err(used);
        assert!(
            matches!(refusal, Refusal::VariableUsed { .. }),
            "{refusal}\n{used}"
        );
    }
    assert!(only_use("services: {db: {image: db}}\n", "web", "TAG", ".env").is_ok());
}

#[test]
fn aliases_to_aliases_end() {
    let mut file = "x0: &a0 {y: z}\n".to_owned();
    for number in 1..15 {
        let before = number - 1;
        let list = vec![format!("*a{before}"); 20].join(", ");
        file.push_str(&format!("x{number}: &a{number} {{<<: [{list}]}}\n"));
    }
    file.push_str("services:\n  web:\n    <<: *a14\n");
    let refusal = service_image(&file, "web").unwrap_err();
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal}");
}

/// A file in pieces: what stands before the image of `web`, how it is quoted, and what follows.
fn files() -> impl Strategy<Value = (String, &'static str, String)> {
    let comment = "[ -~äß→]{0,20}".prop_map(|text| format!("# {text}"));
    let line = prop_oneof![
        Just(String::new()),
        comment.clone(),
        Just("x-note: \"image: app:1.0.0\"".to_owned()),
        Just("x-anchor: &a {b: c}".to_owned()),
        Just("volumes: {data: {}}".to_owned()),
    ];
    let other = prop_oneof![
        Just("  db:\n    image: app:1.0.0\n".to_owned()),
        Just("  \"cache\": {image: 'app:1.0.0', command: [a, \"b\"]}\n".to_owned()),
        comment.clone().prop_map(|text| format!("  {text}\n")),
    ];
    let setting = prop_oneof![
        Just("    restart: always\n".to_owned()),
        Just("    environment:\n      TAG: app:1.0.0\n".to_owned()),
        Just("    command: |\n      run app:1.0.0\n\n      image: x\n".to_owned()),
        comment.prop_map(|text| format!("    {text}\n")),
    ];
    let quotes = prop_oneof![Just(""), Just("'"), Just("\"")];
    let ends = prop_oneof![Just("\n"), Just("\r\n")];
    let tail = prop_oneof![Just(""), Just("   "), Just("  # image: app:1.0.0")];
    (
        proptest::collection::vec(line, 0..2),
        proptest::collection::vec(other, 0..2),
        proptest::collection::vec(setting.clone(), 0..3),
        proptest::collection::vec(setting, 0..3),
        (quotes, ends, tail),
    )
        .prop_map(|(lines, others, above, below, (quotes, ends, tail))| {
            let mut lines = lines;
            lines.dedup_by(|a, b| a.split(':').next() == b.split(':').next());
            let mut others = others;
            others.dedup_by(|a, b| a.split(':').next() == b.split(':').next());
            let unique = |mut settings: Vec<String>, taken: &[String]| {
                let key = |text: &String| text.split(':').next().unwrap_or("").to_owned();
                let mut seen: Vec<String> = taken.iter().map(key).collect();
                settings.retain(|one| {
                    let own = key(one);
                    let new = own.contains('#') || !seen.contains(&own);
                    seen.push(own);
                    new
                });
                settings
            };
            let above = unique(above, &[]);
            let below = unique(below, &above);
            let mut before: String = lines.iter().map(|line| format!("{line}\n")).collect();
            before.push_str("services:\n");
            before.push_str(&others.concat());
            before.push_str("  web:\n");
            before.push_str(&above.concat());
            before.push_str("    image: ");
            let after = format!("{tail}\n{}", below.concat());
            let with_ends = |text: String| text.replace('\n', ends);
            (with_ends(before), quotes, with_ends(after))
        })
}

proptest! {
    #[test]
    fn every_other_byte_stays(
        (before, quotes, after) in files(),
        name in "(localhost:5000/|ghcr\\.io/)?[a-z]{1,8}(/[a-z]{1,8})?",
        old in "[0-9]{1,2}\\.[0-9]{1,2}(-alpine)?",
        new in "[0-9]{1,2}\\.[0-9]{1,2}(-alpine)?",
    ) {
        let file = format!("{before}{quotes}{name}:{old}{quotes}{after}");
        let edit = to_tag(&file, &new, None, Pinning::AsItIs);
        let edit = edit.map_err(|why| TestCaseError::fail(format!("{why}\n{file}")))?;
        prop_assert_eq!(edit.text, format!("{before}{quotes}{name}:{new}{quotes}{after}"));
    }

    #[test]
    fn nothing_that_can_be_typed_makes_it_panic_or_touch_more(file in "[ -~\\n\\t&*!|>{}\\[\\]:äß]{0,200}") {
        if let Ok(found) = service_image(&file, "web") {
            prop_assert!(file.contains(&found.text));
        }
    }
}
