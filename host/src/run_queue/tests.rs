//! Who is next, without a turn being taken.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{cell::RefCell, pin::pin};

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

/// A run queue in which these charms may have turns.
fn queue(charms: &[Did]) -> RunQueue {
    let queue = RunQueue::default();
    charms.iter().for_each(|charm| queue.install(*charm));
    queue
}

/// The next turn, if there is one at once: whoever is asked begins.
fn next(queue: &RunQueue) -> Option<Did> {
    queue.next(|charm, _| Answer::Begins(*charm)).now_or_never().flatten()
}

#[test]
fn charms_get_their_turns_in_the_order_in_which_work_came() {
    let (a, b, c) = (Did::numbered(1), Did::numbered(2), Did::numbered(3));
    let queue = queue(&[a, b, c]);
    assert_eq!([next(&queue), next(&queue), next(&queue)], [Some(a), Some(b), Some(c)]);
    assert_eq!(next(&queue), None, "S3: a charm that runs is not in line");
    queue.wake(c);
    queue.wake(a);
    assert_eq!(next(&queue), None, "S3: work that comes meanwhile waits for the end of the turn");
    queue.done(a, false);
    queue.done(c, false);
    queue.done(b, false);
    assert_eq!([next(&queue), next(&queue), next(&queue)], [Some(a), Some(c), None], "b had no more work");
}

#[test]
fn a_charm_with_more_work_stands_behind_those_who_wait() {
    let (a, b) = (Did::numbered(1), Did::numbered(2));
    let queue = queue(&[a, b]);
    assert_eq!(next(&queue), Some(a));
    queue.done(a, true);
    assert_eq!([next(&queue), next(&queue)], [Some(b), Some(a)]);
}

#[test]
fn who_is_not_installed_gets_no_turn() {
    let queue = queue(&[]);
    queue.wake(Did::numbered(1));
    assert_eq!(next(&queue), None);
    queue.install(Did::numbered(1));
    assert_eq!(next(&queue), Some(Did::numbered(1)));
}

#[test]
fn who_is_held_is_asked_again_after_a_nudge_and_before_all_others() {
    let (a, b, c) = (Did::numbered(1), Did::numbered(2), Did::numbered(3));
    let queue = queue(&[a, b, c]);
    let held = |charm: &Did, _| if *charm == c { Answer::Begins(c) } else { Answer::Held };
    assert_eq!(queue.next(held).now_or_never().flatten(), Some(c), "the two before it may not begin");
    queue.done(c, true);
    assert_eq!(next(&queue), Some(c));
    assert_eq!(next(&queue), None, "nobody asks them without a reason");
    queue.nudge();
    assert_eq!([next(&queue), next(&queue)], [Some(a), Some(b)], "in their old order");
}

/// The reason to hold a charm back goes while it is asked: it is not forgotten.
#[test]
fn a_nudge_while_a_charm_is_asked_is_not_lost() {
    let a = Did::numbered(1);
    let queue = queue(&[a]);
    let asked = RefCell::new(0);
    let answer = |_: &Did, _| {
        *asked.borrow_mut() += 1;
        match *asked.borrow() {
            1 => {
                queue.nudge();
                Answer::Held
            }
            _ => Answer::Begins(a),
        }
    };
    assert_eq!(queue.next(answer).now_or_never().flatten(), Some(a));
}

#[test]
fn who_is_late_comes_after_all_in_line_and_says_that_it_has_waited() {
    let (a, b) = (Did::numbered(1), Did::numbered(2));
    let queue = queue(&[a, b]);
    let seen = RefCell::new(Vec::new());
    let answer = |charm: &Did, waited: bool| {
        seen.borrow_mut().push((*charm, waited));
        if *charm == a && !waited { Answer::Late } else { Answer::Begins(*charm) }
    };
    assert_eq!(queue.next(answer).now_or_never().flatten(), Some(b));
    assert_eq!(queue.next(answer).now_or_never().flatten(), Some(a), "A6: with nobody else in line it has its turn");
    assert_eq!(*seen.borrow(), [(a, false), (b, false), (a, true)]);
}

#[test]
fn a_turn_that_is_away_keeps_its_charm_out_of_the_line_until_it_is_back() {
    let (a, b) = (Did::numbered(1), Did::numbered(2));
    let queue = queue(&[a, b]);
    assert_eq!(next(&queue), Some(a));
    queue.away(a);
    queue.wake(a);
    assert_eq!([next(&queue), next(&queue)], [Some(b), None], "it begins no other turn");
    assert!(queue.idle().now_or_never().is_none(), "b holds a worker");
    queue.done(b, true);
    assert!(queue.idle().now_or_never().is_some(), "who is away holds none");
    queue.back(a, true);
    assert_eq!([next(&queue), next(&queue)], [Some(a), Some(b)], "as the first");
}

