//! The first field report, written with the SDK: a handler that updates the cell of another charm.

use charm_sdk::prelude::*;

#[wish("#probe")]
struct Auth {
    shaped: Cell<Token>,
}

#[data]
pub struct Token {
    n: i64,
}

#[charm(tags("#trespasser"))]
pub struct Trespasser {
    done: Cell<bool>,
}

#[handlers]
impl Trespasser {
    /// Fails, and says why in the words of the error.
    pub fn start_scan(&self, token: Token) -> Result<()> {
        self.done.set(&true)?;
        Auth::wish()?.one()?.shaped.set(&token)
    }

    /// Sees the refusal and goes on.
    pub fn start_carefully(&self, token: Token) -> Result<()> {
        let refused = Auth::wish()?.one()?.shaped.set(&token);
        self.done.set(&matches!(refused, Err(Error::WriteIsolation { .. })))
    }
}
