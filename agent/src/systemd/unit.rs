//! Units: found by what systemd says of a cgroup or a name, never by parsing a path.

use zbus::{OwnedObjectPath, OwnedVariant};

use crate::systemd::bus::{Bus, MANAGER, MANAGER_PATH};
use crate::systemd::error::SystemdError;

pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
const SCOPE: &str = "org.freedesktop.systemd1.Scope";
const SLICE: &str = "org.freedesktop.systemd1.Slice";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A unit, as systemd had it when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name, not an alias.
    pub id: String,
    /// Its cgroup below the hierarchy's root, with a leading `/`; empty while it has none.
    pub control_group: String,
    /// Whether it was made through D-Bus and has no file of its own.
    pub transient: bool,
    /// Whether what is below its cgroup is its own business (`Delegate=`).
    pub delegated: bool,
    /// `active`, `inactive`, `activating` and so on.
    pub active: String,
    /// `loaded`, `not-found` and so on.
    pub load: String,
    path: OwnedObjectPath,
}

/// What stopping a unit does to its processes (systemd.kill(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillMode {
    /// All of them are ended.
    All,
    /// The main one is ended, or none.
    NotAll,
}

/// How a service ends its processes, for a scope that is to end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Which ones.
    pub mode: KillMode,
    /// The process that systemd takes for the service itself; 0 when it knows none.
    pub main_pid: u32,
    /// The signal that asks them to end.
    pub signal: i32,
    /// How long they may take, in µs.
    pub patience_us: u64,
}

impl Unit {
    /// The unit that a cgroup belongs to: its own, or the nearest above it that is a unit's.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn of_cgroup(bus: &Bus, control_group: &str) -> Result<Option<Self>, SystemdError> {
        let what = || format!("ask for the unit of cgroup {control_group}");
        let body = (control_group.to_owned(),);
        match bus.call(what, MANAGER_PATH, MANAGER, "GetUnitByControlGroup", body) {
            Ok(reply) => Self::at(bus, &object(&reply, what)?).map(Some),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A unit by name, loaded if it is not.
    ///
    /// # Errors
    /// When systemd does not answer, or the name is not a unit's.
    pub fn load(bus: &Bus, name: &str) -> Result<Self, SystemdError> {
        let what = || format!("load unit {name}");
        let reply = bus.call(what, MANAGER_PATH, MANAGER, "LoadUnit", (name.to_owned(),))?;
        Self::at(bus, &object(&reply, what)?)
    }

    /// A unit by name, if it is loaded.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn loaded(bus: &Bus, name: &str) -> Result<Option<Self>, SystemdError> {
        let what = || format!("ask for unit {name}");
        match bus.call(what, MANAGER_PATH, MANAGER, "GetUnit", (name.to_owned(),)) {
            Ok(reply) => match Self::at(bus, &object(&reply, what)?) {
                Err(error) if error.is_gone() => Ok(None),
                unit => unit.map(Some),
            },
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn at(bus: &Bus, path: &OwnedObjectPath) -> Result<Self, SystemdError> {
        let text = |name| get_at::<String>(bus, path, path.as_str(), UNIT, name);
        let id = text("Id")?;
        let mut unit = Self {
            transient: get_at(bus, path, &id, UNIT, "Transient")?,
            active: text("ActiveState")?,
            load: text("LoadState")?,
            control_group: String::new(),
            delegated: false,
            path: path.clone(),
            id,
        };
        let interface = unit.interface();
        if interface != UNIT {
            unit.control_group = unit.get(bus, interface, "ControlGroup")?;
        }
        if interface == SERVICE || interface == SCOPE {
            unit.delegated = unit.get(bus, interface, "Delegate")?;
        }
        Ok(unit)
    }

    /// The interface of its type; that of all units for types without processes.
    #[must_use]
    pub fn interface(&self) -> &'static str {
        let kinds = [(".service", SERVICE), (".scope", SCOPE), (".slice", SLICE)];
        kinds.iter().find(|(suffix, _)| self.id.ends_with(suffix)).map_or(UNIT, |(_, interface)| interface)
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "activating")
    }

    /// How a service ends its processes; `None` for other units.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn ending(&self, bus: &Bus) -> Result<Option<Ending>, SystemdError> {
        if self.interface() != SERVICE {
            return Ok(None);
        }
        let mode: String = self.get(bus, SERVICE, "KillMode")?;
        let all = matches!(mode.as_str(), "control-group" | "mixed");
        Ok(Some(Ending {
            mode: if all { KillMode::All } else { KillMode::NotAll },
            main_pid: self.get(bus, SERVICE, "MainPID")?,
            signal: self.get(bus, SERVICE, "KillSignal")?,
            patience_us: self.get(bus, SERVICE, "TimeoutStopUSec")?,
        }))
    }

    /// Its description.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn description(&self, bus: &Bus) -> Result<String, SystemdError> {
        self.get(bus, UNIT, "Description")
    }

    /// Whether a start or a stop of it is under way.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn has_job(&self, bus: &Bus) -> Result<bool, SystemdError> {
        self.get::<(u32, OwnedObjectPath)>(bus, UNIT, "Job").map(|(id, _)| id != 0)
    }

    /// A property.
    ///
    /// # Errors
    /// When systemd does not answer, or with another type.
    pub(crate) fn get<T>(&self, bus: &Bus, interface: &str, name: &str) -> Result<T, SystemdError>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: std::fmt::Display,
    {
        get_at(bus, &self.path, &self.id, interface, name)
    }
}

fn get_at<T>(
    bus: &Bus,
    path: &OwnedObjectPath,
    unit: &str,
    interface: &str,
    name: &str,
) -> Result<T, SystemdError>
where
    T: TryFrom<OwnedVariant>,
    T::Error: std::fmt::Display,
{
    let what = || format!("read {name} of unit {unit}");
    let body = (interface.to_owned(), name.to_owned());
    let reply = bus.call(what, path.as_str(), PROPERTIES, "Get", body)?;
    let value = reply.body().deserialize::<OwnedVariant>().map_err(|error| malformed(what(), error))?;
    T::try_from(value).map_err(|error| malformed(what(), error))
}

fn object(reply: &zbus::Message, what: impl Fn() -> String) -> Result<OwnedObjectPath, SystemdError> {
    reply.body().deserialize().map_err(|error| malformed(what(), error))
}

fn malformed(what: String, error: impl std::fmt::Display) -> SystemdError {
    SystemdError::other(what, format!("the answer is not what systemd documents: {error}"))
}
