//! `wit/http.wit` (A3, A4, T8). A fetch without a recorded answer ends the attempt: see `Outcome::Waits`.

use std::time::Duration;

use super::{CallError, called};
use crate::{
    cost,
    guest::{bindings::charm::host::http, ctx::Ctx},
    http::{FetchError, Request},
    tx::Refusal,
};

fn carried(headers: &[(String, String)]) -> u64 {
    headers.iter().map(|(name, value)| cost::HEADER + cost::scanned(name.len() + value.len())).sum()
}

impl http::Host for Ctx {
    fn fetch(&mut self, request: http::Request, options: http::FetchOptions) -> Result<http::Response, CallError> {
        called("http.fetch");
        let bytes = request.method.len() + request.url.len() + request.body.len();
        self.charge(cost::CALL + cost::FETCH + cost::copied(bytes) + carried(&request.headers));
        let seen = self.tx()?.snapshot_g();
        let outbound = self.outbound.as_mut().ok_or_else(CallError::outside_turn)?;
        let http::Request { method, url, headers, body } = request;
        let timeout = options.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        let answer = outbound.fetch(Request { method, url, headers, body }, timeout, seen);
        if let Ok(answer) = &answer {
            self.charge(cost::copied(answer.body.len()) + carried(&answer.headers));
        }
        match answer {
            Ok(answer) => Ok(http::Response { status: answer.status, headers: answer.headers, body: answer.body }),
            Err(FetchError::Http(error)) => Err(CallError::Http(error)),
            Err(FetchError::Invalid(text)) => Err(Refusal::Invalid(text).into()),
            Err(FetchError::Limit { name, max }) => Err(Refusal::Limit { name, max }.into()),
            Err(FetchError::Waits) => Err(CallError::Trap(wasmtime::Error::msg("waits for an http exchange"))),
        }
    }
}
