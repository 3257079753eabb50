//! `charm verify`: proves one space from its first commit (I3), or the whole store by its laws (`docs/laws.md`).

use charm_host::{Archive, Hash, SpaceInfo, Verified, VerifiedStore};
use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    failure::{Exit, Failure},
    output::{Output, table},
    place,
};

/// Checks the whole store: every space, and what connects them: events, receipts, the queue, the order of commits.
/// Reads the store, also beside a running host. When that fails it tells which spaces still prove themselves.
#[derive(Args)]
pub struct Verify {
    /// Only this charm's space: commits, signatures and cells, with nothing but its DID
    charm: Option<String>,
}

/// What is printed for all: every space, and the store.
#[derive(Serialize)]
struct Whole {
    spaces: Vec<Proof>,
    store: Result<Counts>,
}

/// What is printed for one space.
#[derive(Serialize)]
struct Proof {
    name: String,
    did: String,
    #[serde(flatten)]
    result: Result<Chain>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Result<T> {
    Proven(T),
    Failed(Failure),
}

#[derive(Serialize)]
struct Chain {
    commits: u64,
    /// The last commit that has gone: a checkpoint stands for those.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<u64>,
    signed: u64,
    head: String,
}

#[derive(Serialize)]
struct Counts {
    spaces: usize,
    commits: u64,
    seals: u64,
    sent: u64,
    settled: u64,
    waiting: u64,
    dead: u64,
}

impl<T> Result<T> {
    fn failure(self) -> Option<Failure> {
        match self {
            Result::Proven(_) => None,
            Result::Failed(failure) => Some(failure),
        }
    }
}

impl Chain {
    fn of(proof: &Verified) -> Chain {
        let hex = |head: &Hash| head.iter().map(|byte| format!("{byte:02x}")).collect();
        let floor = Some(proof.floor).filter(|floor| *floor > 0);
        Chain { commits: proof.commits, floor, signed: proof.signed, head: hex(&proof.head) }
    }
}

impl Counts {
    fn of(proof: &VerifiedStore) -> Counts {
        Counts {
            spaces: proof.spaces.len(),
            commits: proof.commits(),
            seals: proof.seals,
            sent: proof.sent,
            settled: proof.settled,
            waiting: proof.waiting,
            dead: proof.dead,
        }
    }

    fn line(&self) -> String {
        let Counts { spaces, commits, seals, sent, settled, waiting, dead } = self;
        format!(
            "store: {spaces} spaces, {commits} commits, {seals} seals; \
             events: {sent} sent, {settled} settled, {waiting} waiting, {dead} dead"
        )
    }
}

impl Proof {
    /// Proves one space.
    fn alone(archive: &Archive, space: SpaceInfo) -> Proof {
        let result = match archive.verify(&space.did) {
            Ok(proof) => Result::Proven(Chain::of(&proof)),
            Err(error) => Result::Failed(error.into()),
        };
        Proof { name: space.name, did: space.did.to_string(), result }
    }
}

fn lines(proofs: &[Proof]) -> Vec<String> {
    let row = |proof: &Proof| {
        let [commits, signed, head] = match &proof.result {
            Result::Proven(Chain { commits, floor, signed, head }) => {
                let from = floor.map_or(String::new(), |floor| format!(" (from {})", floor + 1));
                [format!("{commits}{from}"), signed.to_string(), head.clone()]
            }
            Result::Failed(failure) => ["-".to_owned(), "-".to_owned(), format!("FAILED: {}", failure.error)],
        };
        [proof.name.clone(), proof.did.clone(), commits, signed, head]
    };
    table(["SPACE", "DID", "COMMITS", "SIGNED", "HEAD"], proofs.iter().map(row).collect())
}

impl Verify {
    pub fn run(&self, globals: &Globals, output: &Output) -> std::result::Result<Exit, Failure> {
        let archive = place::archive(globals)?;
        if let Some(charm) = &self.charm {
            let proofs = [Proof::alone(&archive, place::space(&archive.spaces(), charm)?)];
            output.print(&proofs, || lines(&proofs))?;
            let [proof] = proofs;
            return proof.result.failure().map_or(Ok(Exit::Done), Err);
        }
        let whole = Whole::of(&archive);
        output.print(&whole, || {
            let mut lines = lines(&whole.spaces);
            lines.push(match &whole.store {
                Result::Proven(counts) => counts.line(),
                Result::Failed(failure) => format!("store: FAILED: {}", failure.error),
            });
            lines
        })?;
        whole.store.failure().map_or(Ok(Exit::Done), Err)
    }
}

impl Whole {
    fn of(archive: &Archive) -> Whole {
        let spaces = archive.spaces().into_iter();
        match archive.verify_store() {
            Ok(store) => {
                let proof = |space: SpaceInfo| {
                    // A space that a host added since the store was opened is in the next proof.
                    let result = Result::Proven(Chain::of(store.spaces.get(&space.did)?));
                    Some(Proof { name: space.name, did: space.did.to_string(), result })
                };
                Whole { spaces: spaces.filter_map(proof).collect(), store: Result::Proven(Counts::of(&store)) }
            }
            Err(error) => Whole {
                spaces: spaces.map(|space| Proof::alone(archive, space)).collect(),
                store: Result::Failed(error.into()),
            },
        }
    }
}
