//! What the operator lets one holder do: given with an install or a manifest, or one by one and kept in the store.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Entry, granted::Granted};
use crate::{
    cell::{FAMILY_END, family_of},
    descriptor::{Descriptor, check_tag},
    did::Did,
    http::HttpGrant,
    text::{clip, nearest},
};

/// The first byte of what is kept of rights.
const VERSION: u8 = 1;
/// What is said of bytes that are no rights of any version.
const MALFORMED: &str = "are malformed: restore the store from a backup";

/// Names of cells or streams that a grant covers. A family of cells is named `NAME:`: what the author makes of a name later
/// widens no grant that names it, and all of them are what the author makes public at any time (A2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Names {
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Names {
    /// Returns these names.
    pub fn only<Name: Into<String>>(names: impl IntoIterator<Item = Name>) -> Names {
        Names::Only(names.into_iter().map(Into::into).collect())
    }

    /// Adds names.
    pub(super) fn add(&mut self, more: &Names) {
        match (&mut *self, more) {
            (Names::Only(mine), Names::Only(more)) => mine.extend(more.iter().cloned()),
            _ => *self = Names::All,
        }
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        match self {
            Names::All => true,
            Names::Only(names) => names.contains(name),
        }
    }
}

/// What the operator lets one holder do with the charms of others. It holds for what they declare and is not private
/// (A2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Cells that may be read, by owner.
    pub read: Granted,
    /// Streams that may be sent to, by owner.
    pub send: Granted,
    /// Tags of which one charm alone is found (D7).
    pub wishes: BTreeMap<String, Did>,
}

impl Rights {
    /// Returns what either allows; of two pins of a tag the latter.
    pub fn with(mut self, more: &Rights) -> Rights {
        for (mine, theirs) in [(&mut self.read, &more.read), (&mut self.send, &more.send)] {
            theirs.iter().for_each(|(owner, names)| mine.add(*owner, names));
        }
        self.wishes.extend(more.wishes.iter().map(|(tag, owner)| (tag.clone(), *owner)));
        self
    }

    /// Checks that every name is one that its owner declares and that can be granted, as far as the owner is known;
    /// the error names the first that is not.
    pub fn check<'a>(&self, owner: impl Fn(&Did) -> Option<&'a Entry>) -> Result<(), String> {
        for (map, kind) in [(&self.read, "cell"), (&self.send, "stream")] {
            for (did, names) in map.iter() {
                let (Some(owner), Names::Only(names)) = (owner(did), names) else { continue };
                let refused = names.iter().filter_map(|name| Some((name, ungrantable(&owner.descriptor, kind, name)?)));
                if let Some((name, why)) = refused.min() {
                    return Err(format!("{kind} {} of {} ({did}) {why}", clip(name, 128), owner.name));
                }
            }
        }
        for (tag, did) in &self.wishes {
            let shown = clip(tag, 128);
            check_tag(tag).map_err(|why| format!("wishes: {shown}: {why}"))?;
            if let Some(owner) = owner(did).filter(|owner| !owner.descriptor.tags.contains(tag)) {
                let tags = owner.descriptor.tags.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let tags = clip(&tags, 256);
                return Err(format!("wishes: {} ({did}) does not publish {shown}; it publishes: {tags}", owner.name));
            }
        }
        Ok(())
    }
}

/// Says why nobody can be granted a `cell` or `stream` of this name; none when it can be.
pub fn ungrantable(descriptor: &Descriptor, kind: &str, name: &str) -> Option<String> {
    match descriptor.granted(kind, name) {
        Some(declared) if declared.is_grantable() => None,
        Some(declared) if declared.receipts => Some("takes receipts from the host only".to_owned()),
        Some(_) => Some("is private: nobody can be granted it".to_owned()),
        None => {
            let family = family_of(name).unwrap_or(name);
            Some(match descriptor.families.get(family).filter(|_| kind == "cell") {
                Some(declared) if declared.is_grantable() => {
                    format!("is of a family, which is granted as a whole: {}{FAMILY_END}", clip(family, 128))
                }
                Some(_) => "is of a family that is private: nobody can be granted it".to_owned(),
                None => {
                    let can: Vec<_> = descriptor.grantable(kind).collect();
                    let meant = nearest(name, can.iter().map(String::as_str));
                    let meant = meant.map(|meant| format!("; did you mean {}?", clip(meant, 128))).unwrap_or_default();
                    format!("is not declared; what can be granted: {}{meant}", clip(&can.join(", "), 256))
                }
            })
        }
    }
}

