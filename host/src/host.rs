//! The host: open it on a store and a keyring, install charms, send events, read cells, shut down.

mod builder;
mod causes;
mod cells;
mod charm;
mod describe;
mod end;
mod error;
mod held;
mod history;
mod letters;
mod present;
mod request;
mod rights;
mod watch;

pub use builder::HostBuilder;
pub use charm::{Charm, CharmInfo, NewEvent, Owner};
use charm::{check_charm_name, check_http_grant};
pub(crate) use describe::Checked;
pub use describe::Description;
use end::End;
pub use error::{InstallError, OpenError, SendError};
pub use watch::{Change, Update, Watch, WatchError, Watcher};

pub use crate::tx::{Gone, Keep};

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::{
    archive::{self, ReadError},
    cell::CellId,
    charms::{Candidate, Charms},
    counters::{Components, Counters, Derivations},
    did::Did,
    directory::{Directory, Entry, Rights},
    env::Env,
    event::EventId,
    guest::LoadError,
    keyring::{KeyError, Keyring, MemoryKeyring},
    limits::Limits,
    listing::{SpaceInfo, Status},
    path::{Path, PathError},
    receipt::Receipt,
    rows::Queued,
    run_queue::RunQueue,
    store::{MemoryStore, Store, StoreError},
    text::clip,
    turn::Stage,
    tx::{NotInstalled, Refused, Unavailable},
    value::Value,
    verify::{self, Verified, VerifiedStore, VerifyError},
};

/// A running host: a handle to it, cheap to clone and to send to other tasks.
///
/// [`Host::shutdown`], on any of them, ends the host for all. When the last handle is dropped without it, the host stops
/// without waiting: what is not durable yet is lost and was not acknowledged, and the store can be opened again when the
/// batch that is being written is there.
#[derive(Clone)]
pub struct Host {
    stage: Arc<Stage>,
    charms: Arc<Charms>,
    ready: Arc<RunQueue>,
    store: Arc<dyn Store>,
    keyring: Arc<dyn Keyring>,
    limits: Arc<Limits>,
    operator: Did,
    /// One install at a time: two of the same name get one DID.
    installing: Arc<tokio::sync::Mutex<()>>,
    end: Arc<End>,
}

impl Host {
    /// Returns what to build a host from.
    pub fn builder() -> HostBuilder {
        HostBuilder {
            store: Arc::new(MemoryStore::new()),
            keyring: Arc::new(MemoryKeyring::default()),
            limits: Limits::default(),
            env: None,
            transport: None,
            ca: Vec::new(),
            cache: None,
            compiler: None,
        }
    }

    /// Returns the operator's DID: it may read and send everything.
    pub fn operator(&self) -> Did {
        self.operator
    }

    /// Installs a charm, or replaces its component and the grants of its last install; what was granted to it one by one
    /// ([`Host::grant`]) is its own still. The same name keeps its DID and its cells. Compiling takes a while for a component
    /// that the code cache does not have; dropping the call ends it. A turn of the component before that has not committed yet
    /// runs again with the new one (U1).
    ///
    /// Events that waited for it run at once. [`Host::install_all`] and `Manifest::install` start charms that need each other
    /// together.
    ///
    /// # Errors
    /// [`InstallError`]; what was installed before is untouched.
    pub async fn install(&self, charm: Charm) -> Result<Did, InstallError> {
        let dids = self.install_all(vec![charm]).await?;
        Ok(dids[0])
    }

