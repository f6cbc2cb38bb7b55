//! What the compiler says to someone who writes a handler wrongly.
//!
//! Each file in `cases` is a program whose `//~` comments are texts that must be in the compiler's
//! answer; a program without any must compile. The rest of the answer is the compiler's own and
//! differs between its versions.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn mistakes_are_explained() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = cases(&package.join("tests/kind_errors/cases"));
    let answers = check(package, &cases);
    let mut missing = Vec::new();
    for (name, source) in &cases {
        let expected: Vec<_> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("//~ "))
            .collect();
        let answer = &answers[name];
        match (expected.is_empty(), answer.is_empty()) {
            (true, false) => missing.push(format!("{name} must compile, but:\n{answer}")),
            (false, true) => missing.push(format!("{name} must not compile, but does")),
            _ => {}
        }
        for text in expected {
            if !answer.contains(text) {
                missing.push(format!(
                    "{name}: the compiler does not say: {text}\n{answer}"
                ));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

/// The programs by their names.
fn cases(folder: &Path) -> BTreeMap<String, String> {
    let cases: BTreeMap<_, _> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    assert!(cases.len() > 1, "no programs in {}", folder.display());
    cases
}

/// The errors of each program, in a package of their own that shares this package's lock file and
/// target folder, so that little is built again and nothing is downloaded.
fn check(package: &Path, cases: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kind_errors");
    let _ = fs::remove_dir_all(&scratch);
    let programs = scratch.join("src/bin");
    fs::create_dir_all(&programs).unwrap();
    for (name, source) in cases {
        fs::write(programs.join(name).with_extension("rs"), source).unwrap();
    }
    fs::write(scratch.join("Cargo.toml"), manifest(package)).unwrap();
    if let Some(lock) = lock_file(package) {
        fs::copy(lock, scratch.join("Cargo.lock")).unwrap();
    }

    let output = Command::new(env!("CARGO"))
        .args([
            "check",
            "--offline",
            "--keep-going",
            "--message-format=json",
            "--quiet",
        ])
        .current_dir(&scratch)
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap(),
        )
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let mut answers: BTreeMap<String, String> = cases
        .keys()
        .map(|name| (name.clone(), String::new()))
        .collect();
    let mut checked = 0;
    for message in stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
    {
        let Some(answer) = message["target"]["name"]
            .as_str()
            .and_then(|name| answers.get_mut(name))
        else {
            continue;
        };
        if message["message"]["level"] == "error" {
            answer.push_str(message["message"]["rendered"].as_str().unwrap());
        }
        checked += 1;
    }
    assert!(
        checked >= cases.len(),
        "cargo did not check all programs:\n{stdout}\n{stderr}"
    );
    answers
}

fn manifest(package: &Path) -> String {
    format!(
        "[workspace]\n\n[package]\nname = \"kind-errors\"\nedition = \"2024\"\n\n[dependencies]\n\
         tidings = {{ path = {package:?}, default-features = false }}\n\
         serde = {{ version = \"1\", features = [\"derive\"] }}\nthiserror = \"2\"\n"
    )
}

fn lock_file(package: &Path) -> Option<PathBuf> {
    package
        .ancestors()
        .map(|folder| folder.join("Cargo.lock"))
        .find(|file| file.exists())
}
