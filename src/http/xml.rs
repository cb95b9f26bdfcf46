//! XML bodies, reduced to what binding needs: element names without their prefix, the text
//! that stands directly in an element, and its children. Attributes count for nothing.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::body::BodyError;

/// Deepest nesting of elements.
const DEPTH_MAX: usize = 64;

const BROKEN: BodyError = BodyError::Malformed("XML");

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Its name without a namespace prefix.
    pub name: String,
    /// The text directly in it, pieces put together.
    pub text: String,
    /// The elements directly in it.
    pub children: Vec<Element>,
}

/// The first element of a text; what follows it is ignored.
///
/// # Errors
/// There is none, it does not end, or it is not well-formed.
pub fn root(text: &[u8]) -> Result<Element, BodyError> {
    let mut reader = Reader::from_reader(text);
    let mut open: Vec<Element> = Vec::new();
    loop {
        let closed = match reader.read_event().map_err(|_| BROKEN)? {
            Event::Start(tag) => {
                if open.len() == DEPTH_MAX {
                    return Err(BROKEN);
                }
                open.push(element(&tag));
                None
            }
            Event::Empty(tag) => Some(element(&tag)),
            Event::End(_) => Some(open.pop().ok_or(BROKEN)?),
            Event::Eof => return Err(BROKEN),
            Event::Text(piece) => {
                append(&mut open, &piece.decode().map_err(|_| BROKEN)?);
                None
            }
            Event::CData(piece) => {
                append(&mut open, &piece.decode().map_err(|_| BROKEN)?);
                None
            }
            Event::GeneralRef(name) => {
                let character = name.resolve_char_ref().map_err(|_| BROKEN)?;
                let character = match (character, &name[..]) {
                    (Some(character), _) => character,
                    (None, b"amp") => '&',
                    (None, b"lt") => '<',
                    (None, b"gt") => '>',
                    (None, b"quot") => '"',
                    (None, b"apos") => '\'',
                    _ => return Err(BROKEN),
                };
                append(&mut open, character.encode_utf8(&mut [0; 4]));
                None
            }
            _ => None,
        };
        match (closed, open.last_mut()) {
            (Some(element), Some(parent)) => parent.children.push(element),
            (Some(element), None) => return Ok(element),
            (None, _) => {}
        }
    }
}

fn element(tag: &BytesStart<'_>) -> Element {
    let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
    Element { name, ..Element::default() }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_texts_and_children_are_found() {
        let cases: [(&str, Option<&str>); 9] = [
            ("<x><Name>a</Name></x>", Some("a")),
            (
                "<?xml version=\"1.0\"?><x><n:Name>a&amp;<![CDATA[<b>]]>&#99;</n:Name></x>",
                Some("a&<b>c"),
            ),
            ("<x><Name>a<b>c</b>d</Name></x> trailing", Some("ad")),
            ("<x><Name/></x>", Some("")),
            ("<x><Name>a</Name>", None),
            ("<x><Name>a</Nome></x>", None),
            ("<x><Name>&unknown;</Name></x>", None),
            ("text", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = root(text.as_bytes()).ok();
            let found = found.as_ref().and_then(|root| root.children.first());
            assert_eq!(found.map(|child| child.text.as_str()), expected, "{text}");
            assert!(found.is_none_or(|child| child.name == "Name"));
        }
        assert!(root("<a>".repeat(100).as_bytes()).is_err());
    }
}
