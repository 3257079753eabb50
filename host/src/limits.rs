//! Every bound the host enforces, with its unit and the reason (A5).

mod check;

pub use check::LimitError;

use serde::{Deserialize, Serialize};

/// Longest name of a cell, stream, tag or charm, in bytes: fits an index key and an error text.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest shape, in bytes: an error quotes a part of it, `wish` compares it.
pub const SHAPE_BYTES_MAX: usize = 4096;
/// Deepest value and shape, in levels: the scanner recurses once a level.
pub const VALUE_DEPTH_MAX: usize = 64;
/// Longest path, in steps: no deeper than a value.
pub const PATH_SEGMENTS_MAX: usize = VALUE_DEPTH_MAX;
/// Longest keys of a path together, in bytes: the read set keeps paths.
pub const PATH_BYTES_MAX: usize = 4096;
/// Paths that the read set keeps of one cell; a turn that reads more of it depends on the whole cell.
pub const PATHS_PER_CELL_MAX: usize = 64;
/// Longest link to a cell or stream, in bytes: names, and a path of the longest keys.
pub const LINK_BYTES_MAX: usize = PATH_BYTES_MAX + (1 << 10);
/// Links that one path leads through.
pub const LINKS_MAX: usize = 16;
/// Fuel that a charm has at least to describe itself, however little `fuel-max` gives its turns.
pub const DESCRIBE_FUEL_MIN: u64 = 1_000_000;
/// Fuel beyond which a turn is a long one: some 10 ms. Charms of long turns share a quarter of `turns-max`.
pub const LONG_TURN_FUEL: u64 = 10_000_000;
/// Bytes of changed cells that one commit goes through to compare what was read at paths. Beyond it any change of a
/// cell that was read is a conflict: the rerun pays for the size that the cell has now.
pub const RECHECK_BYTES_MAX: usize = 64 << 20;
/// Steps of one check or comparison of a shape: a step looks at one value or shape.
pub const SHAPE_STEPS_MAX: u32 = 1 << 20;
/// Shapes that one `wish` may ask for, together, in bytes.
pub const WISH_BYTES_MAX: usize = 16 << 10;
/// Longest text of an error, a rejection or a diagnosis, in bytes (T7).
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Longest fault text that a guest chose, in bytes: panics can carry anything.
pub const PANIC_BYTES_MAX: usize = 256;
/// What a line of log costs of `log-bytes-max` beside its text, in bytes: its time, level, charm and event.
pub const LOG_LINE_BYTES: usize = 64;
/// Longest event id that a sender outside may supply, in bytes (S9).
pub const SUPPLIED_ID_BYTES_MAX: usize = 128;
/// Most declarations and tags of one charm: `wish` looks through all of them.
pub const DECLARATIONS_MAX: usize = 256;
/// Stack that a turn has beside that of its guest, in bytes: for the host calls, for what the engine does under them, and
/// for whatever the embedder's transport and subscriber do there.
pub const HOST_STACK_BYTES: usize = 512 << 10;
/// Code cache of one folder, in bytes, as compressed as it is kept there; what was used least recently goes.
pub const CODE_CACHE_BYTES_MAX: u64 = 512 << 20;
/// Times that an event whose turn the process died under is run alone, and a component described alone, before it is held.
pub const LONE_RUNS_MAX: u32 = 3;
/// Events that one wait names.
pub const WAIT_EVENTS_MAX: usize = 256;

