//! The past of spaces on disk: what cells held at the floor, and how more of it goes (H1).

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use rusqlite::{Connection, Error, OptionalExtension, Transaction, params, types::Type};

use super::{bad, cells, rows};
use crate::{
    did::Did,
    record::Record,
    rows::{CellRow, CutRow, Unfit},
    store::past::{Held, Past},
    value::Tree,
};

/// Returns the number of the commit that wrote a cell's present value; none where there is none.
pub fn written(transaction: &Transaction<'_>, cid: i64, name: &str) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT coalesce((SELECT seq FROM edit WHERE cid = ?1 AND name = ?2 ORDER BY g DESC LIMIT 1),
                               (SELECT seq FROM cell WHERE cid = ?1 AND name = ?2))";
    transaction.prepare_cached(sql)?.query_row(params![cid, name], |row| row.get(0))
}

/// Keeps what a cell holds that is written now for the first time since its space's floor.
pub fn keep(transaction: &Transaction<'_>, cid: i64, name: &str, floor: i64) -> rusqlite::Result<()> {
    if floor == 0 || written(transaction, cid, name)?.is_none_or(|seq| seq > floor) {
        return Ok(());
    }
    match cells::present(transaction, cid, name)? {
        Some(held) => insert(transaction, cid, name, &held),
        None => Ok(()),
    }
}

fn insert(transaction: &Transaction<'_>, cid: i64, name: &str, held: &Held) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO past VALUES (?1, ?2, ?3, ?4, ?5)";
    let Held { order, seq, value } = held;
    let bytes = value.as_ref().map(|value| value.whole().to_vec());
    transaction.prepare_cached(sql)?.execute(params![cid, name, *order as i64, *seq as i64, bytes])?;
    Ok(())
}

fn held(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Held> {
    let (order, seq): (i64, i64) = (row.get(column)?, row.get(column + 1)?);
    Ok(Held { order: order as u64, seq: seq as u64, value: cells::tree(row.get_ref(column + 2)?)? })
}

/// Returns what cells of a space held at its floor, as [`crate::Store::past`] does; of those in `written` too that are as old
/// here.
pub fn past(
    connection: &Connection,
    space: &Did,
    name: Option<&str>,
    written: &HashSet<Arc<str>>,
) -> rusqlite::Result<Vec<CellRow>> {
    let _picture = connection.unchecked_transaction()?;
    let sql = "SELECT past.name, g, past.seq, value FROM past JOIN space USING (cid)
               WHERE did = ?1 AND (?2 IS NULL OR past.name = ?2) ORDER BY past.name";
    let row = |name: Arc<str>, Held { order, seq, value }: Held| CellRow {
        space: *space,
        name,
        order,
        seq,
        value: value.as_ref().map(Tree::to_value),
    };
    let mut cells: BTreeMap<Arc<str>, CellRow> = rows(connection, sql, params![space.public_key(), name], |found| {
        let name: Arc<str> = found.get::<_, String>(0)?.into();
        Ok((name.clone(), row(name, held(found, 1)?)))
    })?
    .into_iter()
    .collect();
    let sql = "SELECT cid, floor FROM space WHERE did = ?1";
    let known = connection.query_row(sql, [space.public_key()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
    let Some((cid, floor)) = known.optional()? else { return Ok(Vec::new()) };
    for name in written {
        let present = if cells.contains_key(name) { None } else { cells::present(connection, cid, name)? };
        if let Some(held) = present.filter(|held| held.seq as i64 <= floor) {
            cells.insert(name.clone(), row(name.clone(), held));
        }
    }
    Ok(cells.into_values().collect())
}

/// What is wrong with records that go.
struct Damaged(Error);

impl From<Unfit> for Damaged {
    fn from(_: Unfit) -> Damaged {
        Damaged(bad(0))
    }
}

/// Lets the past of a space go.
pub fn cut(transaction: &Transaction<'_>, cid: i64, row: &CutRow) -> rusqlite::Result<()> {
    let CutRow { floor, receipts, messages, .. } = row;
    // One whose event is a dead letter stays as long as that: its id is known. So does one whose event a turn under way has
    // sent, which is told of it after the next start too: the position of that turn's event stands at the front of the id.
    let sql = "DELETE FROM receipt WHERE cid = ?1 AND at <= ?2 AND id NOT IN (SELECT id FROM dead)
               AND hex(substr(id, 1, 6)) NOT IN (SELECT printf('%012X', position) FROM turn)";
    transaction.prepare_cached(sql)?.execute(params![cid, *receipts as i64])?;
    transaction
        .prepare_cached("UPDATE space SET receipts_floor = max(receipts_floor, ?2) WHERE cid = ?1")?
        .execute(params![cid, *receipts as i64])?;
    transaction
        .prepare_cached("UPDATE receipt SET message = NULL WHERE cid = ?1 AND at <= ?2 AND message IS NOT NULL")?
        .execute(params![cid, *messages as i64])?;
    if floor.seq == 0 {
        return Ok(());
    }
    let seq = floor.seq as i64;
    let is_present = |name: &str| -> rusqlite::Result<bool> {
        Ok(written(transaction, cid, name)?.is_some_and(|written| written <= seq))
    };
    let mut past = Past::default();
    {
        let mut kept = transaction.prepare_cached("SELECT name, g, seq, value FROM past WHERE cid = ?1")?;
        let mut kept = kept.query([cid])?;
        while let Some(row) = kept.next()? {
            let name: Arc<str> = row.get::<_, String>(0)?.into();
            let is_present = is_present(&name)?;
            past.begin(name, held(row, 1)?, is_present);
        }
        let mut log =
            transaction.prepare_cached("SELECT g, record FROM log WHERE cid = ?1 AND seq <= ?2 ORDER BY seq")?;
        let mut log = log.query(params![cid, seq])?;
        while let Some(row) = log.next()? {
            let record = Record::from_bytes(row.get_ref(1)?.as_blob().map_err(|_| bad(1))?);
            let record = record.map_err(|error| Error::FromSqlConversionFailure(1, Type::Blob, error.into()))?;
            let next = past.next(row.get::<_, i64>(0)? as u64, record, |name| is_present(name).map_err(Damaged));
            next.map_err(|Damaged(error)| error)?;
        }
    }
    transaction.prepare_cached("DELETE FROM past WHERE cid = ?1")?.execute([cid])?;
    for (name, held) in past.end() {
        insert(transaction, cid, &name, &held)?;
    }
    transaction.prepare_cached("DELETE FROM log WHERE cid = ?1 AND seq <= ?2")?.execute(params![cid, seq])?;
    let sql = "UPDATE space SET floor = ?2, floor_g = ?3, floor_at = ?4,
               history = (SELECT coalesce(sum(length(record)), 0) FROM log WHERE log.cid = ?1) WHERE cid = ?1";
    transaction.prepare_cached(sql)?.execute(params![cid, seq, floor.order as i64, floor.at as i64])?;
    Ok(())
}

/// Returns the floor of every space that has one, by row number.
pub fn floors(connection: &Connection) -> rusqlite::Result<Vec<(i64, i64)>> {
    rows(connection, "SELECT cid, floor FROM space WHERE floor > 0", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Returns the last commit that says what has gone.
pub fn pruned(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM meta WHERE name = 'pruned'";
    let bytes: Option<[u8; 8]> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(bytes.map_or(0, u64::from_be_bytes))
}
