use proptest::prelude::*;

use super::*;

const RUNS: [Run; 7] = [
    Run::Created,
    Run::Running,
    Run::Paused,
    Run::Restarting,
    Run::Exited,
    Run::Dead,
    Run::Removing,
];

fn facts(phase: Phase) -> Facts {
    Facts {
        phase,
        prior: Prior::Running,
        prepared: Prepared::Yes,
        takeovers: 0,
        stops: 0,
        creations: 0,
        restarts: 0,
        settlings: 0,
        filings: 0,
        settled: Settled::Yes,
        attempt: Attempt::Begun,
    }
}

fn every_observation() -> impl Iterator<Item = Seen> {
    let mut olds = vec![None];
    let mut news = vec![None];
    for run in RUNS {
        for named in [Named::Original, Named::Temporary, Named::Other] {
            for restart in [
                RestartPolicy::Own,
                RestartPolicy::Neutral,
                RestartPolicy::OwnIsNo,
            ] {
                olds.push(Some(SeenOld {
                    run,
                    named,
                    restart,
                }));
            }
        }
        for made in [Made::Complete, Made::Incomplete] {
            for started in [false, true] {
                news.push(Some(SeenNew { run, made, started }));
            }
        }
    }
    let names = [NameHolder::Nobody, NameHolder::Ours, NameHolder::Foreign];
    olds.into_iter().flat_map(move |old| {
        let news = news.clone();
        news.into_iter().flat_map(move |new| {
            names.into_iter().flat_map(move |name| {
                let settled = [SeenDependants::NONE, UP, DOWN].map(|dependants| Seen {
                    old,
                    new,
                    name,
                    dependants,
                    file: SeenFile::Settled,
                });
                let owed = settled.map(|seen| Seen {
                    file: SeenFile::Owed,
                    ..seen
                });
                settled.into_iter().chain(owed)
            })
        })
    })
}

/// They run as before.
const UP: SeenDependants = SeenDependants {
    quiet: false,
    on_old: true,
    on_new: false,
};
/// They were stopped.
const DOWN: SeenDependants = SeenDependants {
    quiet: true,
    on_old: false,
    on_new: false,
};
/// They were made again.
const MOVED: SeenDependants = SeenDependants {
    quiet: true,
    on_old: false,
    on_new: true,
};

