//! Profiles are made, changed, compared, undone and brought into force by commands, and nothing is lost on the way.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::{Output, agent_command, run, run_command};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::Value;

const INVALID: i32 = 6;
const CONFLICT: i32 = 7;

const WEB: &str = "# the web server's neighbours
name: web
throttling_rules:
  # nightly
  - name: backups
    match: { comm: pt-rsync }
    limits: { cpu: 30%, nice: 10 }   # soft
";

fn text(places: &Places, name: &str) -> Result<String> {
    let path = places.profiles().join(format!("{name}.yaml"));
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn data(places: &Places, arguments: &[&str]) -> Result<Value> {
    let reply = run(places, &[arguments, &["-o", "json"]].concat())?.expect(0)?.json()?;
    ensure!(reply["apiVersion"] == "v1", "no versioned reply: {reply}");
    Ok(reply["data"].clone())
}

/// Runs a command with a text on its stdin.
fn run_with_stdin(places: &Places, arguments: &[&str], stdin: &str) -> Result<Output> {
    let mut file = tempfile::tempfile().context("make a file")?;
    file.write_all(stdin.as_bytes()).context("write it")?;
    std::io::Seek::rewind(&mut file).context("rewind it")?;
    let mut command = agent_command(places);
    command.args(arguments).stdin(Stdio::from(file));
    run_command(command)
}

fn edit_with(places: &Places, editor: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = agent_command(places);
    command.args(["profile", "edit"]).args(arguments).env_remove("VISUAL").env("EDITOR", editor);
    run_command(command)
}

/// The actions of the history, the latest first.
fn actions(places: &Places, arguments: &[&str]) -> Result<Vec<String>> {
    let entries = data(places, &[&["profile", "history"], arguments].concat())?;
    let entries = entries.as_array().context("the history is a list")?;
    Ok(entries.iter().map(|entry| entry["action"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn profiles_are_made_and_never_overwritten() -> Result<()> {
    let places = Places::new()?;
    run_with_stdin(&places, &["profile", "create", "web", "--from-file", "-"], WEB)?.expect(0)?;
    ensure!(text(&places, "web")? == WEB, "not as it was: {}", text(&places, "web")?);
    for arguments in [
        &["profile", "create", "web"][..],
        &["profile", "create", "web", "--template", "batch"],
        &["profile", "clone", "web", "web"],
    ] {
        let output = run(&places, arguments)?.expect(CONFLICT)?;
        ensure!(output.stderr.contains("exists already"), "{}", output.stderr);
    }
    ensure!(text(&places, "web")? == WEB, "it was overwritten");

    run(&places, &["profile", "clone", "web", "copy"])?.expect(0)?;
    ensure!(text(&places, "copy")? == WEB.replace("name: web", "name: copy"), "{}", text(&places, "copy")?);
    run(&places, &["profile", "create", "mine", "--template", "workstation"])?.expect(0)?;
    ensure!(text(&places, "mine")?.contains("# A desktop that stays responsive"), "comments are kept");
    run(&places, &["profile", "create", "none", "--template", "nonsense"])?.expect(2)?;
    run(&places, &["profile", "create", "empty"])?.expect(0)?;
    run(&places, &["--dry-run", "profile", "create", "dry"])?.expect(0)?;
    ensure!(!places.profiles().join("dry.yaml").exists(), "a dry run made a file");
    let names = data(&places, &["profile", "list"])?;
    let names = names.as_array().context("profiles are a list")?;
    ensure!(names.iter().all(|profile| profile["valid"] == true) && names.len() == 4, "{names:?}");
    // The table says what was done, and every form holds it.
    let output = run(&places, &["profile", "create", "again", "-o", "yaml"])?.expect(0)?;
    ensure!(
        output.stdout.contains("kind: ProfileChange") && output.stdout.contains("action: create"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn what_runs_becomes_disabled_rules() -> Result<()> {
    let places = Places::new()?;
    let program = Program::Wait.write(&places.bin(), "pt-running")?;
    let _process = Workload::spawn(&program)?;
    let create = ["profile", "create", "now", "--from-running", "--pattern", "pt-running", "--match", "exe"];
    run(&places, &create)?.expect(0)?;
    let profile = data(&places, &["profile", "show", "now"])?;
    let rules = profile["rules"].as_array().context("rules")?;
    ensure!(
        rules.len() == 1 && rules[0]["name"] == "pt-running" && rules[0]["enabled"] == false,
        "{profile}"
    );
    ensure!(
        text(&places, "now")?.contains(&format!("exe: {}", program.display())),
        "{}",
        text(&places, "now")?
    );
    run(&places, &["profile", "create", "no", "--from-running", "--pattern", "pt-no-such"])?.expect(4)?;
    run(&places, &["profile", "create", "no", "--pattern", "x"])?.expect(2)?;
    Ok(())
}

#[test]
fn single_values_change_and_comments_survive() -> Result<()> {
    let places = Places::new()?;
    places.write_profile("web", WEB.as_bytes())?;
    let set = |what: &str| run(&places, &["profile", "edit", "web", "--set", what]);
    set("throttling_rules.backups.limits.cpu=20%")?.expect(0)?;
    ensure!(text(&places, "web")? == WEB.replace("30%", "20%"), "{}", text(&places, "web")?);
    let before = text(&places, "web")?;
    // Nothing is saved that has errors; the place is told.
    let output = set("throttling_rules.backups.limits.cpu=0%")?.expect(INVALID)?;
    ensure!(output.stderr.contains("web.yaml:7:"), "{}", output.stderr);
    set("throttling_rules.gone.priority=1")?.expect(4)?;
    set("nonsense")?.expect(2)?;
    run(&places, &["--dry-run", "profile", "edit", "web", "--set", "description=new"])?.expect(0)?;
    ensure!(text(&places, "web")? == before, "changed by a refusal or a dry run");
    run(&places, &["profile", "edit", "web", "--unset", "throttling_rules.backups.limits.nice"])?
        .expect(0)?;
    ensure!(text(&places, "web")?.contains("limits: { cpu: 20% }   # soft"), "{}", text(&places, "web")?);
    ensure!(actions(&places, &["web"])? == ["edit", "edit"], "{:?}", actions(&places, &["web"])?);
    Ok(())
}

#[test]
fn an_editor_changes_it_and_a_bad_draft_is_kept() -> Result<()> {
    let places = Places::new()?;
    places.write_profile("web", WEB.as_bytes())?;
    edit_with(&places, "sed -i s/30%/25%/", &["web"])?.expect(0)?;
    ensure!(text(&places, "web")? == WEB.replace("30%", "25%"), "{}", text(&places, "web")?);
    edit_with(&places, "true", &["web"])?.expect(0)?;

    let output = edit_with(&places, "sed -i s/25%/0%/", &["web"])?.expect(INVALID)?;
    ensure!(text(&places, "web")? == WEB.replace("30%", "25%"), "a bad draft was saved");
    let draft = output.stderr.lines().find_map(|line| line.strip_prefix("hint: the draft is kept: "));
    let draft = draft.with_context(|| format!("no draft is named: {}", output.stderr))?;
    ensure!(
        fs::read_to_string(draft).context("read the draft")? == WEB.replace("30%", "0%"),
        "not the user's text"
    );
    ensure!(output.stderr.contains(&format!("{draft}:7:")), "the place is in the draft: {}", output.stderr);

    edit_with(&places, "false", &["web"])?.expect(1)?;
    let mut command = agent_command(&places);
    command.args(["profile", "edit", "web"]).env_remove("VISUAL").env_remove("EDITOR");
    run_command(command)?.expect(2)?;
    ensure!(actions(&places, &["web"])? == ["edit"], "only what was changed is noted");
    Ok(())
}

#[test]
fn what_was_changed_is_undone() -> Result<()> {
    let places = Places::new()?;
    run_with_stdin(&places, &["profile", "import", "-"], WEB)?.expect(0)?;
    let set = |what: &str| run(&places, &["profile", "edit", "web", "--set", what])?.expect(0);
    set("description=one")?;
    let one = text(&places, "web")?;
    set("description=two")?;
    run(&places, &["--dry-run", "profile", "rollback", "web"])?.expect(0)?;
    ensure!(text(&places, "web")?.contains("two"), "a dry run rolled back");
    run(&places, &["profile", "rollback", "web"])?.expect(0)?;
    ensure!(text(&places, "web")? == one, "{}", text(&places, "web")?);
    // A rollback is undone as any other change.
    run(&places, &["profile", "rollback", "web"])?.expect(0)?;
    ensure!(text(&places, "web")?.contains("two"), "{}", text(&places, "web")?);

    let entries = data(&places, &["profile", "history", "web"])?;
    let first = entries.as_array().and_then(|all| all.last()).context("an entry")?;
    ensure!(first["action"] == "import" && first["uid"] == 0 && first["outcome"] == "done", "{first}");
    ensure!(
        first["before"].is_null() && first["after"].as_str().is_some_and(|hash| hash.len() == 64),
        "{first}"
    );
    let id = first["id"].to_string();
    let content = run(&places, &["profile", "history", "--content", &id])?.expect(0)?;
    ensure!(content.stdout == WEB, "{}", content.stdout);
    run(&places, &["profile", "rollback", "--to", &id])?.expect(0)?;
    ensure!(text(&places, "web")? == WEB, "{}", text(&places, "web")?);

    // Deleted, and back again.
    run(&places, &["profile", "delete", "web"])?.expect(2)?;
    run(&places, &["--dry-run", "profile", "delete", "web"])?.expect(0)?;
    run(&places, &["--yes", "profile", "delete", "web"])?.expect(0)?;
    run(&places, &["profile", "show", "web"])?.expect(4)?;
    run(&places, &["profile", "rollback", "web"])?.expect(0)?;
    ensure!(text(&places, "web")? == WEB, "{}", text(&places, "web")?);
    run(&places, &["profile", "rollback", "other"])?.expect(4)?;
    run(&places, &["profile", "rollback", "--to", "99999"])?.expect(4)?;
    run(&places, &["profile", "rollback", "other", "--to", &id])?.expect(2)?;
    let done = ["rollback", "delete", "rollback", "rollback", "rollback", "edit", "edit", "import"];
    ensure!(actions(&places, &["web"])? == done, "{:?}", actions(&places, &["web"])?);
    Ok(())
}

#[test]
fn a_change_whose_author_died_is_undone_like_any_other() -> Result<()> {
    let places = Places::new()?;
    run_with_stdin(&places, &["profile", "import", "-"], WEB)?.expect(0)?;
    let die = |point: &str, description: &str| {
        let mut command = agent_command(&places);
        command.args(["profile", "edit", "web", "--set", &format!("description={description}")]);
        command.env("PROCESS_THROTTLER_DIE_AT", point);
        run_command(command)?.expect(137)
    };
    // Killed before the file was changed: there is nothing of it to undo but the import.
    die("profile-noted", "one")?;
    ensure!(text(&places, "web")? == WEB, "{}", text(&places, "web")?);
    let planned = run(&places, &["--yes", "--dry-run", "profile", "rollback", "web"])?.expect(0)?;
    ensure!(text(&places, "web")? == WEB, "a dry run changed it: {planned:?}");
    run(&places, &["profile", "edit", "web", "--set", "description=two"])?.expect(0)?;
    let two = text(&places, "web")?;
    // And after: then that is what is undone.
    die("profile-changed", "three")?;
    ensure!(text(&places, "web")?.contains("three"), "{}", text(&places, "web")?);
    run(&places, &["profile", "rollback", "web"])?.expect(0)?;
    ensure!(text(&places, "web")? == two, "{}", text(&places, "web")?);
    let history = data(&places, &["profile", "history", "web"])?;
    let outcomes: Vec<&str> =
        history.as_array().context("a list")?.iter().filter_map(|entry| entry["outcome"].as_str()).collect();
    ensure!(outcomes == ["done", "done", "done", "undone", "done"], "{history}");
    Ok(())
}

#[test]
fn profiles_are_built_upon_others() -> Result<()> {
    let places = Places::new()?;
    places.write_profile("web", WEB.as_bytes())?;
    let child = "name: child\nextends: web\nthrottling_rules:\n  - name: backups\n    limits: { cpu: 10% }\n";
    places.write_profile("child", child.as_bytes())?;
    let written = run(&places, &["profile", "show", "child"])?.expect(0)?.stdout;
    ensure!(written == child, "{written}");
    let resolved = run(&places, &["profile", "show", "child", "--resolved"])?.expect(0)?.stdout;
    ensure!(resolved.contains("comm: pt-rsync") && resolved.contains("cpu: 10%"), "{resolved}");
    // What another machine gets needs no base.
    let exported = run(&places, &["profile", "export", "child", "--resolved"])?.expect(0)?.stdout;
    ensure!(exported == resolved, "{exported}");

    let differences = data(&places, &["profile", "diff", "web", "child"])?["differences"].clone();
    let paths: Vec<_> =
        differences.as_array().context("a list")?.iter().map(|one| one["path"].clone()).collect();
    ensure!(
        paths == ["throttling_rules.backups.limits.cpu", "throttling_rules.backups.limits.nice"],
        "{differences}"
    );
    run(&places, &["profile", "diff", "web", "child", "--exit-code"])?.expect(1)?;
    run(&places, &["profile", "diff", "child", "child", "--exit-code"])?.expect(0)?;

    let needed = run(&places, &["--yes", "profile", "delete", "web"])?.expect(CONFLICT)?;
    ensure!(needed.stderr.contains("profile child needs it"), "{}", needed.stderr);
    let circle = run(&places, &["profile", "edit", "web", "--set", "extends=child"])?.expect(INVALID)?;
    ensure!(circle.stderr.contains("in a circle: web → child → web"), "{}", circle.stderr);
    Ok(())
}

#[test]
fn conflicts_within_a_profile_are_found_at_once() -> Result<()> {
    let places = Places::new()?;
    let text = "name: odd
critical_processes:
  - name: nginx
    match: { exe: /usr/sbin/nginx, user: root }
throttling_rules:
  - name: all
    match: { user: root }
    limits: { nice: 5 }
  - name: some
    match: { user: root, comm: pt-x }
    limits: { cpu: 90000%, memory_max: 8000T }
";
    places.write_profile("odd", text.as_bytes())?;
    let checked = data(&places, &["validate", "profile", "odd"])?;
    let findings = checked["findings"].as_array().context("findings")?;
    let lines: Vec<_> = findings.iter().filter_map(|finding| finding["line"].as_u64()).collect();
    ensure!(checked["valid"] == true && lines == [7, 10, 11, 11], "{checked:#}");
    for (finding, what) in
        findings.iter().zip(["left alone", "rule all at line 7", "CPUs", "of this machine"])
    {
        ensure!(finding["message"].as_str().is_some_and(|message| message.contains(what)), "{finding}");
    }
    Ok(())
}

#[test]
fn the_installation_is_checked_as_a_whole() -> Result<()> {
    let places = Places::new()?;
    places.write_profile("web", WEB.as_bytes())?;
    run(&places, &["validate", "system"])?.expect(0)?;
    places.write_profile("bad", b"name: bad\nbogus: 1\n")?;
    fs::write(places.config().join("config.yaml"), "bogus: 2\n")?;
    fs::set_permissions(places.profiles(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let output = run(&places, &["validate", "system", "-o", "json"])?.expect(INVALID)?;
    let reply = output.json()?;
    let found: Vec<_> = reply["data"]["findings"].as_array().context("findings")?.iter().collect();
    let files: Vec<_> =
        found.iter().filter_map(|finding| finding["file"].as_str()?.rsplit('/').next()).collect();
    for file in ["config.yaml", "bad.yaml", "profiles"] {
        ensure!(files.contains(&file), "{file}: {found:?}");
    }
    Ok(())
}

#[test]
fn changes_of_what_is_active_come_into_force_and_go() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    places.write_profile("web", WEB.as_bytes())?;
    places.write_profile("other", b"name: other\nthrottling_rules: []\n")?;
    daemon.ask(&["profile", "activate", "other"])?;
    daemon.ask(&["profile", "activate", "web"])?;
    let changed =
        daemon.data(&["profile", "edit", "web", "--set", "throttling_rules.backups.limits.nice=11"])?;
    ensure!(
        changed["daemon"]["state"] == "reloaded" && changed["daemon"]["detail"] == "profile web",
        "{changed}"
    );
    let untouched = daemon.data(&["profile", "edit", "other", "--set", "description=new"])?;
    ensure!(untouched["daemon"]["state"] == "not_asked", "{untouched}");
    let refused = run(&places, &["--yes", "profile", "delete", "web"])?.expect(CONFLICT)?;
    ensure!(refused.stderr.contains("it is active"), "{}", refused.stderr);

    let active = || -> Result<Value> { Ok(daemon.data(&["daemon", "status"])?["profile"].clone()) };
    daemon.ask(&["--dry-run", "profile", "rollback"])?;
    ensure!(active()? == "web", "a dry run changed what is active");
    daemon.ask(&["profile", "rollback"])?;
    ensure!(active()? == "other", "{}", active()?);
    daemon.ask(&["profile", "rollback"])?;
    ensure!(active()? == "web", "{}", active()?);
    let entries = daemon.data(&["profile", "history"])?;
    let first = entries.as_array().and_then(|all| all.last()).context("an entry")?;
    ensure!(first["action"] == "activate" && first["profile"] == "other" && first["uid"] == 0, "{first}");
    daemon.ask(&["profile", "rollback", "--to", &first["id"].to_string()])?;
    ensure!(active()? == "other", "{}", active()?);
    daemon.ask(&["profile", "activate", "web"])?;
    daemon.ask(&["--yes", "profile", "delete", "web", "--force"])?;
    wait_until("nothing is active", SOON, || Ok(active()?.is_null()))?;
    Ok(())
}
