//! Wiring: the event loop, readiness, reload, shutdown. Everything may be used here but the command line.
//!
//! Threads: the main one (control socket, signals, webhooks, health checks, restarts), `engine` ([`turn`]), `moves`
//! ([`worker`]), `journal` ([`journal`]), `audit` ([`audit`]) and `probes` ([`probes`]).

mod activation;
mod alerts;
pub mod audit;
pub mod audited;
pub mod backups;
mod circumstances;
mod clashes;
pub mod care;
pub mod command;
pub mod course;
mod critical;
pub mod delays;
pub mod deliveries;
pub mod emergency;
mod dynamic;
pub mod export;
mod features;
mod hearing;
pub mod figures;
pub mod journal;
mod kept;
pub mod lock;
pub mod logging;
pub mod lookout;
pub mod metrics;
mod obey;
mod opening;
pub mod pending;
mod planning;
pub mod preflight;
mod recall;
mod privilege;
pub mod probes;
mod reach;
pub mod recorder;
pub mod reload;
pub mod report;
pub mod requests;
pub mod run;
pub mod sampler;
pub mod scheduler;
pub mod serve;
mod status;
pub mod tally;
pub mod turn;
pub mod violations;
pub mod waker;
pub mod webhooks;
pub mod wishes;
pub mod worker;

pub use run::run;
