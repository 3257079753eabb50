//! `wit/waits.wit` (S7, S8). A wait ends the attempt: what the turn did so far is committed, and it goes on by a replay.

use super::{CallError, called, recorded};
use crate::{
    cost,
    event::EventId,
    guest::{bindings::charm::host::waits, ctx::Ctx},
    receipt::Receipt,
    record::{Until, WaitFor},
    recording::{Answer, Kind, Met, Told, asked_by},
    tx::Refusal,
};

/// Reads what a guest waits for.
fn wait_for(events: &[String], until: waits::Until, timeout_ms: u64) -> Result<WaitFor, Refusal> {
    let read = |text: &String| text.parse::<EventId>().map_err(|error| Refusal::Invalid(format!("event: {error}")));
    let until = match until {
        waits::Until::All => Until::All,
        waits::Until::First => Until::First,
    };
    Ok(WaitFor { events: events.iter().map(read).collect::<Result<_, _>>()?, until, timeout_ms })
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
        let wait = wait_for(&events, until, timeout_ms)?;
        self.wait(wait).map(shown)
    }

    fn commit_and_sleep(&mut self, ms: u64) -> Result<(), CallError> {
        called("waits.commit-and-sleep");
        self.charge(cost::CALL + cost::WAIT);
        self.tx()?;
        self.wait(WaitFor { events: Vec::new(), until: Until::Time, timeout_ms: ms }).map(drop)
    }
}
