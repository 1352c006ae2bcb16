//! Free text in bounds: cut at a character, never within an escape, with a mark.

/// What stands for the rest.
const MARK: char = '…';

/// A text with every character as `escape` writes it, of at most `most` UTF-16 units: the largest count that any
/// receiver can mean by "characters".
pub(super) fn cut(text: &str, most: usize, escape: impl Fn(char, &mut String)) -> String {
    let mut out = String::new();
    let mut used = 0;
    // Up to here there is room for the mark.
    let mut safe = 0;
    for c in text.chars() {
        let before = out.len();
        escape(c, &mut out);
        used += out.get(before..).unwrap_or_default().encode_utf16().count();
        if used > most {
            out.truncate(safe);
            if most > 0 {
                out.push(MARK);
            }
            return out;
        }
        if used < most {
            safe = out.len();
        }
    }
    out
}

/// Control characters but line breaks, and those that turn the direction of text, are replaced: they could make
/// a text read as another.
pub(super) fn clean(c: char, out: &mut String) {
    let turns =
        matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    out.push(if (c.is_control() && c != '\n') || turns { '\u{fffd}' } else { c });
}

/// For Markdown: every punctuation character that could mean something is escaped.
pub(super) fn markdown(c: char, out: &mut String) {
    if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | ';' | '?' | '!' | '\'' | '"' | '%' | '/' | '=') {
        out.push('\\');
    }
    clean(c, out);
}
