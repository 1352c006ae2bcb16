//! Rust source with its comments and literals blanked, so that a word in them is not taken for code.

/// Replaces every byte of a comment, string or character literal by a space; newlines stay, so lines and
/// columns do too.
pub(crate) fn scrub(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = literal_length(bytes, at);
        if length == 0 {
            out.push(bytes[at]);
            at += 1;
        } else {
            let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
            out.extend(bytes[at..at + length].iter().map(blank));
            at += length;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Number of lines before the inline test module, or all lines. Items that are for tests but lie elsewhere, such as
/// `#[cfg(test)] mod tests;`, do not end the code.
pub(crate) fn lines_before_tests(code: &str) -> usize {
    let mut lines = code.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let next = lines.peek().map_or("", |(_, next)| next.trim());
        let module = next.starts_with("mod ") || next.starts_with("pub") && next.contains(" mod ");
        if line.trim() == TEST_ONLY && module && next.ends_with('{') {
            return index;
        }
    }
    code.lines().count()
}

/// Files of the modules that a file declares for tests only and that lie elsewhere.
pub(crate) fn test_modules(path: &str, code: &str) -> Vec<String> {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let folder = ["/mod", "/lib", "/main"].iter().find_map(|own| stem.strip_suffix(own)).unwrap_or(stem);
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter(|pair| pair[0] == TEST_ONLY);
    let names = pairs.filter_map(|pair| {
        let item = pair[1].trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        item.strip_prefix("mod ")?.strip_suffix(';')
    });
    names.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]).collect()
}

/// Marks an item that is compiled for tests only.
pub(crate) const TEST_ONLY: &str = "#[cfg(test)]";

/// Length of the comment or literal that begins at `at`; 0 when none does.
fn literal_length(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let inside_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return position(rest, b"\n").unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment(rest);
    }
    if rest[0] == b'"' {
        return quoted(rest);
    }
    if (rest[0] == b'r' || rest.starts_with(b"br")) && !inside_word {
        return raw_string(rest);
    }
    if rest[0] == b'\'' {
        return character(rest);
    }
    0
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string(rest: &[u8]) -> usize {
    let start = if rest[0] == b'b' { 2 } else { 1 };
    let hashes = rest[start..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(start + hashes) != Some(&b'"') {
        return 0;
    }
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let body = start + hashes + 1;
    position(&rest[body..], &end).map_or(rest.len(), |length| body + length + end.len())
}

/// A character literal, as opposed to a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        // The escaped character itself may be a quote.
        return position(&rest[3.min(rest.len())..], b"'").map_or(0, |length| 3 + length + 1);
    }
    let width = (2..=5).find(|end| rest.get(*end) == Some(&b'\''));
    let one_character =
        width.filter(|end| std::str::from_utf8(&rest[1..*end]).is_ok_and(|c| c.chars().count() == 1));
    one_character.map_or(0, |end| end + 1)
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_inline_test_module_ends_the_code() {
        assert_eq!(lines_before_tests("a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\nmod tests {\n}\n"), 4);
        assert_eq!(lines_before_tests("a\n#[cfg(test)]\nuse b;\nc"), 4);
        assert_eq!(lines_before_tests("a\n#[cfg(test)]\npub(in crate::b) mod c {\n}\n"), 1);
    }

    #[test]
    fn modules_declared_for_tests_are_found() {
        let code = "#[cfg(test)]\nmod golden;\nmod real;\n#[cfg(test)]\npub(super) mod other;\n";
        let found = test_modules("agent/src/engine/mod.rs", code);
        assert_eq!(found[0], "agent/src/engine/golden.rs");
        assert_eq!(found[2], "agent/src/engine/other.rs");
        assert_eq!(
            (found.len(), test_modules("agent/src/a.rs", code)[0].as_str()),
            (4, "agent/src/a/golden.rs")
        );
    }

    #[test]
    fn code_stays_and_everything_else_is_blank() {
        for (source, expected) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y") + 1"#, "f(      ) + 1"),
            (r##"f(r#"x"y"#) + br"z""##, "f(        ) +      "),
            ("let r#type = 'x';", "let r#type =    ;"),
            (r"['\'', '\n', 'ä']", "[    ,     ,     ]"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("\"unclosed", "         "),
        ] {
            assert_eq!(scrub(source), expected, "{source}");
        }
    }
}
