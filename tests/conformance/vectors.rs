//! Vectors that others wrote: DIDs (I1), signatures (I3) and encodings (C2).
//!
//! Small extracts are in `vectors/`. Where a folder `shared/vectors` stands beside the repository, the whole
//! collections are tested too; elsewhere those tests say so and pass.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they skip")]

use std::{fs, path::PathBuf};

use charm_conformance::root;
use charm_host::{Did, DidError, Keyring, MemoryKeyring, VALUE_DEPTH_MAX, Value};
use ipld_core::ipld::Ipld;
use serde_json::Value as Json;
use zeroize::Zeroizing;

const DID_KEY: &str = include_str!("vectors/did-key.json");
const ED25519: &str = include_str!("vectors/ed25519.json");
const DAG_CBOR: &str = include_str!("vectors/dag-cbor.json");

/// Vectors of the collection that the data model refuses, with the reason. None at present: what the model
/// leaves out of CBOR, DAG-CBOR leaves out too.
const REFUSED_FIXTURES: &[(&str, &str)] = &[];

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn bytes<const N: usize>(text: &Json) -> [u8; N] {
    hex(text.as_str().unwrap()).try_into().unwrap()
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn list<'a>(json: &'a Json, key: &str) -> &'a [Json] {
    json[key].as_array().unwrap()
}

/// Returns a folder of the whole collections, or says that it is not there.
fn collection(folder: &str) -> Option<PathBuf> {
    let found = root().parent().map(|beside| beside.join("shared/vectors").join(folder)).filter(|at| at.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no folder shared/vectors/{folder} beside the repository; only the extract is tested");
    }
    found
}

fn read(file: &std::path::Path) -> Json {
    json(&fs::read_to_string(file).unwrap())
}

fn check(bytes: &[u8]) -> Result<Value, charm_host::Invalid> {
    Value::from_bytes(bytes, 1 << 20, VALUE_DEPTH_MAX)
}

// -- DIDs --

fn accepts_did(text: &str) -> Did {
    let did: Did = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(did.to_string(), text);
    assert_eq!(Did::from_public_key(*did.public_key()), Ok(did));
    did
}

/// The DID of a key made from `secret`, the way a host makes its charms' keys.
fn made_from(secret: &Json) -> Did {
    MemoryKeyring::default().create(&Zeroizing::new(bytes(secret))).unwrap()
}

/// I1: the secret seeds of the published vectors give the published DIDs.
#[test]
fn a_published_seed_gives_the_published_did() {
    for vector in list(&json(DID_KEY), "accepted") {
        assert_eq!(made_from(&vector["secret"]), accepts_did(vector["did"].as_str().unwrap()));
    }
}

/// I1: only Ed25519 names a charm.
#[test]
fn dids_of_other_curves_are_refused() {
    for vector in list(&json(DID_KEY), "refused") {
        let did = vector["did"].as_str().unwrap();
        assert_eq!(did.parse::<Did>(), Err(DidError::KeyType), "{}", vector["why"]);
    }
}

/// I1: one key has one name: nothing but base58btc after `did:key:z`, nothing around it.
#[test]
fn other_spellings_of_a_did_are_refused() {
    let good = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
    let did = accepts_did(good);
    let code: String = [0xed, 0x01].iter().chain(did.public_key()).map(|byte| format!("{byte:02x}")).collect();
    let (id, upper) = (good.strip_prefix("did:key:z").unwrap(), code.to_uppercase());
    for (text, error) in [
        (String::new(), DidError::Syntax),
        ("did:key:".to_owned(), DidError::Syntax),
        ("did:key:z".to_owned(), DidError::KeyType),
        (id.to_owned(), DidError::Syntax),
        (format!("z{id}"), DidError::Syntax),
        (format!("did:web:z{id}"), DidError::Syntax),
        (format!("DID:key:z{id}"), DidError::Syntax),
        (format!("did:key:Z{id}"), DidError::Syntax),
        (format!("did:key:f{code}"), DidError::Syntax),
        (format!("did:key:F{upper}"), DidError::Syntax),
        (format!(" {good}"), DidError::Syntax),
        (format!("{good} "), DidError::Syntax),
        // Too long for any Ed25519 key.
        (format!("{good}#z{id}"), DidError::KeyType),
        (format!("{good}\0"), DidError::Syntax),
        // A leading 1 is a leading zero byte: another multicodec.
        (format!("did:key:z1{id}"), DidError::KeyType),
        (format!("did:key:z{}", &id[..id.len() - 1]), DidError::KeyType),
        (format!("did:key:z{id}1"), DidError::KeyType),
        (format!("did:key:z{}", "6".repeat(1 << 20)), DidError::KeyType),
        // 0, O, I and l are no digits of base58btc.
        (format!("did:key:z{}0", &id[1..]), DidError::Syntax),
        (format!("did:key:z{}l", &id[1..]), DidError::Syntax),
    ] {
        assert_eq!(text.parse::<Did>(), Err(error), "{}", &text[..text.len().min(80)]);
    }
}

