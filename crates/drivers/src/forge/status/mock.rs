//! A **mock** of GitHub's commit-status API, for tests: it refuses what GitHub is
//! documented to refuse (docs.github.com, "REST API endpoints for commit statuses",
//! API version 2022-11-28; the texts of 422 are those that people quote in issues).
//! It is ours, and no proof of what GitHub does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Statuses per commit and context.
const STATUSES_MAX: usize = 1000;

/// What the mock does beside its rules.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) token: String,
    /// The token may write statuses.
    pub(super) may_write: bool,
    pub(super) commits: Vec<String>,
    /// `(sha, body)`, oldest first.
    pub(super) statuses: Vec<(String, Value)>,
    /// Answered in the place of the next answers, after the request was carried out.
    pub(super) instead: Vec<Instead>,
    /// `METHOD path authorization` of every request.
    pub(super) requests: Vec<String>,
}

/// An answer that has nothing to do with the rules.
#[derive(Debug, Clone)]
pub(super) enum Instead {
    /// Code, headers, body; the request is not carried out.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The request is carried out, and its reply is lost.
    Swallow,
    /// Nothing is ever answered.
    Hang,
}

pub(super) struct Mock {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mock {
    pub(super) async fn start(token: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            token: token.to_owned(),
            may_write: true,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let serve = service_fn(|request| serve(&shared, request));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A swallowed reply ends in an error, as it is meant to.
                    drop(http.serve_connection(TokioIo::new(stream), serve).await);
                });
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve(
    state: &Mutex<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?;
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let line = format!("{} {} {}", head.method, head.uri, header("authorization"));
    let instead = {
        let mut state = state.lock().unwrap();
        state.requests.push(line);
        (!state.instead.is_empty()).then(|| state.instead.remove(0))
    };
    match &instead {
        Some(Instead::Answer(code, headers, text)) => {
            let mut response = Response::builder().status(*code);
            for (name, value) in headers {
                response = response.header(*name, value);
            }
            return Ok(response.body(Full::from(text.clone())).unwrap());
        }
        Some(Instead::Hang) => std::future::pending().await,
        Some(Instead::Swallow) | None => {}
    }
    let parts: Vec<&str> = head.uri.path().split('/').collect();
    let answer = judge(&mut state.lock().unwrap(), &head, &parts, &body.to_bytes());
    if matches!(instead, Some(Instead::Swallow)) {
        return Err(std::io::Error::other("the reply is lost"));
    }
    let (code, json) = answer;
    Ok(Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Full::from(json.to_string()))
        .unwrap())
}

fn judge(
    state: &mut State,
    head: &http::request::Parts,
    parts: &[&str],
    body: &[u8],
) -> (u16, Value) {
    let no = |code: u16, message: &str| (code, json!({ "message": message }));
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    if header("user-agent").is_empty() {
        return no(403, "Request forbidden by administrative rules.");
    }
    if header("x-github-api-version") != "2022-11-28" {
        return no(400, "The version header is not supported");
    }
    if header("authorization") != format!("Bearer {}", state.token) {
        return no(401, "Bad credentials");
    }
    if header("accept") != "application/vnd.github+json" {
        return no(415, "Unsupported 'Accept' header");
    }
    match (head.method.as_str(), parts) {
        ("GET", ["", "repos", "ops", "fleet", "commits", sha, "status"]) => {
            list(state, sha, head.uri.query().unwrap_or_default())
        }
        ("POST", ["", "repos", "ops", "fleet", "statuses", _]) if !state.may_write => {
            no(403, "Resource not accessible by personal access token")
        }
        ("POST", ["", "repos", "ops", "fleet", "statuses", sha]) => add(state, sha, body),
        _ => no(404, "Not Found"),
    }
}

fn list(state: &State, sha: &str, query: &str) -> (u16, Value) {
    if !state.commits.iter().any(|commit| commit == sha) {
        return (
            422,
            json!({ "message": format!("No commit found for SHA: {sha}") }),
        );
    }
    let number = |name: &str, default: usize| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name);
        found.map_or(default, |(_, value)| value.parse().unwrap())
    };
    let (size, page) = (number("per_page", 30).min(100), number("page", 1));
    let mut newest: Vec<Value> = Vec::new();
    for (id, (_, body)) in state.statuses.iter().enumerate().rev() {
        let known = |other: &Value| other["context"] == body["context"];
        let (of, _) = &state.statuses[id];
        if of == sha && !newest.iter().any(known) {
            let mut body = body.clone();
            body["id"] = json!(id);
            newest.push(body);
        }
    }
    let total = newest.len();
    let statuses: Vec<Value> = newest
        .into_iter()
        .skip(size * (page - 1))
        .take(size)
        .collect();
    (
        200,
        json!({ "statuses": statuses, "total_count": total, "sha": sha }),
    )
}

fn add(state: &mut State, sha: &str, body: &[u8]) -> (u16, Value) {
    let no = |message: &str| {
        let details = json!([{ "resource": "Status", "code": "custom", "message": message }]);
        (
            422,
            json!({ "message": "Validation Failed", "errors": details }),
        )
    };
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return (400, json!({ "message": "Problems parsing JSON" }));
    };
    if !state.commits.iter().any(|commit| commit == sha) {
        return (
            422,
            json!({ "message": format!("No commit found for SHA: {sha}") }),
        );
    }
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    if !["error", "failure", "pending", "success"].contains(&text("state").as_str()) {
        return no("state is not included in the list");
    }
    if text("description").chars().count() > 140 {
        return no("description is too long (maximum is 140 characters)");
    }
    if text("context").chars().count() > 255 {
        return no("context is too long (maximum is 255 characters)");
    }
    let link = text("target_url");
    if !link.is_empty() && !link.starts_with("http://") && !link.starts_with("https://") {
        return no("target_url must use http(s) scheme");
    }
    let same = |(of, other): &&(String, Value)| of == sha && other["context"] == body["context"];
    if state.statuses.iter().filter(same).count() >= STATUSES_MAX {
        return no("This SHA and context has reached the maximum number of statuses.");
    }
    state.statuses.push((sha.to_owned(), body.clone()));
    (201, body)
}
