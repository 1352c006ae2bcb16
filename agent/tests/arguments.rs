//! Every command with arguments that are missing, too many, empty, huge or hostile. Most of it is the parser's business
//! and is asked in this process; what the parser lets through is run.

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use clap::ArgAction;
    use process_throttler::cli::{command, refusal};
    use tempfile::TempDir;

    /// What shells end with when a program cannot be started, and `run` does.
    const UNSTARTED: [i32; 2] = [126, 127];
    /// Options of every command.
    const GLOBAL: [&str; 6] = ["config-dir", "state-dir", "runtime-dir", "log-dir", "socket", "output"];
    /// The longest message that anybody reads.
    const MESSAGE_MAX: usize = 20_000;

    /// A command that does something itself.
    struct Leaf {
        path: Vec<String>,
        command: clap::Command,
    }

    fn leaves() -> Vec<Leaf> {
        fn collect(command: &clap::Command, path: &[String], leaves: &mut Vec<Leaf>) {
            for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
                let path = [path, &[child.get_name().to_owned()]].concat();
                if child.has_subcommands() {
                    collect(child, &path, leaves);
                } else {
                    leaves.push(Leaf { path, command: child.clone() });
                }
            }
        }
        let mut root = command();
        root.build();
        let mut leaves = Vec::new();
        collect(&root, &[], &mut leaves);
        leaves
    }

    /// Values that nobody means well, or that mean nothing.
    fn hostile() -> Vec<OsString> {
        let mut values: Vec<OsString> = [
            "",
            " ",
            "\u{1b}[31mred\u{7}\r",
            "\u{9b}31m\u{85}",
            "a\nb\tc",
            "../../etc/passwd",
            "/dev/null/x",
            "-x",
            "--",
            "%s%n$(id)`id`",
            "99999999999999999999",
            "-1",
            "\u{202e}\u{feff}é",
        ]
        .map(OsString::from)
        .into();
        values.push(OsString::from_vec(b"\xff\xfe\x80\x01".to_vec()));
        // MAX_ARG_STRLEN of linux/binfmts.h, less a NUL and the name of an option.
        values.push("x".repeat(128 * 1024 - 64).into());
        values
    }

    impl Leaf {
        fn name(&self) -> String {
            self.path.join(" ")
        }

        /// Options that the command cannot do without, with values that can be meant.
        fn options(&self) -> &'static [&'static str] {
            match self.name().as_str() {
                "throttle" => &["--pid=4000000000", "--cpu=10%"],
                "run" => &["--cpu=10%"],
                "dynamic apply" => &["--policy=gradual"],
                "release" => &["--group=g"],
                _ => &[],
            }
        }

        /// As many positional values as it needs.
        fn positionals(&self) -> Vec<OsString> {
            let values: &[&str] = match self.name().as_str() {
                "explain" => &["4000000000"],
                "completions" => &["bash"],
                "webhook add" => &["n", "https://h/"],
                "run" => &["true"],
                "dynamic apply" => &["n"],
                _ => {
                    let needed = self.command.get_positionals().filter(|arg| arg.is_required_set()).count();
                    &["n", "n"][..needed]
                }
            };
            values.iter().map(OsString::from).collect()
        }

        /// A command line. Nothing is ever changed by it.
        fn line(&self, options: &[OsString], positionals: &[OsString]) -> Vec<OsString> {
            let mut line: Vec<OsString> =
                ["process-throttler", "--dry-run", "--yes"].map(OsString::from).into();
            line.extend(self.path.iter().map(OsString::from));
            line.extend_from_slice(options);
            line.extend_from_slice(positionals);
            line
        }

        fn base(&self) -> Vec<OsString> {
            self.line(&self.given(None), &self.positionals())
        }

        /// Its options without the one that is given otherwise.
        fn given(&self, but: Option<&str>) -> Vec<OsString> {
            let name = |option: &str| option.trim_start_matches('-').split('=').next().map(str::to_owned);
            let kept = self.options().iter().filter(|option| name(option).as_deref() != but);
            kept.map(OsString::from).collect()
        }

        /// Command lines with one thing wrong each.
        fn lines(&self) -> Vec<Vec<OsString>> {
            let (given, values) = (self.given(None), self.positionals());
            let mut lines = vec![self.line(&[], &[])];
            for extra in ["surplus", "--no-such-option", "-Z", "\u{1b}]0;x\u{7}", "--no\u{1b}[0m"] {
                lines.push(self.line(&given, &[&values[..], &[extra.into()]].concat()));
            }
            let many: Vec<OsString> = (0..5_000).map(|_| OsString::from("n")).collect();
            lines.push(self.line(&given, &many));
            let positionals = self.command.get_positionals().count();
            for value in hostile() {
                for index in 0..positionals {
                    let mut changed = values.clone();
                    changed.resize(changed.len().max(index + 1), "n".into());
                    changed[index] = value.clone();
                    lines.push(self.line(&given, &changed));
                }
                for option in self.command.get_opts() {
                    if !matches!(option.get_action(), ArgAction::Set | ArgAction::Append) {
                        continue;
                    }
                    let name = option.get_long().unwrap();
                    if GLOBAL.contains(&name) {
                        continue;
                    }
                    let mut word = OsString::from(format!("--{name}="));
                    word.push(&value);
                    lines.push(self.line(&[&self.given(Some(name))[..], &[word]].concat(), &values));
                }
            }
            lines
        }
    }

    /// The same for the options of every command.
    fn global_lines() -> Vec<Vec<OsString>> {
        let with = |option: &str, value: &OsString| {
            let mut word = OsString::from(format!("--{option}="));
            word.push(value);
            ["process-throttler".into(), "--dry-run".into(), word, "status".into()].to_vec()
        };
        GLOBAL
            .iter()
            .flat_map(|option| hostile().iter().map(|value| with(option, value)).collect::<Vec<_>>())
            .collect()
    }

    fn runs_another(line: &[OsString]) -> bool {
        line.iter().any(|word| word == "run") && !line.iter().any(|word| word == "daemon")
    }

    /// What is wrong with a message; nothing when it is good.
    fn objection(text: &str) -> Option<String> {
        if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\n') {
            return Some(format!("it has {c:?}"));
        }
        if let Some(c) = text.chars().find(|c| ['\u{202e}', '\u{feff}'].contains(c)) {
            return Some(format!("it has {c:?}, which reorders or hides what is read"));
        }
        if text.len() > MESSAGE_MAX {
            return Some(format!("it has {} bytes", text.len()));
        }
        text.contains("panicked").then(|| "it panicked".to_owned())
    }

    fn has_hint(text: &str) -> bool {
        ["hint:", "tip:", "--help", "requires the process-throttler daemon"]
            .iter()
            .any(|mark| text.contains(mark))
    }

    /// A command line for messages.
    fn shown(line: &[OsString]) -> String {
        let short = |word: &OsString| word.to_string_lossy().chars().take(60).collect::<String>();
        format!("{:?}", line.iter().take(12).map(short).collect::<Vec<_>>())
    }

    /// Lines that the parser takes, those that it must refuse being checked.
    fn accepted() -> Vec<Vec<OsString>> {
        let mut accepted = Vec::new();
        let mut wrong = Vec::new();
        for leaf in leaves() {
            if let Some(error) = refusal(&leaf.base()) {
                wrong.push(format!("{}: {error}", shown(&leaf.base())));
            }
            let needs = !leaf.options().is_empty() || !leaf.positionals().is_empty();
            let bare = leaf.line(&[], &[]);
            if needs && refusal(&bare).is_none() {
                wrong.push(format!("{}: not refused", shown(&bare)));
            }
        }
        for line in leaves().iter().flat_map(Leaf::lines).chain(global_lines()) {
            let Some(error) = refusal(&line) else {
                accepted.push(line);
                continue;
            };
            let text = error.to_string();
            if !error.use_stderr() {
                wrong.push(format!("{}: taken for a request for help", shown(&line)));
            } else if let Some(what) = objection(&text) {
                wrong.push(format!("{}: {what}", shown(&line)));
            } else if !has_hint(&text) {
                wrong.push(format!("{}: no hint: {text}", shown(&line)));
            }
        }
        assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
        accepted
    }

    /// Runs a line in directories of its own and says what is wrong with how it ended.
    fn run(line: &[OsString], places: &Path) -> Option<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_process-throttler"));
        for (variable, dir) in [("CONFIG", "c"), ("STATE", "s"), ("RUNTIME", "r"), ("LOG", "l")] {
            command.env(format!("PROCESS_THROTTLER_{variable}_DIR"), places.join(dir));
        }
        // Nothing waits for a person.
        command.env("EDITOR", "true").env_remove("VISUAL").stdin(Stdio::null());
        let output = match command.args(&line[1..]).output() {
            Ok(output) => output,
            Err(error) => return Some(format!("{}: {error}", shown(line))),
        };
        let told = |what: &str| {
            Some(format!("{}: {what}\n{}", shown(line), String::from_utf8_lossy(&output.stderr)))
        };
        let documented =
            |code: &i32| (0..=8).contains(code) || (UNSTARTED.contains(code) && runs_another(line));
        let Some(code) = output.status.code().filter(documented) else {
            return told(&output.status.to_string());
        };
        let (Ok(out), Ok(err)) = (std::str::from_utf8(&output.stdout), std::str::from_utf8(&output.stderr))
        else {
            return told("it printed what is no UTF-8");
        };
        if let Some(what) = objection(err) {
            return told(&what);
        }
        if let Some(c) = out.chars().find(|c| c.is_control() && *c != '\n') {
            return told(&format!("{c:?} on stdout"));
        }
        if code == 0 || !out.is_empty() {
            return None;
        }
        if err.is_empty() {
            return told(&format!("nothing said, code {code}"));
        }
        (matches!(code, 2..=4) && !has_hint(err)).then(|| told("no hint")).flatten()
    }

    #[test]
    fn every_command_survives_every_argument() {
        let lines = accepted();
        assert!(lines.len() > 100, "{} lines are let through", lines.len());
        let next = AtomicUsize::new(0);
        let worker = || {
            let places = TempDir::new().unwrap();
            let mut wrong = Vec::new();
            while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
                wrong.extend(run(line, places.path()));
            }
            let left: Vec<_> = std::fs::read_dir(places.path()).unwrap().collect();
            assert!(left.is_empty(), "a dry run wrote {left:?}");
            wrong
        };
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        assert!(wrong.is_empty(), "{} of {} lines:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
    }
}
