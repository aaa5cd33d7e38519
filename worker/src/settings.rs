//! From the configuration to what a worker works with. What cannot be used is an error at start.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use plimsoll_domain::{
    candidate::WatchDefault,
    component::Component,
    compose::Pinning,
    hooks::AllowedCommands,
    ids::WatcherRef,
    labels::TagFamily,
    policy::MaturityMode,
    schedule::{CronSchedule, ScheduleError},
};
use plimsoll_runtime::{
    Settings,
    settings::{self as configured, ComposeTrigger, DockerTrigger, notifiers::ConfiguredNotifier},
};
use serde_json::{Value, json};

use crate::{
    compose::{Access, ComposeOptions, Reconciliation, file::Keep},
    docker::{EngineAddress, EngineSettings},
    live::StatsSettings,
    notify::Trigger,
    operations::{HelperCommand, OperationSettings, TriggerOptions},
    reconcilers::Retention,
    registry::{Options, RegistrySettings},
    release_notes::GithubSettings,
    scan::{
        CosignSettings, Generator, OnFailure, SbomSettings, ScanSettings, Signer, SyftSettings,
        TrivySettings,
    },
    scripts::Scripts,
    watchers::{LabelScope, ScanSchedule, WatcherSettings},
};

/// Everything that one worker process needs to know.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Name of the agent that this worker is. Empty: this installation's own worker.
    pub agent: String,
    pub watchers: Vec<WatcherSettings>,
    pub registries: Vec<RegistrySettings>,
    pub registry_options: Options,
    pub github: GithubSettings,
    /// `None`: nothing is scanned.
    pub scan: Option<ScanSettings>,
    /// `None`: signatures are not verified.
    pub cosign: Option<CosignSettings>,
    /// `None`: no bills of materials are made.
    pub sbom: Option<SbomSettings>,
    pub triggers: Vec<TriggerSettings>,
    /// Those that notify, ready to be used.
    pub notifiers: Vec<Trigger>,
    pub operations: OperationSettings,
    /// Operations that run at a time against one engine.
    pub concurrency: usize,
    pub log_level: String,
    pub retention: Retention,
    pub stats: StatsSettings,
    /// How a helper of this process is started; `None` where its servers end with it.
    pub helper: Option<HelperCommand>,
}

/// A trigger as it is shown.
#[derive(Clone, Debug)]
pub struct TriggerSettings {
    pub kind: String,
    pub name: String,
    pub configuration: Value,
}

