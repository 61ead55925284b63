//! The order of the layers: cluster ← rotation ← watch ← portal. Reads the `use` lines of the operator, so that an
//! arrow back, or a circle of modules, fails here and not in a reader's head.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const LAYERS: [&str; 4] = ["cluster", "rotation", "watch", "portal"];

/// A module's path below the crate, such as `["rotation", "machine", "state"]`.
type Module = Vec<String>;

/// Every module of the operator that is no test, with the modules of this crate that it imports.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    let modules: BTreeMap<Module, String> = files
        .iter()
        .filter_map(|file| {
            let module = module_of(file)?;
            let text = fs::read_to_string(file).expect("a source file is readable");
            // Tests stand at the end of a file.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            Some((module, code.to_owned()))
        })
        .collect();
    let known: BTreeSet<Module> = modules.keys().cloned().collect();
    let imports = modules.iter().map(|(module, code)| {
        let paths = paths_in(code).into_iter().filter_map(|path| resolve(&path, module, &known));
        (module.clone(), paths.filter(|imported| imported != module).collect())
    });
    imports.collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the operator's sources are in src/") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn module_of(file: &Path) -> Option<Module> {
    let below = file.strip_prefix("src").ok()?.with_extension("");
    let parts: Module = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let is_rust = file.extension().is_some_and(|extension| extension == "rs");
    let is_test = parts.iter().any(|part| part == "tests" || part == "fake_api");
    (is_rust && !is_test && parts != ["main"])
        .then(|| if parts == ["lib"] { Vec::new() } else { parts })
}

/// The paths of the crate's own modules that a file names: in `use` lines and in expressions.
fn paths_in(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let lines: Vec<&str> =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = lines.join("\n");
    for root in ["crate::", "super::", "self::"] {
        for (position, _) in code.match_indices(root) {
            let before = code[..position].chars().next_back();
            if before.is_none_or(|character| {
                !character.is_alphanumeric() && character != ':' && character != '_'
            }) {
                expand(&code[position..], &[], &mut paths);
            }
        }
    }
    paths
}

/// Follows `a::b::{c, d::e}` to each of its ends. Gives the rest of the text.
fn expand<'a>(text: &'a str, prefix: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = prefix.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(inner) = rest.strip_prefix('{') {
            let mut inner = inner.trim_start();
            while !inner.starts_with('}') && !inner.is_empty() {
                inner = expand(inner, &path, paths).trim_start();
                inner = inner.strip_prefix(',').unwrap_or(inner).trim_start();
            }
            return inner.strip_prefix('}').unwrap_or(inner);
        }
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_');
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        if word.is_empty() {
            return rest.get(1..).unwrap_or_default();
        }
        path.push(word.to_owned());
        let Some(more) = after.strip_prefix("::") else {
            paths.push(path);
            return after;
        };
        rest = more;
    }
}

/// The module that a path leads to: its longest beginning that is one.
fn resolve(path: &[String], from: &Module, known: &BTreeSet<Module>) -> Option<Module> {
    let mut at: Module = match path.first().map(String::as_str) {
        Some("crate") => Vec::new(),
        Some("self") => from.clone(),
        _ => from[..from.len().checked_sub(1)?].to_vec(),
    };
    let mut rest = &path[1..];
    while rest.first().is_some_and(|word| word == "super") {
        at.pop();
        rest = &rest[1..];
    }
    for word in rest {
        let mut next = at.clone();
        next.push(word.clone());
        if !known.contains(&next) {
            break;
        }
        at = next;
    }
    known.contains(&at).then_some(at)
}

fn layer(module: &Module) -> Option<usize> {
    LAYERS.iter().position(|layer| module.first().is_some_and(|first| first == layer))
}

fn name(module: &Module) -> String {
    module.join("::")
}

#[test]
fn no_layer_imports_one_above_it() {
    let mut checked = 0;
    for (module, imported) in imports() {
        let Some(own) = layer(&module) else { continue };
        for other in imported {
            checked += 1;
            let is_below = layer(&other).is_none_or(|other| other <= own);
            assert!(is_below, "{} imports {}, a layer above it", name(&module), name(&other));
            let is_outside = layer(&other).is_none() && other != ["settings"] && !other.is_empty();
            assert!(
                !is_outside,
                "{} imports {}, which wires the layers",
                name(&module),
                name(&other)
            );
        }
    }
    assert!(checked > 100, "only {checked} imports were found: are they read at all?");
}

/// Of the modules in one folder none leads back to itself. A module and those below it count as one.
#[test]
fn no_modules_import_each_other_in_a_circle() {
    let imports = imports();
    let depth = imports.keys().map(Vec::len).max().expect("modules");
    for level in 1..=depth {
        let mut arrows: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (module, imported) in &imports {
            for other in imported {
                let (from, to) = (module.get(..level), other.get(..level));
                let (Some(from), Some(to)) = (from, to) else { continue };
                if from != to && from[..level - 1] == to[..level - 1] {
                    arrows.entry(from.to_vec()).or_default().insert(to.to_vec());
                }
            }
        }
        for start in arrows.keys() {
            let mut reached = BTreeSet::new();
            let mut next: Vec<&Module> = arrows[start].iter().collect();
            while let Some(module) = next.pop() {
                assert_ne!(module, start, "{} leads back to itself by {reached:?}", name(start));
                if reached.insert(name(module)) {
                    next.extend(arrows.get(module).into_iter().flatten());
                }
            }
        }
    }
}

#[test]
fn paths_are_followed_to_each_of_their_ends() {
    let found = paths_in("use crate::{a::b, c::{self, d}};\nuse super::e;\n// crate::not::this\n");
    let found: Vec<String> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::b", "crate::c::self", "crate::c::d", "super::e"]);
}
