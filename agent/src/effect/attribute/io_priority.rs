//! I/O classes and priorities, ioprio_set(2): `none`, `best-effort/4`, `idle`, `real-time/0`.

use std::io;

use rustix::process::Pid;

use crate::sys;

/// Classes of linux/ioprio.h, by number.
const CLASSES: [&str; 4] = ["none", "real-time", "best-effort", "idle"];
const NONE: i32 = 0;
const IDLE: i32 = 3;
/// Where the class begins in a priority of linux/ioprio.h; below it are the level and hints.
const CLASS_SHIFT: i32 = 13;

/// Whether a value is of the real-time class, which is left alone: older kernels let nobody without
/// `CAP_SYS_ADMIN` set it again (ioprio_set(2)).
pub(super) fn is_real_time(value: &str) -> bool {
    value.starts_with("real-time")
}

pub(super) fn read(thread: Pid) -> io::Result<String> {
    let priority = sys::io_priority(thread)?;
    let (class, data) = (priority >> CLASS_SHIFT, priority & ((1 << CLASS_SHIFT) - 1));
    let name = usize::try_from(class).ok().and_then(|class| CLASSES.get(class));
    let Some(name) = name else { return Err(io::Error::other(format!("unknown I/O class {class}"))) };
    // Without a class there is no level, whatever stands there: older kernels show that of the default class.
    let has_data = class != NONE && !(class == IDLE && data == 0);
    Ok(if has_data { format!("{name}/{data}") } else { (*name).to_owned() })
}

pub(super) fn write(thread: Pid, value: &str) -> io::Result<()> {
    let (name, data) = value.split_once('/').unwrap_or((value, "0"));
    let class = (0i32..).zip(CLASSES).find(|(_, other)| *other == name).map(|(class, _)| class);
    let data = super::number(data).ok().filter(|data| (0..1 << CLASS_SHIFT).contains(data));
    let (class, data) = class.zip(data).ok_or_else(|| super::malformed(value))?;
    sys::set_io_priority(thread, class << CLASS_SHIFT | data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_there_and_back() {
        std::thread::spawn(|| {
            let own = rustix::thread::gettid();
            for value in ["none", "best-effort/0", "idle", "best-effort/7", "none"] {
                write(own, value).unwrap();
                assert_eq!(read(own).unwrap(), value);
            }
            for bad in ["", "best-effort/8192", "best-effort/x", "best"] {
                assert!(write(own, bad).is_err(), "{bad}");
            }
        })
        .join()
        .unwrap();
    }
}
