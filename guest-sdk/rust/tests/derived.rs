//! Derived cells on the test host: as a host computes them (D1-D5).
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use charm_sdk::prelude::*;
use charm_sdk::testing::Host;

#[charm(tags("#ledger"))]
pub struct Ledger {
    entries: Cell<Vec<i64>>,
    told: Cell<Vec<i64>>,
    other: Cell<Did>,
    words: Cell<String>,
}

#[handlers]
impl Ledger {
    /// Reads the total before and after the entry.
    pub fn enter(&self, amount: i64) -> Result<()> {
        let before = Self::TOTAL.get()?;
        self.entries.push(&amount)?;
        self.told.set(&vec![before, Self::TOTAL.get()?])
    }

    pub fn follow(&self, other: Did) -> Result<()> {
        self.other.set(&other)
    }

    pub fn overwrite(&self, to: i64) -> Result<()> {
        Self::TOTAL.cell().set(&to)
    }

    pub fn look(&self, (whose, cell): (Did, String)) -> Result<()> {
        let words = match Cell::<Value>::open(&whose, cell).get() {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        };
        self.words.set(&words)
    }

    #[derived]
    pub fn total(&self) -> Result<i64> {
        Ok(self.entries.get()?.unwrap_or_default().iter().sum())
    }

    /// With the total of another charm.
    #[derived]
    pub fn both(&self) -> Result<i64> {
        let other = self.other.need()?;
        Ok(Self::TOTAL.get()? + Cell::<i64>::open(&other, "total").need()?)
    }

    #[derived]
    pub fn writes(&self) -> Result<i64> {
        self.told.remove()?;
        Ok(0)
    }

    #[derived]
    pub fn asks_the_time(&self) -> Result<u64> {
        Ok(context::time())
    }

    #[derived]
    pub fn itself(&self) -> Result<i64> {
        Self::ITSELF.get()
    }

    #[derived]
    #[private]
    pub fn inner(&self) -> Result<i64> {
        Ok(1)
    }
}

#[test]
fn a_handler_reads_what_its_own_writes_make_of_a_derived_cell() {
    let host = Host::new();
    let ledger = host.install::<Ledger>("ledger");
    host.deliver(&ledger, Ledger::ENTER, &5).committed().unwrap();
    host.deliver(&ledger, Ledger::ENTER, &7).committed().unwrap();
    assert_eq!(host.cell(&ledger, "told"), Some(vec![5, 12]));
    assert_eq!(host.cell(&ledger, "total"), Some(12));
}

/// D2
#[test]
fn nobody_writes_a_derived_cell() {
    let host = Host::new();
    let ledger = host.install::<Ledger>("ledger");
    let receipt = host.deliver(&ledger, Ledger::OVERWRITE, &1);
    assert_eq!(receipt.outcome, Outcome::Rejected);
    assert!(receipt.message.unwrap().contains("derived by `total`"));
}

/// D1, A2: with the rights of the charm that derives, and of its readers to the derived cell alone.
#[test]
fn a_derivation_reads_with_the_rights_of_its_charm_and_only_reads() {
    let host = Host::new();
    let (a, b, c) = (host.install::<Ledger>("a"), host.install::<Ledger>("b"), host.install::<Ledger>("c"));
    host.deliver(&b, Ledger::ENTER, &40).committed().unwrap();
    host.deliver(&a, Ledger::ENTER, &2).committed().unwrap();
    host.deliver(&a, Ledger::FOLLOW, &b).committed().unwrap();
    let look = |cell: &str| {
        host.deliver(&c, Ledger::LOOK, &(a.clone(), cell.to_string())).committed().unwrap();
        host.cell::<String>(&c, "words").unwrap()
    };
    for cell in ["both", "writes", "asks-the-time", "itself"] {
        host.grant_read(&c, &a, cell);
    }
    host.grant_read(&c, &a, "inner");
    assert!(look("both").contains("no grant covers `total`"), "{}", look("both"));
    host.grant_read(&a, &b, "total");
    assert_eq!(look("both"), "Some(42)");
    assert!(look("total").contains("no grant covers `total`"));
    assert!(look("inner").contains("no grant covers `inner`"));
    assert!(look("writes").contains("a derivation only reads cells"));
    assert!(look("asks-the-time").contains("no sender, event, time or randomness"));
    assert!(look("itself").contains("cells lead back to the first: `itself`"), "{}", look("itself"));
}
