//! Deliveries: what was acknowledged is kept byte for byte with its result and was taken once; what was refused has left
//! nothing; and nothing is there that nobody sent.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use shared::clock::Timestamp;
use time::Duration;
use uuid::Uuid;

use super::{Evidence, Findings, rules};
use crate::history::{Intent, Op};

/// Bytes without an id of the sender are a repetition for so long.
const REPETITION: Duration = Duration::minutes(15);

#[derive(sqlx::FromRow)]
struct Delivery {
    id: Uuid,
    network: String,
    sender_id: Option<String>,
    query: String,
    body: Vec<u8>,
    received_at: Timestamp,
    answer: Option<String>,
    duplicate_of: Option<Uuid>,
}

/// What tells one statement from another: network, the sender's own id, and the bytes.
type Words<'a> = (&'a str, Option<&'a str>, &'a str, &'a [u8]);

impl Delivery {
    fn words(&self) -> Words<'_> {
        (&self.network, self.sender_id.as_deref(), &self.query, &self.body)
    }

    /// It was taken for new: not a repetition of another one, nor another body under its id.
    fn is_first(&self) -> bool {
        self.duplicate_of.is_none() && self.answer.as_deref() != Some("duplicate")
    }
}

pub(super) async fn check(evidence: &Evidence, found: &mut Findings) -> Result<()> {
    let rows: Vec<Delivery> = sqlx::query_as(
        "SELECT d.id, d.network, d.sender_id, d.query, d.body, d.received_at, r.answer, r.duplicate_of
         FROM deliveries d LEFT JOIN delivery_results r ON r.delivery_id = d.id ORDER BY d.id",
    )
    .fetch_all(&evidence.pool)
    .await?;
    let mut by_words: HashMap<Words<'_>, Vec<&Delivery>> = HashMap::new();
    for row in &rows {
        by_words.entry(row.words()).or_default().push(row);
        found.unless(row.answer.is_some(), rules::DELIVERY_KEPT, || {
            format!("{} of {} has no result", row.id, row.network)
        });
    }
    let mut sent: HashSet<Words<'_>> = HashSet::new();
    let declared: HashSet<&str> = evidence
        .log
        .iter()
        .filter_map(|op| {
            if let Intent::Purchase { external_id, .. } = &op.intent { Some(external_id.as_str()) } else { None }
        })
        .collect();
    let mut acknowledged: BTreeMap<Words<'_>, Vec<&Op>> = BTreeMap::new();
    for op in &evidence.log {
        let Intent::Delivery { network, sender_id, query, body, refused } = &op.intent else { continue };
        let words: Words<'_> = (network, sender_id.as_deref(), query, body.as_bytes());
        if *refused {
            let left = by_words.contains_key(&words)
                || rows.iter().any(|row| network == "nobody" && row.body == body.as_bytes());
            found.unless(!left, rules::DELIVERY_REFUSED, || format!("{sender_id:?} {query}{body}"));
            continue;
        }
        sent.insert(words);
        if op.done().is_some() {
            acknowledged.entry(words).or_default().push(op);
        }
    }
    for (words, ops) in acknowledged {
        kept(words, &ops, by_words.get(&words).map_or(&[], Vec::as_slice), found);
    }
    for row in rows.iter().filter(|row| !sent.contains(&row.words())) {
        let known = row.network == "self" && row.sender_id.as_deref().is_some_and(|id| declared.contains(id));
        found.unless(known, rules::DELIVERY_SENT, || {
            format!("delivery {} of {}: {:?}", row.id, row.network, row.sender_id)
        });
    }
    taken_once(&by_words, found);
    Ok(())
}

/// Everybody who was told so finds their bytes, each of them once.
fn kept((network, id, query, body): Words<'_>, ops: &[&Op], rows: &[&Delivery], found: &mut Findings) {
    let name = || format!("{network} {id:?} {query}{}", String::from_utf8_lossy(body));
    found.unless(rows.len() >= ops.len(), rules::DELIVERY_KEPT, || {
        format!("{} was acknowledged {} times and is there {} times", name(), ops.len(), rows.len())
    });
    let tries: usize = ops.iter().filter_map(|op| op.answer.as_ref()).map(|answer| answer.earlier.len() + 1).sum();
    found.unless(rows.len() <= tries, rules::DELIVERY_KEPT, || {
        format!("{} was sent {tries} times and is there {} times", name(), rows.len())
    });
    let mut told = HashSet::new();
    for answer in ops.iter().filter_map(|op| op.answer.as_ref()) {
        let Some(told_id) = answer.body.get("delivery_id").and_then(|id| id.as_str()) else { continue };
        let row = rows.iter().find(|row| row.id.to_string() == told_id);
        found.unless(row.is_some() && told.insert(told_id), rules::DELIVERY_KEPT, || {
            format!("{} was acknowledged as {told_id}, which is not there or somebody else's", name())
        });
        let said = answer.body.get("status").and_then(|status| status.as_str());
        // What waited may have been applied since.
        let same =
            row.is_none_or(|row| said == row.answer.as_deref() || matches!(said, Some("waiting" | "quarantined")));
        found.unless(same, rules::DELIVERY_KEPT, || format!("{} was acknowledged as {said:?}", name()));
    }
}

/// Of the same id, or of the same bytes within a quarter of an hour, one was taken for new and the others point to it.
fn taken_once(by_words: &HashMap<Words<'_>, Vec<&Delivery>>, found: &mut Findings) {
    let mut by_id: HashMap<(&str, &str), Vec<&Delivery>> = HashMap::new();
    for ((network, id, query, body), rows) in by_words {
        if let Some(id) = id {
            by_id.entry((network, id)).or_default().extend(rows);
            continue;
        }
        let firsts: Vec<&&Delivery> = rows.iter().filter(|row| row.is_first()).collect();
        let apart = firsts.iter().enumerate().all(|(index, one)| {
            firsts.iter().skip(index + 1).all(|two| (one.received_at - two.received_at).abs() >= REPETITION)
        });
        found.unless(!firsts.is_empty() && apart, rules::DELIVERY_ONCE, || {
            format!("{network} {query}{} was taken {} times", String::from_utf8_lossy(body), firsts.len())
        });
    }
    for ((network, id), rows) in by_id {
        let firsts: Vec<&&Delivery> = rows.iter().filter(|row| row.is_first()).collect();
        let Some(first) = firsts.first().filter(|_| firsts.len() == 1) else {
            found.add(rules::DELIVERY_ONCE, format!("{network} {id} was taken {} times", firsts.len()));
            continue;
        };
        for row in rows.iter().filter(|row| !row.is_first()) {
            let must = if row.body == first.body { "duplicate" } else { "quarantined" };
            let right = row.duplicate_of == Some(first.id) && row.answer.as_deref() == Some(must);
            found.unless(right, rules::DELIVERY_ONCE, || {
                format!("{network} {id}: {} is {:?}, must be {must}", row.id, row.answer)
            });
        }
    }
}
