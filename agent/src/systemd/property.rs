//! Limits as properties of a unit: which property holds which limit, and its values as text, exactly.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use zbus::Variant;

use crate::cgroup::{Part, Setting};
use crate::model::limits::Limits;
use crate::systemd::bus::{Bus, MANAGER, MANAGER_PATH};
use crate::systemd::error::SystemdError;
use crate::systemd::unit::Unit;

/// A property of a unit that limits it (org.freedesktop.systemd1(5), systemd.resource-control(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// CPU time per second of time, in µs.
    CpuQuota,
    /// Share of CPU time.
    CpuWeight,
    /// Bytes that reclaim spares while there are others to take.
    MemoryLow,
    /// Bytes above which the unit is reclaimed and slowed.
    MemoryHigh,
    /// Bytes above which the OOM killer acts.
    MemoryMax,
    /// Processes and threads.
    Tasks,
    /// Share of I/O.
    IoWeight,
    /// Bytes read per second, by device.
    IoRead,
    /// Bytes written per second, by device.
    IoWrite,
}

impl Property {
    const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::CpuQuota, "cpu", "CPUQuotaPerSecUSec"),
        (Self::CpuWeight, "cpu_weight", "CPUWeight"),
        (Self::MemoryLow, "memory_low", "MemoryLow"),
        (Self::MemoryHigh, "memory_high", "MemoryHigh"),
        (Self::MemoryMax, "memory_max", "MemoryMax"),
        (Self::Tasks, "pids", "TasksMax"),
        (Self::IoWeight, "io_weight", "IOWeight"),
        (Self::IoRead, "io_read", "IOReadBandwidthMax"),
        (Self::IoWrite, "io_write", "IOWriteBandwidthMax"),
    ];

    /// Its name on D-Bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(one, _, _)| *one == self).map_or("", |(_, _, name)| name)
    }

    /// The limit that it holds, by its key in a profile.
    #[must_use]
    pub fn limit(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(one, _, _)| *one == self).map(|(_, limit, _)| *limit)
    }

    /// The setting of a unit file that holds it, after which systemd names the drop-in.
    #[must_use]
    pub fn setting(self) -> &'static str {
        if self == Self::CpuQuota { "CPUQuota" } else { self.name() }
    }

    /// By its name on D-Bus.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, _, one)| *one == name).map(|(property, _, _)| *property)
    }

    fn of_limit(limit: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, one, _)| *one == limit).map(|(property, _, _)| *property)
    }

    const fn by_device(self) -> bool {
        matches!(self, Self::IoRead | Self::IoWrite)
    }

    /// The value of a unit now.
    ///
    /// # Errors
    /// When systemd does not tell it.
    pub fn read(self, bus: &Bus, unit: &Unit) -> Result<Value, SystemdError> {
        if self.by_device() {
            unit.get::<Vec<(String, u64)>>(bus, unit.interface(), self.name()).map(Value::by_device)
        } else {
            unit.get::<u64>(bus, unit.interface(), self.name()).map(Value::Number)
        }
    }
}

/// A value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number; `u64::MAX` is what systemd calls `infinity` or leaves unset.
    Number(u64),
    /// A number for each device, in the order of their paths.
    Devices(Vec<(String, u64)>),
}

/// How the greatest number is written.
const INFINITY: &str = "infinity";

impl Value {
    fn by_device(mut pairs: Vec<(String, u64)>) -> Self {
        pairs.sort();
        Self::Devices(pairs)
    }

