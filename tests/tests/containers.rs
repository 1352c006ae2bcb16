//! An agent in a container, in which the host's `/proc` and cgroups are mounted elsewhere.

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::command::run_in_mount_namespace;
use integration_tests::daemon::Turn;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;

/// Mounts the host's at `$1` and `$2`, and takes process `$3` and all cgroups out of the usual places.
const MOUNTED_ELSEWHERE: &str = r#"
    proc=$1; cgroup=$2; pid=$3; shift 3
    mkdir "$proc" "$cgroup"
    mount --rbind /proc "$proc"
    mount --rbind /sys/fs/cgroup "$cgroup"
    mount -t tmpfs pt-test-none "/proc/$pid"
    mount -t tmpfs pt-test-none /sys/fs/cgroup
    inside() { env container=docker PT_HOST_PROC_PATH="$proc" PT_HOST_CGROUP_PATH="$cgroup" "$@"; }
"#;

#[test]
fn processes_and_cgroups_of_the_host_are_found_where_they_are_mounted() -> Result<()> {
    const SCRIPT: &str = r#"
        own() { "$@" -o json discover --match pid --exact $pid; }
        echo "usual: $(own "$@" | tr -d '\n ')"
        echo "inside: $(inside "$@" -o json discover --match pid --exact $pid | tr -d '\n ')"
        inside "$@" health -o json | tr -d '\n ' | sed 's/^/health: /'; echo
        inside "$@" throttle --pid $pid --cpu 30% --group inside >&2
        echo "limited: $(cat "$cgroup/$quota")"
        inside "$@" --yes release --all >&2
        echo "released: $(cat "$cgroup/$quota")"
    "#;
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("host-mounts")?);
    let process = Workload::spawn_in(&Program::Wait.write(&places.bin(), "pt-host-mounts")?, &cgroup)?;
    let before = cgroup.limits()?;
    let quota = before.keys().find(|path| path.ends_with("cpu.cfs_quota_us") || path.ends_with("cpu.max"));
    let quota = quota.context("a CPU controller")?.strip_prefix("/sys/fs/cgroup").context("its place")?;
    let script = format!("{MOUNTED_ELSEWHERE} quota={}\n{SCRIPT}", quota.display());
    let (proc, mounts) = (places.root().join("proc"), places.root().join("cgroup"));
    let paths = [proc.to_str().context("UTF-8")?, mounts.to_str().context("UTF-8")?];
    let pid = process.pid_text();
    let output = run_in_mount_namespace(&places, &script, &[paths[0], paths[1], &pid])?.expect(0)?;
    let line = |label: &str| {
        let found = output.stdout.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(": "));
        found.with_context(|| format!("{label}: {output:?}"))
    };
    let found = format!("\"pid\":{pid}");
    ensure!(line("inside")?.contains(&found), "{output:?}");
    ensure!(!line("usual")?.contains(&found), "{output:?}");
    ensure!(line("health")?.contains(&format!("at{}", paths[1])), "{output:?}");
    ensure!(line("limited")?.starts_with("30000"), "{output:?}");
    ensure!(!line("released")?.starts_with("30000"), "{output:?}");
    ensure!(cgroup.limits()? == before, "{:?}", cgroup.limits()?);
    Ok(())
}

#[test]
fn the_processes_of_another_pid_namespace_are_refused() -> Result<()> {
    const SCRIPT: &str = r#"
        proc=$1; shift
        mkdir "$proc"
        mount --rbind /proc "$proc"
        code=0
        unshare --pid --fork --kill-child --mount-proc \
            env container=docker PT_HOST_PROC_PATH="$proc" "$@" list || code=$?
        echo "code=$code"
        unshare --pid --fork --kill-child --mount-proc "$@" list
    "#;
    integration_tests::binary::require_root()?;
    let places = Places::new()?;
    let proc = places.root().join("proc");
    let output = run_in_mount_namespace(&places, SCRIPT, &[proc.to_str().context("UTF-8")?])?.expect(0)?;
    ensure!(output.stdout.contains("code=1"), "{output:?}");
    ensure!(
        output.stderr.contains("another pid namespace") && output.stderr.contains("--pid=host"),
        "{output:?}"
    );
    Ok(())
}
