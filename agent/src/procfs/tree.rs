//! A `/proc` of a test's own.

use std::path::Path;

use tempfile::TempDir;

use crate::procfs::Proc;

/// A directory shaped like `/proc`, removed on drop.
pub(crate) struct Tree {
    dir: TempDir,
}

/// One process of a [`Tree`].
pub(crate) struct Task<'a> {
    pub(crate) pid: u32,
    pub(crate) comm: &'a [u8],
    pub(crate) state: char,
    pub(crate) threads: u32,
    pub(crate) start: u64,
    pub(crate) stack: u64,
}

impl Task<'_> {
    pub(crate) fn new(pid: u32, start: u64) -> Self {
        Self { pid, comm: b"task", state: 'S', threads: 1, start, stack: 222 }
    }
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn proc(&self) -> Proc {
        Proc::open(self.path()).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &[u8]) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn put(&self, task: &Task<'_>) {
        let Task { pid, comm, state, threads, start, stack } = task;
        let head = format!("{pid} (");
        let tail = format!(
            ") {state} 1 {pid} {pid} 0 -1 4194560 0 0 0 0 30 20 0 0 20 0 {threads} 0 {start} 4096 10 99 111 \
             112 {stack} 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 2 3 4 5 6 7 0\n"
        );
        self.write(&format!("{pid}/stat"), &[head.as_bytes(), comm, tail.as_bytes()].concat());
        let status = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\n";
        self.write(&format!("{pid}/status"), status.as_bytes());
        self.write(&format!("{pid}/cgroup"), b"1:cpu:/group\n0::/\n");
        self.write(&format!("{pid}/cmdline"), b"task\0--flag\0");
    }

    pub(crate) fn remove(&self, pid: u32) {
        std::fs::remove_dir_all(self.path().join(pid.to_string())).unwrap();
    }
}
