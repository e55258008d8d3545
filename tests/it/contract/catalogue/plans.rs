//! NFR 07 and 11 (contract §14): the lists of the catalogue find their rows by index.

use anyhow::Result;
use sqlx::Row;
use tests::contract::Site;
use uuid::Uuid;

/// 20,000 merchants with as many offers, the tables' statistics fresh.
async fn fill(site: &Site) -> Result<()> {
    sqlx::raw_sql(
        "INSERT INTO merchants (id, name, created_at)
         SELECT gen_random_uuid(), 'shop ' || n, now() FROM generate_series(1, 20000) n;
         INSERT INTO offers (id, merchant_id, kind, value, start_date, end_date, active, created_at)
         SELECT gen_random_uuid(), id, 'percent', 1, '2020-01-01', '2099-01-01', name LIKE '%7', created_at
         FROM merchants WHERE name LIKE 'shop %';
         ANALYZE merchants; ANALYZE offers",
    )
    .execute(&site.pool)
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_page_of_20_000_merchants_and_offers_is_found_by_index() -> Result<()> {
    let site = Site::start().await?;
    fill(&site).await?;
    for (sql, index) in [
        (
            "EXPLAIN SELECT id FROM merchants WHERE deleted_at IS NULL ORDER BY created_at, id OFFSET 40 LIMIT 20",
            "merchants_newest",
        ),
        (
            "EXPLAIN SELECT o.id FROM offers o JOIN merchants m ON m.id = o.merchant_id
             WHERE o.active AND m.active AND '2026-01-01' BETWEEN o.start_date AND o.end_date
             ORDER BY o.created_at, o.id LIMIT 20",
            "offers_active",
        ),
        (
            "EXPLAIN SELECT o.id FROM offers o JOIN merchants m ON m.id = o.merchant_id
             WHERE o.deleted_at IS NULL ORDER BY o.created_at, o.id LIMIT 20",
            "offers_newest",
        ),
        ("EXPLAIN SELECT EXISTS (SELECT FROM purchases WHERE offer_id = gen_random_uuid())", "purchases_by_offer"),
        (
            "EXPLAIN SELECT EXISTS (SELECT FROM purchases WHERE merchant_id = gen_random_uuid())",
            "purchases_by_merchant",
        ),
    ] {
        let rows = sqlx::query(sql).fetch_all(&site.pool).await?;
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{sql}\n{plan}");
    }
    Ok(())
}

#[tokio::test]
async fn totals_are_exact_and_pages_do_not_overlap() -> Result<()> {
    let site = Site::start().await?;
    fill(&site).await?;
    let admin = super::admin(&site);
    assert_eq!(admin.get("/merchants/").await?.body["pagination"]["total"], 20_003);
    assert_eq!(admin.get("/offers/active").await?.body["pagination"]["total"], 2_003);
    // All of one moment: the id breaks the tie.
    let mut seen = std::collections::BTreeSet::new();
    for offset in (0..2_003).step_by(100) {
        let page = admin.get(&format!("/offers/active?limit=100&offset={offset}")).await?;
        for id in super::each(&page, "id") {
            assert!(seen.insert(id.as_str().unwrap_or_default().parse::<Uuid>()?), "{id} twice");
        }
    }
    assert_eq!(seen.len(), 2_003);
    Ok(())
}
