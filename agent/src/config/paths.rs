//! The one place that decides in which directories the program's files are. Creates and reads nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::container;
use crate::model::id::Name;

/// Name of the program's own directory below the system's or the user's.
const PROGRAM: &str = "process-throttler";
/// Directory of the profiles, below that of a configuration.
const PROFILES: &str = "profiles";
/// Where the host's configuration is mounted in a container.
const HOST_CONFIG: &str = "PT_HOST_CONFIG_PATH";
/// Where the host's `/proc` is mounted in a container.
const HOST_PROC: &str = "PT_HOST_PROC_PATH";
/// Where the host's `/sys/fs/cgroup` is mounted in a container.
const HOST_CGROUP: &str = "PT_HOST_CGROUP_PATH";

/// Directories given on the command line; they win over everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config-dir`
    pub config: Option<PathBuf>,
    /// `--state-dir`
    pub state: Option<PathBuf>,
    /// `--runtime-dir`
    pub runtime: Option<PathBuf>,
    /// `--log-dir`
    pub log: Option<PathBuf>,
}

/// Why the directories cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A directory that is not absolute would mean another place for every caller.
    #[error("{origin}: {path:?} is not an absolute path")]
    Relative {
        /// The flag or variable.
        origin: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Without root, the directories are below the user's home.
    #[error(
        "cannot tell where {what} belongs: HOME is not set; set {variable} or use the command-line option"
    )]
    NoHome {
        /// What is looked for.
        what: &'static str,
        /// The variable that settles it.
        variable: &'static str,
    },
}

/// Where the kernel's interfaces are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounts {
    /// The processes.
    pub proc: PathBuf,
    /// The cgroup hierarchies, unless the configuration says otherwise.
    pub cgroup: PathBuf,
}

impl Default for Mounts {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), cgroup: PathBuf::from("/sys/fs/cgroup") }
    }
}

/// Where this instance keeps its files. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// Configuration, written by people.
    pub config: PathBuf,
    /// What must survive a restart.
    pub state: PathBuf,
    /// What must not survive a reboot.
    pub runtime: PathBuf,
    /// Logs and the audit trail.
    pub log: PathBuf,
    /// Directories of profiles that others keep for everybody, strongest first: they count where
    /// [`Self::profiles`] has none of a name, and are only read.
    pub shared_profiles: Vec<PathBuf>,
    /// Where it finds the machine.
    pub host: Mounts,
}

/// How one directory is found: its sources in the order of their strength, after the command line.
struct Rule {
    what: &'static str,
    flag: &'static str,
    variable: &'static str,
    /// Whether `PT_HOST_CONFIG_PATH` applies.
    host_path: bool,
    /// systemd.exec(5), `RuntimeDirectory=` and its siblings.
    systemd: &'static str,
    /// Default of a system service.
    root: &'static str,
    /// XDG base directory variable, and what follows the program's name in it.
    xdg: (&'static str, &'static str),
    /// Base below the home directory when that variable is unset, and what follows the program's name.
    home: (&'static str, &'static str),
}

const CONFIG: Rule = Rule {
    what: "the configuration",
    flag: "--config-dir",
    variable: "PROCESS_THROTTLER_CONFIG_DIR",
    host_path: true,
    systemd: "CONFIGURATION_DIRECTORY",
    root: "/etc",
    xdg: ("XDG_CONFIG_HOME", ""),
    home: (".config", ""),
};
const STATE: Rule = Rule {
    what: "the state",
    flag: "--state-dir",
    variable: "PROCESS_THROTTLER_STATE_DIR",
    host_path: false,
    systemd: "STATE_DIRECTORY",
    root: "/var/lib",
    xdg: ("XDG_STATE_HOME", ""),
    home: (".local/state", ""),
};
const RUNTIME: Rule = Rule {
    what: "the runtime directory",
    flag: "--runtime-dir",
    variable: "PROCESS_THROTTLER_RUNTIME_DIR",
    host_path: false,
    systemd: "RUNTIME_DIRECTORY",
    root: "/run",
    // A login session always has the variable; without one the state directory is as private.
    xdg: ("XDG_RUNTIME_DIR", ""),
    home: (".local/state", "run"),
};
const LOG: Rule = Rule {
    what: "the log directory",
    flag: "--log-dir",
    variable: "PROCESS_THROTTLER_LOG_DIR",
    host_path: false,
    systemd: "LOGS_DIRECTORY",
    root: "/var/log",
    // As systemd does for user services: logs lie below the state.
    xdg: ("XDG_STATE_HOME", "log"),
    home: (".local/state", "log"),
};

