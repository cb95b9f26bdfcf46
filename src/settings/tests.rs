//! The settings against what PocketBase itself answered (`fixtures/settings.json`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, json};

use super::*;

#[derive(Deserialize)]
struct Recorded {
    default: Value,
    patches: Vec<Row>,
    strings: BTreeMap<String, BTreeMap<String, bool>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    before: Option<Value>,
    patch: Option<Value>,
    form: Option<String>,
    stored: Option<Map<String, Value>>,
    violations: Option<Value>,
    #[serde(default)]
    load: bool,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("../../fixtures/settings.json")).expect("a table")
}

/// What we store, in PocketBase's form: it leaves empty S3 secrets out.
fn stored(settings: &Settings) -> Value {
    let mut document: Value =
        serde_json::from_slice(&settings.to_stored().expect("JSON")).expect("JSON");
    for s3 in ["/s3", "/backups/s3"] {
        let s3 = document.pointer_mut(s3).and_then(Value::as_object_mut).expect("a section");
        if s3["secret"] == "" {
            s3.remove("secret");
        }
    }
    document
}

/// Violations in the nested form of PocketBase's answers.
fn nested(violations: &[Violation]) -> Value {
    let mut root = json!({});
    for violation in violations {
        let mut place = &mut root;
        for part in violation.field.split('.') {
            place = place
                .as_object_mut()
                .expect("no violation lies below another")
                .entry(part)
                .or_insert_with(|| json!({}));
        }
        assert_eq!(place, &json!({}), "two violations of {}", violation.field);
        *place = json!({ "code": violation.code, "message": violation.message });
        if !violation.params.is_empty() {
            place["params"] = violation
                .params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
        }
    }
    root
}