/// I1: keys whose signatures anybody can make, and second encodings of a key, name nobody.
#[test]
fn small_order_keys_and_non_canonical_keys_are_refused() {
    let small_order = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];
    for text in small_order {
        assert_eq!(Did::from_public_key(hex(text).try_into().unwrap()), Err(DidError::WeakKey), "{text}");
    }
    // y from the field's prime p to 2^255 - 1 stands for y - p; and x = 0 has no negative.
    let zero_with_sign = ["0100000000000000000000000000000000000000000000000000000000000080"];
    let minus_one_with_sign = ["ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"];
    for text in zero_with_sign.iter().chain(&minus_one_with_sign) {
        assert_eq!(Did::from_public_key(hex(text).try_into().unwrap()), Err(DidError::WeakKey), "{text}");
    }
    for over in 0..19 {
        for top in [0x7f, 0xff] {
            let mut key = [0xff; 32];
            (key[0], key[31]) = (0xed + over, top);
            assert_eq!(Did::from_public_key(key), Err(DidError::WeakKey), "p + {over}, top byte {top:02x}");
        }
    }
    // About half of all bytes are no point at all.
    let refused = (0..=255).filter(|byte| Did::from_public_key([*byte; 32]).is_err()).count();
    assert!((64..192).contains(&refused), "{refused} of 256");
}

/// I1, the whole collection: every Ed25519 DID goes round, every other curve is refused.
#[test]
fn every_published_did_key_is_accepted_or_refused_by_its_curve() {
    let Some(folder) = collection("did-key") else { return };
    let ed25519 = read(&folder.join("ed25519-x25519.json"));
    for (text, vector) in ed25519.as_object().unwrap() {
        assert_eq!(made_from(&vector["seed"]), accepts_did(text));
        let agreement = vector["keyAgreementKeyPair"]["id"].as_str().unwrap().replacen('#', "did:key:", 1);
        assert_eq!(agreement.parse::<Did>(), Err(DidError::KeyType), "X25519: {agreement}");
    }
    let mut others = vec![read(&folder.join("x25519.json"))["didDocument"].take()];
    for file in fs::read_dir(folder.join("other-curves-must-be-refused")).unwrap() {
        others.push(read(&file.unwrap().path()));
    }
    let others: Vec<&String> = others.iter().flat_map(|other| other.as_object().unwrap().keys()).collect();
    assert!(ed25519.as_object().unwrap().len() >= 5 && others.len() >= 15, "the collection is whole");
    for text in others {
        assert_eq!(text.parse::<Did>(), Err(DidError::KeyType), "{text}");
    }
}

/// I1, the whole collection: text in another base is no DID, and base58btc of something else neither.
#[test]
fn multibase_texts_that_hold_no_key_are_refused() {
    let Some(folder) = collection("multibase") else { return };
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines().skip(1) {
            let Some((base, Some(encoded))) = line.split_once(',').map(|(base, rest)| (base, rest.split('"').nth(1)))
            else {
                continue;
            };
            let error = if base == "base58btc" { DidError::KeyType } else { DidError::Syntax };
            assert_eq!(format!("did:key:{encoded}").parse::<Did>(), Err(error), "{base}: {encoded}");
            seen += 1;
        }
    }
    assert!(seen > 50, "the collection is whole");
}

// -- signatures --

fn verifies(public: &Json, message: &Json, signature: &Json) -> bool {
    let Ok(signature) = <[u8; 64]>::try_from(hex(signature.as_str().unwrap())) else { return false };
    let Ok(did) = Did::from_public_key(bytes(public)) else { return false };
    did.verify(&hex(message.as_str().unwrap()), &signature)
}

