use super::*;

#[test]
fn what_was_told_ahead_is_not_told_again_up_to_a_bound() {
    let mut ahead = Ahead::default();
    ahead.add("x".into(), 7);
    assert!(ahead.has("x", 5) && ahead.has("x", 7), "both are told with it");
    assert!(!ahead.has("x", 9) && ahead.0.is_empty());
    for number in 0..=WATCH_AHEAD_MAX {
        ahead.add(number.to_string().into(), 7);
    }
    assert_eq!(ahead.0.len(), 1, "the rest is told again");
}