/// One right that the operator gives: what `Host::grant` adds and `Host::revoke` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// To read cells of a charm.
    Read {
        /// The charm.
        owner: Did,
        /// Its cells, and families of them as `NAME:`.
        cells: Names,
    },
    /// To send to streams of a charm.
    Send {
        /// The charm.
        owner: Did,
        /// Its streams.
        streams: Names,
    },
    /// To make requests to an origin (A3).
    Call(HttpGrant),
    /// To find one charm alone when it wishes for a tag (D7). Gives nothing else of that charm.
    Wish {
        /// The tag, with its `#`.
        tag: String,
        /// The charm.
        owner: Did,
    },
}

impl Right {
    /// Adds it to what a holder has.
    pub fn add(self, rights: &mut Rights, http: &mut Vec<HttpGrant>) {
        let (map, owner, names) = match self {
            Right::Read { owner, cells } => (&mut rights.read, owner, cells),
            Right::Send { owner, streams } => (&mut rights.send, owner, streams),
            Right::Wish { tag, owner } => {
                rights.wishes.insert(tag, owner);
                return;
            }
            Right::Call(grant) => {
                let same = |had: &&mut HttpGrant| (&had.origin, had.private) == (&grant.origin, grant.private);
                match http.iter_mut().find(same) {
                    Some(had) => {
                        had.methods.extend(grant.methods);
                        had.methods.sort();
                        had.methods.dedup();
                    }
                    None => http.push(grant),
                }
                return;
            }
        };
        map.add(owner, &names);
    }

    /// Takes it from what a holder has; the error says why it cannot be taken alone.
    pub fn take(&self, rights: &mut Rights, http: &mut Vec<HttpGrant>) -> Result<(), String> {
        let (map, owner, names, kind) = match self {
            Right::Read { owner, cells } => (&mut rights.read, owner, cells, "cells"),
            Right::Send { owner, streams } => (&mut rights.send, owner, streams, "streams"),
            Right::Wish { tag, owner } => {
                if rights.wishes.get(tag) == Some(owner) {
                    rights.wishes.remove(tag);
                }
                return Ok(());
            }
            Right::Call(grant) => {
                for had in http.iter_mut().filter(|had| had.origin == grant.origin) {
                    had.methods.retain(|method| !grant.methods.contains(method));
                }
                http.retain(|had| !had.methods.is_empty());
                return Ok(());
            }
        };
        match (map.get_mut(owner), names) {
            (None, _) => {}
            (Some(Names::All), Names::Only(_)) => {
                return Err(format!(
                    "all {kind} of {owner} are granted at once: revoke that, and grant what is to stay"
                ));
            }
            (Some(Names::Only(had)), Names::Only(names)) => {
                had.retain(|name| !names.contains(name));
                if had.is_empty() {
                    map.remove(owner);
                }
            }
            (Some(_), Names::All) => map.remove(owner),
        }
        Ok(())
    }

    /// Returns a holder's rights one by one.
    pub fn list(rights: Rights, http: Vec<HttpGrant>) -> Vec<Right> {
        let read = rights.read.into_iter().map(|(owner, cells)| Right::Read { owner, cells });
        let send = rights.send.into_iter().map(|(owner, streams)| Right::Send { owner, streams });
        let wishes = rights.wishes.into_iter().map(|(tag, owner)| Right::Wish { tag, owner });
        read.chain(send).chain(wishes).chain(http.into_iter().map(Right::Call)).collect()
    }
}

/// What the operator decided about one DID: stands in the store beside the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What it may do with charms.
    pub rights: Rights,
    /// What it may call.
    pub http: Vec<HttpGrant>,
    /// It is a charm that was uninstalled.
    pub is_gone: bool,
}

impl Kept {
    /// Returns the bytes that the store keeps; none for nothing.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let bytes = postcard::to_stdvec(&(VERSION, self)).expect("rights hold nothing that postcard refuses");
        (*self != Kept::default()).then_some(bytes)
    }

    /// Reads what the store kept.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn from_bytes(bytes: &[u8]) -> Result<Kept, String> {
        match bytes.split_first() {
            Some((version, _)) if *version > VERSION => Err(format!(
                "are of version {version}, and this host reads version {VERSION}: \
                 use the host that wrote them, or a later one"
            )),
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| MALFORMED.to_owned()),
            _ => Err(MALFORMED.to_owned()),
        }
    }
}
