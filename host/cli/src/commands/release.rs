//! `charm release`: lets a component be installed though processes have died over it.

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    place::{self, Patience},
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
    pub async fn run(&self, (globals, output, _): Context<'_>) -> Result<Exit, Failure> {
        let hash = sha256(&self.component);
        let hash = hash.ok_or_else(|| Failure::usage(format!("{} is no SHA-256: 64 digits", self.component)))?;
        let manifest = place::manifest(globals)?;
        let host = place::host(&manifest, &mut Patience::new(globals, output)).await?;
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

fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok().filter(|_| rest.is_empty())
}
