//! One request to Gitea's API, by hand: the bed has no HTTP client.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// An answer takes milliseconds; a frozen Gitea gives none.
const LIMIT: Duration = Duration::from_secs(10);

/// Where and as whom.
#[derive(Debug)]
pub(super) struct Api<'a> {
    pub(super) address: SocketAddr,
    pub(super) token: &'a str,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub code: u16,
    /// Body; null where it is no JSON.
    pub json: Value,
}

impl Reply {
    /// The body of an answer that must have this code.
    pub fn expect(self, code: u16) -> Result<Value> {
        ensure!(
            self.code == code,
            "Gitea answers {}: {}",
            self.code,
            self.json
        );
        Ok(self.json)
    }
}

impl Api<'_> {
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        let mut stream = TcpStream::connect_timeout(&self.address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        // HTTP/1.0: no chunks, and the connection ends with the answer.
        let request = format!(
            "{method} /api/v1/{path} HTTP/1.0\r\nHost: {}\r\nAuthorization: token {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split(' ').nth(1).context("no status line")?.parse()?;
        let json = serde_json::from_str(body).unwrap_or(Value::Null);
        Ok(Reply { code, json })
    }
}
