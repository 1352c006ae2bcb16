//! State that survives the agent: SQLite with migrations.
