//! What a turn was told by the host, so that a replay can tell it the same (S8). No I/O.
//!
//! A turn that waits is recorded: each host call whose answer is not fixed by component, event and facts, or that has an effect,
//! with a hash of what it asked for and what it was told, by value. Each segment leaves a piece; where it ends with a request, that
//! is in it, and the answer is a piece of its own. A turn that goes on begins anew on a fresh instance, and its calls are compared
//! with the pieces, in order; behind them it is live.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    event::EventId,
    http::{HttpError, Request},
    receipt::Receipt,
    record::{Hash, WaitFor, recording_hash},
    text::clip,
    tx::Refusal,
};

/// A host call that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Get,
    Set,
    Remove,
    Send,
    Wish,
    Fetch,
    Log,
    Wait,
    Retry,
    Cancel,
    Exchange,
    GetEach,
    Names,
    Entries,
    RemoveAll,
    Append,
    AddUnique,
    RemoveByValue,
    Increment,
}

impl Kind {
    /// Returns its name, as `wit/` has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Get => "cells.get",
            Kind::Set => "cells.set",
            Kind::Remove => "cells.remove",
            Kind::Send => "streams.send",
            Kind::Wish => "discovery.wish",
            Kind::Fetch => "http.fetch",
            Kind::Log => "log.log",
            Kind::Wait => "waits.commit-and-wait",
            Kind::Retry => "retries.retry-after",
            Kind::Cancel => "streams.cancel",
            Kind::Exchange => "waits.commit-and-fetch",
            Kind::GetEach => "cells.get-each",
            Kind::Names => "cells.names",
            Kind::Entries => "cells.entries",
            Kind::RemoveAll => "cells.remove-all",
            Kind::Append => "cells.append",
            Kind::AddUnique => "cells.add-unique",
            Kind::RemoveByValue => "cells.remove-by-value",
            Kind::Increment => "cells.increment",
        }
    }
}

/// What a host call returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// What it returns when it succeeds, as bytes.
    Ok(Vec<u8>),
    Refused(Refusal),
    Http(HttpError),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Call {
    kind: Kind,
    asked: u64,
    told: Told,
}

impl Call {
    /// Returns what it takes in memory, about.
    fn bytes(&self) -> usize {
        let told = match &self.told {
            Told::Ok(bytes) => bytes.len(),
            Told::Refused(Refusal::Cycle(cells)) => cells.iter().map(|cell| size_of_val(cell) + cell.name.len()).sum(),
            // Texts of the host, of names that are bounded.
            Told::Refused(_) | Told::Http(_) => 512,
        };
        size_of::<Call>() + told
    }
}

/// Why pieces cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// They are not those that the turn left.
    Damaged,
    /// They are, and this host does not know what is in them.
    Later,
}

impl fmt::Display for Unread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Unread::Damaged => "recording: it is damaged",
            Unread::Later => "recording: a later host has written it: use that one, or a later one",
        })
    }
}

/// Version of the pieces; their first byte.
const VERSION: u8 = 1;

/// What a turn was told in one of its segments.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Piece {
    sees: Sees,
    calls: Vec<Call>,
    /// The request that it ends with.
    ask: Option<Ask>,
}

/// One piece of a recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Part {
    /// Of a segment.
    Segment(Piece),
    /// The answer to the request of the segment before.
    Answer(Told),
}

impl Part {
    /// Returns its bytes, which begin with [`VERSION`].
    fn to_bytes(&self) -> Arc<[u8]> {
        postcard::to_stdvec(&(VERSION, self)).expect("a recording holds nothing that postcard refuses").into()
    }

    /// Returns a part; none when this host does not know what is in it.
    fn from_bytes(bytes: &[u8]) -> Option<Part> {
        postcard::from_bytes(bytes.strip_prefix(&[VERSION])?).ok()
    }
}

/// All that a turn was told, in the order of its pieces.
#[derive(Debug)]
pub struct Pieces(Vec<Part>);

impl Pieces {
    /// Reads pieces, which together have this hash.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn read(pieces: &[Arc<[u8]>], hash: &Hash) -> Result<Pieces, Unread> {
        let of = pieces.iter().fold(Hash::default(), |before, piece| recording_hash(&before, piece));
        if of != *hash {
            return Err(Unread::Damaged);
        }
        pieces.iter().map(|piece| Part::from_bytes(piece)).collect::<Option<_>>().map(Pieces).ok_or(Unread::Later)
    }

    /// Returns the request that they end with; none when they end with something else.
    pub fn into_ask(self) -> Option<Ask> {
        match self.0.into_iter().next_back()? {
            Part::Segment(piece) => piece.ask,
            Part::Answer(_) => None,
        }
    }
}

/// A request that a turn waits for. It is kept until the turn ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// As it leaves.
    pub request: Request,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// It may be made again when nobody knows whether it was made.
    pub is_repeatable: bool,
    /// Hash of what the guest asked for.
    pub asked: u64,
}

