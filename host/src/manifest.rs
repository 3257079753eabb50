//! `charms.toml`: which charms a host runs and what the operator allows each (D7, A3).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

mod check;
mod words;

pub use check::Finding;

use serde::Deserialize;

use crate::{
    charms::Candidate,
    component::Component,
    did::{Did, DidError},
    directory::{Entry, Names, Rights},
    guest::Loaded,
    host::{Charm, Checked, Description, Host, InstallError, Keep},
    http::HttpGrant,
    limits::{Limits, MANIFEST_BYTES_MAX},
    text::{clip, nearest, shown},
};

/// A manifest. Paths in it are relative to its folder. Unknown keys are errors. Every key: docs/manifest.md.
///
/// ```toml
/// store = "charm"                  # default
/// keys = "keys"                       # default
/// cache = "cache"                     # compiled code; default
/// ca = "company-ca.pem"               # optional: authorities that charms' HTTPS trusts beside the public ones
///
/// [limits]                            # those that differ from the defaults
/// fuel-max = 2000000000
///
/// [charm.google-auth]
/// component = "google-auth.wasm"
/// did = "did:key:z6Mk…"               # optional: refuse another one
/// sha256 = "9f86d081884c7d65…"        # optional: refuse another component
/// history-bytes = 67108864            # records of its commits that are kept; default 64 MiB
/// receipts-days = 30                  # how long receipts of events that it handled are kept; default
/// http = [{ origin = "https://oauth2.googleapis.com", methods = ["POST"] }]
///
/// [charm.gmail-search]
/// component = "gmail-search.wasm"
/// grant = [{ charm = "google-auth", read = ["token"], send = ["refresh-token"] }]
/// wishes = { "#google-auth" = "google-auth" }  # optional: of all that publish the tag it finds this one alone
/// ```
///
/// In a grant, `charm` is a name of this manifest or a DID, and `"*"` covers every cell, family or stream that the charm declares
/// and that is not private (A2). A family is granted as `NAME:`, with all its members (C8).
/// `[outside."did:key:z6Mk…"]` with a `grant` list lets someone outside read and send.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The store's file.
    #[serde(default = "default_store")]
    pub store: PathBuf,
    /// The keyring's folder.
    #[serde(default = "default_keys")]
    pub keys: PathBuf,
    /// The folder of compiled code.
    #[serde(default = "default_cache")]
    pub cache: PathBuf,
    /// A file with certificates of authorities that charms' HTTPS trusts beside the public ones, in PEM form.
    pub ca: Option<PathBuf>,
    /// Bounds of the host: give them to [`HostBuilder::limits`](crate::HostBuilder::limits).
    #[serde(default)]
    pub limits: Limits,
    /// Charms by name.
    #[serde(default, rename = "charm")]
    pub charms: BTreeMap<String, CharmSpec>,
    /// Rights of those outside, by DID.
    #[serde(default)]
    pub outside: BTreeMap<String, OutsideSpec>,
}

/// One charm of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table: [charm.NAME] with component = \"FILE.wasm\" below it")]
pub struct CharmSpec {
    /// The component's file.
    pub component: PathBuf,
    /// The DID that the store must have for it.
    pub did: Option<String>,
    /// The SHA-256 that the component must have, in hexadecimal.
    pub sha256: Option<String>,
    /// Records of its commits that are kept, in bytes (H1); else as the limits say.
    #[serde(rename = "history-bytes")]
    pub history_bytes: Option<u64>,
    /// How long the receipts of events that it handled are kept, in days (S9); else as the limits say.
    #[serde(rename = "receipts-days")]
    pub receipts_days: Option<u32>,
    /// What it may do with others.
    #[serde(default)]
    pub grant: Vec<GrantSpec>,
    /// What it may call outside.
    #[serde(default)]
    pub http: Vec<HttpSpec>,
    /// Of which charm alone it finds what publishes a tag: a name of this manifest or a DID, by tag.
    #[serde(default)]
    pub wishes: BTreeMap<String, String>,
}

/// Rights of someone outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table: [outside.\"DID\"] with a grant list below it")]
pub struct OutsideSpec {
    /// What they may do with charms.
    #[serde(default)]
    pub grant: Vec<GrantSpec>,
}

