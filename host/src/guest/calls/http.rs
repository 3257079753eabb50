//! `wit/http.wit` (A3, A4, T8). A fetch without a recorded answer ends the attempt: see `Outcome::Waits`.

use std::time::Duration;

use super::{CallError, called};
use crate::{
    cost,
    guest::{bindings::charm::host::http, ctx::Ctx},
    http::{FetchError, Options, Request, Response},
    recording::{Kind, asked},
    tx::Refusal,
};

fn carried(headers: &[(String, String)]) -> u64 {
    headers.iter().map(|(name, value)| cost::HEADER + cost::scanned(name.len() + value.len())).sum()
}

/// Returns the hash of what a fetch, or a wait for an answer, asks for.
pub(super) fn asked_of(kind: Kind, request: &Request, options: Options) -> u64 {
    let Request { method, url, headers, body } = request;
    let headers = postcard::to_stdvec(headers).unwrap_or_default();
    let timeout = options.timeout.map(|timeout| (timeout.as_millis() as u64).to_be_bytes());
    let timeout = timeout.as_ref().map_or(&[][..], |timeout| timeout);
    asked(kind, &[method.as_bytes(), url.as_bytes(), &headers, body, timeout, &[options.repeatable.into()]])
}

impl From<FetchError> for CallError {
    fn from(error: FetchError) -> CallError {
        match error {
            FetchError::Http(error) => CallError::Http(error),
            FetchError::Invalid(text) => Refusal::Invalid(text).into(),
            FetchError::Limit { name, max } => Refusal::Limit { name: name.into(), max }.into(),
            FetchError::Waits => CallError::Trap(wasmtime::Error::msg("waits for an http exchange")),
        }
    }
}

/// Takes what a guest asks for, and has it paid.
pub(super) fn asks(ctx: &mut Ctx, request: http::Request, options: http::FetchOptions) -> (Request, Options) {
    let http::Request { method, url, headers, body } = request;
    let bytes = method.len() + url.len() + body.len();
    ctx.charge(cost::CALL + cost::FETCH + cost::copied(bytes) + carried(&headers));
    let timeout = options.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
    (Request { method, url, headers, body }, Options { timeout, repeatable: options.repeatable })
}

/// Gives an answer to a guest.
pub(super) fn given(ctx: &mut Ctx, answer: Response) -> http::Response {
    ctx.charge(cost::copied(answer.body.len()) + carried(&answer.headers));
    http::Response { status: answer.status, headers: answer.headers, body: answer.body }
}

impl http::Host for Ctx {
    fn fetch(&mut self, request: http::Request, options: http::FetchOptions) -> Result<http::Response, CallError> {
        called("http.fetch");
        let (request, options) = asks(self, request, options);
        let asked = if self.recording.is_on() { asked_of(Kind::Fetch, &request, options) } else { 0 };
        let fetch = |ctx: &mut Ctx| {
            let tx = ctx.tx()?;
            tx.check_pure("http.fetch")?;
            let seen = tx.snapshot_g();
            let outbound = ctx.outbound.as_mut().ok_or_else(CallError::outside_turn)?;
            Ok(outbound.fetch(request, options, seen)?)
        };
        let answer: Response = self.recorded(Kind::Fetch, || asked, fetch)?;
        Ok(given(self, answer))
    }
}
