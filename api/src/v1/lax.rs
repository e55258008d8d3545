//! Lax input (contract §1): what a value may be written as, for the OpenAPI document, and how many decimals it may have.

use rust_decimal::Decimal;
use utoipa::openapi::KnownFormat;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaFormat, SchemaType, Type};

use crate::extract::Fields;

/// A number that has at most so many decimals that matter; notes a violation otherwise.
pub(crate) fn decimals(fields: &mut Fields, name: &str, number: Decimal, most: u32) -> Option<Decimal> {
    if number.normalize().scale() <= most {
        return Some(number);
    }
    fields.refuse(name, &format!("Input should have no more than {most} decimal places"));
    None
}

/// A field with a schema of its own loses what its comment says about it in the document, so the schema says the least
/// one must know.
fn written_as(types: &[Type], said: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types.iter().cloned())).description(Some(said))
}

const NUMBER: &str = "A number, or text that is one.";
const BOOLEAN: &str = "A boolean, or one of `yes`, `no`, `on`, `off`, `1`, `0`.";
const DAY: &str = "A day, `YYYY-MM-DD`; a time of zero may follow it.";
const ID: &str = "An id in any spelling of a UUID.";

/// A percentage, as a number or as text; the maximum is that of an operator who has set none.
pub(crate) fn percentage() -> Object {
    ObjectBuilder::from(rate()).maximum(Some(20)).build()
}

/// A percentage or a fixed reward, as a number or as text. More spellings are taken than the pattern names.
pub(crate) fn rate() -> Object {
    number(&[Type::Number, Type::String], r"^(0|[1-9]|1[0-9])(\.[0-9]{1,4})?$")
}

/// As [`rate`]; null is taken as well.
pub(crate) fn optional_rate() -> Object {
    number(&[Type::Number, Type::String, Type::Null], r"^(0|[1-9]|1[0-9])(\.[0-9]{1,4})?$")
}

/// Euros, as a number or as text. More spellings are taken than the pattern names.
pub(crate) fn euros() -> Object {
    number(&[Type::Number, Type::String], r"^[1-9][0-9]{0,8}(\.[0-9]{1,2})?$")
}

/// As [`euros`]; null is taken as well.
pub(crate) fn optional_euros() -> Object {
    number(&[Type::Number, Type::String, Type::Null], r"^[1-9][0-9]{0,8}(\.[0-9]{1,2})?$")
}

fn number(types: &[Type], text: &str) -> Object {
    written_as(types, NUMBER).minimum(Some(0)).pattern(Some(text)).examples([7.5]).build()
}

/// A boolean, or `yes`, `no`, `on`, `off`, `1`, `0`.
pub(crate) fn boolean() -> Object {
    written_as(&[Type::Boolean, Type::String, Type::Integer], BOOLEAN).examples([true]).build()
}

/// As [`boolean`]; null is taken as well.
pub(crate) fn optional_boolean() -> Object {
    written_as(&[Type::Boolean, Type::String, Type::Integer, Type::Null], BOOLEAN).examples([true]).build()
}

/// A day; a time of zero may follow it.
pub(crate) fn date() -> Object {
    written_as(&[Type::String], DAY).format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))).build()
}

/// As [`date`]; null is taken as well.
pub(crate) fn optional_date() -> Object {
    written_as(&[Type::String, Type::Null], DAY).format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))).build()
}

/// An id in any spelling of a UUID.
pub(crate) fn id() -> Object {
    written_as(&[Type::String], ID).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).build()
}

/// As [`id`]; null is taken as well.
pub(crate) fn optional_id() -> Object {
    written_as(&[Type::String, Type::Null], ID).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).build()
}

/// What a merchant, an offer or an account is.
pub(crate) fn status() -> Object {
    written_as(&[Type::String], "Whether it takes part.").enum_values(Some(["active", "inactive"])).build()
}

/// How an offer counts.
pub(crate) fn kind() -> Object {
    written_as(&[Type::String], "Percent of the sale, or fixed euros a purchase.")
        .enum_values(Some(["percent", "fixed"]))
        .build()
}

/// Where a flag counts.
pub(crate) fn scope() -> Object {
    written_as(&[Type::String], "Where the flag counts.").enum_values(Some(["global", "merchant", "user"])).build()
}
