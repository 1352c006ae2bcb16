//! Files of the configuration: read with suspicion, parsed with positions, written atomically.
//!
//! The only user of the YAML library, whose major versions come often; JSON goes the same way, as a subset
//! of YAML. Knows no key of any file.

pub mod node;
pub mod read;
pub mod write;
mod yaml;

pub use node::{Node, Place, Value};
pub use read::{ReadError, Source, Trust};
pub use write::WriteError;
pub use yaml::parse;
