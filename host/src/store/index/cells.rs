//! Cells on disk: a base value, and the edits since, so that a write costs what is written (C7). A new base takes the place of
//! both when the edits have come to as much as the base.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{bad, blob, did, frame, rows};
use crate::{
    did::Did,
    limits::{EDIT_ROW_BYTES, EDITS_BYTES_MIN, VALUE_DEPTH_MAX},
    rows::{CellRow, CellWrite},
    value::{self, Edit, Tree, Value},
};

/// A cell's value and the commit that it is of.
struct Cell {
    order: i64,
    seq: i64,
    value: Option<Tree>,
}

impl Cell {
    fn apply(&mut self, order: i64, seq: i64, edits: &[Edit]) -> rusqlite::Result<()> {
        (self.order, self.seq) = (order, seq);
        self.value = value::apply(self.value.take(), edits).map_err(|_| bad(0))?;
        Ok(())
    }
}

fn tree(bytes: Option<Vec<u8>>) -> rusqlite::Result<Option<Tree>> {
    let value = bytes.map(|bytes| Value::from_bytes(&bytes, usize::MAX, VALUE_DEPTH_MAX).map(Tree::new)).transpose();
    value.map_err(|_| bad(0))
}

/// Returns every cell as it is now.
pub fn load(connection: &Connection) -> rusqlite::Result<Vec<CellRow>> {
    let mut cells: BTreeMap<(Did, Arc<str>), Cell> = BTreeMap::new();
    let sql = "SELECT did, cell.name, g, cell.seq, value FROM cell JOIN space USING (cid)";
    let read = |row: &rusqlite::Row<'_>| {
        let cell = Cell { order: row.get(2)?, seq: row.get(3)?, value: tree(row.get(4)?)? };
        Ok(((did(row, 0)?, row.get::<_, String>(1)?.into()), cell))
    };
    cells.extend(rows(connection, sql, [], read)?);
    let sql = "SELECT did, edit.name, g, edit.seq, edits FROM edit JOIN space USING (cid) ORDER BY cid, edit.name, g";
    let mut statement = connection.prepare_cached(sql)?;
    let mut edits = statement.query([])?;
    while let Some(row) = edits.next()? {
        let key = (did(row, 0)?, row.get::<_, String>(1)?.into());
        let cell = cells.get_mut(&key).ok_or_else(|| bad(1))?;
        cell.apply(row.get(2)?, row.get(3)?, &frame::<Vec<Edit>>(row, 4)?)?;
    }
    let row = |((space, name), Cell { order, seq, value }): ((Did, Arc<str>), Cell)| {
        let (order, seq) = (order as u64, seq as u64);
        CellRow { space, name, order, seq, value: value.as_ref().map(Tree::to_value) }
    };
    Ok(cells.into_iter().map(row).collect())
}

/// Writes one cell.
pub fn write(transaction: &Transaction<'_>, cid: i64, write: &CellWrite) -> rusqlite::Result<()> {
    let (name, order, seq) = (&write.name[..], write.order as i64, write.seq as i64);
    if write.is_whole() {
        let value = value::apply(None, &write.edits).map_err(|_| bad(0))?;
        return base(transaction, cid, name, &Cell { order, seq, value });
    }
    let sql = "SELECT since FROM edit WHERE cid = ?1 AND name = ?2 ORDER BY g DESC LIMIT 1";
    let before =
        transaction.prepare_cached(sql)?.query_row(params![cid, name], |row| row.get::<_, i64>(0)).optional()?;
    let edits = blob(&write.edits);
    let since = before.unwrap_or(0) + (edits.len() + EDIT_ROW_BYTES) as i64;
    let sql = "SELECT ifnull(length(value), 0) FROM cell WHERE cid = ?1 AND name = ?2";
    let held: i64 = transaction.prepare_cached(sql)?.query_row(params![cid, name], |row| row.get(0))?;
    if since < held.max(EDITS_BYTES_MIN as i64) {
        let sql = "INSERT INTO edit VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        transaction.prepare_cached(sql)?.execute(params![cid, name, order, seq, since, edits])?;
        return Ok(());
    }
    let sql = "SELECT g, seq, value FROM cell WHERE cid = ?1 AND name = ?2";
    let mut cell = transaction.prepare_cached(sql)?.query_row(params![cid, name], |row| {
        Ok(Cell { order: row.get(0)?, seq: row.get(1)?, value: tree(row.get(2)?)? })
    })?;
    let sql = "SELECT edits FROM edit WHERE cid = ?1 AND name = ?2 ORDER BY g";
    for edits in rows(transaction, sql, params![cid, name], |row| frame::<Vec<Edit>>(row, 0))? {
        cell.apply(order, seq, &edits)?;
    }
    cell.apply(order, seq, &write.edits)?;
    base(transaction, cid, name, &cell)
}

/// Lets a value take the place of what was there.
fn base(transaction: &Transaction<'_>, cid: i64, name: &str, cell: &Cell) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM edit WHERE cid = ?1 AND name = ?2")?.execute(params![cid, name])?;
    let bytes = cell.value.as_ref().map(|value| value.whole().to_vec());
    let sql = "INSERT OR REPLACE INTO cell VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction.prepare_cached(sql)?.execute(params![cid, name, cell.order, cell.seq, bytes])?;
    Ok(())
}

#[cfg(test)]
mod tests;
