//! Checks against things that answer, refuse, hang and drip, with programs that would rather not end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use super::*;
use crate::clock;
use crate::model::critical::Program;

const SHORT: Duration = Duration::from_millis(400);
/// More than any check with [`SHORT`] may take on a busy machine, and less than what it is kept waiting for.
fn prompt() -> Duration {
    clock::patience(Duration::from_secs(5))
}

fn name() -> Name {
    "web".parse().unwrap()
}

fn ask(probe: Probe, timeout: Duration) -> (Checked, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let prober = Prober::with(None, std::env::temp_dir()).unwrap();
    let check = HealthCheck { probe, interval: timeout, timeout, retries: 1, restart: false };
    let began = clock::now();
    let checked = runtime.block_on(prober.check(&name(), &check));
    let took = clock::now().since(began);
    runtime.shutdown_background();
    (checked, took)
}

fn error(checked: &Checked) -> &str {
    match checked {
        Checked::Unhealthy { error } => error,
        Checked::Healthy => "healthy",
        Checked::NotRun { why } => why,
    }
}

/// A server that treats its one connection so.
fn server(treat: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            treat(stream);
        }
    });
    address
}

fn answering(head: &'static str, body: Vec<u8>) -> SocketAddr {
    server(move |mut stream| {
        let mut request = [0; 1_024];
        assert!(stream.read(&mut request).unwrap() > 0);
        // The client may have enough of it before its end.
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        drop(sent);
    })
}

fn http(address: SocketAddr) -> Probe {
    Probe::Http { target: format!("http://{address}/health") }
}

#[test]
fn ports_that_listen_and_ports_that_do_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    assert_eq!(ask(Probe::Port { target: target.clone() }, prompt()).0, Checked::Healthy);
    let local = target.replace("127.0.0.1", "localhost");
    assert_eq!(ask(Probe::Port { target: local }, prompt()).0, Checked::Healthy);
    drop(listener);
    let (checked, _) = ask(Probe::Port { target: target.clone() }, prompt());
    assert!(error(&checked).contains("refused") && error(&checked).contains(&target), "{checked:?}");
    let (checked, _) = ask(Probe::Port { target: "no-such-host.invalid:80".to_owned() }, prompt());
    assert!(error(&checked).contains("no-such-host.invalid"), "{checked:?}");
}

#[test]
fn a_connection_that_is_never_made_has_an_end() {
    // A queue of one that is full: further connections are neither taken nor refused.
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let listener = listener.unwrap();
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = rustix::net::getsockname(&listener).unwrap();
    let address: SocketAddr = address.try_into().unwrap();
    let waiting: Vec<_> =
        (0..4).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    assert!(waiting.iter().any(Result::is_err), "the queue is full");
    let (checked, took) = ask(Probe::Port { target: address.to_string() }, SHORT);
    assert!(error(&checked).contains("no answer within 400ms") && took < prompt(), "{checked:?} {took:?}");
}

#[test]
fn answers_that_are_good_and_bad() {
    let good = answering("HTTP/1.1 204 No Content\r\n\r\n", Vec::new());
    assert_eq!(ask(http(good), prompt()).0, Checked::Healthy);
    let large = answering("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n", vec![b'x'; 8 << 20]);
    assert_eq!(ask(http(large), prompt()).0, Checked::Healthy, "no more is read than anybody needs");
    for (head, said) in [
        ("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "500"),
        ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "302"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "body"),
        ("SSH-2.0-x\r\n", "error"),
    ] {
        let (checked, _) = ask(http(answering(head, Vec::new())), prompt());
        assert!(
            matches!(&checked, Checked::Unhealthy { error } if error.contains(said)),
            "{head}: {checked:?}"
        );
    }
}

