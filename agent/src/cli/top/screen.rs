//! The state of `top`: what is shown of the data, what is selected, what is being asked. Keys go in, orders come out;
//! no terminal, no clock and no I/O.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::control::proto::{CriticalStatus, DaemonStatus, GroupStatus};
use crate::model::id::{Name, ProcKey};
use crate::model::process::{Comm, printable};
use crate::model::unit::CpuPercent;
use crate::procfs::listing::Row;

/// Rows that a page key goes.
const PAGE: usize = 10;
/// Longest text that is typed, in characters.
const TYPED_MAX: usize = 64;
/// The cap that is offered first.
const OFFERED: &str = "30%";

/// One look at the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    /// The processes.
    pub rows: Vec<Row>,
    /// What is limited.
    pub groups: Vec<GroupStatus>,
    /// For how much of the time since the look before each group was held back, in percent.
    pub held: BTreeMap<Name, f64>,
    /// The daemon, when one runs.
    pub daemon: Option<DaemonStatus>,
    /// The critical processes of the active profile.
    pub critical: Vec<CriticalStatus>,
    /// Why something is missing.
    pub trouble: Option<String>,
}

/// Order of the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// Most CPU use first.
    #[default]
    Cpu,
    /// Largest resident set first.
    Memory,
    /// Lowest pid first.
    Pid,
    /// By name.
    Name,
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Cpu => Self::Memory,
            Self::Memory => Self::Pid,
            Self::Pid => Self::Name,
            Self::Name => Self::Cpu,
        }
    }

    /// In a word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Pid => "pid",
            Self::Name => "name",
        }
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Limit a process.
    Limit {
        /// It.
        process: ProcKey,
        /// Its name, for the question.
        comm: Comm,
        /// Its cap.
        cpu: CpuPercent,
    },
    /// Release a group.
    Release {
        /// It.
        group: Name,
    },
}

impl Order {
    /// The question before it is carried out.
    pub(super) fn question(&self) -> String {
        match self {
            Self::Limit { process, comm, cpu } => {
                format!("Limit process {} ({comm}) to {cpu} of a CPU? [y/N]", process.pid)
            }
            Self::Release { group } => format!("Release group {group}? [y/N]"),
        }
    }
}

/// What the keys are for just now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Selecting.
    #[default]
    Browse,
    /// The filter is typed.
    Filter,
    /// A cap for a process is typed.
    Cap {
        /// The process.
        process: ProcKey,
        /// Its name.
        comm: Comm,
        /// What was typed.
        text: String,
    },
    /// A question stands.
    Ask(Order),
    /// The keys are told.
    Help,
}

/// What follows from a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// It ends.
    Quit,
    /// This is to be done.
    Do(Order),
}

/// Everything that is shown.
#[derive(Debug, Default)]
pub(super) struct Screen {
    data: Data,
    groups: BTreeMap<ProcKey, Name>,
    shown: Vec<usize>,
    selected: Option<ProcKey>,
    sort: Sort,
    filter: String,
    mode: Mode,
    said: Option<String>,
}

impl Screen {
    /// Shows a first look.
    pub(super) fn new(data: Data) -> Self {
        let mut screen = Self::default();
        screen.update(data);
        screen
    }

    /// Shows another look; the selection stays with its process.
    pub(super) fn update(&mut self, data: Data) {
        let member = |group: &GroupStatus| {
            group.members.iter().map(|member| (member.key, group.group.clone())).collect::<Vec<_>>()
        };
        self.groups = data.groups.iter().flat_map(member).collect();
        self.data = data;
        self.arrange();
    }

    /// Tells how something ended, until the next key.
    pub(super) fn say(&mut self, text: String) {
        self.said = Some(text);
    }

    /// What is shown.
    pub(super) const fn data(&self) -> &Data {
        &self.data
    }

    /// The processes in their order, each with its group.
    pub(super) fn processes(&self) -> impl Iterator<Item = (&Row, Option<&Name>)> {
        self.shown
            .iter()
            .filter_map(|&index| self.data.rows.get(index))
            .map(|row| (row, self.groups.get(&row.key)))
    }

    /// Position of the selected one.
    pub(super) fn position(&self) -> Option<usize> {
        let selected = self.selected?;
        self.processes().position(|(row, _)| row.key == selected)
    }

    /// Order of the processes.
    pub(super) const fn sort(&self) -> Sort {
        self.sort
    }

    /// The text that processes are filtered by.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// What the keys are for.
    pub(super) const fn mode(&self) -> &Mode {
        &self.mode
    }

