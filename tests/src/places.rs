//! Private directories for one agent, so that nothing of the host's own installation is read or written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::binary;
use crate::command::run_command;

/// What the names of these directories begin with; the pid of the tests' process follows.
const PREFIX: &str = "pt-test-";

/// The directories of one agent, deleted on drop.
#[derive(Debug)]
pub struct Places {
    root: TempDir,
    agent: PathBuf,
}

impl Places {
    /// Creates them empty, for the agent that [`binary::agent`] finds.
    ///
    /// # Errors
    /// When it is not built or a directory cannot be created.
    pub fn new() -> Result<Self> {
        Self::for_agent(binary::agent()?)
    }

    /// Creates them empty, for this build of the agent.
    ///
    /// # Errors
    /// When a directory cannot be created.
    pub fn for_agent(agent: PathBuf) -> Result<Self> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let root =
            tempfile::Builder::new().prefix(&prefix).tempdir().context("create a temporary directory")?;
        let places = Self { root, agent };
        // Another user must be able to reach the control socket and be refused by it, not by the directory.
        open(places.root.path())?;
        for dir in [
            places.config(),
            places.profiles(),
            places.config().join("config.d"),
            places.state(),
            places.runtime(),
            places.log(),
            places.bin(),
        ] {
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        }
        open(&places.runtime())?;
        Ok(places)
    }

    /// The agent's binary.
    #[must_use]
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// `--config-dir`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.path().join("config")
    }

    /// Where profiles are.
    #[must_use]
    pub fn profiles(&self) -> PathBuf {
        self.config().join("profiles")
    }

    /// `--state-dir`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// `--runtime-dir`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// `--log-dir`.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.path().join("log")
    }

    /// For the test's own programs.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime().join("control.sock")
    }

    /// The root of it all.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes `config.yaml`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, yaml: &str) -> Result<()> {
        write_private(&self.config().join("config.yaml"), yaml.as_bytes())
    }

    /// Adds the one webhook endpoint.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_webhook(&self, url: &str, secret: &str) -> Result<()> {
        let file = self.write_secret("webhook.secret", secret)?;
        let webhook = serde_json::json!({ "webhook": { "url": url, "secret_file": file } });
        write_private(&self.config().join("config.d/webhook.yaml"), webhook.to_string().as_bytes())
    }

    /// Writes the endpoints of `webhooks.yaml`, each an object of its keys.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_webhooks(&self, endpoints: &[serde_json::Value]) -> Result<()> {
        let text = serde_json::json!({ "webhooks": endpoints }).to_string();
        write_private(&self.config().join("webhooks.yaml"), text.as_bytes())
    }

    /// Writes a secret, and returns its file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_secret(&self, name: &str, secret: &str) -> Result<PathBuf> {
        let file = self.config().join(name);
        write_private(&file, secret.as_bytes())?;
        Ok(file)
    }

    /// Writes `profiles/NAME.yaml`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_profile(&self, name: &str, yaml: &[u8]) -> Result<PathBuf> {
        let path = self.profiles().join(format!("{name}.yaml"));
        write_private(&path, yaml)?;
        Ok(path)
    }

    /// The global arguments that put an agent or a command here.
    #[must_use]
    pub fn arguments(&self) -> Vec<PathBuf> {
        arguments(self.root.path())
    }
}

fn arguments(root: &Path) -> Vec<PathBuf> {
    ["config", "state", "run", "log"]
        .into_iter()
        .zip(["--config-dir", "--state-dir", "--runtime-dir", "--log-dir"])
        .flat_map(|(dir, option)| [PathBuf::from(option), root.join(dir)])
        .collect()
}

/// Ends what a killed run of the tests has left: its agent, and the limits that its records name. Without it the
/// cgroups of that run would make every later one fail, as groups that are not their agent's own.
///
/// # Errors
/// When something cannot be lifted.
pub(crate) fn recover_abandoned() -> Result<()> {
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).with_context(|| format!("list {}", parent.display()))? {
        let entry = entry.with_context(|| format!("list {}", parent.display()))?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')) else {
            continue;
        };
        let Ok(pid) = pid.0.parse::<u32>() else { continue };
        if Path::new(&format!("/proc/{pid}")).exists() {
            continue;
        }
        recover(&entry.path()).with_context(|| format!("recover {}", entry.path().display()))?;
    }
    Ok(())
}

fn recover(root: &Path) -> Result<()> {
    if root.join("state/journal.db").exists() {
        let agent = |words: &[&str]| -> Result<_> {
            let mut command = Command::new(binary::agent()?);
            command.args(arguments(root)).args(words).stdin(Stdio::null());
            run_command(command)
        };
        // Of no consequence where none runs.
        agent(&["daemon", "stop"])?;
        agent(&["release", "--all", "--yes"])?.expect(0)?;
    }
    fs::remove_dir_all(root).context("remove it")
}

fn open(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("open {} to other users", dir.display()))
}

fn write_private(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("make {} private", path.display()))
}