#[test]
fn an_answer_that_never_ends_has_an_end() {
    let hold = |mut stream: TcpStream| {
        let mut rest = Vec::new();
        // Until the check gives up.
        drop(stream.read_to_end(&mut rest));
    };
    let (checked, took) = ask(http(server(hold)), SHORT);
    assert!(error(&checked).contains("no answer within") && took < prompt(), "{checked:?} {took:?}");
    for head in ["HTTP/1.1 200 OK\r\nX-Slow: ", "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"] {
        let drip = server(move |mut stream| {
            stream.set_nodelay(true).unwrap();
            let mut all = head.bytes().chain(std::iter::repeat(b'x'));
            let mut request = [0; 1_024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            // A byte each 20 ms, until the check gives up.
            while let Some(byte) = all.next()
                && stream.write_all(&[byte]).is_ok()
                && !matches!(stream.read(&mut request), Ok(0))
            {}
        });
        let (checked, took) = ask(http(drip), SHORT);
        assert!(error(&checked).contains("no answer within") && took < prompt(), "{checked:?} {took:?}");
    }
}

#[test]
fn files_that_are_there_and_young() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alive");
    let probe = |max_age| Probe::File { target: path.to_str().unwrap().to_owned(), max_age };
    let (checked, _) = ask(probe(None), prompt());
    assert!(error(&checked).contains("No such file"), "{checked:?}");
    std::fs::write(&path, "").unwrap();
    let minute = Some(Duration::from_secs(60));
    assert_eq!(ask(probe(None), prompt()).0, Checked::Healthy);
    assert_eq!(ask(probe(minute), prompt()).0, Checked::Healthy);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let age = |by| file.set_modified(clock::wall().checked_sub(by).unwrap()).unwrap();
    age(Duration::from_secs(90));
    let (checked, _) = ask(probe(minute), prompt());
    assert!(error(&checked).contains("more than 60s"), "{checked:?}");
    file.set_modified(clock::wall() + Duration::from_secs(999)).unwrap();
    assert_eq!(ask(probe(minute), prompt()).0, Checked::Healthy, "a clock was set");
}

fn program(words: &[&str]) -> Program {
    let me = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap();
    Program {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        user: me.name,
        group: None,
        cwd: None,
        env: vec![("GREETING".to_owned(), "hello world".to_owned())],
    }
}

fn shell(script: &str) -> Probe {
    Probe::Command { program: program(&["/bin/sh", "-c", script]) }
}

#[test]
fn programs_that_end_well_and_badly() {
    assert_eq!(ask(shell("exit 0"), prompt()).0, Checked::Healthy);
    let (checked, _) = ask(shell("echo \"$GREETING\"; printf '\\033[31m' >&2; exit 3"), prompt());
    assert_eq!(error(&checked), "it ended with exit status: 3: hello world\\x0a\\x1b[31m");
    let (checked, _) = ask(shell("kill -9 $$"), prompt());
    assert!(error(&checked).contains("signal: 9"), "{checked:?}");
    let long = "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; exit 1";
    let (checked, _) = ask(shell(long), prompt());
    assert!(error(&checked).len() < 300, "{checked:?}");
    let missing = Program { command: vec!["/no/such/program".to_owned()], ..program(&[]) };
    let (checked, _) = ask(Probe::Command { program: missing }, prompt());
    assert!(matches!(&checked, Checked::NotRun { why } if why.contains("/no/such/program")), "{checked:?}");
    let nobody = Program { user: "no-such-user".to_owned(), ..program(&["/bin/true"]) };
    let (checked, _) = ask(Probe::Command { program: nobody }, prompt());
    assert!(matches!(&checked, Checked::NotRun { why } if why.contains("no-such-user")), "{checked:?}");
}

#[test]
fn a_program_has_nothing_but_what_it_was_given() {
    let _open = std::fs::File::open("/dev/null").unwrap();
    // Its own descriptors are three and the one with which ls reads the directory.
    let script = "test \"$(ls /proc/self/fd | wc -l)\" = 4 && test \"$(pwd)\" = / && \
                  test \"$(env | cut -d= -f1 | grep -v '^_$' | sort | tr '\\n' ' ')\" = 'GREETING PATH PWD ' && \
                  test \"$(cut -d' ' -f6 /proc/$$/stat)\" = $$";
    assert_eq!(ask(shell(script), prompt()).0, Checked::Healthy);
}