    /// Installs charms that need each other, all at once: none has a turn before all are there. Their grants can name each
    /// other before they have DIDs. Returns their DIDs in the same order.
    ///
    /// # Errors
    /// [`InstallError`]; none of them is installed then.
    ///
    /// # Examples
    /// ```
    /// # async fn example(host: charm_host::Host, mail: Vec<u8>, search: Vec<u8>) -> Result<(), charm_host::InstallError> {
    /// use charm_host::{Charm, Names};
    ///
    /// let mail = Charm::new("mail", mail).may_send("search", Names::only(["add"]));
    /// let search = Charm::new("search", search).may_read("mail", Names::only(["inbox"]));
    /// let dids = host.install_all(vec![mail, search]).await?;
    /// # drop(dids);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn install_all(&self, charms: Vec<Charm>) -> Result<Vec<Did>, InstallError> {
        let (mut checked, mut wanted) = (Vec::with_capacity(charms.len()), Vec::with_capacity(charms.len()));
        let mut names = HashSet::with_capacity(charms.len());
        for mut charm in charms {
            if !names.insert(charm.name.clone()) {
                let why = "it stands twice among charms that are installed together".to_owned();
                return Err(InstallError::Name { name: charm.name, why });
            }
            wanted.push(std::mem::take(&mut charm.grants));
            checked.push(self.check_charm(charm, None).await?);
        }
        let candidates = self.admit(checked).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let directory = self.directory();
        let entries = || candidates.iter().map(|charm| &charm.entry);
        let by_name: HashMap<&str, Did> = entries().map(|entry| (&*entry.name, entry.did)).collect();
        let by_did: HashMap<Did, &Entry> = entries().map(|entry| (entry.did, entry)).collect();
        let owner = |did: &Did| by_did.get(did).copied().or_else(|| directory.get(did).map(Arc::as_ref));
        let mut granted = Vec::with_capacity(candidates.len());
        for (entry, grants) in entries().zip(wanted) {
            let refused = |why| InstallError::Grant { charm: entry.name.to_string(), why };
            let mut rights = Rights::default();
            for (to, right) in grants {
                let did = match &to {
                    Owner::Did(did) => Some(*did),
                    Owner::Name(name) => by_name.get(&**name).copied().or_else(|| self.did_of(name)),
                };
                let unknown =
                    || refused(format!("no charm {} is installed, or installed with it", clip(&to.to_string(), 64)));
                right.of(did.ok_or_else(unknown)?).add(&mut rights, &mut Vec::new());
            }
            rights.check(owner).map_err(refused)?;
            granted.push(rights);
        }
        let dids = entries().map(|entry| entry.did).collect();
        let charms = candidates.into_iter().zip(granted);
        let charms = charms.map(|(charm, rights)| Candidate { entry: charm.entry.with_rights(rights), ..charm });
        self.activate(charms.collect(), None).await?;
        Ok(dids)
    }

    /// Gives checked charms durable DIDs, but no turns yet: all their keys are kept by one call to the keyring, all their
    /// spaces by one batch. One whose key is lost has its own error.
    pub(crate) async fn admit(
        &self,
        charms: Vec<Checked>,
    ) -> Result<Vec<Result<Candidate, InstallError>>, InstallError> {
        let _installing = self.installing.lock().await;
        let mut fresh = None;
        let mut dids = Vec::with_capacity(charms.len());
        for Checked { name, did, .. } in &charms {
            let known = self.known(name, *did)?.or(*did);
            fresh = fresh.or(known.is_none().then(|| name.clone()));
            dids.push(known);
        }
        let count = dids.iter().filter(|did| did.is_none()).count();
        let made = self.new_keys(count).await?;
        let key_error = |name: &str, error| InstallError::Key { charm: name.to_owned(), error };
        let mut made = made.map_err(|error| key_error(fresh.as_deref().unwrap_or_default(), error))?.into_iter();
        let (mut usable, mut spaces) = (Vec::with_capacity(charms.len()), Vec::with_capacity(charms.len()));
        let mut seen = HashMap::with_capacity(charms.len());
        for (Checked { name, .. }, known) in charms.iter().zip(dids) {
            let did = match known {
                Some(did) => self.keyring.check(&did).map(|()| did),
                None => made.next().ok_or_else(few),
            };
            let did = did.map_err(|error| key_error(name, error));
            if let Ok(did) = did {
                if let Some(other) = seen.insert(did, name) {
                    return Err(InstallError::OtherName { charm: name.to_string(), did, name: other.to_string() });
                }
                spaces.push((did, name.clone()));
            }
            usable.push(did);
        }
        self.stage.committer.health()?;
        let mut meters = self.stage.committer.register(&spaces).await?.into_iter();
        let candidate = |(charm, did): (Checked, Result<Did, InstallError>)| {
            let did = did?;
            let inbox = meters.next().unwrap_or_default();
            let log = self.stage.committer.log_share(&did);
            let Checked { name, http, loaded, component, keep, .. } = charm;
            self.stage.committer.keep(&did, keep);
            // Early, and for each charm; what is written meanwhile is seen when it is installed.
            let holds = |name: &String| self.stage.committer.versions().holds(&did, name);
            if let Some(cell) = loaded.descriptor.derived().find(holds) {
                return Err(InstallError::DerivesValue { charm: name.to_string(), cell });
            }
            let (descriptor, rights, http) = (loaded.descriptor.clone(), Rights::default(), http.into());
            let entry = Entry { did, name, descriptor, offer: 0, rights, http, inbox, log };
            Ok(Candidate { entry, loaded, component })
        };
        Ok(charms.into_iter().zip(usable).map(candidate).collect())
    }

    /// Makes so many keys, where blocking hurts nobody.
    async fn new_keys(&self, count: usize) -> Result<Result<Vec<Did>, KeyError>, Unavailable> {
        if count == 0 {
            return Ok(Ok(Vec::new()));
        }
        let mut randomness: Vec<_> = (0..count).map(|_| Zeroizing::new([0; 32])).collect();
        randomness.iter_mut().for_each(|randomness| self.stage.env.random(&mut **randomness));
        let (keyring, (sender, receiver)) = (self.keyring.clone(), oneshot::channel());
        self.stage.env.block(Box::new(move || drop(sender.send(keyring.create_all(&randomness))))).await;
        receiver.await.map_err(|_| Unavailable::RuntimeEnded)
    }

    /// Returns the bounds.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets prepared charms have turns from now on: none of them runs before all are there. With the rights of those
    /// outside it is all of a manifest. Completes when what that changes in the store is durable.
    pub(crate) async fn activate(
        &self,
        charms: Vec<Candidate>,
        outside: Option<Vec<(Did, Rights)>>,
    ) -> Result<(), InstallError> {
        let names: Vec<(Did, Arc<str>)> =
            charms.iter().map(|charm| (charm.entry.did, charm.entry.name.clone())).collect();
        let noted = match outside {
            Some(outside) => self.charms.install_all(charms, outside),
            None => self.charms.install(charms),
        };
        let noted = noted.map_err(|why| match why {
            NotInstalled::Unavailable(why) => InstallError::from(why),
            NotInstalled::Holds { charm, name: cell } => {
                let named = names.iter().find(|(did, _)| *did == charm);
                let charm = named.map_or_else(|| charm.to_string(), |(_, name)| name.to_string());
                InstallError::DerivesValue { charm, cell }
            }
        })?;
        for (did, _) in names {
            self.ready.install(did);
            self.stage.ask_again(&did, &self.ready);
        }
        Ok(self.stage.committer.noted(noted).await?)
    }

    /// Returns the DID that the store has for a name, when that is what is pinned.
    fn known(&self, name: &str, pinned: Option<Did>) -> Result<Option<Did>, InstallError> {
        let known = self.stage.committer.did_of(name);
        match (pinned, known) {
            (Some(wanted), Some(found)) if wanted != found => {
                Err(InstallError::OtherDid { charm: name.to_owned(), wanted, found })
            }
            (Some(did), None) => match self.stage.committer.name_of(&did) {
                Some(other) => Err(InstallError::OtherName { charm: name.to_owned(), did, name: other }),
                None => Ok(None),
            },
            _ => Ok(known),
        }
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.stage.committer.directory()
    }

    /// Lets a charm begin no more turns, until [`Host::resume`], also when the host is opened again. The turn that runs
    /// ends, events stay and go on coming. Completes when that is durable.
    ///
    /// # Errors
    /// `NoSuchCharm` for one that the store does not know; `Unavailable`.
    pub async fn pause(&self, charm: &Did) -> Result<(), SendError> {
        self.set_paused(charm, true).await
    }

    /// Lets a charm that was paused have its turns again. Completes when that is durable.
    ///
    /// # Errors
    /// As `pause`.
    pub async fn resume(&self, charm: &Did) -> Result<(), SendError> {
        self.set_paused(charm, false).await
    }

    async fn set_paused(&self, charm: &Did, paused: bool) -> Result<(), SendError> {
        self.check_open()?;
        let set = self.stage.committer.pause(charm, paused).await;
        set.map_err(|refused| match refused {
            Refused::Gone => SendError::NoSuchCharm { to: *charm },
            refused => send_error(refused, *charm),
        })
    }

    /// Returns the installed charms, by DID.
    pub fn charms(&self) -> Vec<CharmInfo> {
        let directory = self.directory();
        let info = |entry: &Arc<Entry>| CharmInfo {
            did: entry.did,
            name: entry.name.to_string(),
            descriptor: entry.descriptor.clone(),
        };
        directory.iter().map(info).collect()
    }

    /// Returns every space of the store, with counts of what is durable, by name.
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        self.stage.committer.spaces()
    }

    /// Returns the DID of the charm with this name, installed or known to the store.
    pub fn did_of(&self, name: &str) -> Option<Did> {
        self.stage.committer.durable_did_of(name)
    }

    /// Returns how much was sent, settled and run again since the host was opened.
    pub fn counters(&self) -> Counters {
        self.stage.committer.counters()
    }

    /// Returns how much code the host holds, and how often it has loaded some.
    pub fn components(&self) -> Components {
        self.stage.guests.components()
    }

    /// Sends an event; completes when it is durable in the receiver's inbox.
    ///
    /// # Errors
    /// [`SendError`]. `Unavailable` may leave the event in the inbox: give it an id to be able to send it again.
    pub async fn send(&self, event: NewEvent) -> Result<EventId, SendError> {
        let accepted = self.accept(event, false).await?;
        self.stage.committer.durable(accepted.order).await?;
        Ok(accepted.id)
    }

    /// Waits until an event is settled and returns its durable receipt; none when there is no such event.
    ///
    /// # Errors
    /// `Store`; `Unavailable` when the host stops first, or cannot make it durable now because the disk is full.
    pub async fn receipt(&self, id: &EventId) -> Result<Option<Receipt>, ReadError> {
        self.check_readable()?;
        if let Some(watch) = self.stage.committer.watch(id)
            && let Some(receipt) = self.stage.committer.watched(watch).await?
        {
            return Ok(Some(receipt));
        }
        Ok(self.store.receipt(id)?.map(|row| row.receipt))
    }

    /// Returns what is known of an event now, as far as it is durable.
    ///
    /// # Errors
    /// `Store`; `Unavailable` when the host has ended.
    pub fn status(&self, id: &EventId) -> Result<Status, ReadError> {
        self.check_readable()?;
        if let Some((to, is_held)) = self.stage.committer.waits_for(id) {
            return Ok(Status::Waiting { to, is_held });
        }
        Ok(self.store.receipt(id)?.map_or(Status::Unknown, |row| Status::Settled(row.receipt)))
    }

    /// Returns what is durable at a path of a cell, as the operator; none when nothing is there. A path is text like
    /// `/items/0/name`, the whole cell is `""`; ask for a [`Value`] to get what is there as it is.
    ///
    /// # Errors
    /// `NoSuchSpace`, `Path`, `Mismatch`, `Type`, `Unavailable`.
    ///
    /// # Examples
    /// ```
    /// # async fn example(host: charm_host::Host, shop: charm_host::Did) -> Result<(), charm_host::ReadError> {
    /// let count = host.get::<i64>(&shop, "count", "").await?.unwrap_or(0);
    /// let first: Option<String> = host.get(&shop, "orders", "/0/buyer").await?;
    /// # let _ = (count, first);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get<T: DeserializeOwned>(
        &self,
        owner: &Did,
        cell: &str,
        path: impl TryInto<Path, Error: Into<PathError>>,
    ) -> Result<Option<T>, ReadError> {
        let path = path.try_into().map_err(Into::into)?;
        let value = self.value(owner, cell, &path).await?;
        archive::decode(cell, &path, value)
    }

    async fn value(&self, owner: &Did, cell: &str, path: &Path) -> Result<Option<Value>, ReadError> {
        self.check_readable()?;
        self.stage.committer.last_commit(owner).ok_or(ReadError::NoSuchSpace(*owner))?;
        archive::part(self.present(owner, cell).await?.value.as_ref(), path)
    }

    /// Returns how often derivations ran, and what is kept of them.
    pub fn derivations(&self) -> Derivations {
        self.stage.deriver.figures()
    }

    /// As [`Host::get`], as far as `reader` has a grant to read the cell (I4).
    ///
    /// # Errors
    /// `Denied`, else as `get`.
    pub async fn get_as<T: DeserializeOwned>(
        &self,
        reader: &Did,
        owner: &Did,
        cell: &str,
        path: impl TryInto<Path, Error: Into<PathError>>,
    ) -> Result<Option<T>, ReadError> {
        if !self.directory().may_read(reader, owner, cell) {
            let cell = clip(cell, 128).into_owned();
            return Err(ReadError::Denied { reader: *reader, owner: *owner, cell });
        }
        self.get(owner, cell, path).await
    }

    /// As [`Host::get`], as the cell was after durable commit `seq` of its space (C6).
    ///
    /// # Errors
    /// `NoSuchCommit`, `Compacted`, `Store`, else as `get`.
    pub async fn get_at<T: DeserializeOwned>(
        &self,
        owner: &Did,
        cell: &str,
        path: impl TryInto<Path, Error: Into<PathError>>,
        seq: u64,
    ) -> Result<Option<T>, ReadError> {
        let path = path.try_into().map_err(Into::into)?;
        let value = self.value_at(owner, cell, &path, seq).await?;
        archive::decode(cell, &path, value)
    }

    async fn value_at(&self, owner: &Did, cell: &str, path: &Path, seq: u64) -> Result<Option<Value>, ReadError> {
        self.check_readable()?;
        let committer = &self.stage.committer;
        let last = committer.last_commit(owner).ok_or(ReadError::NoSuchSpace(*owner))?;
        if seq > last {
            return Err(ReadError::NoSuchCommit { space: *owner, seq, last });
        }
        let check_kept = || archive::check_kept(owner, seq, committer.floor(owner));
        check_kept()?;
        let version = committer.versions().latest(owner, cell);
        // What is not there was removed by some commit.
        let order = version.as_ref().map_or_else(|| committer.last_order(owner), |version| version.order);
        committer.durable(order).await?;
        let present = version.and_then(|version| Some((version.seq, version.value?)));
        let cell = CellId { owner: *owner, name: cell.into() };
        let value = verify::value_at(&*self.store, &cell, present, seq);
        // It may have gone meanwhile.
        check_kept()?;
        archive::part(value?.as_ref(), path)
    }

    /// Returns up to `max` events that wait for a charm, at positions after `after`, in the order in which they were sent;
    /// 0 starts at the first. Completes when that is durable.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn waiting(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<Queued>, Unavailable> {
        self.check_readable()?;
        self.stage.committer.waiting(charm, after, max).await
    }

    /// Proves a space from its first commit (I3), as far as it is durable.
    ///
    /// # Errors
    /// [`VerifyError`] at the first thing that is wrong.
    pub fn verify(&self, space: &Did) -> Result<Verified, VerifyError> {
        self.check_readable().map_err(|why| StoreError::Failed(why.to_string()))?;
        verify::verify(&*self.store, space)
    }

    /// Proves the whole store by the laws that its log obeys ([`crate::Law`]), as far as it is durable.
    ///
    /// # Errors
    /// [`VerifyError`] at the first thing that is wrong.
    pub fn verify_store(&self) -> Result<VerifiedStore, VerifyError> {
        self.check_readable().map_err(|why| StoreError::Failed(why.to_string()))?;
        verify::verify_store(&*self.store)
    }

    /// Copies the store to a folder that is not there yet, while the host goes on: see [`Store::backup`]. Blocks as long as it
    /// takes.
    ///
    /// # Errors
    /// When that fails; then there is no copy.
    pub fn backup(&self, to: impl AsRef<std::path::Path>) -> Result<(), StoreError> {
        self.store.backup(to.as_ref())
    }

    /// Completes when no installed charm that is not paused has an event that waits or runs, and everything until then is durable:
    /// when all that followed from earlier sends is done. A busy host may never get there: bound the wait.
    ///
    /// # Errors
    /// When the host stops first.
    pub async fn settled(&self) -> Result<(), Unavailable> {
        let directory = self.directory();
        self.stage.committer.quiet(&|did| directory.get(did).is_some()).await
    }

    /// Completes when the host has stopped by itself, and says why: a batch could not be made durable (T8).
    pub async fn stopped(&self) -> Unavailable {
        self.stage.committer.stopped().await
    }
}

