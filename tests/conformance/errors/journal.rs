//! What a journal refuses: it tells numbers and names of files, never a group.

use super::*;

/// T7: a journal knows groups as bytes, and tells none of them.
pub fn no_error_tells_what_it_holds(secret: &mut Secret) {
    let group = secret.much(10_000);
    let journal = MemoryJournal::new();
    for after in 0..3 {
        journal.append(after, group.as_bytes()).unwrap();
    }
    journal.release(2).unwrap();
    fails!(secret, journal.read(0, 1).unwrap_err(), JournalError::Released { first: 3 });
    fails!(secret, journal.append(9, group.as_bytes()).unwrap_err(), AppendError::Lost { end: 3 });
    fails!(secret, journal.append(3, group.as_bytes()).unwrap_err(), AppendError::Unknown(_));
    fails!(secret, AppendError::Full, AppendError::Full);
    fails!(secret, JournalError::Full, JournalError::Full);
    let failed = JournalError::Failed("00000001.log: input/output error".to_owned());
    fails!(secret, failed, JournalError::Failed(_));
    let damaged = JournalError::Damaged { path: "00000001.log".to_owned(), why: "group 3 is damaged".to_owned() };
    fails!(secret, damaged, JournalError::Damaged { .. });
    let unknown = JournalError::Unknown { path: "00000001.log".to_owned(), why: "it is of version 2".to_owned() };
    fails!(secret, unknown, JournalError::Unknown { .. });
}
