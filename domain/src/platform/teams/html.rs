//! From the HTML of a message to its text.
//!
//! Teams writes a small dialect: paragraphs, breaks, lists, mentions, emoji as elements, quoted and
//! attached things as empty elements. What is not known is left out and its content kept. One pass,
//! no recursion: however deep somebody nests, it ends.

/// What was found in a body beside its text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The text.
    pub text: String,
    /// Addresses of pictures, in order.
    pub pictures: Vec<String>,
}

/// Elements after which a line ends.
const LINES: [&str; 12] = [
    "p",
    "div",
    "li",
    "tr",
    "blockquote",
    "h1",
    "h2",
    "h3",
    "ul",
    "ol",
    "pre",
    "codeblock",
];

/// Elements whose content is not text.
const SILENT: [&str; 4] = ["attachment", "script", "style", "systemeventmessage"];

/// Elements whose white space counts.
const VERBATIM: [&str; 2] = ["pre", "codeblock"];

/// Reads the HTML of a message.
pub fn read(html: &str) -> Read {
    let mut page = Page::default();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (text, markup) = rest.split_at(at);
        page.write(text);
        rest = match markup.strip_prefix("<!--") {
            Some(comment) => comment.split_once("-->").map_or("", |(_, rest)| rest),
            None => match tag(markup) {
                Some((inner, rest)) => {
                    page.tag(inner);
                    rest
                }
                // A lonely angle is a text.
                None => {
                    page.write("<");
                    &markup[1..]
                }
            },
        };
    }
    page.write(rest);
    Read {
        text: tidy(&page.text),
        pictures: page.pictures,
    }
}

/// The inside of a tag and what follows it. An angle inside an attribute's quotes does not end it.
fn tag(markup: &str) -> Option<(&str, &str)> {
    let inside = &markup[1..];
    let named = inside.strip_prefix('/').unwrap_or(inside);
    if !named.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    let mut quote = None;
    for (at, letter) in inside.char_indices() {
        match (quote, letter) {
            (None, '>') => return Some((&inside[..at], &inside[at + 1..])),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    None
}

#[derive(Default)]
struct Page {
    text: String,
    pictures: Vec<String>,
    /// The silent element that is open, if any, and how often.
    silent: Option<(String, usize)>,
    verbatim: usize,
}

impl Page {
    fn write(&mut self, text: &str) {
        if self.silent.is_some() || text.is_empty() {
            return;
        }
        let decoded = entities(text);
        if self.verbatim > 0 {
            self.text.push_str(&decoded.replace('\u{a0}', " "));
            return;
        }
        for letter in decoded.chars() {
            match letter {
                '\u{a0}' => self.text.push(' '),
                ' ' | '\t' | '\n' | '\r' => {
                    if !self.text.ends_with([' ', '\n']) {
                        self.text.push(' ');
                    }
                }
                letter => self.text.push(letter),
            }
        }
    }

    fn tag(&mut self, inner: &str) {
        let (closing, inner) = match inner.strip_prefix('/') {
            Some(inner) => (true, inner),
            None => (false, inner),
        };
        let end = inner
            .find(|letter: char| letter.is_ascii_whitespace() || letter == '/')
            .unwrap_or(inner.len());
        let name = inner[..end].to_ascii_lowercase();
        let alone = inner.ends_with('/');
        if let Some((open, depth)) = &mut self.silent {
            if *open == name && closing {
                *depth -= 1;
            } else if *open == name && !alone {
                *depth += 1;
            }
            if *depth == 0 {
                self.silent = None;
            }
            return;
        }
        if SILENT.contains(&name.as_str()) {
            if !closing && !alone {
                self.silent = Some((name, 1));
            }
            return;
        }
        if VERBATIM.contains(&name.as_str()) && !alone {
            self.verbatim = if closing {
                self.verbatim.saturating_sub(1)
            } else {
                self.verbatim + 1
            };
        }
        match name.as_str() {
            "br" => self.text.push('\n'),
            "emoji" | "customemoji" if !closing => self.alternative(inner),
            "img" if !closing => self.picture(inner),
            "td" | "th" if closing => self.text.push(' '),
            name if LINES.contains(&name) => self.end_line(),
            _ => {}
        }
    }

    fn alternative(&mut self, tag: &str) {
        let alternative = attribute(tag, "alt").unwrap_or_default();
        self.text.push_str(&alternative);
    }

    /// A picture, or an emoji that is drawn as one.
    fn picture(&mut self, tag: &str) {
        let kind = attribute(tag, "itemtype").unwrap_or_default();
        if kind.to_ascii_lowercase().contains("emoji") {
            self.alternative(tag);
        } else if let Some(source) = attribute(tag, "src").filter(|source| !source.is_empty()) {
            self.pictures.push(source);
        }
    }

    fn end_line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }
}

/// The value of an attribute, decoded.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some(at) = rest.find('=') {
        let key = rest[..at].trim_end();
        let key = key
            .rsplit(|letter: char| letter.is_ascii_whitespace() || letter == '"' || letter == '\'')
            .next()?;
        let value = rest[at + 1..].trim_start();
        let (value, after) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split_once(quote)?,
            _ => {
                let end = value
                    .find(|letter: char| letter.is_ascii_whitespace())
                    .unwrap_or(value.len());
                value.split_at(end)
            }
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(entities(value));
        }
        rest = after;
    }
    None
}

