//! Cells of a charm as an embedder lists them: by name, page by page (C8).

use super::Host;
use crate::{
    archive::ReadError,
    did::Did,
    limits::LIST_PAGE_MAX,
    listing::{CellInfo, CellPage},
    text::clip,
    tx::{Range, Unavailable, Version},
};

impl Host {
    /// Returns the cells of a space that hold a value, by name: all of them, however many. Completes when that is durable,
    /// removals too.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn cells(&self, owner: &Did) -> Result<Vec<CellInfo>, Unavailable> {
        Ok(self.page(owner, &Range::all(), usize::MAX).await?.cells)
    }

    /// Returns up to `max` cells of a space whose names begin with `prefix` and that hold a value, by name (C8); from `start` on,
    /// which is the `next` of the page before and need not be a name. A page is what one commit left, and `LIST_PAGE_MAX`
    /// cells at most; between two pages others commit. Completes when that is durable, removals too.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(host: &charm_host::Host, shop: charm_host::Did) -> Result<(), charm_host::Unavailable> {
    /// let (mut start, mut bytes) = (None, 0);
    /// loop {
    ///     let page = host.list(&shop, "order:", start.as_deref(), 1_000).await?;
    ///     bytes += page.cells.iter().map(|cell| cell.bytes).sum::<usize>();
    ///     let Some(next) = page.next else { break };
    ///     start = Some(next);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list(
        &self,
        owner: &Did,
        prefix: &str,
        start: Option<&str>,
        max: usize,
    ) -> Result<CellPage, Unavailable> {
        self.page(owner, &Range::of(prefix, start, None), max.min(LIST_PAGE_MAX)).await
    }

    /// As [`Host::list`], as far as `reader` has a grant (I4): of the charm's own cells all, else the members of one family, with
    /// its name and `:` as the beginning of `prefix`.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn list_as(
        &self,
        reader: &Did,
        owner: &Did,
        prefix: &str,
        start: Option<&str>,
        max: usize,
    ) -> Result<CellPage, ReadError> {
        if !self.directory().may_list(reader, owner, prefix) {
            let cell = clip(prefix, 128).into_owned();
            return Err(ReadError::Denied { reader: *reader, owner: *owner, cell });
        }
        Ok(self.list(owner, prefix, start, max).await?)
    }

    async fn page(&self, owner: &Did, range: &Range, max: usize) -> Result<CellPage, Unavailable> {
        self.check_readable()?;
        let committer = &self.stage.committer;
        let (cells, next) = committer.versions().list(owner, range, max);
        committer.durable(committer.last_order(owner)).await?;
        let info =
            |(name, version): (_, Version)| Some(CellInfo::new(name, version.seq, version.value.as_ref()?.whole()));
        Ok(CellPage { cells: cells.into_iter().filter_map(info).collect(), next })
    }
}
