//! Values of other items, made from those of the item our steps have handled.

use super::learn::NUMBER;
use super::rows::Column;

/// What an item's value is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// The same for every item.
    Same(String),
    /// The item's number.
    Number,
    /// One of the item's own ids.
    Id(usize),
    /// Whose purchase it is.
    Shopper,
}

/// A value in a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// None.
    Null(String),
    /// The present, and so many seconds.
    Moment(i64),
    /// These pieces, as a value of this type.
    Made(Vec<Piece>, String),
}

impl Value {
    /// Whether other items of the same shopper have it too.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Null(_) | Self::Moment(_) => true,
            Self::Made(pieces, _) => !pieces.iter().any(|piece| matches!(piece, Piece::Number | Piece::Id(_))),
        }
    }
}

/// How a statement speaks of its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One item: its number is `{n}` and its shopper's number `{s}`.
    One,
    /// Many items: rows of the table [`ITEMS`], called `item`.
    Many,
}

/// The table of prepared ids: a row per item with `n`, `shopper` and its own ids.
pub(super) const ITEMS: &str = "reference_items";

/// The ids of the item, and how others are made from them.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    /// Its own, in the order in which they came.
    pub(super) own: Vec<String>,
    /// Its shopper's.
    pub(super) shopper: String,
    /// What new ids begin with: 12 hexadecimal digits, the month's, so that they go where those of today go.
    pub(super) month: String,
}

impl Ids {
    /// A value of the item, for any item.
    pub(super) fn value(&self, column: &Column, value: Option<&str>, now: i64) -> Value {
        match value {
            None => Value::Null(column.kind.clone()),
            Some(at) if column.is_moment() => {
                // Steps take a moment, and times are read in milliseconds: whole seconds are meant.
                let after = at.parse::<i64>().unwrap_or(now) - now;
                Value::Moment((after + 500).div_euclid(1000))
            }
            Some(text) => Value::Made(self.pieces(text), column.kind.clone()),
        }
    }

    /// Takes a text apart wherever it names the item, one of its ids or its shopper.
    fn pieces(&self, text: &str) -> Vec<Piece> {
        let own = self.own.iter().enumerate().map(|(place, id)| (id.clone(), Piece::Id(place)));
        let names = own.chain([(self.shopper.clone(), Piece::Shopper), (NUMBER.to_string(), Piece::Number)]);
        let mut pieces = vec![Piece::Same(text.to_owned())];
        for (name, meant) in names {
            let mut next = Vec::new();
            for piece in pieces {
                let Piece::Same(text) = &piece else {
                    next.push(piece);
                    continue;
                };
                for (place, part) in text.split(name.as_str()).enumerate() {
                    if place > 0 {
                        next.push(meant.clone());
                    }
                    if !part.is_empty() {
                        next.push(Piece::Same(part.to_owned()));
                    }
                }
            }
            pieces = next;
        }
        if pieces.is_empty() { vec![Piece::Same(String::new())] } else { pieces }
    }

    /// SQL of a value.
    pub(super) fn sql(&self, value: &Value, form: Form) -> String {
        match value {
            Value::Null(kind) => format!("NULL::{kind}"),
            Value::Moment(0) => "now()".to_owned(),
            Value::Moment(seconds) => format!("now() + interval '{seconds} seconds'"),
            Value::Made(pieces, kind) => match pieces.as_slice() {
                [Piece::Same(text)] => format!("{}::{kind}", literal(text)),
                [id @ (Piece::Id(_) | Piece::Shopper)] if kind == "uuid" => self.piece(id, form),
                pieces => {
                    let texts: Vec<String> = pieces.iter().map(|piece| self.text(piece, form)).collect();
                    let text = texts.join(" || ");
                    if kind == "text" { format!("({text})") } else { format!("({text})::{kind}") }
                }
            },
        }
    }

    fn piece(&self, piece: &Piece, form: Form) -> String {
        match (piece, form) {
            (Piece::Same(text), _) => literal(text),
            (Piece::Number, Form::One) => "{n}::text".to_owned(),
            (Piece::Number, Form::Many) => "item.n::text".to_owned(),
            (Piece::Id(place), Form::One) => self.id("{n}::text", *place),
            (Piece::Id(place), Form::Many) => format!("item.id{place}"),
            (Piece::Shopper, Form::One) => shopper("{s}::text"),
            (Piece::Shopper, Form::Many) => "item.shopper".to_owned(),
        }
    }

    fn text(&self, piece: &Piece, form: Form) -> String {
        let sql = self.piece(piece, form);
        if matches!(piece, Piece::Id(_) | Piece::Shopper) { format!("{sql}::text") } else { sql }
    }

    /// An item's own id: 12 digits of the month, a 7, 15 of the item's number, 4 of the place. So ids grow with the
    /// number, as those of UUIDv7 grow with time.
    pub(super) fn id(&self, number: &str, place: usize) -> String {
        format!("('{}7' || {number} || '{place:04}')::uuid", self.month)
    }
}

/// The id of the shopper with this number of 12 digits.
pub(super) fn shopper(number: &str) -> String {
    format!("('01900000000070008000' || {number})::uuid")
}

/// A text in SQL. Colons are written as escapes: pgbench takes them for the beginning of a variable.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains([':', '\\', '{']) {
        let escaped = quoted.replace('\\', "\\\\").replace(':', "\\x3a").replace('{', "\\x7b");
        format!("E'{escaped}'")
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Ids {
        let id = |digit: &str| digit.repeat(32);
        Ids { own: vec![id("a"), id("b")], shopper: id("c"), month: "019abc000000".to_owned() }
    }

    fn made(text: &str, kind: &str, form: Form) -> String {
        let column = Column { name: "x".to_owned(), kind: kind.to_owned() };
        ids().sql(&ids().value(&column, Some(text), 0), form)
    }

    #[test]
    fn what_names_the_item_names_another_one_in_another() {
        let a = "a".repeat(32);
        assert_eq!(made("EUR", "text", Form::One), "'EUR'::text");
        assert_eq!(made(&format!("order-{NUMBER}"), "text", Form::One), "('order-' || {n}::text)");
        assert_eq!(made(&a, "uuid", Form::Many), "item.id0");
        assert_eq!(made(&a, "uuid", Form::One), "('019abc0000007' || {n}::text || '0000')::uuid");
        assert_eq!(made(&a, "text", Form::Many), "(item.id0::text)");
        let json = format!("{{\"of\": \"{a}\"}}");
        assert_eq!(made(&json, "jsonb", Form::Many), "(E'\\x7b\"of\"\\x3a \"' || item.id0::text || '\"}')::jsonb");
    }

    #[test]
    fn moments_are_whole_seconds_from_now() {
        let column = Column { name: "x".to_owned(), kind: "timestamp with time zone".to_owned() };
        let at = |ms: &str| ids().sql(&ids().value(&column, Some(ms), 10_000), Form::One);
        assert_eq!(at("10003"), "now()");
        assert_eq!(at("12001"), "now() + interval '2 seconds'");
        assert_eq!(at("9400"), "now() + interval '-1 seconds'");
    }
}
