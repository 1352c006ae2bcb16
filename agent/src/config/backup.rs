//! The key `backup`: where backups are kept, how many of them, when the daemon makes one, and who can read it.

use std::path::PathBuf;

use super::calendar;
use super::error::Findings;
use super::fields::Cursor;
use super::paths::Dirs;

/// Most backups that are kept.
const KEEP_MAX: i128 = 1_000;

/// How backups are made and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// How many of the backups that got their names from the program are kept: 1 to 1000.
    pub keep: usize,
    /// When the daemon makes one: five fields as in crontab(5); `None`: never.
    pub schedule: Option<String>,
    /// Where they are kept; absolute. `None`: [`Self::directory`].
    pub directory: Option<PathBuf>,
    /// To whom they are encrypted, `age1…`. Nobody: they are not, and hold no secrets.
    pub recipients: Vec<String>,
}

impl Default for Backup {
    fn default() -> Self {
        Self { keep: 7, schedule: None, directory: None, recipients: Vec::new() }
    }
}

impl Backup {
    /// Where they are kept: below the state unless the configuration says otherwise.
    #[must_use]
    pub fn directory(&self, dirs: &Dirs) -> PathBuf {
        self.directory.clone().unwrap_or_else(|| dirs.state.join("backups"))
    }
}

/// Reads the key; what is wrong goes to `findings`.
pub(super) fn parse(at: &Cursor<'_>, findings: &mut Findings) -> Option<Backup> {
    let map = at.map(&["keep", "schedule", "directory", "recipients"], &[], findings)?;
    let mut backup = Backup::default();
    if let Some(at) = map.get("keep") {
        let number = at.integer(1..=KEEP_MAX, "a number of backups from 1 to 1000", findings);
        backup.keep = number.and_then(|number| usize::try_from(number).ok()).unwrap_or(backup.keep);
    }
    backup.schedule = map.get("schedule").and_then(|at| schedule(at, findings));
    backup.directory = map.get("directory").and_then(|at| super::settings::absolute(at, findings));
    for item in map.get("recipients").and_then(|at| at.list(findings)).unwrap_or_default() {
        backup.recipients.extend(recipient(&item, findings));
    }
    Some(backup)
}

fn schedule(at: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let text = at.text(findings)?;
    match calendar::parse(text) {
        Ok(_cron) => Some(text.to_owned()),
        Err(error) => {
            let finding = at.error(format!("{text:?} is no cron expression: {error}"));
            findings.push(finding.with_fix("write five fields, such as \"30 3 * * *\""));
            None
        }
    }
}

fn recipient(at: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let text = at.text(findings)?;
    if text.parse::<age::x25519::Recipient>().is_ok() {
        return Some(text.to_owned());
    }
    // It may be the private key.
    let finding = at.secret_error("is no age recipient");
    findings.push(finding.with_fix("write the public key that age-keygen prints: age1…"));
    None
}
