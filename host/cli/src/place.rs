//! Where things are: the manifest, the store, and the charm that a word names.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use charm_host::{
    Archive, Compiler, Did, FileKeyring, FolderStore, Host, Manifest, ManifestError, Path as CellPath, Segment,
    SpaceInfo,
};

use tokio::time::Instant;

use crate::{
    Globals,
    deed::Deed,
    failure::{Exit, Failure},
    output::Output,
    socket::{self, Asked, Question},
};

const MANIFEST: &str = "charms.toml";
/// How often a store is tried that another command has.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Largest file of certificates, in bytes: those of all public authorities are some 200 KiB.
const CA_BYTES_MAX: u64 = 4 << 20;

/// Reads the manifest that `--manifest` names, or `charms.toml`; `--store` replaces its store.
///
/// # Errors
/// When it cannot be read.
pub fn manifest(globals: &Globals) -> Result<Manifest, Failure> {
    manifest_in(globals.manifest.as_deref().unwrap_or(Path::new(MANIFEST)), globals)
}

/// Reads this manifest; `--store` replaces its store.
///
/// # Errors
/// As `manifest`.
pub fn manifest_in(file: &Path, globals: &Globals) -> Result<Manifest, Failure> {
    let mut manifest = Manifest::load(file).map_err(|error| {
        let missing = matches!(&error, ManifestError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound);
        let failure = Failure::from(error);
        if missing {
            return Failure { error: format!("{}: name one with --manifest", failure.error), ..failure };
        }
        failure
    })?;
    if let Some(store) = &globals.store {
        manifest.store.clone_from(store);
    }
    Ok(manifest)
}

/// How long a command waits for others that have what it needs.
pub struct Patience<'a> {
    output: &'a Output,
    bound: Duration,
    end: Instant,
    said: Option<&'static str>,
}

impl<'a> Patience<'a> {
    /// Begins to wait, for as long as `--timeout` says.
    pub fn new(globals: &Globals, output: &'a Output) -> Patience<'a> {
        Patience::within(Duration::MAX, globals, output)
    }

    /// Begins to wait, for as long as `--timeout` says, and so long at most.
    pub fn within(most: Duration, globals: &Globals, output: &'a Output) -> Patience<'a> {
        let bound = Duration::from_secs(globals.timeout).min(most);
        Patience { output, bound, end: Instant::now() + bound, said: None }
    }

    /// Returns how long it is all together.
    pub fn bound(&self) -> Duration {
        self.bound
    }

    /// Returns whether it has come to its end.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Says what is waited for, once.
    pub fn say(&mut self, what: &'static str) {
        if self.said != Some(what) {
            self.said = Some(what);
            self.output.note(what);
        }
    }

    /// Waits a little before the next try.
    ///
    /// # Errors
    /// `failure` at the end of all patience.
    async fn pause(&mut self, what: &'static str, failure: Failure) -> Result<(), Failure> {
        if self.is_over() {
            return Err(Failure { error: format!("{} (after {} s)", failure.error, self.bound.as_secs()), ..failure });
        }
        self.say(what);
        tokio::time::sleep(TRY_AGAIN).await;
        Ok(())
    }

    /// Waits a little for the host that ends.
    ///
    /// # Errors
    /// That it still does at the end of all patience.
    pub async fn drains(&mut self) -> Result<(), Failure> {
        self.pause("host drains: waiting for its end", Failure::drains()).await
    }

    /// Waits a little for a command that has the store.
    ///
    /// # Errors
    /// `failure` at the end of all patience.
    pub async fn others(&mut self, failure: Failure) -> Result<(), Failure> {
        self.pause("another command has the store: waiting for its end", failure).await
    }
}

/// Opens the host of a manifest, without its charms, where no host runs: waits for one that ends, and for other commands.
///
/// # Errors
/// `store-in-use` and whatever else keeps a host from opening.
pub async fn host(manifest: &Manifest, patience: &mut Patience<'_>) -> Result<Host, Failure> {
    loop {
        let failure = match open(manifest).await {
            Err(failure) if failure.exit == Exit::InUse => failure,
            host => return host,
        };
        let ping = Question { deed: Deed::Ping, wait: false, settle_s: 0 };
        match socket::ask(&manifest.store, &ping, patience).await? {
            Asked::Nobody => patience.others(failure).await?,
            Asked::Drains => patience.drains().await?,
            Asked::Runs | Asked::Done(_) => return Err(failure),
        }
    }
}

/// Opens the host of a manifest, without its charms.
///
/// # Errors
/// `store-in-use` and whatever else keeps a host from opening.
pub async fn open(manifest: &Manifest) -> Result<Host, Failure> {
    let store = FolderStore::open(&manifest.store)?;
    let keyring = FileKeyring::open(&manifest.keys).map_err(|error| Failure::host(error.to_string()))?;
    // Components are compiled by this program again: see main.
    let helper = std::env::current_exe().map_err(|error| Failure::host(format!("cannot find myself: {error}")))?;
    let builder = Host::builder().store(store).keyring(keyring).compiler(Compiler::Helper(helper));
    let builder = builder.code_cache(absolute(&manifest.cache)?).ca(authorities(manifest)?);
    let builder = builder.limits(manifest.limits.clone());
    Ok(builder.open().await?)
}

/// Reads the certificates of authorities that are trusted beside the public ones: those of the manifest, and those of the
/// file that `SSL_CERT_FILE` names.
///
/// # Errors
/// When one of them cannot be read.
pub fn authorities(manifest: &Manifest) -> Result<Vec<u8>, Failure> {
    let file = std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from);
    let mut pem = Vec::new();
    for (what, file) in [("ca", manifest.ca.clone()), ("SSL_CERT_FILE", file)] {
        let Some(file) = file else { continue };
        let failed = |why: String| Failure::host(format!("{what} {}: {why}", file.display()));
        let opened = std::fs::File::open(&file).map_err(|error| failed(error.to_string()))?;
        let read = opened.take(CA_BYTES_MAX + 1).read_to_end(&mut pem).map_err(|error| failed(error.to_string()))?;
        if read as u64 > CA_BYTES_MAX {
            return Err(failed(format!("larger than {CA_BYTES_MAX} bytes")));
        }
        pem.push(b'\n');
    }
    Ok(pem)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::host(format!("{}: {error}", path.display())))
}