    /// How the last order ended.
    pub(super) fn said(&self) -> Option<&str> {
        self.said.as_deref()
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Step {
        // In raw mode this is a key like others.
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Step::Quit;
        }
        self.said = None;
        match std::mem::take(&mut self.mode) {
            Mode::Browse => return self.browse(key.code),
            Mode::Help => {}
            Mode::Filter => self.type_filter(key.code),
            Mode::Cap { process, comm, text } => self.type_cap(process, comm, text, key.code),
            Mode::Ask(order) => {
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    return Step::Do(order);
                }
                self.say("not confirmed, nothing was done".to_owned());
            }
        }
        Step::Stay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing")]
    fn browse(&mut self, key: KeyCode) -> Step {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Step::Quit,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.arrange();
            }
            KeyCode::Char('t') => self.ask_for_cap(),
            KeyCode::Char('r') => self.ask_to_release(),
            KeyCode::Down | KeyCode::Char('j') => self.go(|at| at.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.go(|at| at.saturating_sub(1)),
            KeyCode::PageDown => self.go(|at| at.saturating_add(PAGE)),
            KeyCode::PageUp => self.go(|at| at.saturating_sub(PAGE)),
            KeyCode::Home | KeyCode::Char('g') => self.go(|_| 0),
            KeyCode::End | KeyCode::Char('G') => self.go(|_| usize::MAX),
            _ => {}
        }
        Step::Stay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys are text")]
    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter.clear();
                return self.arrange();
            }
            _ => edit(&mut self.filter, key),
        }
        self.mode = Mode::Filter;
        self.arrange();
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys are text")]
    fn type_cap(&mut self, process: ProcKey, comm: Comm, mut text: String, key: KeyCode) {
        match key {
            KeyCode::Esc => {}
            KeyCode::Enter => match text.parse::<CpuPercent>() {
                Ok(cpu) => self.mode = Mode::Ask(Order::Limit { process, comm, cpu }),
                Err(error) => {
                    self.say(format!("{text:?}: {error}"));
                    self.mode = Mode::Cap { process, comm, text };
                }
            },
            _ => {
                edit(&mut text, key);
                self.mode = Mode::Cap { process, comm, text };
            }
        }
    }

    fn ask_for_cap(&mut self) {
        let Some(row) = self.selected_row() else { return self.say("no process is selected".to_owned()) };
        self.mode = Mode::Cap { process: row.key, comm: row.comm, text: OFFERED.to_owned() };
    }

    fn ask_to_release(&mut self) {
        match self.selected.and_then(|key| self.groups.get(&key)).cloned() {
            Some(group) => self.mode = Mode::Ask(Order::Release { group }),
            None => self.say("the selected process is in no group".to_owned()),
        }
    }

    fn selected_row(&self) -> Option<&Row> {
        let selected = self.selected?;
        self.data.rows.iter().find(|row| row.key == selected)
    }

    fn key_at(&self, at: usize) -> Option<ProcKey> {
        self.shown.get(at).and_then(|&index| self.data.rows.get(index)).map(|row| row.key)
    }

    fn go(&mut self, to: impl FnOnce(usize) -> usize) {
        let last = self.shown.len().saturating_sub(1);
        let at = to(self.position().unwrap_or(0)).min(last);
        self.selected = self.key_at(at);
    }

    /// Filters and orders; ties by pid, so that rows do not jump.
    fn arrange(&mut self) {
        let wanted = self.filter.to_lowercase();
        let rows = &self.data.rows;
        let mut shown: Vec<usize> = (0..rows.len())
            .filter(|&index| {
                let group = rows.get(index).and_then(|row| self.groups.get(&row.key));
                rows.get(index).is_some_and(|row| wanted.is_empty() || mentions(row, group, &wanted))
            })
            .collect();
        let by = |index: &usize| rows.get(*index);
        match self.sort {
            Sort::Cpu => shown.sort_by(|a, b| {
                let cpu = |index| by(index).map_or(0.0, |row| row.cpu_percent);
                cpu(b)
                    .total_cmp(&cpu(a))
                    .then_with(|| by(a).map(|row| row.key).cmp(&by(b).map(|row| row.key)))
            }),
            Sort::Memory => shown.sort_by_key(|index| by(index).map(|row| (Reverse(row.rss), row.key))),
            Sort::Pid => shown.sort_by_key(|index| by(index).map(|row| row.key)),
            Sort::Name => shown.sort_by_key(|index| by(index).map(|row| (row.comm, row.key))),
        }
        self.shown = shown;
        if self.position().is_none() {
            self.selected = self.key_at(0);
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "most keys are no text")]
fn edit(text: &mut String, key: KeyCode) {
    match key {
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char(c) if !c.is_control() && text.chars().count() < TYPED_MAX => text.push(c),
        _ => {}
    }
}

fn mentions(row: &Row, group: Option<&Name>, wanted: &str) -> bool {
    let holds = |text: &str| text.to_lowercase().contains(wanted);
    holds(&row.comm.to_string())
        || holds(&printable(&row.cmdline).to_string())
        || row.key.pid.to_string() == wanted
        || group.is_some_and(|group| holds(group.as_str()))
}

#[cfg(test)]
pub(super) mod tests;
