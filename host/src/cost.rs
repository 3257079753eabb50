//! What host calls cost, in fuel: one unit is about a nanosecond, as one instruction of a guest is (docs/fuel.md).
//!
//! A call costs by what it is given, what it gives back and the size of the value concerned, also when it fails; never by
//! how the host keeps that value or by what happened before. Worst cases were measured; changing a figure changes
//! the outcome of turns near their bound, and nothing else.

/// Version of this table and of the rules that use it: a turn is run again by those that it ran by (S8).
pub const VERSION: u16 = 1;
/// Every host call: the way there and back.
pub const CALL: u64 = 100;
/// Opening a handle or closing it.
pub const HANDLE: u64 = 200;
/// A DID that a guest gives as text: a point of the curve is decompressed.
pub const DID_READ: u64 = 10_000;
/// A DID that a guest gets as text.
pub const DID_SHOWN: u64 = 1_500;
/// One step of a path.
pub const PATH_STEP: u64 = 100;
/// A byte of the keys of a path.
pub const PATH_BYTE: u64 = 4;
/// A read, a write or a removal, beside its bytes.
pub const CELL: u64 = 300;
/// A listing of cells, beside what it tells: what is not there any more may stand in the way.
pub const LIST: u64 = 5_000;
/// A cell that a listing tells, beside its bytes: it is looked for again at the commit.
pub const LISTED: u64 = 500;
/// A link that a path leads through, beside its bytes and the way to it: its DID is read.
pub const LINK: u64 = CELL + DID_READ;
/// A look at a derived cell that is made ready, beside what is compared.
pub const DERIVE_STEP: u64 = 2_000;
/// A send, beside its bytes.
pub const SEND: u64 = 3_000;
/// A wait: a part of the turn is committed.
pub const WAIT: u64 = 5_000;
/// An event that a wait names, and its receipt.
pub const WAITED: u64 = 2_000;
/// An HTTP request, beside its bytes.
pub const FETCH: u64 = 20_000;
/// A header of a request or an answer.
pub const HEADER: u64 = 200;
/// A wish, beside its shapes and what it looks at.
pub const WISH: u64 = 1_000;
/// A cell or stream that a wish asks for, beside its shape.
pub const WANTED: u64 = 1_000;
/// A byte of the text of a shape: it is parsed.
pub const SHAPE_BYTE: u64 = 16;
/// A charm that a wish looks at, beside its tags and shapes.
pub const OFFER: u64 = 500;
/// A tag that a wish looks at.
pub const TAG: u64 = 8;
/// A line of log, beside its bytes.
pub const LOG_LINE: u64 = 2_000;
/// A call of WASI, the few bytes that it may carry included.
pub const WASI: u64 = 2_000;
/// A byte of randomness.
pub const RANDOM_BYTE: u64 = 1;
/// A step of a check or comparison of a shape.
pub const SHAPE_STEP: u64 = 8;

/// Bytes of a value that one step of a path looks at, at most.
pub const STEP_BYTES: usize = 1 << 10;

/// Returns the cost of bytes that are copied only: in the worst case into pages that nobody has touched yet.
pub const fn copied(bytes: usize) -> u64 {
    bytes as u64
}

/// Returns the cost of bytes that are looked at one by one, once: a value is checked, or searched for a path.
pub const fn scanned(bytes: usize) -> u64 {
    bytes as u64 * 2
}

/// Returns the cost of following a path of `steps` steps into a value of so many bytes: each step leads to a stretch of at most
/// [`STEP_BYTES`] that is searched.
pub const fn searched(bytes: usize, steps: usize) -> u64 {
    steps as u64 * scanned(if bytes < STEP_BYTES { bytes } else { STEP_BYTES })
}

/// Returns the cost of bytes that a commit keeps: encoded, hashed, written.
pub const fn kept(bytes: usize) -> u64 {
    bytes as u64 * 4
}
