//! Behaviour of the whole engine, one story per test.

use std::time::Duration;

use crate::engine::action::{Action, ActionId, Apply, Wants, What};
use crate::engine::input::{Input, ManualThrottle, Outcome, ReleaseTarget};
use crate::engine::rule::testing::{facts, profile, rule};
use crate::engine::testing::{Builder, at, engine, process};
use crate::engine::view::{Answer, GroupState, Membership};
use crate::engine::{Engine, RESYNC_INTERVAL};
use crate::model::critical::Expect;
use crate::model::event::{Event, Exit, Status};
use crate::model::id::{Name, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::notice::Notice;
use crate::model::process::Process;
use crate::model::reason::Reason;
use crate::model::rule::{Critical, Match, Pattern, Profile, Rule};

/// An engine and its clock, in milliseconds.
struct Rig {
    engine: Engine,
    now: u64,
}

impl Rig {
    fn new(profile: Profile) -> Self {
        let mut rig = Self { engine: engine(), now: 2_000 };
        rig.activate(profile);
        rig
    }

    fn activate(&mut self, profile: Profile) -> Vec<Action> {
        self.input(Input::Profile { profile: Some(Box::new(profile)) })
    }

    fn input(&mut self, input: Input) -> Vec<Action> {
        self.feed(input);
        self.drain()
    }

    fn feed(&mut self, input: Input) {
        self.now += 1;
        self.engine.handle(input, at(self.now));
    }

    fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.engine.next_action()).collect()
    }

    fn exec(&mut self, builder: Builder) -> Vec<Action> {
        let process = builder.execed(self.now).build();
        self.input(Input::Event { event: Event::Exec(process) })
    }

    fn alive(&mut self, builder: Builder) -> Vec<Action> {
        self.input(Input::Event { event: Event::Alive(builder.build()) })
    }

    fn exit(&mut self, builder: Builder) -> Vec<Action> {
        let event = builder.exit(self.now, Status::Signal { number: 9, core: false });
        self.input(Input::Event { event })
    }

    fn outcome(&mut self, id: ActionId, outcome: Outcome) -> Vec<Action> {
        self.input(Input::Outcome { id, outcome })
    }

    /// Answers an `Apply` by success.
    fn applied(&mut self, action: &Action) -> Vec<Action> {
        let Apply { members, .. } = apply(action);
        let members = members.clone();
        let outcome = Outcome::Applied {
            how: "in place".into(),
            members,
            refused: Vec::new(),
            borrowed: true,
            at: at(self.now + 1),
        };
        self.outcome(action.id, outcome)
    }

    /// Answers an `Apply` by the refusal of all.
    fn refused(&mut self, action: &Action) -> Vec<Action> {
        let refused = apply(action).members.iter().map(|key| (*key, "shared".to_owned())).collect();
        let outcome = Outcome::Applied {
            how: String::new(),
            members: vec![],
            refused,
            borrowed: false,
            at: at(self.now),
        };
        self.outcome(action.id, outcome)
    }

    fn sleep(&mut self, time: Duration) -> Vec<Action> {
        self.now += u64::try_from(time.as_millis()).unwrap();
        let mut actions = Vec::new();
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= at(self.now)) {
            self.engine.handle_timeout(due);
            actions.extend(self.drain());
        }
        actions
    }

    fn group_of(&self, pid: u32) -> Option<String> {
        Some(self.engine.explain(pid)?.limited?.group.to_string())
    }
}

fn one(actions: Vec<Action>) -> Action {
    assert_eq!(actions.len(), 1, "{actions:#?}");
    actions.into_iter().next().unwrap()
}

fn apply(action: &Action) -> &Apply {
    let What::Apply(apply) = &action.what else { panic!("an apply, not {action:?}") };
    apply
}

fn notice(action: &Action) -> &Notice {
    let What::Notify { notice } = &action.what else { panic!("a notice, not {action:?}") };
    notice
}

