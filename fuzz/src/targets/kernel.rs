//! What the kernel writes: records of the rings, and its type information.

use process_throttler::decode::{self, Decoder};
use process_throttler::engine::input::Input;
use process_throttler::source::btf::Btf;

use super::Run;
use super::text::is_one_line;

/// One record, and a stream of them.
pub(super) fn record() -> Run {
    Box::new(|bytes| {
        whole(bytes);
        let mut rest = bytes;
        while let Ok(Some((record, after))) = decode::cut(rest) {
            assert_eq!(record.len() + after.len(), rest.len());
            assert!(!record.is_empty(), "a stream gets shorter with every record");
            whole(record);
            rest = after;
        }
    })
}

fn whole(record: &[u8]) {
    match Decoder::new(4_096).event(record) {
        Ok(event) => {
            // A recording holds it, and gives it back.
            let input = Input::Event { event };
            let text = serde_json::to_string(&input).unwrap();
            assert_eq!(serde_json::from_str::<Input>(&text).unwrap(), input, "{text}");
            is_one_line(&text);
        }
        Err(malformed) => is_one_line(&malformed),
    }
    if let Ok(delay) = decode::delay(record) {
        is_one_line(&serde_json::to_string(&delay).unwrap());
    }
}

/// Type information, asked for what the agent asks for.
pub(super) fn btf() -> Run {
    Box::new(|bytes| match Btf::parse(bytes.to_vec()) {
        Ok(btf) => {
            for (owner, member) in [("task_struct", "tgid"), ("signal_struct", "live"), ("a", "b")] {
                drop(btf.member_offset(owner, member));
            }
            drop(btf.enum_value("oom_constraint", "CONSTRAINT_MEMCG"));
            for typedef in ["btf_trace_sched_process_exit", "c"] {
                drop(btf.argument_count(typedef));
                drop(btf.argument_is_pointer(typedef, 1));
            }
        }
        Err(error) => is_one_line(&error),
    })
}
