//! `charm ls`: charms, or the cells of one.

use std::time::Duration;

use charm_host::{CellInfo, CharmSpec, Keep, Limits};
use clap::Args;
use serde::Serialize;

use super::{Context, Heard, ask, turns::span};
use crate::{
    deed::Deed,
    failure::{Exit, Failure},
    output::table,
    place,
    told::{DerivedLine, Told},
};

/// How long the host that runs may take to say which cells are derived: a list needs no host.
const DERIVED_WITHIN: Duration = Duration::from_secs(2);

/// Reads the store, also beside a running host. Cells that a charm derives are listed when a host runs, and not computed; a host
/// that does not answer is an error behind the list.
#[derive(Args)]
pub struct Ls {
    /// List the cells of this charm whose names begin so, all without a prefix: name, the commit that wrote it, kind, size
    #[arg(value_name = "CHARM[/PREFIX]")]
    charm: Option<String>,
    /// List those with names after this one: the last of the page before
    #[arg(long, value_name = "CELL", requires = "charm")]
    after: Option<String>,
    /// List no more cells than so many
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, requires = "charm")]
    max: usize,
}

#[derive(Serialize)]
struct Charm {
    name: String,
    did: String,
    commits: u64,
    history_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    keeps: Option<Keeps>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<u64>,
    waiting: usize,
    #[serde(skip_serializing_if = "is_none")]
    held: usize,
    dead: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    letters_dropped: Option<u64>,
}

/// How much of its past is kept, as the manifest has it.
#[derive(Serialize)]
struct Keeps {
    history_bytes: u64,
    receipts_ms: u64,
}

