//! Turns under way on disk, and what they were told.

use rusqlite::{Connection, Transaction, params};

use super::{at_most, blob, did, frame, rows};
use crate::{
    did::Did,
    event::EventId,
    record::Hash,
    rows::{Batch, RecordingRow, TurnRow},
};

/// Returns every turn under way, by position.
pub fn load(connection: &Connection) -> rusqlite::Result<Vec<TurnRow>> {
    let sql = "SELECT position, did, id, progress FROM turn JOIN space USING (cid) ORDER BY position";
    rows(connection, sql, [], |row| {
        let (position, space) = (row.get::<_, i64>(0)? as u64, did(row, 1)?);
        Ok(TurnRow { position, space, event: EventId(row.get(2)?), progress: frame(row, 3)? })
    })
}

/// Returns what turns have asked for, by position.
pub fn asked(connection: &Connection) -> rusqlite::Result<Vec<(u64, Vec<Hash>)>> {
    let sql = "SELECT position, requests FROM asked ORDER BY position";
    rows(connection, sql, [], |row| Ok((row.get::<_, i64>(0)? as u64, frame(row, 1)?)))
}

/// Returns what the turn at a position was told, in order.
pub fn recording(connection: &Connection, position: u64) -> rusqlite::Result<Vec<RecordingRow>> {
    let sql = "SELECT number, bytes FROM recording WHERE position = ?1 ORDER BY number";
    rows(connection, sql, [at_most(position)], |row| {
        Ok(RecordingRow { position, number: row.get(0)?, bytes: row.get::<_, Vec<u8>>(1)?.into() })
    })
}

/// Writes what a batch adds, then takes out what belongs to turns that have ended.
pub fn write(
    transaction: &Transaction<'_>,
    batch: &Batch,
    cid: impl Fn(&Did) -> rusqlite::Result<i64>,
) -> rusqlite::Result<()> {
    for row in &batch.recordings {
        transaction.prepare_cached("INSERT OR REPLACE INTO recording VALUES (?1, ?2, ?3)")?.execute(params![
            row.position as i64,
            row.number,
            &row.bytes[..]
        ])?;
    }
    for (position, requests) in &batch.asked {
        let position = *position as i64;
        if requests.is_empty() {
            transaction.prepare_cached("DELETE FROM asked WHERE position = ?1")?.execute([position])?;
        } else {
            let sql = "INSERT OR REPLACE INTO asked VALUES (?1, ?2)";
            transaction.prepare_cached(sql)?.execute(params![position, blob(requests)])?;
        }
    }
    for (position, turn) in &batch.turns {
        let position = *position as i64;
        if let Some(TurnRow { space, event, progress, .. }) = turn {
            transaction.prepare_cached("INSERT OR REPLACE INTO turn VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                position,
                cid(space)?,
                event.0,
                blob(progress)
            ])?;
        } else {
            transaction.prepare_cached("DELETE FROM turn WHERE position = ?1")?.execute([position])?;
            transaction.prepare_cached("DELETE FROM recording WHERE position = ?1")?.execute([position])?;
        }
    }
    Ok(())
}
