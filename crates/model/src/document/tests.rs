use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{Document, Parsed, Resolver, Severity, Value, codes, parse, write_yaml};

fn read(text: &str, resolver: Resolver) -> Parsed {
    parse(&Arc::from("a.yaml"), text, resolver)
}

fn one(text: &str, resolver: Resolver) -> Document {
    let parsed = read(text, resolver);
    assert_eq!(parsed.findings, [], "{text}");
    parsed.documents.into_iter().next().unwrap()
}

/// `slug line:column` of every finding.
fn findings(text: &str, resolver: Resolver) -> Vec<String> {
    let place = |span: Option<super::Span>| {
        span.map_or_else(String::new, |s| format!(" {}:{}", s.line, s.column))
    };
    let parsed = read(text, resolver);
    parsed
        .findings
        .iter()
        .map(|f| format!("{}{}", f.code.slug, place(f.span)))
        .collect()
}

#[test]
fn plain_scalars_mean_what_kubectl_makes_of_them() {
    let table = include_str!("kubectl_scalars.tsv");
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    for (scalar, expected) in rows.map(|line| line.split_once('\t').unwrap()) {
        let parsed = read(&format!("v: {scalar}\n"), Resolver::Kubernetes);
        let refused = ["!foo", "!!binary", "!!timestamp"];
        if expected.starts_with("ERR") || refused.iter().any(|tag| scalar.starts_with(tag)) {
            assert!(!parsed.findings.is_empty(), "{scalar} is refused");
            continue;
        }
        assert_eq!(parsed.findings, [], "{scalar}");
        // The second reader takes every number that fits for an integer, `-0` included.
        let mut expected: Json = serde_json::from_str(expected).unwrap();
        let integral = expected["v"]
            .as_f64()
            .filter(|f| f.fract() == 0.0 && f.abs() < 9e18);
        if let (None, Some(integral)) = (expected["v"].as_i64(), integral) {
            expected["v"] = json!(integral.to_string().parse::<i64>().unwrap_or(0));
        }
        let root = &parsed.documents[0].root;
        if let (Some(ours), Some(theirs)) = (root.to_json()["v"].as_f64(), expected["v"].as_f64()) {
            assert!(
                (ours - theirs).abs() <= theirs.abs() * 1e-15,
                "{scalar}: {ours} {theirs}"
            );
            assert_eq!(
                root.to_json()["v"].is_i64(),
                expected["v"].is_i64(),
                "{scalar}"
            );
        } else {
            assert_eq!(root.to_json(), expected, "{scalar}");
        }
    }
}

#[test]
fn our_own_documents_take_nothing_for_more_than_it_says() {
    let cases: &[(&str, Json)] = &[
        ("true", json!(true)),
        ("yes", json!("yes")),
        ("True", json!("True")),
        ("null", json!(null)),
        ("Null", json!("Null")),
        ("0644", json!("0644")),
        ("0x1F", json!("0x1F")),
        ("1_000", json!("1_000")),
        ("12", json!(12)),
        ("-12", json!(-12)),
        ("+12", json!("+12")),
        ("1.30", json!(1.3)),
        (".5", json!(".5")),
        (".inf", json!(".inf")),
        ("1e3", json!(1000.0)),
        ("0", json!(0)),
        ("0.5", json!(0.5)),
        ("v1.33.4+k3s1", json!("v1.33.4+k3s1")),
        ("12:30:45", json!("12:30:45")),
        ("2020-01-02", json!("2020-01-02")),
        ("18446744073709551616", json!(18446744073709551616.0)),
    ];
    for (scalar, expected) in cases {
        let document = one(&format!("v: {scalar}"), Resolver::Strict);
        assert_eq!(document.root.to_json()["v"], *expected, "{scalar}");
        assert_eq!(document.root.get("v").unwrap().text(), Some(*scalar));
    }
}

