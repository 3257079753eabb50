//! `wit/cells.wit` (C1-C4, T1-T4).

use wasmtime::component::Resource;

use super::{CallError, called, owner, path};
use crate::{
    cell::CellId,
    guest::{
        bindings::charm::host::{cells, types},
        ctx::{CellHandle, Ctx},
    },
    tx::guest_name,
};

impl Ctx {
    fn cell(&self, handle: &Resource<CellHandle>) -> wasmtime::Result<CellId> {
        Ok(self.table.get(handle)?.0.clone())
    }
}

impl cells::Host for Ctx {
    fn open(&mut self, named: Option<String>, name: String) -> Result<Resource<CellHandle>, CallError> {
        called("cells.open");
        let owner = owner(self, named)?;
        let cell = CellId { owner, name: guest_name(&name)? };
        Ok(self.table.push(CellHandle(cell))?)
    }
}

impl cells::HostCell for Ctx {
    fn owner(&mut self, handle: Resource<CellHandle>) -> wasmtime::Result<String> {
        called("cells.owner");
        Ok(self.cell(&handle)?.owner.to_string())
    }

    fn name(&mut self, handle: Resource<CellHandle>) -> wasmtime::Result<String> {
        called("cells.name");
        Ok(self.cell(&handle)?.name.to_string())
    }

    fn get(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
    ) -> Result<Option<Vec<u8>>, CallError> {
        called("cells.get");
        let cell = self.cell(&handle)?;
        Ok(self.tx()?.get(&cell, &path(segments))?)
    }

    fn set(
        &mut self,
        handle: Resource<CellHandle>,
        segments: Vec<types::Segment>,
        value: Vec<u8>,
    ) -> Result<(), CallError> {
        called("cells.set");
        let cell = self.cell(&handle)?;
        Ok(self.tx()?.set(&cell, &path(segments), &value)?)
    }

    fn remove(&mut self, handle: Resource<CellHandle>, segments: Vec<types::Segment>) -> Result<(), CallError> {
        called("cells.remove");
        let cell = self.cell(&handle)?;
        Ok(self.tx()?.remove(&cell, &path(segments))?)
    }

    fn drop(&mut self, handle: Resource<CellHandle>) -> wasmtime::Result<()> {
        called("cells.drop");
        self.table.delete(handle)?;
        Ok(())
    }
}
