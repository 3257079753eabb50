//! `wit/streams.wit` (S1-S6, S12).

use wasmtime::component::Resource;

use super::{CallError, called, event, link, name, owner};
use crate::{
    cost,
    event::EventId,
    guest::{
        bindings::charm::host::streams,
        ctx::{Ctx, StreamHandle},
    },
    link::Link,
    recording::{Kind, asked},
    tx::{Refusal, Times},
};

impl streams::Host for Ctx {
    fn open(&mut self, named: Option<String>, of: String) -> Result<Resource<StreamHandle>, CallError> {
        called("streams.open");
        self.charge(cost::CALL + cost::HANDLE);
        let (owner, name) = (owner(self, named)?, name(self, &of)?);
        Ok(self.table.push(StreamHandle { owner, name })?)
    }

    fn open_link(&mut self, value: Vec<u8>) -> Result<Resource<StreamHandle>, CallError> {
        called("streams.open-link");
        self.charge(cost::CALL + cost::HANDLE);
        let Link::Stream { owner, name } = link(self, &value, "stream")? else {
            return Err(Refusal::Invalid("link: to a cell, not to a stream".to_owned()).into());
        };
        Ok(self.table.push(StreamHandle { owner, name })?)
    }

    fn send(
        &mut self,
        to: Resource<StreamHandle>,
        event: Vec<u8>,
        options: streams::SendOptions,
    ) -> Result<String, CallError> {
        called("streams.send");
        self.charge(cost::CALL);
        let streams::SendOptions { on_commit, deliver_after, expires_at } = options;
        let times = Times { deliver_after, expires_at };
        let StreamHandle { owner, name } = self.table.get(&to)?;
        let (owner, name) = (*owner, name.clone());
        let on_commit = on_commit.as_ref().map(|on_commit| (&*on_commit.stream, &*on_commit.tag));
        let (stream, tag) = on_commit.unwrap_or_default();
        let when = postcard::to_stdvec(&(deliver_after, expires_at)).unwrap_or_default();
        let parts = [owner.public_key(), name.as_bytes(), &event, stream.as_bytes(), tag, &when];
        let send = |ctx: &mut Ctx| {
            let tx = ctx.tx()?;
            let sent = tx.send(owner, &name, &event, on_commit, times);
            if tx.room().is_some() {
                return Err(CallError::Trap(wasmtime::Error::msg("waits for room in an inbox")));
            }
            Ok(sent?)
        };
        self.recorded(Kind::Send, || asked(Kind::Send, &parts), send).map(|id: EventId| id.to_string())
    }

    fn cancel(&mut self, id: String) -> Result<(), CallError> {
        called("streams.cancel");
        self.charge(cost::CALL);
        let event = event(self, &id)?;
        self.recorded(Kind::Cancel, || asked(Kind::Cancel, &[&event.0]), |ctx| Ok(ctx.tx()?.cancel(event)?))
    }
}

impl streams::HostStream for Ctx {
    fn owner(&mut self, handle: Resource<StreamHandle>) -> wasmtime::Result<String> {
        called("streams.owner");
        self.charge(cost::CALL + cost::DID_SHOWN);
        Ok(self.table.get(&handle)?.owner.to_string())
    }

    fn name(&mut self, handle: Resource<StreamHandle>) -> wasmtime::Result<String> {
        called("streams.name");
        self.charge(cost::CALL);
        Ok(self.table.get(&handle)?.name.to_string())
    }

    fn link(&mut self, handle: Resource<StreamHandle>) -> wasmtime::Result<Vec<u8>> {
        called("streams.link");
        self.charge(cost::CALL + cost::DID_SHOWN);
        let StreamHandle { owner, name } = self.table.get(&handle)?;
        let value = Link::Stream { owner: *owner, name: name.clone() }.to_value();
        self.charge(cost::copied(value.as_bytes().len()));
        Ok(value.as_bytes().to_vec())
    }

    fn drop(&mut self, handle: Resource<StreamHandle>) -> wasmtime::Result<()> {
        called("streams.drop");
        self.charge(cost::CALL + cost::HANDLE);
        self.table.delete(handle)?;
        Ok(())
    }
}
