//! A shopping list that many write to.
//!
//! Each item is a cell of its own, a member of a family (C8). Who writes one is in nobody's way, and adds to what is there
//! without fetching it (C3). What is still to buy is computed from the items (D1): nobody has to keep a number up to date.

use charm_sdk::prelude::*;

/// An item; its name is its key.
#[data]
pub struct Item {
    pub wanted_by: Vec<Did>,
    pub bought: bool,
}

#[charm(tags("#shopping-list"))]
pub struct ShoppingList {
    items: Cells<String, Item>,
}

#[handlers]
impl ShoppingList {
    /// Whoever wants the same wants it too, once.
    pub fn want(&self, name: String) -> Result<()> {
        let item = self.items.at(&name);
        item.at("bought").set(&false)?;
        item.at("wanted_by").add_unique(&context::sender())
    }

    pub fn buy(&self, name: String) -> Result<()> {
        match self.items.get(&name)? {
            Some(item) if !item.bought => self.items.at(&name).at("bought").set(&true),
            _ => reject!("nobody wants {name}"),
        }
    }

    /// How many items are still to buy.
    #[derived]
    pub fn to_buy(&self) -> Result<u64> {
        self.items.iter().try_fold(0, |sum, entry| Ok(sum + u64::from(!entry?.1.bought)))
    }
}
