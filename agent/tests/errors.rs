//! What commands say when they cannot do what they are told, as people see it, without a daemon.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    const PROFILE: &str = "\
name: web
version: \"1.0\"
throttling_rules:
  - name: backups
    match: { comm: rsync }
    limits: { cpu: 30% }
";

    /// Command lines that fail, in an installation with the profile `web`, the endpoint `ops`, the backup `nightly` and
    /// the files `bad.yaml` and `garbage`.
    const LINES: [&str; 62] = [
        "",
        "thorttle",
        "status --grop x",
        "status -o xml",
        "status --group x",
        "status --interval 1s",
        "top",
        "list --limit 0",
        "discover pt-test-nothing",
        "discover (",
        "throttle --pid 1",
        "throttle --pid 4000000000 --cpu 10%",
        "throttle --pid 1 --cpu 10",
        "throttle --pid 1 --cpu 10% --group ../x",
        "throttle --pattern pt-test-nothing --match name --cpu 10%",
        "throttle --pid 1 --cpu 10%",
        "throttle --pid 1 --cpu 10% --for 10m",
        "release",
        "release --all",
        "release --group x --yes",
        "release --pid 4000000000 --yes",
        "run -- pt-test-no-such-program",
        "run --cpu 10% -- pt-test-no-such-program",
        "explain 1",
        "explain x",
        "events --since yesterday",
        "events",
        "critical show nginx",
        "dynamic apply backups --policy no-such",
        "dynamic apply backups --policy gradual",
        "emergency resume now",
        "profile show wep",
        "profile show ../x",
        "profile create web",
        "profile clone web web",
        "profile import DIR/bad.yaml",
        "profile import DIR/none.yaml",
        "profile delete wep --yes",
        "profile delete web",
        "profile edit web --set throttling_rules.backups.limits.cpu=0%",
        "profile edit web --set nonsense",
        "profile rollback web",
        "profile rollback --to 99",
        "profile history --content 99",
        "profile activate web",
        "profile validate none",
        "validate profile DIR/bad.yaml",
        "webhook show opps",
        "webhook add ops https://example.com/",
        "webhook add other http://example.com/",
        "webhook edit ops --unset url",
        "webhook remove ops",
        "webhook test none",
        "webhook deliveries 42",
        "webhook replay",
        "backup show none",
        "backup verify DIR/garbage",
        "backup create nightly",
        "backup restore nightly",
        "replay DIR/none",
        "replay DIR/garbage",
        "man no-such-command",
    ];

    fn run(line: &str, dir: &Path) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_process-throttler"));
        for (variable, name) in [("CONFIG", "config"), ("STATE", "state"), ("RUNTIME", "run"), ("LOG", "log")]
        {
            command.env(format!("PROCESS_THROTTLER_{variable}_DIR"), dir.join(name));
        }
        let place = dir.to_str().unwrap();
        command.args(line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace("DIR", place)));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code().unwrap(), said.replace(place, "DIR"))
    }

    /// Set `UPDATE_REFERENCE` to write the file anew.
    #[test]
    fn reference_is_current() {
        let places = TempDir::new().unwrap();
        let dir = places.path();
        std::fs::write(dir.join("web.yaml"), PROFILE).unwrap();
        let bad = PROFILE
            .replace("30%", "0%")
            .replace("comm:", "colour:")
            .replace("name: web", "name: web\nnmae: x");
        std::fs::write(dir.join("bad.yaml"), bad).unwrap();
        std::fs::write(dir.join("garbage"), "garbage\n").unwrap();
        for line in [
            "profile import DIR/web.yaml",
            "webhook add ops https://example.com/hook",
            "backup create nightly --plain",
        ] {
            let (code, said) = run(line, dir);
            assert_eq!(code, 0, "{line}: {said}");
        }
        let mut now = String::new();
        for line in LINES {
            let (code, said) = run(line, dir);
            assert_ne!(code, 0, "{line}: {said}");
            now.push_str(&format!("$ process-throttler {line}\n{}\n(exit code {code})\n\n", said.trim_end()));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/snapshots/errors.txt");
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written == now,
            "{}: run this test with UPDATE_REFERENCE=1 if this is meant:\n{now}",
            path.display()
        );
    }
}
