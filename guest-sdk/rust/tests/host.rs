//! The in-process host keeps the rules that handlers are tested against.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use charm_sdk::http::Response;
use charm_sdk::prelude::*;
use charm_sdk::testing::Host;
use charm_sdk::{Fitting, Segment};

#[data]
pub struct Note {
    text: String,
    pinned: Option<bool>,
}

#[data]
pub enum Step {
    /// Writes the note and reads it back.
    Write(Note),
    /// Writes a note, then fails.
    WriteThenReject(Note),
    /// Writes a note, then panics.
    WriteThenPanic(Note),
    /// Writes to the cell of another charm, then to its own.
    WriteForeign { owner: Did },
    /// Writes, removes and reads by path.
    Paths,
    /// Sends notes to another charm, with receipts.
    Send { to: Did, texts: Vec<String> },
    /// Sends, then fails.
    SendThenReject { to: Did },
    /// Asks for `url`.
    Fetch { url: String },
    /// Names a stream that is not there for the receipt.
    Look,
}

#[charm(tags("#notes", "#demo"))]
pub struct Notes {
    note: Cell<Note>,
    all_texts: Cell<Vec<String>>,
    outcomes: Cell<Vec<String>>,
    tree: Cell<Value>,
    #[private]
    secret: Cell<String>,
}

#[handlers]
impl Notes {
    pub fn act(&self, step: Step) -> Result<()> {
        match step {
            Step::Write(note) => {
                self.note.set(&note)?;
                assert_eq!(self.note.get()?, Some(note), "a turn reads its own writes");
                Ok(())
            }
            Step::WriteThenReject(note) => {
                self.note.set(&note)?;
                reject!("no note called {}", "x".repeat(2000));
            }
            Step::WriteThenPanic(note) => {
                self.note.set(&note)?;
                panic!("out of {}", "paper");
            }
            Step::WriteForeign { owner } => {
                let foreign: Cell<String> = Cell::open(&owner, "note");
                let refusal = foreign.set(&"mine now".into()).unwrap_err();
                self.secret.set(&refusal.to_string())
            }
            Step::Paths => self.paths(),
            Step::Send { to, texts } => {
                let stream = Stream::<String>::open(&to, "add-text");
                for text in &texts {
                    stream.send_then(text, Self::SENT, text)?;
                }
                Ok(())
            }
            Step::SendThenReject { to } => {
                Stream::<String>::open(&to, "add-text").send(&"never".into())?;
                reject!("changed my mind")
            }
            Step::Fetch { url } => {
                let text: String = http::Request::get(url).query(&[("q", "a b&c")]).send()?.json()?;
                self.secret.set(&text)
            }
            Step::Look => {
                assert_eq!(context::time(), 77);
                assert_ne!(context::random(), context::random());
                log::info(format_args!("{} asked in {}", context::sender(), context::event()));
                self.secret.set(&context::me().to_string())
            }
        }
    }

    /// Takes one text.
    pub fn add_text(&self, text: String) -> Result<()> {
        if text == "bad" {
            reject!("a bad text");
        }
        let mut all = self.all_texts.get()?.unwrap_or_default();
        all.push(text);
        self.all_texts.set(&all)
    }

    pub fn sent(&self, done: Settled<String>) -> Result<()> {
        let mut outcomes = self.outcomes.get()?.unwrap_or_default();
        outcomes.push(match done.committed() {
            Ok(tag) => format!("{tag} committed"),
            Err(failed) => format!("{} {}", failed.tag, failed.receipt.outcome),
        });
        self.outcomes.set(&outcomes)
    }

    fn paths(&self) -> Result<()> {
        let tree = &self.tree;
        tree.at("items").at(0).at("name").set(&"first".to_string())?;
        tree.at("items").at(1).set(&2u32)?;
        assert_eq!(tree.at("items").at(0).at("name").get()?, Some("first".to_string()));
        assert_eq!(tree.at("items").at(5).get::<u32>()?, None);
        let through = tree.at("items").at(1).at("name").get::<String>();
        assert_eq!(
            through,
            Err(Error::TypeMismatch { at: "/items/1".into(), expected: "map".into(), actual: "integer".into() })
        );
        assert!(matches!(tree.at("items").at(7).set(&1u32), Err(Error::TypeMismatch { .. })));
        tree.at("items").at(0).remove()?;
        assert_eq!(tree.at("items").get()?, Some(vec![2u32]));
        assert_eq!(Segment::from(3), Segment::Index(3));
        tree.at("nothing").at("there").remove()
    }
}

