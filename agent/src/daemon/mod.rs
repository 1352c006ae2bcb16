//! Wiring: the event loop, readiness, reload, shutdown.