/// Decodes character references, once.
fn entities(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.bytes().take(12).position(|byte| byte == b';');
        match end.and_then(|end| Some((entity(&rest[..end])?, end))) {
            Some((letter, end)) => {
                decoded.push(letter);
                rest = &rest[end + 1..];
            }
            None => decoded.push('&'),
        }
    }
    decoded.push_str(rest);
    decoded
}

/// The letters of Latin-1 from 160 on, by the names HTML has for them.
const LATIN: [&str; 96] = [
    "nbsp", "iexcl", "cent", "pound", "curren", "yen", "brvbar", "sect", "uml", "copy", "ordf",
    "laquo", "not", "shy", "reg", "macr", "deg", "plusmn", "sup2", "sup3", "acute", "micro",
    "para", "middot", "cedil", "sup1", "ordm", "raquo", "frac14", "frac12", "frac34", "iquest",
    "Agrave", "Aacute", "Acirc", "Atilde", "Auml", "Aring", "AElig", "Ccedil", "Egrave", "Eacute",
    "Ecirc", "Euml", "Igrave", "Iacute", "Icirc", "Iuml", "ETH", "Ntilde", "Ograve", "Oacute",
    "Ocirc", "Otilde", "Ouml", "times", "Oslash", "Ugrave", "Uacute", "Ucirc", "Uuml", "Yacute",
    "THORN", "szlig", "agrave", "aacute", "acirc", "atilde", "auml", "aring", "aelig", "ccedil",
    "egrave", "eacute", "ecirc", "euml", "igrave", "iacute", "icirc", "iuml", "eth", "ntilde",
    "ograve", "oacute", "ocirc", "otilde", "ouml", "divide", "oslash", "ugrave", "uacute", "ucirc",
    "uuml", "yacute", "thorn", "yuml",
];

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let number = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(number).filter(|letter| *letter != '\0');
    }
    if let Some(at) = LATIN.iter().position(|known| *known == name) {
        return char::from_u32(160 + at as u32);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "euro" => '€',
        "sbquo" => '‚',
        "bdquo" => '„',
        "lsaquo" => '‹',
        "rsaquo" => '›',
        "trade" => '™',
        "bull" => '•',
        "larr" => '←',
        "rarr" => '→',
        "minus" => '−',
        "ne" => '≠',
        "le" => '≤',
        "ge" => '≥',
        "ensp" => '\u{2002}',
        "emsp" => '\u{2003}',
        "thinsp" => '\u{2009}',
        "zwnj" => '\u{200c}',
        "zwj" => '\u{200d}',
        "OElig" => 'Œ',
        "oelig" => 'œ',
        "Scaron" => 'Š',
        "scaron" => 'š',
        _ => return None,
    })
}

