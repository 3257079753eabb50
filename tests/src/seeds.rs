//! Seeds and sizes. Every random test starts from a seed that it prints, and has a short form and a long one.

/// Numbers from a seed (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Returns the sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// Returns true in that many of a thousand cases.
    pub fn chance(&mut self, thousandths: u64) -> bool {
        self.below(1_000) < thousandths
    }

    /// Returns one of these.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// Returns the seed of this run: `CHARM_SEED`, else 1; prints it.
///
/// # Panics
/// When `CHARM_SEED` is not a number.
#[allow(clippy::print_stderr, reason = "a failing test shows its seed")]
pub fn seed() -> u64 {
    let seed = std::env::var("CHARM_SEED").map_or(1, |seed| seed.parse().unwrap());
    eprintln!("CHARM_SEED={seed}");
    seed
}

/// Returns how often to do what the short form does `short` times: `CHARM_EFFORT` times as often, by default once.
/// `cargo xtask soak` sets it.
///
/// # Panics
/// When `CHARM_EFFORT` is not a number.
pub fn times(short: u64) -> u64 {
    short * std::env::var("CHARM_EFFORT").map_or(1, |effort| effort.parse::<u64>().unwrap())
}
