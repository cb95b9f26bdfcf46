//! Checksums of parts: CRC-32, told with an upload, checked, kept and told back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::bucket::{Object, Upload};
use super::faults::Habits;
use super::http::{Head, Reply};

const ALGORITHM: &str = "x-amz-checksum-algorithm";
const SUM: &str = "x-amz-checksum-crc32";

/// What a server makes of checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksums {
    /// They are not noticed.
    Ignored,
    /// They are checked, kept and told back.
    Kept,
    /// The header that asks for them is answered with 400.
    Refused,
    /// They are promised, and then not told back.
    Forgotten,
}

/// Whether an upload may not begin like this.
pub(super) fn refuses(head: &Head, habits: &Habits) -> bool {
    habits.checksums == Checksums::Refused && head.header(ALGORITHM).is_some()
}

/// The answer to the beginning of an upload, with what it promises.
pub(super) fn initiated(head: &Head, reply: Reply, habit: Checksums) -> Reply {
    match (head.header(ALGORITHM), habit) {
        (None, _) | (_, Checksums::Ignored) => reply,
        (Some(name), _) => reply.header(ALGORITHM, name.to_owned()),
    }
}

/// The answer to a part, which must be what its header says.
pub(super) fn part(head: &Head, part: &mut Object, reply: Reply, habit: Checksums) -> Reply {
    let Some(told) = head.header(SUM).filter(|_| habit == Checksums::Kept) else { return reply };
    let found = STANDARD.encode(crc32fast::hash(&part.body).to_be_bytes());
    if found != told {
        return Reply::error(400, "BadDigest");
    }
    part.headers.push((SUM.to_owned(), found.clone()));
    reply.header(SUM, found)
}

/// The sum of the parts' sums, which stays with the object.
pub(super) fn complete(upload: &Upload, object: &mut Object) {
    let sums = upload.parts.values().map(|part| STANDARD.decode(part.header(SUM)?).ok());
    let Some(sums) = sums.collect::<Option<Vec<Vec<u8>>>>() else { return };
    let sum = STANDARD.encode(crc32fast::hash(&sums.concat()).to_be_bytes());
    object.headers.push((SUM.to_owned(), format!("{sum}-{}", upload.parts.len())));
}
