use super::*;

#[test]
fn of_removed_cells_the_oldest_are_forgotten() {
    let mut names = Names::default();
    for seq in 1..=WATCH_REMOVED_MAX as u64 + 2 {
        let name: Arc<str> = format!("k{seq}").into();
        names.write(&name, seq, false);
        names.write(&name, seq, true);
    }
    assert_eq!(names.removed.len(), WATCH_REMOVED_MAX);
    assert_eq!((names.by_name.len(), names.floor), (WATCH_REMOVED_MAX, 2));
    // One that comes back is none of them.
    names.write(&"k3".into(), 9_999, false);
    assert_eq!(names.removed.len(), WATCH_REMOVED_MAX - 1);
}
