//! `charm describe`: what a charm is, offers, asks for and is given.

use std::{collections::BTreeMap, fs, path::Path};

use charm_host::{CharmSpec, GrantSpec, HttpSpec, Limits, Manifest};
use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    author::{self, Offer},
    failure::{Exit, Failure},
    output::{Output, table},
    place,
};

/// Describes a component, or a charm of the manifest with its rights and those of others over it: tags, cells, families and streams
/// with their shapes, and the interfaces that it imports, which is what it asks for.
#[derive(Args)]
pub struct Describe {
    /// The file of a component, or a charm of the manifest by name or DID
    #[arg(value_name = "FILE|CHARM")]
    what: String,
}

#[derive(Serialize)]
struct Described {
    file: String,
    bytes: usize,
    sha256: String,
    tags: Vec<String>,
    imports: Vec<String>,
    cells: Vec<Offer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    families: Vec<Offer>,
    streams: Vec<Offer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rights: Option<Rights>,
}

/// What the manifest gives it, and others over it.
#[derive(Serialize)]
struct Rights {
    http: Vec<Http>,
    grants: Vec<Grant>,
    granted: Vec<Grant>,
    /// Which charm alone it finds by a tag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    wishes: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Http {
    origin: String,
    methods: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    private: bool,
}

/// What one charm may do with another, or someone outside with it.
#[derive(Serialize)]
struct Grant {
    charm: String,
    read: Vec<String>,
    send: Vec<String>,
}

impl Describe {
    pub async fn run(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        let file = Path::new(&self.what);
        let (name, file, rights, limits) = if file.is_file() {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, file.to_owned(), None, Limits::default())
        } else if file.components().count() > 1 || file.extension().is_some() {
            return Err(Failure::not_found(format!("no file {}", file.display())));
        } else {
            let manifest = place::manifest(globals)?;
            let (name, spec) = find(&manifest, &self.what, globals)?;
            let rights = rights(&manifest, name, spec);
            (name.clone(), spec.component.clone(), Some(rights), manifest.limits.clone())
        };
        let component = fs::read(&file).map_err(|error| Failure::not_found(format!("{}: {error}", file.display())))?;
        let (bytes, description) = (component.len(), author::describe(&name, component, limits).await?);
        let descriptor = description.descriptor;
        let described = Described {
            file: file.display().to_string(),
            bytes,
            sha256: author::hex(&description.sha256),
            tags: descriptor.tags.clone(),
            imports: description.imports,
            cells: descriptor.cells.iter().map(Offer::new).collect(),
            families: descriptor.families.iter().map(Offer::new).collect(),
            streams: descriptor.streams.iter().map(Offer::new).collect(),
            rights,
        };
        output.print(&described, || described.lines())?;
        Ok(Exit::Done)
    }
}

/// Finds a charm of the manifest.
fn find<'a>(manifest: &'a Manifest, word: &str, globals: &Globals) -> Result<(&'a String, &'a CharmSpec), Failure> {
    let pinned = |(name, spec): &(&String, &CharmSpec)| *name == word || spec.did.as_deref() == Some(word);
    if let Some(found) = manifest.charms.iter().find(pinned) {
        return Ok(found);
    }
    let stored = if manifest.store.exists() { place::archive(globals)?.spaces() } else { Vec::new() };
    let stored = stored.into_iter().find(|space| space.name == word || space.did.to_string() == word);
    if let Some(found) = stored.as_ref().and_then(|space| manifest.charms.get_key_value(&space.name)) {
        return Ok(found);
    }
    let names: Vec<&str> = manifest.charms.keys().map(String::as_str).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let why = match stored {
        Some(space) => {
            format!("{} is in the store and not in the manifest: name the file of its component", space.name)
        }
        None => format!("no charm {word} in the manifest, and no such file"),
    };
    Err(Failure::not_found(format!("{why}; charms: {names}")))
}

fn rights(manifest: &Manifest, name: &str, spec: &CharmSpec) -> Rights {
    let http = |HttpSpec { origin, methods, private, .. }: &HttpSpec| Http {
        origin: origin.clone(),
        methods: methods.clone(),
        private: *private,
    };
    let grant = |charm: &str, grant: &GrantSpec| Grant {
        charm: charm.to_owned(),
        read: grant.read.clone(),
        send: grant.send.clone(),
    };
    let charms = manifest.charms.iter().map(|(holder, spec)| (holder, &spec.grant));
    let holders = charms.chain(manifest.outside.iter().map(|(holder, spec)| (holder, &spec.grant)));
    let is_its = |given: &&GrantSpec| given.charm == name || spec.did.as_ref() == Some(&given.charm);
    Rights {
        http: spec.http.iter().map(http).collect(),
        grants: spec.grant.iter().map(|given| grant(&given.charm, given)).collect(),
        granted: holders
            .flat_map(|(holder, grants)| grants.iter().filter(is_its).map(move |given| grant(holder, given)))
            .collect(),
        wishes: spec.wishes.clone(),
    }
}

impl Grant {
    /// What may be done, with what stands before and after each kind.
    fn says(&self) -> String {
        let of = |verb: &str, names: &[String]| (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")));
        let said: Vec<String> = [of("read", &self.read), of("send", &self.send)].into_iter().flatten().collect();
        if said.is_empty() { "nothing".to_owned() } else { said.join("; ") }
    }
}

impl Described {
    fn lines(&self) -> Vec<String> {
        let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        let mut lines = vec![
            format!("{}: {} bytes, sha256 {}", self.file, self.bytes, self.sha256),
            format!("tags: {}", or_none(&self.tags)),
            format!("asks for: {}", or_none(&self.imports)),
        ];
        if let Some(rights) = &self.rights {
            let http = rights.http.iter().map(|http| {
                let private = if http.private { ", private addresses too" } else { "" };
                format!("may call {}: {}{private}", http.origin, http.methods.join(", "))
            });
            lines.extend(http);
            lines.extend(rights.grants.iter().map(|grant| format!("may with {}: {}", grant.charm, grant.says())));
            lines.extend(rights.wishes.iter().map(|(tag, owner)| format!("finds {owner} alone by {tag}")));
            lines.extend(rights.granted.iter().map(|grant| format!("lets {}: {}", grant.charm, grant.says())));
        }
        // A family is named as grants name it.
        let kinds = [("CELL", "", &self.cells), ("FAMILY", ":", &self.families), ("STREAM", "", &self.streams)];
        for (head, end, offers) in kinds {
            if !offers.is_empty() {
                let row = |offer: &Offer| [offer.name.clone() + end, offer.whose().to_owned(), offer.shape.clone()];
                lines.extend(table([head, "ACCESS", "SHAPE"], offers.iter().map(row).collect()));
            }
        }
        lines
    }
}
