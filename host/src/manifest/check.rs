//! What a manifest would be refused for, all of it, and what is allowed in it and looks wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::{CharmSpec, Files, GrantSpec, Manifest, ManifestError, nobody, parse_did};
use crate::{
    did::Did,
    directory::ungrantable,
    host::{Description, Host, InstallError},
    listing::SpaceInfo,
    text::clip,
};

/// Something that [`Manifest::check`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether [`Manifest::install`] refuses the manifest for it; else it looks wrong.
    pub is_refused: bool,
    /// Of whom it is, what, and what to do.
    pub text: String,
}

impl Manifest {
    /// Finds all that [`Manifest::install`] would refuse, and what it takes and looks wrong. Installs nothing: any host
    /// does, for its limits and its compiler. `spaces` are those of the store that the manifest is for, as far as there is
    /// one ([`crate::Archive::spaces`]). Keys are not looked at.
    pub async fn check(&self, host: &Host, spaces: &[SpaceInfo]) -> Vec<Finding> {
        let mut look = Look { manifest: self, spaces, described: BTreeMap::new(), found: Vec::new() };
        let mut files = Files::new(host);
        for (name, spec) in &self.charms {
            match look.describe(name, spec, &mut files).await {
                Ok(description) => drop(look.described.insert(name, description)),
                Err(error) => look.refused(error.to_string()),
            }
        }
        for (name, spec) in &self.charms {
            look.http(name, spec);
            look.grants(name, &spec.grant);
            look.wishes(name, spec);
        }
        for (holder, spec) in &self.outside {
            match parse_did(holder, holder) {
                Err(error) => look.refused(error.to_string()),
                Ok(did) if look.name_of(&did).is_some() => {
                    look.grant(holder, "is a charm: write its grants where the charm stands".to_owned());
                }
                Ok(_) => {}
            }
            if spec.grant.is_empty() {
                look.odd(format!("outside {}: is granted nothing", clip(holder, 128)));
            }
            look.grants(holder, &spec.grant);
        }
        look.found
    }
}

/// One look at a manifest.
struct Look<'a> {
    manifest: &'a Manifest,
    spaces: &'a [SpaceInfo],
    /// Those of its charms that are as they should be.
    described: BTreeMap<&'a str, Description>,
    found: Vec<Finding>,
}

