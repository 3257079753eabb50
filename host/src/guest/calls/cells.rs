//! `wit/cells.wit` (C1-C4, T1-T4).

use wasmtime::component::Resource;

use super::{CallError, bytes_of, called, owner, path};
use crate::{
    cell::CellId,
    cost,
    guest::{
        bindings::charm::host::{cells, types},
        ctx::{CellHandle, Ctx},
    },
    path::Path,
    recording::{Kind, asked},
    tx::{Refusal, Transaction, guest_name},
};

impl Ctx {
    fn cell(&self, handle: &Resource<CellHandle>) -> wasmtime::Result<CellId> {
        Ok(self.table.get(handle)?.0.clone())
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
        let cell = self.cell(handle)?;
        let path = path(self, segments);
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
        let cell = self.cell(&handle)?;
        let path = path(self, segments);
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
