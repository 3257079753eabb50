//! From bytes to a charm that can run: compiling, checking imports, linking, asking it what it is.

use std::{sync::Arc, time::Duration};

use wasmtime::{
    Trap,
    component::{Component, ComponentExportIndex},
};

use super::{
    Fault,
    bindings::{Charm, CharmPre},
    ctx::Ctx,
    engine::Guests,
    log::Speaker,
    shelf::Loaded,
    wasi,
};
use crate::{
    component,
    counters::Components,
    descriptor::Descriptor,
    limits::{DESCRIBE_FUEL_MIN, Limits},
    record::Hash,
    store::{Work, hex},
    text::clip,
    value::Value,
};

/// What the interfaces of the world are named after.
const PACKAGE: &str = "charm:host/";
/// The versions of it that this host links: any third number.
const VERSION: &str = "0.2.";

/// A component that is compiled and linked: instances come from here.
pub struct Prepared {
    pub(super) pre: CharmPre<Ctx>,
    pub(super) wasi: bool,
    /// Its turns may wait: they are recorded.
    pub(super) waits: bool,
    /// What computes its derived cells, when it exports that.
    pub(super) derive: Option<ComponentExportIndex>,
}

/// Why a component is not taken.
#[derive(Debug)]
pub enum LoadError {
    /// Not a component, or a broken one.
    Malformed(String),
    /// It imports what no charm gets.
    Import(String),
    /// It was built for another version of the world: names the import or export.
    Version(String),
    /// Its exports or the types of its imports are not those of the world.
    World(String),
    /// It needs more than an instance may have.
    Limit(String),
    /// It is not in the code cache, and nobody may compile.
    NoCompiler,
    /// Whoever compiles does not work.
    Compiler(String),
    /// Processes have died while it was described.
    Deadly(String),
    /// `describe` failed or told something malformed.
    Describe(String),
}

impl LoadError {
    /// Returns what is wrong, for who did not ask for it to be installed.
    pub fn why(&self) -> &str {
        match self {
            LoadError::NoCompiler => "it is not in the code cache, and nobody may compile",
            LoadError::Deadly(_) => "processes have died under it",
            LoadError::Malformed(why)
            | LoadError::Import(why)
            | LoadError::Version(why)
            | LoadError::World(why)
            | LoadError::Limit(why)
            | LoadError::Compiler(why)
            | LoadError::Describe(why) => why,
        }
    }
}

fn text(error: &wasmtime::Error) -> String {
    clip(&format!("{error:#}"), 512).into_owned()
}

/// Returns the name of an interface of ours, and whether this host links its version; none for what has another
/// form of name.
fn interface(name: &str) -> Option<(&str, bool)> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.rsplit_once('@')?;
    let patch = version.strip_prefix(VERSION);
    Some((interface, patch.is_some_and(|patch| patch.bytes().all(|b| b.is_ascii_digit()))))
}

