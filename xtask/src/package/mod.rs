//! `cargo xtask package`: a Debian package and an rpm, packed by the distributions' own tools from one staged tree.
//!
//! The same sources, program and date give the same bytes: owners, modes and times do not come from this machine.

mod changelog;
mod deb;
mod notice;
mod rpm;
mod stage;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use self::changelog::Release;
use crate::cargo::{cargo, output_of, target_dir, workspace_root};
use crate::setup;

/// Debian packages whose programs make packages.
const TOOLS: [&str; 3] = ["dpkg-dev", "rpm", "binutils"];

/// Who publishes the package, where `DEBFULLNAME` and `DEBEMAIL` do not say. Nobody has mail at example.org.
const NOBODY: (&str, &str) = ("process-throttler authors", "nobody@example.org");

/// Which packages, and of what.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Debian package; without a choice, both.
    #[arg(long)]
    deb: bool,
    /// The rpm; without a choice, both.
    #[arg(long)]
    rpm: bool,
    /// Package this program instead of building the release.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// Makes the packages in `target/package`.
///
/// # Errors
/// When a tool cannot be had or fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(&TOOLS)?;
    let target = target_dir()?;
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => {
            cargo(&["build", "--release", "--locked", "--package", "process-throttler"])?;
            target.join("release/process-throttler")
        }
    };
    let dir = target.join("package");
    let parcel = Parcel::new(&binary, Effort::Most)?;
    let both = options.deb == options.rpm;
    if options.deb || both {
        println!("{}", parcel.deb(&dir)?.display());
    }
    if options.rpm || both {
        println!("{}", parcel.rpm(&dir)?.display());
    }
    Ok(())
}

/// How much time compressing may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For packages that are only tested.
    Least,
    /// For packages that are published.
    Most,
}

impl Effort {
    /// As xz has it.
    const fn level(self) -> u8 {
        match self {
            Self::Least => 0,
            Self::Most => 6,
        }
    }
}

/// The kind of package that a tree is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Deb,
    Rpm,
}

/// What goes into a package.
pub(crate) struct Parcel {
    binary: PathBuf,
    version: String,
    publisher: String,
    date: Timestamp,
    effort: Effort,
}

impl Parcel {
    /// This program, as the version that the workspace has.
    ///
    /// # Errors
    /// When it is not there, or the date of the sources is not known.
    pub(crate) fn new(binary: &Path, effort: Effort) -> Result<Self> {
        let binary = fs::canonicalize(binary).with_context(|| format!("find {}", binary.display()))?;
        let variable = |name, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
        let publisher = format!("{} <{}>", variable("DEBFULLNAME", NOBODY.0), variable("DEBEMAIL", NOBODY.1));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Self { binary, version, publisher, date: date()?, effort })
    }

    /// The same, called another version.
    pub(crate) fn with_version(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    /// Makes the Debian package in this directory; returns its path.
    ///
    /// # Errors
    /// When a tool fails.
    pub(crate) fn deb(&self, dir: &Path) -> Result<PathBuf> {
        let scratch = self.scratch(dir)?;
        stage::stage(scratch.path(), Kind::Deb, &self.binary)?;
        deb::pack(self, scratch.path(), dir)
    }

    /// Makes the rpm in this directory; returns its path.
    ///
    /// # Errors
    /// When a tool fails.
    fn rpm(&self, dir: &Path) -> Result<PathBuf> {
        let scratch = self.scratch(dir)?;
        stage::stage(scratch.path(), Kind::Rpm, &self.binary)?;
        rpm::pack(self, scratch.path(), dir)
    }

    fn scratch(&self, dir: &Path) -> Result<tempfile::TempDir> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        tempfile::tempdir_in(dir).context("create a directory for a package's tree")
    }

    fn epoch(&self) -> String {
        self.date.as_second().to_string()
    }

    fn changes(&self) -> Result<Vec<Release>> {
        let text = fs::read_to_string(workspace_root()?.join("CHANGELOG.md")).context("read CHANGELOG.md")?;
        changelog::parse(&text, &self.version, self.date)
    }
}

/// The date of the sources: `SOURCE_DATE_EPOCH`, else that of the last commit.
fn date() -> Result<Timestamp> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => output_of("git", &["log", "-1", "--format=%ct"])
            .context("no date of the sources: set SOURCE_DATE_EPOCH")?,
    };
    let seconds = text.trim().parse().with_context(|| format!("{text:?} is no time in seconds"))?;
    ensure!(seconds > 0, "{seconds} is no date of these sources");
    Timestamp::from_second(seconds).context("the date of the sources")
}
