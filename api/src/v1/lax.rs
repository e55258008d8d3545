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

fn written_as(types: &[Type]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types.iter().cloned()))
}

/// A number, or text that is one.
pub(crate) fn number() -> Object {
    written_as(&[Type::Number, Type::String]).examples([7.5]).build()
}

/// As [`number`]; null is taken as well.
pub(crate) fn optional_number() -> Object {
    written_as(&[Type::Number, Type::String, Type::Null]).examples([7.5]).build()
}

/// A boolean, or `yes`, `no`, `on`, `off`, `1`, `0`.
pub(crate) fn boolean() -> Object {
    written_as(&[Type::Boolean, Type::String, Type::Integer]).examples([true]).build()
}

/// A day; a time of zero may follow it.
pub(crate) fn date() -> Object {
    written_as(&[Type::String]).format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))).build()
}

/// As [`date`]; null is taken as well.
pub(crate) fn optional_date() -> Object {
    written_as(&[Type::String, Type::Null]).format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))).build()
}

/// An id in any spelling of a UUID.
pub(crate) fn id() -> Object {
    written_as(&[Type::String]).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).build()
}

/// As [`id`]; null is taken as well.
pub(crate) fn optional_id() -> Object {
    written_as(&[Type::String, Type::Null]).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).build()
}

/// What a merchant or an offer is.
pub(crate) fn status() -> Object {
    written_as(&[Type::String]).enum_values(Some(["active", "inactive"])).build()
}

/// How an offer counts.
pub(crate) fn kind() -> Object {
    written_as(&[Type::String]).enum_values(Some(["percent", "fixed"])).build()
}

/// Where a flag counts.
pub(crate) fn scope() -> Object {
    written_as(&[Type::String]).enum_values(Some(["global", "merchant", "user"])).build()
}