/// What a holder may do with one charm.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { charm = \"NAME\", read = [\"CELL\"], send = [\"STREAM\"] }")]
pub struct GrantSpec {
    /// Whose cells and streams: a name of this manifest or a DID.
    pub charm: String,
    /// Cells, and families of cells as `NAME:`.
    #[serde(default)]
    pub read: Vec<String>,
    /// Streams.
    #[serde(default)]
    pub send: Vec<String>,
}

/// What a charm may call outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { origin = \"https://HOST\", methods = [\"GET\"] }")]
pub struct HttpSpec {
    /// `scheme://host[:port]`.
    pub origin: String,
    /// Upper-case methods.
    pub methods: Vec<String>,
    /// Whether the name may resolve to a private address.
    #[serde(default)]
    pub private: bool,
}

fn default_store() -> PathBuf {
    "charm".into()
}

fn default_keys() -> PathBuf {
    "keys".into()
}

fn default_cache() -> PathBuf {
    "cache".into()
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file or a component cannot be read.
    #[error("{file}: {error}")]
    Io {
        /// Which.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, an unknown key, a missing one, or one of another type: with its line. Or a limit that no host can run with.
    #[error("{file}: {text}")]
    Malformed {
        /// The manifest.
        file: String,
        /// What and where, cut.
        text: String,
    },
    /// A charm is not installed.
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl Manifest {
    /// Reads a manifest; its paths become absolute or relative to the working folder.
    ///
    /// # Errors
    /// `Io`, `Malformed`.
    pub fn load(file: &Path) -> Result<Manifest, ManifestError> {
        let bytes = read(file, MANIFEST_BYTES_MAX)?
            .map_err(|_| malformed(file, &format!("larger than {MANIFEST_BYTES_MAX} bytes")))?;
        let text = String::from_utf8(bytes).map_err(|_| malformed(file, "not UTF-8"))?;
        if let Some(wrong) = words::no_table(&text) {
            return Err(malformed(file, &wrong));
        }
        let mut manifest: Manifest =
            toml::from_str(&text).map_err(|error| malformed(file, &words::explain(&text, &error)))?;
        manifest.limits.check().map_err(|error| malformed(file, &error.to_string()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let paths = [&mut manifest.store, &mut manifest.keys, &mut manifest.cache];
        for path in paths.into_iter().chain(&mut manifest.ca) {
            *path = folder.join(&*path);
        }
        for charm in manifest.charms.values_mut() {
            charm.component = folder.join(&charm.component);
        }
        Ok(manifest)
    }

    /// Installs every charm of the manifest with its grants, all at once: events that waited find everyone there.
    /// Names in grants may stand in any order. A charm whose key is lost is left out: it holds up itself only (I1). Returns
    /// the charms that are installed. What it does not grant, nobody has any more: neither those outside nor who was granted
    /// something one by one.
    ///
    /// # Errors
    /// `Io` for a component file, `Install`; none of the manifest is installed then.
    pub async fn install(&self, host: &Host) -> Result<BTreeMap<String, Did>, ManifestError> {
        let (mut files, mut checked) = (Files::new(host), Vec::with_capacity(self.charms.len()));
        for (name, spec) in &self.charms {
            checked.push(files.check(name, spec).await?);
        }
        let (mut dids, mut charms) = (BTreeMap::new(), Vec::with_capacity(checked.len()));
        for (admitted, (name, spec)) in host.admit(checked).await?.into_iter().zip(&self.charms) {
            let charm = match admitted {
                // Of one that the store knows others may hold grants; it holds up nobody but itself.
                Err(error @ InstallError::Key { .. }) if let Some(did) = host.did_of(name) => {
                    tracing::error!("{error}; the charm is not installed, and its events wait");
                    dids.insert(name.clone(), did);
                    continue;
                }
                admitted => admitted?,
            };
            dids.insert(name.clone(), charm.entry.did);
            charms.push((charm, spec));
        }
        let directory = host.directory();
        let admitted: HashMap<Did, &Entry> = charms.iter().map(|(charm, _)| (charm.entry.did, &charm.entry)).collect();
        let owner = |did: &Did| admitted.get(did).copied().or_else(|| directory.get(did).map(Arc::as_ref));
        let no_wishes = BTreeMap::new();
        let rights = |holder: &str, grants: &[GrantSpec], wishes| -> Result<Rights, InstallError> {
            let (read, send) = rights(holder, grants, &dids)?;
            let wishes = pins(holder, wishes, &dids)?;
            let rights = Rights { read: read.into_iter().collect(), send: send.into_iter().collect(), wishes };
            let grant = |why| InstallError::Grant { charm: clip(holder, 128).into_owned(), why };
            rights.check(owner).map_err(grant)?;
            Ok(rights)
        };
        let granted = charms.iter().map(|(charm, spec)| rights(&charm.entry.name, &spec.grant, &spec.wishes));
        let granted = granted.collect::<Result<Vec<_>, _>>()?;
        let mut outside = Vec::new();
        for (holder, spec) in &self.outside {
            let did = parse_did(holder, holder)?;
            if owner(&did).is_some() {
                let why = "is a charm: write its grants where the charm stands".to_owned();
                return Err(InstallError::Grant { charm: clip(holder, 128).into_owned(), why }.into());
            }
            outside.push((did, rights(holder, &spec.grant, &no_wishes)?));
        }
        let charms = charms.into_iter().zip(granted);
        let charms = charms.map(|((charm, _), rights)| Candidate { entry: charm.entry.with_rights(rights), ..charm });
        let charms: Vec<Candidate> = charms.collect();
        let installed: HashSet<Did> = charms.iter().map(|charm| charm.entry.did).collect();
        dids.retain(|_, did| installed.contains(did));
        host.activate(charms, Some(outside)).await?;
        Ok(dids)
    }
}

impl CharmSpec {
    /// Returns how much of its past is kept, by a host with these limits.
    pub fn keep(&self, limits: &Limits) -> Keep {
        let history_bytes = self.history_bytes.unwrap_or(limits.history_bytes_max);
        let receipts_ms = self.receipts_days.map_or(limits.receipts_ms, |days| u64::from(days) * Keep::DAY_MS);
        Keep { history_bytes, receipts_ms }
    }

    /// Returns the charm with what the operator allows it, but for what it may do with others.
    fn charm(&self, name: &str, component: Component, limits: &Limits) -> Result<Charm, ManifestError> {
        let mut charm = Charm::new(name, component);
        if let Some(hash) = &self.sha256 {
            charm = charm.sha256(parse_hash(name, hash)?);
        }
        if let Some(did) = &self.did {
            charm = charm.pinned(parse_did(name, did)?);
        }
        charm = charm.keep(self.keep(limits));
        for HttpSpec { origin, methods, private } in &self.http {
            let (origin, methods) = (origin.clone(), methods.clone());
            charm = charm.may_call(HttpGrant { origin, methods, private: *private });
        }
        Ok(charm)
    }
}

/// The component files of a manifest: each is read once.
struct Files<'a> {
    host: &'a Host,
    loaded: HashMap<&'a Path, (Arc<Loaded>, Component)>,
}

impl<'a> Files<'a> {
    fn new(host: &'a Host) -> Files<'a> {
        Files { host, loaded: HashMap::new() }
    }

    /// Checks a charm that is to be installed.
    async fn check(&mut self, name: &str, spec: &'a CharmSpec) -> Result<Checked, ManifestError> {
        let (charm, loaded) = self.charm(name, spec)?;
        let checked = self.host.check_charm(charm, loaded).await?;
        self.keep(&spec.component, &checked);
        Ok(checked)
    }

    /// Describes a charm, whatever DID the store has for it.
    async fn describe(&mut self, name: &str, spec: &'a CharmSpec) -> Result<Description, ManifestError> {
        let (charm, loaded) = self.charm(name, spec)?;
        let checked = self.host.load(charm, loaded).await?;
        self.keep(&spec.component, &checked);
        Ok(self.host.description(&checked.loaded))
    }

    fn keep(&mut self, file: &'a Path, checked: &Checked) {
        self.loaded.entry(file).or_insert_with(|| (checked.loaded.clone(), checked.component.clone()));
    }

    /// Returns a charm with its component's bytes, or loaded.
    fn charm(&self, name: &str, spec: &CharmSpec) -> Result<(Charm, Option<Arc<Loaded>>), ManifestError> {
        let limits = self.host.limits();
        if let Some((loaded, component)) = self.loaded.get(&*spec.component).cloned() {
            return Ok((spec.charm(name, component, limits)?, Some(loaded)));
        }
        let max = limits.component_bytes_max;
        match read(&spec.component, max)? {
            Ok(bytes) => Ok((spec.charm(name, bytes.into(), limits)?, None)),
            Err(bytes) => Err(InstallError::TooLarge { charm: name_of(name), bytes, max }.into()),
        }
    }
}

type RightsMap = BTreeMap<Did, Names>;

fn rights(
    holder: &str,
    grants: &[GrantSpec],
    dids: &BTreeMap<String, Did>,
) -> Result<(RightsMap, RightsMap), InstallError> {
    let (mut read, mut send) = (RightsMap::new(), RightsMap::new());
    for (number, grant) in (1..).zip(grants) {
        let owner = match dids.get(&grant.charm) {
            Some(did) => *did,
            None => grant.charm.parse().map_err(|error| InstallError::Grant {
                charm: clip(holder, 128).into_owned(),
                why: format!("grant number {number} {}", nobody(&grant.charm, &error, dids.keys())),
            })?,
        };
        for (map, names) in [(&mut read, &grant.read), (&mut send, &grant.send)] {
            if names.is_empty() {
                continue;
            }
            let names = if names.iter().any(|name| name == "*") {
                Names::All
            } else {
                Names::Only(names.iter().cloned().collect::<BTreeSet<_>>())
            };
            if map.insert(owner, names).is_some() {
                let why = format!("{} is named in two grants: merge them", clip(&grant.charm, 128));
                return Err(InstallError::Grant { charm: clip(holder, 128).into_owned(), why });
            }
        }
    }
    Ok((read, send))
}

/// Returns which charm alone is found by which tag.
fn pins(
    holder: &str,
    wishes: &BTreeMap<String, String>,
    dids: &BTreeMap<String, Did>,
) -> Result<BTreeMap<String, Did>, InstallError> {
    let owner = |(tag, word): (&String, &String)| match dids.get(word) {
        Some(did) => Ok((tag.clone(), *did)),
        None => word.parse().map(|did| (tag.clone(), did)).map_err(|error| InstallError::Grant {
            charm: name_of(holder),
            why: format!("wishes: {} {}", clip(tag, 128), nobody(word, &error, dids.keys())),
        }),
    };
    wishes.iter().map(owner).collect()
}

/// Says that a grant names nobody. What has neither the form of a name nor of a DID may be a secret in the wrong place.
fn nobody<'a>(word: &str, error: &DidError, names: impl Iterator<Item = &'a String>) -> String {
    if word.starts_with("did:") {
        return format!("names {}: {error}", clip(word, 128));
    }
    let is_name = word.len() <= 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let shown = if is_name { format!(" {word},") } else { String::new() };
    let names: Vec<&str> = names.map(String::as_str).collect();
    let meant = nearest(word, names.iter().copied()).map(|name| format!("; did you mean {}?", clip(name, 64)));
    let (names, meant) = (names.join(", "), meant.unwrap_or_default());
    format!("names{shown} neither a charm of this manifest nor a DID; its charms: {}{meant}", clip(&names, 256))
}

fn parse_did(charm: &str, text: &str) -> Result<Did, InstallError> {
    // What does not even begin like a DID may be a secret key in the wrong place.
    let is_public = text.starts_with("did:") || text.starts_with("z6Mk");
    text.parse().map_err(|error: DidError| InstallError::Grant {
        charm: clip(charm, 128).into_owned(),
        why: format!("did {}: {error}", if is_public { clip(text, 128) } else { "(not shown)".into() }),
    })
}

fn parse_hash(charm: &str, text: &str) -> Result<[u8; 32], InstallError> {
    let mut hash = [0; 32];
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        let digits = if is_hex { text.get(at..at + 2) } else { None };
        *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(|| {
            let why = "sha256: write the 64 hexadecimal digits that sha256sum prints of the component".to_owned();
            InstallError::Grant { charm: name_of(charm), why }
        })?;
    }
    Ok(hash)
}

fn name_of(charm: &str) -> String {
    clip(charm, 128).into_owned()
}

/// Reads a file; of one that is larger than `bytes_max` its size, and no more of it than that.
fn read(file: &Path, bytes_max: usize) -> Result<Result<Vec<u8>, usize>, ManifestError> {
    let io = |error| ManifestError::Io { file: shown(file), error };
    let open = std::fs::File::open(file).map_err(io)?;
    let size = open.metadata().map_err(io)?.len();
    if size > bytes_max as u64 {
        return Ok(Err(usize::try_from(size).unwrap_or(usize::MAX)));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // It may grow meanwhile, or be no file that has a size.
    open.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(if bytes.len() > bytes_max { Err(bytes.len()) } else { Ok(bytes) })
}

fn malformed(file: &Path, text: &str) -> ManifestError {
    ManifestError::Malformed { file: shown(file), text: clip(text, 384).into_owned() }
}
