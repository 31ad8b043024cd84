//! The forms in which earlier installations hashed a password (contract 6.7).
//!
//! The second generation took white space off both ends. The first put every input through an HTML
//! sanitiser: a text with a `<` lost its tags, and what remained was escaped. That was no good idea,
//! and it is what people's passwords were hashed from.

use std::borrow::Cow;

/// Elements whose content goes with them.
const WITH_CONTENT: [&str; 4] = ["script", "style", "textarea", "option"];

/// What was done with the password before it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Typed,
    /// White space was taken off both ends.
    Trimmed,
    /// Tags were taken out, the rest was escaped.
    Cleaned,
}

/// A form of a password.
#[derive(Debug)]
pub struct Form<'a> {
    /// What was hashed.
    pub text: Cow<'a, str>,
    /// How it came about.
    pub kind: Kind,
}

/// The forms of a password to try, in order; the typed one first. How many there are follows from
/// the password alone, so that trying them says nothing about a login.
pub fn forms(password: &str) -> Vec<Form<'_>> {
    let mut forms = vec![Form {
        text: password.into(),
        kind: Kind::Typed,
    }];
    if password.trim() != password {
        forms.push(Form {
            text: password.trim().into(),
            kind: Kind::Trimmed,
        });
    }
    if password.contains('<') {
        forms.push(Form {
            text: cleaned(password).into(),
            kind: Kind::Cleaned,
        });
    }
    forms
}

/// A text as the sanitiser left it: no tags, the rest escaped.
fn cleaned(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        escape(&rest[..at], &mut out);
        rest = &rest[at..];
        let next = rest[1..].chars().next();
        let closing = next == Some('/');
        let name_at = 1 + usize::from(closing);
        let begins_name = rest[name_at..].starts_with(|it: char| it.is_ascii_alphabetic());
        rest = if begins_name {
            let name = rest[name_at..]
                .split(|it: char| it.is_whitespace() || matches!(it, '/' | '>'))
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            let after = end_of_tag(&rest[name_at..]);
            match closing {
                false if WITH_CONTENT.contains(&name.as_str()) => after_element(after, &name),
                _ => after,
            }
        } else if let Some(comment) = rest.strip_prefix("<!--") {
            after(comment, "-->")
        } else if closing || matches!(next, Some('!' | '?')) {
            after(&rest[2..], ">")
        } else {
            out.push_str("&lt;");
            &rest[1..]
        };
    }
    escape(rest, &mut out);
    out
}

/// What follows a tag; a `>` inside quotes does not end it. Nothing, when nothing ends it.
fn end_of_tag(tag: &str) -> &str {
    let mut quote = None;
    let mut previous = ' ';
    for (at, it) in tag.char_indices() {
        match (quote, it) {
            (Some(open), it) if it == open => quote = None,
            (Some(_), _) => {}
            // Quotes count only where a value begins.
            (None, '"' | '\'') if previous == '=' => quote = Some(it),
            (None, '>') => return &tag[at + 1..],
            (None, _) => {}
        }
        if !it.is_whitespace() {
            previous = it;
        }
    }
    ""
}

/// What follows an element whose content goes with it.
fn after_element<'a>(content: &'a str, name: &str) -> &'a str {
    let lower = content.to_ascii_lowercase();
    match lower.find(&format!("</{name}")) {
        Some(at) => end_of_tag(&content[at + 2..]),
        None => "",
    }
}

fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.find(end).map_or("", |at| &text[at + end.len()..])
}

/// Escapes a text. Entities in it were read before, so that they are not escaped twice.
fn escape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(it) = rest.chars().next() {
        let entity = [
            ("&amp;", "&amp;"),
            ("&lt;", "&lt;"),
            ("&gt;", "&gt;"),
            ("&quot;", "\""),
            ("&apos;", "'"),
        ];
        let read = entity.iter().find(|(entity, _)| rest.starts_with(entity));
        if let Some((entity, written)) = read {
            out.push_str(written);
            rest = &rest[entity.len()..];
            continue;
        }
        match it {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            it => out.push(it),
        }
        rest = &rest[it.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_the_first_generation_did() {
        let cases = [
            // The examples of the contract.
            ("a<b>c</b>d", "acd"),
            ("a<b", "a"),
            ("pass&word<1>x", "pass&amp;word&lt;1&gt;x"),
            ("1 < 2 && 3 > 2", "1 &lt; 2 &amp;&amp; 3 &gt; 2"),
            ("x<script>alert(1)</script>y", "xy"),
            ("x<SCRIPT a>1<b></Script >y", "xy"),
            ("x<script>never ended", "x"),
            ("<", "&lt;"),
            ("a<", "a&lt;"),
            ("a<!-- < -->b", "ab"),
            ("a<?php x ?>b", "ab"),
            ("a</1>b", "ab"),
            ("a<i title=\"1>2\">b</i>", "ab"),
            ("a<i'>b", "ab"),
            ("<1&lt;2&quot;", "&lt;1&lt;2\""),
            ("grün<3", "grün&lt;3"),
        ];
        for (typed, hashed) in cases {
            assert_eq!(cleaned(typed), hashed, "{typed}");
        }
    }

    #[test]
    fn only_odd_passwords_have_other_forms() {
        let kinds = |text| -> Vec<Kind> { forms(text).iter().map(|it| it.kind).collect() };
        assert_eq!(kinds("a&b"), [Kind::Typed]);
        assert_eq!(kinds(" a&b"), [Kind::Typed, Kind::Trimmed]);
        assert_eq!(kinds("a<b"), [Kind::Typed, Kind::Cleaned]);
        assert_eq!(kinds("a<b\n"), [Kind::Typed, Kind::Trimmed, Kind::Cleaned]);
    }
}