/// How long the store waits for a lock that another program holds on its file, in milliseconds, before it says so: a backup
/// or a look with another tool is done by then.
pub const STORE_LOCKED_MS: u64 = 5_000;
/// Batches that are durable and not yet in the index, in bytes: they are held in memory, and read again at every start. Commits
/// wait when it is reached.
pub const LAG_BYTES_MAX: usize = 64 << 20;
/// Such batches: each costs memory beside its bytes.
pub const LAG_GROUPS_MAX: usize = 65_536;
/// What one transaction of the index takes, in bytes of batches: some tens of milliseconds of work, and a cell that was
/// written a hundred times meanwhile is written once.
pub const INDEX_BYTES: usize = 4 << 20;
/// What is written into the index until its file is synced, in bytes of batches: how much a power cut makes the next start
/// read again.
pub const CHECKPOINT_BYTES: usize = 16 << 20;
/// Least time between two transactions of the index, in milliseconds, while few batches wait: what comes together is written
/// together.
pub const INDEX_PAUSE_MS: u64 = 100;
/// Least time between two lines of log of one kind that every operator is told, in milliseconds: nobody reads more, and nobody
/// has to look for one among thousands.
pub const NOTICE_MS: u64 = 60_000;
/// Components that are remembered because a process died while they were described; beyond it some are forgotten.
pub const SUSPECTS_MAX: usize = 1_000;
/// What is kept of the lines of a later host in the list of suspects, in bytes; beyond it they are forgotten.
pub const SUSPECTS_LATER_BYTES_MAX: usize = 64 << 10;
/// How long a connection to a server is kept to be used again, in milliseconds: less than the 5 s after which the most
/// impatient of the common servers close it.
pub const HTTP_IDLE_MS: u64 = 4_000;
/// Connections to one server that are kept at once.
pub const HTTP_IDLE_MAX: usize = 8;
/// How long `Host::shutdown` lets running turns end, in milliseconds: more than any is on a thread, in line with others.
pub const SHUTDOWN_MS: u64 = 60_000;
/// Length at which a segment of the journal is full, in bytes: what is released goes in such pieces.
pub const JOURNAL_SEGMENT_BYTES: u64 = 32 << 20;
/// How far ahead of what is written a segment is filled with zeros, in bytes: writing so much at once is hardly felt beside
/// an append.
pub const JOURNAL_AHEAD_BYTES: u64 = 1 << 20;
/// Longest frame that is written into zeros, in bytes: for a longer one it is cheaper to let the file grow than to write all
/// twice.
pub const JOURNAL_ZEROED_GROUP_BYTES_MAX: u64 = 64 << 10;
/// Largest component that a host can be set to take, in bytes: with what else is in its batch it fits into a group.
pub const COMPONENT_BYTES_MAX: usize = 48 << 20;
/// Longest group, in bytes: more than any batch has, and what is torn is never longer.
pub const JOURNAL_GROUP_BYTES_MAX: usize = 64 << 20;

/// Dead letters that one commit of the host drops: a record stays some kilobytes.
pub const LETTERS_PER_COMMIT_MAX: usize = 1_000;
/// Longest description of a charm, in bytes: the host keeps it while the charm is installed.
pub const DESCRIPTION_BYTES_MAX: usize = 256 << 10;
/// Largest manifest, in bytes: a hundred thousand charms with their grants.
pub const MANIFEST_BYTES_MAX: usize = 16 << 20;
/// Steps of comparing what one charm offers with a wish: one whose shapes take more is not found, and hides no other.
pub const WISH_STEPS_MAX: u32 = 1 << 16;
/// Most charms that one page of a `wish` holds: all of them stand in memory before the guest gets them.
pub const WISH_PAGE_MAX: usize = 256;
/// Most cells that one page of a listing holds, for whomever.
pub const LIST_PAGE_MAX: usize = 1_000;
/// Values of one page of a listing together, in bytes; a single one may have more.
pub const LIST_BYTES_MAX: usize = 256 << 10;
/// Names of cells that are not there, or not yet, after which a page of a listing ends: what others remove meanwhile stands
/// in the way a moment longer.
pub const LIST_PASSED_MAX: usize = 64;
/// Charms that are named because a wish nearly found them, in one page and in one attempt at a turn.
pub const NEAR_MISSES_MAX: usize = 8;
/// Charms that are looked at for those of whom nothing is granted, once in an attempt at a turn: nobody pays for that.
pub const NEAR_MISS_LOOKS_MAX: usize = 1_000;
/// Near misses that a host remembers, the last ones: each takes about a kilobyte.
pub const NEAR_MISSES_KEPT: usize = 1_024;
/// Steps of looking for the place where two shapes differ.
pub const MISFIT_STEPS_MAX: u32 = 1 << 12;
/// Longest text of a shape in a near miss, in bytes.
pub const SHAPE_TEXT_BYTES_MAX: usize = 192;
/// What a row of the store is taken to cost beside what it carries, in bytes: an index entry, two DIDs and an id. A commit
/// is two rows (record and receipt), each write and each event sent is one more.
pub const ROW_BYTES: usize = 256;

