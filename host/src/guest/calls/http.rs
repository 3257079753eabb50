//! `wit/http.wit` (A3, A4, T8). A fetch without a recorded answer ends the attempt: see `Outcome::Waits`.

use std::time::Duration;

use super::{CallError, called};
use crate::{
    cost,
    guest::{bindings::charm::host::http, ctx::Ctx},
    http::{FetchError, Request, Response},
    recording::{Kind, asked},
    tx::Refusal,
};

fn carried(headers: &[(String, String)]) -> u64 {
    headers.iter().map(|(name, value)| cost::HEADER + cost::scanned(name.len() + value.len())).sum()
}

/// Returns the hash of what a fetch asks for.
fn asked_of(request: &Request, timeout: Option<Duration>) -> u64 {
    let Request { method, url, headers, body } = request;
    let (headers, timeout) = (postcard::to_stdvec(headers).unwrap_or_default(), format!("{timeout:?}"));
    asked(Kind::Fetch, &[method.as_bytes(), url.as_bytes(), &headers, body, timeout.as_bytes()])
}

impl http::Host for Ctx {
    fn fetch(&mut self, request: http::Request, options: http::FetchOptions) -> Result<http::Response, CallError> {
        called("http.fetch");
        let bytes = request.method.len() + request.url.len() + request.body.len();
        self.charge(cost::CALL + cost::FETCH + cost::copied(bytes) + carried(&request.headers));
        let http::Request { method, url, headers, body } = request;
        let timeout = options.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        let request = Request { method, url, headers, body };
        let asked = if self.recording.is_on() { asked_of(&request, timeout) } else { 0 };
        let fetch = |ctx: &mut Ctx| {
            let seen = ctx.tx()?.snapshot_g();
            let outbound = ctx.outbound.as_mut().ok_or_else(CallError::outside_turn)?;
            match outbound.fetch(request, timeout, seen) {
                Ok(answer) => Ok(answer),
                Err(FetchError::Http(error)) => Err(CallError::Http(error)),
                Err(FetchError::Invalid(text)) => Err(Refusal::Invalid(text).into()),
                Err(FetchError::Limit { name, max }) => Err(Refusal::Limit { name: name.into(), max }.into()),
                Err(FetchError::Waits) => Err(CallError::Trap(wasmtime::Error::msg("waits for an http exchange"))),
            }
        };
        let answer: Response = self.recorded(Kind::Fetch, || asked, fetch)?;
        self.charge(cost::copied(answer.body.len()) + carried(&answer.headers));
        Ok(http::Response { status: answer.status, headers: answer.headers, body: answer.body })
    }
}