    /// As text: `infinity`, a decimal number, or a JSON array of pairs. Stored in intents, so the forms never
    /// change.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Number(u64::MAX) => INFINITY.to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Devices(pairs) => serde_json::to_string(pairs).unwrap_or_default(),
        }
    }

    /// From [`Self::to_text`]'s text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == INFINITY {
            return Some(Self::Number(u64::MAX));
        }
        if let Ok(number) = text.parse() {
            return Some(Self::Number(number));
        }
        serde_json::from_str(text).ok().map(Self::by_device)
    }

    /// What to send. Entries of a list are merged into what is there, so the list is emptied before.
    fn variants(&self) -> Vec<Variant<'static>> {
        match self {
            Self::Number(number) => vec![Variant::from(*number)],
            Self::Devices(pairs) => {
                let list = |pairs: Vec<(String, u64)>| Variant::from(pairs);
                if pairs.is_empty() {
                    vec![list(Vec::new())]
                } else {
                    vec![list(Vec::new()), list(pairs.clone())]
                }
            }
        }
    }
}

/// What limits ask of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This value.
    Value(u64),
    /// This value for each of these devices (`MAJ:MIN`), others as they are.
    Devices(Vec<String>, u64),
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(number) => write!(f, "{number}"),
            Self::Devices(devices, bytes) => write!(f, "{bytes} for {}", devices.join(" ")),
        }
    }
}

impl Wanted {
    /// The whole value, given the present one.
    #[must_use]
    pub fn over(&self, present: &Value) -> Value {
        match (self, present) {
            (Self::Value(number), _) => Value::Number(*number),
            (Self::Devices(devices, bytes), present) => {
                let mut pairs = match present {
                    Value::Devices(pairs) => pairs.clone(),
                    Value::Number(_) => Vec::new(),
                };
                for device in devices {
                    match pairs.iter_mut().find(|(path, _)| device_of(path).as_ref() == Some(device)) {
                        Some((_, present)) => *present = *bytes,
                        None => pairs.push((format!("{BLOCK}{device}"), *bytes)),
                    }
                }
                Value::by_device(pairs)
            }
        }
    }
}

/// Where udev keeps block devices by their numbers.
const BLOCK: &str = "/dev/block/";

/// `MAJ:MIN` of a device node.
fn device_of(path: &str) -> Option<String> {
    if let Some(number) = path.strip_prefix(BLOCK) {
        return Some(number.to_owned());
    }
    let node = std::fs::metadata(path).ok().filter(|node| node.file_type().is_block_device())?;
    Some(format!("{}:{}", rustix::fs::major(node.rdev()), rustix::fs::minor(node.rdev())))
}

/// The properties that hold these limits. `settings` are the same limits as the cgroup driver has them: from
/// there come the devices.
#[must_use]
pub fn wanted(limits: &Limits, settings: &[Setting]) -> Vec<(Property, Wanted)> {
    let mut all: Vec<(Property, Wanted)> = Vec::new();
    for setting in settings {
        let Some(property) = Property::of_limit(setting.limit) else { continue };
        let Some(number) = number(property, limits) else { continue };
        if !property.by_device() {
            all.push((property, Wanted::Value(number)));
            continue;
        }
        let device = setting.choices.first().and_then(|choice| match &choice.part {
            Part::Device(device) | Part::DeviceKey(device, _) => Some(device.clone()),
            Part::Whole | Part::Default => None,
        });
        match all.iter_mut().find(|(one, _)| *one == property) {
            Some((_, Wanted::Devices(devices, _))) => devices.extend(device),
            Some(_) | None => all.push((property, Wanted::Devices(device.into_iter().collect(), number))),
        }
    }
    all.sort_by_key(|(property, _)| *property);
    all.dedup();
    all
}

fn number(property: Property, limits: &Limits) -> Option<u64> {
    /// Thousandths of a percent of a CPU to µs of each second: 100 % is a whole second.
    const USEC_PER_MILLI: u64 = 10;
    match property {
        Property::CpuQuota => limits.cpu.map(|cpu| cpu.millis().saturating_mul(USEC_PER_MILLI)),
        Property::CpuWeight => limits.cpu_weight.map(|weight| weight.get().into()),
        Property::MemoryLow => limits.memory_low.map(|bytes| bytes.get()),
        Property::MemoryHigh => limits.memory_high.map(|bytes| bytes.get()),
        Property::MemoryMax => limits.memory_max.map(|bytes| bytes.get()),
        Property::Tasks => limits.pids.map(u64::from),
        Property::IoWeight => limits.io_weight.map(|weight| weight.get().into()),
        Property::IoRead => limits.io_read.map(|bytes| bytes.get()),
        Property::IoWrite => limits.io_write.map(|bytes| bytes.get()),
    }
}

