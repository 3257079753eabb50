//! CIDs as bytes. Those that carry their content can be longer than `ipld_core` holds: links to cells and streams are.

use ipld_core::cid::{
    Cid,
    multibase::{self, Base},
};

/// How a CID begins that carries its content: version 1, DAG-CBOR, identity.
const CARRYING: [u8; 3] = [0x01, 0x71, 0x00];

/// Returns the CID that carries DAG-CBOR.
pub(crate) fn carrying(content: &[u8]) -> Vec<u8> {
    let mut cid = CARRYING.to_vec();
    let mut left = content.len();
    while left >= 0x80 {
        cid.push(left as u8 | 0x80);
        left >>= 7;
    }
    cid.push(left as u8);
    cid.extend_from_slice(content);
    cid
}

/// Returns the DAG-CBOR that a CID carries, unchecked; none of another CID.
pub(crate) fn content(cid: &[u8]) -> Option<&[u8]> {
    let rest = cid.strip_prefix(&CARRYING)?;
    let length = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let content = &rest[length..];
    // The length has one form.
    (carrying(content).len() == cid.len() && carrying(content) == *cid).then_some(content)
}

/// Returns whether bytes are a CID in its one form.
pub(super) fn is_cid(bytes: &[u8]) -> bool {
    Cid::try_from(bytes).is_ok_and(|cid| cid.to_bytes() == bytes) || content(bytes).is_some()
}

/// Returns the usual text of a CID.
pub(super) fn to_text(cid: &[u8]) -> String {
    match Cid::try_from(cid) {
        Ok(cid) => cid.to_string(),
        Err(_) => multibase::encode(Base::Base32Lower, cid),
    }
}

/// Reads the usual text of a CID.
pub(super) fn from_text(text: &str) -> Option<Vec<u8>> {
    let cid = match Cid::try_from(text) {
        Ok(cid) => cid.to_bytes(),
        Err(_) => multibase::decode(text).ok()?.1,
    };
    (is_cid(&cid) && to_text(&cid) == text).then_some(cid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cid_that_carries_its_content_has_one_form_in_bytes_and_text_however_long() {
        for length in [0, 1, 23, 63, 64, 65, 127, 128, 255, 256, 16_383, 16_384, 70_000] {
            let wanted = vec![7; length];
            let cid = carrying(&wanted);
            assert_eq!(content(&cid), Some(&wanted[..]));
            assert!(is_cid(&cid));
            assert_eq!(from_text(&to_text(&cid)), Some(cid.clone()));
            for bad in [&cid[..cid.len() - 1], &[&cid[..], &[0]].concat(), &cid[1..]] {
                assert!(content(bad).is_none() && !is_cid(bad), "{length}");
            }
        }
        // A length with a byte too many, and one without an end.
        for bad in [&[1, 0x71, 0, 0x81, 0, 7][..], &[1, 0x71, 0, 0x80], &[1, 0x71, 0], &[1, 0x71], &[]] {
            assert!(content(bad).is_none() && !is_cid(bad), "{bad:?}");
        }
        let upper = to_text(&carrying(&[7; 99])).to_uppercase();
        assert_eq!((from_text(&upper), from_text("b"), from_text("")), (None, None, None));
    }
}
