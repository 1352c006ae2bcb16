//! An error and its causes as one line.

/// `outer: inner: innermost`. A cause that its parent has already printed is not repeated.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.ends_with(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("read /x: {source}")]
        struct Repeats {
            source: std::io::Error,
        }
        #[derive(Debug, thiserror::Error)]
        #[error("load")]
        struct Outer(#[source] Repeats);
        let error = Outer(Repeats { source: std::io::Error::other("boom") });
        assert_eq!(chain(&error), "load: read /x: boom");
    }
}