impl Ask {
    /// Returns what it takes in memory, about.
    fn bytes(&self) -> usize {
        let Request { method, url, headers, body } = &self.request;
        let headers: usize = headers.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
        size_of::<Ask>() + method.len() + url.len() + headers + body.len()
    }
}

/// Returns the piece that is the answer to a request, and the hash over all with it: `before` is that without it.
pub fn answer(before: &Hash, told: Told) -> (Hash, Arc<[u8]>) {
    let piece = Part::Answer(told).to_bytes();
    (recording_hash(before, &piece), piece)
}

/// What one segment of a turn sees of itself, and the next may see otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sees {
    /// The time, in milliseconds since 1970.
    pub time_ms: u64,
    /// How often the turn was tried again.
    pub retries: u32,
}

/// What a wait is told that has come to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The wait.
    pub wait: WaitFor,
    /// What became of its events; none for what is not settled.
    pub receipts: Vec<Option<Receipt>>,
    /// The answer to its request, if it waits for one.
    pub told: Option<Told>,
    /// What it sees from here on.
    pub sees: Sees,
    /// Fuel that the turn had taken then.
    pub fuel: u64,
}

/// What a host call meets.
pub enum Met {
    /// It is made.
    Live,
    /// It was made before, and was told that; from here on the turn sees this, if a segment begins with it.
    Told(Told, Option<Sees>),
    /// It is the wait that has come to its end.
    Answer(Answer),
    /// It is another one than before.
    Differs,
}

/// What a turn was told, and what of it a replay has still to be told.
#[derive(Default)]
pub struct Recording {
    on: bool,
    pieces: Vec<Piece>,
    /// Of the pieces before.
    hash: Hash,
    answer: Option<Answer>,
    /// The next call: its piece, and its place there.
    at: (usize, usize),
    /// How often the host was called.
    calls: usize,
    /// What was told since the pieces.
    fresh: Vec<Call>,
    /// The request that the segment ends with.
    ask: Option<Ask>,
    /// What the pieces take, and with what was told since, about.
    before: usize,
    bytes: usize,
    bytes_max: usize,
    /// It is more than may be kept.
    over: bool,
    differs: Option<String>,
    /// The attempt goes on from the answer.
    live: bool,
}

impl Recording {
    /// Returns the recording of a turn that begins, and may wait.
    pub fn begin(bytes_max: usize) -> Recording {
        Recording { on: true, bytes_max, live: true, ..Recording::default() }
    }

    /// Returns the recording of a turn that goes on, whose pieces have this hash.
    ///
    /// # Errors
    /// `Damaged`: no turn leaves such pieces.
    pub fn resume(pieces: Pieces, hash: Hash, mut answer: Answer, bytes_max: usize) -> Result<Recording, Unread> {
        let mut bytes = 0;
        let mut read: Vec<Piece> = Vec::with_capacity(pieces.0.len());
        // The call that the last piece was the answer to.
        let mut exchanged: Option<Call> = None;
        for part in pieces.0 {
            match part {
                Part::Segment(mut piece) => {
                    // It is the first that the segment behind it was told, and at the time of that.
                    piece.calls.splice(0..0, exchanged.take());
                    bytes += piece.calls.iter().map(Call::bytes).sum::<usize>();
                    bytes += piece.ask.as_ref().map_or(0, Ask::bytes);
                    read.push(piece);
                }
                Part::Answer(told) => {
                    let ask = read.last().and_then(|piece| piece.ask.as_ref()).ok_or(Unread::Damaged)?;
                    exchanged = Some(Call { kind: Kind::Exchange, asked: ask.asked, told });
                }
            }
        }
        bytes += exchanged.as_ref().map_or(0, Call::bytes);
        answer.told = exchanged.map(|call| call.told);
        let answer = Some(answer);
        Ok(Recording { on: true, pieces: read, hash, answer, before: bytes, bytes, bytes_max, ..Recording::default() })
    }

    /// Starts an attempt.
    pub fn rewind(&mut self) {
        self.fresh.clear();
        (self.ask, self.bytes) = (None, self.before);
        // What came of a request is told, however much it is.
        (self.at, self.calls, self.over, self.differs) = ((0, 0), 0, self.before > self.bytes_max, None);
        self.live = self.answer.is_none();
    }

    /// Returns whether calls are recorded.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Returns whether calls are told what they were told before.
    pub fn is_replaying(&self) -> bool {
        self.on && !self.live
    }

    /// Returns what the first segment saw; none for a turn that begins.
    pub fn saw_first(&self) -> Option<Sees> {
        self.pieces.first().map(|piece| piece.sees)
    }

    /// Returns the fuel that the turn had taken when the wait began that has come to its end.
    pub fn fuel_before(&self) -> Option<u64> {
        self.answer.as_ref().map(|answer| answer.fuel)
    }

