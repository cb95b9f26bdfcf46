//! What the composition does where a part is broken.

use super::*;
use crate::backup::Key;
use crate::vault::{JobKind, Method};

#[tokio::test]
async fn a_history_that_cannot_be_read_does_not_keep_us_from_starting() {
    let home = tempfile::tempdir().expect("a folder");
    let data = DataDir::new(home.path().join("pb_data"), None);
    let clock = Clock::system();
    let state = StateDb::open(data.state(), &clock).await.expect("made");
    sqlx::query("DROP TABLE jobs").execute(state.pool()).await.expect("dropped");
    state.close().await;
    let (_state, jobs, _) = open_history(&data, &clock).await.expect("all the same");
    let key = Key::named("a.zip").expect("a key");
    jobs.open(JobKind::Create, Method::Api, &key).finish(&Ok(())).await;
    assert_eq!(jobs.list().len(), 1);
}

#[test]
fn leftovers_that_cannot_be_removed_do_not_keep_us_from_starting() {
    let home = tempfile::tempdir().expect("a folder");
    let data = DataDir::new(home.path().join("pb_data"), None);
    std::fs::create_dir_all(data.staging()).expect("made");
    // Nobody can remove a file as a folder, not even root.
    std::fs::write(data.fetched(), "x").expect("written");
    sweep(&data);
    assert!(data.fetched().exists() && !data.staging().exists());
}
