//! Listings against a naive model: a sorted map.

use std::collections::BTreeMap;

use charm_conformance::{Random, pair, results, seed, times};
use charm_host::{Did, Host};
use serde_json::{Value as Json, json};

const NAMES: [&str; 9] = ["items:", "items:a", "items:ab", "items:b", "items:ä", "sized", "item", "items;", "x:y"];
const PREFIXES: [&str; 6] = ["", "items:", "items:a", "item", "x", "nothing"];

type Cells = BTreeMap<String, u64>;

fn span(cells: &Cells, prefix: &str, start: Option<&str>, end: Option<&str>) -> Vec<(String, u64)> {
    let inside = |name: &str| {
        name.starts_with(prefix) && start.is_none_or(|start| name >= start) && end.is_none_or(|end| name < end)
    };
    cells.iter().filter(|(name, _)| inside(name)).map(|(name, value)| (name.clone(), *value)).collect()
}

/// (C8) Random writes, removals and listings, several in a turn.
#[tokio::test(flavor = "multi_thread")]
async fn listings_agree_with_a_sorted_map() {
    let mut random = Random::new(seed());
    let host = charm_conformance::host().await;
    let (a, b) = pair(&host).await;
    charm_conformance::grant(&host, b, charm_conformance::all_of(&[a]), BTreeMap::new()).await.unwrap();
    let mut cells = Cells::new();
    for round in 0..times(100) {
        turn(&host, a, &mut cells, &mut random, round).await;
        let told = results(&host, b, json!([["entries", a.to_string(), "items:", 100]])).await;
        let members = span(&cells, "items:", None, None);
        let shown: Vec<Json> = members.iter().map(|(name, value)| json!([name, value])).collect();
        assert_eq!(told[0]["entries"], json!(shown), "round {round}: what another sees");
    }
    host.shutdown().await.unwrap();
}

/// What a step is to give; of a page also the names that the next one may begin with.
struct Expected {
    told: Json,
    /// The last name of the page, and the first of the rest.
    page: Option<(Option<String>, Option<String>)>,
}

impl Expected {
    fn nothing() -> Expected {
        Expected { told: Json::Null, page: None }
    }

    /// Where the next page begins is the host's matter: behind this one, and not behind the first of the rest.
    fn check(&self, mut told: Json) -> bool {
        let Some((last, first)) = &self.page else { return told == self.told };
        let Some(next) = told.as_object_mut().and_then(|told| told.remove("next")) else { return false };
        let is_right = match (next.as_str(), first) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(next), first) => {
                last.as_deref().is_none_or(|last| last < next) && first.as_deref().is_none_or(|first| next <= first)
            }
        };
        is_right && told == self.told
    }
}

/// One turn of some steps, which the model takes too.
async fn turn(host: &Host, charm: Did, cells: &mut Cells, random: &mut Random, round: u64) {
    // Results come in a cell too: it goes first.
    let (mut steps, mut expected) = (vec![json!(["remove", "out", []])], vec![Expected::nothing()]);
    for number in 0..=random.below(12) {
        let (name, prefix) = (*random.pick(&NAMES), *random.pick(&PREFIXES));
        let text = |random: &mut Random| random.chance(300).then(|| *random.pick(&NAMES));
        let (start, end, limit) = (text(random), text(random), 1 + random.below(5));
        let found = span(cells, prefix, start, end);
        let (page, rest) = found.split_at(found.len().min(limit as usize));
        let names: Vec<&String> = page.iter().map(|(name, _)| name).collect();
        let first = |cells: &[(String, u64)]| cells.first().map(|(name, _)| name.clone());
        let place = Some((page.last().map(|(name, _)| name.clone()), first(rest)));
        match random.below(6) {
            0 | 1 => {
                let value = round * 100 + number;
                cells.insert(name.to_owned(), value);
                steps.push(json!(["set", name, [], value]));
                expected.push(Expected::nothing());
            }
            2 => {
                cells.remove(name);
                steps.push(json!(["remove", name, []]));
                expected.push(Expected::nothing());
            }
            3 if random.chance(300) => {
                steps.push(json!(["remove-all", null, prefix, limit, start, end]));
                expected.push(Expected { told: json!({"count": names.len()}), page: place });
                for (name, _) in page {
                    cells.remove(name);
                }
            }
            4 => {
                steps.push(json!(["names", null, prefix, limit, start, end]));
                expected.push(Expected { told: json!({"names": names}), page: place });
            }
            _ => {
                steps.push(json!(["entries", null, prefix, limit, start, end]));
                let entries: Vec<Json> = page.iter().map(|(name, value)| json!([name, value])).collect();
                expected.push(Expected { told: json!({"entries": entries}), page: place });
            }
        }
    }
    let told = results(host, charm, json!(steps)).await;
    for (number, (expected, step)) in expected.iter().zip(&steps).enumerate() {
        let told = &told[number];
        let (cell, page) = (&expected.told, &expected.page);
        assert!(expected.check(told.clone()), "round {round}, {step}: {told} is not {cell} {page:?}; {}", json!(steps));
    }
}
