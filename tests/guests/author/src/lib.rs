//! What an author of charms meets, written with the SDK: `try-out` does steps and tells how they went. Runs on the real
//! host and, as it is, on the one of `charm_sdk::testing`.

use std::ops::Bound;

use charm_sdk::prelude::*;

#[data]
pub struct Shaped {
    pub n: u32,
    pub ratio: Option<f64>,
    pub pair: Option<(i8, String)>,
}

/// A place in a cell: of this charm, or of another.
#[data]
pub struct Place {
    pub cell: String,
    pub owner: Option<Did>,
    #[serde(default)]
    pub path: Vec<Value>,
}

#[data]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Get(Place),
    /// Reads as a `Shaped`.
    GetShaped(Place),
    /// Reads as an `f32`.
    GetFloat(Place),
    Set(Place, Value),
    Remove(Place),
    /// Writes a member of the family `shelf`, or removes it.
    Put(i32, u16),
    Take(i32),
    /// Goes through the family, of this charm or of another.
    Shelf(Option<Did>),
    /// Goes through its keys from the one and below the other.
    ShelfKeys(Option<Did>, Option<i32>, Option<i32>),
    /// Removes up to so many members.
    ClearShelf(Option<Did>, u32),
    /// Wishes for it, and goes through the first that is found with others.
    WishShelf,
    Push(Place, Value),
    AddUnique(Place, Value),
    RemoveValue(Place, Value),
    /// Adds an integer or a float.
    Increment(Place, Value),
    /// Turns a list around.
    Update(Place),
    /// Writes a link to the second place at the first.
    SetLink(Place, Place),
    /// Follows the link there: reads, or pushes an item.
    GetLinked(Place),
    PushLinked(Place, Value),
    /// Writes a link to a stream, and sends to the one there.
    SetStreamLink(Place, String),
    SendLinked(Place, Value),
    /// Sends to a stream, of this charm or of another.
    Send {
        stream: String,
        owner: Option<Did>,
        event: Value,
    },
    /// Sends to the stream `try-out` of another charm, or of this one, and waits for it for a minute.
    Ask {
        owner: Option<Did>,
        steps: Value,
    },
    /// Waits for nothing.
    AskNobody,
    /// Sends to the stream `try-out` of this charm for in so many milliseconds, and keeps the id; asks this charm to do what
    /// is to be done meanwhile, and waits for the event. Its receipt is told in the cell `done`.
    Later {
        ms: u64,
        steps: Value,
        meanwhile: Value,
    },
    /// Sends what is due at the one time and expires at the other, and waits for it.
    Between(u64, u64),
    /// Withdraws the event whose id was kept.
    Cancel,
    CancelId(String),
    /// Sends for later, withdraws that, and waits for it.
    Regret,
    /// Sleeps so many milliseconds.
    Sleep(u64),
    /// Asks to be tried again so often.
    Retry(u32),
    /// Calls this URL, as it is or with a commit before.
    Fetch(String),
    CommitAndFetch(String),
    /// Wishes for charms with the tag, whatever they offer.
    WishAny,
    /// Wishes for the cell `shaped` and the stream `take-shaped`.
    WishShaped,
    /// Wishes for cells and streams of narrower shapes.
    WishNarrow,
    Reject(String),
    Panic(String),
    /// Takes away from a number without a sign.
    Less {
        from: u32,
        much: u32,
    },
    Print(String),
}

#[wish("#author")]
struct AnyAuthor {}

#[wish("#author")]
struct Author {
    shaped: Cell<Shaped>,
    take_shaped: Stream<Shaped>,
}

#[data]
struct Narrow {
    n: u16,
}

#[wish("#author")]
struct NarrowAuthor {
    shaped: Cell<Narrow>,
}

#[wish("#author")]
struct ShelfAuthor {
    shelf: Cells<i32, u16>,
}

#[charm(tags("#author"))]
pub struct Writer {
    told: Cell<Vec<String>>,
    shaped: Cell<Shaped>,
    taken: Cell<Shaped>,
    #[private]
    secret: Cell<String>,
    done: Cell<String>,
    shelf: Cells<i32, u16>,
    /// The event that was sent for later.
    later: Cell<EventId>,
}

#[handlers]
impl Writer {
    /// Does the steps one after another; each tells what it found, or the words of its error.
    pub fn try_out(&self, steps: Vec<Step>) -> Result<()> {
        let mut told = Vec::new();
        for step in steps {
            told.push(match self.step(step) {
                Ok(words) => words,
                Err(error @ (Error::Rejected(_) | Error::RetryAfter { .. })) => return Err(error),
                Err(error) => error.to_string(),
            });
        }
        self.told.set(&told)
    }

    pub fn take_shaped(&self, event: Shaped) -> Result<()> {
        let before = self.shaped.get()?;
        self.taken.set(before.as_ref().unwrap_or(&event))
    }

