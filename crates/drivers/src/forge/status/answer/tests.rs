use reqwest::header::{HeaderName, HeaderValue};

use super::*;

fn place(dialect: Dialect) -> Place {
    Place {
        dialect,
        host: "git.example.org".to_owned(),
        repo: "ops/fleet".to_owned(),
    }
}

fn answer(code: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
    let headers = headers
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        })
        .collect();
    Answer {
        code,
        headers,
        body: body.as_bytes().to_vec(),
    }
}

fn github(code: u16, headers: &[(&'static str, &str)], body: &str) -> ForgeError {
    place(Dialect::GitHub).failure(&answer(code, headers, body))
}

#[test]
fn a_token_that_does_not_do_names_the_scope() {
    for (dialect, scope) in [
        (Dialect::Gitea, "write:repository"),
        (Dialect::GitHub, "repo:status"),
    ] {
        for code in [401, 403, 404] {
            let failure = place(dialect).failure(&answer(code, &[], r#"{"message":"no"}"#));
            let ForgeError::Denied(why) = &failure else {
                panic!("{code}: {failure:?}");
            };
            assert!(why.contains(scope) && why.contains("no"), "{why}");
            assert!(why.contains("git.example.org/ops/fleet"), "{why}");
        }
    }
}

#[test]
fn limits_say_how_long() {
    const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let busy = |failure| match failure {
        ForgeError::Busy { wait_s, .. } => wait_s,
        other => panic!("{other:?}"),
    };
    assert_eq!(busy(github(429, &[("retry-after", "7")], "")), 7);
    assert_eq!(busy(github(403, &[("retry-after", "9")], "")), 9);
    assert_eq!(busy(github(503, &[("retry-after", "5")], "")), 5);
    assert_eq!(busy(github(429, &[], "")), WAIT_S);
    let date = "Sun, 06 Nov 1994 08:50:07 GMT";
    assert_eq!(busy(github(429, &[DATE, ("retry-after", date)], "")), 30);
    // By the forge's clock, whatever ours says. 784111777 is its time.
    let reset = [
        DATE,
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "784111877"),
    ];
    assert_eq!(busy(github(403, &reset, "")), 101);
    assert_eq!(
        busy(github(429, &[("retry-after", "86400")], "")),
        WAIT_S_MAX
    );
    assert_eq!(busy(github(429, &[("retry-after", "soon")], "")), WAIT_S);
    let secondary = r#"{"message":"You have exceeded a secondary rate limit."}"#;
    assert_eq!(busy(github(403, &[], secondary)), WAIT_S);
    let left = [("x-ratelimit-remaining", "4000")];
    assert!(matches!(github(403, &left, "no"), ForgeError::Denied(_)));
}

#[test]
fn the_others_are_told_apart() {
    for code in [200, 408, 409, 500, 502, 503, 504] {
        assert!(
            matches!(github(code, &[], ""), ForgeError::Later(_)),
            "{code}"
        );
    }
    for code in [400, 405, 410, 413, 418] {
        assert!(
            matches!(github(code, &[], ""), ForgeError::Refused(_)),
            "{code}"
        );
    }
    let full = r#"{"message":"Validation Failed","errors":[{"resource":"Status","code":"custom","message":"This SHA and context has reached the maximum number of statuses."}]}"#;
    let ForgeError::Refused(why) = github(422, &[], full) else {
        panic!("it can never be taken");
    };
    assert!(why.contains("maximum number of statuses"), "{why}");
    let unknown = r#"{"message":"No commit found for SHA: 00"}"#;
    let failure = github(422, &[], unknown);
    assert!(
        matches!(failure, ForgeError::UnknownCommit(_)),
        "{failure:?}"
    );
    let moved = github(
        301,
        &[("location", "https://other.example.org/api?x=1")],
        "",
    );
    let text = moved.to_string();
    assert!(matches!(moved, ForgeError::Denied(_)), "{text}");
    assert!(text.contains("https://other.example.org"), "{text}");
}

#[test]
fn what_was_said_is_one_short_plain_line() {
    let long = format!("a\u{1b}[31m\n{}", "x".repeat(1000));
    let text = github(500, &[], &long).to_string();
    assert!(
        !text.contains(char::is_control) && text.len() < 400,
        "{text}"
    );
    let page = github(502, &[], "<html><body>Bad Gateway</body></html>").to_string();
    assert!(page.ends_with("HTTP 502"), "{page}");
    let canary =
        answer(500, &[], "your token canary-1 is bad").without(&"canary-1".to_owned().into());
    assert!(!canary.said().contains("canary"), "{}", canary.said());
}

#[test]
fn both_forms_of_a_list_are_read() {
    let commit = "a".repeat(40).parse().unwrap();
    let gitea = r#"{"state":"pending","total_count":2,"statuses":[
        {"id":7,"status":"success","context":"a","description":"new","target_url":""},
        {"id":3,"status":"failure","context":"a","description":"old"},
        {"id":9,"status":"warning","context":"b","description":null}]}"#;
    let listed = answer(200, &[("x-total-count", "40")], gitea);
    assert_eq!(listed.total(), Some(40));
    let listed = listed.statuses().unwrap();
    let found = listed.newest("a").unwrap().verdict(&commit).unwrap();
    assert_eq!(
        (found.state, found.description.as_str()),
        (VerdictState::Success, "new")
    );
    assert_eq!(listed.newest("b").unwrap().verdict(&commit), None);
    let github =
        r#"{"statuses":[{"id":1,"state":"error","context":"Trueup/Home"}],"total_count":1}"#;
    let listed = answer(200, &[], github).statuses().unwrap();
    assert!(listed.newest("trueup/home").is_some());
    let none = r#"{"state":"pending","total_count":0,"statuses":null}"#;
    assert!(
        answer(200, &[], none)
            .statuses()
            .unwrap()
            .statuses
            .is_empty()
    );
    assert!(answer(200, &[], "<html>").statuses().is_err());
}
