//! The store on disk alone: whole batches, one host, what is refused.

use super::*;

/// T5: a batch that fails in its middle leaves nothing, and the store goes on.
#[test]
fn a_batch_on_disk_is_taken_whole_or_not_at_all() {
    let kind = Folder::new();
    let store = with_spaces(&kind);
    store.commit(&whole_batch()).unwrap();
    let before = picture(&store);
    let unknown = whole_batch();
    // The log has these numbers already; a cell of a space that is not there.
    store.commit(&unknown).unwrap_err();
    let stranger = Batch {
        log: vec![entry(9, 1, 9)],
        queued: vec![queued(90, 1)],
        receipts: vec![receipt(90, Outcome::Committed)],
        cells: vec![write(1, "n", 9, Some(json!(1))), write(77, "n", 9, Some(json!(1)))],
        position: Some(99),
        ..Batch::default()
    };
    store.commit(&stranger).unwrap_err();
    assert_eq!(picture(&store), before);
    assert_eq!((store.entry(&did(1), 9), store.receipt(&id(90))), (Ok(None), Ok(None)));
    store.commit(&Batch { position: Some(100), ..Batch::default() }).unwrap();
    drop(store);
    assert_eq!(kind.open().load(Some(SECRET)).unwrap().position, 100);
}

/// I2: a space that a failed batch would have added is not known afterwards.
#[test]
fn a_space_of_a_failed_batch_is_not_added() {
    let kind = Folder::new();
    let store = with_spaces(&kind);
    let cells = vec![write(77, "n", 1, Some(json!(1)))];
    store.commit(&Batch { spaces: vec![space(3)], cells, ..Batch::default() }).unwrap_err();
    assert_eq!(store.load(Some(SECRET)).unwrap().spaces.len(), 2);
    store.commit(&Batch { turns: vec![turns::under_way(1, 3, 1)], ..Batch::default() }).unwrap_err();
    store.commit(&Batch { cells: vec![write(3, "n", 1, Some(json!(1)))], ..Batch::default() }).unwrap_err();
    store.commit(&Batch { spaces: vec![space(3)], ..Batch::default() }).unwrap();
    store.commit(&Batch { cells: vec![write(3, "n", 1, Some(json!(1)))], ..Batch::default() }).unwrap();
    assert_eq!(store.load(Some(SECRET)).unwrap().cells.len(), 1);
}

/// T8: one host at a time writes; readers come and go beside it.
#[test]
fn a_store_on_disk_has_one_host() {
    let kind = Folder::new();
    let store = with_spaces(&kind);
    assert!(matches!(FolderStore::open(&kind.path), Err(StoreError::InUse { .. })));
    let reader = FolderStore::open_read_only(&kind.path).unwrap();
    store.commit(&whole_batch()).unwrap();
    assert_eq!(picture(&reader), picture(&store), "a reader sees what is durable");
    reader.commit(&Batch { position: Some(1), ..Batch::default() }).unwrap_err();
    drop(store);
    kind.open();
}

/// What is no store says so, and is not touched.
#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.db");
    for content in [
        &b"not a database at all, but long enough to have a header of one hundred bytes: xxxxxxxxxxxxxxxxxxxx"[..],
        &[0; 4_096],
    ] {
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let error = FolderStore::open(&file).err().unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("other.db") && error.to_string().len() < 1_024, "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), content);
    }
    let error = FolderStore::open(file.join("no-folder/store")).err().unwrap();
    assert!(error.to_string().contains("no-folder"), "{error}");
    let error = FolderStore::open_read_only(folder.path().join("absent")).err().unwrap();
    assert!(error.to_string().contains("absent"), "{error}");
    assert!(!folder.path().join("absent").exists());
}

/// A store of a later format is left to a later host.
#[test]
fn a_store_of_another_format_is_refused() {
    let kind = Folder::new();
    drop(with_spaces(&kind));
    let connection = rusqlite::Connection::open(kind.path.join("index.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    for error in [FolderStore::open(&kind.path).err(), FolderStore::open_read_only(&kind.path).err()] {
        assert!(error.unwrap().to_string().contains("version 99"));
    }
}

/// Rows that the host did not write are reported as damage, with the file's name, not taken for values.
#[test]
fn damaged_rows_are_reported() {
    for (table, damage) in [
        ("cell", "UPDATE cell SET value = x'ff'"),
        ("queue", "UPDATE queue SET event = x'00'"),
        ("turn", "UPDATE turn SET progress = x'00'"),
        ("space", "UPDATE space SET did = x'00' WHERE cid = 1"),
        ("meta", "UPDATE meta SET value = x'00' WHERE name = 'secret'"),
    ] {
        let kind = Folder::new();
        let store = with_spaces(&kind);
        store.commit(&whole_batch()).unwrap();
        drop(store);
        rusqlite::Connection::open(kind.path.join("index.db")).unwrap().execute(damage, []).unwrap();
        let error = match FolderStore::open(&kind.path) {
            Ok(store) => store.load(Some(SECRET)).unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, StoreError::Damaged { .. }), "{table}: {error:?}");
        assert!(error.to_string().contains("store/index.db"), "{table}: {error}");
    }
}
