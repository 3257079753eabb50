//! Ten people and their list.

use charm_sdk::prelude::*;
use charm_sdk::testing::Host;
use shopping_list::{Item, ShoppingList};

/// Somebody who passes on what they want.
#[charm]
pub struct Person {
    list: Cell<Did>,
}

#[handlers]
impl Person {
    pub fn say(&self, (list, name): (Did, String)) -> Result<()> {
        Stream::<String>::open(&list, "want").send(&name)?;
        self.list.set(&list)
    }
}

#[test]
fn nothing_that_ten_writers_write_is_lost() {
    let host = Host::new();
    let list = host.install::<ShoppingList>("list");
    let people: Vec<Did> = (0..10).map(|number| host.install::<Person>(&format!("person-{number}"))).collect();
    for (number, person) in people.iter().enumerate() {
        host.grant_send(person, &list, "want");
        for name in ["milk".to_owned(), format!("book {number}"), "milk".to_owned()] {
            host.send(person, Person::SAY, &(list.clone(), name));
        }
    }
    host.run_until_idle();
    assert_eq!(host.dead_letters(), []);
    assert_eq!(host.cell(&list, "to-buy"), Some(11_u64));
    assert_eq!(host.cell(&list, "items:milk"), Some(Item { wanted_by: people.clone(), bought: false }));
    for (number, person) in people.into_iter().enumerate() {
        let wanted = Item { wanted_by: vec![person], bought: false };
        assert_eq!(host.cell(&list, &format!("items:book {number}")), Some(wanted));
    }
}

#[test]
fn what_is_bought_is_not_to_buy_until_it_is_wanted_again() {
    let host = Host::new();
    let list = host.install::<ShoppingList>("list");
    let (milk, tea) = ("milk".to_owned(), "tea".to_owned());
    let to_buy = || host.cell::<u64>(&list, "to-buy");
    assert_eq!(to_buy(), Some(0));
    host.deliver(&list, ShoppingList::WANT, &milk).committed().unwrap();
    host.deliver(&list, ShoppingList::WANT, &tea).committed().unwrap();
    assert_eq!(to_buy(), Some(2));
    host.deliver(&list, ShoppingList::BUY, &milk).committed().unwrap();
    assert_eq!(to_buy(), Some(1));
    let again = host.deliver(&list, ShoppingList::BUY, &milk);
    assert_eq!(again.message.as_deref(), Some("nobody wants milk"));
    host.deliver(&list, ShoppingList::WANT, &milk).committed().unwrap();
    assert_eq!(to_buy(), Some(2));
}
