//! `charm cancel`: settles an event that has not begun, or whose turn waits, as cancelled.

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::{
    deed::Deed,
    failure::{Exit, Failure},
};

/// What its turn has committed before stays. Its sender is told, and it becomes no dead letter. One whose turn runs at this moment
/// is not cancelled.
#[derive(Args)]
pub struct Cancel {
    /// The charm that handles it
    charm: String,
    /// The event
    id: String,
}

#[derive(Serialize)]
struct Cancelled<'a> {
    cancelled: &'a str,
}

impl Cancel {
    pub async fn run(&self, context @ (_, output, _): Context<'_>) -> Result<Exit, Failure> {
        let (charm, id) = (self.charm.clone(), self.id.clone());
        super::perform(context, Deed::Cancel { charm, id }, true, None).await?;
        output.print(&Cancelled { cancelled: &self.id }, || vec![format!("{} cancelled", self.id)])?;
        Ok(Exit::Done)
    }
}
