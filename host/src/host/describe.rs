//! What a component is, without installing it.

use std::sync::Arc;

use super::{Charm, Host, InstallError, check_charm_name, check_http_grant, load_error};
use crate::{
    component::Component,
    descriptor::Descriptor,
    did::Did,
    env::apart,
    guest::Loaded,
    http::HttpGrant,
    store::hex,
    tx::{Keep, Unavailable},
};

/// What a component tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it offers.
    pub descriptor: Arc<Descriptor>,
    /// The interfaces that it imports, like `charm:host/http@0.2.0`: what it asks of a host.
    pub imports: Vec<String>,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
}

/// A charm that is as it should be, and has no DID yet.
pub(crate) struct Checked {
    pub name: Arc<str>,
    /// The DID that it must have.
    pub did: Option<Did>,
    pub http: Vec<HttpGrant>,
    /// How much of its past is kept; none for the usual.
    pub keep: Option<Keep>,
    pub loaded: Arc<Loaded>,
    /// The same in bytes.
    pub component: Component,
}

impl Host {
    /// Checks a charm as [`Host::install`] does, but for what depends on other charms and on the store: its DID and what it
    /// may do with others. Installs nothing. Compiles a component that the code cache does not have.
    ///
    /// # Errors
    /// [`InstallError`].
    pub async fn describe(&self, charm: Charm) -> Result<Description, InstallError> {
        Ok(self.description(&self.load(charm, None).await?.loaded))
    }

    /// Returns what a component tells of itself.
    pub(crate) fn description(&self, loaded: &Loaded) -> Description {
        let (imports, descriptor) = (self.stage.guests.imports(loaded), loaded.descriptor.clone());
        Description { descriptor, imports, sha256: loaded.hash }
    }

    /// Checks a charm that is to be installed, and loads its component unless that is given.
    pub(crate) async fn check_charm(&self, charm: Charm, loaded: Option<Arc<Loaded>>) -> Result<Checked, InstallError> {
        self.check_open()?;
        self.known(&charm.name, charm.did)?;
        self.load(charm, loaded).await
    }

    /// As `check_charm`, whatever DID the store has for it.
    pub(crate) async fn load(&self, charm: Charm, loaded: Option<Arc<Loaded>>) -> Result<Checked, InstallError> {
        self.examine(&charm, loaded.as_deref())?;
        let Charm { name, component, did, http, keep, .. } = charm;
        let loaded = match loaded {
            Some(loaded) => loaded,
            None => {
                let (guests, of, what) = (self.stage.guests.clone(), name.clone(), component.clone());
                let loaded = apart(&*self.stage.env, async move { guests.load(&of, &what).await }).await;
                loaded.ok_or(Unavailable::RuntimeEnded)?.map_err(|error| load_error(name.clone(), error))?
            }
        };
        Ok(Checked { name: name.into(), did, http, keep, loaded, component })
    }

    /// Checks what needs no look into the component, which may be loaded.
    fn examine(&self, charm: &Charm, loaded: Option<&Loaded>) -> Result<(), InstallError> {
        let Charm { name, component, sha256, http, .. } = charm;
        check_charm_name(name)?;
        let (max, bytes) = (self.limits.component_bytes_max, component.bytes().len());
        if bytes > max {
            return Err(InstallError::TooLarge { charm: name.clone(), bytes, max });
        }
        for (index, grant) in http.iter().enumerate() {
            check_http_grant(index, grant).map_err(|why| InstallError::Grant { charm: name.clone(), why })?;
        }
        let hash = loaded.map_or_else(|| component.sha256(), |loaded| loaded.hash);
        match sha256.filter(|wanted| *wanted != hash) {
            Some(wanted) => {
                let (wanted, found) = (hex(&wanted), hex(&hash));
                Err(InstallError::OtherComponent { charm: name.clone(), wanted, found })
            }
            None => Ok(()),
        }
    }
}
