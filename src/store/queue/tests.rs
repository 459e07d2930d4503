//! SQLite passes the test suite of every queue.

use proptest::prelude::*;

use crate::queue::suite;
use crate::store::Store;

/// A new database, removed with its folder.
async fn new() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Store::open(&folder.path().join("a.db")).await.unwrap(), folder)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_suite_holds() {
    block_on(async {
        suite::transitions(async || new().await).await;
        suite::records(&new().await.0).await;
        suite::wants(&new().await.0).await;
        suite::growing(&new().await.0).await;
        suite::claims(&new().await.0).await;
        suite::recovery(&new().await.0).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn along_any_way_it_stays_with_the_function_and_late_ends_change_nothing(steps in suite::steps()) {
        block_on(async { suite::any_way(&new().await.0, &steps).await });
    }
}