#[test]
fn sops_files_are_read_with_go_yaml_v3() {
    let cases: &[(&str, Value)] = &[
        ("yes", Value::String("yes".into())),
        ("0777", Value::Int(511)),
        ("0o17", Value::Int(15)),
        ("1_000", Value::Int(1000)),
        ("1e3", Value::Float(1000.0)),
        ("1.0", Value::Float(1.0)),
        (
            "2020-01-02",
            Value::Timestamp("2020-01-02T00:00:00Z".into()),
        ),
        (
            "2020-1-2 3:04:05.500",
            Value::Timestamp("2020-01-02T03:04:05.5Z".into()),
        ),
        (
            "2020-01-02T03:04:05+02:00",
            Value::Timestamp("2020-01-02T03:04:05+02:00".into()),
        ),
        ("2020-13-02", Value::String("2020-13-02".into())),
        ("2020-01-02x", Value::String("2020-01-02x".into())),
        ("12:30:45", Value::String("12:30:45".into())),
    ];
    for (scalar, expected) in cases {
        let document = one(&format!("v: {scalar}"), Resolver::GoYamlV3);
        assert_eq!(document.root.get("v").unwrap().value, *expected, "{scalar}");
    }
}

#[test]
fn every_node_knows_its_place() {
    let text = "# head\nspec:\n  naïve: [1, \"é\"]\n  text: |\n    a\n    b\n\nlast: x\n";
    let document = one(text, Resolver::Strict);
    let found = document.root.at_pointer("/spec/naïve/1").unwrap();
    assert_eq!((found.node.span.line, found.node.span.column), (3, 14));
    assert_eq!(&text[found.node.span.start..found.node.span.end], "\"é\"");
    let key = document.root.at_pointer("/spec/text").unwrap().key.unwrap();
    assert_eq!(&text[key.span.start..key.span.end], "text");
    let spec = document.root.get("spec").unwrap();
    assert!(!text[spec.span.start..spec.span.end].contains("last"));
    assert!(document.root.at_pointer("/spec/none").is_none());
    let near = document.root.nearest("/spec/none/deeper");
    assert_eq!(near.key.unwrap().as_str(), Some("spec"));
}

#[test]
fn bad_documents_become_findings() {
    let cases: &[(&str, &[&str])] = &[
        ("a: 1\nb: 2\na: 3\n", &["yaml/duplicate-key 3:1"]),
        (
            "a: {b: 1, b: 2}\nc: {d: 1, d: 2}\n",
            &["yaml/duplicate-key 1:11", "yaml/duplicate-key 2:11"],
        ),
        ("a: !foo x\n", &["yaml/unknown-tag 1:4"]),
        ("a: !foo {x: 1}\n", &["yaml/unknown-tag 1:4"]),
        ("a: !!int x\n", &["yaml/tag-mismatch 1:4"]),
        ("a: *nowhere\n", &["yaml/syntax 1:4"]),
        ("a: &x [*x]\n", &["yaml/alias 1:8"]),
        ("{a: 1}: b\n", &["yaml/key 1:1"]),
        ("<<: 3\n", &["yaml/alias 1:5"]),
        ("a:\n\tb: 1\n", &["yaml/syntax 2:2"]),
        ("a: [1\n", &["yaml/syntax 1:4"]),
        ("a: b: c\n", &["yaml/syntax 1:5"]),
        ("a: 1\n---\nb: [\n---\nc: 1\n", &["yaml/syntax 3:4"]),
    ];
    for (text, expected) in cases {
        assert_eq!(findings(text, Resolver::Strict), *expected, "{text}");
    }
    assert_eq!(
        findings("on: 1\n~: 2\n", Resolver::Kubernetes),
        ["yaml/retyped-key 1:1", "yaml/key 2:1"]
    );
}

#[test]
fn a_broken_document_hides_neither_its_neighbours_nor_itself() {
    let parsed = read(
        "a: 1\n---\na: 1\na: 2\n---\nb: [\n---\nc: 1\n",
        Resolver::Strict,
    );
    let seen: Vec<_> = parsed
        .documents
        .iter()
        .map(|d| (d.root.to_json(), d.flawed))
        .collect();
    assert_eq!(
        seen,
        [
            (json!({"a": 1}), false),
            (json!({"a": 1}), true),
            (json!({"c": 1}), false)
        ]
    );
    assert_eq!(parsed.findings.len(), 2);
}

