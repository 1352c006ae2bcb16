//! Debian's Prometheus, scraping an agent every second, and the API by which it and its alertmanager are asked.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::binary::unpacked;
use crate::clock::{SOON, unix_seconds, wait_until};
use crate::tool::{Tool, free_ports};

/// An API that does not answer within this is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// The files of the repository that users of Prometheus load.
#[must_use]
pub fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file)
}

/// A running server.
#[derive(Debug)]
pub struct Prometheus {
    tool: Tool,
    port: u16,
    began: u64,
}

impl Prometheus {
    /// Starts one that scrapes `target` (`HOST:PORT`) and keeps its data below `dir`. With rules it evaluates them every second,
    /// and tells what fires to the alertmanager on that port.
    ///
    /// # Errors
    /// When it is not unpacked, or does not scrape soon, with what it printed.
    pub fn start(dir: &Path, target: &str, rules: Option<(&Path, u16)>) -> Result<Self> {
        let [port] = free_ports()?;
        let job = json!({ "job_name": "process-throttler", "static_configs": [{ "targets": [target] }] });
        let mut config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "scrape_configs": [job],
        });
        if let (Some(config), Some((file, alertmanager))) = (config.as_object_mut(), rules) {
            let target = format!("127.0.0.1:{alertmanager}");
            config.insert("rule_files".to_owned(), json!([file]));
            config.insert(
                "alerting".to_owned(),
                json!({ "alertmanagers": [{ "static_configs": [{ "targets": [target] }] }] }),
            );
        }
        let (file, log) = (dir.join("prometheus.yml"), dir.join("prometheus.log"));
        // JSON is YAML.
        fs::write(&file, config.to_string()).with_context(|| format!("write {}", file.display()))?;
        let mut command = Command::new(unpacked("prometheus", "usr/bin/prometheus")?);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(dir);
        let server = Self { tool: Tool::start(command, port, &log)?, port, began: unix_seconds() };
        wait_until("it scrapes", SOON, || {
            let up = server.query("up == 1").with_context(|| server.tool.printed())?;
            Ok(!up.is_empty())
        })?;
        Ok(server)
    }

    /// The series that an expression has now.
    ///
    /// # Errors
    /// When the server refuses the expression, with what it says.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        series(&self.ask(&format!("query?query={}", encoded(expression)))?)
    }

    /// The series that an expression has had since the start, second by second.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn history(&self, expression: &str) -> Result<Vec<Value>> {
        let (from, to) = (self.began, unix_seconds());
        series(&self.ask(&format!("query_range?query={}&start={from}&end={to}&step=1", encoded(expression)))?)
    }

    /// The values of a label of the series that a selector chooses.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn values(&self, selector: &str, label: &str) -> Result<Vec<String>> {
        let found = self.ask(&format!("label/{label}/values?match[]={}", encoded(selector)))?;
        let values = found.as_array().context("a list")?.iter().filter_map(Value::as_str);
        Ok(values.map(str::to_owned).collect())
    }

    /// How the last scrapes went.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn targets(&self) -> Result<Value> {
        self.ask("targets")
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let answer = get(self.port, &format!("/api/v1/{path}"))?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].clone())
    }
}

fn series(data: &Value) -> Result<Vec<Value>> {
    Ok(data["result"].as_array().with_context(|| format!("series in {data}"))?.clone())
}

/// Gets a JSON document from a server on the loopback interface.
///
/// # Errors
/// When there is no answer, or none in JSON.
pub fn get(port: u16, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE)).context("set the timeout")?;
    // Of version 1.0, so that the answer is not in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").context("ask")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    let (_, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?;
    serde_json::from_str(body).with_context(|| format!("{path} is answered with {answer:?}"))
}

/// A text as a part of a URL.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_survive_the_url() {
        assert_eq!(encoded("a{b=~\"c|d\"} > 0"), "a%7Bb%3D~%22c%7Cd%22%7D%20%3E%200");
    }
}