fn kinds(actions: &[Action]) -> Vec<String> {
    let kind = |action: &Action| {
        if let What::Notify { notice } = &action.what {
            return notice.kind().to_owned();
        }
        serde_json::to_value(&action.what).unwrap()["action"].as_str().unwrap().to_owned()
    };
    actions.iter().map(kind).collect()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn comm(text: &str) -> Match {
    Match::Comm(Pattern::Exact(text.to_owned()))
}

fn rsync_rule() -> Profile {
    profile(vec![rule("backups", comm("rsync"))])
}

fn with_critical(mut profile: Profile, matches: Match) -> Profile {
    profile.critical.push(Critical::new(name("web"), matches));
    profile
}

/// What the processes of these tests cannot make themselves be: an nginx of uid 1000.
fn real_nginx() -> Match {
    Match::All(vec![comm("nginx"), Match::Uid(1000)])
}

fn watch(action: &Action) -> (ProcKey, bool, bool) {
    let What::Watch { key, on, protected } = &action.what else { panic!("a watch, not {action:?}") };
    (*key, *on, *protected)
}

fn key(pid: u32) -> ProcKey {
    process(pid, "").build().key
}

fn operator() -> Reason {
    Reason::Operator { uid: 0, request: "test".to_owned() }
}

fn by_hand(pids: &[u32]) -> ManualThrottle {
    ManualThrottle {
        group: name("by-hand"),
        limits: Limits { cpu: Some("10%".parse().unwrap()), ..Limits::default() },
        scope: Scope::Group,
        allow_move: true,
        whole_unit: false,
        policy: crate::model::policy::Policy::Fixed,
        processes: pids.iter().map(|pid| key(*pid)).collect(),
        until: None,
        reason: operator(),
    }
}

#[test]
fn a_matching_exec_is_limited_and_released_when_it_ends() {
    let mut rig = Rig::new(rsync_rule());
    let rsync = process(10, "rsync").cgroup(7);
    let action = one(rig.exec(rsync));
    let wanted = apply(&action);
    assert_eq!(
        (wanted.group.as_str(), &wanted.members[..], wanted.in_place),
        ("backups", &[key(10)][..], true)
    );
    assert_eq!(wanted.reason.to_string(), "rule backups of profile test: comm is \"rsync\"");
    let told = one(rig.applied(&action));
    let Notice::ThrottleApplied { latency_ns, processes, .. } = notice(&told) else { panic!("{told:?}") };
    assert_eq!((*latency_ns, processes.len()), (Some(2_000_000), 1));
    assert_eq!(rig.engine.snapshot().groups[0].state, GroupState::Active);

    let reap = one(rig.exit(rsync));
    assert_eq!(reap.what, What::Reap { group: name("backups") });
    assert!(rig.outcome(reap.id, Outcome::Busy).is_empty());
    let reap = one(rig.sleep(Duration::from_secs(5)));
    let told = one(rig.outcome(reap.id, Outcome::Released));
    assert_eq!(notice(&told), &Notice::ThrottleRemoved { group: name("backups"), reason: Reason::Empty });
    assert!(rig.engine.snapshot().groups.is_empty());
}

#[test]
fn matches_found_together_become_one_action_and_later_ones_wait_for_its_outcome() {
    let mut rig = Rig::new(rsync_rule());
    for pid in 10..20 {
        rig.feed(Input::Event { event: Event::Alive(process(pid, "rsync").build()) });
    }
    let first = one(rig.drain());
    assert_eq!(apply(&first).members.len(), 10);
    assert!(rig.exec(process(20, "rsync")).is_empty());
    let next = rig.applied(&first);
    assert_eq!(kinds(&next), ["throttle_applied", "apply"]);
    assert_eq!(apply(&next[1]).members, [key(20)]);
}

#[test]
fn limits_go_in_place_only_where_nobody_else_lives() {
    let mut rig = Rig::new(rsync_rule());
    rig.alive(process(5, "bash").cgroup(7));
    let put = one(rig.exec(process(10, "rsync").cgroup(7)));
    assert_eq!((apply(&put).in_place, &apply(&put).sharers[..]), (false, &[key(5)][..]));
    let mut rig = Rig::new(rsync_rule());
    (5..14).for_each(|pid| drop(rig.alive(process(pid, "bash").cgroup(7))));
    let put = one(rig.exec(process(20, "rsync").cgroup(7)));
    assert_eq!((apply(&put).in_place, apply(&put).sharers.len()), (false, 0), "too many to ask after");
    let mut rig = Rig::new(rsync_rule());
    assert!(!apply(&one(rig.exec(process(10, "rsync").cgroup(0)))).in_place);
    let mut rig = Rig::new(rsync_rule());
    rig.feed(Input::Event { event: Event::Alive(process(10, "rsync").cgroup(7).build()) });
    rig.feed(Input::Event { event: Event::Alive(process(11, "rsync").cgroup(8).build()) });
    assert!(!apply(&one(rig.drain())).in_place);
}

#[test]
fn facts_are_asked_for_once_and_only_where_they_matter() {
    let line = Match::CmdlineRegex(r"backup\.sh".into());
    let mut rig = Rig::new(profile(vec![rule("backups", Match::All(vec![line, Match::Uid(1000)]))]));
    assert!(rig.exec(process(9, "sh").uid(7)).is_empty());
    let asked = one(rig.exec(process(10, "sh")));
    let wants = Wants { cmdline: true, ..Wants::default() };
    assert_eq!(asked.what, What::Inspect { key: key(10), wants });
    assert!(rig.alive(process(10, "sh").ppid(3)).is_empty());
    let answer = Some(facts("", "sh backup.sh", ""));
    let action = one(rig.input(Input::Inspected { key: key(10), facts: answer }));
    assert_eq!(apply(&action).members, [key(10)]);
    // Facts that cannot be had do not match.
    one(rig.exec(process(11, "sh")));
    assert!(rig.input(Input::Inspected { key: key(11), facts: None }).is_empty());
    let told = rig.engine.explain(11).unwrap();
    assert_eq!(
        (told.rules[0].answer, told.rules[0].why.as_str()),
        (Answer::Unknown, "command line could not be read")
    );
}

#[test]
fn an_ancestors_facts_wake_those_that_wait_for_them() {
    let inner = Match::Exe(Pattern::Exact("/usr/bin/make".into()));
    let both = Match::All(vec![comm("cc"), Match::Parent(Box::new(inner))]);
    let mut rig = Rig::new(profile(vec![rule("builds", both)]));
    rig.alive(process(10, "make"));
    let asked = one(rig.exec(process(20, "cc").ppid(10)));
    let wants = Wants { exe: true, ..Wants::default() };
    assert_eq!(asked.what, What::Inspect { key: key(10), wants });
    let facts = Some(facts("/usr/bin/make", "", ""));
    let action = one(rig.input(Input::Inspected { key: key(10), facts }));
    assert_eq!(apply(&action).members, [key(20)]);
    assert!(rig.engine.waiting.is_empty());
}

#[test]
fn facts_that_others_wait_for_are_not_dropped_when_memory_is_short() {
    let line = |text: &str| Match::CmdlineRegex(text.into());
    let built = Match::All(vec![comm("cc"), Match::Parent(Box::new(line("world")))]);
    let mut rig = Rig::new(profile(vec![rule("builds", built), rule("lines", line("never"))]));
    let long = || Some(facts("", &"x".repeat(4_096), ""));
    // More than 4 MiB in all.
    for pid in 1_000..2_030 {
        rig.alive(process(pid, "sleep"));
        assert!(rig.input(Input::Inspected { key: key(pid), facts: long() }).is_empty());
    }
    rig.alive(process(10, "make"));
    rig.alive(process(11, "sh").ppid(10));
    for pid in [10, 11] {
        rig.input(Input::Inspected { key: key(pid), facts: long() });
    }
    let mut asked = rig.exec(process(20, "cc").ppid(11));
    let mut answers = 0;
    while let Some(action) = asked.pop() {
        let What::Inspect { key, .. } = action.what else { panic!("{action:?}") };
        answers += 1;
        assert!(answers <= 6, "asked again for what was told: {key}");
        asked.extend(rig.input(Input::Inspected { key, facts: long() }));
    }
    assert_eq!(rig.engine.explain(20).unwrap().owner, None);
}

#[test]
fn the_first_rule_by_priority_owns_a_process_and_disabled_ones_do_not_count() {
    let mut rules = vec![rule("late", comm("x")), rule("early", comm("x")), rule("off", comm("x"))];
    (rules[0].priority, rules[1].priority, rules[2].priority) = (2, 1, 0);
    rules[2].enabled = false;
    let mut rig = Rig::new(profile(rules));
    assert_eq!(apply(&one(rig.exec(process(10, "x")))).group.as_str(), "early");
    let told = rig.engine.explain(10).unwrap();
    let answers: Vec<_> = told.rules.iter().map(|rule| (rule.name.as_str(), rule.answer)).collect();
    assert_eq!(answers, [("off", Answer::Disabled), ("early", Answer::Yes), ("late", Answer::Yes)]);
    assert_eq!((told.owner, told.limited.unwrap().matched.as_str()), (Some(name("early")), "comm is \"x\""));
}

#[test]
fn protected_processes_are_never_limited() {
    let any = Match::Not(Box::new(comm("nothing")));
    let mut rig = Rig::new(with_critical(profile(vec![rule("all", any)]), real_nginx()));
    for process in [
        process(1, "init").uid(0),
        process(2, "kthreadd").uid(0),
        process(30, "kworker/0:1").kthread(),
        process(900, "agent"),
        process(800, "shell"),
        process(31, "sshd").uid(0),
        process(32, "systemd-journald").uid(0),
    ] {
        assert!(rig.alive(process).is_empty(), "{:?}", process.build());
        assert!(rig.engine.explain(process.build().key.pid).unwrap().protected.is_some());
    }
    assert_eq!(kinds(&rig.alive(process(40, "nginx"))), ["watch"]);
    // A name protects nobody who can choose it.
    assert_eq!(kinds(&rig.alive(process(50, "sshd").uid(1000))), ["apply"]);
}

#[test]
fn what_may_be_critical_is_not_limited() {
    let exe = Match::Exe(Pattern::Exact("/usr/sbin/nginx".into()));
    let mut rig = Rig::new(with_critical(rsync_rule(), exe));
    let asked = one(rig.exec(process(10, "rsync")));
    assert_eq!(asked.what, What::Inspect { key: key(10), wants: Wants { exe: true, ..Wants::default() } });
    assert!(rig.input(Input::Inspected { key: key(10), facts: None }).is_empty());
    one(rig.exec(process(11, "rsync")));
    let other = Some(facts("/usr/bin/rsync", "", ""));
    assert_eq!(kinds(&rig.input(Input::Inspected { key: key(11), facts: other })), ["apply"]);
}

#[test]
fn a_critical_name_saves_no_hog_from_its_limit() {
    let hogs = profile(vec![rule("hogs", Match::Uid(1000))]);
    let mut rig = Rig::new(with_critical(hogs, comm("nginx")));
    let action = one(rig.exec(process(10, "hog")));
    rig.applied(&action);
    // prctl(PR_SET_NAME), as the next sweep sees it.
    let execed = rig.now - 2;
    assert_eq!(watch(&one(rig.alive(process(10, "nginx").execed(execed)))), (key(10), true, false));
    assert_eq!(rig.group_of(10).as_deref(), Some("hogs"));
    // Born with the name.
    let actions = rig.exec(process(11, "nginx"));
    assert_eq!(
        (watch(&actions[0]), apply(&actions[1]).members.as_slice()),
        ((key(11), true, false), &[key(11)][..])
    );
    assert_eq!(kinds(&rig.applied(&actions[1])), ["throttle_applied"]);
    let told = rig.engine.explain(11).unwrap();
    assert_eq!(told.protected, None);
    assert_eq!(
        told.critical[0].why,
        "comm is \"nginx\"; critical for alerts only: its match names nothing that a process cannot forge"
    );
    // An operator may limit it too.
    assert_eq!(kinds(&rig.input(Input::Throttle(by_hand(&[11])))), ["detach"]);
    // Its death is told all the same.
    let actions = rig.exit(process(10, "nginx"));
    assert_eq!(
        (watch(&actions[0]), kinds(&actions)[1].as_str()),
        ((key(10), false, false), "critical_process_down")
    );
}

#[test]
fn any_protecting_entry_protects_and_the_first_entry_names_the_alert() {
    let exe = Match::Exe(Pattern::Exact("/usr/sbin/nginx".into()));
    let mut both = with_critical(profile(vec![rule("all", Match::Uid(1000))]), comm("nginx"));
    both.critical.push(Critical::new(name("real"), exe));
    let mut rig = Rig::new(both);
    // Nothing is done to it before it is told whether it is protected.
    let actions = rig.exec(process(10, "nginx"));
    assert_eq!((watch(&actions[0]), kinds(&actions)[1].as_str()), ((key(10), true, false), "inspect"));
    assert_eq!(actions.len(), 2);
    let told =
        one(rig.input(Input::Inspected { key: key(10), facts: Some(facts("/usr/sbin/nginx", "", "")) }));
    assert_eq!(watch(&told), (key(10), true, true));
    let why = rig.engine.explain(10).unwrap().protected;
    assert_eq!(why.as_deref(), Some("it is an instance of critical process real"));
    let refused = one(rig.input(Input::Throttle(by_hand(&[10]))));
    assert_eq!(kinds(&[refused]), ["throttle_failed"]);
    // The same name without the program.
    rig.exec(process(11, "nginx"));
    let forged = Some(facts("/tmp/nginx", "", ""));
    assert_eq!(kinds(&rig.input(Input::Inspected { key: key(11), facts: forged })), ["apply"]);
    // What cannot be told is on the safe side.
    rig.exec(process(12, "nginx"));
    let told = one(rig.input(Input::Inspected { key: key(12), facts: None }));
    assert_eq!(watch(&told), (key(12), true, true));
    let actions = rig.exit(process(10, "nginx"));
    let Notice::CriticalProcessDown { name, .. } = notice(&actions[1]) else { panic!("{actions:?}") };
    assert_eq!(name.as_str(), "web");
}

#[test]
fn protection_ends_with_what_earned_it() {
    let all = profile(vec![rule("all", Match::Uid(1000))]);
    let mut both = with_critical(all, comm("nginx"));
    both.critical.push(Critical::new(name("root-web"), Match::Uid(0)));
    let mut rig = Rig::new(both.clone());
    assert_eq!(watch(&one(rig.alive(process(10, "nginx").uid(0)))), (key(10), true, true));
    let actions = rig.alive(process(10, "nginx"));
    assert_eq!((watch(&actions[0]), kinds(&actions)[1].as_str()), ((key(10), true, false), "apply"));
    rig.applied(&actions[1]);
    // And begins with it: by a new profile that judges the same entry otherwise.
    both.critical[0].matches = real_nginx();
    let actions = rig.activate(both);
    assert_eq!(kinds(&actions), ["profile_activated", "watch", "detach"]);
    assert_eq!(watch(&actions[1]), (key(10), true, true));
}

#[test]
fn what_may_be_critical_for_alerts_only_does_not_keep_the_rules_waiting() {
    let line = Match::CmdlineRegex("master".into());
    let mut rig = Rig::new(with_critical(rsync_rule(), line));
    let actions = rig.exec(process(10, "rsync"));
    let wants = Wants { cmdline: true, ..Wants::default() };
    assert_eq!(actions[0].what, What::Inspect { key: key(10), wants });
    assert_eq!(apply(&actions[1]).members, [key(10)]);
    let told = one(rig.input(Input::Inspected { key: key(10), facts: Some(facts("", "rsync master", "")) }));
    assert_eq!(watch(&told), (key(10), true, false));
    assert_eq!(rig.group_of(10).as_deref(), Some("backups"));
}

#[test]
fn children_of_a_limited_process_are_counted_with_it() {
    let mut rig = Rig::new(rsync_rule());
    let action = one(rig.exec(process(10, "rsync")));
    rig.applied(&action);
    let ticks = rig.now / 10 + 1;
    let child = process(11, "ssh").ppid(10).start(ticks);
    assert!(rig.alive(child).is_empty());
    let twin = process(12, "rsync").ppid(10).start(ticks);
    assert!(rig.alive(twin).is_empty(), "it was born limited");
    // Older than its parent's limit: it never was in the group's cgroup.
    assert!(rig.alive(process(13, "old").ppid(10)).is_empty());
    assert_eq!(rig.group_of(13), None);
    let members: Vec<_> =
        rig.engine.snapshot().groups[0].members.iter().map(|m| (m.key.pid, m.membership)).collect();
    assert_eq!(members, [(10, Membership::Matched), (11, Membership::Inherited), (12, Membership::Matched)]);
    assert!(rig.exit(process(10, "rsync")).is_empty());
    assert!(rig.exit(twin).is_empty());
    assert_eq!(kinds(&rig.exit(child)), ["reap"]);
}

#[test]
fn scope_process_gives_each_its_own_group() {
    let mut each = rule("backups", comm("rsync"));
    each.scope = Scope::Process;
    let mut rig = Rig::new(profile(vec![each]));
    let first = one(rig.exec(process(10, "rsync")));
    assert_eq!(apply(&first).group.as_str(), "backups.10.100");
    rig.applied(&first);
    let child = process(11, "rsync").ppid(10).start(rig.now / 10 + 1);
    assert_eq!(apply(&one(rig.alive(child))).members.len(), 1);
    let released =
        rig.input(Input::Release { target: ReleaseTarget::Rule(name("backups")), reason: operator() });
    assert_eq!(kinds(&released), ["release"]);
}

#[test]
fn failures_are_told_once_and_tried_again_ever_more_slowly() {
    let mut rig = Rig::new(rsync_rule());
    let mut action = one(rig.exec(process(10, "rsync")));
    let failed = || Outcome::Failed { error: "no space".to_owned() };
    assert_eq!(kinds(&rig.outcome(action.id, failed())), ["throttle_failed"]);
    for seconds in [1, 5, 30, 30] {
        assert!(
            rig.sleep(Duration::from_millis(seconds * 1_000 - 10)).iter().all(|a| a.what == What::Resync)
        );
        let again = rig.sleep(Duration::from_millis(20));
        action = again.into_iter().find(|a| matches!(a.what, What::Apply(_))).unwrap();
        assert_eq!(apply(&action).members, [key(10)]);
        assert!(rig.outcome(action.id, failed()).is_empty());
    }
    assert_eq!(rig.engine.snapshot().groups[0].state, GroupState::Failing);
    let again = rig.sleep(Duration::from_secs(31));
    action = again.into_iter().find(|a| matches!(a.what, What::Apply(_))).unwrap();
    assert_eq!(kinds(&rig.applied(&action)), ["throttle_applied"]);
    assert_eq!(rig.engine.snapshot().groups[0].error, None);
}

#[test]
fn a_refusal_that_lasts_is_told_once_and_asked_about_less_and_less() {
    let mut rig = Rig::new(rsync_rule());
    let mut action = one(rig.exec(process(10, "rsync")));
    assert!(rig.refused(&action).is_empty(), "it may be over in a moment");
    assert!(rig.engine.snapshot().groups.is_empty());
    assert!(rig.alive(process(10, "rsync").ppid(4).execed(rig.now - 2)).is_empty());
    assert_eq!(rig.engine.explain(10).unwrap().refused.as_deref(), Some("shared"));
    for (again, wait) in [10, 100, 1_000, 10_000].into_iter().enumerate() {
        assert!(rig.sleep(Duration::from_millis(wait - 5)).is_empty(), "not before its time");
        action = one(rig.sleep(Duration::from_millis(5)));
        let told = rig.refused(&action);
        let expected: &[&str] = if again == 0 { &["throttle_failed"] } else { &[] };
        assert_eq!(kinds(&told), expected);
    }
    assert_eq!(kinds(&rig.exec(process(10, "rsync"))), ["apply"], "another program is asked about at once");
    rig.exit(process(10, "rsync"));
    rig.sleep(Duration::from_millis(60_000));
    rig.sleep(Duration::from_millis(60_000));
    assert!(rig.engine.refusals.next_timeout().is_none(), "nobody is left to ask about");
}

#[test]
fn those_that_were_refused_one_by_one_are_asked_about_together() {
    let mut rig = Rig::new(rsync_rule());
    // The next one is in the cgroup already, but has not run its program yet.
    for pid in 10..13 {
        rig.alive(process(pid + 1, "sh").cgroup(77));
        let action = one(rig.exec(process(pid, "rsync").cgroup(77)));
        assert!(!apply(&action).in_place);
        assert!(rig.refused(&action).is_empty());
    }
    rig.exit(process(13, "sh").cgroup(77));
    let action = one(rig.sleep(Duration::from_millis(10)));
    assert!(apply(&action).in_place, "all that are there belong to the rule");
    assert_eq!(apply(&action).members, [key(10), key(11), key(12)]);
    assert_eq!(kinds(&rig.applied(&action)), ["throttle_applied"]);
    assert_eq!(rig.group_of(11).as_deref(), Some("backups"));
    assert!(rig.sleep(Duration::from_millis(200)).is_empty());
    assert!(rig.engine.refusals.next_timeout().is_none(), "there is nobody to ask about any more");
}

#[test]
fn a_newcomer_has_all_of_a_cgroup_asked_about_within_a_second() {
    let mut rig = Rig::new(rsync_rule());
    rig.alive(process(99, "sh").cgroup(77));
    let mut action = one(rig.exec(process(10, "rsync").cgroup(77)));
    for wait in [10, 100, 1_000, 10_000] {
        rig.refused(&action);
        action = one(rig.sleep(Duration::from_millis(wait)));
    }
    rig.refused(&action);
    // It would be asked about after a minute.
    action = one(rig.exec(process(11, "rsync").cgroup(77)));
    rig.refused(&action);
    rig.exit(process(99, "sh").cgroup(77));
    assert!(rig.sleep(Duration::from_millis(990)).is_empty(), "not at once: the next one may be on its way");
    let action = one(rig.sleep(Duration::from_millis(10)));
    assert!(apply(&action).in_place);
    assert_eq!(apply(&action).members, [key(10), key(11)]);
    // Those that were asked about before are no news.
    rig.refused(&action);
    assert!(rig.sleep(Duration::from_millis(9_990)).iter().all(|action| action.what == What::Resync));
}

#[test]
fn another_cgroup_is_another_question() {
    let mut rig = Rig::new(rsync_rule());
    let action = one(rig.exec(process(10, "rsync").cgroup(77)));
    assert!(rig.refused(&action).is_empty());
    let action = one(rig.alive(process(10, "rsync").cgroup(78).execed(rig.now)));
    assert_eq!(kinds(&rig.applied(&action)), ["throttle_applied"]);
    assert!(rig.sleep(Duration::from_millis(200)).is_empty());
}

#[test]
fn an_exec_keeps_the_limit_unless_another_rule_or_a_critical_match_takes_over() {
    let both = profile(vec![rule("backups", comm("rsync")), rule("builds", comm("cc"))]);
    let mut rig = Rig::new(with_critical(both, real_nginx()));
    let action = one(rig.exec(process(10, "rsync")));
    rig.applied(&action);
    assert!(rig.exec(process(10, "ssh")).is_empty());
    assert_eq!(rig.group_of(10).as_deref(), Some("backups"));
    assert!(rig.exec(process(10, "rsync")).is_empty());
    // Taken over: out of the one first, then into the other.
    let detach = one(rig.exec(process(10, "cc")));
    assert!(matches!(&detach.what, What::Detach { group, .. } if group.as_str() == "backups"), "{detach:?}");
    let next = rig.outcome(detach.id, Outcome::Released);
    assert_eq!(kinds(&next), ["reap", "apply"]);
    assert_eq!(apply(&next[1]).group.as_str(), "builds");
    rig.outcome(next[0].id, Outcome::Released);
    rig.applied(&next[1]);
    let actions = rig.exec(process(10, "nginx"));
    assert_eq!(kinds(&actions), ["watch", "detach"]);
}

#[test]
fn a_new_profile_releases_relimits_and_lets_go() {
    let mut rig = Rig::new(profile(vec![
        rule("gone", comm("a")),
        rule("kept", Match::Any(vec![comm("b"), comm("c")])),
    ]));
    let mut held = Vec::new();
    for (pid, comm) in [(10, "a"), (11, "b"), (12, "c")] {
        held.extend(rig.exec(process(pid, comm)));
        let action = held.pop().unwrap();
        rig.applied(&action);
    }
    let mut kept = rule("kept", comm("b"));
    kept.limits.cpu = Some("50%".parse().unwrap());
    let actions = rig.activate(profile(vec![kept]));
    assert_eq!(kinds(&actions), ["profile_activated", "release", "detach"]);
    assert!(matches!(&actions[2].what, What::Detach { key, .. } if key.pid == 12));
    let relimit = one(rig.outcome(actions[2].id, Outcome::Released));
    assert!(apply(&relimit).members.is_empty());
    assert_eq!(apply(&relimit).limits.to_string(), "cpu=50%");
    let told = one(rig.outcome(actions[1].id, Outcome::Released));
    let reason = Reason::RuleGone { rule: name("gone") };
    assert_eq!(notice(&told), &Notice::ThrottleRemoved { group: name("gone"), reason });
    rig.applied(&relimit);
    let off = rig.input(Input::Profile { profile: None });
    assert_eq!(kinds(&off), ["profile_activated", "release"]);
}

#[test]
fn a_profile_that_does_not_compile_changes_nothing() {
    let mut rig = Rig::new(rsync_rule());
    let bad = profile(vec![rule("bad", Match::CmdlineRegex("(".into()))]);
    let told = one(rig.activate(bad));
    let Notice::ConfigurationChanged { detail, accepted } = notice(&told) else { panic!("{told:?}") };
    assert!(!accepted && detail.contains("bad") && detail.contains("unclosed group"), "{detail}");
    assert_eq!(kinds(&rig.exec(process(10, "rsync"))), ["apply"]);
}

#[test]
fn a_throttle_by_hand_is_all_or_nothing_and_ends_in_time() {
    let mut rig = Rig::new(with_critical(rsync_rule(), real_nginx()));
    rig.alive(process(10, "bash"));
    rig.alive(process(11, "nginx"));
    let refused = one(rig.input(Input::Throttle(by_hand(&[10, 11, 12]))));
    let Notice::ThrottleFailed { error, .. } = notice(&refused) else { panic!("{refused:?}") };
    assert_eq!(
        error,
        "pid 11: it is an instance of critical process web; pid 12: it is not known: it is gone, or its pid was reused"
    );
    let taken = ManualThrottle { group: name("backups"), ..by_hand(&[10]) };
    assert_eq!(kinds(&rig.input(Input::Throttle(taken))), ["throttle_failed"]);

    let until = Some(at(rig.now + 10_000));
    let action = one(rig.input(Input::Throttle(ManualThrottle { until, ..by_hand(&[10]) })));
    rig.applied(&action);
    // The rules leave it alone while the operator's word stands.
    assert!(rig.exec(process(10, "rsync")).is_empty());
    let mut again = by_hand(&[10]);
    (again.limits.cpu, again.until) = (Some("20%".parse().unwrap()), until);
    let action = one(rig.input(Input::Throttle(again)));
    assert_eq!((apply(&action).limits.to_string().as_str(), apply(&action).members.len()), ("cpu=20%", 0));
    rig.applied(&action);
    let release = one(rig.sleep(Duration::from_secs(10)));
    assert_eq!(release.what, What::Release { group: name("by-hand"), reason: Reason::Expired });
    // Free again, the rules take it, but not before it is out.
    let next = rig.outcome(release.id, Outcome::Released);
    assert_eq!(kinds(&next), ["throttle_removed", "apply"]);
    assert_eq!(apply(&next[1]).group.as_str(), "backups");
}

#[test]
fn what_an_operator_releases_is_exempt_until_the_profile_is_activated_again() {
    let mut rig = Rig::new(rsync_rule());
    for pid in [10, 11] {
        rig.feed(Input::Event { event: Event::Alive(process(pid, "rsync").build()) });
    }
    let action = one(rig.drain());
    rig.applied(&action);
    let detach =
        one(rig.input(Input::Release { target: ReleaseTarget::Process(key(10)), reason: operator() }));
    rig.outcome(detach.id, Outcome::Released);
    assert!(rig.exec(process(10, "rsync")).is_empty());
    assert_eq!(rig.engine.explain(10).unwrap().rules[0].answer, Answer::Exempt);
    let release =
        one(rig.input(Input::Release { target: ReleaseTarget::Group(name("backups")), reason: operator() }));
    rig.outcome(release.id, Outcome::Released);
    assert_eq!(kinds(&rig.exec(process(12, "rsync"))), ["apply"], "others are not exempt");
    rig.exit(process(12, "rsync"));
    let actions = rig.activate(rsync_rule());
    assert_eq!(rig.group_of(10).as_deref(), Some("backups"));
    assert_eq!(kinds(&actions), ["profile_activated"], "the apply in flight comes first");
}

#[test]
fn a_release_waits_for_the_action_in_flight_and_a_stop_ends_throttling() {
    let mut rig = Rig::new(rsync_rule());
    let action = one(rig.exec(process(10, "rsync")));
    assert!(rig.input(Input::Release { target: ReleaseTarget::All, reason: Reason::Stopping }).is_empty());
    let next = rig.applied(&action);
    assert_eq!(kinds(&next), ["throttle_applied", "release"]);
    assert!(rig.exec(process(11, "rsync")).is_empty());
    assert_eq!(kinds(&rig.input(Input::Throttle(by_hand(&[11])))), ["throttle_failed"]);
    rig.outcome(next[1].id, Outcome::Released);
    assert!(rig.engine.snapshot().groups.is_empty());
}

#[test]
fn a_critical_child_of_a_limited_process_is_freed() {
    let mut rig = Rig::new(with_critical(rsync_rule(), real_nginx()));
    let parent = process(10, "rsync").cgroup(7);
    let action = one(rig.exec(parent));
    rig.applied(&action);
    // Seen for the first time as what it is: it was never a member.
    let child = process(11, "nginx").ppid(10).start(500).cgroup(7);
    let actions = rig.alive(child);
    assert_eq!(kinds(&actions), ["watch", "detach"]);
    let What::Detach { key: freed, reason, .. } = &actions[1].what else { panic!() };
    assert_eq!((*freed, reason.to_string().contains("critical process web")), (child.build().key, true));
    // The limits are on the cgroup that both are in: they are lifted, and nothing is limited in place again.
    let release = one(rig.outcome(actions[1].id, Outcome::Entangled { why: "shared".to_owned() }));
    assert_eq!(kinds(std::slice::from_ref(&release)), ["release"]);
    let again = rig.outcome(release.id, Outcome::Released);
    assert_eq!(kinds(&again), ["throttle_removed", "apply"]);
    let wanted = apply(&again[1]);
    assert_eq!((wanted.in_place, &wanted.members[..]), (false, &[key(10)][..]));
    assert!(rig.alive(child).is_empty(), "once is enough");
}

#[test]
fn a_critical_child_born_while_its_parent_is_being_limited_is_freed() {
    let mut rig = Rig::new(with_critical(rsync_rule(), real_nginx()));
    let action = one(rig.exec(process(10, "rsync").cgroup(7)));
    // Before the outcome of its parent's limits is known.
    assert_eq!(kinds(&rig.alive(process(11, "nginx").ppid(10).cgroup(7))), ["watch"]);
    let actions = rig.applied(&action);
    assert_eq!(kinds(&actions), ["throttle_applied", "detach"]);
    assert!(matches!(&actions[1].what, What::Detach { key: freed, .. } if *freed == key(11)));
}

#[test]
fn a_stranger_in_a_limited_cgroup_is_freed_with_it() {
    let mut rig = Rig::new(rsync_rule());
    let limited = |rig: &mut Rig| {
        let action = one(rig.exec(process(10, "rsync").cgroup(7)));
        rig.applied(&action);
    };
    limited(&mut rig);
    let born = process(11, "ssh").start(500).cgroup(7);
    assert!(rig.alive(born).is_empty(), "its parent is gone: it was born there");
    assert_eq!(rig.group_of(11).as_deref(), Some("backups"));
    assert!(rig.alive(process(12, "sh").cgroup(8)).is_empty());
    let child = process(13, "sh").ppid(12).start(500).cgroup(7);
    let mut put = Vec::new();
    for intruder in [process(12, "sh").cgroup(7), child] {
        let release = one(rig.alive(intruder));
        let What::Release { reason, .. } = &release.what else { panic!("{release:?}") };
        assert!(reason.to_string().contains("which is not of the group"), "{reason}");
        put = rig.outcome(release.id, Outcome::Released);
        assert_eq!(kinds(&put), ["throttle_removed", "apply"]);
        assert!(!apply(&put[1]).in_place);
        rig = Rig::new(rsync_rule());
        limited(&mut rig);
        rig.alive(process(12, "sh").cgroup(8));
    }
    assert_eq!(apply(&put[1]).members, [key(10)]);
}

#[test]
fn a_child_that_inherits_a_nice_value_is_recorded() {
    let mut nice = rule("backups", comm("rsync"));
    nice.limits = Limits { nice: Some("7".parse().unwrap()), ..Limits::default() };
    for (limits, asked) in [(nice.limits.clone(), true), (rule("x", comm("x")).limits, false)] {
        let mut rig = Rig::new(profile(vec![Rule { limits, ..nice.clone() }]));
        let first = one(rig.exec(process(10, "rsync").cgroup(7)));
        rig.applied(&first);
        let actions = rig.alive(process(11, "ssh").ppid(10).start(500).cgroup(7));
        assert_eq!(actions.iter().any(|action| matches!(action.what, What::Apply(_))), asked);
        assert_eq!(rig.group_of(11).as_deref(), Some("backups"));
    }
}

#[test]
fn an_operator_who_wants_an_entangled_process_out_is_told() {
    let mut rig = Rig::new(rsync_rule());
    let first = one(rig.exec(process(10, "rsync").cgroup(7)));
    rig.applied(&first);
    let second = one(rig.exec(process(11, "rsync").cgroup(7)));
    rig.applied(&second);
    let target = ReleaseTarget::Process(key(11));
    let detach = one(rig.input(Input::Release { target, reason: operator() }));
    let actions = rig.outcome(detach.id, Outcome::Entangled { why: "shared".to_owned() });
    assert_eq!(kinds(&actions), ["throttle_failed"]);
    assert_eq!(rig.group_of(10).as_deref(), Some("backups"));
}

#[test]
fn a_critical_death_is_told_once_with_its_cause() {
    let mut rig = Rig::new(with_critical(rsync_rule(), comm("nginx")));
    let nginx = process(10, "nginx");
    assert_eq!(watch(&one(rig.exec(nginx))), (key(10), true, false));
    rig.exec(process(11, "nginx"));
    // A child is judged on its own merits; an exec ends them.
    rig.input(Input::Event { event: Event::Fork(process(12, "nginx").ppid(10).build()) });
    assert_eq!(watch(&one(rig.exec(process(12, "cgi")))), (key(12), false, false));
    let actions = rig.exit(nginx);
    assert_eq!(kinds(&actions), ["watch", "critical_process_down"]);
    let Notice::CriticalProcessDown { exit, remaining, .. } = notice(&actions[1]) else { panic!() };
    assert_eq!((exit.status.unwrap().to_string().as_str(), *remaining), ("signal 9 (SIGKILL)", 1));
    assert!(rig.exit(nginx).is_empty());
    assert!(rig.exit(process(12, "cgi")).is_empty());
    // A life that was over before anyone looked.
    assert_eq!(kinds(&rig.exit(process(13, "nginx"))), ["critical_process_down"]);
    let view = rig.engine.snapshot();
    assert_eq!((view.critical[0].instances.as_slice(), view.critical[0].deaths), (&[key(11)][..], 2));
}

#[test]
fn who_became_critical_after_a_look_and_died_before_the_next_is_told() {
    let mut rig = Rig::new(with_critical(rsync_rule(), comm("nginx")));
    for pid in [10, 11] {
        rig.alive(process(pid, "sh"));
    }
    assert_eq!(kinds(&rig.exit(process(10, "nginx").execed(1_500))), ["critical_process_down"]);
    assert!(rig.exit(process(11, "cgi").execed(1_500)).is_empty());
}

#[test]
fn what_there_must_be_is_missed_and_its_return_is_told() {
    let mut profile = with_critical(rsync_rule(), comm("nginx"));
    let start_within = Duration::from_secs(10);
    profile.critical[0].expect = Some(Expect { min_instances: 1, start_within });
    let mut rig = Rig::new(profile);
    assert_eq!(kinds(&rig.sleep(start_within)), ["critical_process_missing"]);
    assert!(rig.sleep(Duration::from_secs(5)).is_empty(), "told once");
    rig.exec(process(10, "nginx"));
    assert_eq!(kinds(&rig.sleep(Duration::from_secs(1))), ["critical_process_recovered"]);
    // It runs something else from now on.
    rig.exec(process(10, "sh"));
    let missing = rig.sleep(start_within);
    let Notice::CriticalProcessMissing { why, .. } = notice(&missing[0]) else { panic!("{missing:?}") };
    assert_eq!(why.to_string(), "pid 10 is something else by now (sh)");
    rig.exec(process(10, "nginx"));
    assert_eq!(kinds(&rig.exit(process(10, "nginx"))), ["watch", "critical_process_down"]);
    let view = rig.engine.snapshot();
    assert!(view.critical[0].absent_since.is_some() && !view.critical[0].flapping);
}

#[test]
fn a_snapshot_finds_the_dead_and_waits_a_moment_for_the_cause() {
    let mut rig = Rig::new(with_critical(rsync_rule(), comm("nginx")));
    for (pid, comm) in [(10, "nginx"), (11, "nginx"), (12, "sh"), (13, "sh")] {
        rig.alive(process(pid, comm));
    }
    assert_eq!(one(rig.input(Input::Lost { dropped: 5 })).what, What::Resync);
    assert!(rig.input(Input::Lost { dropped: 2 }).is_empty());
    let began = at(rig.now + 1);
    rig.alive(process(13, "sh"));
    let told = one(rig.input(Input::SnapshotEnd { began }));
    assert_eq!(notice(&told), &Notice::EventsLost { dropped: 7, missed_exits: 3 });
    assert_eq!(kinds(&rig.exit(process(11, "nginx"))), ["watch", "critical_process_down"]);
    let actions = rig.sleep(Duration::from_millis(100));
    let Notice::CriticalProcessDown { exit: Exit { status, process: dead, .. }, .. } = notice(&actions[1])
    else {
        panic!("{actions:?}")
    };
    assert_eq!((*status, dead.key), (None, key(10)));
    assert!(rig.exit(process(10, "nginx")).is_empty());
    assert_eq!(rig.engine.processes(), [key(13)]);
}

#[test]
fn a_loss_during_a_snapshot_asks_for_another() {
    let mut rig = Rig::new(rsync_rule());
    rig.input(Input::Lost { dropped: 1 });
    let began = at(rig.now);
    rig.now += 5;
    rig.input(Input::Lost { dropped: 1 });
    assert_eq!(one(rig.input(Input::SnapshotEnd { began })).what, What::Resync);
    let began = at(rig.now + 1);
    let told = one(rig.input(Input::SnapshotEnd { began }));
    assert_eq!(notice(&told), &Notice::EventsLost { dropped: 2, missed_exits: 0 });
}

#[test]
fn a_reused_pid_ends_its_former_owner() {
    let mut rig = Rig::new(with_critical(rsync_rule(), comm("nginx")));
    rig.alive(process(10, "nginx"));
    let heir: Process = process(10, "rsync").start(900).build();
    let actions = rig.input(Input::Event { event: Event::Exec(heir) });
    assert_eq!(kinds(&actions), ["watch", "critical_process_down", "apply"]);
    assert_eq!(apply(&actions[2]).members, [heir.key]);
    assert!(rig.exit(process(10, "nginx")).is_empty());
    assert_eq!(rig.engine.processes(), [heir.key]);
}

#[test]
fn the_table_is_compared_with_the_kernel_every_minute() {
    let mut rig = Rig::new(rsync_rule());
    rig.alive(process(10, "bash"));
    assert!(rig.sleep(RESYNC_INTERVAL - Duration::from_millis(100)).is_empty());
    assert_eq!(one(rig.sleep(Duration::from_millis(100))).what, What::Resync);
    let began = at(rig.now);
    // It has changed its name by itself: no event tells that.
    assert_eq!(kinds(&rig.alive(process(10, "rsync"))), ["apply"]);
    assert!(rig.input(Input::SnapshotEnd { began }).is_empty());
    assert_eq!(one(rig.sleep(RESYNC_INTERVAL)).what, What::Resync);
}

#[test]
fn outcomes_of_unknown_actions_are_counted() {
    let mut rig = Rig::new(rsync_rule());
    assert!(rig.outcome(ActionId(77), Outcome::Released).is_empty());
    assert_eq!(rig.engine.counts().odd_outcomes, 1);
}
