//! What somebody with the store's file may do to a space (I3).

use charm_host::Record;
use rusqlite::{Connection, params};

/// Changes the file; `a` and `b` are the row numbers of two spaces.
pub type Tamper = fn(&Connection, a: i64, b: i64);

/// Returns the blob with one bit flipped.
fn flip(blob: &[u8], at: usize) -> Vec<u8> {
    let mut blob = blob.to_vec();
    blob[at] ^= 1;
    blob
}

fn record(db: &Connection, cid: i64, seq: i64) -> Vec<u8> {
    db.query_row("SELECT record FROM log WHERE cid = ?1 AND seq = ?2", [cid, seq], |row| row.get(0)).unwrap()
}

fn set_record(db: &Connection, cid: i64, seq: i64, record: &[u8]) {
    let changed = db.execute("UPDATE log SET record = ?3 WHERE cid = ?1 AND seq = ?2", params![cid, seq, record]);
    assert_eq!(changed.unwrap(), 1);
}

fn cell_value(db: &Connection, cid: i64) -> Vec<u8> {
    db.query_row("SELECT value FROM cell WHERE cid = ?1 AND name = 'x'", [cid], |row| row.get(0)).unwrap()
}

/// Each with what it changes.
pub const TAMPERINGS: [(&str, Tamper); 22] = [
    ("the first byte of a record", |db, a, _| set_record(db, a, 2, &flip(&record(db, a, 2), 0))),
    ("a byte of a record's value", |db, a, _| {
        let whole = record(db, a, 2);
        set_record(db, a, 2, &flip(&whole, whole.len() / 2));
    }),
    ("the last byte of the last record", |db, a, _| {
        let seq = db.query_row("SELECT max(seq) FROM log WHERE cid = ?1", [a], |row| row.get(0)).unwrap();
        let whole = record(db, a, seq);
        set_record(db, a, seq, &flip(&whole, whole.len() - 1));
    }),
    ("a well-formed record", |db, a, _| {
        // Nothing but the chain covers it: the signature over a later head.
        let mut changed = Record::from_bytes(&record(db, a, 2)).unwrap();
        changed.time_ms += 1;
        set_record(db, a, 2, &changed.to_bytes());
    }),
    ("a byte after a record", |db, a, _| set_record(db, a, 2, &[record(db, a, 2), vec![0]].concat())),
    ("an empty record", |db, a, _| set_record(db, a, 2, &[])),
    ("a signature of nothing", |db, a, _| {
        assert_eq!(db.execute("UPDATE space SET signature = zeroblob(64) WHERE cid = ?1", [a]).unwrap(), 1);
    }),
    ("a bit of the signature", |db, a, _| {
        let sql = "SELECT signature FROM space WHERE cid = ?1";
        let signature: Vec<u8> = db.query_row(sql, [a], |row| row.get(0)).unwrap();
        db.execute("UPDATE space SET signature = ?2 WHERE cid = ?1", params![a, flip(&signature, 40)]).unwrap();
    }),
    ("a signature of a later commit", |db, a, _| {
        db.execute("UPDATE space SET signed = signed + 1 WHERE cid = ?1", [a]).unwrap();
    }),
    ("a signature of an earlier commit", |db, a, _| {
        db.execute("UPDATE space SET signed = signed - 1 WHERE cid = ?1", [a]).unwrap();
    }),
    ("the signature of another space", |db, a, b| {
        let sql = "UPDATE space SET signature = (SELECT signature FROM space WHERE cid = ?2) WHERE cid = ?1";
        db.execute(sql, [a, b]).unwrap();
    }),
    ("the last entry gone", |db, a, _| {
        db.execute("DELETE FROM log WHERE g = (SELECT max(g) FROM log WHERE cid = ?1)", [a]).unwrap();
    }),
    ("the last entry gone, and the head moved back", |db, a, _| {
        db.execute("DELETE FROM log WHERE g = (SELECT max(g) FROM log WHERE cid = ?1)", [a]).unwrap();
        db.execute("UPDATE space SET seq = seq - 1 WHERE cid = ?1", [a]).unwrap();
    }),
    ("the first entry gone", |db, a, _| {
        db.execute("DELETE FROM log WHERE cid = ?1 AND seq = 1", [a]).unwrap();
    }),
    ("an entry in the middle gone", |db, a, _| {
        db.execute("DELETE FROM log WHERE cid = ?1 AND seq = 3", [a]).unwrap();
    }),
    ("the whole log gone", |db, a, _| {
        db.execute("DELETE FROM log WHERE cid = ?1", [a]).unwrap();
    }),
    ("two entries swapped", |db, a, _| {
        let (two, three) = (record(db, a, 2), record(db, a, 3));
        set_record(db, a, 2, &three);
        set_record(db, a, 3, &two);
    }),
    ("the record of another space", |db, a, b| set_record(db, a, 1, &record(db, b, 1))),
    ("an entry moved to another space", |db, a, b| {
        db.execute("UPDATE log SET cid = ?2 WHERE g = (SELECT max(g) FROM log WHERE cid = ?1)", [a, b]).unwrap();
    }),
    ("a cell's value", |db, a, _| {
        let whole = cell_value(db, a);
        let last = whole.len() - 1;
        db.execute("UPDATE cell SET value = ?2 WHERE cid = ?1 AND name = 'x'", params![a, flip(&whole, last)]).unwrap();
    }),
    ("a cell gone", |db, a, _| {
        db.execute("DELETE FROM cell WHERE cid = ?1 AND name = 'x'", [a]).unwrap();
    }),
    ("a cell that nobody wrote", |db, a, _| {
        db.execute("INSERT INTO cell SELECT cid, 'forged', g, seq, value FROM cell WHERE cid = ?1 AND name = 'x'", [a])
            .unwrap();
    }),
];
