//! The reference implementation of Standard Webhooks, which is not ours, as a judge of signatures.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::binary;
use crate::receiver::Request;

/// Has it check the signatures of requests, as a receiver with this secret.
///
/// # Errors
/// When one is refused, or the implementation is not installed.
pub fn verify(requests: &[Request], secret: &str) -> Result<()> {
    let mut child = Command::new(binary::python()?)
        .args([
            "-c",
            "import json, sys\n\
             from standardwebhooks.webhooks import Webhook\n\
             hook = Webhook(sys.argv[1])\n\
             for line in sys.stdin:\n    \
                 request = json.loads(line)\n    \
                 hook.verify(request['body'], request['headers'])\n",
            secret,
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start python")?;
    let mut input = child.stdin.take().context("a pipe")?;
    for request in requests {
        let body = String::from_utf8(request.body.clone()).context("a body is text")?;
        writeln!(input, "{}", json!({ "body": body, "headers": request.headers }))
            .context("write a request")?;
    }
    drop(input);
    let output = child.wait_with_output().context("wait for python")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
