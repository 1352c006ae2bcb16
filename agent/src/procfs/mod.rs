//! Readers of /proc, rooted at a path so that tests can give them a tree of their own.
