//! Every input kept in `fuzz/corpus`, and parts of each, through the function that is fuzzed with it: what was found
//! once is not broken again, and what fuzzing cannot build on this compiler is noticed.

#[cfg(test)]
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::targets::TARGETS;

    /// Most bytes of all inputs together: they are part of every checkout.
    const TOTAL_MAX: u64 = 300_000;
    /// Inputs up to this many bytes are also tried cut off at every place.
    const SHORT: usize = 64;

    macro_rules! targets {
        ($($name:ident)+) => {
            $(#[test] fn $name() { every_kept_input(stringify!($name)); })+

            const TESTED: &[&str] = &[$(stringify!($name)),+];
        };
    }
    targets! {
        record btf proc cgroup settings webhooks profile predecessor revise calendar
        recording reply audit backup address answer control metrics
    }

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
    }

    fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = corpus().join(name);
        let paths = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let mut inputs: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        inputs.sort();
        inputs
    }

    /// Says which input it was, when a target panics.
    struct Named<'a>(&'a Path, usize);

    impl Drop for Named<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the first {} bytes of {}", self.1, self.0.display());
            }
        }
    }

    fn every_kept_input(name: &str) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let mut run = (target.begin)();
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has inputs");
        for (path, input) in &inputs {
            let ends = if input.len() <= SHORT { (0..=input.len()).collect() } else { halves(input.len()) };
            for end in ends {
                let _named = Named(path, end);
                run(&input[..end]);
            }
        }
    }

    /// The whole, and what is left when it is halved again and again.
    fn halves(length: usize) -> Vec<usize> {
        std::iter::successors(Some(length), |end| Some(end / 2).filter(|end| *end > 0)).collect()
    }

    #[test]
    fn every_target_is_tested_and_has_its_inputs() {
        let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(names, TESTED.iter().copied().collect());
        let dirs = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name());
        let dirs: BTreeSet<String> = dirs.map(|name| name.into_string().unwrap()).collect();
        assert_eq!(names, dirs.iter().map(String::as_str).collect());
    }

    #[test]
    fn the_inputs_are_few() {
        let bytes = |name: &str| inputs(name).iter().map(|(_, input)| input.len() as u64).sum::<u64>();
        let total: u64 = TARGETS.iter().map(|target| bytes(target.name)).sum();
        assert!(total <= TOTAL_MAX, "{total} bytes");
    }
}
