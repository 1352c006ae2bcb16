//! A systemd for tests: answers the calls that the agent makes, over a real socket, and does to real cgroups what
//! systemd does. Processes are in cgroups of the host's v2 hierarchy; the files with values are ordinary ones in a
//! mirror of it, so that no controller is needed.
#![expect(clippy::unwrap_in_result, reason = "a test's own systemd fails the test where it fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::StreamExt as _;
use zbus::connection::Builder;
use zbus::{Connection, Guid, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant};

const UNIFIED: &str = "/sys/fs/cgroup/unified";
const UNITS: &str = "/org/freedesktop/systemd1/unit/";
const UNSET: u64 = u64::MAX;

/// What a property reads when nobody has set it.
fn unset(property: &str) -> u64 {
    if property == "MemoryLow" { 0 } else { UNSET }
}

/// What a property of a unit looks like in the kernel when it is not set.
const FILES: [(&str, &str, &str); 6] = [
    ("CPUQuotaPerSecUSec", "cpu.max", "max 100000"),
    ("CPUWeight", "cpu.weight", "100"),
    ("IOWeight", "io.weight", "default 100"),
    ("MemoryLow", "memory.low", "0"),
    ("MemoryMax", "memory.max", "max"),
    ("TasksMax", "pids.max", "max"),
];

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeUnit {
    pub(crate) properties: BTreeMap<String, u64>,
    pub(crate) description: String,
    pub(crate) control_group: String,
    pub(crate) transient: bool,
    pub(crate) active: bool,
    pub(crate) main_pid: u32,
    pub(crate) bound_to: Vec<String>,
    /// Its state where it is neither `active` nor `inactive`.
    pub(crate) state: &'static str,
    /// `masked` and so on; empty: loaded.
    pub(crate) load: &'static str,
    /// Result, code and status of its last main process.
    pub(crate) ended: (&'static str, i32, i32),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) units: BTreeMap<String, FakeUnit>,
    /// A property that is refused.
    pub(crate) refuse: Option<&'static str>,
    /// Units that were restarted.
    pub(crate) restarted: Vec<String>,
    /// Services that were started, with their properties in words.
    pub(crate) started: Vec<(String, BTreeMap<String, String>)>,
    /// How the next services end that are started or restarted: state, result, code and status. None: they run.
    pub(crate) fate: Option<(&'static str, &'static str, i32, i32)>,
    /// A method before whose next call all services end by themselves.
    pub(crate) vanish_at: Option<&'static str>,
    /// A method that is never answered.
    pub(crate) silent: Option<&'static str>,
    /// Stops of units with processes in them: systemd would have killed those.
    pub(crate) killed: Vec<String>,
    prefix: String,
    mirror: PathBuf,
    run: PathBuf,
}

#[derive(Debug)]
pub(crate) struct FakeSystemd {
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeSystemd {
    pub(crate) fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mirror, run) = (dir.path().join("cgroup"), dir.path().join("run"));
        for made in [&mirror, &run.join("systemd/system"), &dir.path().join("block")] {
            fs::create_dir_all(made).unwrap();
        }
        fs::write(mirror.join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        let prefix = format!("/{name}");
        let mut state = State { prefix, mirror, run: run.clone(), ..State::default() };
        state.make("-.slice", "", "");
        state.make("system.slice", "/system.slice", "");
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let listener = std::os::unix::net::UnixListener::bind(run.join("systemd/private")).unwrap();
        let served = Arc::clone(&state);
        let thread = std::thread::spawn(move || serve(listener, &served, stopped));
        Self { dir, state, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Its directory: with `cgroup`, `run` and `block` in the places of the host's.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A service in `system.slice` with these processes, the first of which is the main one.
    pub(crate) fn service(&self, name: &str, pids: &[u32]) {
        let mut state = self.state();
        state.make(name, &format!("/system.slice/{name}"), "");
        let group = state.units[name].control_group.clone();
        for pid in pids {
            fs::write(format!("{UNIFIED}{group}/cgroup.procs"), pid.to_string()).unwrap();
        }
        state.units.get_mut(name).unwrap().main_pid = pids[0];
    }

    /// Everything that an application may change and a release must put back.
    pub(crate) fn capture(&self) -> String {
        let mut state = self.state();
        state.collect();
        let mut text: String = state
            .units
            .iter()
            .filter(|(_, unit)| unit.active)
            .map(|(id, unit)| {
                let files = FILES.map(|(_, file, _)| fs::read_to_string(state.dir(unit).join(file)).ok());
                let real = PathBuf::from(format!("{UNIFIED}{}", unit.control_group));
                let mut pids = crate::cgroup::membership::procs(&real).unwrap_or_default();
                pids.sort_unstable();
                format!("{id} {:?} {files:?} {pids:?}\n", unit.properties)
            })
            .collect();
        for place in ["systemd/system.control", "systemd/transient"] {
            for dir in fs::read_dir(state.run.join(place)).into_iter().flatten().flatten() {
                for file in fs::read_dir(dir.path()).unwrap().flatten() {
                    let contents = fs::read_to_string(file.path()).unwrap();
                    text.push_str(&format!("{}: {contents:?}\n", file.path().display()));
                }
            }
        }
        text
    }
}

impl Drop for FakeSystemd {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        let root = PathBuf::from(format!("{UNIFIED}{}", self.state().prefix));
        let mut dirs = crate::cgroup::membership::descendants(&root).unwrap_or_default();
        dirs.push(root);
        dirs.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
        for dir in dirs {
            for pid in crate::cgroup::membership::procs(&dir).unwrap_or_default() {
                fs::write(format!("{UNIFIED}/cgroup.procs"), pid.to_string()).ok();
            }
            crate::cgroup::subtree::remove(&dir).ok();
        }
    }
}

fn serve(
    listener: std::os::unix::net::UnixListener,
    state: &Arc<Mutex<State>>,
    stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let accept = async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let state = Arc::clone(state);
            tokio::spawn(async move {
                let builder = Builder::unix_stream(stream.into_std().unwrap()).server(Guid::generate()).p2p();
                let Ok(mut calls) = builder.build_message_stream().await else { return };
                let connection = Connection::from(&calls);
                while let Some(Ok(call)) = MessageStream::next(&mut calls).await {
                    answer(&connection, &state, &call).await;
                }
            });
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

async fn answer(connection: &Connection, state: &Arc<Mutex<State>>, call: &Message) {
    let header = call.header();
    let member = header.member().map(|member| member.to_string()).unwrap_or_default();
    let path = header.path().map(|path| path.to_string()).unwrap_or_default();
    let answered = {
        let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.silent == Some(member.as_str()) {
            return;
        }
        state.collect();
        if state.vanish_at == Some(member.as_str()) {
            state.vanish();
        }
        state.call(&member, &path, call)
    };
    let sent = match answered {
        Ok(Some(Reply::Object(path))) => connection.reply(&header, &path).await,
        Ok(Some(Reply::Value(value))) => connection.reply(&header, &Variant::from(value)).await,
        Ok(None) => connection.reply(&header, &()).await,
        Err((name, text)) => connection.reply_error(&header, name, &text).await,
    };
    sent.unwrap();
}

enum Reply {
    Object(OwnedObjectPath),
    Value(OwnedVariant),
}

type Answered = Result<Option<Reply>, (&'static str, String)>;

const GONE: &str = "org.freedesktop.systemd1.NoSuchUnit";
const INVALID: &str = "org.freedesktop.DBus.Error.InvalidArgs";

impl State {
    fn dir(&self, unit: &FakeUnit) -> PathBuf {
        self.mirror.join(unit.control_group.trim_start_matches('/'))
    }

    fn make(&mut self, id: &str, below: &str, description: &str) {
        let control_group = format!("{}{below}", self.prefix);
        let real = format!("{UNIFIED}{control_group}");
        fs::create_dir_all(&real).unwrap();
        let unit = FakeUnit {
            control_group,
            description: description.to_owned(),
            transient: !description.is_empty(),
            active: true,
            ..FakeUnit::default()
        };
        let dir = self.dir(&unit);
        fs::create_dir_all(&dir).unwrap();
        if !dir.join("cgroup.procs").exists() {
            std::os::unix::fs::symlink(format!("{real}/cgroup.procs"), dir.join("cgroup.procs")).unwrap();
        }
        for (_, file, value) in FILES {
            fs::write(dir.join(file), format!("{value}\n")).unwrap();
        }
        self.units.insert(id.to_owned(), unit);
    }

    /// What systemd does between calls: scopes without processes end, and services that are bound to them.
    fn collect(&mut self) {
        let ended: Vec<String> = self
            .units
            .iter()
            .filter(|(id, unit)| id.ends_with(".scope") && unit.active && self.is_empty(unit))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ended {
            self.remove(&id);
        }
    }

    fn vanish(&mut self) {
        self.vanish_at = None;
        let services: Vec<String> =
            self.units.keys().filter(|id| id.ends_with(".service")).cloned().collect();
        for id in services {
            let real = format!("{UNIFIED}{}", self.units[&id].control_group);
            for pid in crate::cgroup::membership::procs(Path::new(&real)).unwrap_or_default() {
                fs::write(format!("{UNIFIED}/cgroup.procs"), pid.to_string()).unwrap();
            }
            self.remove(&id);
        }
    }

    fn is_empty(&self, unit: &FakeUnit) -> bool {
        let real = format!("{UNIFIED}{}", unit.control_group);
        crate::cgroup::membership::members(Path::new(&real)).unwrap_or_default().is_empty()
    }

    fn remove(&mut self, id: &str) {
        let Some(unit) = self.units.remove(id) else { return };
        if !unit.control_group.is_empty() {
            crate::cgroup::subtree::remove(Path::new(&format!("{UNIFIED}{}", unit.control_group))).ok();
            fs::remove_dir_all(self.dir(&unit)).ok();
        }
        fs::remove_dir_all(self.run.join("systemd/transient").join(format!("{id}.d"))).ok();
        let bound: Vec<String> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.bound_to.iter().any(|one| one == id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in bound {
            self.remove(&id);
        }
    }

    fn object(id: &str) -> OwnedObjectPath {
        let hex: String = id.bytes().map(|byte| format!("_{byte:02x}")).collect();
        OwnedObjectPath::try_from(format!("{UNITS}{hex}")).unwrap()
    }

    fn at(path: &str) -> String {
        let hex = path.strip_prefix(UNITS).unwrap_or_default();
        let bytes = hex.split('_').skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap());
        String::from_utf8(bytes.collect()).unwrap()
    }

    fn call(&mut self, member: &str, path: &str, call: &Message) -> Answered {
        let body = call.body();
        let text = || body.deserialize::<(String,)>().map(|(text,)| text).unwrap();
        match member {
            "GetUnitByControlGroup" => {
                let wanted = text();
                let holds = |unit: &FakeUnit| Path::new(&wanted).starts_with(&unit.control_group);
                let found = self.units.iter().filter(|(_, unit)| unit.active && holds(unit));
                let nearest = found.max_by_key(|(_, unit)| unit.control_group.len());
                let id = nearest.map(|(id, _)| id).ok_or((GONE, format!("no unit has {wanted}")))?;
                Ok(Some(Reply::Object(Self::object(id))))
            }
            "GetUnit" => {
                let id = text();
                let known = self.units.contains_key(&id);
                known.then_some(()).ok_or((GONE, format!("Unit {id} not loaded.")))?;
                Ok(Some(Reply::Object(Self::object(&id))))
            }
            "LoadUnit" => Ok(Some(Reply::Object(Self::object(&text())))),
            "Get" => {
                let (_, name): (String, String) = body.deserialize().unwrap();
                self.get(&Self::at(path), &name).map(|value| Some(Reply::Value(value)))
            }
            "SetUnitProperties" => {
                let (id, _, properties): (String, bool, Vec<(String, OwnedVariant)>) =
                    body.deserialize().unwrap();
                self.set(&id, properties).map(|()| None)
            }
            "StartTransientUnit" => {
                type Properties = Vec<(String, OwnedVariant)>;
                let (id, _, properties, _): (String, String, Properties, Vec<(String, Properties)>) =
                    body.deserialize().unwrap();
                self.start(&id, properties)?;
                Ok(Some(Reply::Object(Self::object("job"))))
            }
            "RestartUnit" => {
                let (id, _): (String, String) = body.deserialize().unwrap();
                let fate = self.fate;
                let unit = self.units.get_mut(&id).ok_or((GONE, format!("Unit {id} not loaded.")))?;
                (unit.state, unit.active) = ("", true);
                if let Some((state, result, code, status)) = fate {
                    (unit.state, unit.ended) = (state, (result, code, status));
                }
                self.restarted.push(id);
                Ok(Some(Reply::Object(Self::object("job"))))
            }
            "ResetFailedUnit" => {
                let id = text();
                self.remove(&id);
                Ok(None)
            }
            "StopUnit" => {
                let (id, _): (String, String) = body.deserialize().unwrap();
                let unit = self.units.get(&id).ok_or((GONE, format!("Unit {id} not loaded.")))?;
                if !self.is_empty(unit) {
                    self.killed.push(id.clone());
                }
                self.remove(&id);
                Ok(Some(Reply::Object(Self::object("job"))))
            }
            other => Err(("org.freedesktop.DBus.Error.UnknownMethod", other.to_owned())),
        }
    }

    fn get(&self, id: &str, name: &str) -> Result<OwnedVariant, (&'static str, String)> {
        let nothing = FakeUnit::default();
        let unit = self.units.get(id);
        let (known, unit) = (unit.is_some(), unit.unwrap_or(&nothing));
        let text = |text: &str| Variant::from(text.to_owned());
        let value = match name {
            "Id" => text(id),
            "Transient" => Variant::from(unit.transient),
            "Delegate" => Variant::from(false),
            "ActiveState" if !unit.state.is_empty() => text(unit.state),
            "ActiveState" => text(if unit.active { "active" } else { "inactive" }),
            "LoadState" if !unit.load.is_empty() => text(unit.load),
            "LoadState" => text(if known { "loaded" } else { "not-found" }),
            "Result" => text(unit.ended.0),
            "ExecMainCode" => Variant::from(unit.ended.1),
            "ExecMainStatus" => Variant::from(unit.ended.2),
            "ControlGroup" => text(&unit.control_group),
            "Description" => text(&unit.description),
            "KillMode" => text("control-group"),
            "MainPID" => Variant::from(unit.main_pid),
            "KillSignal" => Variant::from(15_i32),
            "TimeoutStopUSec" => Variant::from(90_000_000_u64),
            "Job" => Variant::from((0_u32, Self::object("none").into_inner())),
            "IOReadBandwidthMax" | "IOWriteBandwidthMax" => Variant::from(Vec::<(String, u64)>::new()),
            name => Variant::from(unit.properties.get(name).copied().unwrap_or(unset(name))),
        };
        OwnedVariant::try_from(value).map_err(|error| (INVALID, error.to_string()))
    }

    fn set(
        &mut self,
        id: &str,
        properties: Vec<(String, OwnedVariant)>,
    ) -> Result<(), (&'static str, String)> {
        for (name, _) in &properties {
            if self.refuse == Some(name.as_str()) {
                return Err((INVALID, format!("Value specified in {name} is out of range")));
            }
        }
        let unit = self.units.get(id).cloned().ok_or((GONE, format!("Unit {id} not found.")))?;
        for (name, value) in properties {
            let number = u64::try_from(value).map_err(|error| (INVALID, error.to_string()))?;
            let setting = if name == "CPUQuotaPerSecUSec" { "CPUQuota" } else { &name };
            let place = if unit.transient { "systemd/transient" } else { "systemd/system.control" };
            let dropins = self.run.join(place).join(format!("{id}.d"));
            fs::create_dir_all(&dropins).unwrap();
            fs::write(dropins.join(format!("50-{setting}.conf")), format!("[Unit]\n{setting}={number}\n"))
                .unwrap();
            if let Some((_, file, unset)) = FILES.iter().find(|(one, _, _)| *one == name) {
                let value = match number {
                    UNSET => (*unset).to_owned(),
                    number if *file == "cpu.max" => format!("{} 100000", number / 10),
                    number if *file == "io.weight" => format!("default {number}"),
                    number => number.to_string(),
                };
                fs::write(self.dir(&unit).join(file), format!("{value}\n")).unwrap();
            }
            let properties = &mut self.units.get_mut(id).unwrap().properties;
            if number == unset(&name) {
                properties.remove(&name);
            } else {
                properties.insert(name, number);
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        id: &str,
        properties: Vec<(String, OwnedVariant)>,
    ) -> Result<(), (&'static str, String)> {
        if self.units.contains_key(id) {
            return Err(("org.freedesktop.systemd1.UnitExists", format!("Unit {id} already exists.")));
        }
        let find =
            |name: &str| properties.iter().find(|(one, _)| one == name).map(|(_, value)| value.clone());
        let string = |name| find(name).and_then(|value| String::try_from(value).ok()).unwrap_or_default();
        let list =
            |name| find(name).and_then(|value| Vec::<String>::try_from(value).ok()).unwrap_or_default();
        let pids = find("PIDs").and_then(|value| Vec::<u32>::try_from(value).ok()).unwrap_or_default();
        let below = if id.ends_with(".slice") {
            crate::systemd::name::lineage(id).iter().map(|slice| format!("/{slice}")).collect()
        } else if id.ends_with(".scope") {
            let slice = self.units.get(&string("Slice")).ok_or((GONE, "no such slice".to_owned()))?;
            format!("{}/{id}", slice.control_group.trim_start_matches(&self.prefix))
        } else {
            String::new()
        };
        if below.is_empty() {
            let mut unit = FakeUnit {
                description: string("Description"),
                transient: true,
                active: true,
                bound_to: list("BindsTo"),
                ..FakeUnit::default()
            };
            if let Some((state, result, code, status)) = self.fate {
                (unit.state, unit.ended) = (state, (result, code, status));
            }
            let words = properties.iter().map(|(name, value)| (name.clone(), format!("{value:?}")));
            self.started.push((id.to_owned(), words.collect()));
            self.units.insert(id.to_owned(), unit);
            return Ok(());
        }
        self.make(id, &below, &string("Description"));
        self.units.get_mut(id).unwrap().bound_to = list("BindsTo");
        let group = self.units[id].control_group.clone();
        for pid in pids {
            if let Err(error) = fs::write(format!("{UNIFIED}{group}/cgroup.procs"), pid.to_string()) {
                return Err((INVALID, format!("process {pid}: {error}")));
            }
        }
        Ok(())
    }
}
