//! Archives that were cut short or damaged at random: refused, or harmless, never a panic.

use proptest::prelude::*;

use crate::archive::tests::{Given, archived, noise, opened, tree};
use crate::archive::{ExtractOptions, Limits};
use crate::control::Control;
use crate::error::Kind;

fn given() -> Vec<Given> {
    let text = b"a line of text that repeats\n".repeat(400);
    vec![
        Given::new(&b"data.db"[..], text),
        Given::new(&b"storage/a/b.jpg"[..], noise(9000, 3)),
        Given::new(&b"storage/empty"[..], Vec::new()),
        Given::new(&b"large"[..], b"0123456789".repeat(120_000)),
    ]
}

fn sound() -> Vec<u8> {
    archived(given()).0
}

#[test]
fn every_truncation_is_refused() {
    let archive = sound();
    let steps = (0..100).map(|percent| archive.len() * percent / 100);
    for length in steps.chain(archive.len() - 30..archive.len()) {
        let error = opened(&archive[..length], &Limits::default()).expect_err("truncated");
        assert_eq!(error.kind(), &Kind::Corrupt, "{length} bytes: {error:?}");
    }
    opened(&archive, &Limits::default()).expect("the whole");
}

#[test]
fn a_missing_piece_is_found_by_verify_or_before() {
    let archive = sound();
    for percent in 0..100 {
        let at = (archive.len() - 1) * percent / 100;
        let mut torn = archive.clone();
        torn.remove(at);
        let outcome = opened(&torn, &Limits::default())
            .and_then(|reader| reader.verify(None, &Control::default()));
        assert_eq!(outcome.expect_err("torn").kind(), &Kind::Corrupt, "byte {at} is missing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_flipped_bit_is_refused_or_changes_no_data(
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let archive = sound();
        let mut flipped = archive.clone();
        flipped[at.index(archive.len())] ^= 1 << bit;
        let outcome = opened(&flipped, &Limits::default())
            .and_then(|reader| reader.verify(None, &Control::default()).map(|_| reader));
        let Ok(reader) = outcome else { return Ok(()) };
        // What is still read is the same data, though perhaps under another name or mode.
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        if reader.extract(&target, &ExtractOptions::default(), &Control::default()).is_err() {
            return Ok(());
        }
        let expected: Vec<_> = given().into_iter().map(|given| given.data).collect();
        let found: Vec<_> = tree(&target).into_iter().map(|(_, data, _)| data).collect();
        // A flipped type bit may turn a file into something that is skipped.
        let missing = expected.iter().filter(|data| !found.contains(data)).count();
        prop_assert!(missing <= 1 && found.iter().all(|data| expected.contains(data)));
    }

    #[test]
    fn any_bytes_behind_a_signature_are_handled(
        before in prop::collection::vec(any::<u8>(), 0..200),
        after in prop::collection::vec(any::<u8>(), 0..200),
        signature in prop::sample::select(vec![
            &b"PK\x05\x06"[..], b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02", b"PK\x03\x04",
        ]),
        ended in any::<bool>(),
    ) {
        let mut bytes = [&before[..], signature, &after[..]].concat();
        if ended {
            let size = (after.len() + 4) as u32;
            bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(&(before.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&[0, 0]);
        }
        // Only that it ends, and without a panic.
        let _ = opened(&bytes, &Limits::default())
            .and_then(|reader| reader.verify(None, &Control::default()));
    }
}
