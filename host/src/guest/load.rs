//! From bytes to a charm that can run: compiling, checking imports, linking, asking it what it is.

use wasmtime::{Trap, component::Component};

use super::{Fault, bindings::CharmPre, ctx::Ctx, engine::Guests, wasi};
use crate::{
    descriptor::{Descriptor, check_tag, declarations},
    error::clip,
    limits::DECLARATIONS_MAX,
};

/// A component that is compiled and linked: instances come from here.
pub struct Prepared {
    pub(super) pre: CharmPre<Ctx>,
    pub(super) wasi: bool,
}

/// Why a component is not taken.
#[derive(Debug)]
pub enum LoadError {
    /// Not a component, or a broken one.
    Malformed(String),
    /// It imports what no charm gets.
    Import(String),
    /// Its exports or the types of its imports are not those of the world.
    World(String),
    /// It needs more than an instance may have.
    Limit(String),
    /// `describe` failed or told something malformed.
    Describe(String),
}

fn text(error: &wasmtime::Error) -> String {
    clip(&format!("{error:#}"), 512).into_owned()
}

/// Returns the first line of what the engine says about bytes that are no component, without what it quotes of them:
/// the file may be anything.
fn nameless(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let line = text.lines().next().unwrap_or_default();
    let part = |(number, part)| if number % 2 == 1 && str::len(part) > 1 { "…" } else { part };
    let parts: Vec<&str> = line.split(['`', '"']).enumerate().map(part).collect();
    clip(&parts.join("`"), 512).into_owned()
}

impl Guests {
    /// Compiles a component. Blocks: milliseconds for tens of kilobytes, unless the code cache has it.
    ///
    /// # Errors
    /// `Malformed`; `Limit` for one that starts over a limit.
    pub fn compile(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        Component::new(&self.engine, bytes).map_err(|error| {
            let (text, limits) = (text(&error), &self.limits);
            if text.contains("minimum byte size") {
                LoadError::Limit(format!("memory-bytes-max {}: {text}", limits.memory_bytes_max))
            } else if text.contains("minimum element size") {
                LoadError::Limit(format!("table-elements-max {}: {text}", limits.table_elements_max))
            } else if text.contains("pooling allocator") {
                LoadError::Limit(text)
            } else {
                LoadError::Malformed(nameless(&error))
            }
        })
    }

    /// Checks and links a component, and asks it what it is.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load(&self, component: &Component) -> Result<(Prepared, Descriptor), LoadError> {
        let mut wasi = false;
        for (import, _) in component.component_type().imports(&self.engine) {
            if wasi::serves(import) {
                wasi = true;
            } else if !import.starts_with("charm:host/") || !import.ends_with("@0.1.0") {
                return Err(LoadError::Import(clip(import, 256).into_owned()));
            }
        }
        let linker = if wasi { &self.with_wasi } else { &self.plain };
        let pre = linker.instantiate_pre(component).map_err(|error| {
            // An import of a name that the world does not have is an unknown import, not another type of a known one.
            LoadError::World(text(&error))
        })?;
        let pre = CharmPre::new(pre).map_err(|error| LoadError::World(text(&error)))?;
        let prepared = Prepared { pre, wasi };
        let descriptor = self.describe(&prepared).await?;
        Ok((prepared, descriptor))
    }

    async fn describe(&self, prepared: &Prepared) -> Result<Descriptor, LoadError> {
        let _slot = self.describing.lock().await;
        let mut ctx = Ctx::bare(self.limits.clone());
        ctx.wasi = prepared.wasi.then(|| wasi::Wasi::new(0, 0));
        let (mut store, on_thread) = self.store(ctx);
        let charm = match on_thread.run(prepared.pre.instantiate_async(&mut store)).await {
            Ok(charm) => charm,
            Err(error) => {
                let fault = Fault::explain(&error, &store, &self.limits).message;
                // Its start functions ran into something, or the instance is more than the engine gives one.
                let ran = error.is::<Trap>();
                return Err(if ran { LoadError::Describe(fault) } else { LoadError::Limit(fault) });
            }
        };
        let told = match on_thread.run(charm.call_describe(&mut store)).await {
            Ok(told) => told,
            Err(error) => return Err(LoadError::Describe(Fault::explain(&error, &store, &self.limits).message)),
        };
        let describe = |why: String| LoadError::Describe(clip(&why, 512).into_owned());
        if told.tags.len() > DECLARATIONS_MAX {
            return Err(describe(format!("more than {DECLARATIONS_MAX} tags")));
        }
        told.tags.iter().try_for_each(|tag| check_tag(tag)).map_err(describe)?;
        let pairs = |list: Vec<super::bindings::charm::host::discovery::Declaration>| {
            list.into_iter().map(|declaration| (declaration.name, declaration.shape))
        };
        Ok(Descriptor {
            tags: told.tags,
            cells: declarations("cell", pairs(told.cells)).map_err(describe)?,
            streams: declarations("stream", pairs(told.streams)).map_err(describe)?,
        })
    }
}
