//! Profiles of the system and of users: which of them count for whom, and which are changed.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary::require_root;
use integration_tests::command::run_in_mount_namespace;
use integration_tests::places::Places;
use integration_tests::program::copy_executable;
use serde_json::Value;

/// `/etc` with nothing but profiles of the system, and a home with some of a user's.
const SCRIPT: &str = r#"
    home=$1 agent=$2; shift 2
    mount -t tmpfs -o mode=755 pt-test-etc /etc
    system=/etc/process-throttler/profiles own=$home/.config/process-throttler/profiles
    mkdir -p "$system" "$own"
    rule="throttling_rules: [ { name: r, match: { exe: /usr/bin/pt-none }, limits: { nice: 5 } } ]"
    for name in base night; do printf 'name: %s\ndescription: system\n%s\n' $name "$rule" >"$system/$name.yaml"; done
    printf 'name: night\nextends: base\ndescription: own\n' >"$own/night.yaml"
    chown -R 65534:65534 "$home"
    as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups -- env -i HOME="$home" PATH="$PATH" "$agent" "$@"; }
    as_root() { env -i HOME="$home" PATH="$PATH" "$agent" --state-dir "$home/state" --log-dir "$home/log" "$@"; }
    line() { label=$1; shift; echo "$label: $("$@" | tr -d '\n')"; }

    line list as_user -o json profile list
    line night as_user -o json profile show night
    as_user profile show night >&2
    code=0; as_user profile edit base --set description=x || code=$?
    echo "edit: $code"
    code=0; as_user --yes profile delete base || code=$?
    echo "delete: $code"
    as_user profile validate night >&2
    as_user profile clone base mine >&2
    as_user profile edit mine --set description=mine >&2
    as_user --yes profile delete night >&2
    line after as_user -o json profile list
    as_user profile rollback night >&2
    line back as_user -o json profile show night
    line root as_root -o json profile list
    line named as_user --config-dir "$home/.config/process-throttler" -o json profile list
    line untouched cat "$system/base.yaml"
"#;

fn names(list: &Value, key: &str, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
    let items = list["data"].as_array().into_iter().flatten();
    items
        .filter(|item| wanted(&item[key]))
        .filter_map(|item| item["name"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn users_build_upon_the_system_s_profiles_and_change_their_own() -> Result<()> {
    require_root()?;
    let places = Places::new()?;
    let home = places.root().join("home");
    std::fs::create_dir(&home)?;
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))?;
    // Where nobody but root comes is no place for a program that a user runs.
    let copy = copy_executable(places.agent(), &places.bin(), "process-throttler")?;
    let output = run_in_mount_namespace(
        &places,
        SCRIPT,
        &[home.to_str().context("UTF-8")?, copy.to_str().context("UTF-8")?],
    )?
    .expect(0)?;
    let text = |label: &str| {
        let found = output.stdout.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(": "));
        found.with_context(|| format!("{label}: {output:?}"))
    };
    let json = |label: &str| -> Result<Value> { Ok(serde_json::from_str(text(label)?)?) };

    let list = json("list")?;
    ensure!(names(&list, "shared", |shared| *shared == true) == ["base"], "{list}");
    ensure!(names(&list, "shared", |shared| *shared == false) == ["night"], "{list}");
    let hides = |hides: &Value| hides[0] == "/etc/process-throttler/profiles/night.yaml";
    ensure!(names(&list, "hides", hides) == ["night"], "{list}");
    let night = json("night")?;
    ensure!(night["data"]["description"] == "own" && night["data"]["rules"][0]["name"] == "r", "{night}");
    let own = home.join(".config/process-throttler/profiles/night.yaml");
    ensure!(output.stderr.contains(&format!("# {}\n", own.display())), "{output:?}");

    for refused in ["edit", "delete"] {
        ensure!(text(refused)? == "5", "{refused}: {output:?}");
    }
    ensure!(output.stderr.contains("profile clone base NEW"), "{output:?}");
    let after = json("after")?;
    ensure!(names(&after, "shared", |shared| *shared == true) == ["base", "night"], "{after}");
    ensure!(names(&after, "shared", |shared| *shared == false) == ["mine"], "{after}");
    ensure!(json("back")?["data"]["description"] == "own", "{output:?}");
    let root = json("root")?;
    ensure!(names(&root, "name", |_| true) == ["base", "night"], "root sees what users keep: {root}");
    let named = json("named")?;
    ensure!(names(&named, "name", |_| true) == ["mine", "night"], "{named}");
    ensure!(text("untouched")?.contains("description: system"), "{output:?}");
    Ok(())
}
