use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::signature::sign;
use super::*;

const SECRET: &str = "canary-webhook-secret";

struct Bench {
    address: SocketAddr,
    pushed: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    async fn new(limit: Duration) -> Self {
        let pushed = Arc::new(Notify::new());
        let any = "127.0.0.1:0".parse().unwrap();
        let secret = SECRET.to_owned().into();
        let bound = Receiver::bind(any, "/hook", secret, Arc::clone(&pushed)).await;
        let mut receiver = bound.unwrap();
        Arc::get_mut(&mut receiver.door).unwrap().limit = limit;
        Self {
            address: receiver.address().unwrap(),
            pushed,
            task: tokio::spawn(receiver.serve()),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The code and the whole answer to raw bytes.
    async fn send(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = self.connect().await;
        // A server that refuses early closes while we write.
        drop(stream.write_all(bytes).await);
        read(&mut stream).await
    }

    async fn post(&self, headers: &str, body: &str) -> u16 {
        let length = body.len();
        let head = format!("POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
        self.send(format!("{head}{headers}\r\n{body}").as_bytes())
            .await
            .0
    }

    /// Whether the loop was woken since it was last asked.
    async fn woken(&self) -> bool {
        let short = Duration::from_millis(50);
        tokio::time::timeout(short, self.pushed.notified())
            .await
            .is_ok()
    }
}

async fn read(stream: &mut TcpStream) -> (u16, String) {
    let mut text = Vec::new();
    drop(stream.read_to_end(&mut text).await);
    let text = String::from_utf8_lossy(&text).into_owned();
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or(0), text)
}

fn signed(body: &str, event: &str) -> String {
    let digits = sign(SECRET, body.as_bytes());
    format!(
        "X-Gitea-Signature: {digits}\r\nX-Hub-Signature-256: sha256={digits}\r\nX-Gitea-Event: {event}\r\n"
    )
}

const BODY: &str = "{\"ref\":\"refs/heads/main\"}";

#[tokio::test]
async fn a_signed_push_wakes_the_loop_and_nothing_else_does() {
    let bench = Bench::new(CONNECTION_LIMIT).await;
    assert_eq!(bench.post(&signed(BODY, "push"), BODY).await, 204);
    assert!(bench.woken().await);
    let digits = sign(SECRET, BODY.as_bytes());
    let github = format!("X-Hub-Signature-256: sha256={digits}\r\nX-GitHub-Event: push\r\n");
    assert_eq!(bench.post(&github, BODY).await, 204);
    assert!(bench.woken().await);
    // Other events are taken, and say nothing of the branch.
    for event in ["ping", "issues"] {
        assert_eq!(bench.post(&signed(BODY, event), BODY).await, 204);
    }
    assert!(!bench.woken().await);
}

#[tokio::test]
async fn a_wrong_signature_learns_nothing() {
    let bench = Bench::new(CONNECTION_LIMIT).await;
    let wrong = format!(
        "X-Gitea-Signature: {}\r\nX-Gitea-Event: push\r\n",
        "0".repeat(64)
    );
    for headers in [
        wrong.as_str(),
        "X-Gitea-Event: push\r\n",
        &signed("other", "push"),
    ] {
        assert_eq!(bench.post(headers, BODY).await, 401);
    }
    let head = "POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let (_, text) = bench.send(head.as_bytes()).await;
    assert!(text.ends_with("\r\n\r\n"), "no body: {text}");
    assert!(!text.to_lowercase().contains("trueup"), "{text}");
    assert!(!bench.woken().await);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let bench = Bench::new(CONNECTION_LIMIT).await;
    let ask = async |line: &str| {
        let text = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
        bench.send(text.as_bytes()).await.0
    };
    assert_eq!(ask("GET /hook").await, 405);
    assert_eq!(ask("GET /").await, 404);
    assert_eq!(ask("POST /hook/").await, 404);
    assert_eq!(ask("POST /../hook").await, 404);
    assert_eq!(
        bench.send(b"\x16\x03\x01\x02\x00 no HTTP\r\n\r\n").await.0,
        400
    );
    let long = format!("GET /hook HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert!(matches!(bench.send(long.as_bytes()).await.0, 431 | 400 | 0));
    assert!(!bench.woken().await);
}

#[tokio::test]
async fn ten_gigabytes_are_refused_unread() {
    let bench = Bench::new(CONNECTION_LIMIT).await;
    let begun = Instant::now();
    let head = "POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\n";
    assert_eq!(bench.send(head.as_bytes()).await.0, 413);
    assert!(begun.elapsed() < Duration::from_secs(2));

    // Without a length it is read up to the cap and no further.
    let mut stream = bench.connect().await;
    let head = b"POST /hook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0_usize;
    while stream.write_all(piece.as_bytes()).await.is_ok() {
        sent += 0x10000;
        assert!(sent < 256 * 1024 * 1024, "it reads for ever");
    }
    assert!(!bench.woken().await);
}

#[tokio::test]
async fn slow_senders_do_not_keep_their_slots() {
    let bench = Bench::new(Duration::from_millis(300)).await;
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS_MAX + 8 {
        let mut stream = bench.connect().await;
        stream
            .write_all(b"POST /hook HTTP/1.1\r\nHo")
            .await
            .unwrap();
        slow.push(stream);
    }
    let headers = signed(BODY, "push");
    let honest = bench.post(&headers, BODY);
    let code = tokio::time::timeout(Duration::from_secs(5), honest).await;
    assert_eq!(code.ok(), Some(204), "behind 40 slow ones");
    assert!(bench.woken().await);
    drop(slow);
}
