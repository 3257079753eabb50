//! Cells on disk: a base value, and the edits since, so that a write costs what is written (C7). A new base takes the place of
//! both when the edits have come to as much as the base.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params, types::ValueRef};

use super::{bad, blob, did, frame, past, rows};
use crate::{
    did::Did,
    limits::{EDIT_ROW_BYTES, EDITS_BYTES_MIN, LIST_BYTES_MAX, VALUE_DEPTH_MAX},
    rows::{CellRow, CellWrite},
    store::past::Held,
    value::{self, Edit, Tree, Value},
};

fn apply(cell: &mut Held, order: i64, seq: i64, edits: &[Edit]) -> rusqlite::Result<()> {
    let value = value::apply(cell.value.take(), edits).map_err(|_| bad(0))?;
    *cell = Held { order: order as u64, seq: seq as u64, value };
    Ok(())
}

fn held(order: i64, seq: i64, bytes: ValueRef<'_>) -> rusqlite::Result<Held> {
    Ok(Held { order: order as u64, seq: seq as u64, value: tree(bytes)? })
}

fn read(bytes: ValueRef<'_>) -> rusqlite::Result<Option<Value>> {
    let bytes = bytes.as_blob_or_null().map_err(|_| bad(4))?;
    let value = bytes.map(|bytes| Value::from_bytes(bytes, usize::MAX, VALUE_DEPTH_MAX));
    value.transpose().map_err(|_| bad(4))
}

pub fn tree(bytes: ValueRef<'_>) -> rusqlite::Result<Option<Tree>> {
    Ok(read(bytes)?.map(Tree::new))
}

/// Edits of a cell by one commit.
struct Edits {
    cid: i64,
    name: String,
    order: i64,
    seq: i64,
    edits: Vec<Edit>,
}

/// Returns every cell as it is now. Both tables stand in the order of cells: one pass over each.
pub fn load(connection: &Connection) -> rusqlite::Result<Vec<CellRow>> {
    let spaces = rows(connection, "SELECT cid, did FROM space", [], |row| Ok((row.get::<_, i64>(0)?, did(row, 1)?)))?;
    let spaces: HashMap<i64, Did> = spaces.into_iter().collect();
    let mut statement = connection.prepare_cached("SELECT cid, name, g, seq, edits FROM edit ORDER BY cid, name, g")?;
    let mut edits = statement.query_map([], |row| {
        let (cid, name, order, seq) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(Edits { cid, name, order, seq, edits: frame(row, 4)? })
    })?;
    let mut next = edits.next().transpose()?;
    let mut statement = connection.prepare_cached("SELECT cid, name, g, seq, value FROM cell ORDER BY cid, name")?;
    let (mut cells, mut found) = (statement.query([])?, Vec::new());
    while let Some(row) = cells.next()? {
        let (cid, name): (i64, &str) = (row.get(0)?, row.get_ref(1)?.as_str().map_err(|_| bad(1))?);
        let space = *spaces.get(&cid).ok_or_else(|| bad(0))?;
        let (mut order, mut seq, mut value) = (row.get(2)?, row.get(3)?, read(row.get_ref(4)?)?);
        if next.as_ref().is_some_and(|next| next.cid == cid && next.name == name) {
            let mut cell = Held { order: order as u64, seq: seq as u64, value: value.map(Tree::new) };
            while let Some(Edits { order, seq, edits: some, .. }) =
                next.take_if(|next| next.cid == cid && next.name == name)
            {
                apply(&mut cell, order, seq, &some)?;
                next = edits.next().transpose()?;
            }
            (order, seq, value) = (cell.order as i64, cell.seq as i64, cell.value.as_ref().map(Tree::to_value));
        }
        found.push(CellRow { space, name: name.into(), order: order as u64, seq: seq as u64, value });
    }
    // Edits of no cell.
    if next.is_some() { Err(bad(1)) } else { Ok(found) }
}

