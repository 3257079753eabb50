//! `charm verify`: proves spaces from their first commit (I3).

use charm_host::SpaceInfo;
use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    failure::{Exit, Failure},
    output::{Output, table},
    place,
};

/// Checks every commit, signature and cell of a space, with nothing but its DID. Reads the store, also beside a
/// running host. Goes on after a space that fails.
#[derive(Args)]
pub struct Verify {
    /// Only this charm's space; else all, the host's own too
    charm: Option<String>,
}

#[derive(Serialize)]
struct Proof {
    name: String,
    did: String,
    #[serde(flatten)]
    result: Result,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Result {
    Proven { commits: u64, signatures: u64, head: String },
    Failed(Failure),
}

impl Verify {
    pub fn run(&self, globals: &Globals, output: &Output) -> std::result::Result<Exit, Failure> {
        let archive = place::archive(globals)?;
        let spaces = match &self.charm {
            Some(charm) => vec![place::space(&archive.spaces(), charm)?],
            None => archive.spaces(),
        };
        let prove = |space: SpaceInfo| {
            let result = match archive.verify(&space.did) {
                Ok(proof) => Result::Proven {
                    commits: proof.commits,
                    signatures: proof.signatures,
                    head: proof.head.iter().map(|byte| format!("{byte:02x}")).collect(),
                },
                Err(error) => Result::Failed(error.into()),
            };
            Proof { name: space.name, did: space.did.to_string(), result }
        };
        let proofs: Vec<Proof> = spaces.into_iter().map(prove).collect();
        output.print(&proofs, || {
            let row = |proof: &Proof| {
                let [commits, signatures, head] = match &proof.result {
                    Result::Proven { commits, signatures, head } => {
                        [commits.to_string(), signatures.to_string(), head.clone()]
                    }
                    Result::Failed(failure) => ["-".to_owned(), "-".to_owned(), format!("FAILED: {}", failure.error)],
                };
                [proof.name.clone(), proof.did.clone(), commits, signatures, head]
            };
            table(["SPACE", "DID", "COMMITS", "SIGNATURES", "HEAD"], proofs.iter().map(row).collect())
        })?;
        let first = proofs.into_iter().find_map(|proof| match proof.result {
            Result::Proven { .. } => None,
            Result::Failed(failure) => Some(failure),
        });
        first.map_or(Ok(Exit::Done), Err)
    }
}