#[test]
fn a_closed_queue_gives_out_nothing_and_lets_every_worker_go() {
    let (a, b) = (Did::numbered(1), Did::numbered(2));
    let queue = queue(&[a, b]);
    assert_eq!(next(&queue), Some(a));
    let mut idle = pin!(queue.idle());
    assert!(idle.as_mut().now_or_never().is_none());
    queue.close();
    for _ in 0..3 {
        let left = queue.next(|charm, _| Answer::Begins(*charm)).now_or_never();
        assert_eq!(left, Some(None), "a worker that asks is told to leave");
    }
    assert!(queue.closed().now_or_never().is_some());
    queue.done(a, false);
    assert!(idle.now_or_never().is_some(), "the turn that ran has ended");
}

#[test]
fn at_rest_waits_for_turns_that_hold_a_worker_only() {
    let (a, b) = (Did::numbered(1), Did::numbered(2));
    let queue = queue(&[a, b]);
    assert_eq!([next(&queue), next(&queue)], [Some(a), Some(b)]);
    let mut rest = pin!(queue.at_rest(|| [a].into()));
    assert!(rest.as_mut().now_or_never().is_none());
    queue.done(b, false);
    assert!(rest.as_mut().now_or_never().is_none(), "that is another charm's");
    queue.away(a);
    assert!(rest.now_or_never().is_some());
}

/// One thing that happens to a queue of three charms.
#[derive(Clone, Debug)]
enum Step {
    Wake(u8),
    /// How they answer, and whether work comes while they are asked.
    Next(u8, bool),
    Done(u8, bool),
    Away(u8),
    Back(u8, bool),
    Nudge,
}

fn step() -> impl Strategy<Value = Step> {
    let charm = 0..3u8;
    prop_oneof![
        4 => charm.clone().prop_map(Step::Wake),
        6 => (0..4u8, any::<bool>()).prop_map(|(kind, wakes)| Step::Next(kind, wakes)),
        4 => (charm.clone(), any::<bool>()).prop_map(|(charm, more)| Step::Done(charm, more)),
        1 => charm.clone().prop_map(Step::Away),
        2 => (charm, any::<bool>()).prop_map(|(charm, first)| Step::Back(charm, first)),
        1 => Just(Step::Nudge),
    ]
}

proptest! {
    /// S3: one turn at a time for a charm, and no work is forgotten, whatever happens in whatever order.
    #[test]
    fn no_charm_runs_twice_and_none_with_work_is_forgotten(steps in prop::collection::vec(step(), 0..80)) {
        let charms = [Did::numbered(1), Did::numbered(2), Did::numbered(3)];
        let queue = queue(&charms);
        // What each has: work that no turn has seen, and where it is.
        let (mut work, mut runs, mut away) = ([true; 3], [false; 3], [false; 3]);
        let index = |did: &Did| charms.iter().position(|charm| charm == did).unwrap();
        for step in steps {
            match step {
                Step::Wake(n) => {
                    work[n as usize] = true;
                    queue.wake(charms[n as usize]);
                }
                Step::Next(kind, wakes) => {
                    // Whether work came for each of them while it was asked, and whether it did so the last time.
                    let woken = RefCell::new([(false, false); 3]);
                    let answer = |did: &Did, waited: bool| {
                        let (once, last) = &mut woken.borrow_mut()[index(did)];
                        *last = wakes && !*once;
                        if *last {
                            *once = true;
                            queue.wake(*did);
                        }
                        match kind {
                            0 => Answer::Held,
                            1 if !waited => Answer::Late,
                            _ => Answer::Begins(*did),
                        }
                    };
                    let began = queue.next(answer).now_or_never().flatten();
                    (0..3).for_each(|n| work[n] |= woken.borrow()[n].0);
                    if let Some(n) = began.as_ref().map(index) {
                        prop_assert!(!runs[n] && !away[n], "one turn at a time");
                        (runs[n], work[n]) = (true, woken.borrow()[n].1);
                    }
                }
                Step::Done(n, more) if runs[n as usize] => {
                    let n = n as usize;
                    (runs[n], work[n]) = (false, work[n] || more);
                    queue.done(charms[n], more);
                }
                Step::Away(n) if runs[n as usize] => {
                    (runs[n as usize], away[n as usize]) = (false, true);
                    queue.away(charms[n as usize]);
                }
                Step::Back(n, first) if away[n as usize] => {
                    (away[n as usize], work[n as usize]) = (false, true);
                    queue.back(charms[n as usize], first);
                }
                Step::Nudge => queue.nudge(),
                Step::Done(..) | Step::Away(_) | Step::Back(..) => {}
            }
        }
        queue.nudge();
        while let Some(did) = next(&queue) {
            let n = index(&did);
            prop_assert!(!runs[n] && !away[n], "one turn at a time");
            work[n] = false;
            queue.done(did, false);
        }
        for n in 0..3 {
            prop_assert!(!work[n] || runs[n] || away[n], "the work of charm {n} is forgotten");
        }
    }
}
