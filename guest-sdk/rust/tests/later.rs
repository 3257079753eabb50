//! What is done later, and again, on the in-process host (S10, S13).
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use charm_sdk::prelude::*;
use charm_sdk::testing::Host;

const MINUTE: Duration = Duration::from_secs(60);

#[data]
pub enum Act {
    /// Sends a note for each number of minutes, and one at once.
    Later(Vec<u64>),
    /// Sends a note that is due in so many minutes, and expires so many later; with a receipt.
    Expiring(u64, u64),
    /// Sends a note that expires before it is due.
    Never,
    /// Writes, sleeps so many minutes, and writes again.
    Sleep(u64),
    /// Sends a note for later, and keeps its id.
    Keep,
    /// Withdraws what is kept, and fails if so told.
    Cancel(bool),
    /// Sends a note and withdraws it.
    Regret,
    /// Asks to be tried again so often, after a minute each time.
    Again(u32),
    /// Sleeps, and asks to be tried again.
    SleepAgain,
}

#[charm]
pub struct Desk {
    notes: Cell<Vec<String>>,
    outcomes: Cell<Vec<Outcome>>,
    kept: Cell<EventId>,
    state: Cell<String>,
}

#[handlers]
impl Desk {
    pub fn note(&self, text: String) -> Result<()> {
        let mut notes = self.notes.get()?.unwrap_or_default();
        notes.push(format!("{text} at {}", context::time() / 60_000));
        self.notes.set(&notes)
    }

    pub fn done(&self, done: Settled<()>) -> Result<()> {
        let mut outcomes = self.outcomes.get()?.unwrap_or_default();
        outcomes.push(done.committed().map_or_else(|failed| failed.receipt.outcome, |()| Outcome::Committed));
        self.outcomes.set(&outcomes)
    }

    pub fn act(&self, act: Act) -> Result<()> {
        match act {
            Act::Later(minutes) => {
                for (number, minutes) in minutes.into_iter().enumerate() {
                    Self::NOTE.send_with(&format!("note {number}"), When::after(minutes as u32 * MINUTE))?;
                }
                Self::NOTE.send(&"at once".into()).map(drop)
            }
            Act::Expiring(due, more) => {
                let when = When::after(due as u32 * MINUTE).expires_after(more as u32 * MINUTE);
                Self::NOTE.send_with(&"in time".into(), when.then(Self::DONE, &())?).map(drop)
            }
            Act::Never => Self::NOTE.send_with(&"never".into(), When::at(5).expires_at(5)).map(drop),
            Act::Sleep(minutes) => {
                self.state.set(&"asleep".into())?;
                let before = context::time();
                commit_and_sleep(minutes as u32 * MINUTE)?;
                assert!(context::time() >= before + minutes * 60_000);
                self.state.set(&"awake".into())
            }
            Act::Keep => {
                let sent = Self::NOTE.send_with(&"kept".into(), When::after(MINUTE).then(Self::DONE, &())?)?;
                self.kept.set(sent.id())
            }
            Act::Cancel(fail) => {
                cancel(&self.kept.need()?)?;
                if fail { reject!("not yet") } else { Ok(()) }
            }
            Act::Regret => {
                let sent = Self::NOTE.send(&"regretted".into())?;
                sent.cancel()?;
                let receipt = sent.commit_and_settle(MINUTE)?.unwrap();
                self.state.set(&format!("{}", receipt.committed().unwrap_err()))
            }
            Act::Again(times) => {
                self.state.set(&format!("tried {} times", context::retries()))?;
                if context::retries() < times {
                    self.state.set(&"never".into())?;
                    Self::NOTE.send(&"never".into())?;
                    retry!(MINUTE, "the server is down, {} tries", context::retries());
                }
                Ok(())
            }
            Act::SleepAgain => {
                commit_and_sleep(MINUTE)?;
                retry!(MINUTE, "the server is down")
            }
        }
    }
}

fn desk() -> (Host, Did) {
    let host = Host::new();
    let desk = host.install::<Desk>("desk");
    (host, desk)
}

fn notes(host: &Host, desk: &Did) -> Vec<String> {
    host.cell(desk, "notes").unwrap_or_default()
}

fn state(host: &Host, desk: &Did) -> String {
    host.cell(desk, "state").unwrap_or_default()
}

#[test]
fn an_event_is_handled_when_it_is_due_and_not_before() {
    let (host, desk) = desk();
    host.deliver(&desk, Desk::ACT, &Act::Later(vec![3, 2, 0, 2])).committed().unwrap();
    assert_eq!(notes(&host, &desk), ["note 2 at 0", "at once at 0"]);
    host.pass(MINUTE * 2 - Duration::from_nanos(1_000_001));
    assert_eq!(notes(&host, &desk).len(), 2, "a millisecond too early");
    assert_eq!(host.pass(Duration::from_nanos(1)), 2, "what is left of a millisecond is a whole one");
    assert_eq!(host.pass(10 * MINUTE), 1);
    assert_eq!(notes(&host, &desk)[2..], ["note 1 at 2", "note 3 at 2", "note 0 at 3"]);

    host.deliver(&desk, Desk::ACT, &Act::Later(vec![1])).committed().unwrap();
    host.set_time(60 * 60_000);
    assert_eq!(host.run_until_idle(), 1);
    assert_eq!(notes(&host, &desk)[6], "note 0 at 60", "a clock that is set skips what is between");
}

