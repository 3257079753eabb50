//! Following links (C5): a path that leads through a link goes on where that leads, with the rules of the cell there.

use super::{Refusal, Transaction, Tree};
use crate::{
    cell::CellId,
    cost,
    limits::{LINKS_MAX, VALUE_DEPTH_MAX},
    link::Link,
    path::Path,
    value::Value,
};

impl Transaction {
    /// Makes a call at a path of a cell, or where the links on it lead.
    ///
    /// A call that meets a link on its way is refused by its kind, and one that may not write there by its owner: only then
    /// is there a look at links.
    pub(super) fn follow<T>(
        &mut self,
        cell: &CellId,
        path: &Path,
        mut call: impl FnMut(&mut Transaction, &CellId, &Path) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        // Where it has been, in order.
        let mut way: Vec<(CellId, Path)> = Vec::new();
        loop {
            let (here, inside) = way.last().map_or((cell, path), |(cell, path)| (cell, path));
            let refusal = match call(self, here, inside) {
                Err(refusal) if may_lead_on(&refusal) && !inside.is_root() => refusal,
                done => return done,
            };
            let Some(next) = self.hop(here, inside)? else { return Err(refusal) };
            if way.is_empty() {
                way.push((cell.clone(), path.clone()));
            }
            if let Some(start) = way.iter().position(|been| *been == next) {
                return Err(Refusal::Cycle(way.drain(start..).map(|(cell, _)| cell).collect()));
            }
            if way.len() > LINKS_MAX {
                return Err(Refusal::limit("links-max", LINKS_MAX));
            }
            way.push(next);
        }
    }

    /// Returns where the first link on a path leads, none when there is none, or none that may be read. The link is read.
    fn hop(&mut self, cell: &CellId, path: &Path) -> Result<Option<(CellId, Path)>, Refusal> {
        let value = match self.seen(cell, path) {
            Ok(value) => value,
            // What cannot be read leads nowhere: the write is refused as ever.
            Err(Refusal::Denied { .. } | Refusal::Failed { .. } | Refusal::Cycle(_)) => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        self.cost += cost::LINK + cost::searched(value.as_ref().map_or(0, Tree::len), path.0.len());
        let Some((steps, bytes)) = value.as_ref().and_then(|value| value.link_on(&path.0)) else { return Ok(None) };
        self.cost += cost::scanned(bytes.len());
        let link = Value::from_bytes(bytes, bytes.len(), VALUE_DEPTH_MAX).ok().as_ref().and_then(Link::from_value);
        // By value: where it leads, also to no cell, not only that a link is there.
        self.seen(cell, &Path(path.0[..steps].to_vec()))?;
        let Some(Link::Cell { owner, name, path: base }) = link else { return Ok(None) };
        let inside = base.0.iter().chain(&path.0[steps..]).cloned().collect();
        Ok(Some((CellId { owner, name }, Path(inside))))
    }
}

/// Returns whether a link may be why a call was refused.
fn may_lead_on(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::TypeMismatch(mismatch) => mismatch.actual == "link",
        Refusal::WriteIsolation { .. } | Refusal::ReadOnly { .. } => true,
        _ => false,
    }
}
