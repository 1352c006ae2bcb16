//! The profile of twenty rules under which costs are measured: every kind of matcher, none of which matches the
//! storm, so that each life is looked at by all of them.

use integration_tests::profile::ProfileText;
use serde_json::{Value, json};

/// Rules by exact comm. All names are of no process but a test's: what runs on the machine is not limited.
const COMMS: [&str; 8] =
    ["pt-rsync", "pt-tar", "pt-gzip", "pt-xz", "pt-borg", "pt-restic", "pt-ffmpeg", "pt-clamscan"];

/// Twenty rules.
pub(crate) fn twenty_rules() -> ProfileText {
    let mut matches: Vec<Value> = COMMS.iter().map(|comm| json!({ "comm": comm })).collect();
    matches.extend(
        ["pt-backup-", "pt-batch-", "pt-build-", "pt-index-"]
            .map(|prefix| json!({ "comm": { "prefix": prefix } })),
    );
    matches.extend([
        json!({ "uid": 64_001 }),
        json!({ "uid": 64_002 }),
        json!({ "cgroup": "/pt-test-no-such/**" }),
        json!({ "all": [{ "comm": "pt-python3" }, { "cmdline_regex": "backup\\.py" }] }),
        json!({ "all": [{ "comm": "pt-java" }, { "cmdline_regex": "-Dbatch" }] }),
        json!({ "all": [{ "comm": "pt-perl" }, { "exe": "/opt/pt/perl" }] }),
        json!({ "all": [{ "comm": "pt-cc1plus" }, { "parent": { "comm": "pt-ninja" } }] }),
        json!({ "any": [{ "comm": "pt-mysqldump" }, { "comm": "pt-pg-dump" }], "not": { "uid": 64_003 } }),
    ]);
    let limits = json!({ "cpu": "30%", "nice": 10 });
    matches.into_iter().enumerate().fold(ProfileText::new("twenty"), |profile, (index, matches)| {
        profile.rule_matching(&format!("rule-{}", index + 1), &matches, &limits, "group")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twenty() {
        assert_eq!(twenty_rules().text().matches("\"rule-").count(), 20);
    }
}
