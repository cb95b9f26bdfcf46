//! The plain-text part of an HTML mail: readable, not faithful.

/// Elements whose content is no text of the mail.
const SILENT: [&str; 4] = ["style", "script", "head", "title"];
/// Elements that stand in the running text; all others begin a new line.
const INLINE: [&str; 10] = ["a", "b", "em", "i", "small", "span", "strong", "sub", "sup", "u"];
/// Character references worth knowing.
const REFERENCES: [(&str, &str); 7] = [
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("#39", "'"),
    ("nbsp", " "),
    ("amp", "&"),
];

/// The text of an HTML document: blanks collapsed, a line per block, links followed by their
/// address in parentheses.
pub(super) fn text_of(html: &str) -> String {
    let mut out = Text::default();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        out.words(&rest[..open]);
        rest = &rest[open..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let Some(close) = rest.find('>') else { break };
        let tag = &rest[1..close];
        rest = &rest[close + 1..];
        let name = name_of(tag);
        if SILENT.contains(&name.as_str()) && !tag.starts_with('/') {
            rest = after_end(rest, &name);
            continue;
        }
        out.tag(tag, &name);
    }
    if !rest.starts_with('<') {
        out.words(rest);
    }
    out.0.trim().to_owned()
}

#[derive(Default)]
struct Text(String, Option<String>);

impl Text {
    fn words(&mut self, raw: &str) {
        let decoded = decoded(raw);
        if decoded.starts_with(char::is_whitespace) {
            self.blank();
        }
        for (i, word) in decoded.split_whitespace().enumerate() {
            if i > 0 {
                self.blank();
            }
            self.0.push_str(word);
        }
        if decoded.ends_with(char::is_whitespace) {
            self.blank();
        }
    }

    fn blank(&mut self) {
        if !self.0.is_empty() && !self.0.ends_with([' ', '\n']) {
            self.0.push(' ');
        }
    }

    fn line(&mut self) {
        self.0.truncate(self.0.trim_end_matches(' ').len());
        if !self.0.is_empty() && !self.0.ends_with('\n') {
            self.0.push('\n');
        }
    }

    fn tag(&mut self, tag: &str, name: &str) {
        match (name, tag.starts_with('/')) {
            ("br", _) => self.0.push('\n'),
            ("a", false) => self.1 = attribute(tag, "href"),
            ("a", true) => {
                if let Some(address) = self.1.take().filter(|address| !address.is_empty()) {
                    self.0.truncate(self.0.trim_end_matches(' ').len());
                    self.0.push_str(&format!(" ({address})"));
                }
            }
            ("li", false) => {
                self.line();
                self.0.push_str("- ");
            }
            (name, _) if INLINE.contains(&name) => {}
            _ => self.line(),
        }
    }
}

fn name_of(tag: &str) -> String {
    let tag = tag.strip_prefix('/').unwrap_or(tag);
    tag.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// What follows the end tag of `name`; nothing when there is none.
fn after_end<'h>(html: &'h str, name: &str) -> &'h str {
    let end = format!("</{name}");
    let lower = html.to_ascii_lowercase();
    let Some(at) = lower.find(&end) else { return "" };
    html[at..].split_once('>').map_or("", |(_, after)| after)
}

/// The value of a quoted attribute.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}="))?;
    let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    rest[1..].split_once(quote).map(|(value, _)| decoded(value))
}

fn decoded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let known = REFERENCES.iter().find_map(|(name, meaning)| {
            let tail = after.strip_prefix(name)?.strip_prefix(';')?;
            Some((*meaning, tail))
        });
        let (meaning, tail) = known.unwrap_or(("&", after));
        out.push_str(meaning);
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn html_becomes_readable_lines() {
        for (html, expected) in [
            ("", ""),
            ("a  b\n c", "a b c"),
            ("<p>Hello,</p>\n<p>your code: <strong>12 34</strong></p>", "Hello,\nyour code: 12 34"),
            ("a<br>b<br/>c", "a\nb\nc"),
            (
                "<a class=\"x\" href=\"https://x.y/?a=1&amp;b=2\"> Go </a>.",
                "Go (https://x.y/?a=1&b=2).",
            ),
            ("<ul><li>one</li><li>two</li></ul>end", "- one\n- two\nend"),
            ("<style>p > a {}</style><!-- <p>no --><SCRIPT>1</SCRIPT>yes", "yes"),
            (
                "1 &lt; 2 &amp;&amp; 3&nbsp;&gt; 2 &unknown; &amp;lt;",
                "1 < 2 && 3 > 2 &unknown; &lt;",
            ),
            ("a < b", "a"),
        ] {
            assert_eq!(text_of(html), expected, "{html}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(html in "[<>/!&;\"'=a-c é-]{0,60}") {
            let _ = text_of(&html);
        }
    }
}