/// Sets properties of a unit until the next boot, all of them or none, and reads them back.
///
/// # Errors
/// When systemd refuses, or shows another value afterwards.
pub fn set(bus: &Bus, unit: &Unit, values: &[(Property, Value)]) -> Result<(), SystemdError> {
    if values.is_empty() {
        return Ok(());
    }
    let pairs: Vec<(&'static str, Variant<'static>)> = values
        .iter()
        .flat_map(|(property, value)| value.variants().into_iter().map(|one| (property.name(), one)))
        .collect();
    let what = || {
        let one = |(property, value): &(Property, Value)| format!("{}={}", property.name(), value.to_text());
        let all: Vec<String> = values.iter().map(one).collect();
        format!("set {} of unit {}", all.join(" "), unit.id)
    };
    bus.call(what, MANAGER_PATH, MANAGER, "SetUnitProperties", (unit.id.clone(), true, pairs))?;
    for (property, value) in values {
        let read = property.read(bus, unit)?;
        if read != *value {
            let operation = format!("set {} of unit {} to {}", property.name(), unit.id, value.to_text());
            return Err(SystemdError::other(operation, format!("it reads {} afterwards", read.to_text())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_as_text() {
        let list = vec![("/dev/sda".to_owned(), 5), ("/dev/a b".to_owned(), u64::MAX)];
        for value in
            [Value::Number(0), Value::Number(u64::MAX), Value::Number(200_000), Value::by_device(list)]
        {
            assert_eq!(Value::parse(&value.to_text()), Some(value));
        }
        assert_eq!(Value::Number(u64::MAX).to_text(), "infinity");
        assert_eq!(Value::parse(""), None);
        assert_eq!(Value::parse("12 34"), None);
    }

    #[test]
    fn devices_of_others_stay() {
        let wanted = Wanted::Devices(vec!["8:0".to_owned()], 7);
        let present =
            Value::by_device(vec![("/dev/block/8:16".to_owned(), 1), ("/dev/block/8:0".to_owned(), 2)]);
        let expected = vec![("/dev/block/8:0".to_owned(), 7), ("/dev/block/8:16".to_owned(), 1)];
        assert_eq!(wanted.over(&present), Value::Devices(expected));
        let alone = wanted.over(&Value::Devices(Vec::new()));
        assert_eq!(alone, Value::Devices(vec![("/dev/block/8:0".to_owned(), 7)]));
    }

    #[test]
    fn limits_become_properties() {
        let limits = Limits {
            cpu: "30%".parse().ok(),
            memory_max: "64M".parse().ok(),
            pids: Some(9),
            io_read: "1M".parse().ok(),
            ..Limits::default()
        };
        let setting = |limit, part| Setting {
            limit,
            controller: crate::cgroup::Controller::Cpu,
            choices: vec![crate::cgroup::Choice { file: "", part, value: String::new() }],
        };
        let key = |device: &str| Part::DeviceKey(device.to_owned(), "rbps".to_owned());
        let settings = [
            setting("cpu", Part::Whole),
            setting("memory_max", Part::Whole),
            setting("pids", Part::Whole),
            setting("io_read", key("8:0")),
            setting("io_read", key("8:16")),
        ];
        let expected = [
            (Property::CpuQuota, Wanted::Value(300_000)),
            (Property::MemoryMax, Wanted::Value(64 << 20)),
            (Property::Tasks, Wanted::Value(9)),
            (Property::IoRead, Wanted::Devices(vec!["8:0".to_owned(), "8:16".to_owned()], 1 << 20)),
        ];
        assert_eq!(wanted(&limits, &settings), expected);
        for (property, _) in expected {
            assert_eq!(Property::parse(property.name()), Some(property));
        }
    }
}
