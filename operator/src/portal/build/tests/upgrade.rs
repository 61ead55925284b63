//! A new version of the operator restarts no pod of a portal that names its images.

use serde_json::{Value, json};

use super::example::{rendered, settings, specs, title};
use crate::settings::Settings;

/// The settings of a new version: other images, and other certificate authorities in the operator's image.
fn settings_of_the_next_version() -> Settings {
    Settings {
        hardware_image: "registry.example/hardware:main-2".to_owned(),
        portal_image: "registry.example/portal:main-2".to_owned(),
        collector_image: "registry.example/collector:main-2".to_owned(),
        rds_authorities: b"authorities of release 2".as_slice().into(),
        ..settings()
    }
}

/// Templates of pods, by the object that they are in.
fn templates(spec: Value, settings: &Settings) -> Vec<(String, Value)> {
    let children = rendered(spec, settings);
    let templates = children.iter().filter_map(|child| {
        let template = child.pointer("/spec/template")?;
        Some((title(child), template.clone()))
    });
    templates.collect()
}

#[test]
fn templates_of_a_portal_that_names_its_images_stay_as_they_are() {
    for (name, mut spec) in specs() {
        for component in ["hardware", "portal", "collector"] {
            spec[component]["image"] = json!(format!("registry.example/own/{component}:7"));
        }
        let before = templates(spec.clone(), &settings());
        assert!(before.len() >= 2, "{name}: {before:?}");
        assert_eq!(before, templates(spec, &settings_of_the_next_version()), "{name}");
    }
}

#[test]
fn otherwise_only_the_images_change() {
    for (name, spec) in specs() {
        let after = templates(spec.clone(), &settings_of_the_next_version());
        for ((before_title, mut before), (_, after)) in
            templates(spec, &settings()).into_iter().zip(after)
        {
            let image = &mut before["spec"]["containers"][0]["image"];
            *image = after["spec"]["containers"][0]["image"].clone();
            assert_eq!(before, after, "{name}: {before_title}");
        }
    }
}

#[test]
fn nothing_that_is_rendered_names_the_operators_version() {
    for (name, spec) in specs() {
        for child in rendered(spec, &settings()) {
            let text = child.to_string();
            assert!(!text.contains(env!("CARGO_PKG_VERSION")), "{name}: {}", title(&child));
            assert!(!text.contains("app.kubernetes.io/version"), "{name}: {}", title(&child));
        }
    }
}
