//! What is put into a store comes back whole, or is refused. `LORAGRID_TEST_S3` names a bucket in which the same is tried
//! (`make test-artifacts`).

use std::path::Path;

use object_store::ObjectStoreExt;

use super::manifest::WEIGHTS;
use super::{ArtifactError, ArtifactStore, ArtifactsAddress, weights_here};
use crate::job::Digest;

/// The stores, each empty, and a folder of this machine.
fn places() -> Vec<(ArtifactStore, tempfile::TempDir)> {
    let folder = || tempfile::tempdir().unwrap();
    let (here, there) = (folder(), folder());
    let mut addresses = vec![ArtifactsAddress::Folder(here.path().join("a place"))];
    if let Ok(bucket) = std::env::var("LORAGRID_TEST_S3") {
        let prefix = there.path().file_name().unwrap().to_string_lossy().replace('.', "");
        addresses.push(ArtifactsAddress::parse(&format!("{bucket}/{prefix}")).unwrap());
    }
    let open = |address: &ArtifactsAddress| ArtifactStore::open(address).unwrap();
    addresses.iter().map(open).zip([here, there]).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// An adapter with these weights; returns their SHA-256.
fn adapter(folder: &Path, weights: &[u8]) -> Digest {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(WEIGHTS), weights).unwrap();
    std::fs::write(folder.join("adapter_config.json"), "{}").unwrap();
    Digest::of(weights)
}

fn subject() -> String {
    Digest::of(b"subject").to_string()
}

#[test]
fn an_adapter_comes_back_with_every_file_and_is_that_of_the_recorded_weights() {
    for (store, folder) in places() {
        block_on(async {
            // Longer than a part.
            let long: Vec<u8> = (0..(17 << 20) + 5_u32).map(|at| (at % 251) as u8).collect();
            let (one, two) = (folder.path().join("one"), folder.path().join("two"));
            let (first, second) = (adapter(&one, &long), adapter(&two, b"two"));
            store.put_adapter(&subject(), first, &one).await.unwrap();
            // Another attempt's, which ended later and is not the recorded one.
            store.put_adapter(&subject(), second, &two).await.unwrap();
            let back = folder.path().join("adapters").join(subject());
            store.bring_adapter(&subject(), first, &back).await.unwrap();
            assert!(std::fs::read(back.join(WEIGHTS)).unwrap() == long);
            assert_eq!(std::fs::read_to_string(back.join("adapter_config.json")).unwrap(), "{}");
            // What is there and the same stays; what is another attempt's is replaced.
            std::fs::write(back.join("mine"), "").unwrap();
            store.bring_adapter(&subject(), first, &back).await.unwrap();
            assert!(back.join("mine").exists());
            store.bring_adapter(&subject(), second, &back).await.unwrap();
            assert_eq!(weights_here(&back), Some(second));
            assert!(!back.join("mine").exists());
            let entries = std::fs::read_dir(folder.path().join("adapters")).unwrap();
            assert_eq!(entries.count(), 1, "nothing partial is left");
        });
    }
}

#[test]
fn an_adapter_that_is_damaged_or_not_whole_is_refused_and_leaves_nothing() {
    for (store, folder) in places() {
        block_on(async {
            let one = folder.path().join("one");
            let weights = adapter(&one, b"weights");
            let back = folder.path().join("back");
            let missing = store.bring_adapter(&subject(), weights, &back).await.unwrap_err();
            assert!(missing.is_missing(), "{missing}");
            store.put_adapter(&subject(), weights, &one).await.unwrap();
            let name = store.name(&["adapters", &subject(), &weights.to_string(), WEIGHTS]);
            store.store.put(&name, b"weighty".to_vec().into()).await.unwrap();
            let damaged = store.bring_adapter(&subject(), weights, &back).await.unwrap_err();
            assert!(matches!(damaged, ArtifactError::Damaged { .. }), "{damaged}");
            assert!(!back.exists());
            // Without its manifest it was never whole.
            let manifest = store.name(&["adapters", &subject(), &weights.to_string(), "manifest"]);
            store.store.delete(&manifest).await.unwrap();
            assert!(store.bring_adapter(&subject(), weights, &back).await.unwrap_err().is_missing());
            let left = std::fs::read_dir(folder.path()).unwrap();
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
        });
    }
}

