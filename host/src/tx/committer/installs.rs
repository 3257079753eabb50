//! Which components are installed from here on, or none, as far as the log does not say so already (U1).

use std::{sync::MutexGuard, time::Duration};

use super::{Committer, Locked, Noted, REGISTERED_STEP};
use crate::{component::Component, core::Act, did::Did, record::Install, tx::Unavailable};

/// A component that is to be installed.
pub struct Installing {
    /// The charm.
    pub charm: Did,
    /// What the log is to say.
    pub install: Box<Install>,
    /// The component's bytes.
    pub component: Component,
    /// What it derives, as [`crate::descriptor::Descriptor::derived`] names that.
    pub derived: Vec<String>,
}

/// Why nothing is installed.
pub enum NotInstalled {
    /// The host does not write any more.
    Unavailable(Unavailable),
    /// What the component derives holds a value.
    Holds {
        /// The charm.
        charm: Did,
        /// The cell, or the family as `NAME:`.
        name: String,
    },
}

impl From<Unavailable> for NotInstalled {
    fn from(why: Unavailable) -> NotInstalled {
        NotInstalled::Unavailable(why)
    }
}

impl Committer {
    /// Says which components are installed from here on. A turn that ran another one does not commit any more. The bytes of the
    /// components go to the store with that. What a component derives holds nothing then (D2): it is looked under the lock.
    ///
    /// # Errors
    /// [`NotInstalled`]: none of them is.
    pub fn install(&self, installs: Vec<Installing>) -> Result<Noted, NotInstalled> {
        let (deriving, others): (Vec<_>, Vec<_>) = installs.into_iter().partition(|one| !one.derived.is_empty());
        let of = |one: Installing| (one.charm, Act::Install(one.install, one.component));
        if !deriving.is_empty() {
            let (now, locked) = (self.now(), self.open()?);
            for Installing { charm, derived, .. } in &deriving {
                if let Some(name) = derived.iter().find(|name| self.versions.holds(charm, name)) {
                    return Err(NotInstalled::Holds { charm: *charm, name: name.clone() });
                }
            }
            self.let_happen(locked, now, deriving.into_iter().map(of));
        }
        Ok(self.change_installed(others.into_iter().map(of))?)
    }

    /// Says that charms are not installed any more.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn uninstall(&self, charms: impl IntoIterator<Item = Did>) -> Result<Noted, Unavailable> {
        self.change_installed(charms.into_iter().map(|charm| (charm, Act::Uninstall)))
    }

    fn change_installed<'a>(&self, acts: impl Iterator<Item = (Did, Act<'a>)>) -> Result<Noted, Unavailable> {
        let mut acts = acts.peekable();
        while acts.peek().is_some() {
            let (now, locked) = (self.now(), self.open()?);
            self.let_happen(locked, now, acts.by_ref().take(REGISTERED_STEP));
        }
        Ok(Noted(self.order()))
    }

    /// Lets things happen that are no turn's, gives the lock back and tells what follows.
    fn let_happen<'a>(
        &self,
        mut locked: MutexGuard<'_, Locked>,
        now: (u64, Duration),
        acts: impl Iterator<Item = (Did, Act<'a>)>,
    ) {
        let afters = self.perform_all(&mut locked, now, acts);
        drop(locked);
        afters.into_iter().for_each(|after| self.tell(after));
    }
}
