//! Waits for keys, signals and the next look, all at once, so that nothing is polled for.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::error::CliResult;
use crate::cli::globals::runtime;
use crate::clock;
use crate::model::time::Timestamp;

/// Why [`Keyboard::wait`] returned.
#[derive(Debug)]
pub(super) enum Wake {
    /// Keys were pressed.
    Keys(Vec<KeyEvent>),
    /// The terminal has another size.
    Resized,
    /// It is time for another look.
    Due,
    /// Somebody ends this process, or the terminal is gone.
    Ended,
}

/// The terminal's input, and the signals that concern it.
#[derive(Debug)]
pub(super) struct Keyboard {
    signals: UnixStream,
    due: Option<Timestamp>,
}

const ENDED: u8 = b'e';
const RESIZED: u8 = b'r';

impl Keyboard {
    /// From here on signals that would end this process are told instead.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(super) fn open() -> CliResult<Self> {
        let (signals, mut teller) = UnixStream::pair()?;
        let runtime = runtime()?;
        let entered = runtime.enter();
        let mut resized = signal(SignalKind::window_change())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        drop(entered);
        let tell = move || {
            runtime.block_on(async {
                loop {
                    let told = tokio::select! {
                        _ = resized.recv() => RESIZED,
                        _ = terminated.recv() => ENDED,
                        _ = hung_up.recv() => ENDED,
                        _ = interrupted.recv() => ENDED,
                    };
                    // Nobody listens any more: the command is over.
                    if teller.write_all(&[told]).is_err() {
                        return;
                    }
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(tell)?;
        Ok(Self { signals, due: None })
    }

    /// Waits; a look is due `interval` after the last one was.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub(super) fn wait(&mut self, interval: Duration) -> io::Result<Wake> {
        let due = *self.due.get_or_insert_with(|| clock::now().after(interval));
        loop {
            let left = due.since(clock::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let stdin = io::stdin();
            let mut ready = [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut ready, Some(&left)) {
                Ok(0) => {
                    self.due = None;
                    return Ok(Wake::Due);
                }
                Ok(_some) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [signals, keys] = ready.map(|ready| ready.revents());
            if !signals.is_empty() {
                let mut told = [ENDED];
                self.signals.read_exact(&mut told)?;
                return Ok(if told == [RESIZED] { Wake::Resized } else { Wake::Ended });
            }
            if keys.intersects(PollFlags::HUP | PollFlags::ERR) {
                return Ok(Wake::Ended);
            }
            return Ok(Wake::Keys(pressed()?));
        }
    }
}

/// The keys that lie ready.
fn pressed() -> io::Result<Vec<KeyEvent>> {
    let mut keys = Vec::new();
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            keys.push(key);
        }
    }
    Ok(keys)
}
