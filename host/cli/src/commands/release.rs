//! `charm release`: lets a component be installed though processes have died over it.

use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    failure::{Exit, Failure},
    output::Output,
    place,
};

/// A component is held when processes died while it was described, alone too. `charm events CHARM --run ID` does the
/// same for an event. No host may run on the store meanwhile.
#[derive(Args)]
pub struct Release {
    /// SHA-256 of the component, as the error says it
    #[arg(value_name = "SHA256")]
    component: String,
}

#[derive(Serialize)]
struct Released<'a> {
    released: &'a str,
}

impl Release {
    pub async fn run(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        let digits = |byte: usize| self.component.get(2 * byte..2 * byte + 2);
        let byte = |byte| digits(byte).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let bytes: Option<Vec<u8>> = (0..self.component.len().div_ceil(2)).map(byte).collect();
        let hash = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let hash = hash.ok_or_else(|| Failure::usage(format!("{} is no SHA-256: 64 digits", self.component)))?;
        let manifest = place::manifest(globals)?;
        let host = place::host(&manifest).await?;
        let held = host.release_component(hash).await?;
        host.shutdown().await?;
        if !held {
            return Err(Failure::not_found(format!("component {} is not held", self.component)));
        }
        let released = Released { released: &self.component };
        output.print(&released, || vec![format!("{} may be described again", self.component)])?;
        Ok(Exit::Done)
    }
}
