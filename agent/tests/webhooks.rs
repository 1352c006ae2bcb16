//! Webhook endpoints as whoever keeps them sees it: what one command writes, the next one knows.

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};

    use tempfile::TempDir;

    /// Directories of the test's own, in which no daemon runs.
    struct Places(TempDir);

    impl Places {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("c/webhooks.yaml")
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.file()).unwrap()
        }

        fn command(&self, args: &[&str]) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_process-throttler"));
            for (flag, name) in
                [("--config-dir", "c"), ("--state-dir", "s"), ("--runtime-dir", "r"), ("--log-dir", "l")]
            {
                command.arg(flag).arg(self.0.path().join(name));
            }
            command.args(args).stdin(Stdio::null());
            command
        }

        fn run(&self, args: &[&str]) -> (i32, String, String) {
            parts(&self.command(args).output().unwrap())
        }

        /// What a command that succeeds prints.
        fn done(&self, args: &[&str]) -> String {
            let (code, out, err) = self.run(args);
            assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
            out
        }
    }

    fn parts(output: &Output) -> (i32, String, String) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    const URL: &str = "https://example.com/hook";

    #[test]
    fn what_is_added_is_there_for_the_next_command() {
        let places = Places::new();
        places.done(&["webhook", "add", "test", URL, "--events", "critical_process_down"]);
        let list = places.done(&["webhook", "list"]);
        assert!(
            list.contains("test") && list.contains("critical_process_down") && list.contains(URL),
            "{list}"
        );
        let config = places.done(&["validate", "config"]);
        assert!(config.ends_with("is valid: 0 errors, 0 warnings\n"), "{config}");
    }

    #[test]
    fn an_ordinary_user_has_endpoints_of_their_own() {
        let home = tempfile::tempdir().unwrap();
        let agent = home.path().join("process-throttler");
        // By another process: whatever a parallel test starts would inherit a file open for writing, and the
        // program would be busy.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_process-throttler")).arg(&agent).status();
        assert!(copied.unwrap().success());
        let nobody = 65_534;
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(home.path(), Some(nobody), Some(nobody)).unwrap();
        }
        let run = |line: &str| {
            let mut command = Command::new(&agent);
            command.args(line.split(' ')).env_clear().env("HOME", home.path()).current_dir("/");
            if is_root {
                command.uid(nobody).gid(nobody);
            }
            parts(&command.stdin(Stdio::null()).output().unwrap())
        };
        let (code, _, err) = run("webhook add test https://example.com/hook --events critical_process_down");
        assert_eq!((code, err.as_str()), (0, ""));
        let (code, list, err) = run("webhook list");
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(list.contains(URL), "{list}");
        assert!(home.path().join(".config/process-throttler/webhooks.yaml").exists());
    }

    #[test]
    fn concurrent_commands_lose_nothing() {
        let places = Places::new();
        let names: Vec<_> = (0..20).map(|number| format!("hook-{number}")).collect();
        let mut running: Vec<_> = names
            .iter()
            .map(|name| {
                places.command(&["webhook", "add", name, URL, "-q"]).stdout(Stdio::null()).spawn().unwrap()
            })
            .collect();
        for child in &mut running {
            assert!(child.wait().unwrap().success());
        }
        let listed: serde_json::Value =
            serde_json::from_str(&places.done(&["webhook", "list", "--json"])).unwrap();
        let mut there: Vec<_> =
            listed["data"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        there.sort_unstable();
        let mut expected: Vec<_> = names.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(there, expected);
        let left: Vec<_> = std::fs::read_dir(places.0.path().join("c")).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
    }

    #[test]
    fn a_malformed_file_is_told_and_kept() {
        let places = Places::new();
        std::fs::create_dir(places.0.path().join("c")).unwrap();
        let malformed = "# mine\nwebhooks:\n  - name: a\n    url: [https://h/\n";
        std::fs::write(places.file(), malformed).unwrap();
        for line in [
            "webhook list",
            "webhook show a",
            "webhook add b https://h/",
            "webhook edit a --rate 3",
            "webhook enable a",
            "webhook disable a",
            "webhook remove a --yes",
        ] {
            let args: Vec<_> = line.split(' ').collect();
            let (code, out, err) = places.run(&args);
            assert_eq!((code, out.as_str()), (6, ""), "{line}: {err}");
            assert!(err.contains("webhooks.yaml:") && err.contains("error"), "{line}: {err}");
            assert_eq!(places.text(), malformed, "{line}");
        }
        let (code, out, _) = places.run(&["validate", "config"]);
        assert!(code == 6 && out.contains("webhooks.yaml:"), "{out}");
    }

    #[test]
    fn no_secret_is_printed_and_a_generated_one_is_its_owners_alone() {
        let places = Places::new();
        let token = "T0KEN";
        let url = format!("https://hooks.slack.com/services/{token}");
        let mut printed = String::new();
        for line in [
            format!("webhook add chat {url} --format slack --generate-secret"),
            "webhook edit chat --rotate-secret -o json".to_owned(),
            "webhook list -o wide".to_owned(),
            "webhook list -o yaml".to_owned(),
            "webhook show chat".to_owned(),
            "webhook show chat -o json".to_owned(),
            format!("webhook add query https://h.example.org/x?key={token} --credential k"),
            "webhook show query -o jsonl".to_owned(),
            "webhook remove chat --yes -o json".to_owned(),
        ] {
            printed.push_str(&places.done(&line.split(' ').collect::<Vec<_>>()));
        }
        let secrets = places.0.path().join("c/secrets");
        for name in ["chat.key", "chat-2.key"] {
            let path = secrets.join(name);
            let key = std::fs::read_to_string(&path).unwrap();
            assert!(key.starts_with("whsec_") && key.len() == 51, "{key}");
            assert!(printed.contains(name) && !printed.contains(key.trim()), "{printed}");
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!((mode(&secrets), mode(&places.file())), (0o700, 0o600));
        assert!(!printed.contains(token) && printed.contains("https://hooks.slack.com/…"), "{printed}");
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn keys_are_rotated_in_two_steps() {
        let places = Places::new();
        let shown = || {
            let json: serde_json::Value =
                serde_json::from_str(&places.done(&["webhook", "show", "a", "--json"])).unwrap();
            let secrets = json["data"]["secrets"].as_array().unwrap().clone();
            secrets
                .iter()
                .map(|path| path.as_str().unwrap().rsplit('/').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        places.done(&["webhook", "add", "a", URL, "--generate-secret"]);
        let new = places.0.path().join("new.key");
        std::fs::write(&new, "whsec_x").unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644)).unwrap();
        let path = new.to_str().unwrap();
        let (code, _, err) = places.run(&["webhook", "edit", "a", "--rotate-secret-file", path]);
        assert!(code == 2 && err.contains("chmod 0600"), "{err}");
        assert_eq!(shown(), ["a.key"]);
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        places.done(&["webhook", "edit", "a", "--rotate-secret-file", path]);
        assert_eq!(shown(), ["new.key", "a.key"]);
        places.done(&["webhook", "edit", "a", "--unset", "previous-secret"]);
        assert_eq!(shown(), ["new.key"]);
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let places = Places::new();
        places.done(&["webhook", "add", "a", URL, "--generate-secret", "--dry-run"]);
        assert!(!places.0.path().join("c").exists(), "nothing was written");
        places.done(&["webhook", "add", "a", URL]);
        let before = places.text();
        for line in ["edit a --rate 3 --rotate-secret", "disable a", "remove a"] {
            let args: Vec<_> =
                std::iter::once("webhook").chain(line.split(' ')).chain(["--dry-run"]).collect();
            assert!(places.done(&args).contains("would be"), "{line}");
        }
        assert_eq!(places.text(), before);
        assert!(!places.0.path().join("c/secrets").exists());
    }

    #[test]
    fn refusals_have_the_codes_of_the_contract() {
        let places = Places::new();
        places.done(&["webhook", "add", "a", URL]);
        let before = places.text();
        std::fs::write(
            places.0.path().join("c/config.yaml"),
            "webhook: {url: \"https://h/\", secret_file: k}\n",
        )
        .unwrap();
        for (line, expected, message) in [
            ("add a https://h/", 7, "exists already"),
            ("add default https://h/", 7, "is the one of webhook:"),
            ("add b nonsense", 2, "not a URL"),
            ("add b http://h/", 2, "use https, or set allow_http"),
            ("add b http://localhost/", 2, "use https"),
            ("add b https://u:p@h/", 2, "credentials"),
            ("add b https://h/ --events nothing", 2, "is not one of"),
            ("add b https://h/ --timeout 2m", 2, "not between 100ms and 60s"),
            ("add b https://h/ --secret-file /pt-test-gone", 2, "cannot open"),
            ("edit a", 2, "nothing to change"),
            ("edit b --rate 1", 4, "no webhook b"),
            ("show ab", 4, "did you mean a?"),
            ("enable b", 4, "no webhook b"),
            ("remove a", 2, "say --yes"),
        ] {
            let args: Vec<_> = std::iter::once("webhook").chain(line.split(' ')).collect();
            let (code, out, err) = places.run(&args);
            assert_eq!((code, out.as_str()), (expected, ""), "{line}: {err}");
            assert!(err.contains(message) && !err.contains("u:p"), "{line}: {err}");
        }
        assert_eq!(places.text(), before);
        let list = places.done(&["webhook", "list"]);
        assert!(list.contains("default") && list.lines().count() == 3, "{list}");
    }
}
