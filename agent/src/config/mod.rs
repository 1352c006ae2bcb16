//! Configuration: what was written (file), merged, validated (settings), with errors at file:line:column.
