//! A program ends with 0. It is run as the stated user, and whatever it has started is killed when it ends or when
//! its time is up.
//!
//! Where systemd runs the host it runs the program too, as a service: outside of the agent's own confinement, which
//! would break many a program, and without capabilities that the agent would need otherwise.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe::{OpenOptions, Receiver};

use super::{Fault, Prober, unhurried};
use crate::effect::program::{Excerpt, Ran, run_to_end};
use crate::model::chain::chain;
use crate::model::critical::Program;
use crate::model::id::Name;
use crate::systemd::service::{self, Ended};
use crate::systemd::{Bus, name};

/// Longer than systemd takes to kill a service, and to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

impl Prober {
    pub(super) async fn run(&self, name: &Name, program: &Program, timeout: Duration) -> Result<(), Fault> {
        match &self.systemd {
            Some(bus) => self.as_service(bus.clone(), name, program, timeout).await,
            None => match run_to_end(program, timeout).await {
                Ran::Ended { status, .. } if status.success() => Ok(()),
                Ran::Ended { status, output } => {
                    Err(Fault::Theirs(output.after(&format!("it ended with {status}"))))
                }
                Ran::TimedOut { output } => {
                    let late = format!("it took longer than {timeout:?} and was killed");
                    Err(Fault::Theirs(output.after(&late)))
                }
                Ran::NotStarted { error } => Err(Fault::Ours(error)),
            },
        }
    }

    async fn as_service(
        &self,
        bus: Bus,
        name: &Name,
        program: &Program,
        timeout: Duration,
    ) -> Result<(), Fault> {
        let unit = name::check(name);
        let fifo = Fifo::make(self.runtime.join(format!("check:{name}.out")))?;
        let mut under_way = UnderWay { bus: bus.clone(), unit: unit.clone(), ended: false };
        let (program, path, why) = (program.clone(), fifo.path.clone(), format!("checks {name}"));
        let ran =
            unhurried(&self.blocking, move || service::run(&bus, &unit, &why, &program, &path, timeout));
        let ran = tokio::time::timeout(timeout.saturating_add(ANSWERS_WITHIN), ran);
        let mut excerpt = Excerpt::default();
        let ran = {
            let mut ran = std::pin::pin!(ran);
            loop {
                tokio::select! {
                    ran = &mut ran => break ran,
                    () = excerpt.fill(&fifo.reader) => {}
                }
            }
        };
        excerpt.drain(&fifo.reader);
        let ran =
            ran.map_err(|_elapsed| Fault::Ours("systemd does not come to an end with it".to_owned()))?;
        under_way.ended = true;
        match ran? {
            Ok(Ended::Well) => Ok(()),
            Ok(Ended::Badly(how)) => Err(Fault::Theirs(excerpt.after(&how))),
            Ok(Ended::NotStarted(why)) => Err(Fault::Ours(why)),
            Err(error) => Err(Fault::Ours(chain(&error))),
        }
    }
}

/// A check that systemd runs, ended when nobody waits for it any more: the agent stops.
struct UnderWay {
    bus: Bus,
    unit: String,
    ended: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = service::discard(&self.bus, &self.unit)
        {
            tracing::warn!("a health check goes on without the agent: {}", chain(&error));
        }
    }
}

/// A FIFO that systemd opens for a service.
struct Fifo {
    path: std::path::PathBuf,
    reader: Receiver,
}

impl Fifo {
    fn make(path: std::path::PathBuf) -> Result<Self, Fault> {
        let failed = |what: &str, error: std::io::Error| {
            Fault::Ours(format!("{what} {}: {error}", Path::display(&path)))
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove", error));
            }
            Ok(()) | Err(_) => {}
        }
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|error| failed("make", error.into()))?;
        // Also open for writing, so that it does not end between two writers.
        match OpenOptions::new().read_write(true).open_receiver(&path) {
            Ok(reader) => Ok(Self { reader, path }),
            Err(error) => Err(failed("open", error)),
        }
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a FIFO");
        }
    }
}
