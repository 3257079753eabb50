//! Which limits a host can run with. Checked when it is opened: none of them stops it later, or lets it do nothing.

use super::{COMPONENT_BYTES_MAX, Limits};

/// A limit that no host can run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit {name} is {value}: give {min} to {max}")]
pub struct LimitError {
    /// Which.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// The least that it may be.
    pub min: u64,
    /// The most that it may be.
    pub max: u64,
}

/// Largest number of anything that is counted: sums of a few of them stay far from the end of 64 bits.
const COUNT_MAX: u64 = 1 << 32;
/// Most bytes of anything.
const BYTES_MAX: u64 = 1 << 48;
/// Longest time, in milliseconds: a year.
const MS_MAX: u64 = 366 * 24 * 3_600 * 1_000;
/// Most bytes that a commit carries of one kind: the store takes a record of at most 1 GB.
const RECORD_BYTES_MAX: u64 = 256 << 20;
/// Most bytes that stand in memory in one piece.
const PIECE_BYTES_MAX: u64 = 1 << 30;
/// Fuel is counted in 63 bits.
const FUEL_MAX: u64 = i64::MAX as u64;

impl Limits {
    /// Checks each limit against the range in which a host runs; [`open`](crate::HostBuilder::open) does so too.
    ///
    /// # Errors
    /// [`LimitError`] for the first that is out of its range.
    pub fn check(&self) -> Result<(), LimitError> {
        // Without `..`: a limit without a range does not compile.
        let Limits {
            memory_bytes_max,
            fuel_max,
            fuel_slice,
            compute_ms_max,
            table_elements_max,
            stack_bytes_max,
            handles_max,
            hostcall_bytes_max,
            value_bytes_max,
            event_bytes_max,
            tag_bytes_max,
            reads_max,
            writes_max,
            write_bytes_max,
            send_bytes_max,
            sends_max,
            inbox_events_max,
            inbox_bytes_max,
            cells_max,
            space_bytes_max,
            dead_letters_max,
            log_bytes_max,
            http_requests_max,
            http_url_bytes_max,
            http_headers_max,
            http_header_bytes_max,
            http_request_bytes_max,
            http_response_bytes_max,
            http_timeout_ms,
            http_turn_ms_max,
            conflict_ms_max,
            room_ms_max,
            turns_max,
            exchanges_max,
            waits_max,
            waiting_turns_max,
            wait_ms_max,
            retries_max,
            recording_bytes_max,
            derive_fuel_max,
            memo_bytes_max,
            commits_pending_max,
            commit_bytes_pending_max,
            old_versions_bytes_max,
            disk_bytes_per_second,
            disk_burst_bytes,
            history_bytes_max,
            receipts_ms,
            log_bytes_per_second,
            log_burst_bytes,
            chain_events_per_second,
            chain_burst_events,
            component_bytes_max,
            compile_ms_max,
            compile_memory_bytes_max,
            compiled_bytes_max,
            compiles_max,
            more_may_come: (),
        } = *self;
        let size = |size: usize| size as u64;
        let ranges = [
            // What a 32-bit guest can address, from its first page on.
            ("memory-bytes-max", size(memory_bytes_max), 64 << 10, 4 << 30),
            ("fuel-max", fuel_max, 0, FUEL_MAX),
            ("fuel-slice", fuel_slice, 1, FUEL_MAX),
            ("compute-ms-max", compute_ms_max, 1, MS_MAX),
            ("table-elements-max", size(table_elements_max), 0, 1_000_000),
            // The stacks of all slots are reserved.
            ("stack-bytes-max", size(stack_bytes_max), 64 << 10, 16 << 20),
            ("handles-max", size(handles_max), 0, COUNT_MAX),
            // A description has to come out.
            ("hostcall-bytes-max", size(hostcall_bytes_max), 4 << 10, PIECE_BYTES_MAX),
            ("value-bytes-max", size(value_bytes_max), 0, RECORD_BYTES_MAX),
            ("event-bytes-max", size(event_bytes_max), 0, RECORD_BYTES_MAX),
            ("tag-bytes-max", size(tag_bytes_max), 0, 1 << 20),
            ("reads-max", size(reads_max), 0, COUNT_MAX),
            // Their names stand in the record too.
            ("writes-max", size(writes_max), 0, 1_000_000),
            ("write-bytes-max", size(write_bytes_max), 0, RECORD_BYTES_MAX),
            ("send-bytes-max", size(send_bytes_max), 0, RECORD_BYTES_MAX),
            // Event ids number the sends of a turn in 16 bits; the last number is for events from outside.
            ("sends-max", size(sends_max), 0, 65_535),
            ("inbox-events-max", size(inbox_events_max), 1, COUNT_MAX),
            ("inbox-bytes-max", size(inbox_bytes_max), 1_000, BYTES_MAX),
            ("cells-max", size(cells_max), 0, COUNT_MAX),
            ("space-bytes-max", size(space_bytes_max), 0, BYTES_MAX),
            ("dead-letters-max", size(dead_letters_max), 0, COUNT_MAX),
            ("log-bytes-max", size(log_bytes_max), 0, PIECE_BYTES_MAX),
            ("http-requests-max", size(http_requests_max), 0, COUNT_MAX),
            ("http-url-bytes-max", size(http_url_bytes_max), 0, PIECE_BYTES_MAX),
            ("http-headers-max", size(http_headers_max), 0, COUNT_MAX),
            ("http-header-bytes-max", size(http_header_bytes_max), 0, PIECE_BYTES_MAX),
            ("http-request-bytes-max", size(http_request_bytes_max), 0, PIECE_BYTES_MAX),
            ("http-response-bytes-max", size(http_response_bytes_max), 0, PIECE_BYTES_MAX),
            ("http-timeout-ms", http_timeout_ms, 0, MS_MAX),
            ("http-turn-ms-max", http_turn_ms_max, 0, MS_MAX),
            ("conflict-ms-max", conflict_ms_max, 0, MS_MAX),
            ("room-ms-max", room_ms_max, 0, MS_MAX),
            // Each has a slot: memory, stacks and tables that are reserved.
            ("turns-max", size(turns_max), 1, 4_096),
            ("exchanges-max", size(exchanges_max), 1, COUNT_MAX),
            ("waits-max", size(waits_max), 0, COUNT_MAX),
            ("waiting-turns-max", size(waiting_turns_max), 0, COUNT_MAX),
            ("wait-ms-max", wait_ms_max, 0, MS_MAX),
            ("retries-max", size(retries_max), 0, COUNT_MAX),
            ("recording-bytes-max", size(recording_bytes_max), 0, 16 << 20),
            ("derive-fuel-max", derive_fuel_max, 1, FUEL_MAX),
            ("memo-bytes-max", size(memo_bytes_max), 0, BYTES_MAX),
            ("commits-pending-max", size(commits_pending_max), 1, COUNT_MAX),
            ("commit-bytes-pending-max", size(commit_bytes_pending_max), 1, BYTES_MAX),
            ("old-versions-bytes-max", size(old_versions_bytes_max), 0, BYTES_MAX),
            ("disk-bytes-per-second", disk_bytes_per_second, 1, BYTES_MAX),
            ("disk-burst-bytes", disk_burst_bytes, 0, BYTES_MAX),
            ("history-bytes-max", history_bytes_max, 0, BYTES_MAX),
            ("receipts-ms", receipts_ms, 0, 100 * MS_MAX),
            ("log-bytes-per-second", log_bytes_per_second, 0, BYTES_MAX),
            ("log-burst-bytes", log_burst_bytes, 0, BYTES_MAX),
            ("chain-events-per-second", chain_events_per_second, 0, BYTES_MAX),
            ("chain-burst-events", chain_burst_events, 0, BYTES_MAX),
            ("component-bytes-max", size(component_bytes_max), 1, size(COMPONENT_BYTES_MAX)),
            ("compile-ms-max", compile_ms_max, 1, MS_MAX),
            // No program starts with less.
            ("compile-memory-bytes-max", size(compile_memory_bytes_max), 64 << 20, BYTES_MAX),
            ("compiled-bytes-max", size(compiled_bytes_max), 1, 4 << 30),
            ("compiles-max", size(compiles_max), 1, 1_024),
        ];
        let wrong = ranges.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value));
        wrong.map_or(Ok(()), |(name, value, min, max)| Err(LimitError { name, value, min, max }))
    }
}
