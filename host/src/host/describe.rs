//! What a component is, without installing it.

use sha2::{Digest, Sha256};

use super::{Charm, Host, InstallError, check_charm_name, check_http_grant, load_error};
use crate::{descriptor::Descriptor, store::hex};

/// What a component tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it offers.
    pub descriptor: Descriptor,
    /// The interfaces that it imports, like `charm:host/http@0.2.0`: what it asks of a host.
    pub imports: Vec<String>,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
}

impl Host {
    /// Checks a charm as [`Host::install`] does, but for what depends on other charms and on the store: its DID and what it
    /// may do with others. Installs nothing. Compiles a component that the code cache does not have.
    ///
    /// # Errors
    /// [`InstallError`].
    pub async fn describe(&self, charm: Charm) -> Result<Description, InstallError> {
        let sha256 = self.examine(&charm)?;
        let Charm { name, component, .. } = charm;
        let described = async {
            let component = self.stage.guests.compile(component, sha256).await?;
            let imports = self.stage.guests.imports(&component);
            let (_, descriptor) = self.stage.guests.load(&name, &component, sha256).await?;
            Ok(Description { descriptor, imports, sha256 })
        };
        described.await.map_err(|error| load_error(name.clone(), error))
    }

    /// Checks what needs no look into the component; returns its SHA-256.
    pub(super) fn examine(&self, charm: &Charm) -> Result<[u8; 32], InstallError> {
        let Charm { name, component, sha256, http, .. } = charm;
        check_charm_name(name)?;
        let max = self.limits.component_bytes_max;
        if component.len() > max {
            return Err(InstallError::TooLarge { charm: name.clone(), bytes: component.len(), max });
        }
        for (index, grant) in http.iter().enumerate() {
            check_http_grant(index, grant).map_err(|why| InstallError::Grant { charm: name.clone(), why })?;
        }
        let hash: [u8; 32] = Sha256::digest(component).into();
        match sha256.filter(|wanted| *wanted != hash) {
            Some(wanted) => {
                let (wanted, found) = (hex(&wanted), hex(&hash));
                Err(InstallError::OtherComponent { charm: name.clone(), wanted, found })
            }
            None => Ok(hash),
        }
    }
}
