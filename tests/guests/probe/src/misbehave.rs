//! What a hostile or broken charm does.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

/// Never set: the optimiser does not know.
static END: AtomicU32 = AtomicU32::new(u32::MAX);

/// Computes for ever.
pub fn spin() -> ! {
    loop {
        black_box(END.load(Ordering::Relaxed));
    }
}

/// Calls itself for ever, with no local in memory: fills the wasm stack, not the shadow stack.
pub fn recurse(depth: u32) -> u32 {
    if END.load(Ordering::Relaxed) == depth {
        return depth;
    }
    let below = recurse(depth.wrapping_add(1) & 0xffff);
    below.wrapping_mul(END.load(Ordering::Relaxed)) ^ depth
}

/// Takes that many bytes of memory, in pieces, and writes to each page.
pub fn grow(bytes: usize) {
    const PIECE: usize = 64 << 10;
    let mut pieces = Vec::new();
    for _ in 0..bytes.div_ceil(PIECE) {
        pieces.push(black_box(vec![1_u8; PIECE]));
    }
    black_box(&pieces);
}
