//! Wishes: what is granted and fits, none, one or many, and what the operator has pinned (D7).

use super::*;

#[wish("#notes")]
struct Wanted {
    note: Cell<Note>,
    add_text: Stream<String>,
}

#[wish("#notes")]
struct Unfit {
    note: Cell<u32>,
}

#[wish("#notes")]
struct Anybody {
    did: Did,
    note: Cell<Note>,
}

#[charm]
pub struct Asker {
    heard: Cell<String>,
}

#[handlers]
impl Asker {
    pub fn ask(&self, _: ()) -> Result<()> {
        assert!(Unfit::wish()?.first()?.is_none_or(|unfit| unfit.note.get().is_err()));
        let notes = Wanted::wish()?.one()?;
        assert_eq!((notes.note.name(), notes.add_text.name()), ("note", "add-text"));
        assert_eq!(notes.note.owner(), notes.add_text.owner());
        notes.add_text.send(&"from the asker".into())?;
        self.heard.set(&notes.note.need()?.text)
    }

    /// Says whom a wish finds, of all or of one.
    pub fn who(&self, only: Option<Did>) -> Result<()> {
        let wish = |only: &Option<Did>| match only {
            Some(only) => Anybody::wish_of(only),
            None => Anybody::wish(),
        };
        let found = match wish(&only)?.fitting()? {
            Fitting::None => "none".to_owned(),
            Fitting::One(one) => format!("one {}", one.did),
            Fitting::Many(many) => format!("{} from {}", many.len(), many[0].did),
        };
        let each = wish(&only)?.each().map(|one| one.map(|one| one.note.owner()));
        let each = each.collect::<Result<Vec<_>>>()?;
        self.heard.set(&format!("{found}, {} one by one", each.len()))
    }
}

#[test]
fn a_wish_finds_what_is_granted_and_fits() {
    let (host, first) = one();
    let second = host.install::<Notes>("second");
    let asker = host.install::<Asker>("asker");
    let ask = || host.deliver(&asker, Asker::ASK, &());
    assert!(ask().message.unwrap().starts_with("no charm with #notes"));

    host.grant_read(&asker, &first, "note");
    host.grant_send(&asker, &first, "add-text");
    assert_eq!(ask().message.unwrap(), format!("cell `note` of {first} holds nothing yet"));
    host.deliver(&first, Notes::ACT, &Step::Write(note("hi")));
    ask().committed().unwrap();
    assert_eq!(host.cell(&asker, "heard"), Some("hi".to_string()));
    assert_eq!(host.cell(&first, "all-texts"), Some(vec!["from the asker".to_string()]));

    host.grant_read(&asker, &second, "note");
    host.grant_send(&asker, &second, "add-text");
    let message = ask().message.unwrap();
    assert!(message.starts_with("2 charms with #notes fit") && message.contains("the operator can pin one"));
    assert!(message.contains(first.as_str()) && message.contains(second.as_str()), "both are named: {message}");
}

#[test]
fn a_wish_is_none_one_or_many_and_a_pin_leaves_one() {
    let (host, first) = one();
    let second = host.install::<Notes>("second");
    let asker = host.install::<Asker>("asker");
    let who = |only: Option<&Did>| {
        host.deliver(&asker, Asker::WHO, &only.cloned()).committed().unwrap();
        host.cell::<String>(&asker, "heard").unwrap()
    };
    assert_eq!(who(None), "none, 0 one by one");
    host.grant_read(&asker, &first, "note");
    assert_eq!(who(None), format!("one {first}, 1 one by one"));
    assert_eq!(who(Some(&second)), "none, 0 one by one", "nothing of it is granted");
    host.grant_read(&asker, &second, "note");
    assert_eq!(who(None), format!("2 from {}, 2 one by one", first.clone().min(second.clone())));
    assert_eq!(who(Some(&second)), format!("one {second}, 1 one by one"));
    host.pin(&asker, "#notes", &second);
    assert_eq!(who(None), format!("one {second}, 1 one by one"));
    assert_eq!(who(Some(&first)), "none, 0 one by one", "another is pinned");
}
