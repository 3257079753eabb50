//! `wit/cells.wit` (C1-C4, T1-T4).

use wasmtime::component::Resource;

use super::{CallError, bytes_of, called, owner, path};
use crate::{
    cell::CellId,
    cost,
    did::Did,
    guest::{
        bindings::charm::host::{
            cells::{self, EntriesPage, Entry, NamesPage, Removed},
            types,
        },
        ctx::{CellHandle, Ctx},
    },
    path::Path,
    recording::{Kind, asked},
    tx::{Refusal, Span, guest_name},
};

fn span(owner: Did, of: &cells::Span) -> Span<'_> {
    Span { owner, prefix: &of.prefix, start: of.start.as_deref(), end: of.end.as_deref() }
}

impl Ctx {
    fn cell(&self, handle: &Resource<CellHandle>) -> wasmtime::Result<CellId> {
        Ok(self.table.get(handle)?.0.clone())
    }

    /// Reads a cell. A derived one that is not ready ends the attempt.
    fn read(&mut self, cell: &CellId, path: &Path) -> Result<Option<Vec<u8>>, CallError> {
        let tx = self.tx()?;
        let read = tx.get(cell, path);
        if tx.needs_more() { Err(needs()) } else { Ok(read?) }
    }
}

/// Returns the end of an attempt that needs derived cells.
fn needs() -> CallError {
    CallError::Trap(wasmtime::Error::msg("needs derived cells"))
}

/// What is asked to be listed, as it is recorded.
fn listing(kind: Kind, span: &Span<'_>, limit: u32) -> u64 {
    let texts = postcard::to_stdvec(&(span.prefix, span.start, span.end)).unwrap_or_default();
    asked(kind, &[span.owner.public_key(), &texts, &limit.to_be_bytes()])
}

impl cells::Host for Ctx {
    fn get_each(
        &mut self,
        handles: Vec<Resource<CellHandle>>,
        segments: Vec<types::Segment>,
    ) -> Result<Vec<Option<Vec<u8>>>, CallError> {
        called("cells.get-each");
        self.charge(cost::CALL + handles.len() as u64 * cost::CALL);
        let cells = handles.iter().map(|handle| self.cell(handle)).collect::<Result<Vec<_>, _>>()?;
        let path = path(self, segments);
        let asked = || {
            let bytes = bytes_of(&path);
            let names = cells.iter().flat_map(|cell| [&cell.owner.public_key()[..], cell.name.as_bytes()]);
            asked(Kind::GetEach, &names.chain([&bytes[..]]).collect::<Vec<_>>())
        };
        self.recorded(Kind::GetEach, asked, |ctx| {
            let bytes_max = ctx.limits().hostcall_bytes_max;
            let tx = ctx.tx()?;
            let (mut read, mut bytes) = (Vec::with_capacity(cells.len()), 0);
            for cell in &cells {
                let value = match tx.get(cell, &path) {
                    Err(_) if tx.needs_more() => return Err(needs()),
                    value => value?,
                };
                bytes += value.as_ref().map_or(0, Vec::len);
                if bytes > bytes_max {
                    return Err(Refusal::limit("hostcall-bytes-max", bytes_max).into());
                }
                read.push(value);
            }
            if tx.needs_more() { Err(needs()) } else { Ok(read) }
        })
    }

    fn names(&mut self, named: Option<String>, of: cells::Span, limit: u32) -> Result<NamesPage, CallError> {
        called("cells.names");
        self.charge(cost::CALL);
        let span = span(owner(self, named)?, &of);
        let list = |ctx: &mut Ctx| Ok(ctx.tx()?.names(&span, limit as usize)?);
        let (names, next) = self.recorded(Kind::Names, || listing(Kind::Names, &span, limit), list)?;
        Ok(NamesPage { names, next })
    }

    fn entries(&mut self, named: Option<String>, of: cells::Span, limit: u32) -> Result<EntriesPage, CallError> {
        called("cells.entries");
        self.charge(cost::CALL);
        let span = span(owner(self, named)?, &of);
        let list = |ctx: &mut Ctx| Ok(ctx.tx()?.entries(&span, limit as usize)?);
        let (entries, next) = self.recorded(Kind::Entries, || listing(Kind::Entries, &span, limit), list)?;
        let entries: Vec<(String, Vec<u8>)> = entries;
        Ok(EntriesPage { entries: entries.into_iter().map(|(name, value)| Entry { name, value }).collect(), next })
    }

    fn remove_all(&mut self, named: Option<String>, of: cells::Span, limit: u32) -> Result<Removed, CallError> {
        called("cells.remove-all");
        self.charge(cost::CALL);
        let span = span(owner(self, named)?, &of);
        let remove = |ctx: &mut Ctx| Ok(ctx.tx()?.remove_all(&span, limit as usize)?);
        let (count, next) = self.recorded(Kind::RemoveAll, || listing(Kind::RemoveAll, &span, limit), remove)?;
        Ok(Removed { count, next })
    }

    fn open(&mut self, named: Option<String>, name: String) -> Result<Resource<CellHandle>, CallError> {
        called("cells.open");
        self.charge(cost::CALL + cost::HANDLE);
        let owner = owner(self, named)?;
        let cell = CellId { owner, name: guest_name(&name)? };
        Ok(self.table.push(CellHandle(cell))?)
    }
}

impl cells::HostCell for Ctx {
    fn owner(&mut self, handle: Resource<CellHandle>) -> wasmtime::Result<String> {
        called("cells.owner");
        self.charge(cost::CALL + cost::DID_SHOWN);
        Ok(self.cell(&handle)?.owner.to_string())
    }

    fn name(&mut self, handle: Resource<CellHandle>) -> wasmtime::Result<String> {
        called("cells.name");
        self.charge(cost::CALL);
        Ok(self.cell(&handle)?.name.to_string())
    }

    fn get(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
    ) -> Result<Option<Vec<u8>>, CallError> {
        called("cells.get");
        self.charge(cost::CALL);
        let cell = self.cell(&handle)?;
        let path = path(self, segments);
        let asked = || asked(Kind::Get, &[cell.owner.public_key(), cell.name.as_bytes(), &bytes_of(&path)]);
        self.recorded(Kind::Get, asked, |ctx| ctx.read(&cell, &path))
    }

    fn set(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
        value: Vec<u8>,
    ) -> Result<(), CallError> {
        called("cells.set");
        self.charge(cost::CALL);
        let cell = self.cell(&handle)?;
        let path = path(self, segments);
        let asked = || asked(Kind::Set, &[cell.owner.public_key(), cell.name.as_bytes(), &bytes_of(&path), &value]);
        self.recorded(Kind::Set, asked, |ctx| Ok(ctx.tx()?.set(&cell, &path, &value)?))
    }

    fn remove(&mut self, handle: Resource<CellHandle>, segments: Vec<types::Segment>) -> Result<(), CallError> {
        called("cells.remove");
        self.charge(cost::CALL);
        let cell = self.cell(&handle)?;
        let path = path(self, segments);
        let asked = || asked(Kind::Remove, &[cell.owner.public_key(), cell.name.as_bytes(), &bytes_of(&path)]);
        self.recorded(Kind::Remove, asked, |ctx| Ok(ctx.tx()?.remove(&cell, &path)?))
    }

    fn drop(&mut self, handle: Resource<CellHandle>) -> wasmtime::Result<()> {
        called("cells.drop");
        self.charge(cost::CALL + cost::HANDLE);
        self.table.delete(handle)?;
        Ok(())
    }
}
