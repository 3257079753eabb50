//! Edits applied a second time, to decoded values: a proof does not take the word of what a host runs on (C7).

use crate::{
    path::Segment,
    value::{Data, Edit},
};

/// What is wrong with an edit.
type Why = &'static str;

const NOTHING: Why = "a write changes nothing";
const PARENT: Why = "an edit is in a value that is not there, or of another kind";

/// Applies the edits of one write, each of which has to change something in a value that is there.
pub(super) fn apply(value: &mut Option<Data>, edits: &[Edit]) -> Result<(), Why> {
    if edits.is_empty() {
        return Err(NOTHING);
    }
    edits.iter().try_for_each(|edit| {
        let put = edit.put.as_ref().map(|put| put.decode::<Data>()).transpose().map_err(|_| "a value is malformed")?;
        match edit.path.0.split_last() {
            None if *value == put => Err(NOTHING),
            None => {
                *value = put;
                Ok(())
            }
            Some((step, parents)) => change(parent(value.as_mut().ok_or(PARENT)?, parents)?, step, put),
        }
    })
}

fn parent<'a>(value: &'a mut Data, steps: &[Segment]) -> Result<&'a mut Data, Why> {
    steps.iter().try_fold(value, |value, step| match (value, step) {
        (Data::Map(entries), Segment::Key(key)) => entries.get_mut(key).ok_or(PARENT),
        (Data::List(items), Segment::Index(index)) => items.get_mut(*index as usize).ok_or(PARENT),
        _ => Err(PARENT),
    })
}

fn change(parent: &mut Data, step: &Segment, put: Option<Data>) -> Result<(), Why> {
    match (parent, step, put) {
        (Data::Map(entries), Segment::Key(key), Some(put)) => {
            if entries.get(key) == Some(&put) {
                return Err(NOTHING);
            }
            entries.insert(key.clone(), put);
        }
        (Data::Map(entries), Segment::Key(key), None) => drop(entries.remove(key).ok_or(NOTHING)?),
        (Data::List(items), Segment::Index(index), put) => {
            let (index, end) = (*index as usize, items.len());
            match put {
                Some(put) if index < end && items[index] == put => return Err(NOTHING),
                Some(put) if index < end => items[index] = put,
                Some(put) if index == end => items.push(put),
                None if index < end => drop(items.remove(index)),
                _ => return Err(PARENT),
            }
        }
        _ => return Err(PARENT),
    }
    Ok(())
}
