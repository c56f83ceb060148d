//! Requests to a forge: bounded in time and size, and the token never leaves for
//! another host than the configured one.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use rustls::RootCertStore;

use super::answer::Answer;
use crate::tls;

/// Until the connection stands.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// One request with everything that it is sent on to. Forges answer in milliseconds;
/// GitHub itself gives up after 10 s.
const TOTAL_LIMIT: Duration = Duration::from_secs(20);
/// GitHub sends on once, when a repository has another name now.
const REDIRECTS_MAX: u32 = 3;

/// The base URL, with a slash at its end. Plain HTTP would show the token to
/// everybody on the way: it is for this machine alone.
pub(super) fn checked_base(text: &str) -> Result<Url, String> {
    let wrong = |why: &str| format!("url: {text:?} {why}");
    let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "url: it holds a user or password; the token belongs into tokenFile".to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or fragment"));
    }
    let local = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => return Err(wrong("names no host")),
    };
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return Err(wrong("would send the token in the clear; write https://")),
        _ => return Err(wrong("is not https://")),
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// The host and, where it is not the scheme's own, the port.
pub(super) fn host_of(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    match base.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    limit: Duration,
}

impl Http {
    pub(super) fn new(base: &Url, authorities: Option<&[u8]>) -> Result<Self, String> {
        let roots = match (base.scheme(), authorities) {
            (_, Some(pem)) => tls::roots_of(pem),
            ("https", None) => tls::system_roots(),
            _ => Ok(RootCertStore::empty()),
        };
        let config = roots.and_then(tls::plain_client);
        let mut builder = Client::builder()
            .tls_backend_preconfigured(config.map_err(|error| error.to_string())?)
            .connect_timeout(CONNECT_LIMIT)
            .redirect(Policy::none())
            .referer(false)
            .user_agent(concat!("trueup/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            // A proxy is another host.
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            limit: TOTAL_LIMIT,
        })
    }

    #[cfg(test)]
    pub(super) fn limit_for_tests(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Sends a request. The error says why there is no answer; the request may have
    /// arrived all the same.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Vec<u8>>,
        bytes_max: usize,
    ) -> Result<Answer, String> {
        let all = self.send_on(method, url, headers, body, bytes_max);
        tokio::time::timeout(self.limit, all)
            .await
            .map_err(|_| format!("no answer within {} s", self.limit.as_secs()))?
    }

    async fn send_on(
        &self,
        method: Method,
        mut url: Url,
        headers: HeaderMap,
        body: Option<Vec<u8>>,
        bytes_max: usize,
    ) -> Result<Answer, String> {
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self
                .client
                .request(method.clone(), url.clone())
                .headers(headers.clone());
            if let Some(body) = &body {
                let json = HeaderValue::from_static("application/json");
                request = request.header(CONTENT_TYPE, json).body(body.clone());
            }
            let response = request.send().await.map_err(cause)?;
            match next(&method, &url, &response) {
                Some(further) => url = further,
                None => return read(response, bytes_max).await,
            }
        }
        Err("it is sent on in circles".to_owned())
    }
}

/// Where a request may be sent on to: the same origin alone, and only by codes that
/// keep its method.
fn next(method: &Method, url: &Url, response: &Response) -> Option<Url> {
    let keeps = match response.status().as_u16() {
        307 | 308 => true,
        301 | 302 => *method == Method::GET,
        _ => false,
    };
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let further = url.join(location).ok()?;
    (keeps && further.origin() == url.origin()).then_some(further)
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Answer, String> {
    let code = response.status().as_u16();
    let headers = response.headers().clone();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(cause)? {
        if body.len() + piece.len() > bytes_max {
            if code == 200 {
                return Err(format!("its answer has more than {bytes_max} bytes"));
            }
            // Its beginning is enough for a message.
            body.truncate(bytes_max);
            break;
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer {
        code,
        headers,
        body,
    })
}

/// The innermost cause says most, and the URL is not repeated.
fn cause(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_https_or_this_machine() {
        for (text, shown) in [
            ("https://git.example.org", "https://git.example.org/"),
            ("https://example.org/git", "https://example.org/git/"),
            ("http://127.0.0.1:3000/", "http://127.0.0.1:3000/"),
            ("http://[::1]:3000", "http://[::1]:3000/"),
            ("http://localhost", "http://localhost/"),
        ] {
            assert_eq!(checked_base(text).unwrap().as_str(), shown);
        }
        for bad in [
            "git.example.org",
            "http://git.example.org",
            "http://127.0.0.1.example.org",
            "ftp://git.example.org",
            "https://u:canary@git.example.org",
            "https://git.example.org/?x",
        ] {
            let why = checked_base(bad).unwrap_err();
            assert!(!why.contains("canary"), "{why}");
        }
    }
}