fn fresh_key(keyring: &dyn Keyring, env: &dyn Env) -> Result<Did, KeyError> {
    let mut randomness = Zeroizing::new([0; 32]);
    env.random(&mut *randomness);
    keyring.create(&randomness)
}

/// A keyring of the embedder's breaks its promise.
fn few() -> KeyError {
    let error = std::io::Error::other("the keyring made fewer keys than it was asked for");
    KeyError::Io { file: "(new key)".to_owned(), error }
}

fn load_error(charm: String, error: LoadError) -> InstallError {
    match error {
        LoadError::Malformed(why) => InstallError::Malformed { charm, why },
        LoadError::Import(import) => InstallError::Import { charm, import },
        LoadError::Version(built_for) => InstallError::Version { charm, built_for },
        LoadError::World(why) => InstallError::World { charm, why },
        LoadError::Limit(why) => InstallError::Limit { charm, why },
        LoadError::NoCompiler => InstallError::NoCompiler { charm },
        LoadError::Compiler(why) => InstallError::Compiler { charm, why },
        LoadError::Deadly(sha256) => InstallError::Deadly { charm, sha256 },
        LoadError::Describe(why) => InstallError::Describe { charm, why },
    }
}

fn send_error(refused: Refused, to: Did) -> SendError {
    match refused {
        Refused::Full => SendError::QueueFull { to },
        Refused::Reused(accepted) => SendError::IdReused { id: accepted.id },
        Refused::Gone => SendError::NoSuchLetter,
        Refused::Running => SendError::Running,
        Refused::Unavailable(why) => SendError::Unavailable(why),
        Refused::Store(error) => error.into(),
    }
}
