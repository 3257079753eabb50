//! Watching: what there is, and then each later durable state that the reader keeps up with (D6).
//!
//! A [`Watcher`] is a stream that holds a place, what it told last, and nothing of what is to come: when it is asked for more, it
//! looks at what there is now. So a reader that is slow, or stands still, costs nobody anything and skips what was written over
//! meanwhile. What wakes it are marks that a durable batch leaves (`tx/committer/watches.rs`); the value of a cell is asked for
//! once for all who watch it (`host/present.rs`).

mod cell;
mod events;
mod names;
mod seat;
mod settled;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream};

use super::Host;
use crate::{
    cell::{CellId, check_name},
    did::Did,
    directory::Directory,
    event::EventId,
    limits::{PATH_BYTES_MAX, PATH_SEGMENTS_MAX},
    listing::Status,
    path::{Path, PathError},
    rows::{DeadLetter, Queued, ReceiptRow},
    store::StoreError,
    text::clip,
    tx::{NoPlace, Topic, Unavailable},
    value::Value,
};
use cell::OneCell;
use events::{OneEvent, Waiting};
use names::ManyCells;
use seat::Seat;
use settled::Settled;

/// What is to be watched.
///
/// # Examples
/// ```
/// # async fn example(host: charm_host::Host, shop: charm_host::Did) -> Result<(), charm_host::WatchError> {
/// use charm_host::{Change, Watch};
///
/// let mut watcher = host.watch(Watch::cell(&shop, "orders").at("/0/state")).await?;
/// while let Some(update) = watcher.next().await {
///     let update = update?;
///     if let Change::Cell { value, .. } = update.change {
///         println!("commit {}: {value:?}, {} states skipped", update.seq, update.skipped);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Watch {
    what: What,
    from: Option<u64>,
}

#[derive(Clone, Debug)]
enum What {
    Cell(CellId, Result<Path, PathError>),
    Cells(Did, Arc<str>),
    Receipt(EventId),
    Receipts(Did),
    Events(Did),
    DeadLetters(Did),
}

impl Watch {
    fn new(what: What) -> Watch {
        Watch { what, from: None }
    }

    /// Watches a cell: what it holds, and then each value that it comes to hold.
    pub fn cell(owner: &Did, cell: &str) -> Watch {
        Watch::new(What::Cell(CellId { owner: *owner, name: cell.into() }, Ok(Path::root())))
    }

    /// Watches what is at a path of the cell, written as for [`Host::get`]: a write beside it is no update. For anything but
    /// a cell it says nothing.
    pub fn at(mut self, path: impl TryInto<Path, Error: Into<PathError>>) -> Watch {
        if let What::Cell(_, at) = &mut self.what {
            *at = path.try_into().map_err(Into::into);
        }
        self
    }

    /// Watches the cells of a charm whose names begin so; with no prefix, all of them. First all that there are, then
    /// [`Change::Listed`], then each that is written or removed; in the order of the commits, a cell that was written several times
    /// meanwhile only in its last state.
    pub fn cells(owner: &Did, prefix: &str) -> Watch {
        Watch::new(What::Cells(*owner, prefix.into()))
    }

    /// Watches what becomes of one event. The stream ends with its receipt.
    pub fn receipt(event: &EventId) -> Watch {
        Watch::new(What::Receipt(*event))
    }

    /// Watches the receipts that the commits of a charm settle, from now on: of the events that it handles, and of those that it
    /// was not allowed to send. None is skipped while it is kept.
    pub fn receipts(charm: &Did) -> Watch {
        Watch::new(What::Receipts(*charm))
    }

    /// Watches what waits for a charm: first what waits now, then what comes, in the order in which it was sent. What was
    /// handled before it could be told is skipped.
    pub fn events(charm: &Did) -> Watch {
        Watch::new(What::Events(*charm))
    }

    /// Watches the dead letters of a charm: first those that there are, then those that come, in the order of the commits.
    pub fn dead_letters(charm: &Did) -> Watch {
        Watch::new(What::DeadLetters(*charm))
    }

    /// Goes on where another watcher was: after [`Update::seq`] of the last update that it gave. What has not changed since is not
    /// told again; for what is not known any more ([`Change::Anew`]) all there is is told. Of one event, and of a derived cell, it
    /// says nothing: what that holds is told.
    pub fn from(mut self, seq: u64) -> Watch {
        self.from = Some(seq);
        self
    }
}

/// One update of a [`Watcher`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Update {
    /// All up to this commit of the charm is told or skipped: [`Watch::from`] goes on here. Of what waits for a charm it is the
    /// position of the event; 0 where there is nothing to go on from yet.
    pub seq: u64,
    /// States that were there meanwhile and are not told, because the reader was slower, or because they became durable together.
    /// Of a cell: commits that wrote it, also where they left what is at the path as it was.
    pub skipped: u64,
    /// What there is.
    pub change: Change,
}

