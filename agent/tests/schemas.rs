//! What the program prints as JSON without a daemon satisfies the published schemas, `docs/schemas`.

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::{Context as _, Result, ensure};
    use integration_tests::places::Places;
    use integration_tests::schemas::{Check, Documents, check};
    use serde_json::json;

    #[test]
    fn documents_satisfy_their_schemas() -> Result<()> {
        let places = Places::for_agent(env!("CARGO_BIN_EXE_process-throttler").into())?;
        let mut documents = Documents::default();
        let file = places.root().join("web.yaml");
        std::fs::write(
            &file,
            "name: web\nversion: \"1\"\nthrottling_rules:\n  - { name: r, match: { comm: x }, limits: { cpu: 30% } }\n",
        )?;
        let predecessor = places.root().join("old.json");
        std::fs::write(
            &predecessor,
            json!({
                "name": "old",
                "author": "somebody",
                "throttling_rules": [{
                    "name": "r", "matcher": { "pattern": "rsync", "match_type": "name" },
                    "limits": { "cpu_quota": 30_000, "cpu_period": 100_000 }, "enabled": true,
                }],
            })
            .to_string(),
        )?;
        let bad = places.root().join("bad.yaml");
        std::fs::write(&bad, "name: bad\nnmae: x\n")?;
        let (file, predecessor, bad) = (file.to_str(), predecessor.to_str(), bad.to_str());
        let (file, predecessor) = (file.context("UTF-8")?, predecessor.context("UTF-8")?);
        let bad = bad.context("UTF-8")?;
        for change in [
            &["profile", "import", file][..],
            &["profile", "import", predecessor],
            &["profile", "create", "empty"],
            &["profile", "edit", "web", "--set", "description=changed"],
            &["profile", "clone", "web", "night"],
            &["profile", "rollback", "web"],
            &["profile", "delete", "night", "--yes"],
            &["webhook", "add", "ops", "https://example.com/hook"],
            &["webhook", "edit", "ops", "--rate", "5"],
            &["webhook", "disable", "ops"],
            &["webhook", "enable", "ops"],
            &["webhook", "replay", "--since", "1h", "--yes"],
            &["backup", "create", "nightly", "--plain"],
            &["backup", "restore", "nightly", "--yes"],
            &["state", "migrate"],
            &["emergency", "stop", "a test"],
            &["emergency", "resume"],
            &["daemon", "stop"],
            &["daemon", "start", "--dry-run"],
            &["release", "--all", "--yes"],
            &["webhook", "remove", "ops", "--yes", "--dry-run"],
        ] {
            documents.once(&places, change, 0)?;
        }
        for read in [
            &["list", "--limit", "3"][..],
            &["discover", ".", "--match", "name"],
            &["dynamic", "policies"],
            &["status"],
            &["profile", "list"],
            &["profile", "show", "web"],
            &["profile", "history"],
            &["profile", "diff", "web", "empty"],
            &["profile", "validate", "web"],
            &["validate", "profile", "web"],
            &["validate", "config"],
            &["webhook", "list"],
            &["webhook", "show", "ops"],
            &["webhook", "deliveries"],
            &["backup", "list"],
            &["backup", "show", "nightly"],
            &["backup", "verify", "nightly"],
            &["backup", "restore", "nightly", "--dry-run"],
            &["state", "check"],
            &["audit", "search"],
            &["audit", "stats"],
            &["audit", "verify"],
            &["audit", "tail"],
            &["emergency", "status"],
            &["version"],
        ] {
            documents.read(&places, read, 0)?;
        }
        documents.read(&places, &["daemon", "status"], 3)?;
        documents.read(&places, &["validate", "profile", bad], 6)?;
        let health = ["health"];
        // Whether this machine is fit to run the agent is not the question.
        if documents.read(&places, &health, 0).is_err() {
            documents.read(&places, &health, 1)?;
        }
        documents.once(&places, &["backup", "delete", "nightly", "--yes"], 0)?;
        let few = documents.kinds().len();
        ensure!(few >= 25, "only {few} kinds: {:?}", documents.kinds());
        documents.judge()
    }

    /// A check that refuses nothing proves nothing.
    #[test]
    fn the_check_refuses_what_a_schema_does_not_name() -> Result<()> {
        let document = |data: serde_json::Value| json!(["GroupList", { "apiVersion": "v1", "kind": "GroupList", "data": data }]);
        let group = json!({
            "group": "g", "limits": { "cpu": "30%" }, "scope": "group", "how": "", "members": [],
            "reason": { "cause": "operator", "uid": 0, "request": "x" },
        });
        let changed = |path: &str, value: serde_json::Value| -> Result<serde_json::Value> {
            let mut group = group.clone();
            let at = path.rsplit_once('/').context("a path")?;
            let inside =
                group.pointer_mut(at.0).and_then(|inside| inside.as_object_mut()).context("an object")?;
            inside.insert(at.1.to_owned(), value);
            Ok(document(json!([group])))
        };
        let bodies = [
            document(json!([group])),
            changed("/surplus", json!(1))?,
            changed("/limits/surplus", json!(1))?,
            changed("/reason/surplus", json!(1))?,
            changed("/scope", json!("none"))?,
            changed("/how", json!(7))?,
            json!(["GroupList", { "apiVersion": "v2", "kind": "GroupList", "data": [] }]),
        ];
        let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
        for (index, body) in bodies.iter().enumerate() {
            let printed = check(&schemas, Check::Closed, std::slice::from_ref(body))?;
            ensure!(printed.ends_with(" 0 refused\n") == (index == 0), "{body}: {printed}");
        }
        // Whoever reads with the schemas as they are does not mind fields of later versions.
        let printed = check(&schemas, Check::Open, &bodies[..2])?;
        ensure!(printed.ends_with("2 bodies, 0 refused\n"), "{printed}");
        Ok(())
    }
}
