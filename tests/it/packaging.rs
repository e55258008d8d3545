//! What the container files promise, as far as a parser can tell.

use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

const PROGRAMS: [&str; 6] = ["api", "dispatch", "confirm", "mature", "payout", "notify"];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap()
}

/// The compose file with its `<<` merged.
fn compose() -> Value {
    let mut file: Value = serde_yaml_ng::from_str(&read("docker-compose.yml")).unwrap();
    file.apply_merge().unwrap();
    file
}

fn texts(value: &Value) -> Vec<String> {
    value.as_sequence().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_the_public_listener_is_published_and_only_on_this_machine() {
    let compose = compose();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let ports = service.get("ports").map(texts).unwrap_or_default();
        match name.as_str().unwrap() {
            "api" => assert_eq!(ports, ["127.0.0.1:8080:8080"]),
            other => assert!(ports.is_empty(), "{other} publishes {ports:?}"),
        }
    }
    assert_eq!(compose["networks"]["inside"]["internal"], Value::Bool(true));
    for server in ["postgres", "redis"] {
        assert_eq!(texts(&compose["services"][server]["networks"]), ["inside"]);
    }
}

#[test]
fn every_program_waits_for_the_migration_and_runs_with_the_least() {
    let compose = compose();
    for program in PROGRAMS {
        let service = &compose["services"][program];
        assert_eq!(texts(&service["command"]), [program]);
        assert_eq!(service["depends_on"]["migrate"]["condition"], "service_completed_successfully", "{program}");
        assert_eq!(service["read_only"], Value::Bool(true), "{program}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{program}");
        assert!(service.get("healthcheck").is_none(), "{program}: the image's check proves readiness");
    }
    assert_eq!(compose["services"]["migrate"]["depends_on"]["postgres"]["condition"], "service_healthy");
}

#[test]
fn secrets_come_by_file_and_every_file_is_declared() {
    let compose = compose();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        let secrets = service.get("secrets").map(texts).unwrap_or_default();
        for secret in &secrets {
            assert!(compose["secrets"].get(secret).is_some(), "{name}: {secret} is not declared");
        }
        for (setting, value) in service.get("environment").and_then(Value::as_mapping).into_iter().flatten() {
            let (setting, value) = (setting.as_str().unwrap(), value.as_str().unwrap());
            let secret =
                ["PASSWORD", "TOKEN", "DATABASE_URL", "SMTP_URL", "KEY"].iter().any(|word| setting.contains(word));
            if secret {
                assert!(setting.ends_with("_FILE"), "{name}: {setting} is not a file");
                let file = value.strip_prefix("/run/secrets/").unwrap();
                assert!(secrets.iter().any(|known| known == file), "{name}: {file} is not given");
            }
        }
    }
}

#[test]
fn the_image_runs_as_nobody_in_particular_and_builds_without_a_database() {
    let dockerfile = read("Dockerfile");
    let stages: Vec<&str> = dockerfile.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert_eq!(stages.len(), 2);
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.lines().any(|line| line == "USER 10001:10001"));
    assert!(last.contains("HEALTHCHECK"));
    assert!(dockerfile.contains("SQLX_OFFLINE=true"));
    for program in PROGRAMS {
        assert!(dockerfile.contains(program), "{program} is not in the image");
    }
}

#[test]
fn what_is_built_to_be_run_has_no_crash_points() {
    // Features unite over what is built together: the image must name its packages, and none of them may ask for it.
    let dockerfile = read("Dockerfile");
    let builds: Vec<&str> = dockerfile.lines().filter(|line| line.contains("cargo build")).collect();
    assert_eq!(builds.len(), 1);
    assert!(builds[0].contains("--package api --package worker --bins"), "{}", builds[0]);
    for forbidden in ["--workspace", "--all", "--features", "-F", "--package tests", "-p "] {
        assert!(!builds[0].contains(forbidden), "{}", builds[0]);
    }
    for package in ["shared", "api", "worker"] {
        let manifest = read(&format!("{package}/Cargo.toml"));
        let lines: Vec<&str> = manifest.lines().filter(|line| line.contains("torture")).collect();
        let expected: &[&str] = if package == "shared" { &["torture = []"] } else { &[] };
        assert_eq!(lines, expected, "{package}");
        assert!(!manifest.contains("default ="), "{package}: a default feature could ask for it");
    }
    let workspace = read("Cargo.toml");
    assert!(!workspace.contains("torture"));
    assert!(read("tests/Cargo.toml").contains(r#"shared = { workspace = true, features = ["torture"] }"#));
}
