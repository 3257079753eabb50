//! A host of charms: small programs, compiled to wasm components, each with its own DID and its own
//! transactional cells.
//!
//! The host runs charms and carries every event from one charm to another, so that one charm can never write
//! into another charm's transaction. It is a library: it prints nothing, reads no environment and no home
//! directory. Rule numbers in the documentation (`T4`) are those of `docs/model.md`.
//!
//! It is not: a web server, a container runtime, a cluster. One process owns one store.
//!
#![doc = "```no_run"]
#![doc = include_str!("../examples/embed.rs")]
#![doc = "```"]
//!
//! Where to read: `turn.rs` first, then one file of `guest/calls/`. Directions: `host` -> `scheduler`, `charms`
//! -> `turn` -> `guest` -> `tx` -> `store` -> the model (`did`, `value`, `path`, `event`, `receipt`, `cell`).

mod aging;
mod archive;
mod bytes;
mod cell;
mod charms;
mod component;
mod core;
mod cost;
mod counters;
mod derive;
mod descriptor;
mod did;
mod directory;
mod entry;
mod env;
mod event;
mod guest;
mod host;
mod http;
mod journal;
mod keyring;
mod limits;
mod link;
mod listing;
mod live;
mod log;
mod log_share;
mod manifest;
mod meter;
mod notices;
mod path;
mod places;
mod rate;
mod readable;
mod receipt;
mod record;
mod recording;
mod rows;
mod run_queue;
mod scheduler;
mod shape;
mod slots;
mod store;
mod suspects;
mod text;
mod turn;
mod tx;
mod value;
mod verify;
mod why;

pub use archive::{Archive, ReadError};
pub use cell::CellId;
pub use component::Component;
pub use core::Commit;
pub use counters::{Components, Counters, Derivations};
pub use descriptor::{Declaration, Descriptor};
pub use did::{Did, DidError};
pub use directory::{Names, Right};
pub use entry::{LogEntry, Taken, seal_message};
pub use env::{BoxFuture, Env, SystemEnv};
pub use event::{Event, EventId, EventIdError, OnCommit};
pub use guest::{Compiler, compile_helper};
pub use host::{
    Change, Charm, CharmInfo, Description, Gone, Host, HostBuilder, InstallError, Keep, NewEvent, OpenError, Owner,
    SendError, Update, Watch, WatchError, Watcher,
};
pub use http::{HttpClient, HttpError, HttpGrant, Request, Response, Transport, TransportError};
pub use journal::{
    AppendError, Disk, DiskFile, FileJournal, FolderDisk, Journal, JournalError, JournalOptions, JournalReader,
    MemoryJournal,
};
pub use keyring::{FileKeyring, KeyError, Keyring, MemoryKeyring};
pub use limits::{
    CHECKPOINT_BYTES, CODE_CACHE_BYTES_MAX, COMPONENT_BYTES_MAX, CONFLICTS_KEPT, DECLARATIONS_MAX, DERIVE_BYTES_MAX,
    DERIVE_DEPTH_MAX, DESCRIBE_FUEL_MIN, DESCRIPTION_BYTES_MAX, FORESEEN_MAX, FREE_PAGES_MAX, HISTORY_PAUSE_MS,
    HISTORY_STEP, HTTP_IDLE_MAX, HTTP_IDLE_MS, INDEX_BYTES, INDEX_PAUSE_MS, JOURNAL_AHEAD_BYTES,
    JOURNAL_GROUP_BYTES_MAX, JOURNAL_SEGMENT_BYTES, JOURNAL_ZEROED_GROUP_BYTES_MAX, LAG_BYTES_MAX, LAG_GROUPS_MAX,
    LEAVES_MAX, LETTERS_PER_COMMIT_MAX, LINK_BYTES_MAX, LINKS_MAX, LIST_BYTES_MAX, LIST_PAGE_MAX, LIST_PASSED_MAX,
    LOG_LINE_BYTES, LONE_RUNS_MAX, LONG_TURN_FUEL, LimitError, Limits, MANIFEST_BYTES_MAX, MESSAGE_BYTES_MAX,
    MISFIT_STEPS_MAX, NAME_BYTES_MAX, NEAR_MISS_LOOKS_MAX, NEAR_MISSES_KEPT, NEAR_MISSES_MAX, NOTICE_MS,
    OUTSIDE_RUNS_MAX, OUTSIDE_RUNS_OF_ONE, PANIC_BYTES_MAX, PATH_BYTES_MAX, PATH_SEGMENTS_MAX, PATHS_PER_CELL_MAX,
    RECEIPTS_PAUSE_MS, RECHECK_BYTES_MAX, ROW_BYTES, SHAPE_BYTES_MAX, SHAPE_STEPS_MAX, SHAPE_TEXT_BYTES_MAX,
    SHUTDOWN_MS, STAGED_VIEWS_MAX, STORE_LOCKED_MS, SUPPLIED_ID_BYTES_MAX, TURN_EVENTS_SHOWN, TURNS_PAGE_MAX,
    VALUE_DEPTH_MAX, WAIT_EVENTS_MAX, WAITING_STEP, WATCH_AHEAD_MAX, WATCH_EVENTS_PAGE, WATCH_NUMBERS_MAX,
    WATCH_PREFIXES_MAX, WATCH_RECEIPTS_PAGE, WATCH_REMOVED_MAX, WATCHERS_MAX, WATCHERS_PER_READER_MAX, WHY_BYTES_MAX,
    WHY_CAUSES_MAX, WHY_COMMITS_MAX, WHY_EVENTS_MAX, WISH_BYTES_MAX, WISH_PAGE_MAX, WISH_STEPS_MAX,
};
pub use link::Link;
pub use listing::{CellInfo, CellPage, SpaceInfo, Status, TurnInfo, TurnState};
pub use live::{ConflictInfo, WishMiss};
pub use manifest::{CharmSpec, Finding, GrantSpec, HttpSpec, Manifest, ManifestError, OutsideSpec};
pub use path::{Path, PathError, Segment};
pub use receipt::{NotCommitted, Outcome, Receipt};
pub use record::{
    Body, CellsRoot, Checkpoint, Cut, Exchanged, Hash, Install, Mark as EventMark, Progress, Pruned, Ran, Record,
    RecordError, Retried as TurnRetried, Segment as TurnSegment, Sent, Turn, TurnMark, Until,
    VERSION as RECORD_VERSION, WaitFor, Write, event_hash, hash as record_hash, head_message, heads_hash, wait_hash,
};
pub use rows::{
    Batch, CellRow, CellWrite, CutRow, DeadLetter, Image, InstallRow, Notes, Point, Queued, ReceiptRow, RecordingRow,
    SpaceRow, TurnRow,
};
pub use shape::{Field, Shape, ShapeError};
pub use store::{CellRows, FolderStore, Lag, MemoryStore, Store, StoreError};
pub use text::is_unprintable;
pub use tx::Unavailable;
pub use value::{Edit, IntoValue, Invalid, JsonError, Kind, Mismatch, Value};
pub use verify::{Law, Verified, VerifiedStore, VerifyError};
pub use why::{Missing, Part, Why, WhyEvent};
