//! Options of all sources, and what wins.

use super::*;

fn resolve(options: &ServeOptions, file: &str) -> Result<Config> {
    Config::resolve(options, toml::from_str(file).expect("a file"))
}

#[test]
fn defaults_are_pocketbase_s() {
    let config = resolve(&ServeOptions::default(), "").expect("defaults");
    assert_eq!(config.http.to_string(), "127.0.0.1:8090");
    assert!(config.data.root().ends_with("pb_data") && config.data.root().is_absolute());
    assert!(config.login_throttle);
    assert_eq!(config.create_wait, Duration::from_secs(60));
}

#[test]
fn flags_win_over_the_file() {
    let mut options = ServeOptions::default();
    let file = "http = '127.0.0.1:1'\ndir = '/a'\ncreate_wait = 5\nlogin_throttle = false";
    let config = resolve(&options, file).expect("from the file");
    assert_eq!((config.http.port(), config.data.root()), (1, Path::new("/a")));
    assert!(!config.login_throttle);
    options.http = Some(":2".to_owned());
    options.folder.dir = Some("/b".into());
    options.folder.state = Some("/s".into());
    let config = resolve(&options, file).expect("from the flags");
    assert_eq!(config.http.to_string(), "0.0.0.0:2");
    assert_eq!(config.data, DataDir::new("/b", Some("/s".into())));
}

#[test]
fn a_state_in_or_around_the_folder_is_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("pb_data");
    std::fs::create_dir(&root).expect("made");
    std::os::unix::fs::symlink(&root, home.path().join("link")).expect("linked");
    let named = |state: &str| FolderOptions {
        dir: Some(root.clone()),
        state: Some(home.path().join(state)),
        ..FolderOptions::default()
    };
    for state in ["pb_data", "pb_data/backups/x", "", "link", "link/new", "x/../pb_data/y"] {
        let error = folder(&named(state)).expect_err(state);
        assert_eq!(error.kind(), &Kind::Invalid(Vec::new()), "{state}");
    }
    assert!(folder(&named("pb_data/.pocketvault/restore")).is_err());
    let inside = DataDir::new(&root, None);
    for state in ["pb_data/.pocketvault", "link/.pocketvault"] {
        assert_eq!(folder(&named(state)).expect("the default"), inside, "{state}");
    }
    for state in ["state", "pb_data2", "pb_data/../state"] {
        let elsewhere = DataDir::new(&root, Some(home.path().join(state)));
        assert_eq!(folder(&named(state)).expect("elsewhere"), elsewhere, "{state}");
    }
}

#[test]
fn beside_can_be_asked_for_in_the_file() {
    let config = |file: &str| resolve(&ServeOptions::default(), file).expect("usable");
    assert!(!config("").beside);
    assert!(config("beside = true").beside);
}

#[test]
fn what_cannot_be_used_is_named() {
    let options = ServeOptions { http: Some("nonsense".to_owned()), ..Default::default() };
    assert!(resolve(&options, "").expect_err("bad").full().contains("nonsense"));
    assert!(toml::from_str::<FileOptions>("htp = 'x'").is_err());
}

#[test]
fn no_option_shows_a_secret_of_its_own_accord() {
    let file = "[metrics]\ntoken = 's3cret'\n\
        [[database]]\nname = 'a'\nurl = 'postgres://u:s3cret@h/d'\n\
        [s3]\nbucket = 'b'\nregion = 'r'\nendpoint = 'http://x'\n\
        access_key = 'k'\nsecret_key = 's3cret'\n\
        [[notify]]\ntype = 'webhook'\nurl = 'https://x/s3cret'\nsecret = 's3cret'\n";
    let mut config = resolve(&ServeOptions::default(), file).expect("usable");
    assert_eq!(config.metrics_token.as_ref().map(Secret::expose), Some("s3cret"));
    config.encryption.1 = Secret::new("s3cret");
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
}
