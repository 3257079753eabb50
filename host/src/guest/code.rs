//! From the bytes of a component to its code: found in the code cache, or compiled into it by whom the embedder named.
//!
//! Where there is a cache the engine that runs charms has no compiler: what the cache does not have is an error there
//! and never a compilation by accident.

use std::{
    borrow::Cow,
    hash::{Hash as _, Hasher},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::Engine as _;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::{Cache, CacheConfig, Engine, component::Component};

use super::{
    Compiler, LoadError,
    code_cache::Scratch,
    config::{compiling, running},
    helper,
};
use crate::{env::Env, limits::Limits, record::Hash, text::clip};

/// How often a component is compiled before the host gives up to find it in the cache: others may tidy there.
const ATTEMPTS: usize = 2;
/// How a component begins.
const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Gets the code of components.
pub struct Code {
    engine: Engine,
    cache: Option<CodeCache>,
    compiler: Option<Compiler>,
    limits: Arc<Limits>,
    /// Compilations that may run now.
    slots: Semaphore,
}

struct CodeCache {
    folder: PathBuf,
    inner: Cache,
    /// One look-up at a time: the cache counts what it finds, and that tells a hit.
    looking: Mutex<()>,
}

impl CodeCache {
    fn open(folder: &Path) -> wasmtime::Result<CodeCache> {
        let mut config = CacheConfig::new();
        // Nothing is compressed again later: that would be work of minutes in the host's process.
        let level = config.baseline_compression_level();
        config.with_directory(folder).with_optimized_compression_level(level);
        Ok(CodeCache { folder: folder.to_owned(), inner: Cache::new(config)?, looking: Mutex::new(()) })
    }
}

impl Code {
    /// Starts the engine that runs charms; `folder` is absolute and checked.
    ///
    /// # Errors
    /// When the limits do not fit the machine, or a helper has no folder.
    pub fn start(limits: Arc<Limits>, folder: Option<&Path>, compiler: Option<Compiler>) -> wasmtime::Result<Code> {
        if folder.is_none() && matches!(compiler, Some(Compiler::Helper(_))) {
            wasmtime::bail!("a helper compiles into a code cache: name its folder");
        }
        let cache = folder.map(CodeCache::open).transpose()?;
        let compiles = cache.is_none() && compiler == Some(Compiler::InProcess);
        let engine = Engine::new(&running(&limits, cache.as_ref().map(|cache| cache.inner.clone()), compiles)?)?;
        let slots = Semaphore::new(limits.compiles_max);
        Ok(Code { engine, cache, compiler, limits, slots })
    }

    /// Returns the engine that runs charms.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the code of a component whose SHA-256 is `hash`.
    ///
    /// # Errors
    /// `NoCompiler`, `Compiler`, `Malformed`, `Limit`.
    pub async fn component(
        self: &Arc<Code>,
        env: &dyn Env,
        bytes: Arc<[u8]>,
        hash: Hash,
    ) -> Result<Component, LoadError> {
        if let Some(why) = no_component(&bytes) {
            return Err(LoadError::Malformed(why.to_owned()));
        }
        let (code, wait) = (self.clone(), || async { self.slots.acquire().await.map_err(|_| failed()) });
        match (&self.compiler, &self.cache) {
            (Some(Compiler::InProcess), _) => {
                let _slot = wait().await?;
                block(env, move || code.in_process(&bytes, &hash)).await
            }
            (None, None) => Err(LoadError::NoCompiler),
            (None, Some(_)) => match block(env, move || code.look_up(&hash)).await? {
                Some(component) => Ok(component),
                None => Err(LoadError::NoCompiler),
            },
            (Some(Compiler::Helper(program)), _) => {
                let look_up = || {
                    let code = self.clone();
                    block(env, move || code.look_up(&hash))
                };
                if let Some(component) = look_up().await? {
                    return Ok(component);
                }
                let _slot = wait().await?;
                for _ in 0..ATTEMPTS {
                    // Another install may have had it compiled meanwhile.
                    if let Some(component) = look_up().await? {
                        return Ok(component);
                    }
                    let code = self.clone();
                    let scratch = block(env, move || code.scratch()).await?;
                    let scratch = helper::compile(env, program, scratch, &self.limits, bytes.clone()).await?;
                    let code = self.clone();
                    block(env, move || code.keep(scratch, &hash)).await?;
                }
                look_up().await?.ok_or_else(lost)
            }
        }
    }

    fn in_process(&self, bytes: &[u8], hash: &Hash) -> Result<Component, LoadError> {
        if self.cache.is_none() {
            return Component::new(&self.engine, bytes).map_err(|error| refused(&error, &self.limits));
        }
        for _ in 0..ATTEMPTS {
            if let Some(component) = self.look_up(hash)? {
                return Ok(component);
            }
            let scratch = self.scratch()?;
            compile_into(scratch.path(), &self.limits, bytes, true)?;
            self.keep(scratch, hash)?;
        }
        self.look_up(hash)?.ok_or_else(lost)
    }

    /// Returns what the cache has.
    fn look_up(&self, hash: &Hash) -> Result<Option<Component>, LoadError> {
        let Some(cache) = &self.cache else { return Ok(None) };
        let _one = cache.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let hits = cache.inner.cache_hits();
        match Component::from_binary(&self.engine, &stand_in(hash)) {
            Ok(component) => Ok(Some(component)),
            // It is there, and instances of it are more than the engine gives one.
            Err(error) if cache.inner.cache_hits() > hits => Err(refused(&error, &self.limits)),
            // The engine wants to compile, and cannot.
            Err(_) => Ok(None),
        }
    }

    fn scratch(&self) -> Result<Scratch, LoadError> {
        let folder = self.cache.as_ref().map_or(Path::new(""), |cache| &cache.folder);
        Scratch::new(folder).map_err(|error| unusable(&error))
    }

    fn keep(&self, scratch: Scratch, hash: &Hash) -> Result<(), LoadError> {
        let Some(cache) = &self.cache else { return Ok(()) };
        scratch.keep(&cache.folder, &key(&self.engine, &stand_in(hash))).map_err(|error| match error.kind() {
            // Whoever compiled it could not write it.
            std::io::ErrorKind::NotFound => lost(),
            _ => unusable(&error),
        })
    }
}

/// Works where blocking hurts nobody.
async fn block<T: Send + 'static>(
    env: &dyn Env,
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    env.block(Box::new(move || drop(sender.send(work())))).await;
    receiver.await.unwrap_or_else(|_| Err(failed()))
}