/// Opens the store for reading, also beside a running host.
///
/// # Errors
/// `not-found` when there is none yet.
pub fn archive(globals: &Globals) -> Result<Archive, Failure> {
    let store = match &globals.store {
        Some(store) => store.clone(),
        None => manifest(globals)?.store,
    };
    if !store.exists() {
        let what = store.display();
        return Err(Failure::not_found(format!("no store {what}: charm run makes one, --store names another")));
    }
    archive_of(&store)
}

/// Opens this store for reading.
///
/// # Errors
/// When it cannot be read.
pub fn archive_of(store: &Path) -> Result<Archive, Failure> {
    Ok(Archive::open(FolderStore::open_read_only(store)?)?)
}

/// Finds a space by name or DID.
///
/// # Errors
/// `not-found`, with the names there are.
pub fn space(spaces: &[SpaceInfo], word: &str) -> Result<SpaceInfo, Failure> {
    let did: Option<Did> = word.parse().ok();
    let found = spaces.iter().find(|space| space.name == word || Some(space.did) == did);
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = spaces.iter().map(|space| space.name.as_str()).filter(|name| is_charm(name)).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::not_found(format!("no charm {word} in this store; charms: {known}"))
    })
}

/// Tells a charm's space from the host's own, `@host` and `@operator`.
pub fn is_charm(name: &str) -> bool {
    !name.starts_with('@')
}

/// Splits `charm/stream`.
///
/// # Errors
/// `usage` when there is no slash.
pub fn stream(word: &str) -> Result<(&str, &str), Failure> {
    match word.split_once('/') {
        Some((charm, stream)) if !charm.is_empty() && !stream.is_empty() => Ok((charm, stream)),
        _ => Err(Failure::usage(format!("{word} names no stream: write CHARM/STREAM"))),
    }
}

/// Splits `charm/cell/path`. A cell whose name holds a slash stands in single quotes.
///
/// # Errors
/// `usage` when that is not what it is.
pub fn cell(word: &str) -> Result<(&str, String, CellPath), Failure> {
    let wrong = || Failure::usage(format!("{word} names no cell: write CHARM/CELL or CHARM/CELL/items/0/name"));
    let slash = word.find('/').ok_or_else(wrong)?;
    let (charm, rest) = word.split_at(slash);
    if charm.is_empty() {
        return Err(wrong());
    }
    let name = &rest[1..];
    if name.starts_with('\'') {
        let CellPath(mut steps) = rest.parse().map_err(|_| wrong())?;
        let Segment::Key(cell) = steps.remove(0) else { return Err(wrong()) };
        return Ok((charm, cell, CellPath(steps)));
    }
    // A name of digits is that name, no index.
    let (cell, path) = name.split_at(name.find('/').unwrap_or(name.len()));
    if cell.is_empty() {
        return Err(wrong());
    }
    Ok((charm, cell.to_owned(), path.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_charm_cell_and_path() {
        let (charm, name, path) = cell("did:key:z6Mk/'a/b'/items/0").expect("a cell");
        assert_eq!((charm, name.as_str(), path.to_string().as_str()), ("did:key:z6Mk", "a/b", "/items/0"));
        for name in ["007", "7", "+7", "00"] {
            assert_eq!(cell(&format!("bag/{name}")).expect(name).1, name, "a name is that name");
            assert_eq!(cell(&format!("bag/'{name}'")).expect(name).1, name);
        }
        for key in ["007", "00"] {
            let path = cell(&format!("bag/list/{key}")).expect(key).2;
            assert_eq!(path.to_string(), format!("/{key}"), "a key: an index has one spelling");
        }
        for word in ["", "a", "a/", "/b", "a//b", "a/'b", "a/'b'c"] {
            assert!(cell(word).is_err(), "{word}");
        }
    }
}
