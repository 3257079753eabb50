//! Charms and events as an embedder gives them, and what is checked of them before anything else.

use super::InstallError;
use std::{fmt, sync::Arc};

use crate::{
    cell::check_name,
    component::Component,
    descriptor::Descriptor,
    did::Did,
    directory::{Names, Right},
    http::HttpGrant,
    text::clip,
    tx::Keep,
    value::{IntoValue, Invalid, Value},
};

/// A charm to be installed: a name, a component and what the operator allows it.
#[derive(Clone, Debug)]
pub struct Charm {
    pub(super) name: String,
    pub(super) component: Component,
    pub(super) did: Option<Did>,
    pub(super) sha256: Option<[u8; 32]>,
    pub(super) grants: Vec<(Owner, Wanted)>,
    pub(super) http: Vec<HttpGrant>,
    pub(super) keep: Option<Keep>,
}

impl Charm {
    /// Returns a charm that may do nothing with others. The name is the operator's: 1 to 64 of `a-z 0-9 -`. The component is
    /// its bytes, or a [`Component`] that many charms share.
    pub fn new(name: impl Into<String>, component: impl Into<Component>) -> Charm {
        Charm {
            name: name.into(),
            component: component.into(),
            did: None,
            sha256: None,
            grants: Vec::new(),
            http: Vec::new(),
            keep: None,
        }
    }

    /// Refuses to install when the store has another DID for the name.
    pub fn pinned(mut self, did: Did) -> Charm {
        self.did = Some(did);
        self
    }

    /// Refuses to install a component with another SHA-256.
    pub fn sha256(mut self, hash: [u8; 32]) -> Charm {
        self.sha256 = Some(hash);
        self
    }

    /// Lets it read these cells of another charm, families as `NAME:`, by its DID or its name: of one that is installed together
    /// with it, or that the store knows.
    pub fn may_read(mut self, owner: impl Into<Owner>, cells: Names) -> Charm {
        self.grants.push((owner.into(), Wanted::Read(cells)));
        self
    }

    /// Lets it send to these streams of another charm, by its DID or its name.
    pub fn may_send(mut self, owner: impl Into<Owner>, streams: Names) -> Charm {
        self.grants.push((owner.into(), Wanted::Send(streams)));
        self
    }

    /// Lets it find this charm alone when it wishes for a tag, by its DID or its name (D7). What it may do with it is granted apart.
    pub fn wishes(mut self, tag: impl Into<String>, owner: impl Into<Owner>) -> Charm {
        self.grants.push((owner.into(), Wanted::Wish(tag.into())));
        self
    }

    /// Says how much of its past the host keeps (H1); else that is `history-bytes-max` and `receipts-ms` of the limits.
    pub fn keep(mut self, keep: Keep) -> Charm {
        self.keep = Some(keep);
        self
    }

    /// Lets it make these requests (A3).
    pub fn may_call(mut self, grant: HttpGrant) -> Charm {
        self.http.push(grant);
        self
    }
}

/// A charm as a grant names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// By its DID.
    Did(Did),
    /// By its name.
    Name(String),
}

impl From<Did> for Owner {
    fn from(did: Did) -> Owner {
        Owner::Did(did)
    }
}

impl From<&str> for Owner {
    fn from(name: &str) -> Owner {
        Owner::Name(name.to_owned())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Did(did) => fmt::Display::fmt(did, f),
            Owner::Name(name) => f.write_str(name),
        }
    }
}

/// What a charm is to get of another, whose DID may not be known yet.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Read(Names),
    Send(Names),
    Wish(String),
}

impl Wanted {
    /// Returns the right to that of `owner`.
    pub fn of(self, owner: Did) -> Right {
        match self {
            Wanted::Read(cells) => Right::Read { owner, cells },
            Wanted::Send(streams) => Right::Send { owner, streams },
            Wanted::Wish(tag) => Right::Wish { tag, owner },
        }
    }
}

