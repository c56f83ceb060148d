use std::time::Duration;

use trueup_model::verdict::VerdictState;

use super::mock::{Instead, Mock};
use super::*;

const TOKEN: &str = "canary-4f1c9d-token";

fn settings(dialect: Dialect, url: &str) -> StatusSettings {
    StatusSettings {
        dialect,
        url: url.to_owned(),
        repo: "ops/fleet".to_owned(),
        token: Arc::new(|| Ok(TOKEN.to_owned().into())),
        authorities: None,
        link: Some("https://ci.example.org/{commit}".to_owned()),
    }
}

fn github(mock: &Mock) -> StatusForge {
    StatusForge::new(&settings(Dialect::GitHub, &mock.url())).unwrap()
}

fn commit() -> CommitId {
    "a1".repeat(20).parse().unwrap()
}

fn verdict(context: &str, state: VerdictState, text: &str) -> Verdict {
    Verdict::new(commit(), context, state, text)
}

async fn known() -> Mock {
    let mock = Mock::start(TOKEN).await;
    mock.state().commits.push(commit().to_string());
    mock
}

#[tokio::test]
async fn what_is_published_is_read_back() {
    let mock = known().await;
    let forge = github(&mock);
    assert_eq!(forge.newest(&commit(), "trueup/home/plan").await, Ok(None));
    for (state, text) in [
        (VerdictState::Pending, "looked at"),
        (VerdictState::Failure, "clusters/edge.yaml:3: no such role"),
        (VerdictState::Error, "superseded by b"),
        (VerdictState::Success, &"ü".repeat(300)),
    ] {
        let said = verdict("trueup/home/plan", state, text);
        forge.publish(&said).await.unwrap();
        let newest = forge.newest(&commit(), "trueup/home/plan").await.unwrap();
        assert_eq!(newest, Some(forge.as_shown(&said)));
    }
    let state = mock.state();
    let (_, last) = state.statuses.last().unwrap();
    let link = format!("https://ci.example.org/{}", commit());
    assert_eq!(last["target_url"], link.as_str());
}

#[tokio::test]
async fn the_newest_is_found_on_a_later_page() {
    let mock = known().await;
    let forge = github(&mock);
    for n in 0..250 {
        let said = verdict(&format!("c/{n}"), VerdictState::Success, "x");
        forge.publish(&said).await.unwrap();
    }
    for context in ["c/0", "c/100", "c/249", "C/0"] {
        let newest = forge.newest(&commit(), context).await.unwrap();
        assert!(newest.is_some(), "{context}");
    }
    assert_eq!(forge.newest(&commit(), "c/250").await, Ok(None));
}

#[tokio::test]
async fn what_github_refuses_is_refused_for_ever() {
    let mock = known().await;
    let forge = github(&mock);
    // Long contexts and descriptions are brought into their limits before.
    let long = verdict(&"c".repeat(400), VerdictState::Success, &"x".repeat(400));
    forge.publish(&long).await.unwrap();
    let word = verdict("c", VerdictState::Success, "x");
    let body = mock.state().statuses[0].1.clone();
    mock.state().statuses = vec![(commit().to_string(), body.clone()); 1000];
    for status in &mut mock.state().statuses {
        status.1["context"] = "c".into();
    }
    let error = forge.publish(&word).await.unwrap_err();
    assert!(matches!(error, ForgeError::Refused(_)), "{error}");
    assert!(error.to_string().contains("maximum number"), "{error}");
    // Another context of the same commit is not full.
    let other = verdict("d", VerdictState::Success, "x");
    forge.publish(&other).await.unwrap();
}

#[tokio::test]
async fn commits_tokens_and_repositories_are_told_apart() {
    let mock = Mock::start(TOKEN).await;
    let forge = github(&mock);
    let word = verdict("c", VerdictState::Success, "x");
    let error = forge.publish(&word).await.unwrap_err();
    assert!(matches!(error, ForgeError::UnknownCommit(_)), "{error}");
    mock.state().commits.push(commit().to_string());
    forge.publish(&word).await.unwrap();

    mock.state().may_write = false;
    let error = forge.publish(&word).await.unwrap_err();
    assert!(matches!(error, ForgeError::Denied(_)), "{error}");
    assert!(error.to_string().contains("repo:status"), "{error}");

    mock.state().token = "another".to_owned();
    let error = forge.publish(&word).await.unwrap_err();
    assert!(matches!(error, ForgeError::Denied(_)), "{error}");
    assert!(error.to_string().contains("Bad credentials"), "{error}");

    mock.state().token = TOKEN.to_owned();
    let mut wrong = settings(Dialect::GitHub, &mock.url());
    wrong.repo = "ops/flet".to_owned();
    let error = StatusForge::new(&wrong).unwrap().publish(&word).await;
    let text = error.unwrap_err().to_string();
    assert!(text.contains("no such repository"), "{text}");
}

