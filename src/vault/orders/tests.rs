//! Orders of a real folder, without a server.

use chrono::TimeDelta;

use super::*;
use crate::auth::bootstrap;
use crate::data_dir::DataDir;
use crate::database::{Access, Database};
use crate::settings::Encryption;
use crate::settings::store::Store;
use crate::vault::tests::Ground;

async fn ended(orders: &Orders, id: &str) -> Order {
    for _ in 0..600 {
        let order = orders.find("", id).await.expect("found");
        if matches!(order.state, OrderState::Done | OrderState::Failed) {
            return order;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the order {id} has no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daily_order_is_placed_when_its_hour_strikes_and_made() {
    let ground = Ground::new(Default::default()).await;
    let data: DataDir = ground.vault.data().clone();
    bootstrap::complete(data.root()).await.expect("complete");
    let database = Database::open(data.root(), Access::ReadOnly).expect("opened");
    let encryption = Encryption::new(String::new(), String::new());
    let settings = Arc::new(Store::new(database, encryption, Clock::system()));
    let clock = Clock::fixed("2026-11-21T02:30:00Z".parse().expect("a date"));
    let state = StateDb::in_memory().await.expect("made");
    let target = Target::Folder(ground.vault.clone(), settings);
    let orders = Orders::new(state, clock.clone(), Handle::current(), vec![target]);
    orders.set_daily("", Daily { enabled: true, hour: 3 }).await.expect("set");
    assert_eq!(
        orders
            .set_daily("none", Daily { enabled: true, hour: 3 })
            .await
            .map_err(|e| e.kind().clone()),
        Err(Kind::NotFound)
    );
    orders.place_due().await;
    assert_eq!(orders.list("").await.expect("listed"), []);
    clock.advance(TimeDelta::minutes(31));
    orders.place_due().await;
    orders.place_due().await;
    let listed = orders.list("").await.expect("listed");
    let [placed] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((placed.state, placed.method), (OrderState::Waiting, Method::Scheduled));
    orders.begin();
    let made = ended(&orders, &placed.id).await;
    assert_eq!(made.state, OrderState::Done);
    assert!(made.key.is_some_and(|key| key.as_str().starts_with("@auto_")));
    assert_eq!((made.placed, made.size_bytes.is_some()), (placed.placed, true));
    orders.delete("", &placed.id).await.expect("deleted");
    assert_eq!(orders.list("").await.expect("listed"), []);
    orders.stop();
}
