//! The program as scripts see it: exit codes, what is on stdout and what on stderr.

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    use tempfile::TempDir;

    /// Directories of the test's own, in which no daemon runs.
    struct Places(TempDir);

    impl Places {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn command(&self, args: &[&str]) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_process-throttler"));
            for (flag, name) in
                [("--config-dir", "c"), ("--state-dir", "s"), ("--runtime-dir", "r"), ("--log-dir", "l")]
            {
                command.arg(flag).arg(self.path().join(name));
            }
            command.args(args).stdin(Stdio::null());
            command
        }

        fn run(&self, args: &[&str]) -> Ran {
            Ran::new(self.command(args).output().unwrap())
        }
    }

    #[derive(Debug)]
    struct Ran {
        code: i32,
        out: String,
        err: String,
    }

    impl Ran {
        fn new(output: Output) -> Self {
            Self {
                code: output.status.code().unwrap(),
                out: String::from_utf8(output.stdout).unwrap(),
                err: String::from_utf8(output.stderr).unwrap(),
            }
        }
    }

    #[test]
    fn what_needs_the_daemon_says_so_exactly() {
        let places = Places::new();
        let recording = places.path().join("recording");
        let recording = recording.to_str().unwrap();
        for (args, feature) in [
            (&["explain", "1"][..], "critical-process-monitoring"),
            (&["events"], "event-stream"),
            (&["events", "--follow"], "event-stream"),
            (&["record", recording], "continuous-monitoring"),
            (&["daemon", "reload"], "continuous-monitoring"),
            (&["profile", "plan", "x"], "rule-throttling"),
            (&["profile", "activate", "x"], "rule-throttling"),
            (&["profile", "deactivate"], "rule-throttling"),
            (&["throttle", "--pid", "1", "--cpu", "10%", "--for", "10m"], "continuous-monitoring"),
            (&["dynamic", "list"], "dynamic-throttling"),
            (&["dynamic", "remove", "x"], "dynamic-throttling"),
            (&["dynamic", "apply", "x", "--policy", "gradual", "--dry-run"], "dynamic-throttling"),
            (
                &["dynamic", "apply", "--pid", "1", "--policy", "adaptive", "--hold", "cpu=40%"],
                "dynamic-throttling",
            ),
        ] {
            let ran = places.run(args);
            let expected = format!(
                "Error: This feature ({feature}) requires the process-throttler daemon to be running.\n\
                 Start it with: process-throttler daemon start\n\
                 Or enable it as a service: systemctl enable --now process-throttler\n"
            );
            assert_eq!((ran.code, ran.err, ran.out), (3, expected, String::new()), "{args:?}");
        }
        assert!(!Path::new(recording).exists(), "a recording that never began leaves no file");
    }

    #[test]
    fn every_form_of_every_read_command() {
        let places = Places::new();
        for args in [
            &["list", "--limit", "2"][..],
            &["discover", ".", "--match", "name"],
            &["dynamic", "policies"],
            &["status"],
            &["profile", "list"],
            &["version"],
            &["validate", "config"],
            &["webhook", "list"],
        ] {
            let form = |form: &str| {
                let ran = places.run(&[args, &["-o", form]].concat());
                assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?} -o {form}");
                ran.out
            };
            let json: serde_json::Value = serde_json::from_str(&form("json")).unwrap();
            assert_eq!(json["apiVersion"], "v1", "{args:?}");
            assert!(json["kind"].is_string() && !json["data"].is_null(), "{args:?}");
            let yaml: serde_json::Value = serde_yaml::from_str(&form("yaml")).unwrap();
            assert_eq!(
                (&yaml["apiVersion"], &yaml["kind"]),
                (&json["apiVersion"], &json["kind"]),
                "{args:?}"
            );
            for line in form("jsonl").lines() {
                assert!(serde_json::from_str::<serde_json::Value>(line).unwrap().is_object(), "{args:?}");
            }
            assert!(!form("table").contains('\u{1b}') && !form("wide").contains('\u{1b}'), "{args:?}");
        }
        let headed = places.run(&["list", "--sort", "pid", "--limit", "1"]).out;
        let bare = places.run(&["list", "--sort", "pid", "--limit", "1", "--no-headers"]).out;
        assert!(headed.starts_with("PID") && headed.lines().count() == 2, "{headed}");
        assert!(bare.starts_with('1') && bare.lines().count() == 1, "{bare}");
    }

    #[test]
    fn finds_processes_but_never_itself() {
        let places = Places::new();
        // The command line of the search holds the pattern.
        let ran = places.run(&["discover", "pt-test-there-is-no-such-thing", "--match", "cmdline"]);
        assert_eq!((ran.code, ran.out.as_str()), (4, ""), "{ran:?}");
        assert_eq!(
            ran.err,
            "Error: no process matches \"pt-test-there-is-no-such-thing\"\nhint: process-throttler list shows what there is\n"
        );

        let mut sleeper = Command::new("sleep").arg("98.7654321").spawn().unwrap();
        let ran = places.run(&["discover", r"98\.7654321$", "--match", "cmdline", "-o", "jsonl"]);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        let found: Vec<serde_json::Value> =
            ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found.len(), 1, "{ran:?}");
        assert_eq!(found[0]["pid"], sleeper.id());
        assert_eq!(found[0]["cmdline"], "sleep 98.7654321");
    }

    #[test]
    fn limits_nothing_that_cannot_be_meant() {
        let places = Places::new();
        for (args, code, message) in [
            (&["throttle", "--pid", "4000000000", "--cpu", "10%"][..], 4, "no process has pid 4000000000"),
            (
                &["throttle", "--pattern", "pt-test-nothing", "--match", "name", "--cpu", "10%"],
                4,
                "no process matches",
            ),
            (&["throttle", "--pattern", "(", "--match", "name", "--cpu", "10%"], 2, "unclosed group"),
            (&["throttle", "--pattern", "", "--match", "name", "--cpu", "10%"], 2, "pattern is empty"),
            (&["throttle", "--pid", "1"], 2, "required arguments"),
            (&["release", "--all"], 2, "hint: say --yes"),
            (&["release", "--pid", "4000000000"], 4, "no process has pid 4000000000"),
            (&["--socket", "/x", "--socket", "/y", "list"], 2, "cannot be used multiple times"),
        ] {
            let ran = places.run(args);
            assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{args:?}: {ran:?}");
            assert!(ran.err.contains(message), "{args:?}: {ran:?}");
        }
        assert_eq!(std::fs::read_dir(places.path()).unwrap().count(), 0, "nothing was written");
        let mut relative = Command::new(env!("CARGO_BIN_EXE_process-throttler"));
        let ran = Ran::new(relative.args(["--state-dir", "s", "list"]).output().unwrap());
        assert!(ran.code == 2 && ran.err.contains("not an absolute path"), "{ran:?}");
    }

    #[test]
    fn a_daemon_that_does_not_run() {
        let places = Places::new();
        let ran = places.run(&["daemon", "status", "--json"]);
        assert_eq!((ran.code, ran.err.as_str()), (3, ""));
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(json["data"]["state"], "stopped");
        let ran = places.run(&["daemon", "stop"]);
        assert_eq!((ran.code, ran.out.as_str()), (0, "the daemon does not run\n"), "{ran:?}");
    }

    #[test]
    fn enough_of_the_output_is_no_error() {
        let places = Places::new();
        let mut child = places
            .command(&["completions", "bash"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        drop(out);
        let ran = Ran::new(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    }

    #[test]
    fn completions_of_every_shell() {
        let places = Places::new();
        for (shell, mark) in [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --")] {
            let ran = places.run(&["completions", shell]);
            assert!(ran.code == 0 && ran.out.contains(mark), "{shell}");
        }
        assert_eq!(places.run(&["completions", "tcsh"]).code, 2);
    }

    #[test]
    fn profiles_are_imported_shown_and_exported_without_a_daemon() {
        let places = Places::new();
        let file = places.path().join("web.yaml");
        let profile = "# kept\nname: web\nversion: \"1.0\"\nthrottling_rules:\n  - name: backups\n    match: { comm: rsync }\n    limits: { cpu: 30% }\n";
        std::fs::write(&file, profile).unwrap();
        let file = file.to_str().unwrap();

        let ran = places.run(&["profile", "import", file, "--dry-run"]);
        assert!(ran.code == 0 && ran.out.contains("would be imported"), "{ran:?}");
        assert!(!places.path().join("c").exists(), "a dry run writes nothing");
        assert_eq!(places.run(&["profile", "import", file]).code, 0);
        assert_eq!(places.run(&["profile", "import", file]).code, 7);
        assert_eq!(places.run(&["profile", "import", file, "--replace"]).code, 0);
        assert_eq!(places.run(&["profile", "export", "web"]).out, profile);
        assert!(places.run(&["profile", "show", "web"]).out.contains("rsync"));
        assert_eq!(places.run(&["profile", "show", "wep"]).code, 4);
        assert!(places.run(&["profile", "list"]).out.contains("web"));
        assert_eq!(places.run(&["profile", "validate", "web"]).code, 0);

        std::fs::write(file, profile.replace("30%", "0%").replace("version", "verzion")).unwrap();
        let ran = places.run(&["profile", "validate", file]);
        assert_eq!((ran.code, ran.err.as_str()), (6, ""));
        assert!(
            ran.out.contains("web.yaml:3:1") && ran.out.contains("web.yaml:7:"),
            "all errors at once: {ran:?}"
        );
        let ran = places.run(&["profile", "import", file, "--replace"]);
        assert!(ran.code == 6 && ran.err.contains("web.yaml:3:1"), "{ran:?}");
    }
}
