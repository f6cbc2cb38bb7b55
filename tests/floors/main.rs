//! The architecture's floors: a module imports only from floors below its own, and from those
//! neighbours that are named here.
//!
//! The sources are read as text, so that the test needs no compiler. Test code is exempt, and so
//! is the root, which names every module.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod source;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use source::{crate_paths, declared_modules};

/// The floors from the ground up: modules, and which neighbours on its own floor each may import.
const FLOORS: &[&[(&str, &[&str])]] = &[
    &[
        ("error", &["id"]),
        ("id", &["chance"]),
        ("chance", &[]),
        ("clock", &[]),
        ("batch_size", &[]),
        ("signal", &[]),
        ("text", &[]),
    ],
    &[("model", &[])],
    &[
        ("store", &[]),
        ("telemetry", &["store"]),
        ("raiser", &["store", "telemetry"]),
        ("handler", &["store", "telemetry"]),
        ("config_map", &["handler", "store"]),
    ],
    &[
        ("memory", &[]),
        ("sql", &[]),
        ("instrumented", &[]),
        ("faulty", &[]),
        ("conformance", &[]),
        ("agenda", &[]),
        ("outage", &[]),
        ("settings", &[]),
        ("store_calls", &["outage", "settings"]),
    ],
    &[("processor", &[]), ("executor", &[])],
    &[("scheduler", &[])],
    &[("testkit", &[]), ("mocks", &[]), ("guide", &[])],
];

/// Modules that are below others and yet none of their business: stores know no handler.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("memory", &["handler", "config_map"]),
    ("sql", &["handler", "config_map"]),
    ("instrumented", &["handler", "config_map"]),
    ("faulty", &["handler", "config_map"]),
    ("conformance", &["handler", "config_map"]),
];

/// Why `module` must not import `other`; `None` when it may.
fn objection(module: &str, other: &str) -> Option<String> {
    if module == other {
        return None;
    }
    let Some((floor, neighbours)) = place(module) else {
        return Some(format!("{module} has no floor; give it one in this test"));
    };
    let Some((below, _)) = place(other) else {
        return Some(format!(
            "{module} imports {other} by way of the crate's root; name its module instead"
        ));
    };
    let forbidden = FORBIDDEN
        .iter()
        .any(|(name, others)| *name == module && others.contains(&other));
    if forbidden {
        Some(format!("{module} imports {other}, which it must not know"))
    } else if below < floor || (below == floor && neighbours.contains(&other)) {
        None
    } else {
        Some(format!(
            "{module} on floor {floor} imports {other} on floor {below}"
        ))
    }
}

/// A module's floor, and the neighbours that it may import.
fn place(module: &str) -> Option<(usize, &'static [&'static str])> {
    FLOORS.iter().enumerate().find_map(|(floor, modules)| {
        modules
            .iter()
            .find(|(name, _)| *name == module)
            .map(|(_, neighbours)| (floor, *neighbours))
    })
}

#[test]
fn modules_import_only_from_floors_below() {
    let mut objections = Vec::new();
    let mut imports = BTreeMap::new();
    for file in rust_files(&src()) {
        let Some(module) = Module::of(&file) else {
            continue;
        };
        for path in crate_paths(&fs::read_to_string(&file).unwrap(), module.depth) {
            *imports
                .entry((module.name.clone(), path.head.clone()))
                .or_insert(0) += 1;
            if let Some(objection) = objection(&module.name, &path.head) {
                let file = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                objections.push(format!("{}:{}: {objection}", file.display(), path.line));
            }
        }
    }
    let known = ("raiser".to_owned(), "store".to_owned());
    assert!(
        imports.contains_key(&known),
        "the imports are not found any more: {imports:?}"
    );
    assert!(objections.is_empty(), "\n{}\n", objections.join("\n"));
}

#[test]
fn every_module_has_one_floor() {
    let root = fs::read_to_string(src().join("lib.rs")).unwrap();
    let modules = declared_modules(&root);
    assert!(
        modules.len() > 5,
        "the modules of the root are not found any more: {modules:?}"
    );
    for module in modules {
        let floors = FLOORS
            .iter()
            .flat_map(|floor| floor.iter())
            .filter(|(name, _)| *name == module)
            .count();
        assert_eq!(
            floors, 1,
            "module {module} must have one floor in this test"
        );
    }
}

#[test]
fn what_must_not_be_imported_is_objected_to() {
    for (module, other, allowed) in [
        ("store", "model", true),
        ("store", "handler", false),
        ("handler", "store", true),
        ("config_map", "handler", true),
        ("handler", "config_map", false),
        ("model", "store", false),
        ("id", "text", false),
        ("memory", "store", true),
        ("memory", "handler", false),
        ("processor", "executor", false),
        ("executor", "processor", false),
        ("store_calls", "settings", true),
        ("telemetry", "scheduler", false),
        ("mocks", "scheduler", true),
        ("model", "Event", false),
        ("newcomer", "model", false),
        ("model", "model", true),
    ] {
        let objection = objection(module, other);
        assert_eq!(
            objection.is_none(),
            allowed,
            "{module} imports {other}: {objection:?}"
        );
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Where a file belongs.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    /// The top-level module.
    name: String,
    /// How many `super` lead from the file to the crate's root.
    depth: usize,
}

impl Module {
    /// `None` for the root, and for test code.
    fn of(file: &Path) -> Option<Self> {
        let relative = file.strip_prefix(src()).ok()?.with_extension("");
        let mut parts: Vec<_> = relative.iter().filter_map(|part| part.to_str()).collect();
        if parts.contains(&"tests") || parts == ["lib"] {
            return None;
        }
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        Some(Self {
            name: (*parts.first()?).to_owned(),
            depth: parts.len(),
        })
    }
}

#[test]
fn files_are_told_their_module_and_depth() {
    let module =
        |file: &str| Module::of(&src().join(file)).map(|module| (module.name, module.depth));
    assert_eq!(module("lib.rs"), None);
    assert_eq!(module("config_map/tests.rs"), None);
    assert_eq!(module("error.rs"), Some(("error".to_owned(), 1)));
    assert_eq!(module("store/mod.rs"), Some(("store".to_owned(), 1)));
    assert_eq!(module("store/batch.rs"), Some(("store".to_owned(), 2)));
    assert_eq!(
        module("memory/index/due.rs"),
        Some(("memory".to_owned(), 3))
    );
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
