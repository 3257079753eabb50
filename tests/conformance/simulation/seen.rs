//! A store as a process finds it: every law holds, every turn is what it would have been alone.

use std::fmt::Write;

use charm_host::*;

use super::{
    calendar::Calendar,
    disk::{Disk, open},
    model::{Cast, Replay},
};

/// Everything in a store.
pub struct Seen {
    /// Events that wait.
    pub waiting: u64,
    /// The whole log.
    pub log: Vec<LogEntry>,
    /// All of it, as text.
    pub dump: String,
    /// What the log makes.
    pub replay: Replay,
    archive: Archive,
    /// The log tells all that was done.
    is_whole: bool,
}

impl Seen {
    /// Opens the store on a disk and looks at everything.
    ///
    /// # Errors
    /// What does not open, the first law that does not hold, the first turn that is not what it must be.
    pub fn of(disk: &Disk, cast: Option<(Cast, Calendar)>) -> Result<Seen, String> {
        let mounted = disk.mount();
        let store = open(&mounted.path())?;
        let mut dump = String::new();
        let Image {
            secret,
            order,
            end,
            position,
            mut spaces,
            mut cells,
            queued,
            turns,
            asked,
            dead,
            kept,
            components,
            pruned,
            cuts: _,
        } = store.load(None).map_err(text)?;
        // They come in any order.
        spaces.sort_by_key(|row| row.did.to_string());
        cells.sort_by_key(|row| (row.space.to_string(), row.name.clone()));
        write!(
            dump,
            "{secret:?} {order} {end:?} {position} {queued:?} {turns:?} {asked:?} {dead:?} {kept:?} {components:?} {pruned}"
        )
        .unwrap();
        for SpaceRow { did, name, seq, head, installed, .. } in &spaces {
            write!(dump, "{did} {name} {seq} {head:?} {installed:?}").unwrap();
        }
        for CellRow { space, name, order, seq, value } in &cells {
            write!(dump, "{space} {name} {order} {seq} {:?}", value.as_ref().map(Value::as_bytes)).unwrap();
        }
        for Queued { event, .. } in &queued {
            write!(dump, "{:?}", event.payload.as_bytes()).unwrap();
        }
        let receipts = store.receipts(None, usize::MAX >> 1).map_err(text)?;
        let log = store.log(None, 0, usize::MAX >> 1).map_err(text)?;
        if cast.is_some() {
            write!(dump, "{receipts:?} {log:?}").unwrap();
        } else {
            // When a past is gone depends on how far the index is.
            receipts.iter().for_each(|row| write!(dump, "{} {}", row.receipt.id, row.receipt.outcome.name()).unwrap());
        }
        let archive = Archive::open(store).map_err(text)?;
        let waiting = archive.verify_store().map_err(text)?.waiting;
        let (mut replay, is_whole) = (Replay::default(), cast.is_some());
        if let Some((cast, calendar)) = cast {
            replay = Replay::new(calendar);
            for commit in archive.commits(None, 0, usize::MAX >> 1).map_err(text)? {
                replay.take(&cast, &commit)?;
            }
            replay.end()?;
        }
        Ok(Seen { waiting, log, dump, replay, archive, is_whole })
    }

    /// Checks that what a client was told is still so, and came in the order of sending.
    ///
    /// # Errors
    /// What is lost.
    pub fn keeps(&self, sent: &[(EventId, Option<Receipt>)]) -> Result<(), String> {
        let mut last = None;
        for (id, receipt) in sent {
            match (self.archive.status(id).map_err(text)?, receipt) {
                (Status::Unknown, _) => return Err(format!("event {id} was acknowledged and is lost")),
                (Status::Waiting { .. }, Some(_)) => return Err(format!("receipt {id} was handed out and is lost")),
                // Its message may have gone with the past of its charm.
                (Status::Settled(Receipt { message: None, .. }), Some(_)) if !self.is_whole => {}
                (Status::Settled(now), Some(then)) if now != *then => {
                    return Err(format!("receipt {id} says something else now"));
                }
                _ => {}
            }
            let order = self.replay.order.get(id).copied();
            if self.is_whole && order <= last {
                return Err(format!("event {id} entered the log before the one that was sent before it"));
            }
            last = order;
        }
        Ok(())
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
