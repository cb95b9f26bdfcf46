//! Bodies of requests, among them archives that are rewritten to be odd or broken.

use serde_json::Value;

use crate::archives::{Member, REGULAR, read_zip, write_zip};

/// Rewrites an archive by a list of operations, in order.
pub(super) fn rewritten(archive: &[u8], ops: &[Vec<Value>]) -> Vec<u8> {
    let mut members = read_zip(archive);
    let mut method = 8;
    let mut later = Vec::new();
    for op in ops {
        let text = |at: usize| op[at].as_str().expect("a text").to_owned();
        let names: Vec<&str> = op[1..].iter().filter_map(Value::as_str).collect();
        let mode = |at: usize| op.get(at).and_then(Value::as_u64).map_or(REGULAR, |m| m as u32);
        match op[0].as_str().expect("an operation") {
            "prefix" => members.iter_mut().for_each(|m| m.name.insert_str(0, names[0])),
            "drop" => members.retain(|m| !names.contains(&m.name.as_str())),
            "keep" => members.retain(|m| names.contains(&m.name.as_str())),
            "add" => {
                members.push(Member { mode: mode(3), ..Member::stored(&text(1), text(2)) });
            }
            "addFirst" => {
                members.insert(0, Member { mode: mode(3), ..Member::stored(&text(1), text(2)) });
            }
            "duplicate" => {
                let again: Vec<_> =
                    members.iter().filter(|m| m.name == names[0]).cloned().collect();
                members.extend(again);
            }
            "mode" => members
                .iter_mut()
                .filter(|m| m.name == names[0])
                .for_each(|member| member.mode = mode(2)),
            "method" => method = op[1].as_u64().expect("a number") as u16,
            _ => later.push(op),
        }
    }
    for member in &mut members {
        member.method = if member.name.ends_with('/') { 0 } else { method };
    }
    let named = |op: &[Value], member: &Member| op[1].as_str() == Some(&member.name);
    let number = |op: &[Value], at: usize| op[at].as_u64().expect("a number");
    // A wrong method or flag is only written into the headers; the bytes stay what they are.
    let zip64 = later.iter().any(|op| op[0] == "zip64");
    let mut out = write_zip(&members, zip64);
    for op in later {
        match op[0].as_str().expect("an operation") {
            "zip64" => {}
            "rawMethod" | "rawFlag" => {
                let field = if op[0] == "rawMethod" { 2 } else { 0 };
                for member in members.iter().filter(|member| named(op, member)) {
                    patch_headers(&mut out, &member.name, field, number(op, 2) as u16);
                }
            }
            "flip" => {
                let marker = op[1].as_str().expect("a text").as_bytes();
                let at = position(&out, marker, 0).expect("the marker");
                out[at + number(op, 2) as usize] ^= 0xff;
            }
            "truncate" => out.truncate(out.len() - number(op, 1) as usize),
            other => panic!("unknown operation {other}"),
        }
    }
    out
}

/// Overwrites (method) or sets bits (flags) in both headers of an entry. `field` is the offset
/// from the flags.
fn patch_headers(archive: &mut [u8], name: &str, field: usize, value: u16) {
    for (signature, flags, length, start) in
        [(b"PK\x03\x04", 6, 26, 30), (b"PK\x01\x02", 8, 28, 46)]
    {
        let mut from = 0;
        while let Some(at) = position(archive, signature, from) {
            from = at + 4;
            let size =
                usize::from(u16::from_le_bytes([archive[at + length], archive[at + length + 1]]));
            if archive.get(at + start..at + start + size) == Some(name.as_bytes()) {
                let place = at + flags + field;
                let old = u16::from_le_bytes([archive[place], archive[place + 1]]);
                let new = if field == 0 { old | value } else { value };
                archive[place..place + 2].copy_from_slice(&new.to_le_bytes());
            }
        }
    }
}

fn position(bytes: &[u8], pattern: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(pattern.len()).position(|w| w == pattern).map(|at| at + from)
}