/// Without space at the ends of lines and of the whole, and with no more than one empty line.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            empty += 1;
            continue;
        }
        if !tidied.is_empty() {
            tidied.push_str(if empty > 0 { "\n\n" } else { "\n" });
        }
        empty = 0;
        tidied.push_str(line);
    }
    tidied.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(html: &str, text: &str) {
        assert_eq!(read(html).text, text, "{html}");
    }

    #[test]
    fn the_documented_example() {
        reads(
            "<p>Hi <at id=\"0\">Nora Wind</at>&nbsp;— 5 &lt; 7 &amp; café<br>second line</p>",
            "Hi Nora Wind — 5 < 7 & café\nsecond line",
        );
    }

    #[test]
    fn lines_lists_and_code() {
        reads("<p>a</p><p>b</p>", "a\nb");
        reads("<div>a</div>\n<div>b</div>", "a\nb");
        reads("<p>a</p><p>&nbsp;</p><p>b</p>", "a\n\nb");
        reads("<ul><li>a</li><li>b</li></ul>c", "a\nb\nc");
        reads("a<br/>b<br />c", "a\nb\nc");
        reads("<pre>if x:\n    y &lt; z</pre>", "if x:\n    y < z");
        reads("<table><tr><td>a</td><td>b</td></tr></table>", "a b");
        reads("a\n   b", "a b");
        reads("a&nbsp;&nbsp;b", "a  b");
    }

    #[test]
    fn emoji_and_pictures() {
        reads(
            "<emoji id=\"x\" alt=\"😀\" title=\"Grin\"></emoji> ok",
            "😀 ok",
        );
        reads("<customemoji alt=\"teapot\"></customemoji>", "teapot");
        let html = "<img itemtype=\"http://schema.skype.com/Emoji\" alt=\"🙂\" src=\"https://x\">\
                    <img alt='a>b' src='https://y/?a=1&amp;b=2'>see";
        let read = read(html);
        assert_eq!(read.text, "🙂see");
        assert_eq!(read.pictures, ["https://y/?a=1&b=2"]);
    }

    #[test]
    fn what_is_not_text_is_left_out() {
        reads("<attachment id=\"1\"></attachment><p>agreed</p>", "agreed");
        reads("<systemEventMessage/>", "");
        reads("a<script>alert(1)</script><!-- <b>x</b> -->b", "ab");
        reads("<attachment id=\"1\">x", "");
        reads("<future what=\"1\">kept</future>", "kept");
    }

    #[test]
    fn entities_once_and_odd_ones_stay() {
        reads("&amp;lt; &#60; &#x3C; &euro;", "&lt; < < €");
        reads(
            "caf&eacute; &Uuml;&szlig;&yuml; &iexcl;&laquo;",
            "café Üßÿ ¡«",
        );
        reads("5&nbsp;&times;&nbsp;7&deg; &le; x", "5 × 7° ≤ x");
        reads(
            "&unknown; & &#xD800; &#0; &;",
            "&unknown; & &#xD800; &#0; &;",
        );
        reads("AT&T &amp", "AT&T &amp");
    }

    #[test]
    fn broken_markup_ends_somehow() {
        for odd in [
            "<",
            "a < b",
            "<p",
            "<p title=\"",
            "</",
            "<>",
            "&",
            "<!--",
            "<at",
        ] {
            read(odd);
        }
        reads("5 < 7 > 3", "5 < 7 > 3");
        reads(&format!("{}x", "<div>".repeat(100_000)), "x");
    }
}
