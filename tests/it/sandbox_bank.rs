//! The sandbox bank keeps its word: once per key, on disk before it answers.

use serde_json::{Value, json};
use shared::clock::Clock;
use tests::sandbox::bank::{Bank, Fault, Options};
use time::macros::datetime;
use uuid::Uuid;

struct Customer {
    url: String,
    http: reqwest::Client,
}

impl Customer {
    async fn pay(&self, key: &str, amount: &str) -> (u16, Value) {
        let body = json!({ "key": key, "amount": amount, "currency": "EUR",
                           "creditor": { "name": "Ada", "iban": "DE89370400440532013000" } });
        let request = self.http.post(format!("{}/payments", self.url)).header("Idempotency-Key", key).bearer_auth("t");
        let response = request.body(body.to_string()).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        self.http.get(format!("{}{path}", self.url)).bearer_auth("t").send().await.unwrap().json().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bank_pays_once_per_key_and_survives_a_restart() {
    let store = std::env::temp_dir().join(format!("bank-{}.journal", Uuid::now_v7()));
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        store: store.clone(),
        seed: 1,
        faults: "0".parse().unwrap(),
        token: "t".into(),
        final_after: 60_000,
        return_after: 60_000,
        answer_after: 0,
        late_after: 60_000,
        key_window: 86_400_000,
    };
    let clock = Clock::manual(datetime!(2026-03-01 12:00 UTC));
    let bank = Bank::start(options.clone(), clock.clone()).await.unwrap();
    let customer = Customer { url: bank.url.clone(), http: reqwest::Client::new() };
    let (status, first) = customer.pay("k1", "12.30").await;
    assert_eq!((status, first["state"].as_str()), (201, Some("accepted")));
    assert_eq!(customer.pay("k1", "12.30").await, (201, first.clone()), "the same answer");
    assert_eq!(customer.pay("k1", "12.31").await.1["error"], "idempotency_key_reused");
    for wrong in ["0.00", "-1.00", "1", "1.5", "1e3", "NaN", ""] {
        assert_eq!(customer.pay(&format!("bad{wrong}"), wrong).await.0, 422, "{wrong}");
    }
    assert_eq!(customer.get("/ledger").await["debited"]["count"], 0, "accepted is not paid");
    drop(bank);

    // A crash in the middle of a line: it was never answered for.
    let mut journal = std::fs::read(&store).unwrap();
    journal.extend_from_slice(b"{\"event\":\"acc");
    std::fs::write(&store, journal).unwrap();
    let again = options.clone();
    let bank = Bank::start(options, clock.clone()).await.unwrap();
    let customer = Customer { url: bank.url.clone(), ..customer };
    assert_eq!(customer.pay("k1", "12.30").await, (201, first));
    bank.finish().await.unwrap();
    let ledger = customer.get("/ledger").await;
    assert_eq!(ledger["debited"], json!({ "count": 1, "sum": "12.30" }));
    let lines = customer.get("/movements?after=0").await;
    assert_eq!(lines["movements"][0]["key"], "k1");
    assert_eq!(customer.get("/movements?after=1").await["movements"], json!([]));
    let open = customer.http.get(format!("{}/ledger", customer.url)).send().await.unwrap();
    assert_eq!(open.status(), 401);

    // What has come back does not come back again after a restart.
    bank.script("k2", Fault::Return);
    customer.pay("k2", "1.00").await;
    bank.finish().await.unwrap();
    drop(bank);
    let bank = Bank::start(again, clock).await.unwrap();
    let customer = Customer { url: bank.url.clone(), ..customer };
    bank.script("k2", Fault::Return);
    bank.finish().await.unwrap();
    assert_eq!(customer.get("/ledger").await["returned"], json!({ "count": 1, "sum": "1.00" }));
    std::fs::remove_file(store).unwrap();
}
