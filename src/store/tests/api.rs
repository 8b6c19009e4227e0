//! What each method promises.

use super::*;

#[tokio::test]
async fn what_was_inserted_is_found_again() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).store;
    let transfer = outgoing(&store, "a", 1);
    store.insert(transfer.clone()).await.unwrap();
    assert_eq!(store.get(transfer.id).await.unwrap(), Some(transfer.clone()));
    assert_eq!(store.by_file(1, 1).await.unwrap(), Some(transfer.clone()));
    assert_eq!(store.due(&route("a"), now(), 10).await.unwrap(), [(now(), transfer.id)]);
    assert_eq!(store.count(&route("a")).await.unwrap(), 1);
    drop(store);
    let store = open(state.path()).store;
    assert_eq!(store.get(transfer.id).await.unwrap(), Some(transfer));
    store.close().await.unwrap();
}
