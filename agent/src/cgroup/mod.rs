//! cgroup drivers for v1 and v2, rooted at a path.