fn note(text: &str) -> Note {
    Note { text: text.into(), pinned: None }
}

fn one() -> (Host, Did) {
    let host = Host::new();
    let did = host.install::<Notes>("notes");
    (host, did)
}

#[test]
fn a_charm_describes_itself() {
    let cells: Vec<_> = Notes::cells().into_iter().map(|cell| (cell.name, cell.shape)).collect();
    assert_eq!(cells[0], ("note".into(), "{text: string, pinned?: bool?}".into()));
    assert_eq!(cells[1], ("all-texts".into(), "[string]".into()));
    let private: Vec<_> = Notes::cells().into_iter().filter(|cell| cell.private).map(|cell| cell.name).collect();
    assert_eq!(private, ["secret"]);
    let streams: Vec<_> = Notes::streams().into_iter().map(|stream| stream.name).collect();
    assert_eq!(streams, ["act", "add-text", "sent"]);
    assert_eq!(Notes::TAGS, ["#notes", "#demo"]);
}

#[test]
fn ok_commits_and_an_equal_write_is_none() {
    let (host, did) = one();
    let receipt = host.deliver(&did, Notes::ACT, &Step::Write(note("a")));
    assert_eq!((receipt.outcome, receipt.commit), (Outcome::Committed, Some(1)));
    host.deliver(&did, Notes::ACT, &Step::Write(note("a")));
    assert_eq!(host.cell(&did, "note"), Some(note("a")));
    assert_eq!(host.revisions(&did, "note"), 1, "C4");
}

#[test]
fn an_error_leaves_nothing_but_a_bounded_message() {
    let (host, did) = one();
    let receipt = host.deliver(&did, Notes::ACT, &Step::WriteThenReject(note("a")));
    assert_eq!(receipt.outcome, Outcome::Rejected);
    assert_eq!(receipt.message.unwrap().len(), 1024);
    assert_eq!(host.cell::<Note>(&did, "note"), None, "T6");
}

#[test]
fn a_panic_leaves_nothing_but_its_words() {
    let (host, did) = one();
    let receipt = host.deliver(&did, Notes::ACT, &Step::WriteThenPanic(note("a")));
    assert_eq!((receipt.outcome, receipt.message.unwrap().as_str()), (Outcome::Faulted, "panicked: out of paper"));
    assert_eq!(host.cell::<Note>(&did, "note"), None, "T6");
    host.deliver(&did, Notes::ACT, &Step::Write(note("b"))).committed().unwrap();
}

#[test]
fn a_foreign_write_is_refused_and_the_turn_goes_on() {
    let (host, me) = one();
    let other = host.install::<Notes>("other");
    host.deliver(&me, Notes::ACT, &Step::WriteForeign { owner: other.clone() }).committed().unwrap();
    let refusal: String = host.cell(&me, "secret").unwrap();
    let start = format!("Can not open transaction writer for {other} because transaction has writer open for {me}");
    assert!(refusal.starts_with(&start), "{refusal}");
    assert!(refusal.len() <= 1024 && refusal.contains("send_then"));
    assert_eq!(host.cell::<Value>(&other, "note"), None);
}

#[test]
fn paths_read_write_and_remove() {
    let (host, did) = one();
    host.deliver(&did, Notes::ACT, &Step::Paths).committed().unwrap();
}

#[test]
fn sends_arrive_in_order_and_every_receipt_comes_back() {
    let (host, me) = one();
    let other = host.install::<Notes>("other");
    host.grant_send(&me, &other, "add-text");
    let texts = ["a", "bad", "c"].map(String::from).to_vec();
    host.deliver(&me, Notes::ACT, &Step::Send { to: other.clone(), texts: texts.clone() });
    assert_eq!(host.cell(&other, "all-texts"), Some(vec!["a".to_string(), "c".into()]), "S3");
    let outcomes: Vec<String> = host.cell(&me, "outcomes").unwrap();
    assert_eq!(outcomes, ["a committed", "bad rejected", "c committed"], "S6");

    host.revoke(&me, &other);
    host.deliver(&me, Notes::ACT, &Step::Send { to: other.clone(), texts: texts[..1].to_vec() });
    let outcomes: Vec<String> = host.cell(&me, "outcomes").unwrap();
    assert_eq!(outcomes[3], "a denied");
}

#[test]
fn a_rejected_turn_sends_nothing() {
    let (host, me) = one();
    let other = host.install::<Notes>("other");
    host.grant_send(&me, &other, "add-text");
    host.send(&me, Notes::ACT, &Step::SendThenReject { to: other.clone() });
    assert_eq!(host.run_until_idle(), 1, "S1");
    assert_eq!(host.cell::<Value>(&other, "all-texts"), None);
}

