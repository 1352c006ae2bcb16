//! Carries out the engine's actions, live or dry.
