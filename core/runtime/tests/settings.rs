//! Settings: what is read from where, what wins, and what is refused with which words.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use plimsoll_runtime::Settings;
use plimsoll_runtime::args::CommonArgs;
use plimsoll_runtime::settings::{
    Loaded, LogFormat, LogLevel, Notice, SameSite, SettingsError, Threshold, TrustProxy, reference,
};
use tempfile::TempDir;

fn load_with(args: &CommonArgs, env: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(args, env)
}

/// Without a file: the data directory is empty.
fn load(env: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    let args = CommonArgs {
        data_dir: Some("/nonexistent".into()),
        ..CommonArgs::default()
    };
    load_with(&args, env)
}

fn settings(env: &[(&str, &str)]) -> Settings {
    load(env).unwrap_or_else(|error| panic!("{error}")).settings
}

#[track_caller]
fn refused(env: &[(&str, &str)], names: &[&str]) {
    let error = load(env).expect_err("the start is refused").to_string();
    for name in names {
        assert!(error.contains(name), "{name} is not in: {error}");
    }
}

fn file(directory: &TempDir, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn without_any_setting_the_defaults_hold() {
    let settings = settings(&[]);
    assert_eq!(settings.listen_address().to_string(), "127.0.0.1:3000");
    assert!(settings.server.feature.delete && settings.server.feature.containeractions);
    assert_eq!(settings.watchers().keys().collect::<Vec<_>>(), ["local"]);
    assert_eq!(
        settings.docker_triggers().keys().collect::<Vec<_>>(),
        ["local"]
    );
    assert_eq!(settings.docker_triggers()["local"].backupcount, 3);
    assert!(!settings.authentication_configured());
    assert!(settings.database.url.is_none());
}

#[test]
fn both_prefixes_mean_the_same() {
    for prefix in ["DD_", "PLIMSOLL_"] {
        let name = |rest: &str| format!("{prefix}{rest}");
        let env = [
            (name("SERVER_PORT"), "4000"),
            (name("SERVER_COOKIE_SAMESITE"), "strict"),
            (name("SERVER_TRUSTPROXY"), "2"),
            (name("SERVER_METRICS_AUTH"), "false"),
            (name("SERVER_FEATURE_DELETE"), "false"),
            (name("SERVER_RATELIMIT_MAX"), "50"),
            (name("SESSION_SECRET"), "s"),
            (name("AUTH_BASIC_JOHN_USER"), "john"),
            (name("AUTH_BASIC_JOHN_HASH"), "$argon2id$x"),
            (name("AUTH_ACCOUNT_LOCKOUT_MAX_ATTEMPTS"), "7"),
            (name("AUTH_LOCKOUT_WINDOW_MS"), "60000"),
            (name("WATCHER_NAS_HOST"), "nas"),
            (name("WATCHER_NAS_CRON"), "0 3 * * *"),
            (name("WATCHER_NAS_TAG_FAMILY"), "loose"),
            (name("WATCHER_NAS_MATURITY_MIN_AGE_DAYS"), "3"),
            (name("REGISTRY_GHCR_MAIN_USERNAME"), "me"),
            (name("REGISTRY_GHCR_MAIN_TOKEN"), "t"),
            (name("TRIGGER_DOCKER_LOCAL_THRESHOLD"), "minor"),
            (name("UPDATE_MAX_CONCURRENT"), "2"),
            (name("UI_MATURITY_THRESHOLD_DAYS"), "14"),
            (name("SSE_MAX_CLIENTS"), "9"),
            (name("LOG_LEVEL"), "debug"),
            (name("LOG_FORMAT"), "json"),
        ];
        let env: Vec<(&str, &str)> = env.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let settings = settings(&env);
        assert_eq!(settings.listen_address().port(), 4000);
        assert_eq!(settings.server.cookie.samesite, SameSite::Strict);
        assert_eq!(settings.server.trustproxy, TrustProxy::Hops(2));
        assert!(!settings.server.metrics.auth && !settings.server.feature.delete);
        assert_eq!(settings.auth.basic["john"].user, "john");
        assert_eq!(settings.auth.account_lockout_max_attempts, 7);
        assert_eq!(settings.auth.lockout_window_ms.0, Duration::from_secs(60));
        assert_eq!(settings.watchers().keys().collect::<Vec<_>>(), ["nas"]);
        assert_eq!(settings.watcher["nas"].cron.as_str(), "0 3 * * *");
        assert_eq!(settings.watcher["nas"].maturity_min_age_days, 3);
        assert_eq!(
            settings.registry["ghcr"]["main"].username.as_deref(),
            Some("me")
        );
        assert_eq!(
            settings.docker_triggers()["local"].threshold,
            Threshold::Minor
        );
        assert_eq!(settings.log.level, LogLevel::Debug);
        assert_eq!(settings.log.format, LogFormat::Json);
        assert!(settings.authentication_configured());
    }
}

#[test]
fn the_plain_names_of_other_tools_are_read() {
    let settings = settings(&[
        ("DATABASE_URL", "postgresql:///x"),
        ("REDIS_URL", "redis://y"),
        ("DOCKER_HOST", "tcp://z:2375"),
        ("STACKS_DIR", "/stacks"),
    ]);
    assert_eq!(settings.stacks.directories, "/stacks");
    assert!(settings.database.url.is_some() && settings.redis.url.is_some());
    assert_eq!(settings.docker.host.as_deref(), Some("tcp://z:2375"));
}

#[test]
fn the_later_name_of_docker_triggers_is_read() {
    let settings = settings(&[("DD_ACTION_DOCKER_LOCAL_DRYRUN", "true")]);
    assert!(settings.docker_triggers()["local"].dryrun);
}

#[test]
fn an_empty_value_makes_a_named_section_with_defaults() {
    let settings = settings(&[("DD_REGISTRY_HUB_PUBLIC", "")]);
    assert!(settings.registry["hub"].contains_key("public"));
}

#[test]
fn the_default_watcher_and_trigger_can_be_switched_off() {
    let settings = settings(&[
        ("DD_LOCAL_WATCHER", "false"),
        ("PLIMSOLL_TRIGGER_DOCKER_LOCAL_ENABLED", "false"),
    ]);
    assert!(settings.watchers().is_empty());
    assert!(settings.docker_triggers().is_empty());
}

#[test]
fn the_environment_wins_over_the_file_and_the_command_line_over_both() {
    let directory = TempDir::new().unwrap();
    let path = file(
        &directory,
        "p.toml",
        "listen = '127.0.0.1:1'\n[server]\nname = 'file'\n[server.feature]\ndelete = false\n\
         [update]\nmax_concurrent = 4\n[watcher.my_host]\nhost = 'h'\n[registry.hub.public]\n",
        0o600,
    );
    let args = CommonArgs {
        config: Some(path),
        listen: Some("127.0.0.1:3".parse().unwrap()),
        ..CommonArgs::default()
    };
    let env = [
        ("DD_SERVER_NAME", "env"),
        ("PLIMSOLL_LISTEN", "127.0.0.1:2"),
    ];
    let settings = load_with(&args, &env).unwrap().settings;
    assert_eq!(settings.listen_address().port(), 3);
    assert_eq!(settings.server.name.as_deref(), Some("env"));
    assert!(!settings.server.feature.delete);
    assert_eq!(settings.update.max_concurrent, 4);
    assert!(settings.watcher.contains_key("my_host"));
    assert!(settings.registry["hub"].contains_key("public"));
}

#[test]
fn a_file_is_found_in_the_data_directory_and_must_exist_when_named() {
    let directory = TempDir::new().unwrap();
    file(&directory, "plimsoll.toml", "[log]\nlevel = 'warn'", 0o600);
    let data_dir = directory.path().to_str().unwrap();
    let found = load_with(&CommonArgs::default(), &[("PLIMSOLL_DATA_DIR", data_dir)]).unwrap();
    assert_eq!(found.settings.log.level, LogLevel::Warn);
    assert!(matches!(&found.notices[..], [Notice::File { .. }]));
    refused(
        &[("PLIMSOLL_CONFIG", "/nonexistent.toml")],
        &["/nonexistent.toml"],
    );
}

#[test]
fn a_bad_file_is_refused_naming_file_and_setting() {
    let directory = TempDir::new().unwrap();
    for (content, expected) in [
        ("[server]\nprot = 1", "server.prot"),
        ("[server]\nport = 'x'", "server.port"),
        ("[server]\nport = [1]", "server.port"),
        ("[watcher.a]\nport = 70000", "watcher.a.port"),
        ("not toml", "p.toml"),
    ] {
        let path = file(&directory, "p.toml", content, 0o600);
        let env = [("PLIMSOLL_CONFIG", path.to_str().unwrap())];
        refused(&env, &[expected, "p.toml"]);
    }
}

#[test]
fn an_unknown_setting_of_ours_is_refused_with_the_nearest_name() {
    refused(
        &[("PLIMSOLL_SERVER_PROT", "1")],
        &["PLIMSOLL_SERVER_PROT", "did you mean PLIMSOLL_SERVER_PORT?"],
    );
    refused(
        &[("PLIMSOLL_WATCHER_NAS_SOKCET", "/x")],
        &["did you mean PLIMSOLL_WATCHER_NAS_SOCKET?"],
    );
    refused(
        &[("PLIMSOLL_XYZZY", "1")],
        &["PLIMSOLL_XYZZY", "no such setting"],
    );
    refused(
        &[("PLIMSOLL_REGISTRY_NOPE_X_URL", "u")],
        &["PLIMSOLL_REGISTRY_NOPE", "ghcr"],
    );
}

#[test]
fn older_names_mean_the_same_and_are_mentioned() {
    let loaded = load(&[
        ("WUD_WATCHER_LOCAL_CRON", "0 3 * * *"),
        ("WUD_VERSION", "8"),
    ])
    .unwrap();
    assert_eq!(loaded.settings.watcher["local"].cron.as_str(), "0 3 * * *");
    let legacy = Notice::Legacy {
        name: "WUD_WATCHER_LOCAL_CRON".into(),
        instead: "DD_WATCHER_LOCAL_CRON".into(),
    };
    assert!(loaded.notices.contains(&legacy), "{:?}", loaded.notices);
    refused(
        &[("WUD_LOG_LEVEL", "info"), ("DD_LOG_LEVEL", "warn")],
        &["WUD_LOG_LEVEL", "DD_LOG_LEVEL"],
    );
}

#[test]
fn a_foreign_setting_is_ignored_and_mentioned() {
    let loaded = load(&[
        ("DD_SECURITY_BACKEND", "docker"),
        ("DD_REGISTRY_NOPE_X_REGION", "eu"),
        ("DD_TRIGGER_CARRIERPIGEON_X_TOKEN", "t"),
        ("DD_WATCHER_LOCAL_IMGSET_X_TAG_INCLUDE", "t"),
        ("DD_SERVER_PROT", "1"),
        ("UNRELATED", "1"),
    ])
    .unwrap();
    let ignored = loaded
        .notices
        .iter()
        .filter(|notice| matches!(notice, Notice::Ignored { .. }))
        .count();
    assert_eq!(ignored, 4, "{:?}", loaded.notices);
    assert!(loaded.notices.contains(&Notice::Unknown {
        name: "DD_SERVER_PROT".into(),
        nearest: Some("DD_SERVER_PORT".into()),
    }));
}

#[test]
fn malformed_values_are_all_named_at_once() {
    refused(
        &[
            ("DD_SERVER_PORT", "99999"),
            ("DD_SERVER_FEATURE_DELETE", "maybe"),
            ("DD_WATCHER_LOCAL_CRON", "every day"),
            ("DD_WATCHER_LOCAL_TIMEZONE", "Mars"),
            ("DD_TRIGGER_DOCKER_LOCAL_THRESHOLD", "huge"),
            ("PLIMSOLL_LISTEN", "nowhere"),
        ],
        &[
            "DD_SERVER_PORT",
            "DD_SERVER_FEATURE_DELETE",
            "DD_WATCHER_LOCAL_CRON",
            "DD_WATCHER_LOCAL_TIMEZONE",
            "DD_TRIGGER_DOCKER_LOCAL_THRESHOLD",
            "PLIMSOLL_LISTEN",
        ],
    );
}

#[test]
fn contradictions_are_refused_naming_both_sides() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            &[("DD_SERVER_PORT", "1"), ("PLIMSOLL_SERVER_PORT", "2")],
            &["DD_SERVER_PORT", "PLIMSOLL_SERVER_PORT"],
        ),
        (
            &[("DATABASE_URL", "a"), ("PLIMSOLL_DATABASE_URL", "b")],
            &["DATABASE_URL", "PLIMSOLL_DATABASE_URL"],
        ),
        (
            &[("DD_SERVER_WEBHOOK_TOKENS_WATCH", "t")],
            &["WATCHALL", "UPDATE"],
        ),
        (&[("DD_SERVER_WEBHOOK_ENABLED", "true")], &["WEBHOOK_TOKEN"]),
        (
            &[("DD_SERVER_WEBHOOK_SECRET", "short")],
            &["WEBHOOK_SECRET", "16"],
        ),
        (&[("DD_SERVER_METRICS_TOKEN", "short")], &["METRICS_TOKEN"]),
        (&[("DD_SERVER_COOKIE_SAMESITE", "none")], &["SAMESITE"]),
        (&[("DD_AUTH_BASIC_X_USER", "x")], &["AUTH_BASIC_X_HASH"]),
        (
            &[("DD_WATCHER_A_SOCKET", "/s"), ("DD_WATCHER_A_HOST", "h")],
            &["WATCHER_A_SOCKET", "WATCHER_A_HOST"],
        ),
        (
            &[("DD_REGISTRY_HUB_A_LOGIN", "x")],
            &["REGISTRY_HUB_A_PASSWORD"],
        ),
        (
            &[("DD_REGISTRY_HUB_A_REGION", "x")],
            &["REGISTRY_HUB_A_REGION", "login and token"],
        ),
        (
            &[("DD_REGISTRY_CUSTOM_A_INSECURE", "true")],
            &["CUSTOM_A_URL"],
        ),
    ];
    for (env, names) in cases {
        refused(env, names);
    }
}