    /// Returns how many requests were made before the last wait, or asked for.
    pub fn requests(&self) -> usize {
        let fetches = self.pieces.iter().flat_map(|piece| &piece.calls).filter(|call| call.kind == Kind::Fetch);
        fetches.count() + self.pieces.iter().filter(|piece| piece.ask.is_some()).count()
    }

    /// Returns whether more was told than is kept, with a request that the segment is to end with: then it cannot wait.
    pub fn is_over_with(&self, ask: &Ask) -> bool {
        self.over || self.bytes + ask.bytes() > self.bytes_max
    }

    /// Lets the segment end with a request.
    pub fn ask(&mut self, ask: Ask) {
        self.ask = Some(ask);
    }

    /// Returns the request that the segment ends with.
    pub fn asks(&self) -> Option<&Ask> {
        self.ask.as_ref()
    }

    /// Returns the call that the recording ends with: a wait, or a request.
    fn last(&self) -> (Kind, u64) {
        let ask = self.pieces.last().and_then(|piece| piece.ask.as_ref());
        match (ask, &self.answer) {
            (Some(ask), _) => (Kind::Exchange, ask.asked),
            (None, Some(answer)) => (Kind::Wait, asked_by(&answer.wait)),
            (None, None) => (Kind::Wait, 0),
        }
    }

    /// Returns whether more was told than is kept: then the turn cannot wait.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Returns what is different from before; then the turn is over.
    pub fn differs(&self) -> Option<&str> {
        self.differs.as_deref()
    }

    /// Returns what the next call was before; none at the end of the recording.
    fn next(&mut self) -> Option<(&Call, Option<Sees>)> {
        let mut sees = None;
        while self.at.0 < self.pieces.len() && self.at.1 == self.pieces[self.at.0].calls.len() {
            self.at = (self.at.0 + 1, 0);
            sees = self.pieces.get(self.at.0).map(|piece| piece.sees);
        }
        let (piece, place) = self.at;
        self.pieces.get(piece).map(|piece| (&piece.calls[place], sees))
    }

    /// Compares a call with the one that was made before at this place.
    pub fn meet(&mut self, kind: Kind, asked: u64) -> Met {
        if self.live {
            return Met::Live;
        }
        if self.differs.is_some() {
            return Met::Differs;
        }
        self.calls += 1;
        let number = self.calls;
        let before = match self.next() {
            Some((call, sees)) if (call.kind, call.asked) == (kind, asked) => {
                let told = call.told.clone();
                self.at.1 += 1;
                return Met::Told(told, sees);
            }
            Some((call, _)) => call.kind,
            None => match &self.answer {
                Some(answer) if self.last() == (kind, asked) => {
                    self.live = true;
                    return Met::Answer(answer.clone());
                }
                _ => self.last().0,
            },
        };
        self.differs = Some(match before == kind {
            true => format!("call {number}, {}, is given something else than before", kind.name()),
            false => format!("call {number} was {} and is {} now", before.name(), kind.name()),
        });
        Met::Differs
    }

    /// Notes that the handler ended before it was told all that it was told before.
    pub fn ended(&mut self, fault: Option<&str>) {
        if !self.is_replaying() || self.differs.is_some() {
            return;
        }
        let last = self.last().0;
        let before = self.next().map_or(last, |(call, _)| call.kind);
        let mut text = format!("the handler ended before call {}, {}", self.calls + 1, before.name());
        if let Some(fault) = fault {
            text = format!("{text}: {}", clip(fault, 256));
        }
        self.differs = Some(text);
    }

    /// Notes that a replay takes far more fuel than the first run.
    pub fn runs_away(&mut self) {
        if self.is_replaying() && self.differs.is_none() {
            self.differs = Some("the replay takes more than twice the fuel".to_owned());
        }
    }

    /// Notes what a call was told that was made.
    pub fn note(&mut self, kind: Kind, asked: u64, told: Told) {
        if self.over {
            return;
        }
        let call = Call { kind, asked, told };
        self.bytes += call.bytes();
        if self.bytes > self.bytes_max {
            (self.over, self.fresh) = (true, Vec::new());
            return;
        }
        self.fresh.push(call);
    }

    /// Ends a segment, which saw this: returns its piece, and the hash over all.
    pub fn piece(&mut self, sees: Sees) -> (Hash, Arc<[u8]>) {
        let (calls, ask) = (std::mem::take(&mut self.fresh), self.ask.take());
        let bytes = Part::Segment(Piece { sees, calls, ask }).to_bytes();
        (recording_hash(&self.hash, &bytes), bytes)
    }
}

/// Returns the hash of what a call asks for.
pub fn asked(kind: Kind, parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new().chain_update([kind as u8]);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// As `asked`, of a wait.
pub fn asked_by(wait: &WaitFor) -> u64 {
    let ids: Vec<u8> = wait.events.iter().flat_map(|EventId(id)| *id).collect();
    let until = [wait.until as u8];
    asked(Kind::Wait, &[&ids, &until, &wait.timeout_ms.to_be_bytes()])
}
