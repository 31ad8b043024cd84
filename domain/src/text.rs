//! Rules about text that hold for every platform, all of them total: any input has an answer.
//!
//! The database takes neither U+0000 nor lone surrogates, and a JSON parser takes neither lone
//! surrogate escapes nor numbers beyond its range. A body must not be lost for one of them, so they
//! are replaced before anything reads it. Signatures are checked earlier, over the untouched bytes.

use std::borrow::Cow;
use std::ops::Range;

use crate::platform::TextUnit;

/// Containers nested deeper than this are replaced by null: platforms nest about a dozen deep, and
/// the JSON parser would refuse the whole body beyond 127.
const JSON_DEPTH_MAX: usize = 64;

/// The escape of U+FFFD, as long as the escape it replaces.
const REPLACEMENT: &[u8] = br"\ufffd";

/// Text the hub can store: U+0000 becomes U+FFFD, everything else stays. Borrowed when nothing had
/// to be changed.
pub fn repair(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The length of a text as a platform counts it.
pub fn length(text: &str, unit: TextUnit) -> usize {
    match unit {
        TextUnit::CodePoints => text.chars().count(),
        TextUnit::Utf16 => text.chars().map(char::len_utf16).sum(),
        TextUnit::Bytes => text.len(),
    }
}

/// The part of a text that platforms name in UTF-16 units. `None` when it reaches beyond the end or
/// would cut a surrogate pair.
pub fn utf16_slice(text: &str, offset: usize, length: usize) -> Option<&str> {
    let end = offset.checked_add(length)?;
    Some(&text[utf16_index(text, offset)?..utf16_index(text, end)?])
}

/// The byte at which this many UTF-16 units have passed.
fn utf16_index(text: &str, units: usize) -> Option<usize> {
    let mut passed = 0;
    for (index, char) in text.char_indices() {
        if passed >= units {
            return (passed == units).then_some(index);
        }
        passed += char.len_utf16();
    }
    (passed == units).then_some(text.len())
}

/// JSON that parses, as near to the original as possible. Borrowed when nothing had to be changed.
///
/// Replaced are: bytes that are no UTF-8, escapes of lone surrogates and of U+0000 (by U+FFFD),
/// numbers no 64-bit number holds (by the same digits as a string, so that an id survives), and
/// containers nested too deep (by null). What is no JSON for another reason still is none.
pub fn repair_json(raw: &[u8]) -> Cow<'_, [u8]> {
    match String::from_utf8_lossy(raw) {
        Cow::Borrowed(_) => repair_json_utf8(raw),
        Cow::Owned(text) => Cow::Owned(repair_json_utf8(text.as_bytes()).into_owned()),
    }
}

fn repair_json_utf8(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut copy = Copy {
        raw,
        out: Vec::new(),
        copied: 0,
    };
    let mut at = 0;
    let mut depth = 0_usize;
    if raw.starts_with("\u{feff}".as_bytes()) {
        at = 3;
        copy.replace(0..at, b"");
    }
    while let Some(byte) = raw.get(at) {
        match byte {
            b'"' => at = repair_string(&mut copy, at),
            b'-' | b'0'..=b'9' => at = repair_number(&mut copy, at),
            b'{' | b'[' if depth == JSON_DEPTH_MAX => {
                let end = container_end(raw, at);
                copy.replace(at..end, b"null");
                at = end;
            }
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    copy.finish()
}

/// Repairs the string that opens here and returns the place behind it.
fn repair_string(copy: &mut Copy<'_>, open: usize) -> usize {
    let raw = copy.raw;
    let mut at = open + 1;
    while let Some(byte) = raw.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => match (escaped_unit(raw, at), escaped_unit(raw, at + 6)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
                (Some(0 | 0xd800..=0xdfff), _) => {
                    copy.replace(at..at + 6, REPLACEMENT);
                    6
                }
                _ => 2,
            },
            _ => 1,
        };
    }
    raw.len()
}

/// The UTF-16 unit of the `\uXXXX` escape that starts here.
fn escaped_unit(raw: &[u8], at: usize) -> Option<u16> {
    let digits = raw.get(at..at + 6)?.strip_prefix(br"\u")?;
    let plain = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    u16::from_str_radix(digits, 16).ok()
}

/// Quotes the number that starts here when no 64-bit number holds it; returns the place behind it.
fn repair_number(copy: &mut Copy<'_>, start: usize) -> usize {
    let raw = copy.raw;
    let part_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let length = raw[start..].iter().position(|byte| !part_of_number(byte));
    let end = length.map_or(raw.len(), |length| start + length);
    let number = std::str::from_utf8(&raw[start..end]).unwrap_or_default();
    let held = if number.contains(['.', 'e', 'E']) {
        number.parse::<f64>().map_or(true, f64::is_finite)
    } else {
        number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()
    };
    if !held && number.parse::<f64>().is_ok() {
        let quoted = format!("\"{number}\"");
        copy.replace(start..end, quoted.as_bytes());
    }
    end
}

