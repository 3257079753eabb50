//! Hands a record to the checker, and bounds what it says.

use std::fmt;

use adya::{
    Opts, Valid, Workload as Values,
    history::{History as Checked, Interner, Mop, Op, OpType, ReadValue, Scalar},
};

use super::{
    History, Key, Kind, Seen, Step, bounded,
    history::{Note, Record},
};

/// What is wrong with a record.
#[derive(Clone, Debug)]
pub struct Anomalies {
    /// The kinds, by Adya's names: `G0`, `G1a`, `G-single-item`, `G2-item-realtime`...
    pub kinds: Vec<String>,
    text: String,
}

impl fmt::Display for Anomalies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks that one order of the transactions, in which each stands between its begin and its end, explains all that
/// was read: strict serializability over the whole record. What is unknown may have committed or not.
///
/// # Errors
/// What contradicts that, in at most 4 KiB.
pub fn check(history: &History) -> Result<(), Anomalies> {
    let record = history.record();
    if let Some(number) = record.unread() {
        let text = format!("T{number} committed, and nobody knows what it read");
        return Err(Anomalies { kinds: vec!["unread".to_owned()], text });
    }
    let checked = translated(&record, history.kind());
    let (values, registers) = match history.kind() {
        Kind::Lists => (Values::ListAppend, false),
        Kind::Registers => (Values::RwRegister, true),
    };
    let opts = Opts {
        models: vec!["strict-serializable".to_owned()],
        // Both follow from the model, and without them registers tell little about the order of their values.
        wfr_keys: registers,
        linearizable_keys: registers,
        ..Opts::default()
    };
    let report = adya::check(&checked, values, &opts);
    if report.valid == Valid::True {
        return Ok(());
    }
    let mut text = format!("not strictly serializable: {}\n", report.anomaly_types.join(", "));
    for (kind, found) in &report.anomalies {
        let first = found.first().map_or("", |anomaly| anomaly.explanation.as_str());
        text.push_str(&format!("\n{kind}, {} found, the first:\n{first}\n", found.len()));
    }
    Err(Anomalies { kinds: report.anomaly_types, text: bounded(text) })
}

/// Each transaction is a process of its own: order among those of one client is order in time as any other.
fn translated(record: &Record, values: Kind) -> Checked {
    let mut names = Interner::default();
    let mut ops = Vec::with_capacity(record.notes.len() + 8);
    for (number, note) in &record.notes {
        let kind = match note {
            Note::Invoke => OpType::Invoke,
            Note::Ok => OpType::Ok,
            Note::Fail => OpType::Fail,
            Note::Info => OpType::Info,
        };
        ops.push(op(record, values, *number, kind, &mut names));
    }
    // Who never learnt how it ended may have committed.
    let mut open: Vec<u32> = record.transactions.keys().copied().collect();
    let ended = record.ended();
    open.retain(|number| !ended.contains(number));
    open.sort_unstable();
    ops.extend(open.into_iter().map(|number| op(record, values, number, OpType::Info, &mut names)));
    for (index, op) in ops.iter_mut().enumerate() {
        op.index = index as u64;
    }
    Checked::from_ops(ops, names)
}

fn op(record: &Record, values: Kind, number: u32, kind: OpType, names: &mut Interner) -> Op {
    let transaction = &record.transactions[&number];
    let mut seen = match kind {
        OpType::Ok => record.seen[&number].iter(),
        _ => [].iter(),
    };
    let mut value = Vec::with_capacity(transaction.steps.len());
    for step in &transaction.steps {
        match step {
            Step::Read(key) => {
                let value_read = match seen.next() {
                    None | Some(Seen::Nothing) => ReadValue::Nil,
                    Some(Seen::One(one)) => ReadValue::Scalar(int(names, *one)),
                    Some(Seen::List(list)) => ReadValue::List(list.iter().map(|item| int(names, *item)).collect()),
                };
                value.push(Mop::Read { key: named(names, *key), value: value_read });
            }
            Step::Write(key, written) => {
                let (key, value_written) = (named(names, *key), int(names, *written));
                value.push(match values {
                    Kind::Lists => Mop::Append { key, value: value_written },
                    Kind::Registers => Mop::Write { key, value: value_written },
                });
            }
            Step::Wait(_) => {}
        }
    }
    Op { index: 0, kind, process: Some(i64::from(number)), value, time: None }
}

fn int(names: &mut Interner, value: u32) -> u32 {
    names.intern(Scalar::Int(value.into()))
}

fn named(names: &mut Interner, key: Key) -> u32 {
    names.intern(Scalar::Str(format!("{}/{}", key.space, key.number)))
}
