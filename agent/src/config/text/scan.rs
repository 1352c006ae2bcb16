//! How long a value is that a YAML text begins with. Knows quotes, brackets and comments, and no structure.

/// Bytes of the value that a text begins with: in quotes, in brackets, or plain on one line. Within braces
/// (`is_flow`) a plain value ends at a comma or bracket.
pub(super) fn length(text: &str, is_flow: bool) -> Option<usize> {
    match text.as_bytes().first()? {
        b'"' | b'\'' => quoted(text),
        b'[' | b'{' => bracketed(text),
        _ => {
            let line = text.lines().next()?;
            let comment = line.find(" #").unwrap_or(line.len());
            let inside = if is_flow { line.find([',', '}', ']']) } else { None };
            Some(line.get(..comment.min(inside.unwrap_or(line.len())))?.trim_end().len())
        }
    }
}

/// Bytes of a quoted text with its quotes.
pub(super) fn quoted(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            // Twice within single quotes is one that does not end them.
            if quote == '\'' && text.get(at + 1..).is_some_and(|rest| rest.starts_with('\'')) {
                chars.next();
            } else {
                return Some(at + 1);
            }
        }
    }
    None
}

/// Bytes up to the bracket that closes the first one.
fn bracketed(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(c) = text.get(at..)?.chars().next() {
        match c {
            '"' | '\'' => {
                at += quoted(text.get(at..)?)?;
                continue;
            }
            '#' if text.get(..at)?.ends_with([' ', '\n', '\t']) => {
                at += text.get(at..)?.find('\n')?;
                continue;
            }
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += c.len_utf8();
        if depth == 0 {
            return Some(at);
        }
    }
    None
}
