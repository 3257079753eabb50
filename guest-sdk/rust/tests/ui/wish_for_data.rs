use charm_sdk::prelude::*;

#[wish("#printer")]
struct Printer {
    pages: u32,
}

fn main() {
    let _ = Printer::wish().and_then(|printers| printers.all());
}
