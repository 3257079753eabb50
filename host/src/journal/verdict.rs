//! What the end of a journal is: whole, torn by a crash, or damaged. The writer appends one frame at a time, syncs it before
//! the next one and touches no other byte, so a crash can only have torn the last.

/// What is seen behind the last whole frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Bytes that are not zero.
    pub bytes: bool,
    /// They reach farther than one frame can.
    pub long: bool,
    /// Among them, or in a later segment, the head of another frame than the next one.
    pub frame: bool,
    /// A later segment has more than its header.
    pub segment: bool,
    /// A later group is known to have been durable.
    pub known: bool,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The journal ends here.
    Whole,
    /// A crash tore the frame that was being written. Nobody was told that it is there.
    Torn,
    /// Something that was durable is gone. Why.
    Damaged(&'static str),
}

/// Rows of the table, the first that fits counts.
pub fn judge(seen: Evidence) -> Verdict {
    match seen {
        // The next one is written only when this one is durable.
        Evidence { frame: true, .. } => Verdict::Damaged("is damaged, and later ones are there"),
        Evidence { segment: true, .. } => Verdict::Damaged("is missing, and a later segment is in use"),
        Evidence { known: true, bytes: true, .. } => Verdict::Damaged("is damaged, and it was durable"),
        Evidence { known: true, .. } => Verdict::Damaged("is missing, and it was durable"),
        Evidence { bytes: true, long: true, .. } => Verdict::Damaged("is damaged, over more bytes than one group has"),
        Evidence { bytes: true, .. } => Verdict::Torn,
        Evidence { bytes: false, .. } => Verdict::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of what can be seen, against the rule in words.
    #[test]
    fn a_journal_is_torn_only_where_a_crash_can_have_torn_it() {
        let mut torn = 0;
        for bits in 0..32_u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let seen = Evidence { bytes: bit(0), long: bit(1), frame: bit(2), segment: bit(3), known: bit(4) };
            // What is not there is not long.
            if seen.long && !seen.bytes {
                continue;
            }
            let lost = seen.frame || seen.segment || seen.known || seen.long;
            match judge(seen) {
                Verdict::Damaged(_) => assert!(lost, "{seen:?}"),
                Verdict::Torn => assert!(seen.bytes && !lost, "{seen:?}"),
                Verdict::Whole => assert!(!seen.bytes && !lost, "{seen:?}"),
            }
            torn += usize::from(judge(seen) == Verdict::Torn);
        }
        assert_eq!(torn, 1, "one row says torn");
    }
}