/// Compiles a component into a folder that is laid out like a code cache.
///
/// # Errors
/// `Malformed`; `Limit` when the code is too much.
pub fn compile_into(folder: &Path, limits: &Limits, bytes: &[u8], parallel: bool) -> Result<(), LoadError> {
    let compile = || {
        let mut cache = CacheConfig::new();
        cache.with_directory(folder);
        let engine = Engine::new(&compiling(limits, Cache::new(cache)?, parallel)?)?;
        Component::new(&engine, bytes)
    };
    let component = compile().map_err(|error| refused(&error, limits))?;
    let (image, max) = (component.image_range(), limits.compiled_bytes_max);
    let size = image.end.addr() - image.start.addr();
    if size > max {
        return Err(LoadError::Limit(format!("compiled-bytes-max {max}: its code has {size} bytes")));
    }
    Ok(())
}

/// Returns what the engine takes for a component: it is found in the cache by these bytes and never looked at. So a
/// component is known by its hash.
fn stand_in(hash: &Hash) -> Vec<u8> {
    [&HEADER[..], hash].concat()
}

/// Returns the name of the entry that the engine's cache looks for.
fn key(engine: &Engine, component: &[u8]) -> String {
    struct Feed(Sha256);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut feed = Feed(Sha256::new());
    // As `wasmtime` does: the settings, the bytes, and two things that are not used here.
    let state = (engine.precompile_compatibility_hash(), Cow::Borrowed(component), None::<&[u8]>, None::<&str>);
    state.hash(&mut feed);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(feed.0.finalize())
}

fn failed() -> LoadError {
    LoadError::Malformed("the compiler failed on it".to_owned())
}

fn lost() -> LoadError {
    LoadError::Compiler("the code cache does not keep what is compiled: make room on its disk".to_owned())
}

fn unusable(error: &std::io::Error) -> LoadError {
    LoadError::Compiler(format!("code cache: {}", clip(&error.to_string(), 256)))
}

/// Says what bytes are that are clearly something else than a component: the engine's words for that are those of its
/// parser.
fn no_component(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("it is empty"),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Some("it is a core module: make a component of it, as `charm build` does, or wasm-tools component new")
        }
        [0, b'a', b's', b'm', ..] => None,
        text if text.trim_ascii_start().starts_with(b"(") => {
            Some("it is text: make a binary component of it, as wasm-tools parse does")
        }
        _ => Some("it is no WebAssembly"),
    }
}

/// Says what the engine has against a component.
fn refused(error: &wasmtime::Error, limits: &Limits) -> LoadError {
    let text = clip(&format!("{error:#}"), 512).into_owned();
    if text.contains("minimum byte size") {
        LoadError::Limit(format!("memory-bytes-max {}: {text}", limits.memory_bytes_max))
    } else if text.contains("minimum element size") {
        LoadError::Limit(format!("table-elements-max {}: {text}", limits.table_elements_max))
    } else if text.contains("pooling allocator") {
        LoadError::Limit(text)
    } else {
        LoadError::Malformed(nameless(error))
    }
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