#[tokio::test]
async fn a_redirect_to_another_host_never_gets_the_token() {
    let (mock, thief) = (known().await, Mock::start(TOKEN).await);
    let forge = github(&mock);
    let word = verdict("c", VerdictState::Success, "x");
    for code in [301, 302, 303, 307, 308] {
        let to = vec![("location", format!("{}/repos/ops/fleet/x", thief.url()))];
        let away = Instead::Answer(code, to, String::new());
        mock.state().instead = vec![away.clone()];
        let error = forge.publish(&word).await.unwrap_err();
        assert!(matches!(error, ForgeError::Denied(_)), "{code}: {error}");
        mock.state().instead = vec![away];
        let error = forge.newest(&commit(), "c").await.unwrap_err();
        assert!(error.to_string().contains(&thief.url()), "{code}: {error}");
    }
    assert_eq!(thief.state().requests, [""; 0]);
    // On the same host a repository that has another name now is followed.
    let to = format!("/repos/ops/fleet/statuses/{}", commit());
    let moved = Instead::Answer(307, vec![("location", to.clone())], String::new());
    mock.state().instead = vec![moved];
    forge.publish(&word).await.unwrap();
    assert_eq!(mock.state().statuses.len(), 1);
    let round = Instead::Answer(308, vec![("location", to)], String::new());
    mock.state().instead = vec![round; 9];
    let error = forge.publish(&word).await.unwrap_err();
    assert!(error.to_string().contains("circles"), "{error}");
}

#[tokio::test]
async fn a_forge_that_hangs_or_floods_is_left() {
    let mock = known().await;
    let mut forge = github(&mock);
    forge.http.limit_for_tests(Duration::from_millis(200));
    let word = verdict("c", VerdictState::Success, "x");
    mock.state().instead = vec![Instead::Hang];
    let error = forge.publish(&word).await.unwrap_err();
    assert!(matches!(error, ForgeError::Later(_)), "{error}");

    let forge = github(&mock);
    let flood = "x".repeat(LIST_BYTES_MAX + 1);
    mock.state().instead = vec![Instead::Answer(200, Vec::new(), flood.clone())];
    let error = forge.newest(&commit(), "c").await.unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
    mock.state().instead = vec![Instead::Answer(500, Vec::new(), flood)];
    let error = forge.publish(&word).await.unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
    // The page of a captive portal is not an answer.
    mock.state().instead = vec![Instead::Answer(200, Vec::new(), "<html>".to_owned())];
    let error = forge.publish(&word).await.unwrap_err();
    assert!(matches!(error, ForgeError::Later(_)), "{error}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let forge = StatusForge::new(&settings(Dialect::GitHub, &url)).unwrap();
    let error = forge.publish(&word).await.unwrap_err();
    assert!(matches!(error, ForgeError::Later(_)), "{error}");
}

#[tokio::test]
async fn a_lost_reply_is_found_by_reading() {
    let mock = known().await;
    let forge = github(&mock);
    let word = verdict("c", VerdictState::Success, "x");
    mock.state().instead = vec![Instead::Swallow];
    let error = forge.publish(&word).await.unwrap_err();
    assert!(matches!(error, ForgeError::Later(_)), "{error}");
    assert_eq!(forge.newest(&commit(), "c").await, Ok(Some(word)));
}

#[tokio::test]
async fn the_token_is_never_shown() {
    let mock = known().await;
    let forge = github(&mock);
    let word = verdict("c", VerdictState::Success, "x");
    let mut texts = vec![
        format!("{forge:?}"),
        format!("{:?}", settings(Dialect::Gitea, &mock.url())),
    ];
    for code in [400, 401, 403, 404, 409, 422, 429, 500] {
        let body = format!("{{\"message\":\"bad token {TOKEN}\"}}");
        mock.state().instead = vec![Instead::Answer(code, Vec::new(), body)];
        let error = forge.publish(&word).await.unwrap_err();
        texts.push(format!("{error} {error:?}"));
    }
    for text in texts {
        assert!(!text.contains("canary"), "{text}");
    }
    let gone: TokenSource = Arc::new(|| Err("the token file is gone".to_owned()));
    let mut settings = settings(Dialect::GitHub, &mock.url());
    settings.token = gone;
    let error = StatusForge::new(&settings).unwrap().publish(&word).await;
    let expected = ForgeError::Denied("the token file is gone".to_owned());
    assert_eq!(error, Err(expected));
}

#[test]
fn settings_that_cannot_be_used_say_which() {
    for (url, repo, link, part) in [
        ("http://git.example.org", "ops/fleet", None, "https://"),
        ("https://git.example.org", "fleet", None, "OWNER/NAME"),
        ("https://git.example.org", "ops/fleet", Some("x"), "link"),
    ] {
        let mut settings = settings(Dialect::Gitea, url);
        settings.repo = repo.to_owned();
        settings.link = link.map(str::to_owned);
        let error = StatusForge::new(&settings).unwrap_err().to_string();
        assert!(error.starts_with("forge.gitea: "), "{error}");
        assert!(error.contains(part), "{error}");
    }
    let mut settings = settings(Dialect::Gitea, "https://git.example.org");
    settings.authorities = Some(b"no PEM".to_vec());
    assert!(StatusForge::new(&settings).is_err());
}
