//! Units of ours: slices that carry limits, and scopes that carry processes. Made and stopped by systemd.

use std::time::Duration;

use zbus::{OwnedObjectPath, Variant};

use crate::clock;
use crate::systemd::bus::{Bus, MANAGER, MANAGER_PATH};
use crate::systemd::error::SystemdError;
use crate::systemd::name::{self, DESCRIPTION};
use crate::systemd::unit::{Ending, Unit};

/// A scope to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// The slice that it is in.
    pub slice: String,
    /// For people.
    pub description: String,
    /// The processes that systemd moves into it.
    pub pids: Vec<u32>,
    /// The service with which it ends, and how that one ends its processes.
    pub bound_to: Option<(String, Ending)>,
}

pub(super) type Properties = Vec<(&'static str, Variant<'static>)>;

/// Makes a slice without limits and waits until it is there. One that is there already stays as it is.
///
/// # Errors
/// When systemd refuses.
pub fn make_slice(bus: &Bus, name: &str, description: &str) -> Result<Unit, SystemdError> {
    if let Some(unit) = Unit::loaded(bus, name)?.filter(Unit::is_active) {
        return Ok(unit);
    }
    let properties = vec![("Description", Variant::from(format!("{DESCRIPTION}{description}")))];
    start(bus, name, "fail", properties)
}

/// Makes a scope and waits until its processes are in it. One that is bound to a service gets a follower.
///
/// # Errors
/// When systemd refuses, such as when none of the processes is left.
pub fn make_scope(bus: &Bus, scope: &Scope) -> Result<Unit, SystemdError> {
    let unit = make_scope_alone(bus, scope)?;
    let Some((service, _)) = &scope.bound_to else { return Ok(unit) };
    match make_follower(bus, &scope.name, service) {
        // Whoever was in the scope may have ended meanwhile, and the scope with them.
        Err(error) if Unit::loaded(bus, &scope.name)?.is_some_and(|scope| scope.is_active()) => Err(error),
        Ok(_) | Err(_) => Ok(unit),
    }
}

/// Makes a service without a process that stops a scope when another service is restarted. systemd passes a
/// stop on to what is bound to a unit, but a restart only to what can be started again, and a scope cannot.
fn make_follower(bus: &Bus, scope: &str, service: &str) -> Result<Unit, SystemdError> {
    const SYSTEMCTL: &str = "/usr/bin/systemctl";
    let arguments = ["systemctl", "--no-block", "stop", scope].map(str::to_owned).to_vec();
    let properties = vec![
        ("Description", Variant::from(format!("{DESCRIPTION}ends {scope} with {service}"))),
        ("Type", Variant::from("oneshot")),
        ("RemainAfterExit", Variant::from(true)),
        ("ExecStop", Variant::from(vec![(SYSTEMCTL.to_owned(), arguments, true)])),
        ("PartOf", Variant::from(vec![service.to_owned()])),
        ("BindsTo", Variant::from(vec![scope.to_owned()])),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ];
    start(bus, &name::follower(scope), "ignore-requirements", properties)
}

fn make_scope_alone(bus: &Bus, scope: &Scope) -> Result<Unit, SystemdError> {
    let mut properties = vec![
        ("Description", Variant::from(format!("{DESCRIPTION}{}", scope.description))),
        ("Slice", Variant::from(scope.slice.clone())),
        ("PIDs", Variant::from(scope.pids.clone())),
    ];
    if let Some((service, ending)) = &scope.bound_to {
        properties.push(("BindsTo", Variant::from(vec![service.clone()])));
        properties.push(("KillSignal", Variant::from(ending.signal)));
        properties.push(("TimeoutStopUSec", Variant::from(ending.patience_us)));
    }
    // BindsTo= also requires: in another mode a service that stops just now would be started again.
    start(bus, &scope.name, "ignore-requirements", properties)
}

/// Has systemd begin to start a transient unit.
pub(super) fn begin(bus: &Bus, name: &str, mode: &str, properties: Properties) -> Result<(), SystemdError> {
    let what = || format!("start transient unit {name}");
    let aux: Vec<(String, Properties)> = Vec::new();
    let body = (name.to_owned(), mode.to_owned(), properties, aux);
    bus.call(what, MANAGER_PATH, MANAGER, "StartTransientUnit", body).map(drop)
}

fn start(bus: &Bus, name: &str, mode: &str, properties: Properties) -> Result<Unit, SystemdError> {
    let what = || format!("start transient unit {name}");
    begin(bus, name, mode, properties)?;
    let started = settle(bus, name, what)?;
    started.filter(|unit| unit.active == "active").ok_or_else(|| {
        SystemdError::other(
            what(),
            "it did not become active: its processes may be gone, or its slice or service stopped",
        )
    })
}

/// Stops a unit and waits until it is stopped. **Ends whatever is in it**: the caller has made sure that nothing
/// is.
///
/// # Errors
/// When systemd refuses, or takes too long.
pub fn stop(bus: &Bus, name: &str) -> Result<(), SystemdError> {
    let what = || format!("stop unit {name}");
    let body = (name.to_owned(), "replace".to_owned());
    match bus.call(what, MANAGER_PATH, MANAGER, "StopUnit", body) {
        Ok(reply) => drop(reply.body().deserialize::<OwnedObjectPath>()),
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => return Err(error),
    }
    match settle(bus, name, what)? {
        Some(unit) if unit.is_active() => {
            Err(SystemdError::other(what(), format!("it is {} afterwards", unit.active)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Waits until nothing is under way for a unit; `None` when it is gone then.
fn settle(bus: &Bus, name: &str, what: impl Fn() -> String) -> Result<Option<Unit>, SystemdError> {
    settle_within(bus, name, bus.patience(), what)
}

/// As [`settle`], for what may take longer than an answer.
pub(super) fn settle_within(
    bus: &Bus,
    name: &str,
    patience: Duration,
    what: impl Fn() -> String,
) -> Result<Option<Unit>, SystemdError> {
    const FIRST: Duration = Duration::from_micros(500);
    const LONGEST: Duration = Duration::from_millis(20);
    let end = clock::now().after(patience);
    let mut pause = FIRST;
    loop {
        let Some(unit) = Unit::loaded(bus, name)? else { return Ok(None) };
        let busy = match unit.has_job(bus) {
            Ok(busy) => busy,
            Err(error) if error.is_gone() => return Ok(None),
            Err(error) => return Err(error),
        };
        if !busy {
            return Unit::loaded(bus, name);
        }
        if clock::now() > end {
            return Err(SystemdError::Late { operation: what(), waited: patience });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}