#[test]
fn what_has_not_begun_in_time_expires() {
    let (host, desk) = desk();
    host.deliver(&desk, Desk::ACT, &Act::Expiring(2, 1)).committed().unwrap();
    host.deliver(&desk, Desk::ACT, &Act::Expiring(2, 2)).committed().unwrap();
    host.pause(&desk);
    host.pass(3 * MINUTE);
    host.resume(&desk);
    host.run_until_idle();
    assert_eq!(notes(&host, &desk), ["in time at 3"]);
    assert_eq!(host.cell(&desk, "outcomes"), Some(vec![Outcome::Expired, Outcome::Committed]));
    assert_eq!(host.dead_letters().len(), 1);

    let refusal = host.deliver(&desk, Desk::ACT, &Act::Never).message.unwrap();
    assert_eq!(refusal, "malformed input: expires-at is not after deliver-after: it would never begin");
}

#[test]
fn time_goes_forward_while_a_handler_sleeps() {
    let (host, desk) = desk();
    let seen = host.clone();
    host.deliver(&desk, Desk::ACT, &Act::Later(vec![3, 7])).committed().unwrap();
    let of = desk.clone();
    host.on_event(&desk, Desk::NOTE, move |text: String| {
        Cell::own("outcomes").set(&[Outcome::Misfit])?;
        assert!(text == "note 1" || seen.cell(&of, "state") == Some("asleep".to_string()), "it has committed");
        Ok(())
    });
    let receipt = host.deliver(&desk, Desk::ACT, &Act::Sleep(5));
    assert_eq!(
        (receipt.outcome, receipt.commit),
        (Outcome::Committed, Some(5)),
        "two before, the note, and its own two"
    );
    assert_eq!(state(&host, &desk), "awake");
    assert_eq!(host.revisions(&desk, "outcomes"), 1, "the other note is not due");
    host.pass(2 * MINUTE);
    assert_eq!(host.dead_letters(), []);
}

#[test]
fn a_sender_withdraws_what_has_not_begun() {
    let (host, desk) = desk();
    host.deliver(&desk, Desk::ACT, &Act::Keep).committed().unwrap();
    host.deliver(&desk, Desk::ACT, &Act::Cancel(true));
    let other = host.install::<Desk>("other");
    host.on_event(&other, Desk::NOTE, |id: String| cancel(&id));
    let kept: EventId = host.cell(&desk, "kept").unwrap();
    host.deliver(&other, Desk::NOTE, &kept).committed().unwrap();
    assert_eq!(host.receipt(&kept), None, "a turn that fails withdraws nothing, and neither does another charm");

    host.deliver(&desk, Desk::ACT, &Act::Cancel(false)).committed().unwrap();
    assert_eq!(host.cell(&desk, "outcomes"), Some(vec![Outcome::Cancelled]));
    assert_eq!(host.pass(10 * MINUTE), 0);
    assert_eq!(host.dead_letters().len(), 1, "what a sender withdraws is no dead letter");
    host.deliver(&desk, Desk::ACT, &Act::Cancel(false)).committed().unwrap();
    assert_eq!(host.receipt(&kept).unwrap().outcome, Outcome::Cancelled, "nothing happens to what is settled");

    host.deliver(&desk, Desk::ACT, &Act::Regret).committed().unwrap();
    assert_eq!(state(&host, &desk), "the event was cancelled: its sender withdrew the event before it began");
    assert!(notes(&host, &desk).is_empty());
    let nonsense = host.deliver(&other, Desk::NOTE, &"nonsense".into()).message.unwrap();
    assert_eq!(nonsense, "malformed input: event: not an event id (expected 32 hexadecimal digits)");
}

#[test]
fn a_turn_is_tried_again_and_nothing_of_the_run_before_remains() {
    let (host, desk) = desk();
    let id = host.send(&desk, Desk::ACT, &Act::Again(2));
    host.send(&desk, Desk::NOTE, &"meanwhile".into());
    assert_eq!(host.run_until_idle(), 2, "later events do not wait for it");
    host.pass(MINUTE);
    assert_eq!((host.receipt(&id), state(&host, &desk)), (None, String::new()));
    host.pass(MINUTE);
    assert_eq!(host.receipt(&id).unwrap().commit, Some(2));
    assert_eq!(state(&host, &desk), "tried 2 times");
    assert_eq!(notes(&host, &desk), ["meanwhile at 0"]);

    let id = host.send(&desk, Desk::ACT, &Act::Again(99));
    assert_eq!(host.pass(60 * MINUTE), 17);
    let receipt = host.receipt(&id).unwrap();
    assert_eq!(receipt.outcome, Outcome::Rejected);
    let words = "not tried again, over the limit retries-max of 16: the server is down, 16 tries";
    assert_eq!(receipt.message.as_deref(), Some(words));
    assert_eq!(state(&host, &desk), "tried 2 times");
}

#[test]
fn what_this_host_can_not_do_it_says() {
    let (host, desk) = desk();
    let receipt = host.deliver(&desk, Desk::ACT, &Act::SleepAgain);
    assert_eq!(receipt.outcome, Outcome::Faulted);
    assert!(receipt.message.unwrap().starts_with("the in-process host can not try a turn again that has waited"));
}

#[test]
fn an_error_that_asks_for_it_is_an_error_like_others() {
    let error = Error::retry_after(MINUTE, "down");
    assert_eq!(error.to_string(), "down");
    assert!(matches!(error, Error::RetryAfter { after: MINUTE, .. }));
}
