//! Debian's rsyslog as the receiver, on this machine only.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use integration_tests::binary::unpacked;
use integration_tests::clock::wait_for;
use tempfile::TempDir;

use super::{Bed, grace, number};
use crate::audit::{Actor, Entry, Outcome};
use crate::model::audit::Transport;

/// A receiver, killed with the test.
struct Rsyslog {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Rsyslog {
    fn start(dir: &TempDir) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (config, log) = (dir.path().join("rsyslog.conf"), dir.path().join("received"));
        let program = unpacked("rsyslog", "usr/sbin/rsyslogd").unwrap();
        let modules = program.ancestors().nth(3).unwrap().join("usr/lib").join(triplet()).join("rsyslog");
        let text = format!(
            "global(maxMessageSize=\"64k\" workDirectory=\"{dir}\")\n\
             module(load=\"imtcp\")\nmodule(load=\"imudp\")\n\
             template(name=\"parts\" type=\"string\" string=\"%pri-text%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             action(type=\"omfile\" file=\"{log}\" template=\"parts\")\n",
            dir = dir.path().display(),
            log = log.display(),
        );
        std::fs::write(&config, text).unwrap();
        let libraries = ["libestr0", "libfastjson4"].map(|package| library(package).display().to_string());
        let child = Command::new(&program)
            .args(["-n", "-iNONE", "-f"])
            .arg(&config)
            .arg("-M")
            .arg(&modules)
            .env("LD_LIBRARY_PATH", libraries.join(":"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { child, log, port }
    }

    /// Lines that it has written, once there are so many.
    fn lines(&self, count: usize) -> Vec<String> {
        let what = format!("rsyslog has written {count} lines");
        wait_for(&what, grace(), || {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            Ok((lines.len() >= count).then_some(lines))
        })
        .unwrap()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn triplet() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

fn library(package: &str) -> PathBuf {
    let found = unpacked(package, &format!("usr/share/doc/{package}/copyright")).unwrap();
    let root: &Path = found.ancestors().nth(5).unwrap();
    root.join("usr/lib").join(triplet())
}

#[test]
fn rsyslog_takes_records_apart_as_they_were_meant() {
    let mut bed = Bed::new();
    let receiver = Rsyslog::start(&bed.dir);
    bed.write(2);
    let entry = Entry::new(9, "request.throttle", Actor::uid(1_000), "group \"]\n<1>x");
    bed.log.append(&[entry.ended(Outcome::Denied, "never touched")]).unwrap();
    let shipping = bed.ship(receiver.port, Transport::Tcp);
    let lines = receiver.lines(3);
    shipping.stop(grace());
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let numbers: Vec<u64> =
        lines.iter().map(|line| number(line.replacen("|{", "] {", 1).as_bytes())).collect();
    assert_eq!(numbers, [1, 2, 3], "whole, in order, each with its own hash");
    assert!(
        lines[0].contains("|host-1|process-throttler|request.release|[processThrottler@32473 seq=\"1\""),
        "{}",
        lines[0]
    );
    assert!(
        lines[2].contains(".warn") && lines[2].contains("outcome=\"denied\" actor=\"uid 1000\""),
        "{}",
        lines[2]
    );
    assert_eq!(bed.shipped(), 3);
}

#[test]
fn rsyslog_takes_datagrams() {
    let mut bed = Bed::new();
    let receiver = Rsyslog::start(&bed.dir);
    // Over TCP first, so that it is known to listen.
    bed.write(1);
    let shipping = bed.ship(receiver.port, Transport::Tcp);
    receiver.lines(1);
    shipping.stop(grace());
    bed.write(1);
    let shipping = bed.ship(receiver.port, Transport::Udp);
    let lines = receiver.lines(2);
    shipping.stop(grace());
    assert!(lines[1].contains("seq=\"2\""), "{lines:#?}");
}