/// The place behind the container that opens here, or the end of the input.
fn container_end(raw: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut at = open;
    while let Some(byte) = raw.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    raw.len()
}

/// A copy of the input that is only made once something changes.
struct Copy<'a> {
    raw: &'a [u8],
    out: Vec<u8>,
    copied: usize,
}

impl<'a> Copy<'a> {
    fn replace(&mut self, range: Range<usize>, by: &[u8]) {
        self.out
            .extend_from_slice(&self.raw[self.copied..range.start]);
        self.out.extend_from_slice(by);
        self.copied = range.end;
    }

    fn finish(mut self) -> Cow<'a, [u8]> {
        if self.copied == 0 {
            return Cow::Borrowed(self.raw);
        }
        self.out.extend_from_slice(&self.raw[self.copied..]);
        Cow::Owned(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(raw: &[u8]) -> Value {
        serde_json::from_slice(&repair_json(raw)).unwrap()
    }

    #[test]
    fn lengths() {
        assert_eq!(length("a😀b", TextUnit::Utf16), 4);
        assert_eq!(length("a😀b", TextUnit::CodePoints), 3);
    }

    #[test]
    fn slices_never_cut_a_pair() {
        assert_eq!(utf16_slice("a😀b", 3, 1), Some("b"));
        assert_eq!(utf16_slice("a😀b", 1, 2), Some("😀"));
        assert_eq!(utf16_slice("a😀b", 4, 0), Some(""));
        assert_eq!(utf16_slice("a😀b", 2, 1), None);
        assert_eq!(utf16_slice("a😀b", 0, 2), None);
        assert_eq!(utf16_slice("a😀b", 0, 5), None);
        assert_eq!(utf16_slice("a", usize::MAX, 2), None);
    }

    #[test]
    fn lone_surrogates_and_nul_do_not_lose_the_body() {
        assert_eq!(read(br#""a\ud800b""#), json!("a\u{fffd}b"));
        assert_eq!(
            read(br#""\udc00\ud83d\ude00\ud83d""#),
            json!("\u{fffd}😀\u{fffd}")
        );
        assert_eq!(
            read(br#"{"\ud800":"x\u0000"}"#),
            json!({"\u{fffd}": "x\u{fffd}"})
        );
        assert_eq!(read(br#""\\ud800 \"""#), json!("\\ud800 \""));
        assert_eq!(read(b"\"\xff\""), json!("\u{fffd}"));
        assert_eq!(read(b"\xef\xbb\xbf1"), json!(1));
        assert_eq!(repair("a\0b"), "a\u{fffd}b");
    }

    #[test]
    fn ids_beyond_64_bits_keep_their_digits() {
        let text = br#"[122093456789012345,23626345678901234567,-9223372036854775809,1e999,1.5]"#;
        assert_eq!(
            read(text),
            json!([
                122_093_456_789_012_345_u64,
                "23626345678901234567",
                "-9223372036854775809",
                "1e999",
                1.5
            ])
        );
    }

    #[test]
    fn deep_parts_become_null_and_neighbours_stay() {
        let deep = format!(r#"[{}"]"{},7]"#, "[".repeat(5_000), "]".repeat(5_000));
        let value = read(deep.as_bytes());
        assert_eq!(value[1], json!(7));
    }

    #[test]
    fn untouched_input_is_not_copied() {
        assert!(matches!(
            repair_json(br#"{"a":"\u00e9"}"#),
            Cow::Borrowed(_)
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(raw: Vec<u8>) {
            repair_json(&raw);
        }

        #[test]
        fn any_json_like_text_has_an_answer(raw in r#"[\[\]{}"\\u0d8ce1.,:-]{0,60}"#) {
            let repaired = repair_json(raw.as_bytes()).into_owned();
            // Whatever parsed before means the same after, apart from what had to be replaced.
            if let Ok(before) = serde_json::from_str::<Value>(&raw)
                && matches!(repair_json(raw.as_bytes()), Cow::Borrowed(_))
            {
                prop_assert_eq!(before, serde_json::from_slice::<Value>(&repaired).unwrap());
            }
        }

        #[test]
        fn every_slice_is_a_slice(text: String, offset in 0_usize..20, length in 0_usize..20) {
            let units: Vec<u16> = text.encode_utf16().collect();
            if let Some(slice) = utf16_slice(&text, offset, length) {
                let expected = String::from_utf16_lossy(&units[offset..offset + length]);
                prop_assert_eq!(slice, expected);
            }
        }
    }
}
