//! `wit/discovery.wit` (D7).

use tracing::Level;
use wasmtime::component::ResourceTableError;

use super::{CallError, called};
use crate::{
    cell::CellId,
    cost,
    descriptor::{check_tag, wanted},
    did::Did,
    directory,
    guest::{
        bindings::charm::host::discovery::{self, Declaration, Found, Offers, Page, Wanted},
        ctx::{CellHandle, Ctx, StreamHandle},
    },
    limits::{WISH_BYTES_MAX, WISH_PAGE_MAX},
    path::Path,
    recording::{Kind, asked as asked_for},
    shape::Shape,
    tx::Refusal,
};

type Asked = [(String, Shape)];

fn asked(kind: &str, list: &[Declaration]) -> Result<Vec<(String, Shape)>, Refusal> {
    let pairs = list.iter().map(|declaration| (declaration.name.clone(), declaration.shape.clone()));
    wanted(kind, pairs).map_err(Refusal::Invalid)
}

/// Checks a page; returns its limit and the charm that the one before ended with.
fn page(page: &Page) -> Result<(usize, Option<Did>), Refusal> {
    if page.limit == 0 {
        return Err(Refusal::Invalid("page: its limit is 0".to_owned()));
    }
    let after = page.cursor.as_ref().map(|cursor| cursor.parse());
    let after = after.transpose().map_err(|_| Refusal::Invalid("page: not a cursor of a wish".to_owned()))?;
    Ok((WISH_PAGE_MAX.min(page.limit as usize), after))
}

impl Ctx {
    /// Opens the handles of one charm, all or none; none when they are more than a turn may hold.
    fn offer(&mut self, owner: Did, cells: &Asked, streams: &Asked) -> Result<Option<Found>, CallError> {
        self.charge(cost::DID_SHOWN + (cells.len() + streams.len()) as u64 * cost::HANDLE);
        let mut found = Found { owner: owner.to_string(), cells: Vec::new(), streams: Vec::new() };
        let opened = (|| {
            for (name, _) in cells {
                let cell = CellId { owner, name: name.as_str().into() };
                found.cells.push(self.table.push(CellHandle { cell, base: Path::root() })?);
            }
            for (name, _) in streams {
                found.streams.push(self.table.push(StreamHandle { owner, name: name.as_str().into() })?);
            }
            Ok(())
        })();
        match opened {
            Ok(()) => Ok(Some(found)),
            Err(ResourceTableError::Full) => {
                for cell in found.cells {
                    self.table.delete(cell)?;
                }
                for stream in found.streams {
                    self.table.delete(stream)?;
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Ctx {
    /// Tells the operator why a wish finds nobody: the charm may be one grant away from its work.
    fn tell_nothing_found(&mut self, tag: &str, unfit: Option<&str>) {
        self.charge(cost::LOG_LINE);
        let why = match unfit {
            Some(unfit) => format!("wish for {tag} finds no charm: {unfit}"),
            None => {
                format!("wish for {tag} finds no charm: none that publishes it is installed and granted to this one")
            }
        };
        self.log.line(Level::INFO, &why);
    }
}

impl discovery::Host for Ctx {
    fn wish(&mut self, tag: String, wanted: Wanted, asked_page: Page) -> Result<Offers, CallError> {
        called("discovery.wish");
        let parsed =
            |one: &Declaration| cost::WANTED + cost::copied(one.name.len()) + one.shape.len() as u64 * cost::SHAPE_BYTE;
        let parsed = wanted.cells.iter().chain(&wanted.streams).map(parsed).sum::<u64>();
        self.charge(cost::CALL + cost::WISH + cost::copied(tag.len()) + parsed);
        check_tag(&tag).map_err(Refusal::Invalid)?;
        let asked_bytes = |list: &[Declaration]| list.iter().map(|one| one.shape.len()).sum::<usize>();
        if asked_bytes(&wanted.cells) + asked_bytes(&wanted.streams) > WISH_BYTES_MAX {
            return Err(Refusal::limit("wish-bytes-max", WISH_BYTES_MAX).into());
        }
        let (cells, streams) = (asked("cell", &wanted.cells)?, asked("stream", &wanted.streams)?);
        self.charge(wanted.owner.as_ref().map_or(0, |owner| cost::DID_READ + cost::copied(owner.len())));
        let owner = wanted.owner.as_ref().map(|owner| owner.parse::<Did>());
        let owner = owner.transpose().map_err(|error| Refusal::Invalid(format!("owner: {error}")))?;
        self.charge(asked_page.cursor.as_ref().map_or(0, |cursor| cost::DID_READ + cost::copied(cursor.len())));
        let (limit, after) = page(&asked_page)?;
        let asked = || {
            let texts = |list: &[Declaration]| {
                let pairs: Vec<_> = list.iter().map(|one| (&one.name, &one.shape)).collect();
                postcard::to_stdvec(&pairs).unwrap_or_default()
            };
            let (cells, streams, limit) =
                (texts(&wanted.cells), texts(&wanted.streams), asked_page.limit.to_be_bytes());
            let key = |did: &Option<Did>| did.as_ref().map_or_else(Vec::new, |did| did.public_key().to_vec());
            asked_for(Kind::Wish, &[tag.as_bytes(), &cells, &streams, &limit, &key(&after), &key(&owner)])
        };
        let wish = |ctx: &mut Ctx| {
            let wanted = directory::Wanted { tag: &tag, cells: &cells, streams: &streams, owner };
            let found = ctx.tx()?.wish(&wanted, after, limit);
            if after.is_none() && found.next.is_none() && found.owners.is_empty() {
                ctx.tell_nothing_found(&tag, found.misses.first().map(|miss| &*miss.why));
            }
            Ok((found.owners, found.next))
        };
        let (owners, mut next): (Vec<Did>, Option<Did>) = self.recorded(Kind::Wish, asked, wish)?;
        let mut offers: Vec<Found> = Vec::with_capacity(owners.len());
        for owner in owners {
            match self.offer(owner, &cells, &streams)? {
                Some(found) => offers.push(found),
                None => {
                    let Some(last) = offers.last() else {
                        return Err(Refusal::limit("handles-max", self.handles_max()).into());
                    };
                    next = last.owner.parse().ok();
                    break;
                }
            }
        }
        Ok(Offers { found: offers, next: next.map(|next| next.to_string()) })
    }
}
