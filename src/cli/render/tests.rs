use std::sync::Arc;

use trueup_model::document::{Diagnostic, Sources, Span, codes};

use super::{Findings, render_github, render_human, render_json};

fn fixture() -> (Vec<Diagnostic>, Sources) {
    let file: Arc<str> = Arc::from("fleet.yaml");
    let text = "kind: Fleet\nnaïve: é😀 x\nkind: hunter2\n\tlast: \u{1b}[31mred";
    let mut sources = Sources::default();
    sources.insert(Arc::clone(&file), Arc::from(text));
    let span = |needle: &str, line| {
        let start = text.rfind(needle).unwrap();
        let column = text[..start]
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        Span {
            start,
            end: start + needle.len(),
            line,
            column,
        }
    };
    let first = Span {
        start: 0,
        end: 4,
        line: 1,
        column: 1,
    };
    let findings = vec![
        Diagnostic::error(
            codes::YAML_DUPLICATE_KEY,
            &file,
            "twice: a, b 100%\nand more",
        )
        .at(span("kind", 3))
        .label("again here")
        .help("keep one")
        .related(&file, first, "first here"),
        Diagnostic::warning(codes::YAML_RETYPED_KEY, &file, "odd").at(span("x", 2)),
        Diagnostic::error(codes::SOPS_PLAINTEXT, &file, "clear")
            .at(span("hunter2", 3))
            .concealed(),
        Diagnostic::error(codes::YAML_SYNTAX, &file, "steer \u{1b}[2J").at(span("last", 4)),
        Diagnostic::warning(codes::TREE_CASE, &Arc::from("a:b,c"), "differs"),
    ];
    (findings, sources)
}

#[test]
fn people_see_the_line_and_what_to_do() {
    let (all, sources) = fixture();
    let text = render_human(
        Findings {
            all: &all,
            sources: &sources,
            prefix: "repo/",
        },
        false,
    );
    let expected = include_str!("findings.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/render/findings.txt");
        std::fs::write(path, &text).unwrap();
    } else {
        assert!(text == expected, "{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains("hunter2"));
    let colored = render_human(
        Findings {
            all: &all,
            sources: &sources,
            prefix: "",
        },
        true,
    );
    assert!(colored.contains("\u{1b}[") && !colored.contains("hunter2"));
    assert!(!colored.contains("\u{1b}[2J") && !colored.contains("\u{1b}[31mred"));
}

#[test]
fn github_commands_are_one_line_each() {
    let (all, sources) = fixture();
    let text = render_github(Findings {
        all: &all,
        sources: &sources,
        prefix: "repo/",
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "::error file=repo/fleet.yaml,line=3,col=1,title=TU0002 yaml/duplicate-key::twice: a, b \
         100%25%0Aand more%0Ahelp: keep one"
    );
    assert_eq!(
        lines[4],
        "::warning file=repo/a%3Ab%2Cc,title=TU0304 tree/case::differs"
    );
    assert_eq!((lines.len(), lines[5]), (6, "trueup: 3 errors, 2 warnings"));
}

#[test]
fn json_says_all_of_it() {
    let (all, sources) = fixture();
    let text = render_json(Findings {
        all: &all,
        sources: &sources,
        prefix: "",
    });
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["errors"], &json["warnings"]), (&3.into(), &2.into()));
    let first = &json["findings"][0];
    assert_eq!(first["code"], "TU0002");
    assert_eq!(first["severity"], "error");
    assert_eq!((&first["line"], &first["column"]), (&3.into(), &1.into()));
    assert_eq!(first["related"][0]["line"], 1);
    assert!(json["findings"][4].get("line").is_none());
    assert!(!text.contains("hunter2"));
}