#[test]
fn anchors_aliases_and_merges_resolve() {
    let text = "base: &b {x: 1, z: 2}\nuse:\n  <<: *b\n  z: 3\nagain: *b\n";
    let document = one(text, Resolver::Kubernetes);
    assert_eq!(document.root.to_json()["use"], json!({"z": 3, "x": 1}));
    assert_eq!(document.root.get("again").unwrap().span.line, 5);
    assert_eq!(
        findings("a: &a 1\n---\nb: *a\n", Resolver::Strict),
        ["yaml/syntax 3:4"]
    );
}

#[test]
fn budgets_hold() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{items}]\n"));
    }
    let found = read(&bomb, Resolver::Strict).findings;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].code, codes::YAML_BUDGET);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(findings(&deep, Resolver::Strict)[0], "yaml/budget 1:129");
    let nest = |inner: &str| format!("{}{inner}{}", "[".repeat(60), "]".repeat(60));
    let (one, two, three) = (nest("x"), nest("*a"), nest("*b"));
    let stacked = format!("a: &a {one}\nb: &b {two}\nc: {three}\n");
    assert_eq!(findings(&stacked, Resolver::Strict), ["yaml/budget 3:64"]);
    let twice = "a: 1\n".repeat(5000);
    assert_eq!(findings(&twice, Resolver::Strict).len(), 200);
}

#[test]
fn json_crlf_and_a_byte_order_mark_are_fine() {
    let document = one(
        "{\"a\": [1, \"\\u00e9\\n\", true], \"b\": null}",
        Resolver::Strict,
    );
    assert_eq!(
        document.root.to_json(),
        json!({"a": [1, "é\n", true], "b": null})
    );
    let document = one("\u{feff}a: 1\r\nb: x\r\n", Resolver::Strict);
    assert_eq!(document.root.to_json(), json!({"a": 1, "b": "x"}));
    assert_eq!(document.root.get("b").unwrap().span.line, 2);
    assert!(
        read("# only a comment\n---\n---\n", Resolver::Strict)
            .documents
            .is_empty()
    );
}

#[test]
fn what_we_write_no_reader_retypes() {
    let odd = [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "true",
        "True",
        "null",
        "~",
        "",
        " ",
        " a",
        "a ",
        "0644",
        "012",
        "1_000",
        "1e3",
        ".5",
        "-",
        "- a",
        "12:30:45",
        "1:2",
        "2020-01-02",
        "2020-01-02T03:04:05Z",
        "<<",
        "=",
        "!foo",
        "*a",
        "&a",
        "#x",
        "a #b",
        "a: b",
        "a:",
        "{",
        "[",
        "]",
        "%a",
        "@a",
        "`a",
        "\"",
        "'",
        "0x1F",
        "0b1",
        "0o17",
        ".inf",
        ".nan",
        "1.0",
        "+1",
        "a\nb",
        "a\n",
        "\n",
        "\n\n",
        "a\n\n",
        "\ta",
        "a\tb",
        "é😀",
        "---",
        "...",
        "? a",
        "|",
        ">",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "a\r\nb",
        "null ",
        "NO",
        "1__0",
        "1.2.3",
    ];
    for text in odd {
        let data = json!({"value": text, text: "key", "list": [text, [text]]});
        let written = write_yaml(&data).unwrap();
        for resolver in [Resolver::Kubernetes, Resolver::Strict, Resolver::GoYamlV3] {
            let parsed = read(&written, resolver);
            let errors = parsed
                .findings
                .iter()
                .filter(|f| f.severity == Severity::Error)
                .count();
            assert_eq!(errors, 0, "{text:?} {written}");
            assert_eq!(
                parsed.documents[0].root.to_json(),
                data,
                "{text:?}: {written}"
            );
        }
    }
}
