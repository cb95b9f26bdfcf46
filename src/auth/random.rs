//! Random words as PocketBase makes them: ids, token keys, secrets, one-time passwords.

use rand::RngExt;

const LOWER_AND_DIGITS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const LETTERS_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const DIGITS: &[u8] = b"1234567890";

/// Length of a record id, in characters.
const ID_LENGTH: usize = 15;
/// Length of a token key and of a token secret, in characters.
const SECRET_LENGTH: usize = 50;

/// A record id: 15 of `[a-z0-9]`.
pub(super) fn id() -> String {
    word(ID_LENGTH, LOWER_AND_DIGITS)
}

/// A record's token key or a collection's token secret: 50 of `[A-Za-z0-9]`.
pub(super) fn secret() -> String {
    word(SECRET_LENGTH, LETTERS_AND_DIGITS)
}

/// A password nobody knows: 30 of `[A-Za-z0-9]`.
pub(super) fn password() -> String {
    word(30, LETTERS_AND_DIGITS)
}

/// A one-time password of `length` digits.
pub(super) fn digits(length: usize) -> String {
    word(length, DIGITS)
}

/// The generator is the operating system's, stretched by a stream cipher: fit for secrets.
fn word(length: usize, alphabet: &[u8]) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_length_and_alphabet_and_differ() {
        for (word, length, alphabet) in [
            (id(), 15, LOWER_AND_DIGITS),
            (secret(), 50, LETTERS_AND_DIGITS),
            (digits(8), 8, DIGITS),
        ] {
            assert_eq!(word.len(), length);
            assert!(word.bytes().all(|byte| alphabet.contains(&byte)), "{word}");
        }
        assert_ne!(secret(), secret());
    }
}