impl Look<'_> {
    fn refused(&mut self, text: String) {
        self.found.push(Finding { is_refused: true, text });
    }

    fn grant(&mut self, holder: &str, why: String) {
        self.refused(InstallError::Grant { charm: clip(holder, 128).into_owned(), why }.to_string());
    }

    fn odd(&mut self, text: String) {
        self.found.push(Finding { is_refused: false, text });
    }

    async fn describe<'f>(
        &self,
        name: &str,
        spec: &'f CharmSpec,
        files: &mut Files<'f>,
    ) -> Result<Description, ManifestError> {
        let description = files.describe(name, spec).await?;
        if let Some(wanted) = spec.did.as_ref().map(|did| parse_did(name, did)).transpose()? {
            let charm = name.to_owned();
            let space = |is: &dyn Fn(&SpaceInfo) -> bool| self.spaces.iter().find(|space| is(space));
            match (space(&|space| space.name == name), space(&|space| space.did == wanted)) {
                (Some(here), _) if here.did != wanted => {
                    return Err(InstallError::OtherDid { charm, wanted, found: here.did }.into());
                }
                (None, Some(other)) => {
                    let name = other.name.clone();
                    return Err(InstallError::OtherName { charm, did: wanted, name }.into());
                }
                _ => {}
            }
        }
        Ok(description)
    }

    /// Returns the name of the charm that has a DID in the store or by its pin.
    fn name_of(&self, did: &Did) -> Option<String> {
        let text = did.to_string();
        let pinned = self.manifest.charms.iter().find(|(_, spec)| spec.did.as_ref() == Some(&text));
        let stored = || self.spaces.iter().find(|space| space.did == *did).map(|space| space.name.clone());
        pinned.map(|(name, _)| name.clone()).or_else(stored)
    }

    fn http(&mut self, name: &str, spec: &CharmSpec) {
        let Some(description) = self.described.get(name) else { return };
        let asks = |interface: &str| description.imports.iter().any(|import| import.starts_with(interface));
        let (calls, wishes) = (asks("charm:host/http@"), asks("charm:host/discovery@"));
        if calls && spec.http.is_empty() {
            self.odd(format!("charm {name}: asks for HTTP and may call nobody: add http = [{{ origin, methods }}]"));
        }
        if !calls && !spec.http.is_empty() {
            self.odd(format!("charm {name}: may call others by HTTP and never asks for it: leave http out"));
        }
        if wishes && spec.grant.is_empty() {
            self.odd(format!("charm {name}: wishes for other charms and is granted nothing: it finds itself only"));
        }
    }

    fn wishes(&mut self, holder: &str, spec: &CharmSpec) {
        for (tag, word) in &spec.wishes {
            let shown = clip(tag, 128);
            let owner = match (self.manifest.charms.contains_key(word), word.parse::<Did>()) {
                (true, _) => word.clone(),
                (false, Ok(did)) => self.name_of(&did).unwrap_or_default(),
                (false, Err(error)) => {
                    let why = nobody(word, &error, self.manifest.charms.keys());
                    self.grant(holder, format!("wishes: {shown} {why}"));
                    continue;
                }
            };
            let publishes = self.described.get(owner.as_str()).map(|about| about.descriptor.tags.contains(tag));
            if publishes == Some(false) {
                self.grant(holder, format!("wishes: {owner} does not publish {shown}"));
            }
            let granted = |grant: &GrantSpec| grant.charm == *word || grant.charm == owner;
            if owner != holder && !spec.grant.iter().any(granted) {
                self.odd(format!("charm {holder}: wishes: {shown} is pinned to {owner}, of which nothing is granted"));
            }
        }
    }

    fn grants(&mut self, holder: &str, grants: &[GrantSpec]) {
        let mut named = BTreeSet::new();
        for (number, grant) in (1..).zip(grants) {
            let shown = clip(&grant.charm, 128).into_owned();
            let about = |holder: &str, what: &str| format!("charm {}: grant: {what}", clip(holder, 128));
            let by_name = self.manifest.charms.contains_key(&grant.charm).then(|| grant.charm.clone());
            let owner = match (by_name, grant.charm.parse::<Did>()) {
                (Some(name), _) => name,
                (None, Ok(did)) => match self.name_of(&did) {
                    Some(name) => name,
                    None => {
                        self.odd(about(holder, &format!("{shown} is no charm of this store: it cannot be checked")));
                        continue;
                    }
                },
                (None, Err(error)) => {
                    let names = self.manifest.charms.keys();
                    let why = format!("grant number {number} {}", nobody(&grant.charm, &error, names));
                    self.grant(holder, why);
                    continue;
                }
            };
            let description = self.described.get(owner.as_str()).map(|description| description.descriptor.clone());
            if grant.read.is_empty() && grant.send.is_empty() {
                self.odd(about(holder, &format!("nothing of {shown} is granted: add read or send")));
            }
            if owner == holder {
                self.odd(about(holder, "a charm may do everything with its own: leave it out"));
            }
            if !self.manifest.charms.contains_key(&owner) {
                let what = format!("{shown} ({owner}) is not in this manifest: it cannot be checked");
                self.odd(about(holder, &what));
            }
            for (kind, names) in [("cell", &grant.read), ("stream", &grant.send)] {
                if !names.is_empty() && !named.insert((owner.clone(), kind)) {
                    self.grant(holder, format!("{shown} is named in two grants: merge them"));
                }
                let Some(descriptor) = &description else { continue };
                let all = names.iter().any(|name| name == "*");
                if all && descriptor.grantable(kind).next().is_none() {
                    self.odd(about(holder, &format!("{owner} has no {kind} that can be granted")));
                }
                for name in names.iter().filter(|_| !all) {
                    if let Some(why) = ungrantable(descriptor, kind, name) {
                        self.grant(holder, format!("{kind} {} of {owner} {why}", clip(name, 128)));
                    }
                }
            }
        }
    }
}
