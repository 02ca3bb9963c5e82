//! A store that does not serve is tried again: with the disk's space back, nobody has to write to have it said.

use std::{sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::sleep};

use super::Store;

const EVERY: Duration = Duration::from_secs(2);

/// For ever; end it by dropping it.
pub async fn keep_trying(store: Arc<dyn Store>) {
    loop {
        sleep(EVERY).await;
        if store.problem().is_some() {
            let store = Arc::clone(&store);
            // What became of it the store says.
            let _ = spawn_blocking(move || store.try_again()).await;
        }
    }
}
