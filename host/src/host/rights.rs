//! What the operator decides about charms and those outside while the host runs: rights one by one, and uninstalling.

use std::{collections::BTreeSet, sync::Arc};

use super::{Host, InstallError, SendError, charm::check_http_grant};
use crate::{
    charms::Untaken,
    did::Did,
    directory::{Right, Rights},
    http::HttpGrant,
};

impl Host {
    /// Gives a charm, or someone outside, one right more (A2, A3). It holds from the next commit on, for turns that run now
    /// too, whether the holder is installed or not, and stands in the store: it is there when the host is opened again, until
    /// it is taken, replaced, or a manifest is run. Completes when that is durable.
    ///
    /// # Errors
    /// `Grant` names a cell or stream that its charm does not declare or that nobody can be granted, or a malformed origin;
    /// `Unavailable`.
    ///
    /// # Examples
    /// ```
    /// # async fn example(host: charm_host::Host, shop: charm_host::Did, visitor: charm_host::Did)
    /// # -> Result<(), charm_host::InstallError> {
    /// use charm_host::{Names, Right};
    ///
    /// let orders = Right::Read { owner: shop, cells: Names::only(["orders"]) };
    /// host.grant(visitor, orders.clone()).await?;
    /// host.revoke(visitor, orders).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn grant(&self, holder: Did, right: Right) -> Result<(), InstallError> {
        self.check_open()?;
        let (mut rights, mut http) = Default::default();
        right.clone().add(&mut rights, &mut http);
        self.check_rights(holder, &rights, &http)?;
        Ok(self.stage.committer.noted(self.charms.grant(holder, right)?).await?)
    }

    /// Takes a right from a charm, or someone outside, however it came to it: with an install, a manifest or one by one. It
    /// holds from the next commit on, for turns that run now too. What an install or a manifest gives comes back when it is
    /// run again. Completes when that is durable.
    ///
    /// # Errors
    /// `Grant` when all names of a charm were granted at once and one of them is to be taken; `Unavailable`.
    pub async fn revoke(&self, holder: Did, right: Right) -> Result<(), InstallError> {
        self.check_open()?;
        let taken = self.charms.revoke(holder, &right).map_err(|untaken| match untaken {
            Untaken::Alone(why) => InstallError::Grant { charm: holder.to_string(), why },
            Untaken::Unavailable(why) => why.into(),
        })?;
        Ok(self.stage.committer.noted(taken).await?)
    }

    /// Replaces all rights of a charm, or of someone outside, however they came to it, as [`Host::grant`] gives them.
    ///
    /// # Errors
    /// As `grant`; nothing is changed then.
    pub async fn set_rights(&self, holder: Did, rights: Vec<Right>) -> Result<(), InstallError> {
        self.check_open()?;
        let (mut all, mut http) = Default::default();
        rights.into_iter().for_each(|right| right.add(&mut all, &mut http));
        self.check_rights(holder, &all, &http)?;
        Ok(self.stage.committer.noted(self.charms.set_rights(holder, all, http)?).await?)
    }

    /// Returns what a charm, or someone outside, may do now, however that came to it.
    pub fn rights(&self, holder: &Did) -> Vec<Right> {
        let directory = self.directory();
        let rights = directory.rights(holder).fold(Rights::default(), Rights::with);
        let mut http = Vec::new();
        for grant in directory.http(holder).iter().cloned() {
            Right::Call(grant).add(&mut Rights::default(), &mut http);
        }
        Right::list(rights, http)
    }

    fn check_rights(&self, holder: Did, rights: &Rights, http: &[HttpGrant]) -> Result<(), InstallError> {
        let directory = self.directory();
        let checked = rights.check(|owner| directory.get(owner).map(Arc::as_ref));
        let checked = checked.and_then(|()| (0..).zip(http).try_for_each(|(at, grant)| check_http_grant(at, grant)));
        checked.map_err(|why| InstallError::Grant { charm: holder.to_string(), why })
    }

    /// Uninstalls a charm, also for the next hosts on this store, until it is installed again. Its cells, its DID and the
    /// events that wait for it stay; it loses all its rights, and others can neither read its cells nor send to it (from
    /// outside `NoSuchCharm`, from charms `no-such-stream`). Completes when the turn that runs has ended and all is
    /// durable; the event of one that waits for something begins anew when the charm is there again.
    ///
    /// # Errors
    /// `NoSuchCharm` for one that is not installed; `Unavailable`.
    pub async fn uninstall(&self, charm: &Did) -> Result<(), SendError> {
        self.check_open()?;
        let _installing = self.installing.lock().await;
        self.charms.uninstall(charm)?.ok_or(SendError::NoSuchCharm { to: *charm })?;
        self.ready.at_rest(|| BTreeSet::from([*charm])).await;
        let ended = self.charms.end(charm)?;
        Ok(self.stage.committer.noted(ended).await?)
    }
}
