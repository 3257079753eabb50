//! How a turn goes on that has waited: with the component that it began with, and with what it was told before (S7, S8).

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use super::{PAUSE_MIN, Stage, Turn, Wait};
use crate::{
    charms::Installed,
    did::Did,
    guest::{LoadError, Loaded},
    log::say,
    record::Hash,
    recording::{Answer, Pieces, Recording, Unread},
    rows::Queued,
    store::StoreError,
};

/// Why a turn that has waited does not go on.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// It never can: its event is settled.
    Ends(String),
    /// Another host can, or this one with other settings: it rests until a host is opened again, as if it waited still.
    Rests(String),
}

/// Says why a turn rests in this host, where nothing speaks for it any more.
pub(super) fn rests(queued: &Queued, why: &str) -> Wait {
    let (event, charm) = (&queued.event.id, &queued.event.to);
    say(|| tracing::warn!(%event, %charm, why, "a turn rests until a host is opened that can go on with it"));
    Wait::Away
}

impl Stage {
    pub(super) fn older(&self) -> MutexGuard<'_, HashMap<Did, Arc<Loaded>>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the component that runs a turn: the one that it began with, whatever is installed now (S7). None when that is to
    /// be looked for.
    pub(super) fn component(&self, turn: &Turn, charm: &Installed) -> Option<Result<Arc<Loaded>, Lost>> {
        let installed = &charm.loaded;
        let began = turn.progress.as_ref().and_then(|progress| progress.began_with()).unwrap_or(installed.hash);
        if began == installed.hash {
            return Some(Ok(installed.clone()));
        }
        let kept = || self.older().get(&turn.charm()).filter(|kept| kept.hash == began).cloned();
        turn.began.clone().or_else(|| kept().map(Ok))
    }

    /// Looks for the component that a turn began with; none when it cannot be read now.
    pub(super) async fn look_for(&self, turn: &Turn) -> Option<Result<Arc<Loaded>, Lost>> {
        let (charm, progress) = (turn.charm(), turn.progress.as_ref()?);
        let began = crate::store::hex(&progress.component);
        let component = match self.committer.component(progress.component).await? {
            Ok(Some(component)) => component,
            Ok(None) => {
                let why = format!("component: {began} began this turn and is not in the store any more");
                return Some(Err(Lost::Ends(why)));
            }
            Err(error) => {
                self.cannot_read(turn, &error);
                return None;
            }
        };
        let loaded = self.guests.load(&self.name(&charm), &component).await;
        if let Ok(loaded) = &loaded {
            self.older().insert(charm, loaded.clone());
        }
        Some(loaded.map_err(|error| {
            let why = format!("component: {began} began this turn and cannot be loaded: {}", error.why());
            match error {
                LoadError::Malformed(_) | LoadError::Describe(_) | LoadError::Deadly(_) => Lost::Ends(why),
                LoadError::Import(_)
                | LoadError::Version(_)
                | LoadError::World(_)
                | LoadError::Limit(_)
                | LoadError::NoCompiler
                | LoadError::Compiler(_) => Lost::Rests(why),
            }
        }))
    }

    /// Says once why a turn does not go on: it is tried again until the host ends.
    pub(super) fn cannot_read(&self, turn: &Turn, error: &StoreError) {
        if turn.pause == PAUSE_MIN {
            let event = &turn.queued.event.id;
            say(|| tracing::warn!(%event, %error, "what a turn goes on with cannot be read: it waits for that"));
        }
    }

    /// Gets what a turn was told before it waited, and what it waited for; false when that cannot be read now.
    ///
    /// # Errors
    /// Why it does not go on.
    pub(super) async fn recall(&self, turn: &mut Turn, loaded: &Loaded) -> Result<bool, Lost> {
        let limits = self.committer.limits();
        let Some(progress) = turn.waited() else {
            // As the component has it that runs now: an attempt before may have run another one.
            turn.recording = loaded.waits().then(|| Recording::begin(limits.recording_bytes_max));
            return Ok(true);
        };
        let Some(mut resumed) = turn.resumed.take() else { return Ok(true) };
        let mut pieces = Vec::with_capacity(progress.pieces as usize);
        let mut read = self.committer.messages(&mut resumed.receipts).await;
        if matches!(read, Some(Ok(()))) && resumed.pieces.len() < progress.pieces as usize {
            read =
                self.committer.recording(turn.queued.position).await.map(|stored| stored.map(|stored| pieces = stored));
        }
        if !matches!(read, Some(Ok(()))) {
            if let Some(Err(error)) = read {
                self.cannot_read(turn, &error);
            }
            turn.resumed = Some(resumed);
            return Ok(false);
        }
        let stored = pieces.len() as u32;
        pieces.extend(resumed.pieces.range(stored + 1..).map(|(_, piece)| piece.clone()));
        let hash: Hash = progress.recording;
        let lost = |why: Unread| match why {
            Unread::Damaged => Lost::Ends(why.to_string()),
            Unread::Later => Lost::Rests(why.to_string()),
        };
        let pieces = Pieces::read(&pieces, &hash).map_err(lost)?;
        let (wait, receipts, sees) = (progress.wait.clone(), resumed.receipts, turn.facts.sees);
        let answer = Answer { wait, receipts, told: None, sees, fuel: progress.ran.fuel };
        turn.recording = Some(Recording::resume(pieces, hash, answer, limits.recording_bytes_max).map_err(lost)?);
        Ok(true)
    }
}
