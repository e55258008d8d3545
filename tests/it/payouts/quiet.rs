//! What a payout worker writes down, at every level.

use shared::payouts::key;
use tests::logged::Lines;
use tests::sandbox::bank::Fault;

use super::town::town;

/// Design §9: account, holder and the bank's token stand in no line, whatever the bank does to a call. On one thread: lines
/// are collected there.
#[tokio::test]
async fn no_account_holder_or_token_is_ever_logged() {
    let lines = Lines::default();
    let _collecting = lines.collect("trace,tests=off,it=off");
    let town = town().await;
    for fault in Fault::ALL {
        let (_, payout) = town.requested().await;
        town.bank.script(&key(payout), fault);
    }
    town.drain().await;
    town.read_statement().await;
    assert!(lines.text().len() > 10_000, "something is logged");
    let secrets = ["370400440532013000", "DE89", "Lovelace", "@example.org", "Bearer secret"].map(str::to_owned);
    assert_eq!(lines.telling(&secrets), None);
    town.check().await;
}
