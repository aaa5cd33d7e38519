use proptest::prelude::*;
use serde_json::json;

use super::*;

fn data() -> Value {
    json!({
        "name": "web", "kind": "tag", "count": 2, "empty": "", "zero": 0, "no": false,
        "container": {
            "name": "web", "watcher": "local",
            "updateKind": {"kind": "tag", "localValue": "1.0.0", "remoteValue": "1.1.0"},
            "result": {"link": "https://example.org/1.1.0"},
            "labels": {"a.b": "c"},
        },
        "containers": [{"name": "web"}, {"name": "db"}],
    })
}

fn check(template: &str, expected: &str) {
    let parsed = Template::parse(template).unwrap_or_else(|e| panic!("{template}: {e}"));
    assert_eq!(parsed.render(&data()), expected, "{template}");
}

#[test]
fn the_contracts_templates_are_understood() {
    check(
        "New ${kind} found for container ${name}",
        "New tag found for container web",
    );
    check(
        r#"Container ${container.name} running with ${container.updateKind.kind} ${container.updateKind.localValue} can be updated to ${container.updateKind.kind} ${container.updateKind.remoteValue}${container.result && container.result.link ? "\n" + container.result.link : ""}"#,
        "Container web running with tag 1.0.0 can be updated to tag 1.1.0\nhttps://example.org/1.1.0",
    );
    check(
        "${containers.length} updates available",
        "2 updates available",
    );
}

#[test]
fn what_is_missing_is_empty() {
    check(
        "[${nothing}][${nothing.at.all}][${container.agent}]",
        "[][][]",
    );
    check("${nothing.substring(1)}${nothing.includes('x')}", "false");
    check("${nothing == null}${container.agent ?? 'here'}", "truehere");
}

#[test]
fn operators_bind_as_in_javascript() {
    for (expression, expected) in [
        ("1 + 2", "3"),
        ("'1' + 2", "12"),
        ("1 + 2 == 3 && 'yes' || 'no'", "yes"),
        ("empty || zero || 'last'", "last"),
        ("count > 1 ? 'many' : 'one'", "many"),
        ("no ? 1 : zero ? 2 : 3", "3"),
        ("!empty && !no", "true"),
        ("count == '2'", "true"),
        ("name !== 'db'", "true"),
        ("(1 + 1) + 'x'", "2x"),
        ("containers[1].name", "db"),
        ("container['labels']['a.b']", "c"),
        ("container?.name", "web"),
        ("-1 < 0", "true"),
        ("'\\u00e9\\t\\\"\\\\'", "é\t\"\\"),
    ] {
        check(&format!("${{{expression}}}"), expected);
    }
}

#[test]
fn texts_have_a_few_methods() {
    for (expression, expected) in [
        ("'sha256:abcdef'.substring(7, 10)", "abc"),
        ("'abc'.substring(2, 0)", "ab"),
        ("'abc'.slice(-2)", "bc"),
        ("'abc'.slice(1, -1)", "b"),
        ("'äbc'.slice(0, 1).toUpperCase()", "Ä"),
        ("'ABC'.toLowerCase()", "abc"),
        ("'  a '.trim()", "a"),
        ("'a-a'.replace('a', 'b')", "b-a"),
        (
            "'abc'.includes('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')",
            "true",
        ),
        ("'abc'.length", "3"),
        ("'abc'.substring(nothing)", "abc"),
        ("(name + '!').toUpperCase()", "WEB!"),
    ] {
        check(&format!("${{{expression}}}"), expected);
    }
}

#[test]
fn text_outside_expressions_stays() {
    check(
        "$ { } $name \\n ${'}'} ${\"${x}\"}",
        "$ { } $name \\n } ${x}",
    );
}

#[test]
fn what_cannot_be_read_says_where() {
    for (template, at) in [
        ("${", 2),
        ("${name", 6),
        ("${name.}", 8),
        ("x ${'open}", 4),
        ("${a b}", 3),
        ("${constructor('x')}", 13),
        ("${name.constructor('return 1')()}", 7),
        ("${name.repeat(9)}", 7),
        ("${name.trim(1)}", 7),
        ("${a ? b}", 7),
        ("${a = b}", 4),
        ("${1.2.3}", 2),
        ("${}", 2),
    ] {
        let error = Template::parse(template).expect_err(template);
        assert_eq!(error.at, at, "{template}: {error}");
    }
    let deep = format!("${{{}1{}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(Template::parse(&deep).is_err());
    let deep = format!("${{{}1}}", "!".repeat(5000));
    assert!(Template::parse(&deep).is_err());
    let chain = format!("${{1{}}}", "+1".repeat(1000));
    assert!(Template::parse(&chain).is_err());
    let long = "x".repeat(MAX_SOURCE + 1);
    assert!(Template::parse(&long).is_err());
}

#[test]
fn output_is_cut_at_a_characters_boundary() {
    let template = Template::parse(&"${big}".repeat(50)).unwrap();
    let rendered = template.render(&json!({"big": "é".repeat(3001)}));
    assert!(rendered.len() <= MAX_OUTPUT && rendered.len() > MAX_OUTPUT - 2);
}

proptest! {
    /// Whatever is written and whatever it is filled with: an error or a bounded text.
    #[test]
    fn hostile_templates_end(
        source in r#"(\$\{|\}|[a-c.]|\(|\)|\[|\]|\?|:|"|'|\\|[+!=&|<>-]|[0-9]|é|container|name|length|\.slice\(|\.substring\(|\.replace\(| |,){0,80}"#,
        text in ".{0,40}",
    ) {
        if let Ok(template) = Template::parse(&source) {
            let data = json!({
                "a": text, "b": [text, 1, null], "c": {"a": text}, "name": text,
                "container": {"name": text, "a": -1.5e300},
            });
            prop_assert!(template.render(&data).len() <= MAX_OUTPUT);
        }
    }

    #[test]
    fn anything_at_all_is_read_or_refused(source in "\\PC{0,60}") {
        let _ = Template::parse(&source).map(|template| template.render(&json!({})));
    }
}
