//! Plain values that every other module speaks in. No I/O, no clock, no policy.

pub mod absence;
pub mod alert;
pub mod attribute;
pub mod chain;
pub mod cpu_list;
pub mod circumstances;
pub mod critical;
pub mod death;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod hints;
pub mod hours;
pub mod id;
pub mod last_seconds;
pub mod limits;
pub mod notice;
pub mod policy;
pub mod process;
pub mod reason;
pub mod rule;
pub mod signal;
pub mod time;
pub mod unit;