#[test]
fn notifiers_are_read_under_both_of_their_names() {
    let settings = settings(&[
        ("DD_TRIGGER_NTFY_ONE_TOPIC", "updates"),
        ("DD_TRIGGER_NTFY_ONE_THRESHOLD", "minor"),
        ("DD_NOTIFICATION_NTFY_ONE_MODE", "batch+digest"),
        ("DD_NOTIFICATION_NTFY_ONE_AUTH_TOKEN", "hunter2"),
        ("DD_TRIGGER_SLACK_TEAM_TOKEN", "hunter2"),
        ("DD_TRIGGER_SLACK_TEAM_CHANNEL", "#updates"),
        (
            "DD_TRIGGER_DISCORD_X_URL",
            "https://discord.com/api/webhooks/1/hunter2",
        ),
        ("DD_TRIGGER_HTTP_X_URL", "https://example.org/hunter2"),
        ("DD_TRIGGER_HTTP_X_AUTH_TYPE", "BASIC"),
        ("DD_TRIGGER_HTTP_X_AUTH_USER", "me"),
        ("DD_TRIGGER_HTTP_X_AUTH_PASSWORD", "hunter2"),
        ("DD_TRIGGER_ROCKETCHAT_X_URL", "https://chat.example.org"),
        ("DD_TRIGGER_ROCKETCHAT_X_USER_ID", "u"),
        ("DD_TRIGGER_ROCKETCHAT_X_AUTH_TOKEN", "hunter2"),
        ("DD_TRIGGER_ROCKETCHAT_X_CHANNEL", "#a"),
    ]);
    let all = settings.trigger.notifiers();
    let ids: Vec<String> = all.iter().map(|one| one.id()).collect();
    assert_eq!(
        ids,
        [
            "discord.x",
            "http.x",
            "ntfy.one",
            "rocketchat.x",
            "slack.team"
        ]
    );
    let shown = serde_json::to_value(&all[2].shown).unwrap();
    assert_eq!(shown["topic"], "updates");
    assert_eq!(shown["url"], "https://ntfy.sh");
    assert_eq!(shown["threshold"], "minor");
    assert_eq!(shown["mode"], "batch+digest");
    assert_eq!(shown["once"], true);
    assert_eq!(shown["auto"], true);
    assert_eq!(shown["order"], 100);
    assert_eq!(
        shown["batchtitle"],
        "${containers.length} updates available"
    );
    assert_eq!(shown["auth"]["token"], "[REDACTED]");
    assert!(
        !format!("{all:?}").contains("hunter2"),
        "secrets are masked"
    );
}