/// Cells below a derived cell that are remembered one by one, to see at once that none of them was written; more are a filter.
pub const LEAVES_MAX: usize = 256;
/// Derived cells that need one after the other, before the first of them has a value.
pub const DERIVE_DEPTH_MAX: usize = 4_096;
/// What is held of derived cells for one reader at once, with what they have read, in bytes.
pub const DERIVE_BYTES_MAX: usize = 64 << 20;
/// Derived cells that the last turns of one stream have read, which are made ready before the next begins.
pub const FORESEEN_MAX: usize = 256;
/// Times that a turn may read derived cells that hang, or may hang, on what it has written since it last did.
pub const STAGED_VIEWS_MAX: usize = 64;
/// Derivations that run at once for those outside, beside those that turns need.
pub const OUTSIDE_RUNS_MAX: usize = 4;
/// Those of them that compute cells of one charm.
pub const OUTSIDE_RUNS_OF_ONE: usize = 2;

/// Edits of a cell that a store keeps beside its value, in bytes, before it writes the value anew: as much as the value has, so
/// that what is written at most doubles, and reading one back reads at most twice its size; but at least this.
pub const EDITS_BYTES_MIN: usize = 1 << 10;
/// What an edit kept so is taken to cost beside what it carries, in bytes: many small ones take long to read back.
pub const EDIT_ROW_BYTES: usize = 64;

/// Spaces, receipts or cells that are worked through at once when history is looked through: a step of well below a
/// millisecond under a lock.
pub const HISTORY_STEP: usize = 256;
/// Turns that are listed at once.
pub const TURNS_PAGE_MAX: usize = 1_000;
/// Events that are named of those that a turn still waits for, when it is listed.
pub const TURN_EVENTS_SHOWN: usize = 8;
/// Events in one answer of why something happened: those that led to it, and what followed.
pub const WHY_EVENTS_MAX: usize = 1_000;
/// Events of those that led to it.
pub const WHY_CAUSES_MAX: usize = 250;
/// Records that are read for such an answer, in bytes.
pub const WHY_BYTES_MAX: usize = 64 << 20;
/// Commits that are listed there, of all its turns together.
pub const WHY_COMMITS_MAX: usize = 4_000;
/// Conflicts that a host remembers, the last ones: each takes less than a kilobyte.
pub const CONFLICTS_KEPT: usize = 4_096;
/// Those who watch something at the same time, over all: each takes a few hundred bytes, and what it was told last.
pub const WATCHERS_MAX: usize = 10_000;
/// Those of them that watch for one reader outside, with the rights of that one.
pub const WATCHERS_PER_READER_MAX: usize = 1_250;
/// Prefixes of one charm's cells that are watched at the same time: a list of the cells is kept for each.
pub const WATCH_PREFIXES_MAX: usize = 16;
/// Removed cells that such a list remembers: who is further behind is told anew what there is.
pub const WATCH_REMOVED_MAX: usize = 4_096;
/// Last writes of a watched cell that are remembered one by one, to tell how many were skipped.
pub const WATCH_NUMBERS_MAX: usize = 256;
/// Receipts that are read at once for those who watch them.
pub const WATCH_RECEIPTS_PAGE: usize = 64;
/// Events that are read at once for those who watch what waits for a charm.
pub const WATCH_EVENTS_PAGE: usize = 8;
/// Cells that were told in a newer state than the list of a prefix had, remembered for each who watches: they are not told twice.
pub const WATCH_AHEAD_MAX: usize = 4_096;
/// Events that are cancelled with one look at an inbox.
pub const WAITING_STEP: usize = 1_000;
/// Time between a commit and the look whether some charm's past is to go, in milliseconds.
pub const HISTORY_PAUSE_MS: u64 = 2_000;
/// Time between two looks for receipts whose time is over, in milliseconds.
pub const RECEIPTS_PAUSE_MS: u64 = 3_600_000;
/// Free pages of the index that are kept for what is written next, of 4 KiB each; when there are more its file shrinks.
pub const FREE_PAGES_MAX: i64 = 1_024;