impl Keeps {
    fn of(charm: &CharmSpec, limits: &Limits) -> Keeps {
        let Keep { history_bytes, receipts_ms } = charm.keep(limits);
        Keeps { history_bytes, receipts_ms }
    }
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Charm {
    /// What there is to be said, in words.
    fn notes(&self) -> String {
        let paused = self.paused.then(|| "paused".to_owned());
        let chain = self.chain.map(|chain| format!("chain of {chain} events"));
        let dropped = self.dropped.map(|dropped| format!("{dropped} log lines dropped"));
        let letters = self.letters_dropped.map(|dropped| format!("{dropped} dead letters dropped"));
        let floor = self.floor.map(|floor| format!("pruned up to commit {floor}"));
        [paused, chain, dropped, letters, floor].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[derive(Serialize)]
struct Cell {
    name: String,
    did: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// It is computed when it is read: the store has nothing of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    derived: bool,
    /// It stands for all cells NAME:KEY.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    family: bool,
}

impl Cell {
    fn derived(line: DerivedLine, did: &str) -> Cell {
        let DerivedLine { name, is_family: family } = line;
        Cell { name, did: did.to_owned(), revision: None, kind: None, bytes: None, derived: true, family }
    }

    /// Whether its name, or that of a member, begins so.
    fn begins(&self, prefix: &str) -> bool {
        self.name.starts_with(prefix) || self.family && prefix.starts_with(&format!("{}:", self.name))
    }
}

impl Ls {
    pub async fn run(&self, context @ (globals, output, _): Context<'_>) -> Result<Exit, Failure> {
        let archive = place::archive(globals)?;
        let spaces = archive.spaces();
        let Some(charm) = &self.charm else {
            // One store may be of many manifests, or none.
            let manifest = if globals.store.is_none() { place::manifest(globals).ok() } else { None };
            let keeps = |name: &str| {
                let manifest = manifest.as_ref()?;
                manifest.charms.get(name).map(|charm| Keeps::of(charm, &manifest.limits))
            };
            let charms = spaces.into_iter().filter(|space| place::is_charm(&space.name));
            let charms: Vec<Charm> = charms
                .map(|space| Charm {
                    keeps: keeps(&space.name),
                    name: space.name,
                    did: space.did.to_string(),
                    commits: space.commits,
                    history_bytes: space.history_bytes,
                    floor: Some(space.floor).filter(|floor| *floor > 0),
                    waiting: space.waiting,
                    held: space.held,
                    dead: space.dead,
                    paused: space.notes.paused,
                    chain: Some(space.notes.chain).filter(|chain| *chain > 0),
                    dropped: Some(space.notes.dropped).filter(|dropped| *dropped > 0),
                    letters_dropped: Some(space.letters_dropped).filter(|dropped| *dropped > 0),
                })
                .collect();
            output.print(&charms, || {
                let row = |charm: &Charm| {
                    let Charm { name, did, commits, history_bytes, keeps, waiting, held, dead, .. } = charm;
                    let waiting = if *held == 0 { waiting.to_string() } else { format!("{waiting} ({held} held)") };
                    let history = history_bytes.to_string();
                    let keeps = keeps.as_ref().map_or_else(
                        || "-".to_owned(),
                        |Keeps { history_bytes, receipts_ms }| format!("{history_bytes}, {}", span(*receipts_ms)),
                    );
                    [name.clone(), did.clone(), commits.to_string(), history, keeps, waiting, dead.to_string()]
                };
                let rows: Vec<[String; 7]> = charms.iter().map(row).collect();
                let head = ["CHARM", "DID", "COMMITS", "HISTORY", "KEEPS", "WAITING", "DEAD"];
                let notes: Vec<String> = charms.iter().map(Charm::notes).collect();
                if notes.iter().all(String::is_empty) {
                    return table(head, rows);
                }
                let noted = |([a, b, c, d, e, f, g], notes): ([String; 7], String)| [a, b, c, d, e, f, g, notes];
                let [a, b, c, d, e, f, g] = head;
                table([a, b, c, d, e, f, g, "NOTES"], rows.into_iter().zip(notes).map(noted).collect())
            })?;
            return Ok(Exit::Done);
        };
        let (charm, prefix) = charm.split_once('/').unwrap_or((charm, ""));
        let space = place::space(&spaces, charm)?;
        let cell = |cell: CellInfo| Cell {
            name: cell.name.to_string(),
            did: space.did.to_string(),
            revision: Some(cell.revision),
            kind: Some(cell.kind.to_string()),
            bytes: Some(cell.bytes),
            derived: false,
            family: false,
        };
        let mut start = self.after.as_ref().map(|after| format!("{after}\0"));
        let mut cells: Vec<Cell> = Vec::new();
        loop {
            let page = archive.list(&space.did, prefix, start.as_deref(), self.max - cells.len())?;
            cells.extend(page.cells.into_iter().map(cell));
            start = page.next;
            if start.is_none() || cells.len() >= self.max {
                break;
            }
        }
        let did = space.did.to_string();
        let (derived, silence) = match ask(context, Deed::Derived { charm: charm.to_owned() }, DERIVED_WITHIN).await {
            Ok(Heard::Told(Told::Derived(derived))) => (derived, None),
            // What the store has is listed all the same.
            Ok(Heard::NoAnswer(failure)) | Err(failure) => (Vec::new(), Some(failure)),
            Ok(_) => (Vec::new(), None),
        };
        // Those that belong on this page.
        let last = cells.last().filter(|_| start.is_some()).map(|cell| cell.name.clone());
        let after = |name: &str| self.after.as_deref().is_none_or(|after| name > after);
        let here = |cell: &Cell| after(&cell.name) && last.as_deref().is_none_or(|last| cell.name.as_str() < last);
        let derived = derived.into_iter().map(|line| Cell::derived(line, &did));
        cells.extend(derived.filter(|cell| cell.begins(prefix) && here(cell)));
        cells.sort_by(|a, b| a.name.cmp(&b.name));
        let is_cut = start.is_some() || cells.len() > self.max;
        cells.truncate(self.max);
        output.print(&cells, || {
            let row = |cell: &Cell| {
                let Cell { name, did, revision, kind, bytes, family, .. } = cell;
                let derived = if *family { "derived family" } else { "derived" };
                let (revision, bytes) =
                    (revision.map(|number| number.to_string()), bytes.map(|bytes| bytes.to_string()));
                let [revision, bytes] = [revision, bytes].map(|number| number.unwrap_or_else(|| "-".to_owned()));
                [name.clone(), did.clone(), revision, kind.clone().unwrap_or_else(|| derived.to_owned()), bytes]
            };
            table(["CELL", "DID", "REVISION", "KIND", "BYTES"], cells.iter().map(row).collect())
        })?;
        if let Some(last) = cells.last().filter(|_| is_cut) {
            output.note(&format!("there may be more: --after {}", last.name));
        }
        let unlisted = "a host runs, but did not answer: cells that the charm derives are not listed";
        silence.map_or(Ok(Exit::Done), |failure| Err(failure.about(unlisted)))
    }
}
