use charm_sdk::prelude::*;

#[charm]
pub struct Office {
    printed: Cell<String>,
}

#[wish("#printer")]
struct Printer {
    print: Stream<String>,
}

#[handlers]
impl Office {
    pub fn letter(&self, text: String) -> Result<()> {
        Printer::wish()?.one()?.print.send_then(&text, Self::PRINTED, &text)?;
        Ok(())
    }

    pub fn printed(&self, text: String) -> Result<()> {
        self.printed.set(&text)
    }
}

fn main() {}
