//! Derivations natively: on the thread of who reads, in a turn of their own that only reads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::super::shapes;
use super::super::state::{Event, From, State};
use super::{TURNS, Turn, canonical, turn};
use crate::{Did, Error, Result, Value};

/// Computes a derived cell, with the rights of its charm. The turn that reads it sees what it has written itself.
pub fn derive(state: &Rc<RefCell<State>>, owner: &Did, name: &str) -> Result<Value> {
    let needs_itself = TURNS.with_borrow_mut(|turns| {
        let is_it =
            |turn: &Turn| turn.me == *owner && turn.derives.as_ref().is_some_and(|(derived, _)| derived == name);
        let above = turns.iter().rev().take_while(|turn| turn.derives.is_some()).position(is_it)?;
        let from = turns.len() - 1 - above;
        let members = &mut turns[from..];
        let name =
            |turn: &Turn| (turn.me.clone(), turn.derives.as_ref().map_or(String::new(), |(name, _)| name.clone()));
        let mut names: Vec<_> = members.iter().map(name).collect();
        names.sort_unstable();
        // All of them are in it, whatever they make of the error.
        members.iter_mut().for_each(|turn| turn.cycle = Some(names.clone()));
        Some(names)
    });
    if let Some(cells) = needs_itself {
        return Err(Error::Cycle(cells));
    }
    let declared = state.borrow().charms.get(owner).map(|charm| {
        let shape = charm.cell(name).map(|cell| cell.shape.clone());
        (charm.derive.clone(), shape.unwrap_or_default())
    });
    let failed = |message: String| Error::Underivable { owner: owner.clone(), name: name.into(), message };
    let Some((derive, shape)) = declared else { return Err(failed("its charm is not installed".into())) };
    let written = TURNS.with_borrow(|turns| match turns.last() {
        Some(Turn { derives: Some((_, written)), .. }) => written.clone(),
        Some(turn) if !turn.waits => (turn.me.clone(), turn.ended.writes.clone()),
        _ => (owner.clone(), BTreeMap::new()),
    });
    let nobody = Event::new(String::new(), From::Host, owner.clone(), owner.clone(), String::new(), Vec::new());
    TURNS.with_borrow_mut(|turns| {
        turns.push(Turn { derives: Some((name.into(), written)), ..Turn::new(state.clone(), &nobody) });
    });
    let derived = catch_unwind(AssertUnwindSafe(|| derive(name)));
    if let Some(cells) = TURNS.with_borrow_mut(Vec::pop).and_then(|turn| turn.cycle) {
        return Err(Error::Cycle(cells));
    }
    let value = match derived {
        Ok(Ok(bytes)) => canonical(&bytes)?,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(panic) => {
            let words = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
            return Err(failed(format!("panicked: {}", words.unwrap_or_default())));
        }
    };
    shapes::check(&value, &shape).map_err(|error| failed(format!("returned what does not fit its shape: {error}")))?;
    Ok(value)
}

/// Refuses a derivation what it may not do (D1).
pub fn check_pure(turn: &Turn, call: &str) -> Result<()> {
    match turn.derives {
        None => Ok(()),
        Some(_) => Err(Error::Other {
            code: "pure".into(),
            message: format!("a derivation only reads cells: no {call} there"),
            at: Some(call.into()),
        }),
    }
}

/// The turn that runs, for what is another thing in each turn.
pub fn facts<R>(act: impl FnOnce(&mut Turn) -> R) -> R {
    turn(|turn| {
        let words = "a derivation has no sender, event, time or randomness: it computes from cells alone";
        assert!(turn.derives.is_none(), "{words}");
        act(turn)
    })
}
