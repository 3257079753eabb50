//! `wit/discovery.wit` (D7).

use super::{CallError, called};
use crate::{
    cell::CellId,
    descriptor::{check_tag, declarations},
    guest::{
        bindings::charm::host::discovery::{self, Declaration, Found, Wanted},
        ctx::{CellHandle, Ctx, StreamHandle},
    },
    limits::WISH_BYTES_MAX,
    tx::Refusal,
};

/// Checks what is asked, keeping the guest's order.
fn asked(kind: &str, list: &[Declaration]) -> Result<Vec<(String, crate::shape::Shape)>, Refusal> {
    let pairs = list.iter().map(|declaration| (declaration.name.clone(), declaration.shape.clone()));
    let mut shapes = declarations(kind, pairs).map_err(Refusal::Invalid)?;
    Ok(list.iter().filter_map(|declaration| shapes.remove_entry(&declaration.name)).collect())
}

impl discovery::Host for Ctx {
    fn wish(&mut self, tag: String, wanted: Wanted) -> Result<Vec<Found>, CallError> {
        called("discovery.wish");
        check_tag(&tag).map_err(Refusal::Invalid)?;
        let asked_bytes = |list: &[Declaration]| list.iter().map(|one| one.shape.len()).sum::<usize>();
        if asked_bytes(&wanted.cells) + asked_bytes(&wanted.streams) > WISH_BYTES_MAX {
            return Err(Refusal::limit("wish-bytes-max", WISH_BYTES_MAX).into());
        }
        let (cells, streams) = (asked("cell", &wanted.cells)?, asked("stream", &wanted.streams)?);
        let owners = self.tx()?.wish(&tag, &cells, &streams);
        let mut found = Vec::with_capacity(owners.len());
        for owner in owners {
            let mut offer = Found { owner: owner.to_string(), cells: Vec::new(), streams: Vec::new() };
            for (name, _) in &cells {
                let cell = CellId { owner, name: name.as_str().into() };
                offer.cells.push(self.table.push(CellHandle(cell))?);
            }
            for (name, _) in &streams {
                offer.streams.push(self.table.push(StreamHandle { owner, name: name.as_str().into() })?);
            }
            found.push(offer);
        }
        Ok(found)
    }
}
