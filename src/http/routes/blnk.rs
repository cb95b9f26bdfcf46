//! The routes of Blnk's face, at the root of the server as Blnk has them.

use percent_encoding::percent_decode_str;

use crate::vault::blnk::Place;

/// Which route a path is, whatever the method; `None` for all others.
pub fn find(path: &str) -> Option<Place> {
    let name: Vec<u8> = percent_decode_str(path.strip_prefix('/')?).collect();
    match name.as_slice() {
        b"backup" => Some(Place::Disk),
        b"backup-s3" => Some(Place::Bucket),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_paths_are_routes() {
        for (path, expected) in [
            ("/backup", Some(Place::Disk)),
            ("/%62ackup", Some(Place::Disk)),
            ("/backup-s3", Some(Place::Bucket)),
            ("/backup/", None),
            ("//backup", None),
            ("/Backup", None),
            ("/backup-s3/x", None),
            ("backup", None),
            ("/", None),
        ] {
            assert_eq!(find(path), expected, "{path}");
        }
    }
}