/// I3: RFC 8032, section 7.1: key, signature and verification agree.
#[test]
fn rfc_8032_keys_sign_and_verify_as_published() {
    for vector in list(&json(ED25519), "accepted") {
        let (name, message) = (&vector["name"], hex(vector["message"].as_str().unwrap()));
        let keyring = MemoryKeyring::default();
        let did = keyring.create(&Zeroizing::new(bytes(&vector["secret"]))).unwrap();
        assert_eq!(did.public_key(), &bytes::<32>(&vector["public"]), "{name}");
        let signature: [u8; 64] = bytes(&vector["signature"]);
        assert_eq!(keyring.sign(&did, &message).unwrap(), signature, "{name}");
        assert!(did.verify(&message, &signature), "{name}");
        // Any one bit wrong, anywhere, and it is no signature.
        for bit in 0..512 {
            let mut wrong = signature;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!did.verify(&message, &wrong), "{name}: bit {bit}");
        }
        assert!(!did.verify(&[message.as_slice(), b"x"].concat(), &signature), "{name}: longer message");
    }
}

/// I3: a second signature made from a first without the key is none.
#[test]
fn malleable_and_malformed_signatures_are_refused() {
    for vector in list(&json(ED25519), "refused") {
        assert!(!verifies(&vector["public"], &vector["message"], &vector["signature"]), "{}", vector["name"]);
    }
}

/// I3, the whole collection.
#[test]
fn every_wycheproof_signature_is_judged_as_published() {
    let Some(folder) = collection("ed25519") else { return };
    let whole = read(&folder.join("wycheproof_ed25519_test.json"));
    let mut seen = 0;
    for group in list(&whole, "testGroups") {
        let public = &group["publicKey"]["pk"];
        for test in list(group, "tests") {
            let wanted = test["result"] == "valid";
            let found = verifies(public, &test["msg"], &test["sig"]);
            assert_eq!(found, wanted, "test {}: {} {}", test["tcId"], test["flags"], test["comment"]);
            seen += 1;
        }
    }
    assert_eq!(Some(seen), whole["numberOfTests"].as_u64());
    assert_eq!(read(&folder.join("rfc8032_section7_1.json")), json(ED25519)["accepted"]);
}

// -- encodings --

fn goes_round(name: &str, bytes: &[u8]) {
    let value = check(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let ipld: Ipld = value.decode().unwrap();
    assert_eq!(Value::encode(&ipld).unwrap().as_bytes(), bytes, "{name}");
}

/// C1, C2: published encodings are values, and encode to the same bytes again.
#[test]
fn published_encodings_go_round() {
    let extract = json(DAG_CBOR);
    let accepted = extract["accepted"].as_object().unwrap();
    assert!(accepted.len() >= 20);
    for (name, text) in accepted {
        goes_round(name, &hex(text.as_str().unwrap()));
    }
}

/// C2: published wrong encodings are refused.
#[test]
fn published_wrong_encodings_are_refused() {
    for vector in list(&json(DAG_CBOR), "refused") {
        check(&hex(vector["hex"].as_str().unwrap())).expect_err(vector["name"].as_str().unwrap());
    }
}

/// C1, C2, the whole collection.
#[test]
fn every_dag_cbor_fixture_goes_round() {
    let Some(folder) = collection("dag-cbor/fixtures") else { return };
    let mut seen = 0;
    for fixture in fs::read_dir(folder).unwrap() {
        let fixture = fixture.unwrap();
        let name = fixture.file_name().into_string().unwrap();
        for file in fs::read_dir(fixture.path()).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "dag-cbor") {
                continue;
            }
            seen += 1;
            let bytes = fs::read(&file).unwrap();
            match REFUSED_FIXTURES.iter().find(|(refused, _)| *refused == name) {
                None => goes_round(&name, &bytes),
                Some((_, why)) => assert!(check(&bytes).is_err(), "{name} is listed as refused: {why}"),
            }
        }
    }
    assert!(seen > 100, "the collection is whole: {seen}");
}

/// C2, the whole collection.
#[test]
fn every_negative_dag_cbor_fixture_is_refused() {
    let Some(folder) = collection("dag-cbor/negative-fixtures/dag-cbor/decode") else { return };
    for file in fs::read_dir(folder).unwrap() {
        let vectors = read(&file.unwrap().path());
        for vector in vectors.as_array().unwrap() {
            check(&hex(vector["hex"].as_str().unwrap())).expect_err(vector["name"].as_str().unwrap());
        }
    }
}
