//! What limits change of a cgroup and of processes, captured whole, so that what was restored can be compared with what
//! was there; and the points between which an agent may die while it changes it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cgroup::{TestCgroup, agent_groups};
use crate::kernel;
use crate::workload::Workload;

/// Environment variable of debug builds of the agent: the point at which it kills itself.
pub const DIE_AT: &str = "PROCESS_THROTTLER_DIE_AT";

/// The points of the executor, and how often each is passed before the death.
pub const POINTS: [&str; 12] = [
    "dirs-planned",
    "dir-made",
    "dir-made:1",
    "planned",
    "written",
    "written:2",
    "moved",
    "attribute-set",
    "attribute-set:3",
    "applied",
    "row-undone:1",
    "undone",
];

/// Everything that limits change, by where it is: the cgroup's values, each process's cgroups and attributes, and the
/// groups that agents have made.
///
/// # Errors
/// When a process is gone or something of it cannot be read.
pub fn capture(cgroup: &TestCgroup, processes: &[Workload]) -> Result<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> =
        cgroup.limits()?.into_iter().map(|(path, value)| (path.display().to_string(), value)).collect();
    for process in processes {
        let path = format!("/proc/{}/cgroup", process.pid());
        all.insert(path.clone(), fs::read_to_string(&path).context(path)?);
        all.insert(format!("nice of {}", process.pid()), kernel::stat(process.pid())?.nice.to_string());
        for tool in ["chrt", "ionice", "taskset"] {
            let output = Command::new(tool).args(["-p", &process.pid_text()]).output().context(tool)?;
            ensure!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
            all.insert(format!("{tool} {}", process.pid()), String::from_utf8_lossy(&output.stdout).into());
        }
        let path = format!("/proc/{}/oom_score_adj", process.pid());
        all.insert(path.clone(), fs::read_to_string(&path).context(path)?);
    }
    all.insert("cgroups".to_owned(), format!("{:?}", agent_groups()?));
    Ok(all)
}