/// What an [`Update`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A cell, or what is at the path of it.
    Cell {
        /// Its name.
        name: Arc<str>,
        /// The commit that wrote it; of one that is not there, a commit after which it was not.
        revision: u64,
        /// None when nothing is there.
        value: Option<Value>,
    },
    /// A cell that cannot be read now, like one of another kind than the path asks for. It may heal.
    Unreadable {
        /// Its name.
        name: Arc<str>,
        /// Why not.
        why: String,
    },
    /// What became of the one event that is watched.
    Status(Status),
    /// A receipt.
    Settled(Box<ReceiptRow>),
    /// An event that waits.
    Waits(Box<Queued>),
    /// A dead letter.
    Letter(Box<DeadLetter>),
    /// It is not known any more what went since: what was told before counts no longer, and all there is follows.
    Anew,
    /// All that there was when the watcher began is told.
    Listed,
}

/// Why there is no watcher, or why it has ended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// No such charm is installed: there never was one, or it was uninstalled.
    #[error("no charm {charm} is installed")]
    NoSuchCharm {
        /// As asked.
        charm: Did,
    },
    /// The reader has no grant to read it, or has none any more.
    #[error("{reader} has no grant to read {what} of {owner}: add one to charms.toml")]
    Denied {
        /// Who watches.
        reader: Did,
        /// Whose it is.
        owner: Did,
        /// The cell, or what else was asked for.
        what: String,
    },
    /// What becomes of events is told to the operator alone.
    #[error("{reader} is not the operator: events, receipts and dead letters are told to the operator only")]
    OperatorOnly {
        /// Who asked.
        reader: Did,
    },
    /// The text is no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No cell has such a name, prefix or path.
    #[error("cannot be watched: {0}")]
    Name(String),
    /// The charm has no such commit yet.
    #[error("charm {charm} has no commit {seq} to go on from; its last is {last}")]
    NoSuchCommit {
        /// The charm.
        charm: Did,
        /// As asked.
        seq: u64,
        /// What it has.
        last: u64,
    },
    /// As many watch as may. Try again when others have ended.
    #[error("{what} are watched already: try again when others have ended (most: {max})")]
    TooMany {
        /// What there are as many of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The host has ended, or does not write any more.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<StoreError> for WatchError {
    fn from(error: StoreError) -> WatchError {
        WatchError::Store(error.bounded())
    }
}

/// A stream of updates. It ends with the error that says why, or, when one event was watched, with its receipt. Dropping it ends
/// it; a host that ends does not wait for it.
pub struct Watcher(Pin<Box<dyn Stream<Item = Result<Update, WatchError>> + Send>>);

impl Watcher {
    /// Returns the next update; none when the stream has ended. May be dropped and called again: nothing is lost by that.
    pub async fn next(&mut self) -> Option<Result<Update, WatchError>> {
        self.0.next().await
    }
}

impl Stream for Watcher {
    type Item = Result<Update, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

/// Who gives the updates.
enum Kind {
    Cell(OneCell),
    Cells(ManyCells),
    Event(OneEvent),
    Settled(Settled),
    Waiting(Waiting),
}

impl Kind {
    async fn next(&mut self, seat: &mut Seat) -> Result<Option<Update>, WatchError> {
        match self {
            Kind::Cell(cell) => cell.next(seat).await.map(Some),
            Kind::Cells(cells) => cells.next(seat).await.map(Some),
            Kind::Event(event) => event.next(seat).await,
            Kind::Settled(settled) => settled.next(seat).await.map(Some),
            Kind::Waiting(waiting) => waiting.next(seat).await.map(Some),
        }
    }
}

impl Host {
    /// Watches something, as the operator (D6): first what there is, as far as it is durable, then each later durable state that
    /// the reader keeps up with, in order. An equal value is no update (C4).
    ///
    /// The stream ends with an error when the charm is uninstalled or the host ends; what was durable before is told first.
    ///
    /// # Errors
    /// [`WatchError`].
    pub async fn watch(&self, watch: Watch) -> Result<Watcher, WatchError> {
        self.begin_watching(watch, None).await
    }

    /// As [`Host::watch`], as far as `reader` has a grant to read the cells (I4). It ends with `Denied` when that is taken. Of cells
    /// by prefix those are told that the reader may read.
    ///
    /// # Errors
    /// `Denied`, `OperatorOnly` for anything but cells, else as `watch`.
    pub async fn watch_as(&self, reader: &Did, watch: Watch) -> Result<Watcher, WatchError> {
        let reader = (*reader != self.operator).then_some(*reader);
        self.begin_watching(watch, reader).await
    }

