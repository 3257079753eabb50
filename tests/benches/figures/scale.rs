//! How much is measured.

/// How much is measured: `cargo test`, `--quick`, nothing said, `--full`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Only whether it works.
    Smoke,
    /// A minute.
    Quick,
    /// Some minutes.
    Usual,
    /// The largest sizes: an hour, and many gigabytes.
    Full,
}

impl Scale {
    /// Returns the size that belongs to it.
    pub fn of<T>(self, [smoke, quick, usual, full]: [T; 4]) -> T {
        match self {
            Scale::Smoke => smoke,
            Scale::Quick => quick,
            Scale::Usual => usual,
            Scale::Full => full,
        }
    }
}