#[cfg(test)]
impl Dirs {
    /// One directory for everything.
    pub(crate) fn all_at(dir: &Path) -> Self {
        Self {
            config: dir.into(),
            state: dir.into(),
            runtime: dir.into(),
            log: dir.into(),
            shared_profiles: Vec::new(),
            host: Mounts::default(),
        }
    }

    /// A directory below this one for each.
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            config: root.join("config"),
            state: root.join("state"),
            runtime: root.join("run"),
            log: root.join("log"),
            ..Self::all_at(root)
        }
    }
}

impl Dirs {
    /// Resolves all directories. A pure function: `env` looks up a variable, `in_container` says whether the
    /// program runs in a container, where the host's configuration may be mounted elsewhere.
    ///
    /// # Errors
    /// When a given path is relative, or there is neither root nor a home directory.
    pub fn resolve(
        overrides: &Overrides,
        env: &dyn Fn(&str) -> Option<OsString>,
        euid: u32,
        in_container: bool,
    ) -> Result<Self, PathError> {
        let find = |rule: &Rule, flag: Option<&PathBuf>| rule.find(flag, env, euid, in_container);
        // Who names a directory means that one. Root acts upon nothing that users keep, and users may build upon
        // what root keeps.
        let is_named = CONFIG.named(overrides.config.as_ref(), env, in_container)?.is_some();
        let system = Path::new(CONFIG.root).join(PROGRAM).join(PROFILES);
        let mount = |name: &'static str, usual: PathBuf| match variable(env, name).filter(|_| in_container) {
            Some(path) => absolute(name, path),
            None => Ok(usual),
        };
        let usual = Mounts::default();
        Ok(Self {
            host: Mounts { proc: mount(HOST_PROC, usual.proc)?, cgroup: mount(HOST_CGROUP, usual.cgroup)? },
            shared_profiles: if is_named || euid == 0 { Vec::new() } else { vec![system] },
            config: find(&CONFIG, overrides.config.as_ref())?,
            state: find(&STATE, overrides.state.as_ref())?,
            runtime: find(&RUNTIME, overrides.runtime.as_ref())?,
            log: find(&LOG, overrides.log.as_ref())?,
        })
    }

    /// Resolves for this process: its environment, its effective uid, and whether it is in a container.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn of_this_process(overrides: &Overrides) -> Result<Self, PathError> {
        let euid = rustix::process::geteuid().as_raw();
        Self::resolve(overrides, &|name| std::env::var_os(name), euid, in_container())
    }

    /// Main configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.yaml")
    }

    /// Directory of the files merged over the main one.
    #[must_use]
    pub fn config_parts(&self) -> PathBuf {
        self.config.join("config.d")
    }

    /// Directory of the profiles.
    #[must_use]
    pub fn profiles(&self) -> PathBuf {
        self.config.join(PROFILES)
    }

    /// Every directory of profiles, strongest first.
    #[must_use]
    pub fn all_profiles(&self) -> Vec<PathBuf> {
        std::iter::once(self.profiles()).chain(self.shared_profiles.iter().cloned()).collect()
    }

    /// The file of a profile where it is: the strongest that there is, else where it would be made.
    #[must_use]
    pub fn existing_profile_file(&self, name: &Name) -> PathBuf {
        let files = self.all_profiles().into_iter().map(|dir| dir.join(format!("{name}.yaml")));
        files.into_iter().find(|file| file.exists()).unwrap_or_else(|| self.profile_file(name))
    }

    /// File of a profile in this configuration, which commands write.
    #[must_use]
    pub fn profile_file(&self, name: &Name) -> PathBuf {
        self.profiles().join(format!("{name}.yaml"))
    }

    /// Webhook endpoints: the encrypted file where there is one.
    #[must_use]
    pub fn webhooks_file(&self) -> PathBuf {
        let sealed = self.config.join("webhooks.yaml.age");
        if sealed.exists() { sealed } else { self.config.join("webhooks.yaml") }
    }

    /// Control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// PID file.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.runtime.join("daemon.pid")
    }

    /// Database of what was done to the kernel.
    #[must_use]
    pub fn state_db(&self) -> PathBuf {
        self.state.join("state.db")
    }

    /// Database of what was told and is to be told, and of the active profile.
    #[must_use]
    pub fn journal_db(&self) -> PathBuf {
        self.state.join("journal.db")
    }

    /// The emergency stop that is in force, if there is one.
    #[must_use]
    pub fn emergency_file(&self) -> PathBuf {
        self.state.join("emergency.json")
    }

    /// Log of a daemon that was started detached.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.log.join("daemon.log")
    }
}