    async fn begin_watching(&self, watch: Watch, reader: Option<Did>) -> Result<Watcher, WatchError> {
        self.check_open()?;
        let Watch { what, from } = watch;
        let (topic, charm) = match &what {
            What::Cell(cell, _) => (Topic::Cell(cell.clone()), Some(cell.owner)),
            What::Cells(owner, prefix) => (Topic::Cells(*owner, prefix.clone()), Some(*owner)),
            What::Receipt(event) => (Topic::Event(*event), None),
            What::Receipts(charm) | What::DeadLetters(charm) => (Topic::Settled(*charm), Some(*charm)),
            What::Events(charm) => (Topic::Waiting(*charm), Some(*charm)),
        };
        if let Some(reader) = reader.filter(|_| !matches!(what, What::Cell(..) | What::Cells(..))) {
            return Err(WatchError::OperatorOnly { reader });
        }
        check_names(&what)?;
        let directory = self.directory();
        if let Some(charm) = charm {
            self.check_watched(&directory, &what, charm, from, reader)?;
        }
        let path = match &what {
            What::Cell(_, path) => path.clone()?,
            _ => Path::root(),
        };
        let (place, is_first) = self.stage.committer.watches().join(topic, reader).map_err(too_many)?;
        if is_first {
            self.stage.begin_answering(&place.watched);
        }
        let mut seat = Seat::new(self, place, directory, reader, charm);
        let kind = match what {
            What::Cell(cell, _) => {
                // No commit of its charm says since when a derived cell holds what it does.
                let from = from.filter(|_| self.directory().derivation(&cell.owner, &cell.name).is_none());
                Kind::Cell(OneCell::new(cell, path, from, &seat))
            }
            What::Cells(owner, prefix) => Kind::Cells(ManyCells::new(owner, prefix, from)),
            What::Receipt(event) => Kind::Event(OneEvent::new(event)),
            What::Receipts(charm) => Kind::Settled(Settled::receipts(charm, from, &mut seat)),
            What::DeadLetters(charm) => Kind::Settled(Settled::letters(charm, from, &mut seat)),
            What::Events(charm) => Kind::Waiting(Waiting::new(charm, from)),
        };
        Ok(Watcher(Box::pin(stream::unfold(Some((kind, seat)), |state| async {
            let (mut kind, mut seat) = state?;
            match kind.next(&mut seat).await {
                Ok(Some(update)) => Some((Ok(update), Some((kind, seat)))),
                Ok(None) => None,
                Err(end) => Some((Err(end), None)),
            }
        }))))
    }

    fn check_watched(
        &self,
        directory: &Directory,
        what: &What,
        charm: Did,
        from: Option<u64>,
        reader: Option<Did>,
    ) -> Result<(), WatchError> {
        let denied =
            |reader, what: &str| WatchError::Denied { reader, owner: charm, what: clip(what, 128).into_owned() };
        match (reader, what) {
            (Some(reader), What::Cell(cell, _)) if !directory.may_read(&reader, &charm, &cell.name) => {
                return Err(denied(reader, &cell.name));
            }
            (Some(reader), What::Cells(_, prefix)) if !directory.may_read_some(&reader, &charm, prefix) => {
                return Err(denied(reader, &format!("cells {prefix}*")));
            }
            _ => {}
        }
        let last = self.stage.committer.last_commit(&charm).ok_or(WatchError::NoSuchCharm { charm })?;
        directory.get(&charm).ok_or(WatchError::NoSuchCharm { charm })?;
        match from.filter(|from| *from > last && !matches!(what, What::Events(_))) {
            Some(seq) => Err(WatchError::NoSuchCommit { charm, seq, last }),
            None => Ok(()),
        }
    }
}

/// Checks what is kept as long as it is watched.
fn check_names(what: &What) -> Result<(), WatchError> {
    match what {
        What::Cell(cell, Ok(path)) => {
            check_name(&cell.name).map_err(WatchError::Name)?;
            let is_long = path.0.len() >= PATH_SEGMENTS_MAX || path.bytes() > PATH_BYTES_MAX;
            let why = || format!("path of more than {PATH_SEGMENTS_MAX} steps, or {PATH_BYTES_MAX} bytes");
            if is_long { Err(WatchError::Name(why())) } else { Ok(()) }
        }
        What::Cells(_, prefix) if !prefix.is_empty() => check_name(prefix).map_err(WatchError::Name),
        _ => Ok(()),
    }
}

fn too_many(full: NoPlace) -> WatchError {
    let (what, max) = match full {
        NoPlace::Watchers(max) => ("as many things as can be", max),
        NoPlace::Reader(max) => ("as many things as one reader may", max),
        NoPlace::Prefixes(max) => ("as many prefixes of this charm as can be", max),
    };
    WatchError::TooMany { what, max }
}