#[test]
fn a_folder_with_other_weights_than_those_that_were_trained_is_no_adapter() {
    for (store, folder) in places() {
        block_on(async {
            let one = folder.path().join("one");
            adapter(&one, b"of another process");
            let error = store.put_adapter(&subject(), Digest::of(b"trained"), &one).await.unwrap_err();
            assert!(matches!(error, ArtifactError::OtherAdapter { .. }), "{error}");
            let back = folder.path().join("back");
            let brought = store.bring_adapter(&subject(), Digest::of(b"trained"), &back).await;
            assert!(brought.unwrap_err().is_missing());
        });
    }
}

#[test]
fn inputs_are_put_once_and_brought_where_they_are_missing() {
    for (store, folder) in places() {
        block_on(async {
            let (here, there) = (folder.path().join("here"), folder.path().join("there"));
            std::fs::create_dir_all(&here).unwrap();
            std::fs::create_dir_all(&there).unwrap();
            std::fs::write(here.join("a.rows"), "rows").unwrap();
            store.put_inputs(&here, ["a.rows"]).await.unwrap();
            store.bring_input(&there, "a.rows").await.unwrap();
            assert_eq!(std::fs::read_to_string(there.join("a.rows")).unwrap(), "rows");
            // Whoever has it not needs not put it; what a broken program left is put again.
            store.put_inputs(&folder.path().join("nowhere"), ["a.rows"]).await.unwrap();
            store.store.put(&store.name(&["cache", "a.rows"]), b"ro".to_vec().into()).await.unwrap();
            store.put_inputs(&here, ["a.rows"]).await.unwrap();
            store.bring_input(&there, "a.rows").await.unwrap();
            assert_eq!(std::fs::read_to_string(there.join("a.rows")).unwrap(), "rows");
            assert!(store.bring_input(&there, "b.rows").await.unwrap_err().is_missing());
            assert!(store.put_inputs(&here, ["b.rows"]).await.is_err());
        });
    }
}

#[test]
fn the_newest_checkpoint_and_the_log_travel_and_are_removed() {
    for (store, folder) in places() {
        block_on(async {
            let (here, there) = (folder.path().join("here"), folder.path().join("there"));
            std::fs::create_dir_all(&here).unwrap();
            assert!(!store.put_checkpoint(&subject(), &here).await.unwrap());
            for name in ["0000000004-000001.checkpoint", "0000000008-000001.checkpoint", "finished.result"] {
                std::fs::write(here.join(name), name).unwrap();
            }
            assert!(store.put_checkpoint(&subject(), &here).await.unwrap());
            std::fs::write(here.join("0000000012-000002.checkpoint"), "later").unwrap();
            assert!(store.put_checkpoint(&subject(), &here).await.unwrap());
            assert_eq!(store.bring_checkpoints(&subject(), &there).await.unwrap(), 1);
            let brought = std::fs::read_to_string(there.join("0000000012-000002.checkpoint")).unwrap();
            assert_eq!(brought, "later");
            store.remove_checkpoints(&subject()).await.unwrap();
            assert_eq!(store.bring_checkpoints(&subject(), &there).await.unwrap(), 0);
            std::fs::write(folder.path().join("log"), "lines").unwrap();
            store.put_log("logs/a-1.log", &folder.path().join("log")).await.unwrap();
            store.bring_log("logs/a-1.log", &there.join("log")).await.unwrap();
            assert_eq!(std::fs::read_to_string(there.join("log")).unwrap(), "lines");
        });
    }
}

#[test]
fn sizes_are_those_of_what_is_there_and_a_removed_adapter_is_gone() {
    for (store, folder) in places() {
        block_on(async {
            assert_eq!(store.sizes().await.unwrap(), Default::default());
            let one = folder.path().join("one");
            let weights = adapter(&one, &[0; 1000]);
            store.put_adapter(&subject(), weights, &one).await.unwrap();
            let found = store.adapters().await.unwrap();
            assert_eq!((found.len(), found[0].subject.as_str()), (1, subject().as_str()));
            assert_eq!(found[0].weights, weights.to_string());
            assert!(found[0].size.0 > 1000 && found[0].written_ms > 0);
            assert_eq!(store.sizes().await.unwrap().adapters[&subject()], found[0].size.0);
            store.remove_adapter(&subject()).await.unwrap();
            store.remove_adapter(&subject()).await.unwrap();
            assert!(store.adapters().await.unwrap().is_empty());
        });
    }
}

#[test]
fn a_store_that_is_away_is_named_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = ArtifactStore::open(&ArtifactsAddress::Folder(file.join("below"))).unwrap_err();
    assert!(error.to_string().contains("file/below"), "{error}");
}
