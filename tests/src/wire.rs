//! A network that a test owns.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use charm_host::{BoxFuture, HttpGrant, Request, Response, Transport, TransportError};
use tokio::sync::{Semaphore, watch};

/// The origin that [`Wire::grant`] allows.
pub const WIRE: &str = "https://wire.test";

/// Records requests and gives scripted answers; without one, status 200 and the number of the request. May
/// hold requests until the test lets them go. Clones share everything.
#[derive(Clone)]
pub struct Wire(Arc<Inner>);

struct Inner {
    requests: Mutex<Vec<Request>>,
    answers: Mutex<VecDeque<Result<Response, TransportError>>>,
    arrived: watch::Sender<usize>,
    gate: Semaphore,
}

impl Wire {
    /// Returns a network that answers at once.
    pub fn open() -> Wire {
        Wire::with_permits(Semaphore::MAX_PERMITS / 2)
    }

    /// Returns a network that holds each request until [`Wire::release`].
    pub fn gated() -> Wire {
        Wire::with_permits(0)
    }

    fn with_permits(permits: usize) -> Wire {
        Wire(Arc::new(Inner {
            requests: Mutex::default(),
            answers: Mutex::default(),
            arrived: watch::Sender::new(0),
            gate: Semaphore::new(permits),
        }))
    }

    /// Begins with requests that another network has had before.
    pub fn counting_from(self, requests: Vec<Request>) -> Wire {
        *self.0.requests.lock().unwrap() = requests;
        self
    }

    /// Returns a grant to GET and POST at [`WIRE`].
    pub fn grant() -> HttpGrant {
        HttpGrant { origin: WIRE.to_owned(), methods: vec!["GET".to_owned(), "POST".to_owned()], private: false }
    }

    /// Scripts the next answer.
    pub fn answer(&self, answer: Result<Response, TransportError>) {
        self.0.answers.lock().unwrap().push_back(answer);
    }

    /// Scripts the next answer: a status and a body.
    pub fn answer_text(&self, status: u16, body: &str) {
        self.answer(Ok(Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() }));
    }

    /// Lets `count` requests go.
    pub fn release(&self, count: usize) {
        self.0.gate.add_permits(count);
    }

    /// Holds again each request that comes from now on.
    pub fn hold(&self) {
        self.0.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Waits until `count` requests have come in all.
    ///
    /// # Panics
    /// When that takes longer than 30 s.
    pub async fn arrived(&self, count: usize) {
        let mut arrived = self.0.arrived.subscribe();
        let wait = arrived.wait_for(|now| *now >= count);
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("a request comes in time").unwrap();
    }

    /// Returns every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.0.requests.lock().unwrap().clone()
    }

    /// Returns how many requests came so far.
    pub fn count(&self) -> usize {
        self.0.requests.lock().unwrap().len()
    }
}

impl Transport for Wire {
    fn exchange(&self, request: Request, _: bool) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let number = {
                let mut requests = self.0.requests.lock().unwrap();
                requests.push(request);
                requests.len()
            };
            self.0.arrived.send_replace(number);
            self.0.gate.acquire().await.unwrap().forget();
            let scripted = self.0.answers.lock().unwrap().pop_front();
            let counted = || Ok(Response { status: 200, headers: Vec::new(), body: number.to_string().into_bytes() });
            scripted.unwrap_or_else(counted)
        })
    }
}
