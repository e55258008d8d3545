//! What a merchant may be; pure.

use rust_decimal::Decimal;

use super::MerchantError;

/// Longest name, in characters.
pub const LONGEST_NAME: usize = 200;

/// Why `name` cannot be a merchant's name, if it cannot.
#[must_use]
pub fn refuses_name(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("must not be blank")
    } else if name.contains('\0') {
        Some("must not contain NUL")
    } else if name.chars().count() > LONGEST_NAME {
        Some("must be at most 200 characters")
    } else {
        None
    }
}

/// Whether a percentage is within 0 and `max`, both ends in (contract §2 row 6).
///
/// # Errors
/// [`MerchantError::Percentage`] otherwise.
pub fn check_percentage(percentage: Decimal, max: Decimal) -> Result<(), MerchantError> {
    if (Decimal::ZERO..=max).contains(&percentage) { Ok(()) } else { Err(MerchantError::Percentage { max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_percentage_are_in() {
        for good in [dec!(0), dec!(20), dec!(19.9999)] {
            assert!(check_percentage(good, dec!(20)).is_ok(), "{good}");
        }
        for bad in [dec!(-0.0001), dec!(20.0001)] {
            assert!(matches!(check_percentage(bad, dec!(20)), Err(MerchantError::Percentage { .. })), "{bad}");
        }
    }

    #[test]
    fn a_name_is_something_one_can_read() {
        assert_eq!(refuses_name("Šhöp \u{1F6D2}"), None);
        assert!(refuses_name(" \t").is_some());
        assert!(refuses_name("a\0b").is_some());
        assert_eq!(refuses_name(&"ö".repeat(200)), None);
        assert!(refuses_name(&"ö".repeat(201)).is_some());
    }
}
