use charm_sdk::prelude::*;

#[wish("#printer")]
struct Printer {
    pages: u32,
}

fn main() {
    let _ = Printer::wish().map(|printers| printers.all().iter().map(|printer| printer.pages).sum::<u32>());
}
