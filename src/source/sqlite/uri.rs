//! The one kind of SQLite URI that we need.

/// A path as SQLite's URI of a file that cannot change.
pub(super) fn immutable_uri(path: &[u8]) -> Vec<u8> {
    let mut uri = b"file:".to_vec();
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            uri.push(byte);
        } else {
            uri.extend_from_slice(format!("%{byte:02x}").as_bytes());
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_means_something_in_a_uri_is_escaped() {
        let uri = immutable_uri(b"/a b/c?d#e%f\xff");
        assert_eq!(uri, b"file:/a%20b/c%3fd%23e%25f%ff?immutable=1");
    }
}
