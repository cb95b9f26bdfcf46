//! Query strings and url-encoded forms, read by Go's rules: `;` parts nothing and spoils its
//! pair, `+` is a blank, a bad `%` spoils its pair. Knows nothing of what the names mean.

/// The pairs of a query in their order, and whether every pair was sound. Unsound pairs are
/// left out; a request's query forgives them, a form's body does not.
pub fn pairs(text: &[u8]) -> (Vec<(String, String)>, bool) {
    let mut found = Vec::new();
    let mut sound = true;
    for pair in text.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
        let cut = pair.iter().position(|b| *b == b'=');
        let (name, value) = match cut {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        match (pair.contains(&b';'), decoded(name), decoded(value)) {
            (false, Some(name), Some(value)) => found.push((name, value)),
            _ => sound = false,
        }
    }
    (found, sound)
}

/// The first value of a name; `None` when the name does not occur.
pub fn first(query: &str, name: &str) -> Option<String> {
    pairs(query.as_bytes()).0.into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
}

/// Invalid UTF-8 becomes U+FFFD: such values match nothing that exists.
fn decoded(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |i: usize| char::from(*text.get(i)?).to_digit(16);
                bytes.push(u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()?);
                at += 2;
            }
            other => bytes.push(*other),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_spoilt_pairs_do_not() {
        let cases = [
            ("token=a&token=b", Some("a")),
            ("token=%zz&token=b", Some("b")),
            ("token=a;x=1&token=b", Some("b")),
            ("token", Some("")),
            ("x=token", None),
            ("%74oken=a+b%2Bc", Some("a b+c")),
            ("token=a%", None),
            ("", None),
        ];
        for (query, expected) in cases {
            assert_eq!(first(query, "token").as_deref(), expected, "{query}");
        }
        assert!(!pairs(b"a=%zz").1 && pairs(b"a=%20&&b").1);
    }
}
