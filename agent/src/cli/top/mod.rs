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
        // Also leaves a hook that gives the terminal back when something panics.
        let mut terminal = ratatui::try_init()?;
        let ended = show(&mut terminal, &mut screen, &mut feed, &mut keyboard, self.interval);
        // Before anything is said: the alternate screen would swallow it.
        ratatui::try_restore()?;
        ended
    }
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