    #[private]
    pub fn whisper(&self, words: String) -> Result<()> {
        self.secret.set(&words)
    }

    pub fn receipts(&self, done: Settled<()>) -> Result<()> {
        Ok(done.committed()?)
    }

    pub fn done(&self, done: Settled<String>) -> Result<()> {
        self.done.set(&match done.committed() {
            Ok(tag) => format!("{tag} committed"),
            Err(failed) => format!("{} {}", failed.tag, failed.receipt.outcome),
        })
    }

    fn step(&self, step: Step) -> Result<String> {
        Ok(match step {
            Step::Get(place) => format!("{:?}", at(&place, |cell| cell.get(), |at| at.get::<Value>())?),
            Step::GetShaped(place) => format!("{:?}", open::<Shaped>(&place).get()?),
            Step::GetFloat(place) => format!("{:?}", open::<f32>(&place).get()?),
            Step::Set(place, value) => {
                at(&place, |cell| cell.set(&value), |at| at.set(&value))?;
                "set".into()
            }
            Step::Remove(place) => {
                at(&place, Cell::remove, |at| at.remove())?;
                "removed".into()
            }
            Step::Put(key, value) => {
                self.shelf.set(&key, &value)?;
                "put".into()
            }
            Step::Take(key) => {
                self.shelf.remove(&key)?;
                "taken".into()
            }
            Step::Shelf(owner) => {
                told(shelf(owner).iter().map(|entry| entry.map(|(key, value)| format!("{key}={value}"))))
            }
            Step::ShelfKeys(owner, from, below) => {
                let range =
                    (from.map_or(Bound::Unbounded, Bound::Included), below.map_or(Bound::Unbounded, Bound::Excluded));
                told(shelf(owner).range(range).keys())
            }
            Step::ClearShelf(owner, max) => {
                let cleared = shelf(owner).all().clear_some(max)?;
                format!("{} cleared, more: {}", cleared.count, cleared.more)
            }
            Step::WishShelf => {
                let found = ShelfAuthor::wish()?.all()?;
                let of: Vec<String> = found.iter().map(|author| told(author.shelf.keys())).collect();
                format!("{} found: {}", found.len(), of.concat())
            }
            Step::Push(place, item) => {
                at(&place, |_| open::<Vec<Value>>(&place).push(&item), |at| at.push(&item))?;
                "pushed".into()
            }
            Step::AddUnique(place, item) => {
                at(&place, |_| open::<Vec<Value>>(&place).add_unique(&item), |at| at.add_unique(&item))?;
                "added".into()
            }
            Step::RemoveValue(place, item) => {
                at(&place, |_| open::<Vec<Value>>(&place).remove_value(&item), |at| at.remove_value(&item))?;
                "taken out".into()
            }
            Step::Increment(place, by) => {
                match by {
                    Value::Float(by) => at(&place, |_| open::<f64>(&place).increment(by), |at| at.increment(by))?,
                    Value::Integer(by) if by < 0 => {
                        at(&place, |_| open::<u32>(&place).increment(by as i64), |at| at.increment(by as i64))?;
                    }
                    Value::Integer(by) => {
                        at(&place, |_| open::<i8>(&place).increment(by as u64), |at| at.increment(by as u64))?;
                    }
                    _ => reject!("a number"),
                }
                "counted".into()
            }
            Step::Update(place) => {
                let turn = |list: &mut Vec<Value>| {
                    list.reverse();
                    list.len()
                };
                let length = at(&place, |_| open(&place).update(turn), |at| at.update(turn))?;
                format!("{length} turned around")
            }
            Step::SetLink(place, to) => {
                let link: Link<Value> = at(&to, |cell| Ok(cell.link()), |at| Ok(at.link()))?;
                at(&place, |_| open(&place).set(&link), |at| at.set(&link))?;
                format!("a link to {}", link.name())
            }
            Step::GetLinked(place) => {
                let link: Option<Link<Value>> = at(&place, |_| open(&place).get(), |at| at.get())?;
                format!("{:?}", link.ok_or_else(|| Error::reject("no link"))?.get()?)
            }
            Step::PushLinked(place, item) => {
                let link: Option<Link<Vec<Value>>> = at(&place, |_| open(&place).get(), |at| at.get())?;
                link.ok_or_else(|| Error::reject("no link"))?.push(&item)?;
                "pushed".into()
            }
            Step::SetStreamLink(place, name) => {
                let link = Stream::<Value>::open(&place.owner.clone().unwrap_or_else(context::me), name).link();
                at(
                    &Place { owner: None, ..place.clone() },
                    |_| Cell::own(place.cell.clone()).set(&link),
                    |at| at.set(&link),
                )?;
                format!("a link to {}", link.name())
            }
            Step::SendLinked(place, event) => {
                let link: Option<StreamLink<Value>> = at(&place, |_| open(&place).get(), |at| at.get())?;
                link.ok_or_else(|| Error::reject("no link"))?.send(&event)?;
                "sent".into()
            }
            Step::Send { stream, owner, event } => {
                Stream::<Value>::open(&owner.unwrap_or_else(context::me), stream).send(&event)?;
                "sent".into()
            }
            Step::Ask { owner, steps } => {
                let stream = Stream::<Value>::open(&owner.unwrap_or_else(context::me), "try-out");
                stream.send(&steps)?.commit_and_wait(Duration::from_secs(60))?;
                "done".into()
            }
            Step::AskNobody => format!("{} told", commit_and_settle_all([], Duration::from_secs(60))?.len()),
            Step::Later { ms, steps, meanwhile } => {
                let (stream, due) = (Stream::<Value>::open(&context::me(), "try-out"), context::time() + ms);
                let when = When::after(Duration::from_millis(ms)).expires_after(MINUTE);
                let sent = stream.send_with(&steps, when.then(Self::DONE, &"later".into())?)?;
                self.later.set(sent.id())?;
                stream.send(&meanwhile)?.commit_and_wait(MINUTE)?;
                sent.commit_and_wait(MINUTE)?;
                format!("done when it was due: {}", context::time() >= due)
            }
            Step::Between(due, expires) => {
                let sent = Self::WHISPER.send_with(&"psst".into(), When::at(due).expires_at(expires))?;
                sent.commit_and_wait(MINUTE)?;
                "done".into()
            }
            Step::Cancel => {
                cancel(&self.later.need()?)?;
                "withdrawn".into()
            }
            Step::CancelId(id) => {
                cancel(&id)?;
                "withdrawn".into()
            }
            Step::Regret => {
                let sent = Self::WHISPER.send_with(&"psst".into(), When::after(MINUTE * 60))?;
                sent.cancel()?;
                sent.commit_and_wait(MINUTE)?;
                "done".into()
            }
            Step::Sleep(ms) => {
                let awake = context::time() + ms;
                commit_and_sleep(Duration::from_millis(ms))?;
                format!("slept as long: {}", context::time() >= awake)
            }
            Step::Retry(times) if context::retries() < times => {
                retry!(Duration::from_millis(1), "the server is down, {} tries", context::retries())
            }
            Step::Retry(_) => format!("{} tries", context::retries()),
            Step::Fetch(url) => shown(http::Request::post(url).send()?),
            Step::CommitAndFetch(url) => shown(http::Request::post(url).commit_and_send()?),
            Step::WishAny => format!("{} found", AnyAuthor::wish()?.all()?.len()),
            Step::WishShaped => {
                let found = Author::wish()?.all()?;
                let owners: Vec<_> =
                    found.iter().map(|author| (author.shaped.owner(), author.take_shaped.name())).collect();
                format!("{owners:?}")
            }
            Step::WishNarrow => {
                format!("{:?}", NarrowAuthor::wish()?.first()?.map(|author| author.shaped.name().to_owned()))
            }
            Step::Reject(words) => reject!("{words}"),
            Step::Panic(words) => panic!("{words}"),
            Step::Less { from, much } => (from - much).to_string(),
            Step::Print(words) => {
                println!("{words} {}", 1);
                eprintln!("{words} {}", 2);
                print!("{words} 3\n");
                eprint!("{words} {}", 4);
                dbg![words]
            }
        })
    }
}

