//! Private directories for one agent, so that nothing of the host's own installation is read or written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::binary;

/// What the names of these directories begin with; the pid of the tests' process follows.
const PREFIX: &str = "pt-test-";

/// The directories of one agent, deleted on drop if they were made here.
#[derive(Debug)]
pub struct Places {
    root: PathBuf,
    agent: PathBuf,
    _made: Option<TempDir>,
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
        let made =
            tempfile::Builder::new().prefix(&prefix).tempdir().context("create a temporary directory")?;
        let places = Self { root: made.path().to_owned(), agent, _made: Some(made) };
        // Another user must be able to reach the control socket and be refused by it, not by the directory.
        open(places.root())?;
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

    /// Those of runs of the tests that were killed and could not delete them.
    ///
    /// # Errors
    /// When the directory of temporary files cannot be listed, or the agent is not built.
    pub(crate) fn abandoned() -> Result<Vec<Self>> {
        let parent = std::env::temp_dir();
        let mut all = Vec::new();
        for entry in fs::read_dir(&parent).with_context(|| format!("list {}", parent.display()))? {
            let root = entry.with_context(|| format!("list {}", parent.display()))?.path();
            let Some(pid) = made_by(&root) else { continue };
            if !Path::new(&format!("/proc/{pid}")).exists() {
                all.push(Self { root, agent: binary::agent()?, _made: None });
            }
        }
        Ok(all)
    }

    /// The agent's binary.
    #[must_use]
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// `--config-dir`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Where profiles are.
    #[must_use]
    pub fn profiles(&self) -> PathBuf {
        self.config().join("profiles")
    }

    /// `--state-dir`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// `--runtime-dir`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.root.join("run")
    }

    /// `--log-dir`.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// For the test's own programs.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime().join("control.sock")
    }

    /// The root of it all.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
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
        [
            ("--config-dir", self.config()),
            ("--state-dir", self.state()),
            ("--runtime-dir", self.runtime()),
            ("--log-dir", self.log()),
        ]
        .into_iter()
        .flat_map(|(option, dir)| [PathBuf::from(option), dir])
        .collect()
    }
}

/// The pid in a directory's name, if it has the form of ours.
fn made_by(root: &Path) -> Option<u32> {
    let (pid, _random) = root.file_name()?.to_str()?.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
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