#[test]
fn http_is_denied_until_it_is_answered() {
    let (host, did) = one();
    let fetch = Step::Fetch { url: "https://a.example/x".into() };
    let receipt = host.deliver(&did, Notes::ACT, &fetch);
    assert!(receipt.message.unwrap().contains("GET https://a.example"));
    host.on_http(|request| {
        assert_eq!(request.url, "https://a.example/x?q=a%20b%26c");
        Ok(Response::new(200, r#""hello""#))
    });
    host.deliver(&did, Notes::ACT, &fetch).committed().unwrap();
    assert_eq!(host.cell(&did, "secret"), Some("hello".to_string()));
    host.on_http(|_| Ok(Response::new(200, "\"tok-secret\" junk")));
    let message = host.deliver(&did, Notes::ACT, &fetch).message.unwrap();
    assert_eq!(message, "the answer (status 200) is no JSON: trailing characters at line 1 column 14");
}

#[test]
fn a_turn_knows_itself() {
    let (host, did) = one();
    host.set_time(77);
    host.deliver(&did, Notes::ACT, &Step::Look).committed().unwrap();
    assert_eq!(host.cell(&did, "secret"), Some(did.to_string()));
    assert!(did.as_str().starts_with("did:key:z6Mk") && did.as_str().len() == 56, "{did}");
    assert!(host.logged()[0].starts_with(&format!("info: {} asked in 0000", host.outside())));
}

#[path = "host/wishes.rs"]
mod wishes;

#[test]
fn an_unknown_outcome_is_no_success_and_a_forged_receipt_is_refused() {
    #[charm]
    pub struct Waits {
        outcome: Cell<String>,
    }

    #[handlers]
    impl Waits {
        pub fn read(&self, outcome: String) -> Result<()> {
            self.outcome.set(&outcome)?;
            let outcome: Outcome = Cell::own("outcome").need()?;
            Receipt { id: "1".into(), outcome, commit: None, message: None }.committed()
        }

        pub fn sent(&self, done: Settled<()>) -> Result<()> {
            Ok(done.committed()?)
        }
    }

    let host = Host::new();
    let waits = host.install::<Waits>("waits");
    for (outcome, expected) in [
        ("committed", Outcome::Committed),
        ("conflict-exhausted", Outcome::Rejected),
        ("probably", Outcome::Rejected),
        ("", Outcome::Rejected),
        ("Committed", Outcome::Rejected),
    ] {
        assert_eq!(host.deliver(&waits, Waits::READ, &outcome.into()).outcome, expected, "{outcome}");
    }

    let receipt = Receipt { id: "1".into(), outcome: Outcome::Committed, commit: Some(1), message: None };
    let forged = host.deliver(&waits, Waits::SENT, &Settled::new(receipt, ()));
    assert_eq!(forged.outcome, Outcome::Denied, "S6");
}

mod waits {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[data]
    pub enum Act {
        /// Has each text printed, and goes on when all are.
        All(Vec<String>),
        /// Has each text printed, and goes on when one is.
        First(Vec<String>),
        /// Writes a note, has one text printed, and fails.
        ThenReject(String),
        /// Writes what does not fit, and waits.
        Misfit(String),
        /// Waits for itself, and finds another printer afterwards.
        OpenedMeanwhile(Did),
        /// Waits for nothing.
        None,
        /// Has one text printed, asks the bank, and looks at the printer.
        Pay(String),
        /// Sends itself a smaller number and waits for that, down to 0.
        Down(u32),
    }

    #[charm]
    pub struct Office {
        printer: Cell<Did>,
        state: Cell<String>,
        told: Cell<Vec<Option<Outcome>>>,
        depth: Cell<u32>,
    }

    #[handlers]
    impl Office {
        pub fn open(&self, printer: Did) -> Result<()> {
            self.printer.set(&printer)
        }

        pub fn act(&self, act: Act) -> Result<()> {
            match act {
                Act::All(texts) => {
                    self.state.set(&"waits".into())?;
                    let receipts = commit_and_settle_all(&self.print(&texts)?, MINUTE)?;
                    assert_eq!(self.state.need()?, "waits", "its own commit is there to be read");
                    self.tell(receipts)?;
                    self.state.set(&self.printed()?.join(" "))
                }
                Act::First(texts) => {
                    let sent = self.print(&texts)?;
                    self.tell(commit_and_settle_first(&sent, MINUTE)?)?;
                    self.state.set(&self.printed()?.join(" "))?;
                    commit_and_wait_all(&sent, MINUTE) // also what was waited for before
                }
                Act::Pay(text) => {
                    self.state.set(&"is being paid".into())?;
                    self.print(&[text])?;
                    let answer = http::Request::post("https://bank.test/").commit_and_send()?;
                    assert_eq!(self.printed()?.len(), 1, "others had their turns meanwhile");
                    self.state.set(&format!("paid: {}", answer.status))
                }
                Act::ThenReject(text) => {
                    self.state.set(&"sent".into())?;
                    let before = context::time();
                    let printed = self.print(&[text])?[0].commit_and_wait(MINUTE);
                    assert_eq!(context::time() - before, if printed == Err(Error::TimedOut) { 60_000 } else { 0 });
                    self.state.set(&"printed".into())?;
                    printed?;
                    reject!("out of stamps")
                }
                Act::Misfit(text) => {
                    let state: Cell<u32> = Cell::own("state");
                    state.set(&1)?;
                    self.print(&[text])?[0].commit_and_wait(MINUTE)
                }
                Act::None => {
                    self.state.set(&"no wait".into())?;
                    let refusal = commit_and_wait_all(&[], MINUTE).unwrap_err();
                    assert!(matches!(refusal, Error::Invalid(_)), "{refusal}");
                    reject!("and nothing was committed")
                }
                Act::OpenedMeanwhile(other) => {
                    let before = self.printer.need()?;
                    Self::ACT.send(&Act::Down(0))?.commit_and_wait(MINUTE)?;
                    assert!(before != other && self.printer.need()? == other, "another event came between");
                    Ok(())
                }
                Act::Down(0) => Ok(()),
                Act::Down(depth) => {
                    Self::ACT.send(&Act::Down(depth - 1))?.commit_and_wait(MINUTE)?;
                    self.depth.set(&(self.depth.get()?.unwrap_or(0) + 1))
                }
            }
        }

        fn print(&self, texts: &[String]) -> Result<Vec<Sent>> {
            let print = Stream::open(&self.printer.need()?, "add-text");
            texts.iter().map(|text| print.send(text)).collect()
        }

        fn printed(&self) -> Result<Vec<String>> {
            Cell::open(&self.printer.need()?, "all-texts").need()
        }

        fn tell(&self, receipts: Vec<Option<Receipt>>) -> Result<()> {
            self.told.set(&receipts.iter().map(|told| told.as_ref().map(|receipt| receipt.outcome)).collect())
        }
    }

    fn office() -> (Host, Did, Did) {
        let (host, printer) = one();
        let office = host.install::<Office>("office");
        host.grant_send(&office, &printer, "add-text");
        host.grant_read(&office, &printer, "all-texts");
        host.deliver(&office, Office::OPEN, &printer).committed().unwrap();
        (host, office, printer)
    }

    fn told(host: &Host, office: &Did) -> Vec<Option<Outcome>> {
        host.cell(office, "told").unwrap()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().copied().map(String::from).collect()
    }

    #[test]
    fn a_handler_goes_on_with_the_receipts_and_sees_what_was_done() {
        let (host, office, _) = office();
        let receipt = host.deliver(&office, Office::ACT, &Act::All(texts(&["a", "bad", "c"])));
        assert_eq!((receipt.outcome, receipt.commit), (Outcome::Committed, Some(3)), "opened, waited, ended");
        assert_eq!(told(&host, &office), [Outcome::Committed, Outcome::Rejected, Outcome::Committed].map(Some));
        assert_eq!(host.cell(&office, "state"), Some("a c".to_string()));

        host.deliver(&office, Office::ACT, &Act::Down(20)).committed().unwrap();
        assert_eq!(host.cell(&office, "depth"), Some(20), "turns of one charm wait for each other");
        host.deliver(&office, Office::ACT, &Act::Down(1000)).committed().unwrap_err();
        assert!(host.dead_letters()[1].message.as_ref().unwrap().contains("turns wait at once"), "no stack overflow");
    }

    #[test]
    fn a_request_commits_first_and_what_is_unknown_is_no_answer() {
        let (host, office, _) = office();
        let pay = |text: &str| host.deliver(&office, Office::ACT, &Act::Pay(text.into()));
        let denied = pay("before");
        assert_eq!((denied.outcome, denied.commit), (Outcome::Rejected, None), "nothing was committed");
        host.on_http(|_| Ok(Response::new(200, "")));
        assert_eq!(pay("a").commit, Some(3), "opened, asked, ended");
        assert_eq!(host.cell(&office, "state"), Some("paid: 200".to_string()));
        host.on_http(|_| Err(Error::Http(charm_sdk::HttpError::Unknown("POST https://bank.test".into()))));
        let unknown = pay("b");
        assert_eq!((unknown.outcome, unknown.commit), (Outcome::Rejected, Some(4)), "what was committed stays");
        assert_eq!(host.cell(&office, "state"), Some("is being paid".to_string()));
        assert_eq!(host.requests().len(), 2);
    }

    #[test]
    fn what_was_committed_at_a_wait_stays_when_the_handler_fails() {
        let (host, office, printer) = office();
        let receipt = host.deliver(&office, Office::ACT, &Act::ThenReject("a".into()));
        assert_eq!((receipt.outcome, receipt.commit), (Outcome::Rejected, Some(2)), "T6, S5");
        assert_eq!(receipt.message.unwrap(), "out of stamps");
        assert_eq!(host.cell(&office, "state"), Some("sent".to_string()));
        assert_eq!(host.cell(&printer, "all-texts"), Some(texts(&["a"])));

        let receipt = host.deliver(&office, Office::ACT, &Act::ThenReject("bad".into()));
        assert_eq!(receipt.message.unwrap(), "the event was rejected: a bad text");

        let receipt = host.deliver(&office, Office::ACT, &Act::Misfit("b".into()));
        assert_eq!((receipt.outcome, receipt.commit), (Outcome::Faulted, None));
        assert!(receipt.message.unwrap().starts_with("cell state does not fit"));
        let receipt = host.deliver(&office, Office::ACT, &Act::None);
        assert_eq!((receipt.message.unwrap().as_str(), receipt.commit), ("and nothing was committed", None));
        assert_eq!(host.cell(&office, "state"), Some("sent".to_string()));
        assert_eq!(host.cell(&printer, "all-texts"), Some(texts(&["a"])));
    }

    #[test]
    fn a_wait_that_nothing_can_end_times_out() {
        let (host, office, printer) = office();
        host.pause(&printer);
        let receipt = host.deliver(&office, Office::ACT, &Act::ThenReject("a".into()));
        assert_eq!(receipt.message.unwrap(), "not settled in time: what was committed at the wait stays");
        assert_eq!(host.cell(&office, "state"), Some("sent".to_string()));
        assert_eq!(host.cell::<Value>(&printer, "all-texts"), None);
        host.resume(&printer);
        assert_eq!(host.run_until_idle(), 1, "the event is still handled");
        assert_eq!(host.cell(&printer, "all-texts"), Some(texts(&["a"])));
    }

    #[test]
    fn the_first_of_several_is_enough() {
        let (host, office, printer) = office();
        host.deliver(&office, Office::ACT, &Act::First(texts(&["a", "b"]))).committed().unwrap();
        assert_eq!(told(&host, &office), [Some(Outcome::Committed), None]);
        assert_eq!(host.cell(&office, "state"), Some("a".to_string()));
        assert_eq!(host.cell(&printer, "all-texts"), Some(texts(&["a", "b"])));

        let receipt = host.deliver(&office, Office::ACT, &Act::First(texts(&["c", "bad"])));
        assert_eq!(receipt.message.unwrap(), "the event was rejected: a bad text", "in the end it waits for all");
    }

    #[test]
    fn a_test_says_what_happens_while_a_handler_waits() {
        let (host, office, printer) = office();
        let seen = host.clone();
        let waiting = office.clone();
        host.on_event(&printer, Notes::ADD_TEXT, move |text: String| {
            assert_eq!(seen.cell(&waiting, "state"), Some("sent".to_string()), "the handler has committed, and waits");
            Cell::own("all-texts").set(&vec![text.clone(), "from the stand-in".into()])?;
            if text == "jam" { reject!("a paper jam") } else { Ok(()) }
        });
        let receipt = host.deliver(&office, Office::ACT, &Act::ThenReject("jam".into()));
        assert_eq!(receipt.message.unwrap(), "the event was rejected: a paper jam");
        assert_eq!(host.cell::<Value>(&printer, "all-texts"), None, "T6");
        host.deliver(&office, Office::ACT, &Act::ThenReject("a".into()));
        assert_eq!(host.cell(&printer, "all-texts"), Some(texts(&["a", "from the stand-in"])));

        // Another event of the charm that waits, before what it waits for.
        let other = host.install::<Notes>("other");
        let sent = host.send(&office, Office::ACT, &Act::OpenedMeanwhile(other.clone()));
        host.send(&office, Office::OPEN, &other);
        host.run_until_idle();
        host.receipt(&sent).unwrap().committed().unwrap();
    }
}