/// Returns up to `max` cells of a space as they are now, from a name on and before another, in order, `LIST_BYTES_MAX` bytes of
/// values or one; and where the rest begins, if there may be more.
pub fn page(
    connection: &Connection,
    space: &Did,
    (start, end): (&str, Option<&str>),
    max: usize,
) -> rusqlite::Result<(Vec<CellRow>, Option<String>)> {
    let sql = "SELECT cid FROM space WHERE did = ?1";
    let cid = connection.prepare_cached(sql)?.query_row([space.public_key()], |row| row.get(0)).optional()?;
    let Some(cid) = cid else { return Ok((Vec::new(), None)) };
    // Every text is before every blob.
    let end = end.map_or(rusqlite::types::Value::Blob(Vec::new()), |end| end.to_owned().into());
    let sql = "SELECT name FROM cell WHERE cid = ?1 AND name >= ?2 AND name < ?3 ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let mut names = statement.query(params![cid, start, end])?;
    let (mut found, mut bytes): (Vec<CellRow>, usize) = (Vec::new(), 0);
    while let Some(row) = names.next()? {
        let name: String = row.get(0)?;
        if found.len() == max || bytes >= LIST_BYTES_MAX {
            return Ok((found, Some(name)));
        }
        let Some(Held { order, seq, value }) = present(connection, cid, &name)? else { continue };
        bytes += value.as_ref().map_or(0, Tree::len);
        found.push(CellRow { space: *space, name: name.into(), order, seq, value: value.as_ref().map(Tree::to_value) });
    }
    Ok((found, None))
}

/// Returns a cell as it is now.
pub fn present(connection: &Connection, cid: i64, name: &str) -> rusqlite::Result<Option<Held>> {
    let sql = "SELECT g, seq, value FROM cell WHERE cid = ?1 AND name = ?2";
    let mut cell = connection
        .prepare_cached(sql)?
        .query_row(params![cid, name], |row| held(row.get(0)?, row.get(1)?, row.get_ref(2)?))
        .optional()?;
    if let Some(cell) = &mut cell {
        let sql = "SELECT g, seq, edits FROM edit WHERE cid = ?1 AND name = ?2 ORDER BY g";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, frame::<Vec<Edit>>(row, 2)?));
        for (order, seq, edits) in rows(connection, sql, params![cid, name], read)? {
            apply(cell, order, seq, &edits)?;
        }
    }
    Ok(cell)
}

/// Writes one cell of a space whose records up to `floor` have gone.
pub fn write(transaction: &Transaction<'_>, cid: i64, write: &CellWrite, floor: i64) -> rusqlite::Result<()> {
    let (name, order, seq) = (&write.name[..], write.order as i64, write.seq as i64);
    past::keep(transaction, cid, name, floor)?;
    if write.is_whole() {
        let value = value::apply(None, &write.edits).map_err(|_| bad(0))?;
        return base(transaction, cid, name, &Held { order: write.order, seq: write.seq, value });
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
    let mut cell = present(transaction, cid, name)?.ok_or_else(|| bad(0))?;
    apply(&mut cell, order, seq, &write.edits)?;
    base(transaction, cid, name, &cell)
}

/// Lets a value take the place of what was there, or nothing.
fn base(transaction: &Transaction<'_>, cid: i64, name: &str, cell: &Held) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM edit WHERE cid = ?1 AND name = ?2")?.execute(params![cid, name])?;
    let Some(value) = &cell.value else {
        transaction.prepare_cached("DELETE FROM cell WHERE cid = ?1 AND name = ?2")?.execute(params![cid, name])?;
        return Ok(());
    };
    let sql = "INSERT OR REPLACE INTO cell VALUES (?1, ?2, ?3, ?4, ?5)";
    let (order, seq, bytes) = (cell.order as i64, cell.seq as i64, value.whole().to_vec());
    transaction.prepare_cached(sql)?.execute(params![cid, name, order, seq, bytes])?;
    Ok(())
}

#[cfg(test)]
mod tests;