#[test]
fn notifiers_that_cannot_work_are_refused_by_name() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            &[("DD_TRIGGER_NTFY_A_PRIORITY", "6")],
            &["NTFY_A_TOPIC", "NTFY_A_PRIORITY"],
        ),
        (
            &[("DD_TRIGGER_DISCORD_A_URL", "http://discord.com/x")],
            &["DISCORD_A_URL"],
        ),
        (&[("DD_TRIGGER_SLACK_A_TOKEN", "t")], &["SLACK_A_CHANNEL"]),
        (
            &[
                ("DD_TRIGGER_PUSHOVER_A_USER", "u"),
                ("DD_TRIGGER_PUSHOVER_A_TOKEN", "t"),
                ("DD_TRIGGER_PUSHOVER_A_PRIORITY", "2"),
            ],
            &["PUSHOVER_A_RETRY", "PUSHOVER_A_EXPIRE"],
        ),
        (
            &[
                ("DD_TRIGGER_COMMAND_A_CMD", "a"),
                ("DD_TRIGGER_COMMAND_A_SHELL", "/bin/sh"),
            ],
            &["COMMAND_A_SHELL: no shell is ever started"],
        ),
        (&[("DD_TRIGGER_COMMAND_A_CMD", "a 'b")], &["COMMAND_A_CMD"]),
        (
            &[("DD_TRIGGER_MQTT_A_URL", "http://broker")],
            &["MQTT_A_URL"],
        ),
        (
            &[
                ("DD_TRIGGER_KAFKA_A_BROKERS", "kafka://one"),
                ("DD_TRIGGER_KAFKA_A_TOPIC", "a b"),
                ("DD_TRIGGER_KAFKA_A_AUTHENTICATION_USER", "me"),
            ],
            &[
                "KAFKA_A_BROKERS",
                "KAFKA_A_TOPIC",
                "KAFKA_A_AUTHENTICATION_USER",
            ],
        ),
        (
            &[("DD_TRIGGER_KAFKA_A_TOPIC", "t")],
            &["KAFKA_A_BROKERS: it is needed and not set"],
        ),
        (
            &[("DD_TRIGGER_GOTIFY_A_URL", "ftp://x")],
            &["GOTIFY_A_URL", "GOTIFY_A_TOKEN"],
        ),
        (
            &[("DD_TRIGGER_APPRISE_A_URL", "http://x")],
            &["APPRISE_A_URLS"],
        ),
        (
            &[("DD_TRIGGER_SMTP_A_HOST", "x")],
            &["SMTP_A_FROM", "SMTP_A_TO", "SMTP_A_PORT"],
        ),
        (
            &[("DD_TRIGGER_MATRIX_A_URL", "x")],
            &["MATRIX_A_URL", "MATRIX_A_ROOMID"],
        ),
        (
            &[("DD_TRIGGER_HTTP_A_ALLOWMETADATA", "true")],
            &["HTTP_A_ALLOWMETADATA"],
        ),
        (
            &[("DD_TRIGGER_MOCK_A_SIMPLEBODY", "${container.name")],
            &["DD_TRIGGER_MOCK_A_SIMPLEBODY: the template cannot be read at character 16"],
        ),
        (
            &[("DD_TRIGGER_MOCK_A_DIGESTCRON", "daily")],
            &["DD_TRIGGER_MOCK_A_DIGESTCRON"],
        ),
        (
            &[("DD_TRIGGER_MOCK_A_MODE", "x")],
            &["DD_TRIGGER_MOCK_A_MODE"],
        ),
    ];
    for (env, names) in cases {
        refused(env, names);
    }
}

