//! Norwegian organisation numbers, checked, in the two forms that Altinn uses on the wire.

use std::fmt;
use std::str::FromStr;

use super::{ParseError, serde_as_text};

/// The urn form's prefix, as event subjects and some requests have it.
const URN_PREFIX: &str = "urn:altinn:organization:identifier-no:";
/// ISO 6523 code of the Norwegian register of legal entities.
const ISO6523_PREFIX: &str = "0192:";

/// A Norwegian organisation number whose check digit is right.
///
/// Reads `991825827`, `0192:991825827` and `urn:altinn:organization:identifier-no:991825827`; shows itself as
/// `0192:991825827`, the form that Formidling's search finds a sender by.
///
/// ```
/// use formidlingd::transfer::OrgNumber;
///
/// let organization: OrgNumber = "991825827".parse()?;
/// assert_eq!(organization.to_string(), "0192:991825827");
/// assert!("991825828".parse::<OrgNumber>().is_err());
/// # Ok::<(), formidlingd::transfer::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrgNumber([u8; 9]);

impl OrgNumber {
    /// The nine digits alone.
    #[must_use]
    pub fn digits(&self) -> String {
        self.0.iter().map(|digit| char::from(b'0' + digit)).collect()
    }

    /// `urn:altinn:organization:identifier-no:NNNNNNNNN`.
    #[must_use]
    pub fn urn(&self) -> String {
        format!("{URN_PREFIX}{}", self.digits())
    }

    /// Whether this is a synthetic number of the test environments: those begin with 2 or 3.
    #[must_use]
    pub fn is_synthetic(&self) -> bool {
        matches!(self.0, [2 | 3, ..])
    }
}

impl FromStr for OrgNumber {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason| ParseError::new(text, "an organisation number", reason);
        let digits =
            text.strip_prefix(ISO6523_PREFIX).or_else(|| text.strip_prefix(URN_PREFIX)).unwrap_or(text);
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong("it is written 0192:NNNNNNNNN, with nine digits"));
        }
        let number: [u8; 9] =
            digits.as_bytes().try_into().map_err(|_| wrong("it has nine digits, as in 0192:991825827"))?;
        let number = number.map(|byte| byte - b'0');
        if has_valid_check_digit(number) {
            Ok(Self(number))
        } else {
            Err(wrong("its check digit does not fit (modulus 11), so a digit is mistyped"))
        }
    }
}

/// Modulus 11 with the weights of the Brønnøysund register; a remainder of 1 has no check digit at all.
fn has_valid_check_digit(number: [u8; 9]) -> bool {
    let [digits @ .., check] = number;
    let sum: u32 =
        digits.iter().zip([3, 2, 7, 6, 5, 4, 3, 2]).map(|(digit, weight)| u32::from(*digit) * weight).sum();
    match sum % 11 {
        0 => check == 0,
        1 => false,
        remainder => u32::from(check) == 11 - remainder,
    }
}

impl fmt::Display for OrgNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{ISO6523_PREFIX}{}", self.digits())
    }
}

impl fmt::Debug for OrgNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

serde_as_text!(OrgNumber);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_the_same_organization() {
        for text in ["991825827", "0192:991825827", "urn:altinn:organization:identifier-no:991825827"] {
            let organization: OrgNumber = text.parse().unwrap();
            assert_eq!(organization.to_string(), "0192:991825827", "{text}");
            assert_eq!(organization.urn(), "urn:altinn:organization:identifier-no:991825827");
        }
        assert!("310332712".parse::<OrgNumber>().unwrap().is_synthetic());
        assert!(!"910753614".parse::<OrgNumber>().unwrap().is_synthetic());
    }

    #[test]
    fn what_is_not_one_is_refused() {
        for text in [
            "",
            "99182582",
            "9918258277",
            "991825828",
            "0192:",
            "0192:99182582x",
            "9908:991825827",
            " 991825827",
            "٩٩١٨٢٥٨٢٧",
            "0192:0192:991825827",
            "100000010",
        ] {
            assert!(text.parse::<OrgNumber>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn one_wrong_digit_is_always_noticed(position in 0usize..9, add in 1u8..10) {
            let mut digits = *b"991825827";
            digits[position] = b'0' + (digits[position] - b'0' + add) % 10;
            let text = String::from_utf8(digits.to_vec()).unwrap();
            proptest::prop_assert!(text.parse::<OrgNumber>().is_err());
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            if let Ok(organization) = text.parse::<OrgNumber>() {
                proptest::prop_assert_eq!(organization.to_string().parse::<OrgNumber>().unwrap(), organization);
            }
        }
    }
}