impl Guests {
    /// Returns the component of a charm of this name, ready to run: as others have it, or compiled, checked, linked and
    /// asked what it is. Takes a while for one that the code cache does not have.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load(&self, name: &str, component: &component::Component) -> Result<Arc<Loaded>, LoadError> {
        let hash = component.sha256();
        let place = self.shelf.place(hash);
        let empty = match place.look().await {
            Ok(loaded) => return Ok(loaded),
            Err(empty) => empty,
        };
        let prepared = self.prepare(&self.code.component(&*self.env, component.bytes().clone(), hash).await?)?;
        let (description, descriptor) = self.ask(name, &prepared, hash).await?;
        if descriptor.derives && prepared.derive.is_none() {
            let why = "it marks a cell as derived, and exports no derivations";
            return Err(LoadError::Describe(why.to_owned()));
        }
        Ok(empty.keep(prepared, description, descriptor))
    }

    /// Returns the names of what a component imports.
    pub fn imports(&self, loaded: &Loaded) -> Vec<String> {
        let component = loaded.prepared.pre.instance_pre().component().component_type();
        component.imports(self.code.engine()).map(|(name, _)| clip(name, 256).into_owned()).collect()
    }

    /// Returns how many components are held now, and how often one was loaded.
    pub fn components(&self) -> Components {
        self.shelf.figures()
    }

    /// Checks and links a component.
    fn prepare(&self, component: &Component) -> Result<Prepared, LoadError> {
        let (mut wasi, mut waits) = (false, false);
        for (import, _) in component.component_type().imports(self.code.engine()) {
            match interface(import) {
                _ if wasi::serves(import) => wasi = true,
                Some((name, true)) => waits |= name == "waits",
                Some((_, false)) => return Err(LoadError::Version(clip(import, 256).into_owned())),
                None => return Err(LoadError::Import(clip(import, 256).into_owned())),
            }
        }
        let derive = self.check_exports(component)?;
        let linker = if wasi { &self.with_wasi } else { &self.plain };
        let pre = linker.instantiate_pre(component).map_err(|error| {
            // An import of a name that the world does not have is an unknown import, not another type of a known one.
            LoadError::World(text(&error))
        })?;
        let pre = CharmPre::new(pre).map_err(|error| LoadError::World(text(&error)))?;
        Ok(Prepared { pre, wasi, waits, derive })
    }

    /// Asks a component what it is, unless processes have died under that.
    async fn ask(&self, name: &str, prepared: &Prepared, hash: Hash) -> Result<(Value, Descriptor), LoadError> {
        let work = Work::Describe { component: hash };
        if self.threads.suspects().is_held(&work) {
            return Err(LoadError::Deadly(hex(&hash)));
        }
        let pause = self.threads.suspects().pause(&work);
        if !pause.is_zero() {
            self.env.sleep(pause).await;
        }
        let _slot = self.describing.lock().await;
        let told = self.threads.run(work, || Duration::ZERO, self.describe(name, prepared)).await;
        self.threads.suspects().clear(&work);
        self.read(told?).await
    }

    /// Checks that every interface of ours that the component exports is one that the host calls; returns what computes derived
    /// cells.
    fn check_exports(&self, component: &Component) -> Result<Option<ComponentExportIndex>, LoadError> {
        let exports: Vec<_> =
            component.component_type().exports(self.code.engine()).map(|(name, _)| name.to_owned()).collect();
        let mut derive = None;
        for export in &exports {
            match interface(export) {
                Some(("guest", true)) | None => {}
                Some(("derivations", true)) => {
                    let function = component
                        .get_export_index(None, export)
                        .and_then(|instance| component.get_export_index(Some(&instance), "derive"));
                    let missing = || LoadError::World(format!("{}: no function derive", clip(export, 256)));
                    derive = Some(function.ok_or_else(missing)?);
                }
                Some((_, false)) => return Err(LoadError::Version(clip(export, 256).into_owned())),
                Some(_) => {
                    return Err(LoadError::World(format!(
                        "exports {}, which this host never calls",
                        clip(export, 256)
                    )));
                }
            }
        }
        let has = |name: &str| exports.iter().any(|export| export == name);
        // In the first version the two functions stood in the world itself.
        if has("describe") && has("handle") && !exports.iter().any(|export| interface(export).is_some()) {
            return Err(LoadError::Version("charm:host/charm@0.1.0".to_owned()));
        }
        Ok(derive)
    }

    /// Asks a charm what it is.
    async fn describe(&self, name: &str, prepared: &Prepared) -> Result<Vec<u8>, LoadError> {
        // What a charm tells may be longer than what its turns do.
        let fuel_max = self.limits.fuel_max.max(DESCRIBE_FUEL_MIN);
        let limits = Arc::new(Limits { fuel_max, ..self.limits.as_ref().clone() });
        let mut ctx = Ctx::bare(limits.clone(), Speaker::Describe(name.to_owned()));
        if prepared.wasi {
            ctx.give_wasi();
        }
        let (mut store, on_thread) = self.store(ctx);
        let instance = match on_thread.run(prepared.pre.instance_pre().instantiate_async(&mut store)).await {
            Ok(instance) => instance,
            Err(error) => {
                let fault = Fault::explain(&error, &store, &limits).message;
                // Its start functions ran into something, or the instance is more than the engine gives one.
                let ran = error.is::<Trap>();
                return Err(if ran { LoadError::Describe(fault) } else { LoadError::Limit(fault) });
            }
        };
        let charm = Charm::new(&mut store, &instance)
            .map_err(|error| LoadError::World(format!("a function of guest: {}", text(&error))))?;
        let told = on_thread.run(charm.charm_host_guest().call_describe(&mut store)).await;
        told.map_err(|error| LoadError::Describe(Fault::explain(&error, &store, &limits).message))
    }

    async fn read(&self, told: Vec<u8>) -> Result<(Value, Descriptor), LoadError> {
        // A long one takes longer than a step of the host may.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.env.block(Box::new(move || drop(sender.send(Descriptor::read(&told))))).await;
        let read = receiver.await.unwrap_or_else(|_| Err("the host failed to read it".to_owned()));
        read.map_err(|why| LoadError::Describe(clip(&why, 512).into_owned()))
    }
}