impl WorkerSettings {
    /// # Errors
    /// Settings that contradict each other or name files that cannot be read.
    pub fn from_settings(settings: &Settings) -> anyhow::Result<Self> {
        let agent = settings.worker.agent.clone();
        let watchers = settings
            .watchers()
            .iter()
            .map(|(name, watcher)| {
                let reference = WatcherRef {
                    agent: agent.clone(),
                    name: name.clone(),
                };
                watcher_settings(reference, watcher, settings)
                    .with_context(|| format!("the watcher {name} cannot be used"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut registry_options = Options {
            timeout: settings.outbound.http_timeout_ms.0,
            home: plimsoll_runtime::reach(settings),
            ..Options::default()
        };
        if let Some(directory) = &settings.docker.config {
            registry_options.docker_config = Some(directory.join("config.json"));
        }
        let triggers = settings.docker_triggers();
        let notifiers = settings.trigger.notifiers();
        let reach = plimsoll_runtime::reach(settings);
        let usable = notifiers
            .iter()
            .map(|configured| Trigger::new(&agent, configured, reach))
            .collect::<Result<_, _>>()
            .map_err(anyhow::Error::msg)?;
        Ok(Self {
            agent,
            watchers,
            registries: RegistrySettings::all(settings)?,
            registry_options,
            github: GithubSettings::from_settings(settings)?,
            scan: scan_settings(settings),
            cosign: cosign_settings(settings)?,
            sbom: sbom_settings(settings),
            operations: operation_settings(settings, &triggers)?,
            triggers: triggers
                .iter()
                .map(|(name, trigger)| trigger_settings(name, trigger))
                .chain(
                    settings
                        .compose_triggers()
                        .iter()
                        .map(|(name, trigger)| compose_trigger_settings(name, trigger)),
                )
                .chain(notifiers.iter().map(shown))
                .collect(),
            notifiers: usable,
            concurrency: match (settings.update.max_concurrent, settings.worker.concurrency) {
                (0, concurrency) => usize::from(concurrency.max(1)),
                (limit, concurrency) => usize::from(limit.min(concurrency.max(1))),
            },
            stats: StatsSettings {
                interval: Duration::from_secs(u64::from(settings.stats.interval.max(1))),
                history: usize::from(settings.stats.history_size.max(1)),
            },
            helper: helper(settings),
            log_level: settings.log.level.as_str().to_owned(),
            retention: Retention {
                operations: Duration::from_secs(
                    u64::from(settings.update.operation_retention_days) * 24 * 60 * 60,
                ),
                operations_each: settings.update.operation_max_entries,
                ..Retention::default()
            },
        })
    }
}

/// A database or a Redis of our own ends with the container that a helper would replace.
fn helper(settings: &Settings) -> Option<HelperCommand> {
    let lasting = settings.database.url.is_some() && settings.redis.url.is_some();
    lasting.then(HelperCommand::here).flatten()
}

fn watcher_settings(
    reference: WatcherRef,
    watcher: &configured::Watcher,
    settings: &Settings,
) -> anyhow::Result<WatcherSettings> {
    let address = engine_address(&reference, watcher, settings)?;
    let schedule = CronSchedule::parse(watcher.cron.as_str(), watcher.timezone.name())?;
    let zone = watcher.maintenance_window_tz.name();
    let window = watcher.maintenance_window.as_ref();
    let window = window.map(|window| CronSchedule::parse(window.as_str(), zone));
    let scan = &settings.security.scan;
    let scans = scan
        .cron
        .as_ref()
        .filter(|_| settings.security.scanner.is_some());
    let scans = scans.map(|cron| {
        let schedule = CronSchedule::parse(cron.as_str(), watcher.timezone.name())?;
        let jitter = scan.jitter.0;
        Ok::<_, ScheduleError>(ScanSchedule { schedule, jitter })
    });
    Ok(WatcherSettings {
        jitter: watcher.jitter.0,
        scans: scans.transpose()?,
        watch_by_default: match watcher.watchbydefault {
            true => WatchDefault::Watch,
            false => WatchDefault::Ignore,
        },
        watch_all: watcher.watchall,
        watch_events: watcher.watchevents,
        watch_at_start: watcher.watchatstart,
        tag_family: match watcher.tag_family {
            configured::TagFamily::Strict => TagFamily::Strict,
            configured::TagFamily::Loose => TagFamily::Loose,
        },
        maturity_mode: match watcher.maturity_mode {
            configured::MaturityMode::All => MaturityMode::All,
            configured::MaturityMode::Mature => MaturityMode::Mature,
        },
        maturity_min_age_days: watcher.maturity_min_age_days,
        scope: scope(&reference, watcher)?,
        stack_directories: stack_directories(&reference, settings)?,
        compose_directories: compose_directories(settings)?,
        window: window.transpose()?,
        ..WatcherSettings::new(reference, address, schedule)
    })
}

fn scope(
    reference: &WatcherRef,
    watcher: &configured::Watcher,
) -> anyhow::Result<Option<LabelScope>> {
    let parse = |text: &String| {
        LabelScope::parse(text).with_context(|| {
            format!("the scope of the watcher {reference} must be a label: `key` or `key=value`")
        })
    };
    watcher.scope.as_ref().map(parse).transpose()
}

/// `DOCKER_HOST` is the place of the watcher `local`, unless that has one of its own.
fn engine_address(
    reference: &WatcherRef,
    watcher: &configured::Watcher,
    settings: &Settings,
) -> anyhow::Result<EngineAddress> {
    let placed = watcher.socket.is_some() || watcher.host.is_some();
    if let Some(host) = settings.docker.host.as_deref()
        && reference.name == "local"
        && !placed
    {
        let verified = settings.docker.tls_verify == Some(true);
        let certificates = settings.docker.cert_path.as_deref().filter(|_| verified);
        return Ok(EngineAddress::from_docker_host(host, certificates)?);
    }
    Ok(EngineAddress::from_settings(&EngineSettings {
        socket: watcher.socket.as_deref(),
        host: watcher.host.as_deref(),
        port: watcher.port,
        protocol: watcher.protocol.map(configured::Protocol::as_str),
        ca_file: watcher.cafile.as_deref(),
        cert_file: watcher.certfile.as_deref(),
        key_file: watcher.keyfile.as_deref(),
    })?)
}

fn operation_settings(
    settings: &Settings,
    docker: &BTreeMap<String, DockerTrigger>,
) -> anyhow::Result<OperationSettings> {
    let docker = docker.iter().map(|(name, trigger)| {
        let options = TriggerOptions {
            backups: i64::from(trigger.backupcount),
            prune: trigger.prune,
            auto_remove_timeout: trigger.autoremovetimeout.0,
            compose: None,
        };
        (format!("docker.{name}"), options)
    });
    let directories = compose_directories(settings)?;
    let access = match directories.is_empty() {
        true => Access::Anywhere,
        false => Access::Within(directories.clone()),
    };
    let compose = settings.compose_triggers();
    let compose = compose.iter().map(|(name, trigger)| {
        let options = TriggerOptions {
            backups: i64::from(trigger.backupcount),
            prune: trigger.prune,
            auto_remove_timeout: trigger.autoremovetimeout.0,
            compose: Some(compose_options(trigger, &access)),
        };
        (format!("dockercompose.{name}"), options)
    });
    let scripts = settings.scripts.dir.as_deref();
    let hooks = &settings.hooks;
    let allowed = AllowedCommands::parse(&hooks.allowed_commands)
        .context("hooks.allowed_commands cannot be used")?;
    Ok(OperationSettings {
        triggers: docker.chain(compose).collect(),
        compose: Access::Within(directories),
        hooks: hooks.enabled.then(|| Arc::new(allowed)),
        scripts: scripts.map(Scripts::new).transpose()?,
        stability: settings
            .update
            .post_start_liveness_grace_ms
            .0
            .max(Duration::from_secs(1)),
        ..OperationSettings::default()
    })
}

/// Those in which Compose files may be read and written.
fn compose_directories(settings: &Settings) -> anyhow::Result<Vec<PathBuf>> {
    directories("compose.directories", &settings.compose.directories)
}

/// Those whose projects are this watcher's: they are on this host, and so is the watcher `local`,
/// or the only one.
fn stack_directories(reference: &WatcherRef, settings: &Settings) -> anyhow::Result<Vec<PathBuf>> {
    let directories = directories("stacks.directories", &settings.stacks.directories)?;
    let watchers = settings.watchers();
    anyhow::ensure!(
        directories.is_empty() || watchers.len() == 1 || watchers.contains_key("local"),
        "stacks.directories: none of several watchers is called `local`, whose stacks these are"
    );
    let is_its = watchers.len() == 1 || reference.name == "local";
    Ok(if is_its { directories } else { Vec::new() })
}

fn directories(setting: &str, list: &str) -> anyhow::Result<Vec<PathBuf>> {
    let named = list.split(',').map(str::trim);
    let named = named.filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut directories: Vec<PathBuf> = named.collect();
    for directory in &directories {
        anyhow::ensure!(
            directory.is_absolute(),
            "{setting}: {} is not an absolute path",
            directory.display()
        );
    }
    directories.sort();
    directories.dedup();
    Ok(directories)
}

fn compose_options(trigger: &ComposeTrigger, access: &Access) -> ComposeOptions {
    ComposeOptions {
        access: access.clone(),
        file: trigger.file.clone(),
        label: trigger.composefilelabel.clone(),
        keep: match trigger.backup {
            true => Keep::Backup,
            false => Keep::Nothing,
        },
        reconciliation: match trigger.reconciliationmode {
            configured::Reconciliation::Warn => Reconciliation::Warn,
            configured::Reconciliation::Block => Reconciliation::Block,
            configured::Reconciliation::Off => Reconciliation::Off,
        },
        pinning: match trigger.digestpinning {
            true => Pinning::Always,
            false => Pinning::AsItIs,
        },
    }
}

fn scan_settings(settings: &Settings) -> Option<ScanSettings> {
    let security = &settings.security;
    let configured::Scanner::Trivy = security.scanner?;
    Some(ScanSettings {
        trivy: trivy_settings(settings),
        block: security.block_severity.0.clone(),
        on_failure: match security.gate.on_failure {
            configured::OnScanFailure::Block => OnFailure::Block,
            configured::OnScanFailure::Allow => OnFailure::Allow,
        },
    })
}

fn trivy_settings(settings: &Settings) -> TrivySettings {
    let trivy = &settings.security.trivy;
    TrivySettings {
        command: trivy.command.clone(),
        server: trivy.server.clone(),
        timeout: trivy.timeout.0,
        docker_config: settings.docker.config.clone(),
    }
}

fn sbom_settings(settings: &Settings) -> Option<SbomSettings> {
    let security = &settings.security;
    let has_trivy = security.scanner == Some(configured::Scanner::Trivy);
    (security.sbom.enabled || has_trivy).then(|| SbomSettings {
        generator: match security.sbom.generator {
            configured::SbomGenerator::Auto => None,
            configured::SbomGenerator::Syft => Some(Generator::Syft),
            configured::SbomGenerator::Trivy => Some(Generator::Trivy),
        },
        has_trivy,
        syft: SyftSettings {
            command: security.syft.command.clone(),
            timeout: security.syft.timeout.0,
            docker_config: settings.docker.config.clone(),
        },
        trivy: trivy_settings(settings),
        with_scans: match security.sbom.enabled {
            true => security.sbom.formats.0.clone(),
            false => Vec::new(),
        },
    })
}

/// Anybody can have a certificate for something: without a name that has to be in it, a signature
/// says nothing.
fn cosign_settings(settings: &Settings) -> anyhow::Result<Option<CosignSettings>> {
    let security = &settings.security;
    if !security.verify_signatures {
        return Ok(None);
    }
    let cosign = &security.cosign;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let signer = match (
        given(&cosign.key),
        given(&cosign.identity),
        given(&cosign.issuer),
    ) {
        (Some(key), None, None) => Signer::Key(key),
        (None, Some(identity), Some(issuer)) => Signer::Identity { identity, issuer },
        (Some(_), ..) => anyhow::bail!(
            "security.verify_signatures: a signature is verified by security.cosign.key, or by \
             security.cosign.identity and .issuer, and both are set"
        ),
        (None, ..) => anyhow::bail!(
            "security.verify_signatures needs security.cosign.key, or security.cosign.identity and \
             security.cosign.issuer: whose signature is to count?"
        ),
    };
    Ok(Some(CosignSettings {
        command: cosign.command.clone(),
        signer,
        timeout: cosign.timeout.0,
        docker_config: settings.docker.config.clone(),
    }))
}

fn trigger_settings(name: &str, trigger: &DockerTrigger) -> TriggerSettings {
    TriggerSettings {
        kind: "docker".to_owned(),
        name: name.to_owned(),
        configuration: json!({
            "dryrun": trigger.dryrun,
            "backupcount": trigger.backupcount,
            "threshold": trigger.threshold.as_str(),
            "mode": "simple",
            "prune": trigger.prune,
            "autoremovetimeout": trigger.autoremovetimeout.0.as_millis() as u64,
            "once": trigger.once,
            "auto": auto(trigger.auto),
            "order": trigger.order,
        }),
    }
}

fn shown(notifier: &ConfiguredNotifier) -> TriggerSettings {
    // Once more through the mask of all components, which also finds passwords within addresses.
    let component = Component::new(None, notifier.type_, &notifier.name, notifier.shown.clone());
    TriggerSettings {
        kind: notifier.type_.to_owned(),
        configuration: Value::Object(component.configuration().clone()),
        name: notifier.name.clone(),
    }
}

fn auto(auto: configured::Auto) -> Value {
    match auto {
        configured::Auto::True => json!(true),
        configured::Auto::OnInclude => json!("oninclude"),
        configured::Auto::False => json!(false),
    }
}

fn compose_trigger_settings(name: &str, trigger: &ComposeTrigger) -> TriggerSettings {
    TriggerSettings {
        kind: "dockercompose".to_owned(),
        name: name.to_owned(),
        configuration: json!({
            "dryrun": trigger.dryrun,
            "backupcount": trigger.backupcount,
            "threshold": trigger.threshold.as_str(),
            "mode": "simple",
            "prune": trigger.prune,
            "autoremovetimeout": trigger.autoremovetimeout.0.as_millis() as u64,
            "once": trigger.once,
            "auto": auto(trigger.auto),
            "order": trigger.order,
            "file": trigger.file,
            "backup": trigger.backup,
            "composefilelabel": trigger.composefilelabel,
            "reconciliationmode": trigger.reconciliationmode.as_str(),
            "digestpinning": trigger.digestpinning,
            "composefileonce": trigger.composefileonce,
        }),
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_runtime::CommonArgs;

    use super::*;

    fn from(environment: &[(&str, &str)]) -> anyhow::Result<WorkerSettings> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = Settings::load(&CommonArgs::default(), environment)?;
        WorkerSettings::from_settings(&loaded.settings)
    }

    #[test]
    fn without_settings_the_local_engine_is_watched() {
        let settings = from(&[]).unwrap();
        let [watcher] = settings.watchers.as_slice() else {
            panic!("one watcher: {:?}", settings.watchers);
        };
        assert_eq!(watcher.reference, WatcherRef::local("local"));
        assert_eq!(watcher.address, EngineAddress::local());
        assert_eq!(watcher.schedule.expression(), "0 */6 * * *");
        assert_eq!(watcher.jitter, Duration::from_secs(60));
        assert_eq!(settings.triggers.len(), 1);
    }

    #[test]
    fn docker_host_is_the_place_of_the_local_watcher_only() {
        let settings = from(&[
            ("DOCKER_HOST", "tcp://10.0.0.1:2375"),
            ("DD_WATCHER_LOCAL_CRON", "0 3 * * *"),
            ("DD_WATCHER_NAS_SOCKET", "/run/nas.sock"),
        ])
        .unwrap();
        let shown: Vec<String> = settings
            .watchers
            .iter()
            .map(|w| format!("{} {}", w.reference, w.address))
            .collect();
        assert_eq!(
            shown,
            ["local http://10.0.0.1:2375", "nas unix:///run/nas.sock"]
        );
    }

    #[test]
    fn directories_of_stacks_are_of_the_local_watcher_or_the_only_one() {
        let directories = ("STACKS_DIR", "/srv/stacks, /opt/more,/srv/stacks");
        let (local, nas, edge) = (
            ("DD_WATCHER_LOCAL_CRON", "0 3 * * *"),
            ("DD_WATCHER_NAS_SOCKET", "/run/nas.sock"),
            ("DD_WATCHER_EDGE_SOCKET", "/run/edge.sock"),
        );
        let of = |environment: &[(&str, &str)]| -> anyhow::Result<Vec<String>> {
            let watchers = from(environment)?.watchers.into_iter();
            let with = watchers.filter(|one| !one.stack_directories.is_empty());
            let shown = |one: WatcherSettings| {
                let paths = one
                    .stack_directories
                    .iter()
                    .map(|path| path.to_string_lossy());
                format!("{}: {}", one.reference, paths.collect::<Vec<_>>().join(" "))
            };
            Ok(with.map(shown).collect())
        };
        let all = "/opt/more /srv/stacks";
        assert_eq!(of(&[directories]).unwrap(), [format!("local: {all}")]);
        assert_eq!(of(&[directories, nas]).unwrap(), [format!("nas: {all}")]);
        assert_eq!(
            of(&[directories, nas, local]).unwrap(),
            [format!("local: {all}")]
        );
        let error = of(&[directories, nas, edge]).unwrap_err();
        assert!(
            format!("{error:#}").contains("stacks.directories"),
            "{error:#}"
        );
        assert!(of(&[("PLIMSOLL_STACKS_DIRECTORIES", "stacks")]).is_err());
        assert!(of(&[nas, edge]).unwrap().is_empty());
    }

    #[test]
    fn signatures_of_anybody_are_refused_at_start() {
        let verify = ("DD_SECURITY_VERIFY_SIGNATURES", "true");
        let key = ("DD_SECURITY_COSIGN_KEY", "/keys/cosign.pub");
        let identity = ("DD_SECURITY_COSIGN_IDENTITY", "a@b.c");
        let issuer = ("DD_SECURITY_COSIGN_ISSUER", "https://accounts.example");
        assert!(from(&[verify]).is_err());
        assert!(from(&[verify, identity]).is_err());
        assert!(from(&[verify, key, identity]).is_err());
        assert!(from(&[identity]).unwrap().cosign.is_none());
        let keyed = from(&[verify, key]).unwrap().cosign.unwrap();
        assert_eq!(keyed.signer, Signer::Key("/keys/cosign.pub".to_owned()));
        assert!(from(&[verify, identity, issuer]).unwrap().cosign.is_some());
    }

    #[test]
    fn an_engine_with_two_places_is_refused_by_name() {
        let error = from(&[
            ("DD_WATCHER_NAS_SOCKET", "/run/nas.sock"),
            ("DD_WATCHER_NAS_HOST", "nas.lan"),
        ])
        .unwrap_err();
        assert!(
            format!("{error:#}").to_lowercase().contains("nas"),
            "{error:#}"
        );
    }
}