impl Rule {
    /// The directory that somebody names.
    fn named(
        &self,
        flag: Option<&PathBuf>,
        env: &dyn Fn(&str) -> Option<OsString>,
        in_container: bool,
    ) -> Result<Option<PathBuf>, PathError> {
        if let Some(path) = flag {
            return absolute(self.flag, path.clone()).map(Some);
        }
        if let Some(path) = variable(env, self.variable) {
            return absolute(self.variable, path).map(Some);
        }
        if self.host_path
            && in_container
            && let Some(path) = variable(env, HOST_CONFIG)
        {
            return absolute(HOST_CONFIG, path).map(Some);
        }
        Ok(None)
    }

    fn find(
        &self,
        flag: Option<&PathBuf>,
        env: &dyn Fn(&str) -> Option<OsString>,
        euid: u32,
        in_container: bool,
    ) -> Result<PathBuf, PathError> {
        if let Some(path) = self.named(flag, env, in_container)? {
            return Ok(path);
        }
        let var = |name: &str| variable(env, name);
        if let Some(list) = var(self.systemd) {
            return absolute(self.systemd, first_of_list(&list));
        }
        if euid == 0 {
            return Ok(Path::new(self.root).join(PROGRAM));
        }
        let own = |base: &Path, rest: &str| {
            let own = base.join(PROGRAM);
            if rest.is_empty() { own } else { own.join(rest) }
        };
        // "All paths must be absolute; relative ones are to be ignored" (XDG Base Directory Specification).
        if let Some(base) = var(self.xdg.0).filter(|path| path.is_absolute()) {
            return Ok(own(&base, self.xdg.1));
        }
        let home = var("HOME").filter(|path| path.is_absolute());
        let home = home.ok_or(PathError::NoHome { what: self.what, variable: self.variable })?;
        Ok(own(&home.join(self.home.0), self.home.1))
    }
}

