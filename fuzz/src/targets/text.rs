//! Promises about what people are shown.

use std::fmt::Display;

/// Whatever was read, a terminal and a log are safe from it: there are no control characters but line ends.
pub(super) fn is_plain(shown: &impl Display) {
    let text = shown.to_string();
    let bad = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(bad, None, "{text:?} has a control character");
}

/// As [`is_plain`], and there is one line of it.
pub(super) fn is_one_line(shown: &impl Display) {
    is_plain(shown);
    let text = shown.to_string();
    assert!(!text.contains('\n'), "{text:?} is more than one line");
}
