//! The manifest, which an operator writes and a stranger may have sent (A2).

use charm_host::{MESSAGE_BYTES_MAX, Manifest, is_unprintable};

use super::{change, corpus, fuzz};

#[test]
fn a_manifest_loads_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("charms.toml");
    fuzz("manifest", 10_000, &corpus("manifest"), change, |bytes| {
        std::fs::write(&file, bytes).unwrap();
        if let Err(error) = Manifest::load(&file) {
            let text = error.to_string();
            assert!(text.len() <= MESSAGE_BYTES_MAX, "{text}");
            assert!(!text.contains(|c| is_unprintable(c) && c != '\n'), "{text:?}");
        }
    });
}
