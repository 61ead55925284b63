//! The default images, for portals that name none.

/// Variables of `operator run` with a reference each.
const VARIABLES: [&str; 3] =
    ["OPERATOR_HARDWARE_IMAGE", "OPERATOR_PORTAL_IMAGE", "OPERATOR_COLLECTOR_IMAGE"];

/// A sentence for each variable that is missing or names no image.
pub(super) fn problems(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let problem = |name: &str| {
        match variable(name) {
        None => Some(format!(
            "{name} is not set here, and portals that name no image need it; set it in the operator's Deployment (and run this check in its pod)"
        )),
        Some(image) => flaw(&image).map(|flaw| {
            format!(
                "{name} is \"{image}\", which is no reference to an image: {flaw}; expected one such as registry.example/team/hardware:TAG"
            )
        }),
    }
    };
    VARIABLES.into_iter().filter_map(problem).collect()
}

/// What is wrong with a reference, by the grammar of
/// <https://github.com/distribution/reference/blob/main/reference.go>.
fn flaw(image: &str) -> Option<&'static str> {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    // A colon before a slash belongs to the registry's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), path)
        }
        _ => (None, name),
    };
    if registry.is_some_and(|registry| !is_registry(registry)) {
        Some("its registry is no host name with an optional port")
    } else if name.len() > 255 || !path.split('/').all(is_component) {
        Some("its name has other characters than a-z, 0-9, and . _ - between them")
    } else if tag.is_some_and(|tag| !is_tag(tag)) {
        Some("its tag has other characters than letters, digits, and _ . - after the first")
    } else if digest.is_some_and(|digest| !is_digest(digest)) {
        Some("its digest is not ALGORITHM:HEXADECIMAL")
    } else {
        None
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_word = |it: char| it.is_ascii_alphanumeric() || "-.[]:".contains(it);
    !host.is_empty()
        && host.chars().all(is_word)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Words of lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_word = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    let separators = text.split(is_word).filter(|between| !between.is_empty());
    text.starts_with(is_word)
        && text.ends_with(is_word)
        && separators.into_iter().all(|between| {
            [".", "_", "__"].contains(&between) || between.chars().all(|it| it == '-')
        })
}

fn is_tag(text: &str) -> bool {
    let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    (1..=128).contains(&text.len())
        && text.starts_with(is_word)
        && text.chars().all(|it| is_word(it) || ".-".contains(it))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hash)) = text.split_once(':') else { return false };
    algorithm.starts_with(|it: char| it.is_ascii_alphabetic())
        && hash.len() >= 32
        && hash.chars().all(|it| it.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{flaw, problems};

    #[test]
    fn references_of_every_form_are_accepted() {
        let digest = "sha256:".to_owned() + &"0a".repeat(32);
        for image in [
            "hardware",
            "team/hardware:main-0123abcd",
            "localhost/gill-hicks/hardware:main-1",
            "localhost:5000/hardware",
            "registry.example:443/a/b__c/d-e.f:V1.0_x-y",
            &format!("registry.example/hardware@{digest}"),
            &format!("registry.example/hardware:1@{digest}"),
        ] {
            assert_eq!(flaw(image), None, "{image}");
        }
    }

    #[test]
    fn the_flaw_of_an_invalid_reference_is_named() {
        for (image, word) in [
            ("", "name"),
            ("Hardware", "name"),
            ("@image-prefix@/hardware:@tag@", "name"),
            ("team//hardware", "name"),
            ("team/hardware-", "name"),
            ("team/a..b", "name"),
            ("https://registry.example/hardware", "registry"),
            ("registry.example:port/hardware", "registry"),
            ("hardware:", "tag"),
            ("hardware:.1", "tag"),
            ("hardware:a b", "tag"),
            ("hardware@sha256:0a", "digest"),
            ("hardware@0a", "digest"),
        ] {
            let found = flaw(image).unwrap_or_else(|| panic!("{image} was accepted"));
            assert!(found.contains(word), "{image}: {found}");
        }
    }

    #[test]
    fn each_variable_is_named() {
        let found = problems(|name| (name == "OPERATOR_PORTAL_IMAGE").then(|| "A".to_owned()));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("OPERATOR_HARDWARE_IMAGE is not set"), "{found:?}");
        assert!(found[1].starts_with("OPERATOR_PORTAL_IMAGE is \"A\""), "{found:?}");
        assert!(found[2].starts_with("OPERATOR_COLLECTOR_IMAGE is not set"), "{found:?}");
        assert!(problems(|_| Some("a/b:c".to_owned())).is_empty());
    }
}