#[test]
fn a_program_runs_as_the_stated_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let script = "test \"$(id -un):$(id -gn)\" = nobody:nogroup && test \"$(id -G)\" = \"$(id -G nobody)\" && \
                  grep -q '^CapEff:\\s*0*$' /proc/$$/status && ! cat /etc/shadow 2>/dev/null";
    let Probe::Command { program } = shell(script) else { panic!("a command") };
    let as_nobody = Program { user: "nobody".to_owned(), ..program.clone() };
    assert_eq!(ask(Probe::Command { program: as_nobody }, prompt()).0, Checked::Healthy);
    let script = "test \"$(id -un):$(id -gn)\" = nobody:daemon";
    let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let group = Some("daemon".to_owned());
    let as_both = Program { user: "nobody".to_owned(), group, command, ..program };
    assert_eq!(ask(Probe::Command { program: as_both }, prompt()).0, Checked::Healthy);
}

/// Whether a process is there and not a zombie.
fn lives(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn wait_until_gone(pids: &str) {
    let end = clock::now().after(prompt());
    for pid in pids.split_whitespace() {
        while lives(pid) {
            assert!(clock::now() < end, "process {pid} is left");
            std::thread::yield_now();
        }
    }
}

fn pids(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_program_that_takes_too_long_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pids");
    let script = format!(
        "trap '' TERM INT HUP; (trap '' TERM; sh -c 'echo $$ >> {0}; sleep 1000') & \
         (sleep 1000) & echo $! >> {0}; echo $$ >> {0}; echo begun; sleep 1000",
        path.display()
    );
    // Long enough for three shells to begin.
    let timeout = clock::patience(Duration::from_secs(1));
    let (checked, took) = ask(shell(&script), timeout);
    let said = format!("longer than {timeout:?} and was killed: begun");
    assert!(error(&checked).contains(&said), "{checked:?}");
    assert!(took < prompt(), "{took:?}");
    let pids = pids(&path);
    assert_eq!(pids.split_whitespace().count(), 3, "{pids}");
    wait_until_gone(&pids);
}

#[test]
fn what_a_program_leaves_behind_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pids");
    let script = format!("sleep 1000 & echo $! > {}", path.display());
    let (checked, took) = ask(shell(&script), prompt());
    assert!(
        checked == Checked::Healthy && took < prompt(),
        "it holds the pipe, and is not waited for: {took:?}"
    );
    wait_until_gone(&pids(&path));
}

#[test]
fn a_check_that_is_given_up_takes_its_program_along() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pids");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", path.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let prober = Prober::with(None, std::env::temp_dir()).unwrap();
    let long = Duration::from_secs(100);
    let check =
        HealthCheck { probe: shell(&script), interval: long, timeout: long, retries: 1, restart: false };
    runtime.block_on(async {
        let started = async {
            while !path.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            checked = async { prober.check(&name(), &check).await } => panic!("{checked:?}"),
            () = started => {}
        }
    });
    runtime.shutdown_background();
    wait_until_gone(&pids(&path));
}

#[test]
fn what_hangs_keeps_its_place_and_no_more_are_begun() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let places = Arc::new(Semaphore::new(1));
        let (free, held) = std::sync::mpsc::channel::<()>();
        let hanging = tokio::time::timeout(SHORT, unhurried(&places, move || held.recv().ok()));
        assert!(hanging.await.is_err(), "it hangs");
        assert!(matches!(unhurried(&places, || ()).await, Err(Fault::Ours(_))));
        drop(free);
        // The place is given back when it returns.
        drop(places.acquire().await.unwrap());
        assert_eq!(unhurried(&places, || 1).await, Ok(1));
    });
}
