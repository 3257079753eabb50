//! `wit/cells.wit` (C1-C5, T1-T4).

use wasmtime::component::Resource;

use super::{CallError, bytes_of, called, link, owner, path};
use crate::{
    cell::CellId,
    cost,
    guest::{
        bindings::charm::host::{cells, types},
        ctx::{CellHandle, Ctx},
    },
    link::Link,
    path::Path,
    recording::{Kind, asked},
    tx::{Refusal, Transaction, check_path, guest_name},
};

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
        self.recorded(kind, asked, |ctx| Ok(write(ctx.tx()?, &cell, &path, given)?))
    }
}

impl cells::Host for Ctx {
    fn open(&mut self, named: Option<String>, name: String) -> Result<Resource<CellHandle>, CallError> {
        called("cells.open");
        self.charge(cost::CALL + cost::HANDLE);
        let owner = owner(self, named)?;
        let cell = CellId { owner, name: guest_name(&name)? };
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
        self.recorded(Kind::Get, asked, |ctx| Ok(ctx.tx()?.get(&cell, &path)?))
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
        self.recorded(Kind::Remove, asked, |ctx| Ok(ctx.tx()?.remove(&cell, &path)?))
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
