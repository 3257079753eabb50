//! Every limit at its ends: a host that opens runs, all others are refused by name with the range (A5).

use std::time::Duration;

use charm_conformance::{builder, only, probe_charm, script};
use charm_host::{Charm, InstallError, LimitError, Limits, NewEvent, OpenError, Outcome, SendError};
use serde_json::json;

use crate::by_hand;

type Set = fn(&mut Limits, u64);

macro_rules! fields {
    ($($field:ident),* $(,)?) => {
        [$((stringify!($field), (|limits: &mut Limits, value: u64| limits.$field = value as _) as Set)),*]
    };
}

/// Every limit, by name.
const FIELDS: [(&str, Set); 57] = fields![
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
];

fn with(set: Set, value: u64) -> Limits {
    // Nobody waits long for room that never comes.
    let mut limits = Limits { room_ms_max: 50, ..Limits::default() };
    set(&mut limits, value);
    limits
}

/// Opens a host, and has it do whatever these limits let it do: each call comes to an end, and the store proves itself.
async fn runs(name: &str, limits: Limits) -> Result<(), LimitError> {
    let writes_on = !name.starts_with("disk_");
    let host = match builder().limits(limits.clone()).open().await {
        Ok(host) => host,
        Err(OpenError::Limit(refused)) => return Err(refused),
        Err(error) => panic!("{name}: {error}"),
    };
    let mut steps = vec![json!([["set", "x", [], 1], ["log", "info", "a line"]])];
    if writes_on {
        steps.push(json!([["reject", "no"]]));
        steps.push(json!([["set", "y", [], 1]]));
    }
    steps.push(json!([["send", "note", 1], ["try", ["wait", [0], "all", 1_000]]]));
    let small = Charm::new("small", by_hand::charm(&[]));
    let mut handled = 0;
    for charm in [small, probe_charm("probe").may_read("small", only(&[]))] {
        let installed = tokio::time::timeout(Duration::from_secs(60), host.install(charm)).await;
        let charm = match installed.unwrap_or_else(|_| panic!("{name}: the install hangs")) {
            Ok(charm) => charm,
            Err(InstallError::Limit { .. } | InstallError::TooLarge { .. } | InstallError::Describe { .. }) => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        for steps in &steps {
            let event = host.request(NewEvent::new(charm, "run", script(steps.clone())));
            let answer = tokio::time::timeout(Duration::from_secs(60), event).await;
            match answer.unwrap_or_else(|_| panic!("{name}: an event hangs")) {
                Ok(receipt) => handled += usize::from(receipt.outcome != Outcome::NoSuchStream),
                Err(SendError::Limit { .. }) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    if !["component_bytes_max", "compiled_bytes_max", "event_bytes_max"].contains(&name) {
        assert!(handled > 0, "{name}: a host that does nothing");
    }
    Ok(())
}

/// A5: each limit at 0, at 1 and at the most that its type holds, and at both ends of the range that a refusal names.
#[tokio::test(flavor = "multi_thread")]
async fn every_limit_at_its_ends_gives_a_host_that_runs_or_is_refused_by_name() {
    let source = include_str!("../../../host/src/limits.rs");
    let fields = source.split("pub struct Limits {").nth(1).unwrap().split("\n}").next().unwrap();
    let declared = fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    let declared: Vec<&str> = declared.filter(|name| *name != "more_may_come").collect();
    assert_eq!(declared, FIELDS.map(|(name, _)| name), "each limit stands in this table");
    for (name, set) in FIELDS {
        let mut ends = vec![0, 1, u64::MAX];
        let (mut tried, mut out) = (Vec::new(), Vec::new());
        while let Some(value) = ends.pop() {
            if tried.contains(&value) {
                continue;
            }
            tried.push(value);
            if let Err(refused) = runs(name, with(set, value)).await {
                assert_eq!(refused.name.replace('-', "_"), name, "{refused}");
                assert_eq!(with(set, value).check(), Err(refused.clone()));
                assert!(refused.value == value && !(refused.min..=refused.max).contains(&value), "{refused}");
                ends.extend([refused.min, refused.max]);
                out.push(value);
            }
        }
        assert!(out.iter().all(|value| [0, 1, u64::MAX].contains(value)), "{name}: an end of its own range is refused");
        assert!(out.contains(&u64::MAX), "{name}: nothing is endless");
    }
}

/// A5: the largest of all together open too, and a host with the least of everything still answers.
#[tokio::test(flavor = "multi_thread")]
async fn limits_at_their_ends_together_give_a_host_that_answers() {
    for end in [0, u64::MAX] {
        let mut limits = Limits::default();
        for (name, set) in FIELDS {
            // What is reserved for each slot, times the slots, is more than a machine has.
            if ["turns_max", "stack_bytes_max", "memory_bytes_max", "table_elements_max"].contains(&name) {
                continue;
            }
            let mut at = Limits::default();
            set(&mut at, end);
            let value = match at.check() {
                Ok(()) => end,
                Err(LimitError { min, max, .. }) => {
                    if end == 0 {
                        min
                    } else {
                        max
                    }
                }
            };
            set(&mut limits, value);
        }
        limits.component_bytes_max = limits.component_bytes_max.max(32 << 20);
        limits.compiled_bytes_max = limits.compiled_bytes_max.max(64 << 20);
        let host = builder().limits(limits).open().await.unwrap();
        let charm = host.install(Charm::new("small", by_hand::charm(&[]))).await.unwrap();
        let answer = host.request(NewEvent::new(charm, "run", &()));
        let answer = tokio::time::timeout(Duration::from_secs(60), answer).await.expect("it answers");
        assert!(matches!(answer, Ok(_) | Err(SendError::Limit { .. })), "{answer:?}");
        host.shutdown().await.unwrap();
    }
}
