//! What a host is built from, and how it opens.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::{Host, OpenError, end::End, fresh_key};
use crate::{
    aging::Aging,
    charms::Charms,
    derive::Deriver,
    did::Did,
    directory::{Directory, Kept},
    env::{Env, SystemEnv},
    guest::{Compiler, Guests, Threads, open_code_cache},
    http::{HttpClient, Transport},
    keyring::Keyring,
    limits::Limits,
    notices::Notices,
    places::Places,
    rows::SpaceRow,
    run_queue::RunQueue,
    scheduler::Scheduler,
    store::{Store, StoreError},
    suspects::Suspects,
    turn::Stage,
    tx::{Committer, Notice},
};

/// Names of the host's own spaces; no charm can have them.
const HOST: &str = SpaceRow::HOST;
const OPERATOR: &str = SpaceRow::OPERATOR;

/// How many charms at least share the places of exchanges: one whose server hangs leaves places to the others (A6).
const CHARMS_AT_ONCE: usize = 8;

/// What a host is built from. Without further words: everything in memory, default limits, the real network.
pub struct HostBuilder {
    pub(super) store: Arc<dyn Store>,
    pub(super) keyring: Arc<dyn Keyring>,
    pub(super) limits: Limits,
    pub(super) env: Option<Arc<dyn Env>>,
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) ca: Vec<u8>,
    pub(super) cache: Option<PathBuf>,
    pub(super) compiler: Option<Compiler>,
}

impl HostBuilder {
    /// Keeps everything in this store.
    pub fn store(mut self, store: impl Store) -> HostBuilder {
        self.store = Arc::new(store);
        self
    }

    /// Keeps keys in this keyring. It belongs with the store: a store's charms sign with these keys.
    pub fn keyring(mut self, keyring: impl Keyring) -> HostBuilder {
        self.keyring = Arc::new(keyring);
        self
    }

    /// Enforces these limits.
    pub fn limits(mut self, limits: Limits) -> HostBuilder {
        self.limits = limits;
        self
    }

    /// Takes clock, randomness and tasks from here.
    pub fn env(mut self, env: Arc<dyn Env>) -> HostBuilder {
        self.env = Some(env);
        self
    }

