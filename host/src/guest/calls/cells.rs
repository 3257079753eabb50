//! `wit/cells.wit` (C1-C5, T1-T4).

use wasmtime::component::Resource;

use super::{CallError, bytes_of, called, link, name, owner, path, path_below};
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
    link::Link,
    path::Path,
    recording::{Kind, asked},
    tx::{Refusal, Span, Transaction, check_path},
};

fn span(owner: Did, of: &cells::Span) -> Span<'_> {
    Span { owner, prefix: &of.prefix, start: of.start.as_deref(), end: of.end.as_deref() }
}

impl Ctx {
    fn cell(&self, handle: &Resource<CellHandle>) -> wasmtime::Result<CellId> {
        Ok(self.table.get(handle)?.cell.clone())
    }

    /// Returns the cell of a handle and the path that a call at these steps means.
    fn place(
        &mut self,
        handle: &Resource<CellHandle>,
        segments: Vec<types::Segment>,
    ) -> wasmtime::Result<(CellId, Path)> {
        let CellHandle { cell, base } = self.table.get(handle)?.clone();
        Ok((cell, path(self, base, segments)))
    }

    /// Makes a call that writes what it is given at a path.
    fn write(
        &mut self,
        kind: Kind,
        handle: &Resource<CellHandle>,
        segments: Vec<types::Segment>,
        given: &[u8],
        write: fn(&mut Transaction, &CellId, &Path, &[u8]) -> Result<(), Refusal>,
    ) -> Result<(), CallError> {
        called(kind.name());
        self.charge(cost::CALL);
        let (cell, path) = self.place(handle, segments)?;
        let asked = || asked(kind, &[cell.owner.public_key(), cell.name.as_bytes(), &bytes_of(&path), given]);
        self.recorded(kind, asked, |ctx| ctx.make(|tx| write(tx, &cell, &path, given)))
    }

    /// Makes a call that may read derived cells, also on its way through a link. One that is not ready ends the attempt.
    fn make<T>(&mut self, call: impl FnOnce(&mut Transaction) -> Result<T, Refusal>) -> Result<T, CallError> {
        let tx = self.tx()?;
        let made = call(tx);
        if tx.needs_more() { Err(needs()) } else { Ok(made?) }
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
        let below = path(self, Path::root(), segments);
        // Before each of them gets a path of its own.
        check_path(&below)?;
        let place = |ctx: &mut Ctx, handle: &Resource<CellHandle>| {
            let CellHandle { cell, base } = ctx.table.get(handle)?.clone();
            Ok((cell, path_below(ctx, base, &below)))
        };
        let cells = handles.iter().map(|handle| place(self, handle)).collect::<wasmtime::Result<Vec<_>>>()?;
        let asked = || {
            let paths: Vec<Vec<u8>> = cells.iter().map(|(_, path)| bytes_of(path)).collect();
            let places = cells.iter().zip(&paths);
            let parts = places.flat_map(|((cell, _), path)| [&cell.owner.public_key()[..], cell.name.as_bytes(), path]);
            asked(Kind::GetEach, &parts.collect::<Vec<_>>())
        };
        self.recorded(Kind::GetEach, asked, |ctx| {
            let bytes_max = ctx.limits().hostcall_bytes_max;
            let tx = ctx.tx()?;
            let (mut read, mut bytes) = (Vec::with_capacity(cells.len()), 0);
            for (cell, path) in &cells {
                let value = match tx.get(cell, path) {
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

    fn open(&mut self, named: Option<String>, of: String) -> Result<Resource<CellHandle>, CallError> {
        called("cells.open");
        self.charge(cost::CALL + cost::HANDLE);
        let cell = CellId { owner: owner(self, named)?, name: name(self, &of)? };
        Ok(self.table.push(CellHandle { cell, base: Path::root() })?)
    }

    fn open_link(&mut self, value: Vec<u8>) -> Result<Resource<CellHandle>, CallError> {
        called("cells.open-link");
        self.charge(cost::CALL + cost::HANDLE);
        let Link::Cell { owner, name, path: base } = link(self, &value, "cell")? else {
            return Err(Refusal::Invalid("link: to a stream, not to a cell".to_owned()).into());
        };
        Ok(self.table.push(CellHandle { cell: CellId { owner, name }, base })?)
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

    fn link(&mut self, handle: Resource<CellHandle>, segments: Vec<types::Segment>) -> Result<Vec<u8>, CallError> {
        called("cells.link");
        self.charge(cost::CALL + cost::DID_SHOWN);
        let (cell, path) = self.place(&handle, segments)?;
        check_path(&path)?;
        let value = Link::to_cell(&cell, path).to_value();
        self.charge(cost::copied(value.as_bytes().len()));
        Ok(value.as_bytes().to_vec())
    }

    fn get(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
    ) -> Result<Option<Vec<u8>>, CallError> {
        called("cells.get");
        self.charge(cost::CALL);
        let (cell, path) = self.place(&handle, segments)?;
        let asked = || asked(Kind::Get, &[cell.owner.public_key(), cell.name.as_bytes(), &bytes_of(&path)]);
        self.recorded(Kind::Get, asked, |ctx| ctx.make(|tx| tx.get(&cell, &path)))
    }

    fn set(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
        value: Vec<u8>,
    ) -> Result<(), CallError> {
        self.write(Kind::Set, &handle, segments, &value, Transaction::set)
    }

    fn remove(&mut self, handle: Resource<CellHandle>, segments: Vec<types::Segment>) -> Result<(), CallError> {
        called("cells.remove");
        self.charge(cost::CALL);
        let (cell, path) = self.place(&handle, segments)?;
        let asked = || asked(Kind::Remove, &[cell.owner.public_key(), cell.name.as_bytes(), &bytes_of(&path)]);
        self.recorded(Kind::Remove, asked, |ctx| ctx.make(|tx| tx.remove(&cell, &path)))
    }

    fn append(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
        item: Vec<u8>,
    ) -> Result<(), CallError> {
        self.write(Kind::Append, &handle, segments, &item, Transaction::append)
    }

    fn add_unique(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
        item: Vec<u8>,
    ) -> Result<(), CallError> {
        self.write(Kind::AddUnique, &handle, segments, &item, Transaction::add_unique)
    }

    fn remove_by_value(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
        item: Vec<u8>,
    ) -> Result<(), CallError> {
        self.write(Kind::RemoveByValue, &handle, segments, &item, Transaction::remove_by_value)
    }

    fn increment(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
        by: Vec<u8>,
    ) -> Result<(), CallError> {
        self.write(Kind::Increment, &handle, segments, &by, Transaction::increment)
    }

    fn drop(&mut self, handle: Resource<CellHandle>) -> wasmtime::Result<()> {
        called("cells.drop");
        self.charge(cost::CALL + cost::HANDLE);
        self.table.delete(handle)?;
        Ok(())
    }
}
