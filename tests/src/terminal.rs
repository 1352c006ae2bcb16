//! A terminal for programs that insist on one: a pseudoterminal, and what is on its screen.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::cgroup::complain;
use crate::clock::{SOON, wait_until};

/// A program on a terminal of its own. Killed on drop.
#[derive(Debug)]
pub struct Terminal {
    controller: File,
    /// Kept open, so that the terminal can still be looked at when the program has ended.
    peer: File,
    child: Child,
    rows: u16,
    columns: u16,
    printed: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts a program whose controlling terminal this is.
    ///
    /// # Errors
    /// When there is no pseudoterminal, or the program cannot be started.
    pub fn start(program: &Command, rows: u16, columns: u16) -> Result<Self> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("open a pseudoterminal")?;
        grantpt(&controller).context("grant the pseudoterminal")?;
        unlockpt(&controller).context("unlock the pseudoterminal")?;
        let name = ptsname(&controller, Vec::new()).context("name the pseudoterminal")?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let peer = File::from(rustix::fs::open(&name, flags, Mode::empty()).context("open the terminal")?);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&peer, size).context("size the terminal")?;
        // util-linux makes it the controlling terminal of a session of its own, and becomes the program.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let share = || peer.try_clone().context("share the terminal");
        command.env("TERM", "xterm").stdin(share()?).stdout(share()?).stderr(share()?);
        let child = command.spawn().context("start a program on a terminal")?;
        let controller = File::from(controller);
        let printed = Arc::new(Mutex::new(Vec::new()));
        let mut terminal = Self { controller, peer, child, rows, columns, printed, reader: None };
        terminal.reader = Some(terminal.read()?);
        Ok(terminal)
    }

    fn read(&self) -> Result<JoinHandle<()>> {
        let mut from = self.controller.try_clone().context("share the pseudoterminal")?;
        let printed = Arc::clone(&self.printed);
        Ok(std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            loop {
                match from.read(&mut bytes) {
                    Ok(0) => return,
                    Ok(count) => {
                        let new = bytes.get(..count).unwrap_or_default();
                        printed.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(new);
                    }
                    // tty_read(): so ends a terminal that nobody has open any more.
                    Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return,
                    Err(error) => return complain(&format!("read a pseudoterminal: {error}")),
                }
            }
        }))
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.controller.write_all(keys.as_bytes()).context("type")
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a pid fits an i32")?);
        kill(pid, signal).with_context(|| format!("send {signal}"))
    }

    /// Everything that was printed, escape sequences included.
    #[must_use]
    pub fn printed(&self) -> String {
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&printed).into_owned()
    }

    /// The lines of the screen.
    #[must_use]
    pub fn screen(&self) -> Vec<String> {
        drawn(&self.printed(), self.rows.into(), self.columns.into())
    }

    /// Waits until a line of the screen holds all of these texts.
    ///
    /// # Errors
    /// With the screen, when none does.
    pub fn wait_for(&self, texts: &[&str]) -> Result<()> {
        let shown = || self.screen().iter().any(|line| texts.iter().all(|text| line.contains(text)));
        wait_until(&format!("a line with {texts:?}"), SOON, || Ok(shown()))
            .with_context(|| format!("the screen is\n{}", self.screen().join("\n")))
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// With the screen, when it does not end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        let ended = wait_until("the program on the terminal ends", SOON, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        });
        ended.with_context(|| format!("the screen is\n{}", self.screen().join("\n")))?;
        status.context("it ended without a status")
    }

    /// Checks that the program has given the terminal back: what is typed is shown and edited in lines again, the screen
    /// is the one from before, and the cursor is seen.
    ///
    /// # Errors
    /// When one of these is not so.
    pub fn ensure_restored(&self) -> Result<()> {
        let modes = tcgetattr(self.peer.as_fd()).context("look at the terminal")?.local_modes;
        ensure!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "raw: {modes:?}");
        for (on, off, what) in [
            ("\x1b[?1049h", "\x1b[?1049l", "the screen from before"),
            ("\x1b[?25l", "\x1b[?25h", "the cursor"),
        ] {
            // The terminal's reader may be behind the program.
            wait_until(what, SOON, || {
                let printed = self.printed();
                Ok(printed.rfind(off) > printed.rfind(on))
            })
            .with_context(|| format!("{:?}", self.printed()))?;
        }
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A child that was reaped already is not signalled: std knows its status.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            complain(&format!("a program on a terminal is left behind: {error}"));
        }
    }
}

/// What is on a screen after all of this was printed: ECMA-48 cursor positions, erasure of the page and text; what else
/// there is changes no text.
fn drawn(printed: &str, rows: usize, columns: usize) -> Vec<String> {
    let mut screen = vec![vec![' '; columns]; rows];
    let (mut row, mut column) = (0, 0);
    let mut rest = printed.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' if rest.next_if_eq(&'[').is_some() => {
                let mut parameters = String::new();
                while let Some(c) = rest.next_if(|c| matches!(c, '0'..='?')) {
                    parameters.push(c);
                }
                match rest.next() {
                    Some('H') => {
                        let mut numbers = parameters.split(';').map(|text| text.parse().unwrap_or(1).max(1));
                        row = numbers.next().unwrap_or(1) - 1;
                        column = numbers.next().unwrap_or(1) - 1;
                    }
                    Some('J') => screen.iter_mut().for_each(|line| line.fill(' ')),
                    Some(_) | None => {}
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            c if c.is_control() => {}
            c => {
                if let Some(cell) = screen.get_mut(row).and_then(|line| line.get_mut(column)) {
                    *cell = c;
                }
                column += 1;
            }
        }
    }
    screen.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_where_the_cursor_was() {
        let printed = "gone\x1b[2J\x1b[2;3Hab\x1b[1m\x1b[38;5;9mc\x1b[1;1Hx\r\ny\x1b[9;9Hz";
        assert_eq!(drawn(printed, 3, 6), ["x", "y abc", ""]);
    }

    #[test]
    fn a_program_sees_its_terminal_and_what_is_typed() {
        let mut command = Command::new("sh");
        command.args(["-c", "stty size </dev/tty; read line; echo \"got $line\"; exit 3"]);
        let mut terminal = Terminal::start(&command, 24, 80).unwrap();
        terminal.wait_for(&["24 80"]).unwrap();
        terminal.press("word\n").unwrap();
        terminal.wait_for(&["got word"]).unwrap();
        assert_eq!(terminal.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn a_terminal_that_is_left_raw_is_noticed() {
        let mut command = Command::new("sh");
        command.args(["-c", "stty raw -echo; printf '\\033[?1049h\\033[?1049l\\033[?25l\\033[?25h'"]);
        let mut terminal = Terminal::start(&command, 24, 80).unwrap();
        terminal.wait().unwrap();
        assert!(terminal.ensure_restored().unwrap_err().to_string().contains("raw"));
    }
}
