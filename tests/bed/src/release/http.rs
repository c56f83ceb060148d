//! As much of HTTP/1.1 as a download needs: one request, one answer, close.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result};

use super::Fault;

/// A request's head is a few hundred bytes.
const HEAD_LIMIT_BYTES: u64 = 16 * 1024;
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// As it was sent, without the query.
    pub(super) path: String,
}

impl Request {
    pub(super) fn read(stream: &mut TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(CLIENT_LIMIT))?;
        stream.set_write_timeout(Some(CLIENT_LIMIT))?;
        let mut lines = BufReader::new(stream.take(HEAD_LIMIT_BYTES)).lines();
        let first = lines.next().context("no request")??;
        let mut words = first.split(' ');
        let (method, target) = (
            words.next().context("no method")?,
            words.next().context("no target")?,
        );
        let path = target.split('?').next().unwrap_or_default().to_owned();
        for line in lines {
            if line?.is_empty() {
                return Ok(Self {
                    method: method.to_owned(),
                    path,
                });
            }
        }
        anyhow::bail!("the request's head did not end")
    }
}

#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    header: Option<(&'static str, String)>,
    content: Vec<u8>,
    cut_after: Option<usize>,
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self {
            status,
            header: None,
            content: Vec::new(),
            cut_after: None,
        }
    }

    pub(super) fn content(kind: &str, content: Vec<u8>) -> Self {
        Self {
            header: Some(("Content-Type", kind.to_owned())),
            content,
            ..Self::status(200)
        }
    }

    pub(super) fn redirect(target: &str) -> Self {
        Self {
            header: Some(("Location", target.to_owned())),
            ..Self::status(302)
        }
    }

    pub(super) fn spoilt(mut self, fault: Option<Fault>) -> Self {
        match fault {
            Some(Fault::Corrupt) => {
                let middle = self.content.len() / 2;
                if let Some(byte) = self.content.get_mut(middle) {
                    *byte ^= 0x01;
                }
            }
            Some(Fault::CutAfter(bytes)) => self.cut_after = Some(bytes),
            Some(Fault::Status(_) | Fault::Hang) | None => {}
        }
        self
    }

    pub(super) fn write(&self, stream: &mut TcpStream, head_only: bool) -> Result<()> {
        let mut head = format!(
            "HTTP/1.1 {} bed\r\nContent-Length: {}\r\n",
            self.status,
            self.content.len()
        );
        if let Some((name, value)) = &self.header {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        if !head_only {
            let end = self.cut_after.unwrap_or(usize::MAX).min(self.content.len());
            stream.write_all(&self.content[..end])?;
        }
        stream.flush()?;
        Ok(())
    }
}

/// `None` for what is no percent-encoded UTF-8.
pub(super) fn percent_decode(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(
            percent_decode("/v1.36.3%2Bk3s1/k3s").as_deref(),
            Some("/v1.36.3+k3s1/k3s")
        );
        assert_eq!(percent_decode("/%252B").as_deref(), Some("/%2B"));
        assert_eq!(percent_decode("/%2").as_deref(), None);
        assert_eq!(percent_decode("/%ff").as_deref(), None);
    }
}
