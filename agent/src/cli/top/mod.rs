//! `top`: what runs, what is limited and what is critical, live on a terminal. Wires the terminal, the clock and the
//! data; what is shown is in [`screen`] and [`draw`], and whatever is done goes the way of the plain commands.

mod draw;
mod feed;
mod keyboard;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;

use super::error::{CliResult, usage};
use super::globals::Context;
use feed::Feed;
use keyboard::{Keyboard, Wake};
use screen::{Screen, Step};

const AFTER_HELP: &str = "\
Keys: arrows, page keys or j and k select; / filters by text; s changes the order; t limits the selected process, \
r releases its group, both after a question; ? tells the keys; q quits.";

/// Arguments of `top`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Top {
    /// Time between two looks, such as 2s; 200ms to 60s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
}

/// The time between two looks of a command that watches.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(200) || interval > Duration::from_secs(60) {
        return Err("must be from 200ms to 60s".to_owned());
    }
    Ok(interval)
}

impl Top {
    pub(super) fn run(self, context: &Context) -> CliResult {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            let hint = "for a program, use: process-throttler status --watch -o jsonl";
            return Err(usage("top needs a terminal on stdin and stdout").with_hint(hint).into());
        }
        let mut feed = Feed::new(context)?;
        let mut screen = Screen::new(feed.read()?);
        let mut keyboard = Keyboard::open()?;
        on_terminal(|terminal| show(terminal, &mut screen, &mut feed, &mut keyboard, self.interval))
    }
}

/// Has the terminal to itself, and gives it back whatever happens.
fn on_terminal(shown: impl FnOnce(&mut DefaultTerminal) -> CliResult) -> CliResult {
    // Also leaves a hook that gives the terminal back when something panics.
    let mut terminal = ratatui::try_init()?;
    let ended = shown(&mut terminal);
    // Before anything is said: the alternate screen would swallow it.
    let restored = ratatui::try_restore();
    ended?;
    Ok(restored?)
}

fn show(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    feed: &mut Feed<'_>,
    keyboard: &mut Keyboard,
    interval: Duration,
) -> CliResult {
    loop {
        terminal.draw(|frame| draw::draw(frame, screen))?;
        match keyboard.wait(interval)? {
            Wake::Ended => return Ok(()),
            Wake::Resized => {}
            Wake::Due => screen.update(feed.read()?),
            Wake::Keys(keys) => {
                for key in keys {
                    match screen.press(key) {
                        Step::Stay => {}
                        Step::Quit => return Ok(()),
                        Step::Do(order) => {
                            screen.say(feed.carry_out(&order));
                            screen.update(feed.read()?);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use integration_tests::terminal::Terminal;

    use super::*;

    /// Set for the process that panics: the terminal of whoever runs the tests is left alone.
    const INSIDE: &str = "PROCESS_THROTTLER_TEST_TOP_PANICS";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        if std::env::var_os(INSIDE).is_some() {
            on_terminal(|terminal| {
                terminal.draw(|frame| frame.render_widget("healthy", frame.area()))?;
                panic!("a defect")
            })
            .unwrap();
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([
            "--exact",
            "--nocapture",
            "cli::top::tests::a_panic_gives_the_terminal_back_before_it_is_told",
        ]);
        again.env(INSIDE, "1");
        let mut terminal = Terminal::start(&again, 24, 80).unwrap();
        assert!(!terminal.wait().unwrap().success());
        terminal.ensure_restored().unwrap();
        let printed = terminal.printed();
        let at = |text: &str| printed.find(text).unwrap_or_else(|| panic!("no {text:?} in {printed:?}"));
        assert!(at("healthy") < at("\x1b[?1049l") && at("\x1b[?1049l") < at("a defect"), "{printed:?}");
    }
}
