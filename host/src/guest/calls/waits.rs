//! `wit/waits.wit` (S7, S8, A4). A wait ends the attempt: what the turn did so far is committed, and it goes on by a replay.

use super::{
    CallError, called, event,
    http::{asked_of, asks, given},
    recorded,
};
use crate::{
    cost,
    guest::{
        bindings::charm::host::{
            http::{FetchOptions, Request, Response},
            waits,
        },
        ctx::Ctx,
    },
    http::{self, Options},
    receipt::Receipt,
    record::{Until, WaitFor},
    recording::{Answer, Ask, Kind, Met, Told, asked_by},
};

/// Reads what a guest waits for.
fn wait_for(ctx: &mut Ctx, events: &[String], until: waits::Until, timeout_ms: u64) -> Result<WaitFor, CallError> {
    let until = match until {
        waits::Until::All => Until::All,
        waits::Until::First => Until::First,
    };
    let events = events.iter().map(|text| event(ctx, text)).collect::<Result<_, _>>()?;
    Ok(WaitFor { events, until, timeout_ms })
}

fn shown(receipts: Vec<Option<Receipt>>) -> Vec<Option<waits::Receipt>> {
    let show = |Receipt { id, outcome, commit, message }: Receipt| waits::Receipt {
        id: id.to_string(),
        outcome: outcome.name().to_owned(),
        commit,
        message,
    };
    receipts.into_iter().map(|receipt| receipt.map(show)).collect()
}

impl Ctx {
    /// Waits, or tells what became of that wait.
    fn wait(&mut self, wait: WaitFor) -> Result<Vec<Option<Receipt>>, CallError> {
        self.tx()?.check_pure("waits.commit-and-wait")?;
        let asked = asked_by(&wait);
        match self.recording.meet(Kind::Wait, asked) {
            Met::Differs => Err(CallError::differs()),
            Met::Told(told, sees) => {
                sees.into_iter().for_each(|sees| self.see(sees));
                recorded(&told)
            }
            Met::Answer(Answer { receipts, sees, fuel, .. }) => {
                self.recording.note(Kind::Wait, asked, Told::Ok(postcard::to_stdvec(&receipts).unwrap_or_default()));
                self.go_on(sees, fuel);
                Ok(receipts)
            }
            Met::Live => {
                let over = self.recording.is_over();
                if let Err(refusal) = self.tx()?.wait(wait, over) {
                    self.recording.note(Kind::Wait, asked, Told::Refused(refusal.clone()));
                    return Err(refusal.into());
                }
                Err(CallError::Trap(wasmtime::Error::msg("waits")))
            }
        }
    }
}

impl waits::Host for Ctx {
    fn commit_and_wait(
        &mut self,
        events: Vec<String>,
        until: waits::Until,
        timeout_ms: u64,
    ) -> Result<Vec<Option<waits::Receipt>>, CallError> {
        called("waits.commit-and-wait");
        self.charge(cost::CALL + cost::WAIT + events.len() as u64 * cost::WAITED);
        self.tx()?;
        let wait = wait_for(self, &events, until, timeout_ms)?;
        self.wait(wait).map(shown)
    }

    fn commit_and_sleep(&mut self, ms: u64) -> Result<(), CallError> {
        called("waits.commit-and-sleep");
        self.charge(cost::CALL + cost::WAIT);
        self.tx()?;
        self.wait(WaitFor { events: Vec::new(), until: Until::Time, timeout_ms: ms }).map(drop)
    }

    fn commit_and_fetch(&mut self, request: Request, options: FetchOptions) -> Result<Response, CallError> {
        called("waits.commit-and-fetch");
        self.charge(cost::WAIT);
        let (request, options) = asks(self, request, options);
        self.tx()?.check_pure("waits.commit-and-fetch")?;
        let asked = asked_of(Kind::Exchange, &request, options);
        let told = match self.recording.meet(Kind::Exchange, asked) {
            Met::Differs => return Err(CallError::differs()),
            Met::Told(told, sees) => {
                sees.into_iter().for_each(|sees| self.see(sees));
                told
            }
            Met::Answer(Answer { told, sees, fuel, .. }) => {
                self.go_on(sees, fuel);
                told.ok_or_else(CallError::differs)?
            }
            Met::Live => match self.ask(request, options, asked) {
                Ok(()) => return Err(CallError::Trap(wasmtime::Error::msg("waits for an answer"))),
                Err(refused) => {
                    let told = match &refused {
                        CallError::Refused(refusal) => Told::Refused(refusal.clone()),
                        CallError::Http(error) => Told::Http(error.clone()),
                        CallError::Trap(_) => return Err(refused),
                    };
                    self.recording.note(Kind::Exchange, asked, told);
                    return Err(refused);
                }
            },
        };
        let answer = recorded(&told)?;
        Ok(given(self, answer))
    }
}

impl Ctx {
    /// Lets the attempt end with a wait for the answer to a request.
    fn ask(&mut self, request: http::Request, options: Options, asked: u64) -> Result<(), CallError> {
        let outbound = self.outbound.as_ref().ok_or_else(CallError::outside_turn)?;
        let (request, timeout) = outbound.ask(request, options)?;
        let timeout_ms = timeout.as_millis() as u64;
        let is_repeatable = options.repeatable || http::is_idempotent(&request.method);
        let ask = Ask { request, timeout_ms, is_repeatable, asked };
        let over = self.recording.is_over_with(&ask);
        self.tx()?.wait(WaitFor { events: Vec::new(), until: Until::Exchange, timeout_ms }, over)?;
        self.recording.ask(ask);
        Ok(())
    }
}