fn form_fields(text: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

#[test]
fn every_patch_does_what_it_did_in_pocketbase() {
    let recorded = recorded();
    assert!(recorded.patches.len() > 200);
    for row in recorded.patches {
        let mut settings = Settings::default();
        if let Some(before) = &row.before {
            settings = settings.patch(before).expect("a sound patch");
        }
        let shown = format!("{:?} {:?}", row.patch, row.form);
        let mut expected_violations = row.violations;
        let mut expected_stored = row.stored;
        let patched = match (&row.patch, &row.form) {
            (Some(patch), None) => settings.patch(patch),
            (None, Some(form)) => {
                if form.starts_with("s3.") {
                    // The one deliberate difference: a form's `s3` is not also `backups.s3`.
                    expected_violations
                        .iter_mut()
                        .for_each(|all| drop(all.as_object_mut().map(|all| all.remove("backups"))));
                    expected_stored.iter_mut().for_each(|all| drop(all.remove("backups")));
                }
                settings.patch_form(&form_fields(form))
            }
            _ => panic!("a row is a patch or a form"),
        };
        match patched {
            Err(PatchError::Load) => assert!(row.load, "{shown}"),
            Err(PatchError::Invalid(violations)) => {
                assert_eq!(Some(nested(&violations)), expected_violations, "{shown}");
            }
            Ok(settings) => {
                let mut expected = recorded.default.clone();
                for (section, value) in expected_stored.unwrap_or_else(|| panic!("{shown}")) {
                    expected[section] = value;
                }
                assert_eq!(stored(&settings), expected, "{shown}");
            }
        }
    }
}

#[test]
fn texts_are_accepted_as_in_pocketbase() {
    for (field, texts) in recorded().strings {
        let (section, name) = field.split_once('.').expect("a dotted name");
        assert!(texts.len() > 20);
        for (text, expected) in texts {
            let patch = json!({ section: { name: text } });
            let accepted = Settings::default().patch(&patch).is_ok();
            assert_eq!(accepted, expected, "{field} {text:?}");
        }
    }
}

#[test]
fn the_public_form_has_pocketbase_s_order_and_no_secrets() {
    let settings = Settings::default()
        .patch(&json!({
            "smtp": { "password": "topsecret" },
            "s3": { "secret": "topsecret" },
            "backups": { "s3": { "secret": "topsecret" } },
        }))
        .expect("a sound patch");
    let expected = concat!(
        r#"{"superuserIPs":[],"smtp":{"enabled":false,"port":587,"host":"smtp.example.com","#,
        r#""username":"","authMethod":"","tls":false,"localName":""},"backups":{"cron":"","#,
        r#""cronMaxKeep":3,"s3":{"enabled":false,"bucket":"","region":"","endpoint":"","#,
        r#""accessKey":"","forcePathStyle":false}},"s3":{"enabled":false,"bucket":"","#,
        r#""region":"","endpoint":"","accessKey":"","forcePathStyle":false},"meta":"#,
        r##"{"accentColor":"#1055c9","appName":"Acme","appURL":"http://localhost:8090","##,
        r#""senderName":"Support","senderAddress":"support@example.com","#,
        r#""hideControls":false},"rateLimits":{"rules":[{"label":"*:auth","audience":"","#,
        r#""duration":3,"maxRequests":2},{"label":"*:create","audience":"","duration":5,"#,
        r#""maxRequests":20},{"label":"/api/batch","audience":"","duration":1,"#,
        r#""maxRequests":3},{"label":"/api/","audience":"","duration":10,"#,
        r#""maxRequests":300}],"excludedIPs":[],"enabled":false},"trustedProxy":"#,
        r#"{"headers":[],"useLeftmostIP":false},"batch":{"enabled":false,"maxRequests":50,"#,
        r#""timeout":3,"maxBodySize":0},"logs":{"maxDataSize":0,"maxDays":5,"minLevel":0,"#,
        r#""logIP":true,"logAuthId":false}}"#,
    );
    assert_eq!(settings.public_json().expect("JSON"), expected);
    assert!(!format!("{settings:?}").contains("topsecret"));
    assert_eq!(settings.values().backups.s3.secret.expose(), "topsecret");
}

#[test]
fn keys_of_a_newer_pocketbase_survive() {
    let stored = json!({
        "meta": { "appName": "Mine", "tagline": "new" },
        "rateLimits": { "rules": [
            { "label": "/a", "audience": "", "duration": 1, "maxRequests": 1, "burst": 5 },
        ] },
        "flags": { "beta": true },
    });
    let settings = Settings::from_stored(stored.to_string().as_bytes()).expect("read");
    assert_eq!(settings.values().meta.app_name, "Mine");
    assert_eq!(settings.values().smtp.port, 587, "what is missing has its default");
    let settings = settings.patch(&json!({ "meta": { "appName": "Yours" } })).expect("sound");
    let kept: Value = serde_json::from_slice(&settings.to_stored().expect("JSON")).expect("JSON");
    assert_eq!(kept["meta"]["tagline"], "new");
    assert_eq!(kept["meta"]["appName"], "Yours");
    assert_eq!(kept["rateLimits"]["rules"][0]["burst"], 5);
    assert_eq!(kept["flags"]["beta"], true);
    assert!(!settings.public_json().expect("JSON").contains("tagline"));
}

#[test]
fn what_is_no_document_is_corrupt() {
    for stored in ["", "x", "[]", "{\"backups\":{\"cronMaxKeep\":\"3\"}}", "AAAA"] {
        let error = Settings::from_stored(stored.as_bytes()).expect_err("refused");
        assert_eq!(error.kind(), &Kind::Corrupt, "{stored}");
    }
}

#[test]
fn errors_carry_pocketbase_s_messages() {
    let refused = |patch: Value| Error::from(Settings::default().patch(&patch).expect_err("no"));
    let load = refused(json!([]));
    assert_eq!(load.message(), "An error occurred while loading the submitted data.");
    assert_eq!(load.kind(), &Kind::Invalid(Vec::new()));
    let invalid = refused(json!({ "superuserIPs": ["bad"] }));
    assert_eq!(invalid.message(), "An error occurred while saving the new settings.");
    let Kind::Invalid(violations) = invalid.kind() else { panic!("{invalid:?}") };
    assert_eq!(violations[0].field, "superuserIPs.0");
}