fn shelf(owner: Option<Did>) -> Cells<i32, u16> {
    owner.map_or_else(|| Cells::own("shelf"), |owner| Cells::open(&owner, "shelf"))
}

/// What an iterator gives, one after another, also what is wrong with one of them.
fn told<T: std::fmt::Display>(items: impl Iterator<Item = Result<T>>) -> String {
    let words = |item: Result<T>| item.map_or_else(|error| error.to_string(), |item| item.to_string());
    items.map(words).collect::<Vec<_>>().join(", ")
}

const MINUTE: Duration = Duration::from_secs(60);

fn shown(answer: http::Response) -> String {
    format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body))
}

fn open<T: Shape>(place: &Place) -> Cell<T> {
    match &place.owner {
        Some(owner) => Cell::open(owner, place.cell.clone()),
        None => Cell::own(place.cell.clone()),
    }
}

/// Acts on a whole cell, or at a path into it.
fn at<R>(
    place: &Place,
    whole: impl FnOnce(&Cell<Value>) -> Result<R>,
    inside: impl FnOnce(charm_sdk::At<'_, Value>) -> Result<R>,
) -> Result<R> {
    let cell = open::<Value>(place);
    let mut path = place.path.iter().map(|step| match step {
        Value::Integer(index) => Ok((*index as u32).into()),
        Value::String(key) => Ok(charm_sdk::Segment::from(key.as_str())),
        _ => Err(Error::reject("a path has keys and indexes")),
    });
    match path.next() {
        None => whole(&cell),
        Some(first) => inside(path.try_fold(cell.at(first?), |at, step| Ok::<_, Error>(at.at(step?)))?),
    }
}