/// Bounds of one host; the same for each charm. The defaults suit a machine with a few thousand charms.
///
/// Name those that differ: limits may be added. [`Limits::check`] says whether a host can run with them. A manifest has them in
/// its table `limits`, by the names that errors give them: `fuel-max`.
///
/// # Examples
/// ```
/// use charm_host::Limits;
///
/// let limits = Limits { fuel_max: 50_000_000, turns_max: 8, ..Limits::default() };
/// limits.check().unwrap();
/// let error = Limits { turns_max: 0, ..limits }.check().unwrap_err();
/// assert_eq!(error.to_string(), "limit turns-max is 0: give 1 to 4096");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", expecting = "a table: [limits] with numbers below it")]
pub struct Limits {
    /// Linear memory of a turn, in bytes, all memories of the component together.
    pub memory_bytes_max: usize,
    /// Wasm instructions and host calls of a turn, in fuel units (docs/fuel.md). Replays alike everywhere, so outcomes
    /// come from here first.
    pub fuel_max: u64,
    /// Fuel after which a turn lets others run; a tick every 10 ms does so too. Without ticks, as in a simulation, a turn
    /// is cut at the same places in every run.
    pub fuel_slice: u64,
    /// Time that one attempt at a turn may be on a thread, in milliseconds; waiting, in line or for HTTP, does not count.
    /// A backstop for what fuel misses.
    pub compute_ms_max: u64,
    /// Elements of a turn's tables, together. Large tables cost page-table work at every turn.
    pub table_elements_max: usize,
    /// Wasm stack of a turn, in bytes. Set when the host is built.
    pub stack_bytes_max: usize,
    /// Component-model handles open at once in a turn. One that is lent to a call, as all are to `get-each`, counts twice
    /// meanwhile.
    pub handles_max: usize,
    /// Bytes that the host copies out of a guest in one host call.
    pub hostcall_bytes_max: usize,
    /// A cell's value, in bytes.
    pub value_bytes_max: usize,
    /// An event's payload, in bytes.
    pub event_bytes_max: usize,
    /// An on-commit tag, in bytes. It travels with every receipt.
    pub tag_bytes_max: usize,
    /// Reads of a turn. Each is checked again at the commit.
    pub reads_max: usize,
    /// Writes of a turn that change something, counting each call.
    pub writes_max: usize,
    /// What a turn leaves written, together, in bytes: values with the keys of their paths; of a write at a path what is written
    /// there, not what the cell holds.
    pub write_bytes_max: usize,
    /// Payloads and tags that a turn may send, together, in bytes.
    pub send_bytes_max: usize,
    /// Events that a turn may send; at most 65,535.
    pub sends_max: usize,
    /// Events waiting for one charm that other charms and those outside have sent; as many from the operator, and as
    /// many from itself, receipts on their way to it included (S12). Of others, who takes more than it leaves free is
    /// pushed back, but the first event of each finds room.
    pub inbox_events_max: usize,
    /// Payload bytes waiting for one charm, in the same three parts.
    pub inbox_bytes_max: usize,
    /// Cells of one charm. Each takes some 400 bytes of the host's memory beside its name and value.
    pub cells_max: usize,
    /// Bytes in the cells of one charm.
    pub space_bytes_max: usize,
    /// Dead letters kept for one charm; the oldest goes first (its receipt stays).
    pub dead_letters_max: usize,
    /// What one attempt at a turn may log, in bytes; a line costs `LOG_LINE_BYTES` more than its text. The rest is cut.
    pub log_bytes_max: usize,
    /// HTTP requests of a turn.
    pub http_requests_max: usize,
    /// Length of a request's URL, in bytes.
    pub http_url_bytes_max: usize,
    /// Headers of a request or an answer.
    pub http_headers_max: usize,
    /// Names and values of those headers together, in bytes.
    pub http_header_bytes_max: usize,
    /// Body of a request, in bytes.
    pub http_request_bytes_max: usize,
    /// Body of an answer, in bytes.
    pub http_response_bytes_max: usize,
    /// One HTTP exchange from start to end, in milliseconds.
    pub http_timeout_ms: u64,
    /// All short calls of a turn together, in milliseconds: so long its charm may take no other event. And how long a request that a
    /// turn waits for stands in line for a place.
    pub http_turn_ms_max: u64,
    /// How long a turn is run again before it fails as `conflict-exhausted` (T4), in milliseconds. Starts with the first
    /// conflict and counts attempts and the pauses between them, no time spent waiting for HTTP, the disk or room.
    pub conflict_ms_max: u64,
    /// How long a turn waits for room in the inboxes that it sends to, all together, before its handler gets `queue-full`,
    /// and how long `request` waits for room, in milliseconds.
    pub room_ms_max: u64,
    /// Turns that run at the same time, over all charms. Set when the host is built: each has a slot of memory.
    pub turns_max: usize,
    /// Turns that wait for HTTP at the same time, over all charms: each holds its request and the answers so far. Further
    /// ones stand in line without their request. Set when the host is built.
    pub exchanges_max: usize,
    /// Waits of one turn (S7).
    pub waits_max: usize,
    /// Turns of one charm that have committed a segment and not ended. Over it a wait is refused, never the beginning of a turn.
    pub waiting_turns_max: usize,
    /// Longest time that a wait may ask for, or a turn that is to be tried again, in milliseconds.
    pub wait_ms_max: u64,
    /// How often one turn is tried again because it asks for that (S13).
    pub retries_max: usize,
    /// What a turn that waits is told by the host, all together, in bytes: kept until the turn ends.
    pub recording_bytes_max: usize,
    /// What derivations may take for one read of a derived cell by a turn or from outside, in fuel units, all cells together that
    /// have to be computed for it. What is computed by then is kept, so a reader that comes again gets further.
    pub derive_fuel_max: u64,
    /// What is kept of the derived cells of one charm, with what they have read, in bytes: what was asked for least lately goes,
    /// and is computed again.
    pub memo_bytes_max: usize,
    /// Commits that may wait for the disk. New turns wait when it is reached.
    pub commits_pending_max: usize,
    /// Values and payloads in those commits, together, in bytes. New turns wait when it is reached.
    pub commit_bytes_pending_max: usize,
    /// Old versions of cells that only open snapshots still see, in bytes, 128 more for each; of a large value what was written
    /// over, with the nodes on the way. Over it the turn with the
    /// oldest snapshot is run again, as after a conflict. Set when the host is built.
    pub old_versions_bytes_max: usize,
    /// What one charm may write to disk a second in the long run, in bytes: rows, values, payloads. The disk is the one
    /// thing that never comes back, so this binds a charm that is alone too: over it, its next turn waits.
    pub disk_bytes_per_second: u64,
    /// What one charm may write at once after a time of rest, in bytes: some minutes of its rate.
    pub disk_burst_bytes: u64,
    /// Records of a charm's commits that are kept, in bytes, unless the operator says otherwise: the oldest go (H1).
    pub history_bytes_max: u64,
    /// How long the receipts of events that a charm handled are kept, in milliseconds, unless the operator says otherwise: so
    /// long an event with an id of its sender's own is handled once (S9).
    pub receipts_ms: u64,
    /// What one charm may log a second in the long run, in bytes, over all its turns: nobody reads more. Lines over it are
    /// dropped, and how many is told.
    pub log_bytes_per_second: u64,
    /// What one charm may log at once after a time of rest, in bytes: some minutes of its rate.
    pub log_burst_bytes: u64,
    /// Events a second of one chain of causes: with `chain_burst_events` ahead of that, a chain is served after
    /// everybody else. It is not stopped.
    pub chain_events_per_second: u64,
    /// How far a chain of causes may be ahead of its rate, in events: a chain that ends is rarely so long.
    pub chain_burst_events: u64,
    /// A component file, in bytes. Set when the host is built.
    pub component_bytes_max: usize,
    /// Processor time that a helper may take to compile a component, in milliseconds: a JavaScript engine takes half a
    /// minute. It may last four times as long on a machine that has other work.
    pub compile_ms_max: u64,
    /// Address space of a helper, in bytes: more than twice what a JavaScript engine takes. Held on Linux.
    pub compile_memory_bytes_max: usize,
    /// Code of one compiled component, in bytes: the host holds it in memory.
    pub compiled_bytes_max: usize,
    /// Components that are compiled at the same time; others wait. Each takes a core. Set when the host is built.
    pub compiles_max: usize,
    /// Limits may be added: write `..Limits::default()` at the end.
    #[doc(hidden)]
    #[serde(skip)]
    pub more_may_come: (),
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes_max: 16 << 20,
            fuel_max: 1_000_000_000,
            fuel_slice: 2_000_000,
            compute_ms_max: 5_000,
            table_elements_max: 1_000,
            stack_bytes_max: 512 << 10,
            handles_max: 1_000,
            hostcall_bytes_max: 2 << 20,
            value_bytes_max: 1 << 20,
            event_bytes_max: 256 << 10,
            tag_bytes_max: 1 << 10,
            reads_max: 10_000,
            writes_max: 10_000,
            write_bytes_max: 16 << 20,
            send_bytes_max: 16 << 20,
            sends_max: 1_000,
            inbox_events_max: 10_000,
            inbox_bytes_max: 64 << 20,
            cells_max: 1 << 20,
            space_bytes_max: 256 << 20,
            dead_letters_max: 1_000,
            log_bytes_max: 16 << 10,
            http_requests_max: 16,
            http_url_bytes_max: 8 << 10,
            http_headers_max: 64,
            http_header_bytes_max: 32 << 10,
            http_request_bytes_max: 256 << 10,
            http_response_bytes_max: 1 << 20,
            http_timeout_ms: 30_000,
            http_turn_ms_max: 120_000,
            conflict_ms_max: 30_000,
            room_ms_max: 30_000,
            turns_max: 64,
            exchanges_max: 4_096,
            waits_max: 100,
            waiting_turns_max: 10_000,
            wait_ms_max: 7 * 24 * 3_600 * 1_000,
            retries_max: 16,
            recording_bytes_max: 4 << 20,
            derive_fuel_max: 20_000_000_000,
            memo_bytes_max: 16 << 20,
            commits_pending_max: 4_096,
            commit_bytes_pending_max: 64 << 20,
            old_versions_bytes_max: 256 << 20,
            disk_bytes_per_second: 1 << 20,
            disk_burst_bytes: 256 << 20,
            history_bytes_max: 64 << 20,
            receipts_ms: 30 * 24 * 3_600 * 1_000,
            log_bytes_per_second: 4 << 10,
            log_burst_bytes: 1 << 20,
            chain_events_per_second: 100,
            chain_burst_events: 1_000,
            component_bytes_max: 32 << 20,
            compile_ms_max: 120_000,
            compile_memory_bytes_max: 3 << 30,
            compiled_bytes_max: 256 << 20,
            compiles_max: 2,
            more_may_come: (),
        }
    }
}