#[test]
fn two_names_with_one_value_do_not_contradict() {
    let env = [("DD_SERVER_PORT", "5"), ("PLIMSOLL_SERVER_PORT", "5")];
    assert_eq!(settings(&env).listen_address().port(), 5);
}

#[test]
fn a_value_is_read_from_a_file_without_the_white_space_at_its_end() {
    let directory = TempDir::new().unwrap();
    let tight = file(&directory, "tight", "postgresql:///x\n\n", 0o600);
    let loose = file(&directory, "loose", "server\n", 0o644);
    let env = [
        ("DATABASE_URL__FILE", tight.to_str().unwrap()),
        ("DD_SERVER_NAME__FILE", loose.to_str().unwrap()),
    ];
    let loaded = load(&env).unwrap();
    assert_eq!(loaded.settings.server.name.as_deref(), Some("server"));
    assert!(loaded.settings.database.url.is_some());
    assert_eq!(
        loaded.notices,
        [Notice::LoosePermissions {
            name: "DD_SERVER_NAME__FILE".into(),
            path: loose,
        }]
    );
}

#[test]
fn a_value_file_that_cannot_be_meant_is_refused() {
    let directory = TempDir::new().unwrap();
    let large = file(&directory, "large", &"x".repeat(1024 * 1024 + 1), 0o600);
    refused(
        &[("DD_SERVER_NAME__FILE", large.to_str().unwrap())],
        &["DD_SERVER_NAME__FILE", "1 MiB"],
    );
    refused(
        &[("DD_SERVER_NAME__FILE", "/nonexistent")],
        &["DD_SERVER_NAME__FILE"],
    );
    let small = file(&directory, "small", "a", 0o600);
    refused(
        &[
            ("DD_SERVER_NAME", "a"),
            ("DD_SERVER_NAME__FILE", small.to_str().unwrap()),
        ],
        &["DD_SERVER_NAME and DD_SERVER_NAME__FILE"],
    );
}

#[test]
fn secrets_are_never_printed() {
    let loaded = load(&[
        ("DATABASE_URL", "postgresql://u:hunter2@h/d"),
        ("DD_SESSION_SECRET", "hunter2"),
        ("DD_REGISTRY_HUB_A_LOGIN", "me"),
        ("DD_REGISTRY_HUB_A_PASSWORD", "hunter2"),
    ])
    .unwrap();
    let printed = format!("{loaded:?}");
    assert!(
        !printed.contains("hunter2") && printed.contains("***"),
        "{printed}"
    );
}

#[test]
fn the_reference_of_settings_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let fresh = reference();
    if std::fs::read_to_string(path).unwrap_or_default() != fresh {
        std::fs::write(path, fresh).unwrap();
        panic!("docs/settings.md was stale and has been written again: commit it");
    }
}