    /// Sends the charms' HTTP requests through this instead of the network.
    pub fn transport(mut self, transport: impl Transport) -> HostBuilder {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Trusts these certificate authorities too when charms call outside over TLS, beside the public ones: certificates in PEM
    /// form. Of no use with a transport of one's own.
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> HostBuilder {
        self.ca = pem.into();
        self
    }

    /// Keeps compiled components in this folder, by content. Whoever can write there controls the host: it is made with
    /// mode 0700, and refused when it is open to others.
    pub fn code_cache(mut self, folder: impl Into<PathBuf>) -> HostBuilder {
        self.cache = Some(folder.into());
        self
    }

    /// Has components compiled that the code cache does not have. Without it they are not installed.
    pub fn compiler(mut self, compiler: Compiler) -> HostBuilder {
        self.compiler = Some(compiler);
        self
    }

    /// Opens the host. Events that waited when it last stopped go on as soon as their charms are installed.
    ///
    /// A charm without its key is not installed: its events wait (I1).
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Panics
    /// Outside a tokio runtime, unless an environment was given.
    pub async fn open(self) -> Result<Host, OpenError> {
        let HostBuilder { store, keyring, limits, env, transport, ca, cache, compiler } = self;
        let env: Arc<dyn Env> = match env {
            Some(env) => env,
            None => SystemEnv::current(),
        };
        limits.check()?;
        let limits = Arc::new(limits);
        let mut secret = [0; 32];
        env.random(&mut secret);
        let image = store.load(Some(secret))?;
        let known = |name: &str| image.spaces.iter().find(|row| row.name == name).map(|row| row.did);
        let key = |did: Option<Did>| match did {
            Some(did) => keyring.check(&did).map(|()| did),
            None => fresh_key(&*keyring, &*env),
        };
        let (host, operator) = (key(known(HOST))?, key(known(OPERATOR))?);
        for row in image.spaces.iter().filter(|row| row.did != host && row.did != operator) {
            if let Err(error) = keyring.check(&row.did) {
                tracing::warn!(charm = row.name, "{error}; until then the charm is not installed, and its events wait");
            }
        }
        let transport = match transport {
            Some(transport) => transport,
            None => Arc::new(HttpClient::new(limits.clone(), &ca).map_err(|why| OpenError::Ca { why })?),
        };
        // wasmtime's cache takes absolute folders only.
        let cache = cache.map(|folder| std::path::absolute(&folder).unwrap_or(folder));
        if let Some(folder) = &cache {
            let open = open_code_cache(folder);
            open.map_err(|found| OpenError::CodeCache { file: found.file, why: found.why })?;
        }
        let (suspects, marks) = Suspects::open(&*store, &image, env.clone())?;
        let threads = Threads::new(env.threads(), marks, suspects.clone(), env.clone());
        let guests = Guests::start(limits.clone(), cache.as_deref(), compiler, threads, env.clone())
            .map_err(OpenError::Engine)?;
        let ready = Arc::new(RunQueue::default());
        let kept = image.kept.iter().map(|(did, bytes)| match Kept::from_bytes(bytes) {
            Ok(kept) => Ok((*did, Arc::new(kept))),
            Err(why) => Err(StoreError::Failed(format!("the rights of {did} {why}"))),
        });
        let kept = kept.collect::<Result<BTreeMap<_, _>, _>>()?;
        // A host that ended while it uninstalled them has not said so.
        let gone: Vec<Did> = kept.iter().filter(|(_, kept)| kept.is_gone).map(|(did, _)| *did).collect();
        let paused = suspects.paused(&image);
        let line = ready.clone();
        let notify = Arc::new(move |notice| match notice {
            Notice::Work(charm) => line.wake(charm),
            Notice::Room => line.nudge(),
            Notice::Stopped => line.close(),
        });
        let turns = image.turns.clone();
        let committer =
            Committer::start(store.clone(), keyring.clone(), env.clone(), limits.clone(), notify, image, host);
        committer.hold(&suspects.held(), suspects.late());
        if let Err(error) = committer.recall(&*store, &turns) {
            committer.abandon();
            return Err(error.into());
        }
        if let Err(why) = committer.register(&[(host, HOST.into()), (operator, OPERATOR.into())]).await {
            // Lets go of the store: it can be opened again.
            committer.abandon();
            return Err(why.into());
        }
        let mut known = committer.meters();
        known.retain(|did, _| *did != host && *did != operator);
        committer.swap_directory(Directory::new(operator, known, kept), Vec::new())?;
        committer.uninstall(gone)?;
        let charms = Arc::new(Charms::new(committer.clone()));
        let guests = Arc::new(guests);
        let deriver = Arc::new(Deriver::new(guests.clone(), charms.clone(), committer.clone()));
        let places = Places::new(limits.exchanges_max, (limits.exchanges_max / CHARMS_AT_ONCE).max(1));
        let aging = Aging::new(env.clone(), ready.clone());
        let notices = Notices::new(env.clone());
        let (live, began) = Default::default();
        let stage = Arc::new(Stage {
            committer,
            guests,
            deriver,
            env,
            transport,
            places,
            aging,
            live,
            notices,
            suspects,
            began,
        });
        Scheduler::start(stage.clone(), charms.clone(), ready.clone());
        for (charm, pause) in paused {
            let (ready, sleep) = (ready.clone(), stage.env.sleep(pause));
            let wake = async move {
                tokio::select! {
                    () = sleep => ready.wake(charm),
                    () = ready.closed() => {}
                }
            };
            stage.env.spawn(Box::pin(wake));
        }
        let (installing, end) = (Arc::default(), End::new(stage.clone(), ready.clone()));
        Ok(Host { stage, charms, ready, store, keyring, limits, operator, installing, end })
    }
}
