//! Counts of things in text for people. English only.

use std::fmt::Display;

/// A number and what it counts, such as `1 group` and `2 groups`.
#[must_use]
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let what = if count == N::from(1) { one } else { many };
    format!("{count} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        for (count, text) in
            [(0, "0 deliveries"), (1, "1 delivery"), (2, "2 deliveries"), (11, "11 deliveries")]
        {
            assert_eq!(counted(count, "delivery", "deliveries"), text);
        }
    }
}