/// An event to be sent from outside.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub(super) to: Did,
    pub(super) stream: String,
    pub(super) payload: Result<Value, Invalid>,
    pub(super) sender: Option<Did>,
    pub(super) id: Option<String>,
}

impl NewEvent {
    /// Returns an event from the operator. It carries a reference to anything with serde, or a [`Value`]; what is not in
    /// the data model is refused when it is sent.
    ///
    /// # Examples
    /// ```
    /// # use charm_host::{Did, NewEvent, Value};
    /// # fn example(counter: Did) -> Vec<NewEvent> {
    /// let typed = NewEvent::new(counter, "add", &1);
    /// let raw = NewEvent::new(counter, "add", Value::from_json("1").unwrap());
    /// # vec![typed, raw]
    /// # }
    /// ```
    pub fn new(to: Did, stream: impl Into<String>, payload: impl IntoValue) -> NewEvent {
        NewEvent { to, stream: stream.into(), payload: payload.into_value(), sender: None, id: None }
    }

    /// Sends it as someone else (I4). The embedder vouches for who that is; grants decide what they may do.
    pub fn from(mut self, sender: Did) -> NewEvent {
        self.sender = Some(sender);
        self
    }

    /// Gives it an id of the sender's own: sent again, the same event is handled once (S9).
    pub fn id(mut self, id: impl Into<String>) -> NewEvent {
        self.id = Some(id.into());
        self
    }
}

/// An installed charm, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharmInfo {
    /// Its DID.
    pub did: Did,
    /// Its name.
    pub name: String,
    /// What it offers; shared by all charms of its component.
    pub descriptor: Arc<Descriptor>,
}

pub(super) fn check_charm_name(name: &str) -> Result<(), InstallError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let why = if check_name(name).is_err() || name.len() > 64 {
        "1 to 64 characters"
    } else if !name.bytes().all(plain) {
        "only a-z, 0-9 and -"
    } else {
        return Ok(());
    };
    Err(InstallError::Name { name: clip(name, 64).into_owned(), why: why.to_owned() })
}

pub(super) fn check_http_grant(index: usize, grant: &HttpGrant) -> Result<(), String> {
    let shown = crate::http::shown(&grant.origin).unwrap_or_else(|| format!("number {}", index + 1));
    match crate::http::origin(&grant.origin) {
        Ok(origin) if origin == grant.origin => {}
        Ok(origin) => {
            let (what, origin) = (beyond_origin(&grant.origin), clip(&origin, 128));
            return Err(format!("http origin {shown}: the text in the grant {what}: write it as {origin}"));
        }
        Err(why) => {
            let form = "an origin is https://HOST or https://HOST:PORT";
            return Err(format!("http origin {shown}: {why}: {form}"));
        }
    }
    let upper = |method: &String| !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
    if grant.methods.is_empty() {
        return Err(format!("http origin {shown}: no methods: name those it may use, like methods = [\"GET\"]"));
    }
    if !grant.methods.iter().all(upper) {
        return Err(format!("http origin {shown}: methods are upper-case, like methods = [\"GET\", \"POST\"]"));
    }
    Ok(())
}

/// Says in what the text of a grant is more than its origin, or another spelling of it.
fn beyond_origin(text: &str) -> &'static str {
    let rest = text.trim().split_once("://").map_or("", |(_, rest)| rest);
    let beyond = rest.find(['/', '\\', '?', '#']).map_or("", |at| &rest[at..]);
    match (beyond.trim_start_matches(['/', '\\']).chars().next(), beyond.chars().next()) {
        (Some('?'), _) => "has a query after its origin",
        (Some('#'), _) => "has a fragment after its origin",
        (Some(_), _) => "has a path after its origin, and a grant covers every path",
        (None, Some(_)) => "ends with a slash",
        (None, None) if text.trim() != text => "has spaces around its origin",
        (None, None) if rest.to_ascii_lowercase() != rest => "has upper-case letters",
        (None, None) if rest.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())) => {
            "names the port that its scheme has anyway"
        }
        (None, None) => "is another spelling of its origin",
    }
}
