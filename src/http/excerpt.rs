//! Plain text out of HTML, cut short: PocketBase's `:excerpt` modifier. It walks over the
//! tags of a text; it is not an HTML parser, and knows the entities people write, not all.

const EXCLUDED: &[&str] = &[
    "applet", "button", "dialog", "embed", "form", "head", "iframe", "img", "input", "object",
    "option", "picture", "script", "select", "style", "svg", "template", "textarea",
];
const INLINE: &[&str] = &[
    "a", "abbr", "acronym", "b", "bdo", "big", "br", "button", "cite", "code", "em", "i", "label",
    "q", "small", "span", "strike", "strong", "sub", "sup", "time",
];
/// Elements without content.
const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
    "wbr",
];
/// Bytes beyond the limit that may be gathered: the blanks at both ends go away later.
const SLACK_BYTES: usize = 2;

/// The first `max` characters of a text without its tags, blanks collapsed; with `...` behind
/// when asked for and something was cut.
pub fn excerpt(text: &str, max: usize, ellipsis: bool) -> String {
    let gathered = Gathered::of(text, max);
    let plain = gathered.trim();
    let Some((cut, _)) = plain.char_indices().nth(max) else { return plain.to_owned() };
    let dots = if ellipsis { "..." } else { "" };
    format!("{}{dots}", plain[..cut].trim())
}

struct Gathered {
    text: String,
    blank: bool,
}

impl Gathered {
    fn of(html: &str, max: usize) -> String {
        let mut gathered = Self { text: String::new(), blank: false };
        let mut rest = html;
        while !rest.is_empty() {
            let (text, after) = rest.split_at(tag_start(rest).unwrap_or(rest.len()));
            gathered.push(&unescaped(text));
            rest = after;
            let Some(tag) = Tag::at(rest) else { continue };
            rest = rest.get(tag.len..).unwrap_or_default();
            let full = gathered.text.len() > max + SLACK_BYTES;
            if tag.opens && !VOID.contains(&tag.name.as_str()) {
                let excluded = EXCLUDED.contains(&tag.name.as_str());
                if excluded || full {
                    rest = after_element(rest, &tag.name);
                }
            }
            gathered.edge(&tag);
        }
        gathered.text
    }

    fn push(&mut self, text: &str) {
        for c in text.chars() {
            let blank = matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ');
            if blank && self.blank {
                continue;
            }
            self.text.push(if blank { ' ' } else { c });
            self.blank = blank;
        }
    }

    /// Around blocks there is a blank.
    fn edge(&mut self, tag: &Tag) {
        let name = tag.name.as_str();
        let silent = name.is_empty() || EXCLUDED.contains(&name) || INLINE.contains(&name);
        if !silent && !self.blank {
            self.text.push(' ');
            self.blank = true;
        }
    }
}

/// Where the next tag or comment begins; a `<` before anything else is text.
fn tag_start(text: &str) -> Option<usize> {
    let begins = |at: &usize| {
        let rest = text.as_bytes().get(at + 1..).unwrap_or_default();
        match rest {
            [b'!' | b'?', ..] => true,
            [b'/', next, ..] | [next, ..] => next.is_ascii_alphabetic(),
            [] => false,
        }
    };
    text.match_indices('<').map(|(at, _)| at).find(begins)
}

struct Tag {
    /// Lower case; empty for comments and declarations.
    name: String,
    opens: bool,
    len: usize,
}

impl Tag {
    /// The tag at the start of a text; one that does not end reaches to the text's end.
    fn at(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('<')?;
        if inner.starts_with("!--") {
            let len = text.find("-->").map_or(text.len(), |at| at + 3);
            return Some(Self { name: String::new(), opens: false, len });
        }
        let declares = inner.starts_with(['!', '?']);
        let opens = !inner.starts_with('/') && !declares;
        let name = inner.trim_start_matches('/').split([' ', '\t', '\n', '\r', '\x0c', '/', '>']);
        let name = name.take(1).collect::<String>().to_ascii_lowercase();
        let len = if declares { text.find('>').map(|at| at + 1) } else { tag_len(text) };
        let unfinished = len.is_none();
        let len = len.unwrap_or(text.len());
        let name = if declares || unfinished { String::new() } else { name };
        Some(Self { name, opens: opens && !unfinished, len })
    }
}

/// A `>` inside of quotes does not end a tag.
fn tag_len(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            ('>', None) => return Some(at + 1),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// What follows an element whose start tag was just passed.
fn after_element<'a>(mut rest: &'a str, name: &str) -> &'a str {
    let mut depth = 1;
    while depth > 0 {
        let Some(tag) = tag_start(rest).map(|at| &rest[at..]).and_then(|r| {
            rest = r;
            Tag::at(r)
        }) else {
            return "";
        };
        rest = rest.get(tag.len..).unwrap_or_default();
        if tag.name == name {
            depth = if tag.opens { depth + 1 } else { depth - 1 };
        }
    }
    rest
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (character, len) = entity(rest).unwrap_or(('&', 1));
        out.push(character);
        rest = rest.get(len..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The entity at the start of a text, and its length; the final `;` may be missing.
fn entity(text: &str) -> Option<(char, usize)> {
    let body = text.strip_prefix('&')?;
    let (character, len) = if let Some(number) = body.strip_prefix('#') {
        let (digits, radix, prefix) = match number.strip_prefix(['x', 'X']) {
            Some(digits) => (digits, 16, 3),
            None => (number, 10, 2),
        };
        let len = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        (char::from_u32(u32::from_str_radix(&digits[..len], radix).ok()?)?, prefix + len)
    } else {
        const NAMED: [(&str, char); 6] = [
            ("amp", '&'),
            ("lt", '<'),
            ("gt", '>'),
            ("quot", '"'),
            ("apos", '\''),
            ("nbsp", '\u{a0}'),
        ];
        let (name, character) = NAMED.iter().find(|(name, _)| body.starts_with(name))?;
        (*character, 1 + name.len())
    };
    let semicolon = text.get(len..).is_some_and(|rest| rest.starts_with(';'));
    Some((character, len + usize::from(semicolon)))
}
