//! What a run is made of, and what it was.

use std::collections::BTreeMap;

use charm_conformance::Random;

use super::disk::{Fault, Rates};

/// What a run is made of. Everything else follows from the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub seed: u64,
    /// Senders outside.
    pub clients: u64,
    /// Events of each.
    pub events: u64,
    /// Processes that may fail, one after the other; the last one runs without faults.
    pub processes: u64,
    /// How often the disk fails.
    pub rates: Rates,
    /// One fault at the operation with that number.
    pub planned: Option<(u64, Planned)>,
    /// Whether the power goes in each process but the first as soon as it has acknowledged something.
    pub cut_at_ack: bool,
    /// Other states of the disk to look at after each power cut.
    pub variants: u64,
    /// Steps between two kills of the process, about; 0 for never.
    pub kill: u64,
    /// How often a process finds one bit of its store flipped, in thousandths.
    pub flip: u64,
    /// Whether the disk gets full now and then.
    pub full: bool,
    /// Whether the calendar jumps, while a host runs and between two.
    pub clock: bool,
    /// How often a request fails, in thousandths.
    pub network: u64,
    /// How often the past of a charm is let go before an event is sent, in thousandths.
    pub prunes: u64,
    /// Fuel between two places where a turn lets others run.
    pub slice: u64,
    /// Fuel of a turn.
    pub fuel: u64,
    /// Time that a turn has for conflicts.
    pub conflict_ms: u64,
    /// Whether scripts read cells that are derived, and say what they are derived from.
    pub derives: bool,
    /// Whether one turn runs at a time, and each inbox has room for one event.
    pub tight: bool,
}

/// What fails once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// An operation of the disk.
    Disk(Fault),
    /// A host call: it panics.
    Call,
    /// The keyring: it does not sign.
    Sign,
}

impl Options {
    /// Returns a short run in which nothing fails but what is planned.
    pub fn planned(seed: u64, number: u64, planned: Planned) -> Options {
        Options {
            seed,
            clients: 2,
            events: 3,
            processes: 3,
            rates: Rates::default(),
            planned: Some((number, planned)),
            cut_at_ack: false,
            variants: 0,
            kill: 0,
            flip: 0,
            full: false,
            clock: false,
            network: 0,
            prunes: 0,
            slice: 50_000,
            fuel: 20_000_000,
            conflict_ms: 30_000,
            derives: true,
            tight: false,
        }
    }

    /// Returns what the seed wants.
    pub fn from_seed(seed: u64) -> Options {
        let mut random = Random::new(seed);
        let quiet = random.chance(200);
        let mut rate = |most: u64| if quiet || random.chance(300) { 0 } else { random.below(most + 1) };
        let rates = Rates { error: rate(4), cut: rate(6), kill: rate(6) };
        let (kill, flip, network) = (rate(4_000), rate(300), rate(150));
        Options {
            seed,
            clients: 1 + random.below(4),
            events: 4 + random.below(12),
            processes: 1 + random.below(8),
            rates,
            planned: None,
            cut_at_ack: false,
            variants: 3,
            kill,
            flip,
            full: !quiet && random.chance(300),
            clock: !quiet && random.chance(300),
            network,
            prunes: if random.chance(400) { 1 + random.below(300) } else { 0 },
            slice: 500 << random.below(11),
            fuel: 20_000_000,
            conflict_ms: *random.pick(&[0, 5, 30_000]),
            derives: random.chance(800),
            tight: random.chance(200),
        }
    }
}

/// What a run was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Hash over everything that is stored at the end.
    pub hash: u64,
    pub commits: u64,
    pub processes: u64,
    /// States of the disk that a power cut may leave and that were looked at.
    pub states: u64,
    pub faults: u64,
    /// Turns that failed because the host did.
    pub bugs: u64,
    pub reruns: u64,
    /// Segments of turns that waited.
    pub segments: u64,
    /// How often turns were tried again because they asked for it.
    pub retried: u64,
    /// Delayed events that were begun.
    pub delayed: u64,
    /// Derived cells that committed turns have read, of which some value came.
    pub derived: u64,
    /// Operations before the liveness phase: of the disk, or of what is planned to fail.
    pub operations: u64,
    /// Flipped bits that were found.
    pub flips_found: u64,
    /// Flipped bits that changed nothing.
    pub flips_harmless: u64,
    /// Flipped bits at which SQLite ended its write-ahead log: an older state, whole in itself.
    pub flips_cut: u64,
    pub outcomes: BTreeMap<&'static str, u64>,
}