fn every_case(mut check: impl FnMut(Facts, Seen, Step)) {
    for seen in every_observation() {
        for phase in Phase::ALL {
            for prior in [Prior::Running, Prior::Paused, Prior::Stopped] {
                for takeovers in [0, POISON_TAKEOVERS, PARK_TAKEOVERS] {
                    for prepared in [Prepared::NotYet, Prepared::Yes] {
                        for stops in [0, MAX_STOPS] {
                            let facts = Facts {
                                prior,
                                takeovers,
                                prepared,
                                stops,
                                restarts: stops,
                                settlings: stops / MAX_STOPS * MAX_SETTLINGS,
                                filings: stops / MAX_STOPS * MAX_FILINGS,
                                ..facts(*phase)
                            };
                            check(facts, seen, next_step(&facts, &seen));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_recorded_phase_may_follow_the_one_before() {
    every_case(|facts, seen, step| {
        let next = match step {
            Step::Record(phase) => phase,
            Step::Rollback(_) => Phase::RollbackStarted,
            Step::Fail(_) => Phase::Failed,
            Step::Defer(_) | Step::Superseded => Phase::RollbackFailed,
            Step::Act(_) | Step::Judge | Step::Wait | Step::Over => return,
        };
        assert!(
            facts.phase.may_become(next),
            "{} -> {next} on {facts:?} {seen:?}",
            facts.phase
        );
    });
}

#[test]
fn the_old_container_is_removed_only_past_the_gate_and_only_for_a_new_one() {
    every_case(|facts, seen, step| {
        if step == Step::Act(Action::RemoveOld) {
            assert_eq!(facts.phase, Phase::HealthGatePassed);
            assert!(seen.new.is_some());
            assert!(!seen.old.unwrap().run.is_alive());
        }
    });
}

#[test]
fn neither_container_is_started_while_the_other_may_run() {
    every_case(|facts, seen, step| match step {
        Step::Act(Action::StartNew) => assert!(
            seen.old.is_none_or(|old| !old.run.is_alive()),
            "{facts:?} {seen:?}"
        ),
        Step::Act(Action::StartOld | Action::RecreateOld) => {
            assert!(seen.new.is_none(), "{facts:?} {seen:?}");
        }
        _ => {}
    });
}

#[test]
fn the_old_container_is_stopped_only_when_a_daemon_cannot_revive_it() {
    every_case(|facts, seen, step| {
        if step == Step::Act(Action::StopOld) && facts.phase != Phase::HealthGatePassed {
            assert_ne!(seen.old.unwrap().restart, RestartPolicy::Own);
        }
    });
}

#[test]
fn those_that_live_in_the_old_containers_namespaces_are_stopped_before_it() {
    every_case(|facts, seen, step| {
        let forward = facts.phase != Phase::HealthGatePassed;
        if forward && matches!(step, Step::Act(Action::StopOld | Action::NeutraliseOld)) {
            assert!(seen.dependants.quiet, "{facts:?} {seen:?}");
        }
    });
}

#[test]
fn the_dependants_come_back_when_a_container_has_proved_itself_and_before_the_end() {
    every_case(|facts, seen, step| {
        let given_up = facts.settlings >= MAX_SETTLINGS || facts.takeovers >= PARK_TAKEOVERS;
        match step {
            Step::Act(Action::SettleDependants) => {
                assert!(!given_up);
                let forward = facts.phase == Phase::HealthGatePassed;
                assert_eq!(seen.new.is_some(), forward, "{facts:?} {seen:?}");
                assert!(forward || seen.old.is_some());
            }
            Step::Record(Phase::RolledBack) => assert!(given_up || seen.dependants.on_old),
            Step::Act(Action::RemoveOld) => assert!(given_up || seen.dependants.on_new),
            _ => {}
        }
    });
}

#[test]
fn the_compose_file_names_only_what_has_proved_itself_and_is_written_before_the_end() {
    every_case(|facts, seen, step| {
        let given_up = facts.filings >= MAX_FILINGS || facts.takeovers >= PARK_TAKEOVERS;
        let settled = given_up || seen.file == SeenFile::Settled;
        match step {
            Step::Act(Action::WriteFile) => {
                assert!(!settled);
                assert_eq!(facts.phase, Phase::HealthGatePassed);
                assert!(seen.new.is_some());
            }
            Step::Act(Action::RemoveOld) => assert!(settled, "{facts:?} {seen:?}"),
            Step::Record(Phase::Succeeded) if seen.new.is_some() => {
                assert!(
                    settled || facts.phase == Phase::Prepare,
                    "{facts:?} {seen:?}"
                );
            }
            _ => {}
        }
    });
}

#[test]
fn nothing_is_touched_before_everything_slow_is_done() {
    every_case(|facts, _, step| {
        if facts.phase == Phase::Prepare && facts.prepared == Prepared::NotYet {
            assert!(
                !matches!(step, Step::Act(action) if action != Action::Prepare),
                "{step:?}"
            );
        }
    });
}

#[test]
fn a_poisoned_operation_takes_no_forward_step() {
    every_case(|facts, seen, step| {
        let forward = matches!(
            step,
            Step::Act(Action::RenameOld | Action::CreateNew | Action::StopOld | Action::StartNew)
        );
        if facts.takeovers >= POISON_TAKEOVERS && facts.phase != Phase::HealthGatePassed {
            assert!(!forward, "{step:?} on {facts:?} {seen:?}");
        }
    });
}

#[test]
fn past_the_gate_nothing_turns_round() {
    every_case(|facts, _, step| {
        if facts.phase == Phase::HealthGatePassed {
            assert!(!matches!(
                step,
                Step::Rollback(_) | Step::Fail(_) | Step::Defer(_)
            ));
        }
    });
}

/// An engine with at most the two containers and those that live in the old one's namespaces, and
/// the durable row, for playing whole programs.
#[derive(Clone, Copy, Debug)]
struct Model {
    seen: Seen,
    facts: Facts,
    own_restart: RestartPolicy,
    /// How every new container comes out.
    outcome: Made,
    dependants: Dependants,
    file: File,
}

/// The Compose file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    None,
    Writable,
    /// It stays as it is, whatever is done.
    Broken,
}

/// What there is besides the two containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dependants {
    None,
    Running,
    /// They do not come back, whatever is done.
    Broken,
}

impl Model {
    fn new(
        prior: Prior,
        own_restart: RestartPolicy,
        outcome: Made,
        dependants: Dependants,
        file: File,
    ) -> Self {
        let run = match prior {
            Prior::Running => Run::Running,
            Prior::Paused => Run::Paused,
            Prior::Stopped => Run::Exited,
        };
        Self {
            seen: Seen {
                old: Some(SeenOld {
                    run,
                    named: Named::Original,
                    restart: own_restart,
                }),
                new: None,
                name: NameHolder::Ours,
                dependants: match dependants {
                    Dependants::None => SeenDependants::NONE,
                    Dependants::Running | Dependants::Broken => UP,
                },
                file: match file {
                    File::None => SeenFile::Settled,
                    File::Writable | File::Broken => SeenFile::Owed,
                },
            },
            facts: Facts {
                prior,
                prepared: Prepared::NotYet,
                ..facts(Phase::Prepare)
            },
            own_restart,
            outcome,
            dependants,
            file,
        }
    }

    fn apply(&mut self, action: Action) {
        let up = match self.facts.prior {
            Prior::Paused => Run::Paused,
            _ => Run::Running,
        };
        let seen = &mut self.seen;
        let old = seen.old.as_mut();
        match action {
            Action::Prepare => self.facts.prepared = Prepared::Yes,
            Action::RenameOld => {
                old.unwrap().named = Named::Temporary;
                seen.name = NameHolder::Nobody;
            }
            Action::CreateNew => {
                assert_eq!(seen.name, NameHolder::Nobody);
                self.facts.creations += 1;
                seen.new = Some(SeenNew {
                    run: Run::Created,
                    made: self.outcome,
                    started: false,
                });
                seen.name = NameHolder::Ours;
            }
            Action::RemoveNew => {
                seen.new = None;
                seen.name = match old {
                    Some(SeenOld {
                        named: Named::Original,
                        ..
                    }) => NameHolder::Ours,
                    _ => NameHolder::Nobody,
                };
            }
            Action::NeutraliseOld => old.unwrap().restart = RestartPolicy::Neutral,
            Action::StopOld => {
                self.facts.stops += 1;
                old.unwrap().run = Run::Exited;
            }
            Action::StartNew => {
                let new = seen.new.as_mut().unwrap();
                new.run = up;
                new.started = true;
            }
            Action::StopDependants => {
                assert!(old.unwrap().run != Run::Exited || self.facts.prior == Prior::Stopped);
                seen.dependants = DOWN;
            }
            Action::SettleDependants => {
                self.facts.settlings += 1;
                let back = match self.facts.phase {
                    Phase::HealthGatePassed => MOVED,
                    _ => UP,
                };
                if self.dependants != Dependants::Broken {
                    seen.dependants = back;
                }
            }
            Action::WriteFile => {
                self.facts.filings += 1;
                if self.file == File::Writable {
                    seen.file = SeenFile::Settled;
                }
            }
            Action::RemoveOld => seen.old = None,
            Action::RenameBack => {
                assert_eq!(seen.name, NameHolder::Nobody);
                old.unwrap().named = Named::Original;
                seen.name = NameHolder::Ours;
            }
            Action::RestorePolicy => old.unwrap().restart = self.own_restart,
            Action::StartOld => {
                self.facts.restarts += 1;
                old.unwrap().run = up;
            }
            Action::RecreateOld => {
                seen.old = Some(SeenOld {
                    run: Run::Created,
                    named: Named::Original,
                    restart: self.own_restart,
                });
                seen.name = NameHolder::Ours;
            }
        }
    }

    fn die(&mut self) {
        self.facts.takeovers += 1;
        self.facts.prepared = Prepared::NotYet;
        self.facts.stops = 0;
        self.facts.creations = 0;
        self.facts.restarts = 0;
        self.facts.settlings = 0;
        self.facts.filings = 0;
        self.facts.attempt = Attempt::Inherited;
    }

    /// Both containers of one target never run at the same time, and there is always one.
    fn check(&self) {
        let alive = |run: Option<Run>| run.is_some_and(Run::is_alive);
        assert!(
            !(alive(self.seen.old.map(|o| o.run)) && alive(self.seen.new.map(|n| n.run))),
            "two writers: {self:?}"
        );
        assert!(
            self.seen.old.is_some() || self.seen.new.is_some(),
            "a container is lost: {self:?}"
        );
    }
}

#[derive(Clone, Copy, Debug)]
enum Weather {
    Fair,
    DieBeforeEffect,
    DieAfterEffect,
    /// The effect fails, or the gate does.
    Refuse,
}

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        4 => Just(Weather::Fair),
        1 => Just(Weather::DieBeforeEffect),
        1 => Just(Weather::DieAfterEffect),
        1 => Just(Weather::Refuse),
    ]
}

proptest! {
    #[test]
    fn every_program_ends_well_whatever_dies(
        prior in prop_oneof![Just(Prior::Running), Just(Prior::Paused), Just(Prior::Stopped)],
        own in prop_oneof![Just(RestartPolicy::Own), Just(RestartPolicy::OwnIsNo)],
        outcome in prop_oneof![4 => Just(Made::Complete), 1 => Just(Made::Incomplete)],
        dependants in prop_oneof![
            Just(Dependants::None),
            Just(Dependants::Running),
            Just(Dependants::Broken),
        ],
        file in prop_oneof![Just(File::None), Just(File::Writable), Just(File::Broken)],
        sky in proptest::collection::vec(weather(), 0..40),
    ) {
        let mut model = Model::new(prior, own, outcome, dependants, file);
        let mut sky = sky.into_iter();
        let mut steps = 0;
        let end = loop {
            steps += 1;
            prop_assert!(steps < 400, "no end: {model:?}");
            model.check();
            let now = sky.next().unwrap_or(Weather::Fair);
            match next_step(&model.facts, &model.seen) {
                Step::Record(Phase::RollbackStarted) => {
                    model.facts.phase = Phase::RollbackStarted;
                    model.facts.attempt = Attempt::Begun;
                }
                Step::Record(phase) => model.facts.phase = phase,
                Step::Rollback(_) => {
                    model.facts.phase = Phase::RollbackStarted;
                    model.facts.attempt = Attempt::Begun;
                }
                Step::Act(action) => match now {
                    Weather::Fair => model.apply(action),
                    Weather::DieBeforeEffect => model.die(),
                    Weather::DieAfterEffect => {
                        model.apply(action);
                        model.die();
                    }
                    Weather::Refuse => match model.facts.phase {
                        Phase::Prepare => break Phase::Failed,
                        Phase::HealthGatePassed | Phase::RollbackStarted => {}
                        _ => {
                            model.facts.phase = Phase::RollbackStarted;
                            model.facts.attempt = Attempt::Begun;
                        }
                    },
                },
                Step::Judge => match now {
                    Weather::Fair => model.facts.phase = Phase::HealthGatePassed,
                    Weather::Refuse => {
                        model.facts.phase = Phase::RollbackStarted;
                        model.facts.attempt = Attempt::Begun;
                    }
                    _ => model.die(),
                },
                Step::Defer(_) => {
                    model.facts.phase = Phase::RollbackFailed;
                    model.facts.restarts = 0;
                    model.facts.settlings = 0;
                }
                Step::Wait => {}
                Step::Fail(_) => break Phase::Failed,
                Step::Superseded => prop_assert!(false, "nobody else is there: {model:?}"),
                Step::Over => break model.facts.phase,
            }
        };
        let survivor_runs = |run: Run| match prior {
            Prior::Running => run == Run::Running,
            Prior::Paused => run == Run::Paused,
            Prior::Stopped => !run.is_alive(),
        };
        match end {
            Phase::Succeeded => {
                prop_assert!(model.seen.old.is_none() || model.facts.takeovers >= PARK_TAKEOVERS);
                prop_assert!(survivor_runs(model.seen.new.unwrap().run), "{model:?}");
                prop_assert!(
                    model.seen.file == SeenFile::Settled
                        || file == File::Broken
                        || model.facts.takeovers >= PARK_TAKEOVERS
                );
                prop_assert!(
                    model.seen.dependants.on_new
                        || dependants == Dependants::Broken
                        || model.facts.takeovers >= PARK_TAKEOVERS
                );
            }
            Phase::RolledBack | Phase::Failed => {
                let old = model.seen.old.unwrap();
                prop_assert!(model.seen.new.is_none());
                prop_assert_eq!(old.named, Named::Original);
                prop_assert_eq!(old.restart, own);
                prop_assert!(survivor_runs(old.run), "{model:?}");
                prop_assert!(
                    model.seen.dependants.on_old
                        || dependants == Dependants::Broken
                        || model.facts.takeovers >= PARK_TAKEOVERS
                );
            }
            other => prop_assert!(false, "ended in {other}"),
        }
    }
}
