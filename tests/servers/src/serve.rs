//! What the servers share: a router on a loopback port, and a small client for the Node process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A router being served. Dropped, it stops accepting, answers what it has begun and closes its connections.
pub(crate) struct Running {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Running {
    /// Serves the router on a free port of 127.0.0.1.
    pub(crate) async fn start(router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, router).with_graceful_shutdown(async {
            // Never sent: dropping the sender is the signal.
            let _ = stopped.await;
        });
        tokio::spawn(server.into_future());
        Ok(Self { address, _stop: stop })
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Longest answer that [`call`] reads.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Longest time that [`call`] takes.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Sends one request with a form body and reads the JSON answer.
///
/// # Errors
/// No connection, no answer in time, a status other than 200, or no JSON.
pub(crate) async fn call(base_url: &str, method: &str, target: &str, form: &str) -> io::Result<Value> {
    let address = base_url.trim_start_matches("http://");
    // HTTP/1.0: the answer ends with the connection and comes in one piece.
    let request = format!(
        "{method} {target} HTTP/1.0\r\nhost: {address}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(CALL_TIME_MAX, exchange).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        // The target may hold a token: say only its path.
        let path = target.split('?').next().unwrap_or_default();
        return Err(io::Error::other(format!("{method} {path} answered `{status}`")));
    }
    serde_json::from_str(body).map_err(io::Error::other)
}