/// An empty variable counts as unset, as in the XDG specification.
fn variable(env: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    env(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn absolute(origin: &'static str, path: PathBuf) -> Result<PathBuf, PathError> {
    if path.is_absolute() { Ok(path) } else { Err(PathError::Relative { origin, path }) }
}

/// systemd separates several directories of a unit by colons; ours is the first.
fn first_of_list(list: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let bytes = list.as_os_str().as_bytes();
    let end = bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len());
    PathBuf::from(OsString::from_vec(bytes[..end].to_vec()))
}

/// Whether this process is in a container, if that matters.
fn in_container() -> bool {
    let matters = [HOST_CONFIG, HOST_PROC, HOST_CGROUP].iter().any(|name| std::env::var_os(name).is_some());
    matters && container::detect().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(vars: &[(&str, &str)], euid: u32, in_container: bool) -> Result<Dirs, PathError> {
        let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Dirs::resolve(&Overrides::default(), &env, euid, in_container)
    }

    #[test]
    fn defaults_of_root_and_of_a_user() {
        let dirs = resolve(&[], 0, false).unwrap();
        assert_eq!(dirs.config, Path::new("/etc/process-throttler"));
        assert_eq!(dirs.state_db(), Path::new("/var/lib/process-throttler/state.db"));
        assert_eq!(dirs.socket(), Path::new("/run/process-throttler/control.sock"));
        assert_eq!(dirs.log, Path::new("/var/log/process-throttler"));

        let dirs = resolve(&[("HOME", "/home/u")], 1000, false).unwrap();
        assert_eq!(dirs.config, Path::new("/home/u/.config/process-throttler"));
        assert_eq!(dirs.state, Path::new("/home/u/.local/state/process-throttler"));
        assert_eq!(dirs.runtime, Path::new("/home/u/.local/state/process-throttler/run"));
        assert_eq!(dirs.log, Path::new("/home/u/.local/state/process-throttler/log"));

        let xdg = [
            ("HOME", "/home/u"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_STATE_HOME", "/s"),
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
        ];
        let dirs = resolve(&xdg, 1000, false).unwrap();
        assert_eq!(dirs.config_file(), Path::new("/c/process-throttler/config.yaml"));
        assert_eq!(dirs.log, Path::new("/s/process-throttler/log"));
        assert_eq!(dirs.runtime, Path::new("/run/user/1000/process-throttler"));
    }

    #[test]
    fn users_build_upon_the_profiles_of_the_system_unless_they_name_a_directory() {
        let system = [PathBuf::from("/etc/process-throttler/profiles")];
        let home = ("HOME", "/home/u");
        let shared = |vars: &[(&str, &str)], euid| resolve(vars, euid, true).unwrap().shared_profiles;
        assert_eq!(shared(&[home], 1000), system);
        // systemd's own directory of a user's unit is the default one.
        assert_eq!(shared(&[home, ("CONFIGURATION_DIRECTORY", "/home/u/.config/x")], 1000), system);
        assert!(shared(&[home], 0).is_empty(), "root acts upon nothing that users keep");
        for named in [("PROCESS_THROTTLER_CONFIG_DIR", "/c"), ("PT_HOST_CONFIG_PATH", "/c")] {
            assert!(shared(&[home, named], 1000).is_empty(), "{named:?}");
        }
    }

    #[test]
    fn the_stronger_source_wins() {
        let mut vars = vec![("CONFIGURATION_DIRECTORY", "/sd:/other")];
        assert_eq!(resolve(&vars, 0, true).unwrap().config, Path::new("/sd"));
        vars.push(("PT_HOST_CONFIG_PATH", "/host"));
        assert_eq!(resolve(&vars, 0, false).unwrap().config, Path::new("/sd"), "not in a container");
        assert_eq!(resolve(&vars, 0, true).unwrap().config, Path::new("/host"));
        vars.push(("PROCESS_THROTTLER_CONFIG_DIR", "/own"));
        assert_eq!(resolve(&vars, 0, true).unwrap().config, Path::new("/own"));

        let overrides = Overrides { config: Some("/flag".into()), ..Overrides::default() };
        let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        assert_eq!(Dirs::resolve(&overrides, &env, 0, true).unwrap().config, Path::new("/flag"));
    }

    #[test]
    fn the_host_s_mounts_count_in_a_container_only() {
        let vars = [("PT_HOST_PROC_PATH", "/host/proc"), ("PT_HOST_CGROUP_PATH", "/host/cgroup")];
        assert_eq!(resolve(&vars, 0, false).unwrap().host, Mounts::default());
        let host = resolve(&vars, 0, true).unwrap().host;
        assert_eq!((host.proc, host.cgroup), (PathBuf::from("/host/proc"), PathBuf::from("/host/cgroup")));
        let refused = resolve(&[("PT_HOST_PROC_PATH", "proc")], 0, true).unwrap_err();
        assert_eq!(refused.to_string(), "PT_HOST_PROC_PATH: \"proc\" is not an absolute path");
    }

    #[test]
    fn relative_paths_and_a_missing_home_are_refused() {
        let refused = resolve(&[("PROCESS_THROTTLER_STATE_DIR", "state")], 0, false).unwrap_err();
        assert_eq!(refused.to_string(), "PROCESS_THROTTLER_STATE_DIR: \"state\" is not an absolute path");
        assert!(resolve(&[], 1000, false).unwrap_err().to_string().contains("HOME is not set"));
        // An empty variable is as good as none.
        assert!(resolve(&[("PROCESS_THROTTLER_STATE_DIR", "")], 0, false).is_ok());
    }
}
